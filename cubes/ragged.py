"""The ragged spikes: which ranges of the dimension ``spike`` belong to which units."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import schema
from loaders.errors import BadArgument


def check_ragged(spikes: xr.Dataset) -> None:
    """Raise BadArgument unless this is the product ``spikes`` with all spikes that its rows point to."""
    missing = sorted({"spike_time", "row_size", "row_start"} - set(spikes.variables))
    if missing:
        raise BadArgument(f"spikes: expected the product spikes, but {', '.join(missing)} is missing")
    if "unit" not in spikes.dims:
        raise BadArgument("spikes: expected a dimension unit; choose one unit as a list, .sel(unit=[5])")
    total = spikes.attrs.get("n_spikes")
    if total is None:
        raise BadArgument(
            "spikes: the attributes of the product are gone (n_spikes); keep them, as open_zarr gives them"
        )
    if spikes.sizes["spike"] != total:
        raise BadArgument(
            f"spikes: expected all {total} spikes, got {spikes.sizes['spike']}; choose units first, and times with "
            "start and stop"
        )


def joined_ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Ranges of spikes in the order of the units, neighbours joined."""
    joined: list[tuple[int, int]] = []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], start + size)
        elif size:
            joined.append((start, start + size))
    return joined


def spikes_of(spikes: xr.Dataset, units: slice) -> da.Array:
    """Times of the spikes of some units, in the order of the units, as one lazy array of one chunk."""
    starts, sizes = (spikes[name].values[units] for name in ("row_start", "row_size"))
    times: da.Array = _gather(spikes["spike_time"], joined_ranges(starts, sizes)).rechunk(-1)
    return times


def compact(spikes: xr.Dataset) -> xr.Dataset:
    """Leave only the spikes of the units that are there, still lazily; ``row_start`` counts anew."""
    check_ragged(spikes)
    ranges = joined_ranges(spikes["row_start"].values, spikes["row_size"].values)
    kept = {name: ("spike", _gather(spikes[name], ranges), spikes[name].attrs) for name in schema.SPIKE}
    sizes = spikes["row_size"].values
    row_start = ("unit", np.cumsum(sizes) - sizes, spikes["row_start"].attrs)
    without = spikes.drop_vars(list(schema.SPIKE)).assign_coords(row_start=row_start)
    return without.assign(kept).assign_attrs(n_spikes=int(sizes.sum()))


def _gather(array: xr.DataArray, ranges: list[tuple[int, int]]) -> da.Array:
    stored = array.data if array.chunks is not None else array.chunk().data
    parts = [stored[begin:end] for begin, end in ranges]
    gathered: da.Array = da.concatenate(parts) if parts else da.zeros(0, dtype=array.dtype)
    return gathered
