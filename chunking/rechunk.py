"""By which regions an array is copied into other chunks, so that no task holds much and few chunks are read twice."""

from __future__ import annotations

from itertools import product
from math import ceil, lcm, log

from chunking.plan import Region
from chunking.products import steps

REGION_BYTES = 1 << 28
"""The most that one region holds, unless a single new chunk is larger."""


def rechunk_regions(
    shape: tuple[int, int],
    old: tuple[int, int],
    new: tuple[int, int],
    itemsize: int,
    *,
    all_rows: bool = False,
    nbytes: int = REGION_BYTES,
) -> tuple[Region, ...]:
    """Regions of whole new chunks that touch as few old ones as possible; of several such, the smallest.

    Where old and new chunks fit into each other within `nbytes`, every old chunk is read once. Where they do not (few
    rows for long against all rows for short), it is read as often as regions cut it: time for memory.

    Parameters
    ----------
    shape, old, new : (int, int)
        Of the array, and of its chunks before and after.
    itemsize : int, bytes
    all_rows : bool
        Do not cut along the first dimension.
    nbytes : int
        The most that a region holds.

    Examples
    --------
    >>> rechunk_regions((384, 240_000), (96, 30_000), (16, 120_000), 2)[:2]
    (((0, 96), (0, 120000)), ((96, 192), (0, 120000)))
    """
    high, wide = (_reads(*sizes) for sizes in zip(shape, old, new, strict=True))
    if all_rows:
        high = {shape[0]: _n_read(shape[0], old[0], shape[0])}
    sizes = list(product(high, wide))
    fit = [(r, t) for r, t in sizes if r * t * itemsize <= nbytes] or [min(sizes)]
    rows, times = min(fit, key=lambda size: (high[size[0]] * wide[size[1]], size[0] * size[1]))
    return tuple((r, t) for t in steps(shape[1], times) for r in steps(shape[0], rows))


def _reads(size: int, old: int, new: int) -> dict[int, int]:
    """Of all lengths that regions may have along a dimension: how many old chunks they read."""
    return {length: _n_read(size, old, length) for length in _lengths(size, old, new)}


def _lengths(size: int, old: int, new: int) -> list[int]:
    """Lengths that regions may have along a dimension, in cells: of whole new chunks, each about a quarter longer."""
    n = max(ceil(size / new), 1)
    counts = {round(1.25**i) for i in range(ceil(log(n, 1.25)) + 1)}
    return sorted({min(length, size) for length in (*(new * k for k in counts), lcm(old, new))})


def _n_read(size: int, old: int, length: int) -> int:
    """How many old chunks regions of a length read along a dimension, again where they share one."""
    return sum(ceil(stop / old) - start // old for start, stop in steps(size, length))
