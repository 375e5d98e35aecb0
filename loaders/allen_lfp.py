"""The LFP file of one probe of the Allen recordings -> `PublishedLfp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.allen_sorting import ELECTRODES, clean_electrodes, probe_id, read_electrodes
from loaders.errors import CorruptData, InconsistentData
from loaders.hdf5_file import open_hdf5
from loaders.hdf5_index import Hdf5Array, index_dataset
from loaders.nwb_files import as_listed, lfp_record
from loaders.published_lfp import PublishedLfp, fit_clock
from loaders.records import Catalog
from loaders.remote_file import open_file

if TYPE_CHECKING:
    import h5py

STEP_V = 0.195e-6
GAINS_V = (0.5 * STEP_V, STEP_V, 2 * STEP_V)
PROCESSING = (
    "by the Allen Institute, before release: every 4th channel beginning with number 2, decimated by 2 (IIR, zero "
    "phase), high-pass 0.1 Hz (Butterworth, order 1, zero phase), mean of the channels above the brain taken away, "
    "reference channels and channels far above the brain left out"
)


def load_lfp(catalog: Catalog, pid: str) -> PublishedLfp:
    """Open the LFP of one probe; errors without the pid, which the caller adds."""
    insertion = catalog.insertion(pid)
    record = lfp_record(catalog.datasets(insertion), insertion)
    source = open_file(record)
    with open_hdf5(source) as nwb:
        electrodes = read_electrodes(nwb, probe_id(insertion))
        series = _series(nwb)
        data, timestamps = (index_dataset(nwb, f"{series.name}/{name}", source) for name in ("data", "timestamps"))
        _check(data, timestamps, nwb, series)
    channels, notes = clean_electrodes(electrodes)
    clock, rate_hz, gaps = fit_clock(timestamps)
    if gaps:
        lost = ", ".join(f"{before:.3f} to {after:.3f}" for before, after in gaps[:5])
        notes.append(f"acquisition was interrupted {len(gaps)} times (s): {lost}{' ...' if len(gaps) > 5 else ''}")
    facts = {"processing": PROCESSING, "n_interruptions": len(gaps), "histology": channels.histology}
    file = as_listed(record, source)
    return PublishedLfp(
        insertion, data, electrodes.rows, channels, clock, rate_hz, gaps, GAINS_V, facts, record, file, tuple(notes)
    )


def _series(nwb: h5py.File) -> Any:
    """The one series with data under ``acquisition/probe_<id>_lfp``; its second name is a soft link."""
    found = [
        series
        for name, group in nwb["acquisition"].items()
        if name.endswith("_lfp")
        for series in group.values()
        if "data" in series and "timestamps" in series
    ]
    if len(found) != 1:
        raise CorruptData(f"acquisition: expected one series of LFP with data and timestamps, got {len(found)}")
    return found[0]


def _check(data: Hdf5Array, timestamps: Hdf5Array, nwb: h5py.File, series: Any) -> None:
    """Refuse what contradicts itself, and what is not as Allen writes it."""
    n_rows = nwb[ELECTRODES]["id"].shape[0]
    columns = series["electrodes"][:].tolist()
    if data.dtype != np.dtype("f4") or len(data.shape) != 2:
        raise CorruptData(f"{data.name}: expected (time, channel) float32, got {data.dtype} of shape {data.shape}")
    if columns != list(range(n_rows)) or data.shape[1] != n_rows:
        raise InconsistentData(
            f"{data.name}: expected a channel for each of the {n_rows} rows of the electrode table, got "
            f"{data.shape[1]} channels, electrodes {columns[:5]} ..."
        )
    if timestamps.shape != data.shape[:1]:
        raise InconsistentData(f"{timestamps.name}: expected {data.shape[0]} timestamps, got {timestamps.shape}")
    attrs = series["data"].attrs
    unit, conversion = attrs.get("unit", "volts"), attrs.get("conversion", 1.0)
    if unit not in ("volts", b"volts") or conversion != 1:
        raise InconsistentData(f"{data.name}: expected volts, conversion 1, got {unit!r}, conversion {conversion}")
    if data.n_missing or timestamps.n_missing:
        raise CorruptData(f"{data.name}: {data.n_missing} of its chunks were never written; fetch it again")
