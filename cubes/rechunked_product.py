"""The product of a store that exists, in another layout: its cells are copied, its labels are what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product as combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from chunking.cost import Cost, label_bytes, region_bytes, task_bytes, write_bytes
from chunking.decoded import other_cells
from chunking.manifest import Files, read_manifest
from chunking.plan import ArrayPlan, Region, region_of
from chunking.products import Blocks
from chunking.provenance import Origin
from chunking.rechunk import rechunk_regions
from cubes.pinned_store import PinnedStore
from loaders.errors import InconsistentData, StoreError


@dataclass(frozen=True, eq=False)
class RechunkedProduct:
    """A `chunking.products.Product` whose source is a store; it passes over the `inputs`.

    Attributes
    ----------
    store : Path
    version : str
        Build key of the version that is copied.
    name, title, parameters
        Of the product in the new layout.
    made_of : Origin
        What the store is made of, and what the new one will be: a copy adds nothing.
    planned : tuple of ArrayPlan
        Its large arrays, in new chunks.
    old_chunks : (int, int)
        Chunks of the first array as it is.
    """

    store: Path
    version: str
    name: str
    title: str
    parameters: Mapping[str, str]
    made_of: Origin
    planned: tuple[ArrayPlan, ...]
    old_chunks: tuple[int, int]

    def origin(self, inputs: object) -> Origin:
        """That of the store."""
        return self.made_of

    def arrays(self, inputs: object) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        """The same arrays in other chunks. Where there are several, a region has all rows: the others have none."""
        first = self.planned[0]
        (rows, times), (high, wide) = first.shape, first.chunks
        itemsize = np.dtype(first.dtype).itemsize
        all_rows = len(self.planned) > 1
        return self.planned, rechunk_regions((rows, times), self.old_chunks, (high, wide), itemsize, all_rows=all_rows)

    def cost(self, inputs: object, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        """A task holds a region and, of what it reads, one old chunk: as it is stored, decoded, and filled up."""
        stored = sum(facts["bytes"] for facts in self._open().files.values() if "decoded_crc32" in facts)
        old = 3 * self.old_chunks[0] * self.old_chunks[1] * np.dtype(arrays[0].dtype).itemsize
        blocks = max((region_bytes(arrays, region) for region in regions), default=0)
        labels = label_bytes(arrays[0].shape[1])
        return Cost(stored, stored, task_bytes(labels, blocks + old, blocks + write_bytes(arrays)))

    def labels(self, inputs: object) -> xr.Dataset:
        """The labels of the store."""
        with xr.open_zarr(self._open(), chunks=None, zarr_format=3) as ds:
            labels = ds.drop_vars([array.name for array in self.planned]).load()
        return xr.Dataset(labels.data_vars, labels.coords).drop_encoding()

    def blocks(self, inputs: object, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        """The cells of a region, chunk by chunk; each is compared with the checksums of its bytes and of its cells."""
        store = self._open()
        group = zarr.open_group(store, mode="r", zarr_format=3)
        parts = {array.name: region_of(array, region, arrays[0]) for array in arrays}
        return {name: self._read(group[name], part, store.files) for name, part in parts.items()}

    def _read(self, stored: Any, region: Region, files: Files) -> NDArray[Any]:
        block = np.empty(tuple(stop - start for start, stop in region), stored.dtype)
        for index in _indices(stored.chunks, region):
            chunk = _span(index, stored.chunks, stored.shape)
            cells = np.asarray(stored[_within(chunk)])
            key = "/".join([stored.basename, "c", *map(str, index)])
            if what := other_cells(cells, stored.chunks, files[key]["decoded_crc32"]):
                raise StoreError(f"store {self.store}: {key}: {what}; run cubes repair")
            both = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(region, chunk, strict=True))
            block[_within(both, region)] = cells[_within(both, chunk)]
        return block

    def read_some(self, inputs: object) -> int:
        """No task reads all of the store."""
        return 0

    def check_source(self, inputs: object) -> None:
        """Whether the store is still the one to be copied: another build may have replaced it, and would be undone."""
        if (present := str(read_manifest(self.store)["build_key"])) != self.version:
            raise InconsistentData(
                f"store {self.store}: expected the version {self.version}, got {present}: it was replaced meanwhile; "
                "rechunk it again"
            )

    def _open(self) -> PinnedStore:
        return PinnedStore(self.store, self.version)


def _indices(chunks: tuple[int, ...], region: Region) -> Iterator[tuple[int, ...]]:
    """The chunks that a region touches."""
    return combinations(*(range(a // n, -(-b // n)) for (a, b), n in zip(region, chunks, strict=True)))


def _span(index: tuple[int, ...], chunks: tuple[int, ...], shape: tuple[int, ...]) -> Region:
    """The cells of a chunk."""
    sizes = zip(index, chunks, shape, strict=True)
    return tuple((i * step, min((i + 1) * step, size)) for i, step, size in sizes)


def _within(part: Region, whole: Region | None = None) -> tuple[slice, ...]:
    """A part of an array, or where it lies in another part."""
    begins = [0] * len(part) if whole is None else [start for start, _ in whole]
    return tuple(slice(a - begin, b - begin) for (a, b), begin in zip(part, begins, strict=True))
