"""Electrodes and units of an Allen NWB file -> sites and units of one probe.

Paths and semantics are those of the released Visual Behavior and Visual Coding Neuropixels files. The unit `i` of a
probe is the one with the i-th smallest ``unit_id`` among its units; site `i` that with the i-th smallest number on the
probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.allen_places import allen_locations
from loaders.errors import CorruptData, InconsistentData, NotFound
from loaders.records import Channels, Floats, Insertion, Ints, Strings, Units

if TYPE_CHECKING:
    import h5py

SORTER = "kilosort2"
GOOD_RULE = (
    "allen_default: quality == good and valid_data and amplitude_cutoff <= 0.1 and presence_ratio >= 0.95 and "
    "isi_violations <= 0.5"
)
NUMBERING = "place of the unit among those of its probe, by unit_id; cluster_id is that of Allen"
ELECTRODES = "general/extracellular_ephys/electrodes"

_NUMBERS = ("probe_channel_number", "local_index")  # on the probe, as Visual Behavior and Visual Coding call it
_NO_METRICS = {"id", "peak_channel_id", "waveform_mean", "spike_times", "spike_amplitudes"}
_SAME_PLACE = 1e-3  # um


@dataclass(frozen=True, slots=True)
class Electrodes:
    """Sites of one probe, in the order of their number.

    Attributes
    ----------
    rows : (site,) int64
        Row in the table of the file.
    ids : (site,) int64
        ``ecephys_channel_id``.
    number : (site,) int64
        Row in the raw voltage.
    lateral_um, axial_um : (site,) float64, um
    ccf : (site, 3) float64, um
        AP, DV, left-right; as in the file.
    acronyms : (site,) str
        With substructure; as in the file.
    valid : (site,) bool
    """

    rows: Ints
    ids: Ints
    number: Ints
    lateral_um: Floats
    axial_um: Floats
    ccf: Floats
    acronyms: Strings
    valid: NDArray[np.bool_]

    def take(self, rows: NDArray[np.intp]) -> Electrodes:
        """Some sites, or all in another order."""
        return Electrodes(*(getattr(self, name)[rows] for name in self.__slots__))


def probe_id(insertion: Insertion) -> int:
    """The number that Allen has for a probe."""
    number = insertion.pid.rpartition("-")[2]
    if not number.isdecimal():
        raise NotFound(f"pid {insertion.pid}: expected {insertion.dataset}-<ecephys_probe_id>")
    return int(number)


def read_electrodes(nwb: h5py.File, probe: int) -> Electrodes:
    """The sites of a probe; raises NotFound if the file has none of it."""
    table = nwb[ELECTRODES]
    rows = np.flatnonzero(_whole(table["probe_id"][:], "probe_id") == probe)
    if not len(rows):
        found = ", ".join(map(str, sorted(set(table["probe_id"][:].tolist()))))
        raise NotFound(f"probe {probe}: has no electrodes in the file, which has those of {found}")
    column = next((name for name in _NUMBERS if name in table), None)
    if column is None:
        raise CorruptData(f"{ELECTRODES}: expected a column {' or '.join(_NUMBERS)}, got {', '.join(table)}")
    columns = (table[name][:].astype(np.float64) for name in ("x", "y", "z"))
    of_probe = Electrodes(
        rows=np.arange(len(table["id"])),
        ids=_whole(table["id"][:], "id"),
        number=_whole(table[column][:], column),
        lateral_um=table["probe_horizontal_position"][:].astype(np.float64),
        axial_um=table["probe_vertical_position"][:].astype(np.float64),
        ccf=np.column_stack(list(columns)),
        acronyms=np.asarray(table["location"].asstr()[:], dtype=object),
        valid=table["valid_data"][:].astype(bool),
    ).take(rows)
    return of_probe.take(np.argsort(of_probe.number, kind="stable"))


def clean_electrodes(electrodes: Electrodes) -> tuple[Channels, list[str]]:
    """Geometry and place of every site, and what was noticed."""
    if len(set(electrodes.number.tolist())) < len(electrodes.number) or (electrodes.number < 0).any():
        raise InconsistentData(f"{ELECTRODES}: expected different numbers of channels from 0, some occur twice")
    ccf, copied = _without_copied_z(electrodes.ccf)
    locations, notes = allen_locations(ccf, electrodes.acronyms.tolist())
    if copied:
        notes.append("the file has a copy of the dorso-ventral in the place of the left-right coordinate: it is NaN")
    registered = np.isfinite(locations.ccf_ap).any()
    histology = "nwb" if registered else "nwb, not registered to the CCF"
    e = electrodes
    return Channels(e.number, e.lateral_um, e.axial_um, locations, histology, e.ids), notes


def _without_copied_z(ccf: Floats) -> tuple[Floats, bool]:
    """Files of Visual Coding have y once more as z."""
    told = np.isfinite(ccf).all(axis=1) & (ccf != 0).any(axis=1) & (ccf != -1000).any(axis=1)
    copied = bool(told.any() and (np.abs(ccf[told, 1] - ccf[told, 2]) < _SAME_PLACE).all())
    if copied:
        ccf = ccf.copy()
        ccf[told, 2] = np.nan
    return ccf, copied


@dataclass(frozen=True, slots=True)
class UnitRows:
    """The units of one probe.

    Attributes
    ----------
    rows : (unit,) int64
        Of each, its row in the table of the file, which has those of all probes.
    units : Units
    """

    rows: Ints
    units: Units


def read_units(nwb: h5py.File, electrodes: Electrodes, dataset: str) -> tuple[UnitRows, list[str]]:
    """The units whose largest waveform is on one of the sites, with their metrics, and what was noticed."""
    table = nwb["units"]
    ids, peak = _whole(table["id"][:], "units id"), _whole(table["peak_channel_id"][:], "peak_channel_id")
    everywhere = _whole(nwb[ELECTRODES]["id"][:], "id")
    if lost := int(np.count_nonzero(~np.isin(peak, everywhere))):
        raise InconsistentData(f"units: {lost} of {len(peak)} have a peak_channel_id that is no electrode of the file")
    if len(np.unique(ids)) < len(ids):
        raise InconsistentData(f"units: expected {len(ids)} different ids, got {len(np.unique(ids))}")
    order = np.argsort(electrodes.ids)
    rows = np.flatnonzero(np.isin(peak, electrodes.ids))
    rows = rows[np.argsort(ids[rows])]
    channel = order[np.searchsorted(electrodes.ids, peak[rows], sorter=order)]
    metrics = {
        name: _column(table[name])[rows]
        for name in sorted(table)
        if name not in _NO_METRICS and table[name].shape == ids.shape
        if f"{name}_index" not in table and not (name.endswith("_index") and name.removesuffix("_index") in table)
    }
    metrics["valid_data"] = electrodes.valid[channel]
    good, notes = _allen_default(metrics, len(rows))
    units = Units(
        uuid=np.array([f"{dataset}-{unit}" for unit in ids[rows]], dtype=object),
        channel=channel,
        depth_um=electrodes.axial_um[channel],
        label=np.full(len(rows), np.nan),
        good=good,
        metrics=metrics,
        criteria=GOOD_RULE,
        table="units",
        numbering=NUMBERING,
    )
    return UnitRows(rows, units), notes


def _allen_default(metrics: Mapping[str, NDArray[Any]], n: int) -> tuple[NDArray[np.bool_], list[str]]:
    """Which units are good by `GOOD_RULE`. One that lacks a number is not, and stays."""
    needed = ("quality", "valid_data", "amplitude_cutoff", "presence_ratio", "isi_violations")
    if absent := [name for name in needed if name not in metrics]:
        return np.zeros(n, dtype=bool), [f"units have no {', '.join(absent)}: none counts as good"]
    numbers = np.stack([metrics[name].astype(np.float64) for name in needed[2:]])
    with np.errstate(invalid="ignore"):
        within = (numbers[0] <= 0.1) & (numbers[1] >= 0.95) & (numbers[2] <= 0.5)
    unknown = np.isnan(numbers).any(axis=0)
    notes = [f"{int(unknown.sum())} of {n} units lack a metric of {GOOD_RULE.split(':')[0]}: not good"]
    return (metrics["quality"] == "good") & metrics["valid_data"] & within, notes if unknown.any() else []


def _column(column: Any) -> NDArray[Any]:
    if column.dtype.kind in "OS":
        return np.asarray(column.asstr()[:], dtype=object)
    values: NDArray[Any] = column[:]
    return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


def _whole(values: NDArray[Any], name: str) -> Ints:
    """Ids as int64; some files have them as floats."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    if not np.array_equal(whole, values):
        raise CorruptData(f"{name}: expected whole numbers, got {values.dtype} such as {values[:1].tolist()}")
    return whole
