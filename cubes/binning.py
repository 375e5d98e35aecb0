"""Counts at any bin width, lazily, from the ragged spikes."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from chunking import schema
from chunking.bins import BinGrid, Width, bin_number, parse_width
from chunking.counting import count_spikes
from cubes.ragged import check_ragged, spikes_of
from loaders.errors import BadArgument

_UNITS_PER_BLOCK = 100
_BINS_PER_BLOCK = 60_000


def bin(
    spikes: xr.Dataset | xr.DataTree,
    width: Width,
    *,
    start: float | None = None,
    stop: float | None = None,
    dtype: str = "uint16",
) -> xr.DataArray:
    """Count spikes in bins of any width; nothing is counted before it is asked for.

    Parameters
    ----------
    spikes : Dataset or DataTree
        The product ``spikes``, or some of its units.
    width : float, str, Decimal or Fraction, seconds
        ``0.02``, ``"1/3"`` and the like; the edges are exact multiples of it.
    start, stop : float, seconds, optional
        All bins that touch ``[start, stop)`` are counted. By default from session time 0 (or the first spike, if
        earlier) to the last spike of the recording.
    dtype : str
        Unsigned integer type of the counts. A count that does not fit is an error when it is computed.

    Returns
    -------
    (unit, time) DataArray
        Dask array with all coordinates of the units, and bin centres on the session clock.

    Raises
    ------
    BadArgument
        If the width is not a positive fraction or longer than the recording, `stop` is not after `start`, or
        `spikes` is no product ``spikes``.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"].to_dataset()
    >>> cubes.bin(spikes, 0.005).sel(time=slice(10, 20)).compute().shape
    (500, 2000)
    """
    ds = spikes.to_dataset() if isinstance(spikes, xr.DataTree) else spikes
    check_ragged(ds)
    counted = _counts_dtype(dtype)
    grid = _grid(ds, parse_width(width), start, stop)
    units = _steps(ds.sizes["unit"], _UNITS_PER_BLOCK)
    bins = _steps(grid.n, _BINS_PER_BLOCK)
    rows = [[_lazy_block(ds, slice(*u), grid.part(*b), counted) for b in bins] for u in units]
    data = da.block(rows) if units and bins else da.zeros((ds.sizes["unit"], grid.n), dtype=counted)
    kept = (name for name, c in ds.coords.items() if c.dims == ("unit",) and name not in schema.RAGGED)
    coords = {name: ds.coords[name].variable for name in kept} | {"time": schema.time_coordinate(grid)}
    return xr.DataArray(data, coords, schema.COUNTS.dims, name="counts", attrs=schema.COUNTS.attrs)


def _counts_dtype(dtype: str) -> np.dtype[Any]:
    try:
        parsed = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        parsed = None
    if parsed is None or parsed.kind != "u":
        raise BadArgument(f"dtype: expected an unsigned integer type such as 'uint16', got {dtype!r}")
    return parsed


def _grid(spikes: xr.Dataset, width: Fraction, start: float | None, stop: float | None) -> BinGrid:
    for name, value in (("start", start), ("stop", stop)):
        if value is not None and not math.isfinite(value):
            raise BadArgument(f"{name}: expected a time in seconds, got {value}")
    first_spike, last_spike = (spikes.attrs.get(name) for name in ("first_spike_s", "last_spike_s"))
    if start is None and stop is None:
        if first_spike is None or last_spike is None:
            return BinGrid(width, 0, 0)  # without spikes nobody knows how long the recording is
        return BinGrid.spanning(width, first_spike, last_spike)
    first = bin_number(float(min(0.0, first_spike or 0.0) if start is None else start), width)
    end = bin_number(float((last_spike or 0.0) if stop is None else stop), width)
    if stop is None or BinGrid(width, end, 1).edges()[0] < stop:
        end += 1  # the bin that `stop` lies in; a bin that begins at `stop` is not wanted
    if end <= first:
        raise BadArgument(f"stop: expected a time after start, got start {start} and stop {stop}")
    return BinGrid(width, first, end - first)


def _lazy_block(spikes: xr.Dataset, units: slice, grid: BinGrid, dtype: np.dtype[Any]) -> da.Array:
    times = spikes_of(spikes, units)
    sizes = spikes["row_size"].values[units]
    block = times.to_delayed()[0] if len(times) else np.zeros(0)
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


def _steps(size: int, step: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(0, size, step), size])) if size else []
