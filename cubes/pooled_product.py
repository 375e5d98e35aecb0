"""The product of a pool: the units of many insertions along one dimension, and regions over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from chunking import encode, pool_schema
from chunking.cost import Cost, label_bytes, region_bytes, task_bytes, write_bytes
from chunking.manifest import Files
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from cubes.pool_labels import alignment_labels, region_labels, regions, shared_metrics, unit_labels
from cubes.pool_members import Member
from cubes.pool_recipe import Recipe
from cubes.pool_responses import WORKING_BYTES, responses
from loaders.records import Insertion

UNITS_PER_CHUNK = 1000
"""Units in one chunk, and of one task: about ten insertions, some megabytes."""


@dataclass(frozen=True, eq=False)
class PooledProduct:
    """``a(unit, condition_a, time_a)`` of every alignment ``a`` of a recipe, and the same by region.

    A `chunking.products.Product` that knows itself what it reads, and passes over the `inputs`.

    Attributes
    ----------
    root : Path
        Folder of the stores.
    name : str
    recipe : Recipe
    members : tuple of Member
    given : mapping
        What else is an attribute of the store: the query, and what was left out.
    """

    root: Path
    name: str
    recipe: Recipe
    members: tuple[Member, ...]
    given: Mapping[str, Any]

    @property
    def title(self) -> str:
        """What the store holds, in words."""
        return f"Responses of the units of {len(self.members)} insertions, recipe {self.recipe.name}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The recipe, and what was asked for."""
        return {"recipe": dict(self.recipe.text), **self.given}

    def origin(self, inputs: object) -> Origin:
        """The stores that it is made of."""
        facts = {
            "recipe": self.recipe.name,
            "alignments": [alignment.name for alignment in self.recipe.alignments],
            "n_insertions": len(self.members),
            "n_left_out": sum(len(pids) for pids in self.given["left_out"].values()),
        }
        _, lacking = shared_metrics(self.members)
        notes = [f"metrics left out, as not all insertions have them: {', '.join(lacking)}"] if lacking else []
        sources = [source for member in self.members for source in (member.spikes, member.events)]
        return Origin(Insertion("", "", ""), facts, sources, notes)

    def arrays(self, inputs: object) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        """The arrays along ``unit``; a task writes one chunk of each."""
        n_units = sum(len(member.rows) for member in self.members)
        chunk = min(UNITS_PER_CHUNK, n_units)
        arrays = tuple(
            self._array(f"{alignment.name}{suffix}", n_units, chunk, dtype)
            for alignment in self.recipe.alignments
            for suffix, dtype in (("", "float32"), ("_sem", "float32"), ("_n", "int32"))
        )
        whole = tuple((0, size) for size in arrays[0].shape[1:])
        return arrays, tuple((units, *whole) for units in steps(n_units, chunk))

    def cost(self, inputs: object, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        """Reading the spikes of all insertions; a task holds its chunks, and the spikes of one insertion at a time."""
        n_spikes = [member.n_spikes for member in self.members]
        n_labels = len(pool_schema.POOLED) + len(shared_metrics(self.members)[0])
        working = 8 * max(n_spikes) + WORKING_BYTES
        return Cost(
            8 * sum(n_spikes),
            sum(array.nbytes for array in arrays) // 2,
            task_bytes(
                n_labels * label_bytes(arrays[0].shape[0]),
                max(region_bytes(arrays, region) for region in regions) + working + write_bytes(arrays),
            ),
        )

    def read_some(self, inputs: object) -> int:
        """No task reads all of the source."""
        return 0

    def labels(self, inputs: object) -> xr.Dataset:
        """The labels of all units, and the regions, conditions and times."""
        units = unit_labels(self.root, self.members)
        labels = region_labels(units[f"acronym_{self.recipe.level}"].values, self.recipe.level)
        n_units = labels.pop("n_units")
        for alignment in self.recipe.alignments:
            labels |= alignment_labels(alignment, self.recipe)
        return xr.Dataset({"n_units": n_units}, units | labels)

    def blocks(self, inputs: object, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        """The responses of some units. An insertion that reaches into two chunks is read for both."""
        start, stop = region[0]
        blocks = {array.name: np.empty((stop - start, *array.shape[1:]), array.dtype) for array in arrays}
        for member, place, rows in self._members_in(start, stop):
            for name, values in responses(self.root, member, rows, self.recipe).items():
                blocks[name][place] = values
        return blocks

    def check_source(self, inputs: object) -> None:
        """Every file is compared with its manifest when it is read."""

    def finish(self, folder: Path) -> Files:
        """The means over regions, from the chunks of the units, one at a time and in their order."""
        written: Files = {}
        names, numbers = regions(np.asarray(_open(folder, f"acronym_{self.recipe.level}")[:]))
        for alignment in self.recipe.alignments:
            rates, trials = _open(folder, alignment.name), _open(folder, f"{alignment.name}_n")
            sums = np.zeros((len(names), *rates.shape[1:]))
            n = np.zeros((len(names), *trials.shape[1:]), np.int32)
            for start, stop in steps(rates.shape[0], rates.chunks[0]):
                known = np.asarray(trials[start:stop]) > 0
                np.add.at(sums, numbers[start:stop], np.where(known[..., None], rates[start:stop], 0.0))
                np.add.at(n, numbers[start:stop], known)
            with np.errstate(invalid="ignore"):
                means = (sums / n[..., None]).astype(np.float32)
            written |= self._write(folder, f"{alignment.name}_region", means)
            written |= self._write(folder, f"{alignment.name}_region_n", n)
        return written

    def _write(self, folder: Path, name: str, data: NDArray[Any]) -> Files:
        array = self._array(name, len(data), len(data), data.dtype.name)
        encode.create_arrays(folder, (array,))
        return encode.write_chunks(folder, array, tuple((0, size) for size in data.shape), data)

    def _array(self, name: str, rows: int, chunk: int, dtype: str) -> ArrayPlan:
        sizes = {f"condition_{a.name}": len(a.conditions) for a in self.recipe.alignments}
        sizes |= {f"time_{a.name}": a.window.n for a in self.recipe.alignments}
        known = pool_schema.of_alignments(a.name for a in self.recipe.alignments)[name]
        rest = tuple(sizes[dim] for dim in known.dims[1:])
        return ArrayPlan(name, known.dims, (rows, *rest), dtype, (chunk, *rest), known.attrs)

    def _members_in(self, start: int, stop: int) -> Iterator[tuple[Member, slice, NDArray[np.int64]]]:
        """The insertions with units from `start` to `stop`; where these go, and which rows of theirs they are."""
        begin = 0
        for member in self.members:
            low, high = max(start, begin), min(stop, begin + len(member.rows))
            if low < high:
                yield member, slice(low - start, high - start), member.rows[low - begin : high - begin]
            begin += len(member.rows)


def _open(folder: Path, name: str) -> Any:
    return zarr.open_array(folder / name, mode="r", zarr_format=3)
