"""The records that describe the sample source: probes, clocks, tracks and sortings.

Nothing here reads or writes a file. Identifiers are version 3 UUIDs of stable names (ONE accepts versions 3 and 4
only), so every machine writes the same sample.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

KNOT_SAMPLES = 600_000


def identifier(*parts: object) -> str:
    """UUID (version 3) of a stable name."""
    return str(uuid.uuid3(uuid.NAMESPACE_URL, "/".join(map(str, ("ibl-cubes", "sample", *parts)))))


def random_stream(*parts: object) -> np.random.Generator:
    """Random numbers that depend on the name alone."""
    return np.random.default_rng(int.from_bytes(hashlib.md5("/".join(map(str, parts)).encode()).digest()[:8], "little"))


@dataclass(frozen=True, slots=True)
class Clock:
    """Probe clock against session clock: two straight lines that meet at one knot.

    With ``p = sample / fs_hz``, ``session = offset_s + p * (1 + drift_ppm * 1e-6)`` up to `bend_sample`; from there on
    the slope is ``1 + late_drift_ppm * 1e-6``.

    Attributes
    ----------
    fs_hz : float
        Samples a second by the clock of the probe, as in the AP meta file.
    offset_s : float, seconds
        Session time of the first sample.
    drift_ppm, late_drift_ppm : float, parts per million
        Drift before and after the bend.
    bend_sample : int
        A multiple of `KNOT_SAMPLES`.
    n_samples : int
        Length of the recording.
    """

    fs_hz: float
    offset_s: float
    drift_ppm: float
    late_drift_ppm: float
    bend_sample: int
    n_samples: int

    def session_s(self, samples: ArrayLike) -> Floats:
        """Session times, seconds, of AP samples (may be fractions)."""
        sample = np.asarray(samples, dtype=np.float64)
        late = np.maximum(sample - self.bend_sample, 0.0)
        return self.offset_s + ((sample - late) * self._slope(self.drift_ppm) + late * self._slope(self.late_drift_ppm))

    def samples(self, session_s: ArrayLike) -> Floats:
        """AP samples (fractions) at session times in seconds; the inverse of `session_s`."""
        elapsed = np.asarray(session_s, dtype=np.float64) - self.offset_s
        late = np.maximum(elapsed - self.bend_sample * self._slope(self.drift_ppm), 0.0)
        return (elapsed - late) / self._slope(self.drift_ppm) + late / self._slope(self.late_drift_ppm)

    def knots(self) -> Ints:
        """AP samples of the knots, about every 20 s, from the first sample to the last."""
        return np.append(np.arange(0, self.n_samples - 1, KNOT_SAMPLES), self.n_samples - 1).astype(np.int64)

    def _slope(self, drift_ppm: float) -> float:
        return (1.0 + drift_ppm * 1e-6) / self.fs_hz


@dataclass(frozen=True, slots=True)
class Track:
    """Where a straight probe lies in the brain.

    Attributes
    ----------
    tip_um : (3,) float, um
        Tip in IBL coordinates from bregma: ML (right), AP (anterior), DV (dorsal).
    up : (3,) float
        Direction from the tip to the surface; made a unit vector when used.
    regions : tuple of (float, int, float)
        From the tip upwards: lowest depth (um from the tip), Allen structure id, and how active its units are.
    """

    tip_um: tuple[float, float, float]
    up: tuple[float, float, float]
    regions: tuple[tuple[float, int, float], ...]


@dataclass(frozen=True, slots=True)
class SampleSorting:
    """One spike sorting of the sample.

    Attributes
    ----------
    sorter, revision : str
        `revision` is empty where files lie in the collection itself.
    n_units, n_spikes : int
        Rows of the unit table; spikes (at most, for generated trains).
    trains : str
        ``real`` (shipped recording), ``grid`` (session times are exactly ``k / 30000`` s, one in ten on a 10 ms edge)
        or ``poisson`` (times are exactly those of whole samples).
    default : bool
        Whether this is the default revision of its collection.
    """

    sorter: str
    revision: str
    n_units: int
    n_spikes: int
    trains: Literal["real", "grid", "poisson"]
    default: bool

    @property
    def folder(self) -> str:
        """Path inside ``alf/<probe>``, such as ``pykilosort/#2024-05-06#``."""
        return f"{self.sorter}/#{self.revision}#" if self.revision else self.sorter


@dataclass(frozen=True, slots=True)
class SampleProbe:
    """One insertion of the sample and everything known about it.

    Attributes
    ----------
    pid, eid : str
    lab, subject, date : str
    number : int
    probe : str
        Name in the session.
    model : str
        ``3B2`` or ``NP2.4``.
    serial : int
    duration_s : float, seconds
        Spikes and behaviour lie in ``[0, duration_s]`` of the session clock.
    clock : Clock
    track : Track
    refined_um : float
        How much deeper ``electrodeSites`` puts the sites than ``channels`` does; 0 if there is no such file.
    sortings : tuple of SampleSorting
        The first is the one that loads by default.
    ap_samples, lf_samples : int
        Length of the voltage files, which cover only the start of the recording; 0 if there is no such file.
    """

    pid: str
    eid: str
    lab: str
    subject: str
    date: str
    number: int
    probe: str
    model: str
    serial: int
    duration_s: float
    clock: Clock
    track: Track
    refined_um: float
    sortings: tuple[SampleSorting, ...]
    ap_samples: int
    lf_samples: int

    @property
    def session(self) -> str:
        """Session folder inside the cache."""
        return f"{self.lab}/Subjects/{self.subject}/{self.date}/{self.number:03d}"

    @property
    def sorter(self) -> str:
        """Sorter of the default sorting."""
        return self.sortings[0].sorter

    @property
    def revisions(self) -> tuple[str, ...]:
        """Revisions of the default sorter, the default one first; empty text is the one without a name."""
        return tuple(s.revision for s in self.sortings if s.sorter == self.sorter)

    @property
    def comment(self) -> str:
        """What in this insertion is real and what is generated."""
        real = next((s for s in self.sortings if s.trains == "real"), None)
        if real is None:
            return "Sample data of ibl-cubes: everything is generated."
        return (
            f"Sample data of ibl-cubes: spike times and clusters of {real.sorter}, revision {real.revision}, are "
            "a real recording (int-brain-lab/ibllib, brainbox/tests/fixtures/ephys_test.p, MIT licence); amplitudes, "
            "depths, channels, regions, quality metrics and everything else are generated."
        )
