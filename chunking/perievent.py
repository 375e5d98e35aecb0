"""Counting the spikes around events: bins relative to each event, which may overlap."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from chunking.bins import Width, parse_width
from loaders.errors import BadArgument

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_WINDOW_BINS = 10_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """The bins around an event: bin `j` is ``[start + j * stride, start + j * stride + width)`` after it.

    All of it rational; an edge on the session clock is the float64 sum of the event and the correctly rounded offset.

    Attributes
    ----------
    start, width, stride : Fraction, seconds
    n : int
        Number of bins.
    """

    start: Fraction
    width: Fraction
    stride: Fraction
    n: int

    @classmethod
    def parse(cls, window: tuple[Width, Width], width: Width, stride: Width | None) -> Window:
        """The bins that lie wholly in ``[window[0], window[1])``.

        Raises
        ------
        BadArgument
            If `window` is not two times in order, or shorter than a bin, or has more than `MAX_WINDOW_BINS`.
        """
        start, stop = parse_interval(window)
        exact_width = parse_width(width)
        exact_stride = exact_width if stride is None else _parse(parse_width, stride, "stride")
        n = (stop - start - exact_width) // exact_stride + 1
        if n < 1:
            raise BadArgument(f"window: {window} is shorter than a bin of {float(exact_width):g} s")
        if n > MAX_WINDOW_BINS:
            raise BadArgument(f"window: {n:,} bins, more than {MAX_WINDOW_BINS:,}; choose wider bins")
        return cls(start, exact_width, exact_stride, int(n))

    def low(self) -> Floats:
        """Where the bins begin, seconds after the event; shape ``(n,)``."""
        return self._times(self.start)

    def high(self) -> Floats:
        """Where the bins end, seconds after the event; shape ``(n,)``. Without overlap, where the next one begins."""
        return self._times(self.start + self.width)

    def centres(self) -> Floats:
        """Middle of the bins, seconds after the event; shape ``(n,)``."""
        return self._times(self.start + self.width / 2)

    def _times(self, first: Fraction) -> Floats:
        """`first` and every stride after it, each the nearest float64, as Python's quotient of two integers is.

        Fractions give the same; of every block of an alignment they would take a tenth of the time.
        """
        common = lcm(first.denominator, self.stride.denominator)
        begin, step = int(first * common), int(self.stride * common)
        return np.array([(begin + j * step) / common for j in range(self.n)])

    def coverage(self, events: Floats, first_s: float, last_s: float) -> Floats:
        """Fraction of each bin that lies within ``[first_s, last_s]``; 0 for a missing event.

        Parameters
        ----------
        events : (event,) float64, seconds
            NaN where there is none.
        first_s, last_s : float, seconds
            Beginning and end of the recording.

        Returns
        -------
        (event, n) float64
        """
        low, high = events[:, None] + self.low(), events[:, None] + self.high()
        part = (np.minimum(high, last_s) - np.maximum(low, first_s)) / float(self.width)
        whole = (low >= first_s) & (high <= last_s)
        covered: Floats = np.where(whole, 1.0, np.clip(np.nan_to_num(part), 0.0, np.nextafter(1.0, 0.0)))
        return covered


def parse_interval(window: tuple[Width, Width]) -> tuple[Fraction, Fraction]:
    """Two times around an event as exact fractions; raises BadArgument unless the second is later."""
    try:
        start, stop = (_signed(time) for time in window)
    except (TypeError, ValueError) as error:
        raise BadArgument(f"window: expected (start, stop) in seconds around the event, got {window!r}") from error
    if stop <= start:
        raise BadArgument(f"window: expected stop after start, got {window!r}")
    return start, stop


def _signed(time: Width) -> Fraction:
    """A time as an exact fraction, as `parse_width` understands widths."""
    if isinstance(time, str):
        negative, text = time.strip().startswith("-"), time.strip().lstrip("+-")
        return -_signed_number(text) if negative else _signed_number(text)
    return -_signed_number(-time) if time < 0 else _signed_number(time)


def _signed_number(time: Any) -> Fraction:
    return Fraction(0) if time in (0, "0") else _parse(parse_width, time, "window")


def _parse(parse: Any, value: Any, name: str) -> Fraction:
    try:
        parsed: Fraction = parse(value)
    except BadArgument as error:
        raise BadArgument(f"{name}: expected seconds, such as 0.02 or '1/3', got {value!r}") from error
    return parsed


def count_around(times: Floats, sizes: Ints, events: Floats, window: Window, out: NDArray[Any]) -> None:
    """Add the spikes of every unit in the bins around every event to `out`; overlapping bins count a spike each.

    Parameters
    ----------
    times : (spike,) float64, seconds
        By unit, and of each unit in order of time.
    sizes : (unit,) int64
        Number of spikes of each unit.
    events : (event,) float64, seconds
        In any order; NaN adds nothing.
    window : Window
    out : (unit, event, window.n) array
    """
    in_order = np.argsort(events)
    in_order = in_order[~np.isnan(events[in_order])]
    _count(times, np.cumsum(sizes) - sizes, sizes, events, in_order, window.low(), window.high(), out)


@njit(nogil=True, cache=True)
def _first_from(spikes, start, begin):  # type: ignore[no-untyped-def]
    """The first spike from position `start` on that is not before `begin`: in growing steps, then by bisection."""
    low, high, step = start, start, 1
    while high < len(spikes) and spikes[high] < begin:
        low = high + 1
        high += step
        step *= 2
    high = min(high, len(spikes))
    while low < high:
        middle = (low + high) // 2
        if spikes[middle] < begin:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True)
def _count(times, starts, sizes, events, in_order, low, high, out):  # type: ignore[no-untyped-def]
    n_bins = len(low)
    per_s = 1 / (low[1] - low[0]) if n_bins > 1 else 0.0
    for unit in range(len(sizes)):
        spikes = times[starts[unit] : starts[unit] + sizes[unit]]
        first = 0
        for i in in_order:
            event = events[i]
            first = _first_from(spikes, first, event + low[0])
            for s in range(first, len(spikes)):
                time = spikes[s]
                if time >= event + high[n_bins - 1]:
                    break
                # The last bin that has begun: about here, and then exactly.
                k = min(int((time - event - low[0]) * per_s), n_bins - 1)
                while k + 1 < n_bins and event + low[k + 1] <= time:
                    k += 1
                while k > 0 and event + low[k] > time:
                    k -= 1
                while k >= 0 and time < event + high[k]:
                    out[unit, i, k] += 1
                    k -= 1


def sum_ranges(values: NDArray[Any], first: Ints, after: Ints) -> tuple[Floats, Ints]:
    """Sums over ranges of the last axis, which may overlap; NaN is passed over.

    Parameters
    ----------
    values : (..., time) array
    first, after : (range,) int64
        Position where each range begins, and the one after its end.

    Returns
    -------
    (..., range) float64
        Sums; 0 where nothing is in the range.
    (..., range) int64
        How many values went in.
    """
    rows = values.reshape(-1, values.shape[-1])
    sums = np.zeros((len(rows), len(first)))
    n = np.zeros(sums.shape, np.int64)
    _sum(rows, first, after, sums, n)
    shape = (*values.shape[:-1], len(first))
    return sums.reshape(shape), n.reshape(shape)


@njit(nogil=True, cache=True)
def _sum(rows, first, after, sums, n):  # type: ignore[no-untyped-def]
    for row in range(len(rows)):
        for k in range(len(first)):
            for i in range(first[k], after[k]):
                if not np.isnan(rows[row, i]):
                    sums[row, k] += rows[row, i]
                    n[row, k] += 1
