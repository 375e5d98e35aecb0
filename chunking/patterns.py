"""How stores are read: the access patterns that layouts serve, as reads and what is computed of them.

A pattern works on whatever is indexed as numpy arrays are: a Zarr array, the DataArray of a store that was opened
without dask, or a numpy array, which gives the truth. Its reads are known before any is done, so that the chunks and
bytes that they touch can be counted; where all of an array is read, they follow its chunks, and none is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import BadArgument

BLOCK_BYTES = 1 << 25
"""Most bytes that one read of a whole array holds, if its chunks are not larger."""

Cells = slice | NDArray[np.int64]
"""Some cells along one dimension; an array is sorted."""

Read = tuple[Cells, Cells]
"""Some rows at some times: what an array is indexed with."""

Result = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Grid:
    """An array ``(unit, time)`` or ``(channel, time)`` as its reader has to know it.

    Attributes
    ----------
    product : str
        Such as ``counts_20ms``, ``ap`` or ``lfp_250hz``.
    shape, chunks : (int, int)
    itemsize : int, bytes
    rate_hz : float
        Cells per second.
    """

    product: str
    shape: tuple[int, int]
    chunks: tuple[int, int]
    itemsize: int
    rate_hz: float

    @property
    def kind(self) -> str:
        """``counts``, ``ap``, or ``lf`` (also of decimated LF)."""
        kind = self.product.split("_")[0]
        return "lf" if kind == "lfp" else kind

    def cells(self, seconds: float) -> int:
        """Cells in some seconds: one at least, and no more than there are."""
        return min(max(round(seconds * self.rate_hz), 1), self.shape[1])


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way of reading.

    Attributes
    ----------
    name : str
    about : str
        What is read, in words.
    kinds : tuple of str
        The arrays that are read like this; see `Grid.kind`.
    reads : callable
        From a `Grid` and a random generator to the reads. What they read together does not depend on the chunks.
    reduce : callable
        From a `Grid`, the reads and an iterator over their blocks to the result.
    """

    name: str
    about: str
    kinds: tuple[str, ...]
    reads: Callable[[Grid, np.random.Generator], list[Read]]
    reduce: Callable[[Grid, Sequence[Read], Iterator[Result]], Result]

    def run(self, array: Any, grid: Grid, seed: int = 0) -> Result:
        """Read an array like this, and compute what is wanted of it.

        Examples
        --------
        >>> counts = np.arange(12).reshape(3, 4)
        >>> PATTERNS["population-rate"].run(counts, Grid("counts_1s", (3, 4), (3, 2), 8, 1.0))
        array([12, 15, 18, 21])
        """
        reads = self.reads(grid, np.random.default_rng(seed))
        return self.reduce(grid, reads, (np.asarray(array[read]) for read in reads))


@dataclass(frozen=True, slots=True)
class Touched:
    """What reads touch. Each of them asks for its chunks anew.

    Attributes
    ----------
    reads : int
    chunks : int
        Requests, where each chunk is an object.
    rounds : int
        Times that one waits for an answer, if up to ten requests of a read are under way at once.
    nbytes : int
        Decoded bytes of these chunks.
    """

    reads: int
    chunks: int
    rounds: int
    nbytes: int


CONCURRENT = 10
"""Requests of one read that zarr-python has under way at once, by default."""


def touched(grid: Grid, reads: Sequence[Read]) -> Touched:
    """Count the chunks that some reads touch.

    Examples
    --------
    >>> grid = Grid("ap", (384, 300_000), (96, 30_000), 2, 30_000.0)
    >>> touched(grid, [(slice(7, 8), slice(0, 300_000))])
    Touched(reads=1, chunks=10, rounds=1, nbytes=57600000)
    """
    chunks = [prod(map(_n_chunks, read, grid.chunks)) for read in reads]
    nbytes = prod(map(min, grid.chunks, grid.shape)) * grid.itemsize
    return Touched(len(reads), sum(chunks), sum(ceil(n / CONCURRENT) for n in chunks), sum(chunks) * nbytes)


def _n_chunks(cells: Cells, step: int) -> int:
    """Number of chunks that some cells lie in."""
    if isinstance(cells, slice):
        return int((cells.stop - 1) // step - cells.start // step) + 1
    return len(np.unique(cells // step))


def blocks_of(grid: Grid, rows: tuple[int, int] | None = None, nbytes: int = BLOCK_BYTES) -> list[tuple[slice, slice]]:
    """The array, or some of its rows, in blocks of whole chunks: all rows if these fit, and as long as they may be."""
    first, last = rows or (0, grid.shape[0])
    step, n_rows = grid.chunks[0], last - first
    fit = max(nbytes // (prod(grid.chunks) * grid.itemsize), 1)
    high = min(fit, ceil(n_rows / step)) * step
    edges = [first, *range((first // high + 1) * high, last, high), last]
    return list(product([slice(*pair) for pair in pairwise(edges)], _spans(grid, min(high, n_rows), nbytes)))


def _spans(grid: Grid, n_rows: int, nbytes: int = BLOCK_BYTES) -> list[slice]:
    """All times in pieces of whole chunks, as long as they may be for so many rows."""
    step = grid.chunks[1]
    wide = max(nbytes // (n_rows * grid.itemsize) // step, 1) * step
    return [slice(*pair) for pair in pairwise([*range(0, grid.shape[1], wide), grid.shape[1]])]


def _whole(grid: Grid, rng: np.random.Generator) -> list[Read]:
    return list(blocks_of(grid))


def _row(grid: Grid, rng: np.random.Generator) -> list[Read]:
    row = int(rng.integers(grid.shape[0]))
    return [(slice(row, row + 1), slice(0, grid.shape[1]))]


def _window(seconds: float) -> Callable[[Grid, np.random.Generator], list[Read]]:
    """All rows for some seconds, anywhere."""

    def reads(grid: Grid, rng: np.random.Generator) -> list[Read]:
        n = grid.cells(seconds)
        start = int(rng.integers(grid.shape[1] - n + 1))
        return [(slice(0, grid.shape[0]), slice(start, start + n))]

    return reads


REGION_SHARE = 1 / 12
"""Of the rows: 32 of 384 channels, which are neighbours; 83 of 1000 units, which lie anywhere."""


def _region(grid: Grid, rng: np.random.Generator) -> list[Read]:
    n = max(round(grid.shape[0] * REGION_SHARE), 1)
    if grid.kind == "counts":
        rows = np.sort(rng.choice(grid.shape[0], n, replace=False)).astype(np.int64)
        return [(rows, time) for time in _spans(grid, n)]
    start = int(rng.integers(grid.shape[0] - n + 1))
    return list(blocks_of(grid, (start, start + n)))


EVENTS_PER_S = 500 / 3600
_AROUND_S = {"counts": (-0.5, 1.0), "lf": (-0.5, 1.0), "ap": (-0.001, 0.003)}  # of AP: the waveforms of a unit


def _lags(grid: Grid) -> int:
    start, stop = _AROUND_S[grid.kind]
    return grid.cells(stop - start)


def _event_cells(grid: Grid, rng: np.random.Generator) -> NDArray[np.int64]:
    """The cells ``(event, lag)``: 500 events an hour, of which no two overlap."""
    lags = _lags(grid)
    n = min(max(round(EVENTS_PER_S * grid.shape[1] / grid.rate_hz), 8), grid.shape[1] // lags)
    spacing = grid.shape[1] // n
    starts = spacing * np.arange(n) + rng.integers(0, spacing - lags + 1, n)
    return starts[:, None] + np.arange(lags)


def _events(grid: Grid, rng: np.random.Generator) -> list[Read]:
    cells = _event_cells(grid, rng).ravel()
    within = ((rows, cells[slice(*np.searchsorted(cells, (t.start, t.stop)))]) for rows, t in blocks_of(grid))
    return [(rows, some) for rows, some in within if len(some)]


_TRAINING_S = {"counts": 0.5, "lf": 0.5, "ap": 0.05}
TRAINING_WINDOWS = 32


def _training(grid: Grid, rng: np.random.Generator) -> list[Read]:
    one = _window(_TRAINING_S[grid.kind])
    return [read for _ in range(TRAINING_WINDOWS) for read in one(grid, rng)]


def _as_read(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    (block,) = blocks
    return block


def _mean_of_rows(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(time,): the mean of the rows that were read."""
    n, total = np.zeros(grid.shape[1], np.int64), np.zeros(grid.shape[1])
    for (_, time), block in zip(reads, blocks, strict=True):
        total[time] += block.sum(axis=0, dtype=np.float64)
        n[time] += len(block)
    mean: Result = total / n
    return mean


def _sum_of_rows(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(time,): the sum of all rows."""
    total = np.zeros(grid.shape[1], np.int64)
    for (_, time), block in zip(reads, blocks, strict=True):
        total[time] += block.sum(axis=0, dtype=np.int64)
    return total


def _rms(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(row,): the root of the mean square."""
    squares = np.zeros(grid.shape[0])
    for (rows, _), block in zip(reads, blocks, strict=True):
        cells = block.astype(np.float32)
        squares[rows] += np.einsum("ij,ij->i", cells, cells, dtype=np.float64)
    return np.sqrt(squares / grid.shape[1])


def _sums(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(row,): the sum of all cells."""
    sums = np.zeros(grid.shape[0])
    for (rows, _), block in zip(reads, blocks, strict=True):
        sums[rows] += block.sum(axis=1, dtype=np.float64)
    return sums


def _mean_around(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(row, lag): the mean over events."""
    lags = _lags(grid)
    starts = np.unique(np.concatenate([np.asarray(time) for _, time in reads]))[::lags]
    total = np.zeros((grid.shape[0], lags))
    for (rows, time), block in zip(reads, blocks, strict=True):
        cells = np.asarray(time)
        lag = cells - starts[np.searchsorted(starts, cells, side="right") - 1]
        order = np.argsort(lag, kind="stable")
        present, first = np.unique(lag[order], return_index=True)
        total[rows, present] += np.add.reduceat(block[:, order], first, axis=1, dtype=np.float64)
    return total / len(starts)


def _means(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(window, row): the mean of every window."""
    return np.stack([block.mean(axis=1, dtype=np.float64) for block in blocks])


def _spectrogram(grid: Grid, reads: Sequence[Read], blocks: Iterator[Result]) -> Result:
    """(second, frequency): power of the whole seconds of one row, Hann window."""
    (row,) = _as_read(grid, reads, blocks)
    n = grid.cells(1)
    seconds = row[: len(row) // n * n].reshape(-1, n).astype(np.float32)
    power: Result = np.abs(np.fft.rfft(seconds * np.hanning(n).astype(np.float32), axis=1)) ** 2
    return power.astype(np.float32)


_ALL, _VOLTAGE = ("counts", "ap", "lf"), ("ap", "lf")

PATTERNS = {
    pattern.name: pattern
    for pattern in (
        Pattern("unit", "one unit or channel over the whole session", _ALL, _row, _as_read),
        Pattern("window-1s", "all units or channels for one second", _ALL, _window(1), _as_read),
        Pattern("window-60s", "all units or channels for a minute", ("counts", "lf"), _window(60), _as_read),
        Pattern("region", "a twelfth of the units or channels over the session", _ALL, _region, _mean_of_rows),
        Pattern("events", "all units or channels around 500 events an hour", _ALL, _events, _mean_around),
        Pattern("population-rate", "the sum of all units over the session", ("counts",), _whole, _sum_of_rows),
        Pattern("rms", "the root mean square of every channel", _VOLTAGE, _whole, _rms),
        Pattern("spectrogram", "the spectrogram of one channel", _VOLTAGE, _row, _spectrogram),
        Pattern("training", "32 short windows anywhere, one by one", _ALL, _training, _means),
        Pattern("scan", "everything once", _ALL, _whole, _sums),
    )
}


def pattern(name: str) -> Pattern:
    """The pattern `name`; raises BadArgument with the ones that exist."""
    if name not in PATTERNS:
        known = "; ".join(f"{pattern.name} ({pattern.about})" for pattern in PATTERNS.values())
        raise BadArgument(f"pattern {name!r}: does not exist; patterns that exist: {known}")
    return PATTERNS[name]


def patterns_of(kind: str, names: Iterable[str] | None = None) -> list[Pattern]:
    """The patterns by which arrays of a kind are read, all or some; raises BadArgument if there are none such."""
    chosen = list(PATTERNS.values()) if names is None else [pattern(name) for name in dict.fromkeys(names)]
    fit = [one for one in chosen if kind in one.kinds]
    if names is not None and len(fit) < len(chosen):
        known = ", ".join(one.name for one in PATTERNS.values() if kind in one.kinds)
        wrong = ", ".join(one.name for one in chosen if one not in fit)
        raise BadArgument(f"pattern {wrong}: is not one for {kind}; expected of {known}")
    return fit
