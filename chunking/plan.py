"""What a build would do, as plain records that can be printed: stores, shapes, chunks, bytes, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np

from loaders.records import Catalog

Region = tuple[tuple[int, int], ...]
"""Start and stop along every dimension of an array."""


@dataclass(frozen=True, slots=True)
class ArrayPlan:
    """One large array of a store."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size without compression."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def n_chunks(self) -> int:
        """Number of its chunks."""
        return prod(ceil(size / chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))


def region_of(array: ArrayPlan, region: Region, first: ArrayPlan) -> Region:
    """The part of a region that an array has: regions run along the dimensions of the first array of a store.

    Examples
    --------
    >>> lfp = ArrayPlan("lfp", ("channel", "time"), (2, 9), "float32", (2, 9))
    >>> mask = ArrayPlan("saturated", ("time",), (9,), "bool", (9,))
    >>> region_of(mask, ((0, 2), (3, 6)), lfp)
    ((3, 6),)
    """
    return tuple(region[first.dims.index(dim)] for dim in array.dims)


@dataclass(frozen=True, slots=True)
class StorePlan:
    """One store: one product of one insertion.

    Attributes
    ----------
    pid, product : str
    path : str
        Relative to the root of the plan, with ``/``.
    arrays : tuple of ArrayPlan
        Its large arrays; labels are small and not listed.
    regions : tuple of Region
        What each task writes: whole chunks of all arrays, no chunk twice.
    task_bytes : int
        Largest uncompressed block that a task holds.
    build_key : str
        Hash of the sources and of everything else that determines the store.
    exists : bool
        Whether a store is there already.
    """

    pid: str
    product: str
    path: str
    sorter: str | None
    revision: str | None
    arrays: tuple[ArrayPlan, ...]
    regions: tuple[Region, ...]
    task_bytes: int
    build_key: str
    exists: bool

    @property
    def sorting(self) -> str:
        """Sorter and revision, in words."""
        if self.sorter is None:
            return "no spike sorting"
        return f"{self.sorter or 'no sorter name'}, revision {self.revision or 'none'}"

    @property
    def nbytes(self) -> int:
        """Size of its large arrays without compression."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def n_chunks(self) -> int:
        """Number of chunks of its large arrays."""
        return sum(array.n_chunks for array in self.arrays)


@dataclass(frozen=True, slots=True)
class Options:
    """How products are built where that is a choice.

    Attributes
    ----------
    counts_layout, voltage_layout : str
        Names of chunk shapes; see `chunking.layouts`.
    window_s : (float, float) or None
        Part of the voltage, session seconds; None for all.
    link : tuple of str
        Which of ``ap`` and ``lf`` stay in the files of the source.
    lfp_dtype : str
        ``float32`` (uV) or ``int16`` with a gain.
    """

    counts_layout: str = "balanced"
    voltage_layout: str = "balanced"
    window_s: tuple[float, float] | None = None
    link: tuple[str, ...] = ()
    lfp_dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `cubes.build` needs; print it to see what would be done.

    Attributes
    ----------
    root : Path
        Folder of the stores.
    stores : tuple of StorePlan
    options : Options
        Layouts and the window of the voltage.
    catalog : Catalog
        The source; not part of the JSON form.
    refused : mapping
        Why an insertion cannot be built, by pid; empty unless the plan was made with ``errors="report"``.
    """

    root: Path
    stores: tuple[StorePlan, ...]
    options: Options
    catalog: Catalog = field(repr=False, compare=False)
    refused: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types, with the sums that a program wants to know."""
        stores = [
            asdict(store) | {"bytes": store.nbytes, "chunks": store.n_chunks, "tasks": len(store.regions)}
            for store in self.stores
        ]
        for store in stores:
            del store["regions"]
        sums = {
            "tasks": sum(store["tasks"] for store in stores),
            "bytes": sum(store["bytes"] for store in stores),
            "task_bytes": max((store["task_bytes"] for store in stores), default=0),
        }
        refused = dict(self.refused)
        return {"root": str(self.root), "options": asdict(self.options), **sums, "refused": refused, "stores": stores}

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("product", "array", "dtype", "chunk", "chunks", "bytes")]
        for pid, stores in self._by_pid():
            rows.append((f"pid {pid}: {stores[0].sorting}",))
            for store in stores:
                product = f"  {store.product}{' (exists)' if store.exists else ''}"
                no_arrays = "linked, not copied" if store.product in self.options.link else "labels only"
                described = [_describe(array) for array in store.arrays] or [(no_arrays, "", "", "", "")]
                rows += [(product if i == 0 else "", *cells) for i, cells in enumerate(described)]
        refused = [f"pid {pid}: REFUSED: {reason}" for pid, reason in self.refused.items()]
        return "\n".join([_table(rows), *refused, self._summary()])

    def _by_pid(self) -> list[tuple[str, list[StorePlan]]]:
        return [(pid, list(stores)) for pid, stores in groupby(self.stores, key=lambda store: store.pid)]

    def _summary(self) -> str:
        tasks = sum(len(store.regions) for store in self.stores)
        chunks = sum(store.n_chunks for store in self.stores)
        size = sum(store.nbytes for store in self.stores)
        memory = max((store.task_bytes for store in self.stores), default=0)
        return (
            f"{len(self.stores)} stores in {self.root}: {tasks} tasks, {chunks} chunks, {human_bytes(size)} before "
            f"compression; a task holds up to {human_bytes(memory)}"
        )


def _describe(array: ArrayPlan) -> tuple[str, str, str, str, str]:
    sizes = ", ".join(f"{dim} {size:,}" for dim, size in zip(array.dims, array.shape, strict=True))
    chunk = " x ".join(f"{size:,}" for size in array.chunks)
    return f"{array.name} ({sizes})", array.dtype, chunk, f"{array.n_chunks:,}", human_bytes(array.nbytes)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Align the cells of a table; a row of one cell is a heading and takes part in no column."""
    cells = [row for row in rows if len(row) > 1]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def human_bytes(size: float) -> str:
    """Bytes in decimal units: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
