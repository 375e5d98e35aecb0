"""How long the patterns of access take on every layout, on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from chunking import encode
from chunking.patterns import Grid, Pattern, blocks_of
from chunking.plan import ArrayPlan, Region
from cubes.layout_sample import Sample

ROUNDS = 3


def write(folder: Path, sample: Sample, layout: str) -> zarr.Array[Any]:
    """Write the array in a layout, as builds do."""
    grid = sample.grid(layout)
    plan = ArrayPlan("cells", ("row", "time"), grid.shape, sample.cells.dtype.name, grid.chunks)
    store = folder / layout
    encode.create_arrays(store, (plan,))

    def write_block(region: Region) -> None:
        encode.write_chunks(store, plan, region, sample.cells[tuple(slice(*span) for span in region)])

    blocks = [tuple((cells.start, cells.stop) for cells in block) for block in blocks_of(grid)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_block, blocks))
    return zarr.open_array(store / "cells", mode="r", zarr_format=3)


def time_patterns(
    arrays: Mapping[str, Any], sample: Sample, patterns: Sequence[Pattern], limit_s: float
) -> dict[tuple[str, str], float]:
    """The best time of every pattern on every layout, in seconds; they take turns.

    One round at least, `ROUNDS` at most, none begun after `limit_s`.
    """
    best: dict[tuple[str, str], float] = {}
    end = time.monotonic() + limit_s
    for seed in range(ROUNDS):
        for pattern, layout in _turns(patterns, list(arrays), seed):
            begin = time.perf_counter()
            pattern.run(arrays[layout], sample.grid(layout), seed)
            taken = time.perf_counter() - begin
            best[layout, pattern.name] = min(taken, best.get((layout, pattern.name), taken))
        if time.monotonic() > end:
            break
    return best


def _turns(patterns: Sequence[Pattern], layouts: Sequence[str], seed: int) -> Iterator[tuple[Pattern, str]]:
    """Every pattern with every layout; in every round another layout begins."""
    for pattern in patterns:
        for i in range(len(layouts)):
            yield pattern, layouts[(i + seed) % len(layouts)]


BLOCKS_BYTES = (0, 1 << 25, 1 << 27)
"""Of a block of dask, to choose from: one chunk, and whole chunks of so many bytes."""


def time_dask(array: Any, grid: Grid) -> dict[int, float]:
    """The best time of a sum over all of an array with dask on threads, by the bytes of its blocks."""
    import dask.array

    best: dict[int, float] = {}
    shapes = {block_shape(grid, nbytes): nbytes for nbytes in reversed(BLOCKS_BYTES)}  # of equal ones the fewest bytes
    for _ in range(2):
        for shape, nbytes in shapes.items():
            lazy = dask.array.from_array(array, chunks=shape)
            begin = time.perf_counter()
            lazy.sum(axis=1, dtype=np.float64).compute(scheduler="threads")
            taken = time.perf_counter() - begin
            best[nbytes] = min(taken, best.get(nbytes, taken))
    return best


def block_shape(grid: Grid, nbytes: int) -> tuple[int, int]:
    """Whole chunks of about so many bytes, one at least."""
    rows, times = blocks_of(grid, nbytes=nbytes)[0]
    return rows.stop, times.stop
