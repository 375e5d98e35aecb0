"""What the units of one insertion do around events: mean, standard error and number of trials by condition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chunking.perievent import Window, count_around
from cubes.pool_members import Member, names_in, open_source, rows_where, unit_frame
from cubes.pool_recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK_BYTES = 8_000_000
WORKING_BYTES = 4 * _BLOCK_BYTES
"""What a task holds beside spikes and results: counts of a few units, a stored chunk, the trials."""


def responses(root: Path, member: Member, rows: Ints, recipe: Recipe) -> dict[str, NDArray[Any]]:
    """The responses of some units of an insertion, in all alignments of a recipe.

    Parameters
    ----------
    root : Path
        Folder of the stores.
    member : Member
    rows : (unit,) int64
        Rows of the store of the spikes, in rising order.
    recipe : Recipe

    Returns
    -------
    dict of str to array
        Of each alignment ``a``: ``a`` and ``a_sem``, (unit, condition, time) float32, Hz, and ``a_n``,
        (unit, condition) int32.
    """
    spikes, _ = open_source(root, member.spikes)
    times, sizes = spikes_of_units(spikes, rows)
    first, last = spikes.attrs.get("first_spike_s", 0.0), spikes.attrs.get("last_spike_s", 0.0)
    recipe = recipe.of(member.dataset)
    frame = _events(root, member, recipe)
    made: dict[str, NDArray[Any]] = {}
    for alignment in recipe.alignments:
        events = frame[alignment.on].to_numpy(np.float64)
        whole = _whole(events, alignment.window, min(0.0, first), last)
        chosen = [rows_where(frame, expression, recipe.events) for expression in alignment.conditions.values()]
        wanted = np.zeros((len(chosen), len(events)), bool)
        for row, trials in zip(wanted, chosen, strict=True):
            row[trials] = whole[trials]
        used = wanted.any(axis=0)
        mean, sem = _mean_and_sem(times, sizes, events[used], wanted[:, used], alignment.window)
        n = wanted.sum(axis=1, dtype=np.int32)
        made |= {alignment.name: mean, f"{alignment.name}_sem": sem}
        made[f"{alignment.name}_n"] = np.broadcast_to(n, (len(rows), len(n)))
    return made


def spikes_of_units(spikes: xr.Dataset, rows: Ints) -> tuple[Floats, Ints]:
    """Spike times of some units, by unit, and how many each has; each stored chunk is read once.

    Parameters
    ----------
    spikes : Dataset
        The product ``spikes``, lazily.
    rows : (unit,) int64
        In rising order.
    """
    starts, sizes = (spikes.variables[name].values[rows] for name in ("row_start", "row_size"))
    stops, offsets = starts + sizes, np.cumsum(sizes) - sizes
    stored = spikes.variables["spike_time"]
    step = stored.encoding["preferred_chunks"]["spike"]
    times = np.empty(sizes.sum())
    for low in range(0, int(stops[-1]), step):
        touched = np.flatnonzero((starts < low + step) & (stops > low))
        if not len(touched):
            continue
        chunk = stored[low : low + step].values
        for i in touched:
            begin, end = max(starts[i], low), min(stops[i], low + step)
            place = offsets[i] - starts[i]
            times[place + begin : place + end] = chunk[begin - low : end - low]
    return times, sizes


def _events(root: Path, member: Member, recipe: Recipe) -> pd.DataFrame:
    """The events that the recipe takes, with the columns that it needs."""
    events, _ = open_source(root, member.events)
    expressions = [text for alignment in recipe.alignments for text in alignment.conditions.values()]
    times = [alignment.on for alignment in recipe.alignments]
    columns = [name for name, variable in events.variables.items() if variable.dims == events.variables[times[0]].dims]
    frame = unit_frame(events, names_in([*times, *expressions, recipe.trials], map(str, columns)))
    kept = rows_where(frame, recipe.trials, recipe.events) if recipe.trials else slice(None)
    return frame.iloc[kept].reset_index(drop=True)


def _whole(events: Floats, window: Window, first_s: float, last_s: float) -> NDArray[np.bool_]:
    """Whether all bins around each event lie within the recording; not if there is no event."""
    low, high = window.low()[0], window.high()[-1]
    whole: NDArray[np.bool_] = (events + low >= first_s) & (events + high <= last_s)
    return whole


def _mean_and_sem(
    times: Floats, sizes: Ints, events: Floats, wanted: NDArray[np.bool_], window: Window
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean rate and its standard error (unit, condition, time) over the wanted (condition, event).

    Sums of counts and of their squares are integers, exact in float64: the result is the same in whatever order they
    are added, and NaN where there is nothing to divide by.
    """
    n = wanted.sum(axis=1, dtype=np.float64)[:, None]
    width = float(window.width)
    mean = np.empty((len(sizes), len(wanted), window.n), np.float32)
    sem = np.empty_like(mean)
    for units, counts in _counts(times, sizes, events, window):
        sums = wanted.astype(np.float64) @ counts
        squares = wanted.astype(np.float64) @ np.square(counts, out=counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[units] = sums / n / width
            variance = (n * squares - sums**2) / (n * (n - 1))
            sem[units] = np.where(n > 1, np.sqrt(variance / n) / width, np.nan)
    return mean, sem


def _counts(times: Floats, sizes: Ints, events: Floats, window: Window) -> Iterator[tuple[slice, Floats]]:
    """Counts (unit, event, time) of a few units at a time."""
    stops = np.cumsum(sizes)
    step = max(1, _BLOCK_BYTES // max(len(events) * window.n * 8, 1))
    for start in range(0, len(sizes), step):
        units = slice(start, min(start + step, len(sizes)))
        counts = np.zeros((units.stop - start, len(events), window.n))
        begin = stops[start] - sizes[start]
        count_around(times[begin : stops[units.stop - 1]], sizes[units], events, window, counts)
        yield units, counts
