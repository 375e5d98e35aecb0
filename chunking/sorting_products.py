"""The products of a spike sorting: counts, spikes, channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
import xarray as xr

from chunking import schema
from chunking.bins import BinGrid, width_name
from chunking.by_unit import positions_by_unit
from chunking.cost import (
    RATIOS,
    Cost,
    counts_on_disk,
    label_bytes,
    on_disk,
    region_bytes,
    resident_bytes,
    task_bytes,
    write_bytes,
)
from chunking.counting import count_spikes, largest_count, smallest_dtype
from chunking.layouts import SPIKES_PER_CHUNK, CountsLayout
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from loaders.errors import BadArgument, PlanRefused
from loaders.inputs import Inputs
from loaders.records import Sorting


class _OfSorting:
    """What all products of a sorting share."""

    def origin(self, inputs: Inputs) -> Origin:
        sorting = inputs.sorting
        times = sorting.spikes.times
        span = {"first_spike_s": float(times[0]), "last_spike_s": float(times[-1])} if len(times) else {}
        facts = {
            "sorter": sorting.sorter,
            "revision": sorting.revision,
            "collection": sorting.collection,
            "histology": sorting.channels.histology,
            "n_spikes": len(times),
            **span,
        }
        return Origin(sorting.insertion, facts, sorting.sources, sorting.notes)

    def read_bytes(self, inputs: Inputs) -> int:
        """Size of all files of the sorting: all are hashed."""
        return sum(file.size for file in inputs.sorting.sources)

    def read_some(self, inputs: Inputs) -> int:
        """Nothing: no task reads all of it."""
        return 0

    def check_source(self, inputs: Inputs) -> None:
        """Every file was hashed when it was loaded."""


@dataclass(frozen=True)
class CountsProduct(_OfSorting):
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

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        sorting = inputs.sorting
        grid, n_units = self.grid(sorting), len(sorting.units)
        dtype = smallest_dtype(largest_count(sorting.spikes.times, sorting.spikes.clusters, grid, n_units))
        units, bins = self.layout.chunks(self.name, (n_units, grid.n), float(1 / self.width))
        array = ArrayPlan(
            "counts", schema.COUNTS.dims, (n_units, grid.n), dtype.name, (units, bins), schema.COUNTS.attrs
        )
        return (array,), tuple((u, t) for t in steps(grid.n, bins) for u in steps(n_units, units))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        counts = arrays[0]
        edges = 3 * 8 * (counts.chunks[1] + 1)  # bins of a task, as they are made
        blocks = max((region_bytes(arrays, region) for region in regions), default=0)
        return Cost(
            self.read_bytes(inputs),
            counts_on_disk(counts, len(inputs.sorting.spikes)),
            task_bytes(label_bytes(counts.shape[1]), blocks + edges + write_bytes(arrays)) + _loading(inputs.sorting),
        )

    def labels(self, inputs: Inputs) -> xr.Dataset:
        return _labels(inputs.sorting, {"time": schema.time_coordinate(self.grid(inputs.sorting))})

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        sorting = inputs.sorting
        units, (start, stop) = region
        grid = self.grid(sorting).part(start, stop)
        times, clusters = sorting.spikes.times, sorting.spikes.clusters
        edges = grid.edges()
        window = slice(*np.searchsorted(times, edges[[0, -1]], side="left"))
        times, clusters = times[window], clusters[window]
        counts = count_spikes(times, clusters, grid, units, np.dtype(arrays[0].dtype))
        return {"counts": counts}


@dataclass(frozen=True)
class SpikesProduct(_OfSorting):
    """CF contiguous ragged array: every spike by unit and then by time; ``row_size`` says how many a unit has."""

    name: str = "spikes"
    title: str = "Spikes by unit and time"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        n = len(inputs.sorting.spikes)
        chunk = min(SPIKES_PER_CHUNK, max(n, 1))
        arrays = tuple(ArrayPlan(name, v.dims, (n,), "float64", (chunk,), v.attrs) for name, v in schema.SPIKE.items())
        return arrays, tuple((step,) for step in steps(n, chunk))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        positions = 8 * arrays[0].chunks[0]
        blocks = max((region_bytes(arrays, region) for region in regions), default=0)
        return Cost(
            self.read_bytes(inputs),
            on_disk(arrays, RATIOS["spikes"]),
            task_bytes(positions + blocks + write_bytes(arrays)) + _loading(inputs.sorting),
        )

    def labels(self, inputs: Inputs) -> xr.Dataset:
        row_size = inputs.row_size
        rows = {"row_size": row_size, "row_start": np.cumsum(row_size) - row_size}
        ragged = {name: xr.Variable(v.dims, rows[name], v.attrs) for name, v in schema.RAGGED.items()}
        return _labels(inputs.sorting, ragged)

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        spikes = inputs.sorting.spikes
        ((start, stop),) = region
        order = positions_by_unit(spikes.clusters, inputs.row_size, start, stop)
        return {"spike_time": spikes.times[order], "spike_amp": spikes.amps[order], "spike_depth": spikes.depths[order]}


@dataclass(frozen=True)
class ChannelsProduct(_OfSorting):
    """The recording sites of the probe: geometry, brain region and coordinates."""

    name: str = "channels"
    title: str = "Recording sites and their brain regions"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        return (), ()

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        return Cost(self.read_bytes(inputs), 0, task_bytes() + _loading(inputs.sorting))

    def labels(self, inputs: Inputs) -> xr.Dataset:
        return xr.Dataset(schema.channel_variables(inputs.sorting.channels))

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        return {}


def _loading(sorting: Sorting) -> int:
    """The most that spikes hold which are not mapped from files: both as they were found and in order of time."""
    spikes = sorting.spikes
    return 5 * resident_bytes(spikes.times, spikes.clusters, spikes.amps, spikes.depths) // 2


def _labels(sorting: Sorting, coordinates: Mapping[str, xr.Variable]) -> xr.Dataset:
    units = schema.unit_coordinates(sorting.insertion, sorting.units, sorting.channels)
    return xr.Dataset(coords=units | dict(coordinates))
