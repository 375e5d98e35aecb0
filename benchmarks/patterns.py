"""The access patterns of every data set: those of `chunking.patterns`, and of ragged spikes and pooled responses.

All reads of a pattern are known before any is done; they are done one by one, as a loop or a function does them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
from datasets import Array, Dataset, unit_of_spikes

from chunking.patterns import Grid
from chunking.patterns import patterns_of as grid_patterns
from cubes.ragged import joined_ranges

REGION_UNITS = 83


@dataclass(frozen=True)
class Access:
    """One pattern on one data set.

    Attributes
    ----------
    name, about : str
    run : callable
        From an array, anything that is indexed as numpy arrays are, and its chunks to the result.
    wanted_bytes : int
        Bytes of the cells that were asked for.
    """

    name: str
    about: str
    run: Callable[[Any, tuple[int, ...]], Array]
    wanted_bytes: int


def accesses(dataset: Dataset, shape: tuple[int, ...], seed: int = 0) -> list[Access]:
    """The patterns of a data set; the same seed reads the same cells, whatever the chunks."""
    makers = {"spikes": _of_spikes, "pooled": _of_pooled}
    return makers.get(dataset.product, _of_grid)(dataset, shape, seed)


def _of_grid(dataset: Dataset, shape: tuple[int, ...], seed: int) -> list[Access]:
    """Arrays ``(unit, time)`` and ``(channel, time)``."""
    itemsize, product = np.dtype(dataset.dtype).itemsize, dataset.name
    n_rows, n_cells = shape

    def grid(chunks: tuple[int, ...]) -> Grid:
        return Grid(product, (n_rows, n_cells), (chunks[0], chunks[1]), itemsize, 1 / dataset.step_s)

    found = []
    for pattern in grid_patterns(grid(shape).kind):
        reads = pattern.reads(grid(shape), np.random.default_rng(seed))
        cells = sum(prod(_length(part) for part in read) for read in reads)
        run = partial(_run_grid, pattern.run, grid, seed)
        found.append(Access(pattern.name, pattern.about, run, cells * itemsize))
    return found


def _run_grid(run: Any, grid: Any, seed: int, array: Any, chunks: tuple[int, ...]) -> Array:
    return np.asarray(run(array, grid(chunks), seed))


def _length(cells: slice | Array) -> int:
    return cells.stop - cells.start if isinstance(cells, slice) else len(cells)


def _of_spikes(dataset: Dataset, shape: tuple[int, ...], seed: int) -> list[Access]:
    """Ragged spike times, by unit and then by time."""
    sizes = unit_of_spikes(shape[0])
    starts, rng = np.cumsum(sizes) - sizes, np.random.default_rng(seed)
    usual = np.flatnonzero(sizes >= np.median(sizes))
    unit = rng.choice(usual, 1)
    region = np.sort(rng.choice(len(sizes), REGION_UNITS, replace=False))
    return [
        _ranges("unit", "the spikes of one unit", starts[unit], sizes[unit]),
        _ranges("region", f"the spikes of {REGION_UNITS} units, which lie anywhere", starts[region], sizes[region]),
        Access("population-rate", "all spikes, counted in seconds", _population_rate, 8 * shape[0]),
    ]


def _ranges(name: str, about: str, starts: Array, sizes: Array) -> Access:
    ranges = joined_ranges(starts, sizes)

    def run(array: Any, chunks: tuple[int, ...]) -> Array:
        return np.concatenate([np.asarray(array[begin:end]) for begin, end in ranges])

    return Access(name, about, run, 8 * int(sizes.sum()))


def _population_rate(array: Any, chunks: tuple[int, ...]) -> Array:
    """Spikes of every second, read four million at a time."""
    step = max(4_000_000 // chunks[0], 1) * chunks[0]
    rate = np.zeros(1, np.int64)
    for start in range(0, array.shape[0], step):
        counts = np.bincount(np.asarray(array[start : start + step]).astype(np.int64), minlength=len(rate))
        counts[: len(rate)] += rate
        rate = counts
    return rate


def _of_pooled(dataset: Dataset, shape: tuple[int, ...], seed: int) -> list[Access]:
    """Rates ``(unit, condition, time)``; units of a region come from many insertions, some neighbours from each."""
    rng, one = np.random.default_rng(seed), 4 * shape[1] * shape[2]
    unit = int(rng.integers(shape[0]))
    first = np.sort(rng.choice(shape[0] // 8, shape[0] // 100, replace=False)) * 8
    units = (first[:, None] + np.arange(4)).ravel()
    means: Any = {"axis": 0, "dtype": np.float64}
    return [
        Access("unit", "one unit in all conditions", lambda array, _: np.asarray(array[unit]), one),
        Access(
            "region", f"the mean of {len(units)} units, four neighbours each",
            lambda array, _: np.asarray(array[units]).mean(**means), len(units) * one,
        ),
        Access(
            "condition", "one condition of all units",
            lambda array, _: np.asarray(array[:, 1]).mean(**means), shape[0] * one // shape[1],
        ),
        Access("scan", "everything once", lambda array, _: np.asarray(array[:]).mean(**means), shape[0] * one),
    ]  # fmt: skip
