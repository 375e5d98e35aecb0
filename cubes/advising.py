"""Which layout for which analysis: measured on this machine, or counted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np

from chunking.patterns import PATTERNS, Grid, Pattern, Touched, patterns_of, touched
from cubes.layout_sample import Sample, generated, of_store
from cubes.layout_trial import BLOCKS_BYTES, block_shape, time_dask, time_patterns, write
from loaders.errors import BadArgument

TIE = 1.05
"""Layouts that are slower than the best by less than this are taken for as good: the first in the list is taken."""

_READ_S, _CHUNK_S, _BYTES_PER_S = 3e-4, 4e-4, 2.5e9  # of zarr-python 3.4 on one core, where nothing is measured


@dataclass(frozen=True, slots=True)
class Tried:
    """One pattern on one layout.

    Attributes
    ----------
    layout, pattern : str
    seconds : float
        Measured or, where nothing is, expected; with the latency.
    chunks, nbytes : int
        What it touches: requests, and decoded bytes.
    """

    layout: str
    pattern: str
    seconds: float
    chunks: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Advice:
    """What to take; print it to see why.

    Attributes
    ----------
    product : str
    layout : str
        The layout to take.
    scores : mapping
        By layout: how many times slower than the best layout of each pattern, as the weighted geometric mean.
    chunks : mapping
        Blocks to read all of it with, as ``chunks`` of `cubes.open`: by dimension.
    command : str
        What makes such a store; empty if the store has this layout.
    measured : str
        On what.
    weights : mapping
        Of the patterns.
    tried : tuple of Tried
    """

    product: str
    layout: str
    scores: Mapping[str, float]
    chunks: Mapping[str, int]
    command: str
    measured: str
    weights: Mapping[str, float]
    tried: tuple[Tried, ...]

    def to_dict(self) -> dict[str, Any]:
        """The advice as plain JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        found = {(one.layout, one.pattern): one.seconds for one in self.tried}
        rows = [["", *self.scores]]
        for pattern in self.weights:
            times = [found[layout, pattern] for layout in self.scores]
            rows.append([pattern, *(f"{_in_words(taken)} ({taken / min(times):.1f} x)" for taken in times)])
        rows.append(["together", *(f"{score:.2f} x" for score in self.scores.values())])
        own = self.scores[self.layout]
        others = [f"{layout} {score / own:.2f} x" for layout, score in self.scores.items() if layout != self.layout]
        lines = [
            f"{self.product}, {self.measured}",
            *_aligned(rows),
            f"take {self.layout} (others take, as the geometric mean: {', '.join(others)})",
            f"to read all of it: chunks={dict(self.chunks)}",
            self.command or "the store has this layout",
        ]
        return "\n".join(lines)


def _in_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def advise(
    patterns: Mapping[str, float] | Iterable[str] | None = None,
    *,
    store: str | Path | None = None,
    product: str = "counts_20ms",
    units: int = 1000,
    minutes: float = 60,
    latency_s: float = 0,
    measure: bool = True,
    limit_s: float = 30,
) -> Advice:
    """Tell which layout serves some ways of reading best, on this machine.

    Every layout of `chunking.layouts` is written to a temporary folder, of a part of the store or of a generated array,
    and read in every way that is asked for (`chunking.patterns`), in turns, from the file cache. What is measured on a
    part is scaled to the whole by the reads, chunks and bytes of both: a chunk may be longer than the part. Layouts
    within five per cent of the best are taken for as good, and the first of them is taken.

    Parameters
    ----------
    patterns : mapping or iterable of str, optional
        ``unit``, ``window-1s``, ``window-60s``, ``region``, ``events``, ``population-rate``, ``rms``, ``spectrogram``,
        ``training``, ``scan``; a mapping says how much each counts. By default all that the product has, alike.
    store : path, optional
        A store of yours; its first 360 MB are measured on.
    product : str
        Without a store: ``counts_<width>``, ``ap``, ``lf`` or ``lfp_<rate>hz``.
    units : int
        Without a store: how many units; of voltage there are always 384 channels.
    minutes : float
        Without a store: how long it is; the first 360 MB are measured on.
    latency_s : float, seconds
        Of an object store: it is added for every ten requests of a read, of which zarr has so many under way.
    measure : bool
        If false, nothing is written or read: chunks and bytes that are touched are counted, and the time follows.
    limit_s : float, seconds
        No round of measurements begins later than this; the whole takes under a minute.

    Returns
    -------
    Advice
        Print it; its attribute ``layout`` is the layout to take, ``scores`` says how much slower the others are.

    Raises
    ------
    BadArgument
        If there is no such pattern, or not of this product, or a number cannot be used.
    PlanRefused
        If the product has no layouts, or the voltage of the store is linked.
    StoreError
        If the store is damaged.

    Examples
    --------
    >>> import cubes
    >>> cubes.advise(["unit"], product="counts_20ms", measure=False).layout
    'by-unit'
    >>> advice = cubes.advise({"unit": 1, "events": 2}, store=f"my-cubes/insertions/{pid}/counts_20ms.zarr")
    >>> sorted(advice.scores)
    ['balanced', 'by-time', 'by-unit']
    """
    if not 0 <= latency_s < float("inf"):
        raise BadArgument(f"latency_s: expected seconds, none at least, got {latency_s}")
    counted = not measure
    sample = generated(product, units, minutes, counted=counted) if store is None else of_store(store, counted=counted)
    weights = _weights(patterns, sample.kind)
    chosen = patterns_of(sample.kind, weights)
    touches = {(name, p.name): _touched(sample.grid(name, whole=True), p) for name in sample.layouts for p in chosen}
    if not measure:
        seconds = {key: _expected_s(touch) for key, touch in touches.items()}
        return _conclude(sample, weights, touches, seconds, latency_s, {})
    with tempfile.TemporaryDirectory(prefix="ibl-cubes-advise-") as folder:
        arrays = {layout: write(Path(folder), sample, layout) for layout in sample.layouts}
        measured = time_patterns(arrays, sample, chosen, limit_s)
        seconds = {key: taken * _share(sample, *key, touches[key]) for key, taken in measured.items()}
        return _conclude(sample, weights, touches, seconds, latency_s, arrays)


def _weights(patterns: Mapping[str, float] | Iterable[str] | None, kind: str) -> dict[str, float]:
    if isinstance(patterns, str):
        raise BadArgument(f"patterns: expected a list, got the text {patterns!r}; write [{patterns!r}]")
    named = None if patterns is None else list(patterns)
    names = [pattern.name for pattern in patterns_of(kind, named)]
    weights = {name: float(patterns[name]) if isinstance(patterns, Mapping) else 1.0 for name in names}
    if not weights or not all(0 < weight < float("inf") for weight in weights.values()):
        raise BadArgument(f"patterns: expected one at least, with positive weights, got {weights}")
    return weights


def _touched(grid: Grid, pattern: Pattern) -> Touched:
    return touched(grid, pattern.reads(grid, np.random.default_rng(0)))


def _share(sample: Sample, layout: str, pattern: str, whole: Touched) -> float:
    """How many times longer a pattern is expected to take of all of it than of the cells; 1 if these are all."""
    return _expected_s(whole) / _expected_s(_touched(sample.grid(layout), PATTERNS[pattern]))


def _expected_s(touch: Touched) -> float:
    return touch.reads * _READ_S + touch.chunks * _CHUNK_S + touch.nbytes / _BYTES_PER_S


def _conclude(
    sample: Sample,
    weights: Mapping[str, float],
    touches: Mapping[tuple[str, str], Touched],
    seconds: Mapping[tuple[str, str], float],
    latency_s: float,
    arrays: Mapping[str, Any],
) -> Advice:
    waited = {key: taken + latency_s * touches[key].rounds for key, taken in seconds.items()}
    tried = tuple(Tried(*key, taken, touches[key].chunks, touches[key].nbytes) for key, taken in waited.items())
    scores = {layout: _score(layout, waited, weights, sample) for layout in sample.layouts}
    best = min(scores.values())
    layout = next(name for name, score in scores.items() if score <= TIE * best)
    grid = sample.grid(layout, whole=True)
    times = time_dask(arrays[layout], sample.grid(layout)) if arrays else {}
    block = block_shape(grid, min(times, key=lambda nbytes: times[nbytes]) if times else BLOCKS_BYTES[1])
    dims = ("unit" if grid.kind == "counts" else "channel", "time")
    how = "measured on" if arrays else "chunks and bytes counted of"
    latency = f", {1e3 * latency_s:g} ms latency added" if latency_s else ""
    rows, n = sample.cells.shape
    whole = f", scaled to {sample.n_times:,}" if n < sample.n_times else ""
    measured = f"{how} {rows:,} x {n:,} cells ({sample.about}){whole}{latency}"
    chunks = dict(zip(dims, block, strict=True))
    return Advice(sample.product, layout, scores, chunks, _command(sample, layout), measured, weights, tried)


def _score(
    layout: str, seconds: Mapping[tuple[str, str], float], weights: Mapping[str, float], sample: Sample
) -> float:
    """The weighted geometric mean of the times relative to the best layout of each pattern."""
    best = {pattern: min(seconds[other, pattern] for other in sample.layouts) for pattern in weights}
    logs = (weight * log(seconds[layout, pattern] / best[pattern]) for pattern, weight in weights.items())
    return exp(sum(logs) / sum(weights.values()))


def _command(sample: Sample, layout: str) -> str:
    if sample.store:
        return "" if sample.layout == layout else f"cubes rechunk {sample.store} --layout {layout}"
    option = "--counts-layout" if sample.kind == "counts" else "--voltage-layout"
    return f"cubes build --source SOURCE --to ROOT --products {sample.product} {option} {layout}"
