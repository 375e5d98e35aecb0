"""The spike trains of the sample: one shipped recording, and generated ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.sample_records import Floats, Ints, SampleProbe, SampleSorting, random_stream
from loaders.sample_sites import DATA, regions, sites
from loaders.sample_truth import stim_on_times

GRID_HZ = 30000
EDGE_S = 0.010
LARGE_UV = 80.0
PLANTED_UNITS = 8


@dataclass(frozen=True, slots=True)
class Trains:
    """All spikes and units of one sorting of the sample.

    Attributes
    ----------
    times : (spike,) float64, seconds on the session clock
    clusters : (spike,) int64
    samples : (spike,) int64
        AP sample of the spike.
    amps : (spike,) float64, V
    depths : (spike,) float64, um from the tip
        One in a thousand is NaN.
    channels : (unit,) int64
        Raw row of the site with the largest waveform.
    unit_amps : (unit,) float64, V
    """

    times: Floats
    clusters: Ints
    samples: Ints
    amps: Floats
    depths: Floats
    channels: Ints
    unit_amps: Floats


@dataclass(frozen=True, slots=True)
class Planted:
    """Spikes that the AP voltage of the sample really contains.

    Attributes
    ----------
    samples : (spike,) int64
        AP sample of the trough.
    clusters : (spike,) int64
    channels : (spike,) int64
        Raw row of the site with the largest waveform.
    amps_uv : (spike,) float64, uV
        Depth of the trough on that site.
    """

    samples: Ints
    clusters: Ints
    channels: Ints
    amps_uv: Floats


def real_spikes() -> tuple[Floats, NDArray[np.uint32]]:
    """Times (spike,) float64 in seconds and clusters (spike,) uint32 of the shipped recording, bit for bit.

    Examples
    --------
    >>> times, clusters = real_spikes()
    >>> len(times), len(set(clusters.tolist())), int(clusters.max())
    (124905, 289, 499)
    """
    with np.load(DATA / "real_spikes.npz", allow_pickle=False) as packed:
        part = {name: packed[name] for name in packed.files}
    sample = np.cumsum(_join(part["step_low"], part["step_high"]))
    first = part["segment_start"]
    segment = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(sample))))
    line = part["segment_time"][segment] + part["segment_slope"][segment] * (sample - sample[first[segment]])
    times = (line.view(np.int64) + part["ulps"]).view(np.float64)
    return times, _join(part["cluster_low"], part["cluster_high"]).astype(np.uint32)


def spike_trains(probe: SampleProbe, sorting: SampleSorting) -> Trains:
    """Spikes and units of one sorting; the same at every call."""
    rng = random_stream(probe.pid, sorting.folder)
    times, numbers = real_spikes() if sorting.trains == "real" else _generated(probe, sorting, rng)
    clusters = numbers.astype(np.int64)
    samples = np.rint(probe.clock.samples(times)).astype(np.int64)
    channels = _place_units(np.bincount(clusters, minlength=sorting.n_units), regions(probe)[1], rng)
    unit_amps = 1e-4 * rng.lognormal(0.0, 0.45, sorting.n_units)
    amps = unit_amps[clusters] * np.clip(rng.normal(1.0, 0.15, len(times)), 0.3, None)
    depths = sites(probe.model).y_um[channels][clusters] + rng.normal(0.0, 8.0, len(times))
    depths[rng.random(len(times)) < 1e-3] = np.nan
    return Trains(times, clusters, samples, amps, depths, channels, unit_amps)


def planted_spikes(probe: SampleProbe) -> Planted:
    """The spikes that are drawn into the AP voltage: all those, within the file, of a few large and active units."""
    train = spike_trains(probe, probe.sortings[0])
    inside = (train.samples >= 30) & (train.samples < probe.ap_samples - 60)
    counts = np.bincount(train.clusters[inside], minlength=len(train.channels))
    counts[train.unit_amps < LARGE_UV * 1e-6] = 0
    chosen = _spread(np.argsort(-counts, kind="stable"), train.channels)
    which = np.flatnonzero(inside & np.isin(train.clusters, chosen))
    clusters = train.clusters[which]
    return Planted(train.samples[which], clusters, train.channels[clusters], train.amps[which] * 1e6)


def _spread(candidates: Ints, channels: Ints) -> list[int]:
    """The first candidates whose channels are at least 16 rows apart."""
    chosen: list[int] = []
    for unit in candidates.tolist():
        if all(abs(channels[unit] - channels[other]) >= 16 for other in chosen):
            chosen.append(unit)
        if len(chosen) == PLANTED_UNITS:
            break
    return chosen


def _generated(probe: SampleProbe, sorting: SampleSorting, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Poisson trains; every third unit fires a few extra spikes after the stimulus. Times are distinct in a unit."""
    rates = rng.lognormal(0.0, 1.1, sorting.n_units)
    clusters = rng.choice(sorting.n_units, sorting.n_spikes, p=rates / rates.sum())
    times = rng.uniform(0.02, probe.duration_s - 0.02, sorting.n_spikes)
    evoked = (clusters % 3 == 0) & (rng.random(sorting.n_spikes) < 0.15)
    onsets = rng.choice(stim_on_times(probe.duration_s), int(evoked.sum()))
    times[evoked] = onsets + 0.04 + rng.gamma(2.0, 0.03, len(onsets))
    tick = _to_grid(times, rng) if sorting.trains == "grid" else np.rint(probe.clock.samples(times)).astype(np.int64)
    tick, clusters = np.unique(np.stack([tick, clusters]), axis=1)
    return (tick / GRID_HZ if sorting.trains == "grid" else probe.clock.session_s(tick)), clusters


def _to_grid(times: Floats, rng: np.random.Generator) -> Ints:
    """Ticks of 1/30000 s, one in ten on an edge of a 10 ms bin."""
    tick = np.rint(times * GRID_HZ).astype(np.int64)
    edge = int(EDGE_S * GRID_HZ)
    return np.where(rng.random(len(tick)) < 0.1, tick // edge * edge, tick)


def _place_units(counts: NDArray[Any], gain: Floats, rng: np.random.Generator) -> Ints:
    """Channel (unit,) of each unit: silent ones anywhere in the brain, active ones where the region is active."""
    channels = rng.choice(np.flatnonzero(gain > 0), len(counts))
    active = np.flatnonzero(counts > 0)
    rank = np.argsort(np.log(counts[active]) + rng.normal(0.0, 0.8, len(active)), kind="stable")
    level = np.argsort(gain[channels[active]] + rng.normal(0.0, 0.3, len(active)), kind="stable")
    channels[active[rank]] = channels[active[level]]
    return channels.astype(np.int64)


def _join(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> Ints:
    return low.astype(np.int64) + (high.astype(np.int64) << 8)
