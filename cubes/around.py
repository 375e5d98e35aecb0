"""Spikes, and bins that are counted already, around events."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from chunking import schema
from chunking.bins import BinGrid, Width, bin_number, parse_width
from chunking.perievent import Window, count_around, sum_ranges
from cubes.ragged import joined_ranges, spikes_of
from loaders.errors import BadArgument

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK_BYTES = 64_000_000
_UNITS_PER_BLOCK = 100
_SPAN = ("first_spike_s", "last_spike_s")


COVERAGE = {"long_name": "fraction of the bin within the recording; 0 where there is no event", "units": "1"}
RELATIVE = {"long_name": "time after the event", "units": "s", "axis": "T", "clock": "relative to the event"}


def aligned(
    name: str, source: xr.DataArray, data: Any, times: xr.DataArray, coverage: Floats, time: xr.Variable
) -> xr.Dataset:
    """The result for a source (..., time): data (..., event, time) with the labels of the source that remain."""
    kept, event = [dim for dim in source.dims if dim != "time"], times.dims[0]
    labels = {key: c.variable for key, c in source.coords.items() if not {"time", "knot"} & set(c.dims)}
    variables = {
        name: ((*kept, event, "time"), data, source.attrs),
        "coverage": ((event, "time"), coverage, COVERAGE),
    }
    return xr.Dataset(variables, labels | {"time": time})


def window_time(window: Window) -> xr.Variable:
    """The coordinate ``time`` of bins around events."""
    exact = {
        "interval": "half-open: low <= t - event < high",
        "t0": float(window.start),
        "bin_width": float(window.width),
        "bin_width_s": str(window.width),
        "stride": float(window.stride),
        "stride_s": str(window.stride),
    }
    return xr.Variable("time", window.centres(), RELATIVE | exact)


def counted_spikes(
    spikes: xr.Dataset, times: xr.DataArray, window: Window, support: tuple[float, float] | None
) -> xr.Dataset:
    """Count the spikes of every unit around every event."""
    events = times.values.astype(np.float64)
    coverage = window.coverage(events, *_support(support, spikes.attrs))
    count = _Count(spikes["row_size"].values, events, window, coverage == 1)
    blocks = _blocks(spikes.sizes["unit"], coverage.size * 4)
    lazy = spikes["spike_time"].chunks is not None
    data = _lazily(count, spikes, blocks) if lazy else _at_once(count, spikes, blocks)
    labels = spikes.coords.to_dataset().drop_vars(list(schema.RAGGED)).coords
    units = xr.DataArray(np.zeros((spikes.sizes["unit"], 0)), labels, schema.COUNTS.dims, attrs=schema.COUNTS.attrs)
    return aligned("counts", units, data, times, coverage, window_time(window))


@dataclass(frozen=True)
class _Count:
    """Counts the spikes of some units; called on workers."""

    sizes: Ints
    events: Floats
    window: Window
    valid: NDArray[np.bool_]

    def __call__(self, times: Floats, units: slice) -> NDArray[np.float32]:
        counts = np.zeros((units.stop - units.start, *self.valid.shape), np.float32)
        self.into(counts, times, units)
        return counts

    def into(self, counts: NDArray[np.float32], times: Floats, units: slice) -> None:
        """Fill `counts`, which are zeros."""
        count_around(times, self.sizes[units], self.events, self.window, counts)
        counts[:, ~self.valid] = np.nan


def _lazily(count: _Count, spikes: xr.Dataset, blocks: list[slice]) -> da.Array:
    parts = []
    for units in blocks:
        times = spikes_of(spikes, units)
        block = delayed(count)(times.to_delayed()[0] if len(times) else np.zeros(0), units)
        parts.append(da.from_delayed(block, (units.stop - units.start, *count.valid.shape), np.float32))
    data: da.Array = da.concatenate(parts) if parts else da.zeros((0, *count.valid.shape), dtype=np.float32)
    return data


def _at_once(count: _Count, spikes: xr.Dataset, blocks: list[slice]) -> NDArray[np.float32]:
    data = np.zeros((spikes.sizes["unit"], *count.valid.shape), np.float32)

    def fill(units: slice) -> None:
        count.into(data[units], _in_memory(spikes, units), units)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, blocks))
    return data


def _in_memory(spikes: xr.Dataset, units: slice) -> Floats:
    starts, sizes = (spikes[name].values[units] for name in ("row_start", "row_size"))
    parts = [spikes["spike_time"].variable[begin:end].values for begin, end in joined_ranges(starts, sizes)]
    times: Floats = np.concatenate(parts) if parts else np.zeros(0)
    return times


def summed_bins(
    counts: xr.DataArray,
    times: xr.DataArray,
    window: tuple[Width, Width],
    width: Width | None,
    stride: Width | None,
    support: tuple[float, float] | None,
) -> xr.Dataset:
    """Add up the bins of a counts cube around every event, from the bin edge that is nearest to it."""
    grid = _grid(counts.coords["time"])
    chosen = Window.parse(window, grid.width if width is None else width, stride)
    for name, value in (("window", chosen.start), ("width", chosen.width), ("stride", chosen.stride)):
        if (value / grid.width).denominator != 1:
            raise BadArgument(
                f"{name}: expected a multiple of the {float(grid.width):g} s bins of the cube, got {float(value):g} s; "
                "from the product spikes any time is possible"
            )
    events = times.values.astype(np.float64)
    nearest = np.array([_nearest_edge(event, grid.width) for event in events])
    edge = np.where(np.isnan(nearest), np.nan, nearest * grid.width.numerator / grid.width.denominator)
    cube = tuple(grid.edges()[[0, -1]].tolist())
    first_s, last_s = _support(support, {"first_spike_s": -np.inf, "last_spike_s": np.inf} | counts.attrs)
    first = np.nan_to_num(nearest - grid.first).astype(np.int64)[:, None] + _in_bins(chosen, grid.width)
    n = int(chosen.width / grid.width)
    # Told by bins, not seconds: at an end of the cube, the sum of event and offset may be off by its last digit.
    stored = (first >= 0) & (first + n <= grid.n)
    partly = chosen.coverage(edge, max(first_s, cube[0]), min(last_s, cube[1]))
    coverage = np.where(stored, chosen.coverage(edge, first_s, last_s), partly)
    valid = coverage == 1
    gather = _Gather(np.where(valid, first, 0), n, valid)
    whole = counts.transpose(..., "time")
    data = over_rows(whole, gather, coverage.size * 4)
    shift = {"long_name": "time of the bin edge from which bins are counted, after the event", "units": "s"}
    name = str(counts.name if counts.name is not None else "counts")
    whole.attrs = {key: value for key, value in counts.attrs.items() if key not in _SPAN}
    summed = aligned(name, whole, data, times, coverage, window_time(chosen))
    return summed.assign_coords(event_shift=(times.dims[0], edge - events, shift))


def _grid(time: xr.DataArray) -> BinGrid:
    """The bins that a coordinate of centres stands for, whatever was cut off."""
    width = parse_width(str(time.attrs["bin_width_exact"]))
    centres = time.values
    if not len(centres):
        raise BadArgument("source: has no bins")
    grid = BinGrid(width, bin_number(float(centres[0]), width), len(centres))
    if not np.array_equal(grid.centres(), centres):
        raise BadArgument("source: bins are missing between the first and the last; select times as one slice")
    return grid


def _nearest_edge(event: float, width: Fraction) -> float:
    return float("nan") if np.isnan(event) else float(round(Fraction(event) / width))


def _in_bins(window: Window, width: Fraction) -> Ints:
    """Where the bins of a window begin, counted in bins of `width` from the event."""
    return np.array([int((window.start + j * window.stride) / width) for j in range(window.n)])


@dataclass(frozen=True)
class _Gather:
    """Adds up `n` bins from `first` on, for every event and bin of the window; called on workers."""

    first: Ints
    n: int
    valid: NDArray[np.bool_]

    def __call__(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        sums, _ = sum_ranges(counts, self.first.ravel(), self.first.ravel() + self.n)
        gathered = sums.astype(np.float32).reshape(*counts.shape[:-1], *self.valid.shape)
        gathered[..., ~self.valid] = np.nan
        return gathered


def over_rows(source: xr.DataArray, func: Callable[[NDArray[Any]], NDArray[Any]], result_bytes: int) -> Any:
    """Apply a function of (row, time) to blocks of rows; a dask array if the source is one, else in memory.

    `result_bytes` is what one row gives.
    """
    row_bytes = max(result_bytes, source.sizes["time"] * source.dtype.itemsize)
    blocks = _blocks(source.shape[0], row_bytes)
    if source.chunks is None:
        parts = [func(source[rows].values) for rows in blocks]
        return np.concatenate(parts) if parts else func(source.values)
    sizes = tuple(rows.stop - rows.start for rows in blocks)
    whole = source.data.rechunk({0: sizes, source.ndim - 1: -1})
    example = func(np.zeros((0, *source.shape[1:-1], source.sizes["time"]), source.dtype))
    shape = example.shape[source.ndim - 1 :]
    return whole.map_blocks(
        func, dtype=example.dtype, chunks=(*whole.chunks[:-1], *((size,) for size in shape)),
        drop_axis=source.ndim - 1, new_axis=list(range(source.ndim - 1, source.ndim - 1 + len(shape))),
    )  # fmt: skip


def _blocks(n_rows: int, row_bytes: int) -> list[slice]:
    step = int(min(_UNITS_PER_BLOCK, max(1, _BLOCK_BYTES // max(row_bytes, 1))))
    return [slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step)]


def _support(support: tuple[float, float] | None, attrs: Any) -> tuple[float, float]:
    """Beginning and end of the recording, seconds."""
    if support is not None:
        first, last = (float(time) for time in support)
        if not first < last:
            raise BadArgument(f"support: expected (start, stop) in seconds, got {support!r}")
        return first, last
    if "last_spike_s" not in attrs:
        return 0.0, 0.0  # no spikes: nobody knows how long the recording is
    return min(0.0, float(attrs["first_spike_s"])), float(attrs["last_spike_s"])
