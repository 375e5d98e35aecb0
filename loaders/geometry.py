"""Where the sites of a recording lie on the probe, and when within a sample each is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loaders.meta_text import Tags
from loaders.probe_models import ProbeModel
from loaders.records import Floats, Ints
from loaders.spikeglx_meta import RecordingMeta

SHANK_PITCH_UM = 250.0
"""From one shank to the next."""

_TIP_UM = 20.0  # from the tip to the first site, which is at 0 in snsGeomMap
_FLIP_UM = 70.0  # width of an NP1 shank, whose columns IBL counts from the other side
_LONGEST_UM = 1e5


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sites of a recording, in the order of the raw file.

    ``spikeglx.Reader`` sorts the channels of NP2 and quad-base probes by shank, row and column by default; here they
    stay as they were recorded.

    Attributes
    ----------
    x_um : (channel,) float64, um
        Across its own shank, as IBL has it: the sites of every shank of an NP2.4 are at 27 and 59. Where a site lies
        across the whole probe takes `shank` as well (250 um from one to the next).
    y_um : (channel,) float64, um
        Along the shank, from the tip.
    shank, row, col : (channel,) int64
        From 0; rows count from the tip. Of a site off the grid of its probe, the nearest row and column.
    adc : (channel,) int64
        Converter that reads the site.
    sample_shift : (channel,) float64, samples
        When the site is read, as a fraction of a sample after the first ones, as in ibl-neuropixel, for both bands.
    source : str
        Tag of the meta that it comes from: ``snsShankMap``, ``snsGeomMap`` or, without these, ``imroTbl``.
    """

    x_um: Floats
    y_um: Floats
    shank: Ints
    row: Ints
    col: Ints
    adc: Ints
    sample_shift: Floats
    source: str

    def __len__(self) -> int:
        return len(self.x_um)


def geometry_from_meta(meta: RecordingMeta) -> Geometry:
    """The geometry of the channels of a recording.

    Sites are placed as ``spikeglx.geometry_from_meta(..., sort=False)`` of ibl-neuropixel 1.14 does; converters and
    shifts go with the readout channel (``neuropixel.adc_shifts``), so that they are right in exported subsets too.
    Metas without a map of sites (LF of NP1, for one) have it from the electrodes selected in ``imroTbl``.

    Parameters
    ----------
    meta : RecordingMeta

    Raises
    ------
    CorruptData
        If the meta has no sites, or not one for each channel.

    Examples
    --------
    >>> from loaders.sample_sites import meta_text
    >>> from loaders.spikeglx_meta import parse_meta
    >>> sites = geometry_from_meta(parse_meta(meta_text("NP2.4")))
    >>> sites.x_um[:3].tolist(), sites.y_um[:3].tolist(), sites.shank[[0, 48, 96]].tolist()
    ([27.0, 59.0, 27.0], [20.0, 20.0, 35.0], [0, 1, 0])
    """
    tags = Tags(meta.name, dict(meta.raw))
    maps = (key for key in ("snsShankMap", "snsGeomMap") if key in tags and tags.table(key, ":")[1])
    source = next(maps, "imroTbl")
    if source == "imroTbl":
        shank, col, row = _electrodes(tags, meta)
        x_um, y_um, row, col = _from_grid(meta.model, row, col)
    else:
        shank, across, along = _mapped_sites(tags, source, meta)
        place = _from_grid if source == "snsShankMap" else _from_um
        x_um, y_um, row, col = place(meta.model, along, across)
    if max(np.abs(x_um).max(), np.abs(y_um).max()) > _LONGEST_UM:
        raise tags.corrupt(f"expected sites within {_LONGEST_UM:g} um in {source}, got some further away")
    adc, shift = _converters(meta.model, meta.raw_channels)
    shanks, rows, cols = (np.rint(values).astype(np.int64) for values in (shank, row, col))
    return Geometry(x_um, y_um, shanks, rows, cols, adc, shift, source)


def _mapped_sites(tags: Tags, key: str, meta: RecordingMeta) -> tuple[Floats, Floats, Floats]:
    """Shank, place across and along, (channel,) each, of the map of saved channels ``(shank:across:along:used)``."""
    _, rows = tags.table(key, ":")
    if any(len(row) != 4 for row in rows):
        raise tags.corrupt(f"expected entries (shank:x:y:used) in {key}")
    sites = np.array(rows, dtype=np.float64).reshape(-1, 4)
    if len(sites) != meta.n_channels:
        # A file of one shank, split off by ibl-neuropixel, keeps the map of the undivided one.
        if "snsSaveChanSubset_orig" not in tags or meta.raw_channels.max() >= len(sites):
            raise tags.corrupt(f"{key} has {len(sites)} sites for {meta.n_channels} channels")
        sites = sites[meta.raw_channels]
    if "NP2.4_shank" in tags and np.any(sites[:, 0] != tags.integer("NP2.4_shank")):
        raise tags.corrupt(f"{key} has channels of other shanks than NP2.4_shank={tags.values['NP2.4_shank']}")
    return sites[:, 0], sites[:, 1], sites[:, 2]


def _electrodes(tags: Tags, meta: RecordingMeta) -> tuple[Floats, Floats, Floats]:
    """Shank, column and row, (channel,) each, of the electrodes that ``imroTbl`` connects to the saved channels."""
    if "imroTbl" not in tags:
        raise tags.corrupt("snsShankMap, snsGeomMap and imroTbl are all missing; the place of the sites is unknown")
    _, rows = tags.table("imroTbl", " ")
    model = meta.model
    by_channel = {int(row[0]): row for row in rows if len(row) > max(1, model.imro_electrode)}
    if absent := [channel for channel in meta.raw_channels.tolist() if channel not in by_channel]:
        raise tags.corrupt(f"imroTbl lacks {len(absent)} of the saved channels")
    table = [by_channel[channel] for channel in meta.raw_channels.tolist()]
    if model.imro_electrode:
        electrode = np.array([row[model.imro_electrode] for row in table])
    else:  # a bank is as many electrodes as the probe has channels
        electrode = np.array([row[1] * len(rows) + row[0] for row in table])
    shank = np.array([row[model.imro_shank] if model.imro_shank else 0.0 for row in table])
    return shank, electrode % model.n_columns, electrode // model.n_columns


def _from_grid(model: ProbeModel, row: Floats, col: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Place, row and column of sites that the meta numbers by row and column."""
    if model.checkerboard:
        col = 2 - 2 * col + row % 2
    return model.x0_um + model.dx_um * col, model.y0_um + model.dy_um * row, row, col


def _from_um(model: ProbeModel, y_um: Floats, x_um: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Place, row and column of sites that the meta places in um."""
    x_um = _FLIP_UM - x_um if model.version in ("3A", "3B1", "3B2") else x_um
    y_um = y_um + _TIP_UM
    return x_um, y_um, (y_um - model.y0_um) / model.dy_um, (x_um - model.x0_um) / model.dx_um


def _converters(model: ProbeModel, raw_channels: Ints) -> tuple[Ints, Floats]:
    """Converter and fraction of a sample, (channel,) each: pairs of converters take even and odd channels in turn."""
    turn, place = np.divmod(raw_channels, 2 * model.adc_channels)
    return 2 * turn + place % 2, (place // 2) / model.adc_cycles
