"""One class a product: which arrays it has, what labels them, and what one task writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import schema
from chunking.bins import BinGrid, width_from_name, width_name
from chunking.counting import count_spikes, largest_count, smallest_dtype
from chunking.layouts import SPIKES_PER_CHUNK, CountsLayout, counts_layout
from chunking.plan import ArrayPlan, Region
from loaders.errors import BadArgument, PlanRefused
from loaders.records import Sorting

Blocks = Mapping[str, NDArray[Any]]


class Product(Protocol):
    """What can be built from a sorting. A new product is a class with these members and a line in `parse_product`."""

    @property
    def name(self) -> str:
        """Name of the store, without ``.zarr``."""
        ...

    @property
    def title(self) -> str:
        """What the store holds, in words."""
        ...

    @property
    def parameters(self) -> Mapping[str, str]:
        """Everything but the sources that determines its content."""
        ...

    def arrays(self, sorting: Sorting) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        """Its large arrays, and the regions that the tasks write, each of whole chunks."""
        ...

    def labels(self, sorting: Sorting) -> xr.Dataset:
        """Its coordinates and small variables."""
        ...

    def blocks(self, sorting: Sorting, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        """The data of one region, by name of the array."""
        ...


def parse_product(name: str, layout: str = "balanced") -> Product:
    """The product `name`: ``spikes``, ``channels`` or ``counts_<width>``.

    Raises
    ------
    PlanRefused
        If there is no such product, or its bin width cannot be used.
    """
    if name == "spikes":
        return SpikesProduct()
    if name == "channels":
        return ChannelsProduct()
    if match := re.fullmatch(r"counts_(.+)", name):
        try:
            return CountsProduct(width_from_name(match[1]), counts_layout(layout))
        except BadArgument as error:
            raise PlanRefused(f"product {name!r}: {error}") from error
    raise PlanRefused(
        f"product {name!r}: does not exist; expected spikes, channels or counts_<width> such as counts_20ms"
    )


@dataclass(frozen=True)
class CountsProduct:
    """``counts(unit, time)``: spikes of every unit, silent ones too, in exact half-open bins from session time 0."""

    width: Fraction
    layout: CountsLayout

    @cached_property
    def name(self) -> str:
        return f"counts_{width_name(self.width)}"

    @cached_property
    def title(self) -> str:
        return f"Spike counts in bins of {float(self.width):g} s"

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        return {"bin_width_s": str(self.width), "layout": self.layout.name}

    def grid(self, sorting: Sorting) -> BinGrid:
        """The bins from session time 0 (or the first spike, if earlier) to the last spike."""
        times = sorting.spikes.times
        if not len(times):
            return BinGrid(self.width, 0, 0)
        try:
            return BinGrid.spanning(self.width, float(times[0]), float(times[-1]))
        except BadArgument as error:
            raise PlanRefused(f"pid {sorting.insertion.pid}, product {self.name}: {error}") from error

    def arrays(self, sorting: Sorting) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        grid, n_units = self.grid(sorting), len(sorting.units)
        dtype = smallest_dtype(largest_count(sorting.spikes.times, sorting.spikes.clusters, grid, n_units))
        units, bins = min(self.layout.units, max(n_units, 1)), min(self.layout.bins, max(grid.n, 1))
        array = ArrayPlan(
            "counts", schema.COUNTS.dims, (n_units, grid.n), dtype.name, (units, bins), schema.COUNTS.attrs
        )
        return (array,), tuple((u, t) for t in _steps(grid.n, bins) for u in _steps(n_units, units))

    def labels(self, sorting: Sorting) -> xr.Dataset:
        return _labels(sorting, {"time": schema.time_coordinate(self.grid(sorting))})

    def blocks(self, sorting: Sorting, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        units, (start, stop) = region
        grid = self.grid(sorting).part(start, stop)
        times, clusters = sorting.spikes.times, sorting.spikes.clusters
        edges = grid.edges()
        window = slice(*np.searchsorted(times, edges[[0, -1]], side="left"))
        times, clusters = times[window], clusters[window]
        counts = count_spikes(times, clusters, grid, units, np.dtype(arrays[0].dtype))
        return {"counts": counts}


@dataclass(frozen=True)
class SpikesProduct:
    """CF contiguous ragged array: every spike by unit and then by time; ``row_size`` says how many a unit has."""

    name: str = "spikes"
    title: str = "Spikes by unit and time"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, sorting: Sorting) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        n = len(sorting.spikes)
        chunk = min(SPIKES_PER_CHUNK, max(n, 1))
        arrays = tuple(ArrayPlan(name, v.dims, (n,), "float64", (chunk,), v.attrs) for name, v in schema.SPIKE.items())
        return arrays, tuple((step,) for step in _steps(n, chunk))

    def labels(self, sorting: Sorting) -> xr.Dataset:
        row_size = _row_size(sorting)
        rows = {"row_size": row_size, "row_start": np.cumsum(row_size) - row_size}
        ragged = {name: xr.Variable(v.dims, rows[name], v.attrs) for name, v in schema.RAGGED.items()}
        return _labels(sorting, ragged)

    def blocks(self, sorting: Sorting, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        ((start, stop),) = region
        order = _spikes_by_unit(sorting, start, stop)
        spikes = sorting.spikes
        return {"spike_time": spikes.times[order], "spike_amp": spikes.amps[order], "spike_depth": spikes.depths[order]}


@dataclass(frozen=True)
class ChannelsProduct:
    """The recording sites of the probe: geometry, brain region and coordinates."""

    name: str = "channels"
    title: str = "Recording sites and their brain regions"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, sorting: Sorting) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        return (), ()

    def labels(self, sorting: Sorting) -> xr.Dataset:
        return xr.Dataset(schema.channel_variables(sorting.channels))

    def blocks(self, sorting: Sorting, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        return {}


def _labels(sorting: Sorting, coordinates: Mapping[str, xr.Variable]) -> xr.Dataset:
    units = schema.unit_coordinates(sorting.insertion, sorting.units, sorting.channels)
    return xr.Dataset(coords=units | dict(coordinates))


def _steps(size: int, step: int) -> list[tuple[int, int]]:
    return [(start, min(start + step, size)) for start in range(0, size, max(step, 1))]


def _row_size(sorting: Sorting) -> NDArray[np.int64]:
    return np.bincount(sorting.spikes.clusters.astype(np.int64, copy=False), minlength=len(sorting.units))


def _spikes_by_unit(sorting: Sorting, start: int, stop: int) -> NDArray[np.intp]:
    """Positions, in order of time, of the spikes `start` to `stop` in order of unit and then time.

    Looks only at the units that this range touches, so that it needs no permutation of all spikes.
    """
    clusters = sorting.spikes.clusters
    ends = np.cumsum(_row_size(sorting))
    first_unit, last_unit = np.searchsorted(ends, [start, stop - 1], side="right")
    chosen = np.flatnonzero((clusters >= first_unit) & (clusters <= last_unit))
    by_unit: NDArray[np.intp] = chosen[np.argsort(clusters[chosen], kind="stable")]
    skipped = ends[first_unit - 1] if first_unit else 0
    return by_unit[start - skipped : stop - skipped]
