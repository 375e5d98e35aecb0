"""What is true of the sample source: its insertions, stimuli and identifiers."""

from __future__ import annotations

from typing import Any

import numpy as np

from loaders.errors import NotFound
from loaders.sample_records import KNOT_SAMPLES, Clock, Floats, SampleProbe, SampleSorting, Track, identifier

REVISION = "2024-05-06"


def stim_on_times(duration_s: float) -> Floats:
    """Onsets (trial,) of the visual stimulus, seconds: every 3.9 s, shifted a little in a fixed way."""
    trial = np.arange(int((duration_s - 5.0) // 3.9) + 1)
    onset: Floats = 1.5 + 3.9 * trial + 0.4 * np.sin(2.4 * trial)
    return onset


_PARIETAL = Track(
    tip_um=(-1250.0, -2150.0, -4250.0),
    up=(-0.2588, 0.0, 0.9659),
    regions=(
        (0.0, 1020, 1.5), (720.0, 218, 1.2), (1480.0, 10703, 0.4), (1640.0, 632, 0.9), (1740.0, 10703, 0.4),
        (1900.0, 382, 1.1), (2480.0, 484682520, 0.15), (2660.0, 312782566, 0.9), (2960.0, 312782562, 1.6),
        (3280.0, 312782554, 0.7), (3560.0, 312782550, 0.25), (3740.0, 0, 0.0),
    ),
)  # fmt: skip
_BARREL = Track(
    tip_um=(3300.0, -900.0, -4700.0),
    up=(0.1736, 0.0, 0.9848),
    regions=(
        (0.0, 672, 0.8), (1620.0, 776, 0.15), (1860.0, 1062, 0.6), (1960.0, 1038, 1.0), (2360.0, 1070, 1.7),
        (2800.0, 1047, 1.2), (3060.0, 201, 0.6), (3420.0, 981, 0.2), (3640.0, 0, 0.0),
    ),
)  # fmt: skip
_VISUAL = Track(
    tip_um=(-2500.0, -3400.0, -1500.0),
    up=(0.0, 0.0, 1.0),
    regions=(
        (0.0, 778, 1.5), (200.0, 721, 1.0), (310.0, 821, 0.7), (480.0, 593, 0.3), (580.0, 997, 0.2), (650.0, 0, 0.0),
    ),
)  # fmt: skip


def _probe(subject: str, probe: str, **known: Any) -> SampleProbe:
    eid = identifier("session", subject)
    pid = identifier("insertion", subject, probe)
    return SampleProbe(
        pid=pid, eid=eid, lab="samplelab", subject=subject, date="2024-03-01", number=1, probe=probe, **known
    )


SAMPLE: tuple[SampleProbe, ...] = (
    _probe(
        "SAMPLE_001", "probe00", model="3B2", serial=18005116811, duration_s=120.0,
        clock=Clock(30000.390639481, -0.012, 11.0, 26.0, 3 * KNOT_SAMPLES, 3_750_000),
        track=_PARIETAL, refined_um=100.0, ap_samples=60_000, lf_samples=10_000,
        sortings=(
            SampleSorting("pykilosort", REVISION, 500, 124_905, "real", True),
            SampleSorting("pykilosort", "", 300, 50_000, "poisson", False),
        ),
    ),
    _probe(
        "SAMPLE_001", "probe01", model="3B2", serial=18005116802, duration_s=120.0,
        clock=Clock(30000.390639481, -0.0345, -17.0, -4.0, 3 * KNOT_SAMPLES, 3_750_000),
        track=_BARREL, refined_um=0.0, ap_samples=30_000, lf_samples=10_000,
        sortings=(
            SampleSorting("iblsorter", REVISION, 200, 150_000, "grid", True),
            SampleSorting("pykilosort", "", 160, 40_000, "poisson", True),
        ),
    ),
    _probe(
        "SAMPLE_002", "probe00", model="NP2.4", serial=19011110513, duration_s=60.0,
        clock=Clock(29999.757983, -0.0071, 8.0, -12.0, KNOT_SAMPLES, 1_890_000),
        track=_VISUAL, refined_um=0.0, ap_samples=30_000, lf_samples=0,
        sortings=(SampleSorting("iblsorter", REVISION, 150, 45_000, "poisson", True),),
    ),
)  # fmt: skip
"""The insertions of the sample: two NP1 probes in one session, and a four-shank NP2.4 in another."""

PIDS: tuple[str, ...] = tuple(probe.pid for probe in SAMPLE)
"""Their identifiers, in the same order."""


def by_pid(pid: str) -> SampleProbe:
    """The probe of one identifier; raises NotFound, with those that exist."""
    found = dict(zip(PIDS, SAMPLE, strict=True)).get(pid)
    if found is None:
        raise NotFound(f"sample: no insertion {pid!r}; expected one of {', '.join(PIDS)}; take one from PIDS")
    return found
