"""The recording sites of the sample: geometry from the shipped metas, places along the track."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.sample_records import Floats, Ints, SampleProbe

DATA = Path(__file__).with_name("sample_data")
SHANK_PITCH_UM = 250.0
_AP_META = {"3B2": "sample3B_g0_t0.imec1.ap.meta", "NP2.4": "sampleNP2.4_4shanks_g0_t0.imec.ap.meta"}


@dataclass(frozen=True, slots=True)
class Sites:
    """Recording sites in the order of the raw file.

    Attributes
    ----------
    shank : (channel,) int64
    x_um, y_um : (channel,) float64, um
        Across its own shank and up from the tip, as spikeglx has them.
    """

    shank: Ints
    x_um: Floats
    y_um: Floats

    def __len__(self) -> int:
        return len(self.shank)


def meta_text(model: str, band: str = "ap") -> str:
    """The shipped SpikeGLX meta of a probe model, for one band."""
    name = _AP_META[model] if band == "ap" else "sample3B_g0_t0.imec1.lf.meta"
    return (DATA / name).read_text(encoding="ascii")


def shank_map(model: str) -> str:
    """The ``snsShankMap`` line of the AP meta of a probe model."""
    return next(line for line in meta_text(model).splitlines() if line.lstrip("~").startswith("snsShankMap="))


def sites(model: str) -> Sites:
    """Geometry (channel,) of a probe model, from its shank map ``(shank:column:row:used)``."""
    entries = re.findall(r"\((\d+):(\d+):(\d+):\d+\)", shank_map(model))
    shank, column, row = np.array(entries, dtype=np.int64).T
    if model == "NP2.4":
        return Sites(shank, 27.0 + 32.0 * column, 20.0 + 15.0 * row)
    return Sites(shank, np.where(row % 2 == 0, 43.0, 59.0) - 32.0 * column, 20.0 * (row + 1))


def regions(probe: SampleProbe, deeper_um: float = 0.0) -> tuple[Ints, Floats]:
    """Allen ids and activity, (channel,) each, of the sites of a probe.

    Parameters
    ----------
    probe : SampleProbe
    deeper_um : float, um
        How much deeper than the track says the sites are.
    """
    bounds, ids, gains = (np.array(column) for column in zip(*probe.track.regions, strict=True))
    depth_um = np.maximum(sites(probe.model).y_um - deeper_um, 0.0)
    layer = np.searchsorted(bounds, depth_um, side="right") - 1
    return ids.astype(np.int64)[layer], gains.astype(np.float64)[layer]


def places(probe: SampleProbe, deeper_um: float = 0.0) -> Floats:
    """IBL coordinates (channel, 3), um: ML, AP, DV from bregma; shanks lie behind each other along AP."""
    geometry = sites(probe.model)
    up = np.array(probe.track.up) / np.linalg.norm(probe.track.up)
    place: Floats = np.array(probe.track.tip_um) + (geometry.y_um - deeper_um)[:, None] * up
    place[:, 1] -= SHANK_PITCH_UM * geometry.shank
    return place
