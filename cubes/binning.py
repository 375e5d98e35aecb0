"""Counts at any bin width, lazily, from the ragged spikes."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from chunking import schema
from chunking.bins import BinGrid, bin_number, parse_width
from chunking.counting import count_spikes
from loaders.errors import BadArgument

_UNITS_PER_BLOCK = 100
_BINS_PER_BLOCK = 60_000


def bin(
    spikes: xr.Dataset,
    width: float | str | Decimal | Fraction,
    *,
    start: float | None = None,
    stop: float | None = None,
    dtype: str = "uint16",
) -> xr.DataArray:
    """Count spikes in bins of any width; nothing is counted before it is asked for.

    Parameters
    ----------
    spikes : Dataset
        The product ``spikes``, or some of its units.
    width : float, str, Decimal or Fraction, seconds
        ``0.02``, ``"1/3"`` and the like; the edges are exact multiples of it.
    start, stop : float, seconds, optional
        The bins that hold these times are the first and the last one. By default session time 0 (or the first
        spike, if earlier) and the last spike of the recording.
    dtype : str
        Unsigned integer type of the counts. A count that does not fit is an error when it is computed.

    Returns
    -------
    (unit, time) DataArray
        Dask array with all coordinates of the units, and bin centres on the session clock.

    Raises
    ------
    BadArgument
        If the width is not a positive fraction, `stop` is before `start`, or `spikes` is no product ``spikes``.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"].to_dataset()
    >>> cubes.bin(spikes, 0.005).sel(time=slice(10, 20)).compute().shape
    (500, 2000)
    """
    missing = {"spike_time", "row_size", "row_start"} - set(spikes.variables)
    if missing or "unit" not in spikes.dims:
        raise BadArgument(
            f"spikes: expected the product spikes with a dimension unit, but {sorted(missing)} is missing"
        )
    if spikes.sizes["spike"] != spikes.attrs["n_spikes"]:
        raise BadArgument(
            f"spikes: expected all {spikes.attrs['n_spikes']} spikes, got {spikes.sizes['spike']}; "
            "choose units before, and times with start and stop"
        )
    if np.dtype(dtype).kind != "u":
        raise BadArgument(f"dtype: expected an unsigned integer type, got {dtype!r}")
    grid = _grid(spikes, parse_width(width), start, stop)
    units = _steps(spikes.sizes["unit"], _UNITS_PER_BLOCK)
    bins = _steps(grid.n, _BINS_PER_BLOCK)
    rows = [[_lazy_block(spikes, u, grid.part(*b), np.dtype(dtype)) for b in bins] for u in units]
    empty = da.zeros((spikes.sizes["unit"], grid.n), dtype=dtype)
    data = da.block(rows) if units and bins else empty
    unit_coords = {
        name: c.variable for name, c in spikes.coords.items() if c.dims == ("unit",) and name not in schema.RAGGED
    }
    coords = unit_coords | {"time": schema.time_coordinate(grid)}
    return xr.DataArray(data, coords, schema.COUNTS.dims, name="counts", attrs=schema.COUNTS.attrs)


def _grid(spikes: xr.Dataset, width: Fraction, start: float | None, stop: float | None) -> BinGrid:
    if "last_spike_s" not in spikes.attrs and (start is None or stop is None):
        return BinGrid(width, 0, 0)  # without spikes nobody knows how long the recording is
    first = bin_number(min(0.0, spikes.attrs["first_spike_s"]) if start is None else float(start), width)
    last = bin_number(float(spikes.attrs["last_spike_s"] if stop is None else stop), width)
    if last < first:
        raise BadArgument(f"stop: expected a time from start on, got start {start} and stop {stop}")
    return BinGrid(width, first, last + 1 - first)


def _lazy_block(spikes: xr.Dataset, units: tuple[int, int], grid: BinGrid, dtype: np.dtype[Any]) -> da.Array:
    """Dask array of one block: the spikes of its units are slices of the stored array, joined where they touch."""
    starts = spikes["row_start"].values[slice(*units)]
    sizes = spikes["row_size"].values[slice(*units)]
    times = spikes["spike_time"]
    stored = times.data if times.chunks is not None else times.chunk().data
    parts = [stored[begin:end] for begin, end in _joined(starts, sizes)]
    chosen = da.concatenate(parts).rechunk(-1) if parts else da.zeros(0, chunks=1)
    block = chosen.to_delayed()[0] if len(chosen.shape) and chosen.numblocks[0] else np.zeros(0)
    counts = delayed(_count_block)(block, sizes, grid, dtype)
    lazy: da.Array = da.from_delayed(counts, (len(sizes), grid.n), dtype)
    return lazy


def _count_block(
    times: NDArray[np.float64], sizes: NDArray[np.int64], grid: BinGrid, dtype: np.dtype[Any]
) -> NDArray[Any]:
    rows = np.repeat(np.arange(len(sizes)), sizes)
    first, last = grid.edges()[[0, -1]]
    inside = (times >= first) & (times < last)
    return count_spikes(times[inside], rows[inside], grid, (0, len(sizes)), dtype)


def _joined(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of spikes in the order of the units, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], start + size)
        elif size:
            joined.append((start, start + size))
    return joined


def _steps(size: int, step: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, size, step), size])) if size else []
