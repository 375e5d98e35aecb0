"""Counting spikes in exact bins: one pass over the spikes, one byte a cell, no temporary arrays."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from chunking.bins import BinGrid
from loaders.errors import InconsistentData, StoreError

Times = NDArray[np.float64]
Rows = NDArray[np.integer[Any]]

_DONE, _OVERFLOW, _OUTSIDE = 0, 1, 2


def count_spikes(
    times: Times, rows: Rows, grid: BinGrid, wanted: tuple[int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Count spikes by row and bin.

    Parameters
    ----------
    times : (spike,) float64, seconds
        All within `grid`, in any order.
    rows : (spike,) integer
        Row of each spike.
    grid : BinGrid
    wanted : (int, int)
        First row, and the one after the last; spikes of other rows are passed over.
    dtype : unsigned integer dtype

    Returns
    -------
    (row, grid.n) array of `dtype`

    Raises
    ------
    StoreError
        If a count does not fit into `dtype`; it never wraps.
    InconsistentData
        If a spike of these rows lies outside the grid.
    """
    first_row, after_last = wanted
    counts = np.zeros((after_last - first_row, grid.n), dtype=dtype)
    largest = np.iinfo(dtype).max
    status = _count(times, rows, *_exact(grid.width), grid.first, first_row, counts, largest)
    if status == _OVERFLOW:
        raise StoreError(f"more than {largest} spikes of a unit in a bin of {grid.width} s do not fit into {dtype}")
    if status == _OUTSIDE:
        raise InconsistentData(f"a spike lies outside the {grid.n} bins of {grid.width} s from bin {grid.first} on")
    return counts


def largest_count(times: Times, rows: Rows, grid: BinGrid, n_rows: int) -> int:
    """Largest number of spikes of one row in one bin, in memory for the rows alone.

    Parameters
    ----------
    times : (spike,) float64, seconds
        In order.
    rows : (spike,) integer
        Row of each spike, below `n_rows`.
    """
    latest_bin = np.full(n_rows, np.iinfo(np.int64).min)
    run = np.zeros(n_rows, dtype=np.int64)
    return int(_largest(times, rows, *_exact(grid.width), latest_bin, run))


def smallest_dtype(largest: int) -> np.dtype[Any]:
    """Smallest unsigned integer type that holds `largest`."""
    return np.min_scalar_type(largest)


def _exact(width: Fraction) -> tuple[float, int, float]:
    return float(width), width.numerator, float(width.denominator)


@njit(inline="always")
def _bin(time, width, numerator, denominator):  # type: ignore[no-untyped-def]
    # The edges are those of `BinGrid.edges`: integers below 2**53, divided once.
    k = np.int64(np.floor(time / width))
    if (k + 1) * numerator / denominator <= time:
        k += 1
    elif k * numerator / denominator > time:
        k -= 1
    return k


@njit(nogil=True, cache=True)
def _count(times, rows, width, numerator, denominator, first, first_row, counts, largest):  # type: ignore[no-untyped-def]
    n_rows, n_bins = counts.shape
    for i in range(len(times)):
        row = np.int64(rows[i]) - first_row
        if not 0 <= row < n_rows:
            continue
        k = _bin(times[i], width, numerator, denominator) - first
        if not 0 <= k < n_bins:
            return _OUTSIDE
        if counts[row, k] == largest:
            return _OVERFLOW
        counts[row, k] += 1
    return _DONE


@njit(nogil=True, cache=True)
def _largest(times, rows, width, numerator, denominator, latest_bin, run):  # type: ignore[no-untyped-def]
    best = 0
    for i in range(len(times)):
        k = _bin(times[i], width, numerator, denominator)
        row = rows[i]
        run[row] = run[row] + 1 if latest_bin[row] == k else 1
        latest_bin[row] = k
        best = max(best, run[row])
    return best
