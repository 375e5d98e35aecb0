"""Signals along time around events: their samples as they are, or means in bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking.bins import Width
from chunking.perievent import Window, parse_interval, sum_ranges
from cubes.around import RELATIVE, aligned, window_time
from cubes.index import ClockIndex
from loaders.clock import Clock
from loaders.errors import BadArgument

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 0.05  # of a sample: clocks drift, so an end of the window that is meant to fall on a sample is off a little
_GAP = 1.5  # intervals between neighbouring samples: with more, the recording was interrupted
_UNEVEN = 0.25  # of the interval between samples: with more, they cannot be counted from the event


class Samples:
    """The times of the samples of a signal, which need not be in memory."""

    def __init__(self, signal: xr.DataArray) -> None:
        if "time" not in signal.coords:
            raise BadArgument("source: its dimension time has no coordinate; open the store with cubes.open")
        index = signal.xindexes.get("time")
        self._clock = index.transform if isinstance(index, ClockIndex) else None
        self._times = np.zeros(0) if self._clock else signal.coords["time"].values.astype(np.float64)
        self.n = signal.sizes["time"]
        if not self.n:
            raise BadArgument("source: has no samples")
        if not self._clock and not (np.diff(self._times) >= 0).all():
            raise BadArgument("source: its times are not in order, or missing; sort by time first")

    def at(self, positions: Any) -> Floats:
        """Seconds."""
        times: Floats = self._clock.times(positions) if self._clock else self._times[positions]
        return times

    def before(self, seconds: Floats) -> Ints:
        """How many samples are earlier than each time, which may be NaN."""
        known = np.nan_to_num(seconds)
        if self._clock:
            return self._clock.count_before(known, inclusive=False)
        return np.searchsorted(self._times, known).astype(np.int64)

    def nearest(self, seconds: Floats) -> Ints:
        """Position of the sample that is nearest to each time."""
        after = np.clip(self.before(seconds), 1, self.n - 1) if self.n > 1 else np.zeros(len(seconds), np.int64)
        earlier = np.maximum(after - 1, 0)
        closer = np.abs(self.at(earlier) - seconds) <= np.abs(self.at(after) - seconds)
        return np.where(closer, earlier, after)

    def interval(self) -> float:
        """Seconds between samples; raises BadArgument unless they are evenly spaced."""
        first, last = self.at(np.array([0, self.n - 1]))
        interval = float(last - first) / max(self.n - 1, 1)
        if self._clock and (slope := _slope_besides_gaps(self._clock.clock)) is not None:
            return slope * abs(self._clock.step)
        uneven = self.n < 2 or (not self._clock and np.abs(np.diff(self._times) - interval).max() > _UNEVEN * interval)
        if uneven:
            raise BadArgument("source: its samples are not evenly spaced; give width for means in bins")
        return interval

    def pieces(self, low: float, high: float) -> list[tuple[float, float]]:
        """The parts of the recording from `low` to `high` (s) between which it was interrupted."""
        starts, ends = [low], [high]
        if self._clock:
            times, gaps = self._clock.clock.knot_time, np.flatnonzero(_gaps(self._clock.clock))
            starts, ends = [low, *times[gaps + 1].tolist()], [*times[gaps].tolist(), high]
        found = ((max(low, a), min(high, b)) for a, b in zip(starts, ends, strict=True))
        return [(a, b) for a, b in found if a < b]


def _gaps(clock: Clock) -> NDArray[np.bool_]:
    """Between which knots of a clock the recording was interrupted."""
    samples, seconds = np.diff(clock.knot_sample), np.diff(clock.knot_time)
    longest = int(np.argmax(samples))
    gaps: NDArray[np.bool_] = seconds > _GAP * samples * (seconds[longest] / samples[longest])
    return gaps


def _slope_besides_gaps(clock: Clock) -> float | None:
    """Seconds a sample of a clock that has interruptions; None if it has none."""
    gap = _gaps(clock)
    samples, seconds = np.diff(clock.knot_sample), np.diff(clock.knot_time)
    return float(seconds[~gap].sum() / samples[~gap].sum()) if gap.any() else None


def nearest_samples(
    signal: xr.DataArray, times: xr.DataArray, window: tuple[Width, Width], support: tuple[float, float] | None
) -> xr.Dataset:
    """The samples around every event, counted from the one that is nearest to it."""
    samples = Samples(signal)
    interval = samples.interval()
    start, stop = (float(time) / interval for time in parse_interval(window))
    steps = np.arange(np.ceil(start - _ROUNDING), np.ceil(stop - _ROUNDING)).astype(np.int64)
    if not len(steps):
        raise BadArgument(f"window: {window} is shorter than the {interval:g} s between samples")
    events = times.values.astype(np.float64)
    middle = samples.nearest(events)
    shift = samples.at(middle) - events
    first = middle[:, None] + steps
    low, high = samples.at(np.array([0, samples.n - 1])) if support is None else support
    at = samples.at(np.clip(first, 0, samples.n - 1).ravel()).reshape(first.shape)
    inside = (first >= 0) & (first < samples.n) & (at >= low) & (at <= high)
    inside &= (np.abs(shift) <= interval)[:, None]  # else there is no event, or it is beyond the samples
    inside &= np.abs(at - samples.at(middle)[:, None] - steps * interval) <= interval  # else across an interruption
    first = np.where(inside, first, 0)
    relative = xr.Variable("time", steps * interval, RELATIVE | {"sample_interval": interval})
    data = _means(signal, first, first + inside)
    cut = aligned(_name(signal), signal, data, times, inside.astype(np.float64), relative)
    attrs = {"long_name": "time of the sample that stands at time 0, after the event", "units": "s"}
    return cut.assign_coords(event_shift=(times.dims[0], np.where(np.abs(shift) <= interval, shift, np.nan), attrs))


def mean_in_bins(
    signal: xr.DataArray, times: xr.DataArray, window: Window, support: tuple[float, float] | None
) -> xr.Dataset:
    """The mean of the samples in the bins around every event; NaN samples are passed over."""
    samples = Samples(signal)
    events = times.values.astype(np.float64)
    low, high = samples.at(np.array([0, samples.n - 1])) if support is None else support
    pieces = samples.pieces(float(low), float(high)) or [(float(low), float(high))]
    coverage: Floats = np.sum([window.coverage(events, *piece) for piece in pieces], axis=0)
    first, after = (samples.before((events[:, None] + edges).ravel()) for edges in (window.low(), window.high()))
    first, after = first.reshape(coverage.shape), after.reshape(coverage.shape)
    data = _means(signal, first, np.where(coverage == 1, after, first))
    return aligned(_name(signal), signal, data, times, coverage, window_time(window))


def _name(signal: xr.DataArray) -> str:
    return "signal" if signal.name is None else str(signal.name)


def _means(signal: xr.DataArray, first: Ints, after: Ints) -> Any:
    """Means of the samples from `first` to `after` (event, bin); NaN where there are none.

    One event after another, so that of a long signal only what lies around the events is read.
    """
    signal = signal.transpose(..., "time")
    dtype = np.result_type(signal.dtype, np.float32)  # which has NaN, and holds int16 exactly
    shape, n_bins = signal.shape[:-1], first.shape[1]
    lazy = signal.chunks is not None
    parts: list[Any] = []
    for begins, ends in zip(first, after, strict=True):
        wanted = ends > begins
        if not wanted.any():
            empty = (*shape, n_bins)
            parts.append(da.full(empty, np.nan, dtype=dtype, chunks=empty) if lazy else np.full(empty, np.nan, dtype))
            continue
        begin = int(begins[wanted].min())
        mean = _Mean(begins - begin, ends - begin, dtype)
        part = signal.variable[..., begin : int(ends[wanted].max())]
        if lazy:
            whole = part.data.rechunk({part.ndim - 1: -1})
            parts.append(whole.map_blocks(mean, dtype=dtype, chunks=(*whole.chunks[:-1], (n_bins,))))
        else:
            parts.append(mean(part.values))
    if not parts:
        return np.zeros((*shape, 0, n_bins), dtype)
    return da.stack(parts, axis=-2) if lazy else np.stack(parts, axis=-2)


@dataclass(frozen=True)
class _Mean:
    """Means over ranges of samples; called on workers."""

    first: Ints
    after: Ints
    dtype: np.dtype[Any]

    def __call__(self, samples: NDArray[Any]) -> NDArray[Any]:
        sums, n = sum_ranges(np.ascontiguousarray(samples), self.first, np.maximum(self.after, self.first))
        means: NDArray[Any] = np.divide(sums, n, out=np.full(sums.shape, np.nan), where=n > 0).astype(self.dtype)
        return means
