"""Spikes in order of unit: where each spike of a range lies, in one pass and without sorting all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


def positions_by_unit(
    clusters: NDArray[np.integer[Any]], row_size: NDArray[np.int64], start: int, stop: int
) -> NDArray[np.int64]:
    """Positions, in order of time, of the spikes `start` to `stop` in order of unit and then time.

    Parameters
    ----------
    clusters : (spike,) integer
        Row of the unit of every spike, in order of time.
    row_size : (unit,) int64
        How many spikes each unit has.
    start, stop : int
        First spike in order of unit, and the one after the last.

    Returns
    -------
    (stop - start,) int64

    Examples
    --------
    >>> clusters = np.array([2, 0, 2, 0, 2])
    >>> positions_by_unit(clusters, np.bincount(clusters), 1, 4)
    array([3, 0, 2])
    """
    first_spike = np.cumsum(row_size) - row_size
    ends = first_spike + row_size
    first, last = np.searchsorted(ends, [start, max(stop - 1, start)], side="right")
    positions = np.empty(stop - start, np.int64)
    _place(clusters, first, first_spike[first : last + 1] - start, positions)
    return positions


@njit(nogil=True, cache=True)
def _place(clusters, first, nexts, positions):  # type: ignore[no-untyped-def]
    n = len(positions)
    for i in range(len(clusters)):
        row = np.int64(clusters[i]) - first
        if 0 <= row < len(nexts):
            place = nexts[row]
            nexts[row] += 1
            if 0 <= place < n:
                positions[place] = i
