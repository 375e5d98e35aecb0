"""What a build would do, as plain records that can be printed: stores, shapes, chunks, bytes, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from itertools import product as combinations
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.records import Catalog

if TYPE_CHECKING:
    from chunking.homes import Home

PLAN_VERSION = 2
"""Of the JSON form."""

PLACES = ("insertions/*", "sessions/*", "pooled")
"""Folders of a root: what belongs to a probe insertion, to a session, and what is made of many insertions."""

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

    Of a dimension that the first array does not have, it is all.

    Examples
    --------
    >>> lfp = ArrayPlan("lfp", ("channel", "time"), (2, 9), "float32", (2, 9))
    >>> mask = ArrayPlan("saturated", ("time",), (9,), "bool", (9,))
    >>> region_of(mask, ((0, 2), (3, 6)), lfp)
    ((3, 6),)
    """
    return tuple(
        region[first.dims.index(dim)] if dim in first.dims else (0, size)
        for dim, size in zip(array.dims, array.shape, strict=True)
    )


def chunks_of(array: ArrayPlan, region: Region) -> dict[str, tuple[int, ...]]:
    """The chunks of a region: the first cell of each, by its path within the store.

    Examples
    --------
    >>> counts = ArrayPlan("counts", ("unit", "time"), (4, 9), "uint8", (2, 5))
    >>> chunks_of(counts, ((0, 4), (5, 9)))
    {'counts/c/0/1': (0, 5), 'counts/c/1/1': (2, 5)}
    """
    firsts = combinations(*(range(start, stop, step) for (start, stop), step in zip(region, array.chunks, strict=True)))
    return {
        "/".join([array.name, "c", *(str(i // step) for i, step in zip(first, array.chunks, strict=True))]): first
        for first in firsts
    }


@dataclass(frozen=True, slots=True)
class StorePlan:
    """One store: one product of one insertion, or of its session.

    Attributes
    ----------
    pid, product : str
    path : str
        Relative to the root of the plan, with ``/``.
    arrays : tuple of ArrayPlan
        Its large arrays; labels are small and not listed.
    regions : tuple of Region
        What each task writes: whole chunks of all arrays, no chunk twice.
    read_bytes : int
        Size of the source files that it is made of; of voltage, the part within the window.
    disk_bytes : int
        Expected size of its large arrays on disk.
    task_bytes : int
        The most that one task holds; see `chunking.cost`.
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
    read_bytes: int
    disk_bytes: int
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
    tracker : str
        Whose points ``pose_<camera>`` holds: ``lightningPose``, ``dlc``, or ``best``, the first of these that exists.
    """

    counts_layout: str = "balanced"
    voltage_layout: str = "balanced"
    window_s: tuple[float, float] | None = None
    link: tuple[str, ...] = ()
    lfp_dtype: str = "float32"
    tracker: str = "best"


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast this machine builds one product; measured by `Plan.calibrate` on one of its stores.

    Attributes
    ----------
    product, pid : str
        What was measured.
    store_s : float
        Seconds that a store takes whatever its size: its inputs, its labels, its publication.
    write_s_per_byte : float
        Seconds a byte of its arrays before compression, all workers together.
    read_s_per_byte : float
        Seconds a byte of its sources where one task has to read all of them.
    ratio : float
        Size of its arrays without compression over that on disk; 0 if it has none.
    """

    product: str
    pid: str
    store_s: float
    write_s_per_byte: float
    read_s_per_byte: float
    ratio: float

    def seconds(self, store: StorePlan) -> float:
        """Expected time to build a store of this product."""
        reading = store.read_bytes * self.read_s_per_byte  # goes on beside the other tasks
        return self.store_s + max(store.nbytes * self.write_s_per_byte, reading)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The speeds of all products of a plan, with which executor and how many workers."""

    executor: str
    workers: int
    speeds: tuple[Speed, ...]

    def of(self, store: StorePlan) -> Speed:
        """The speed of the product of a store."""
        return next(speed for speed in self.speeds if speed.product == store.product)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `cubes.build` needs; print it to see what would be done.

    Attributes
    ----------
    root : Path
        Folder in which the stores are made.
    home : Home
        Where they are published: that folder, or another home.
    stores : tuple of StorePlan
    options : Options
        Layouts and the window of the voltage.
    catalog : Catalog
        The source; not part of the JSON form.
    refused : mapping
        Why an insertion cannot be built, by pid; empty unless the plan was made with ``errors="report"``.
    calibration : Calibration or None
        How fast this machine is at it; from `calibrate`.
    """

    root: Path
    home: Home
    stores: tuple[StorePlan, ...]
    options: Options
    catalog: Catalog = field(repr=False, compare=False)
    refused: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None

    def calibrate(self, *, executor: str = "threads", workers: int = 2) -> Plan:
        """The plan with expected times: some tasks of every product are run, in a folder that is removed again.

        Takes some seconds a product; for destriping, as long as a task.

        Parameters
        ----------
        executor, workers
            Those that the build will have; see `cubes.build`.

        Examples
        --------
        >>> import cubes
        >>> plan = cubes.plan(cubes.source("one", "sample"), [pid], ["channels"], root="new-cubes")
        >>> print(plan.calibrate())
        product ...
        about ... with 2 workers (threads), from some tasks ... that were run here on b1dfe7c5-...
        """
        from chunking.calibration import calibrate  # which imports the build, and that this module

        return replace(self, calibration=calibrate(self, executor=executor, workers=workers))

    @classmethod
    def from_json(
        cls, text: str, source: Catalog, root: str | Path | None = None, *, scratch: str | Path | None = None
    ) -> Plan:
        """The same plan again, on this machine and with its source: see `chunking.planner.plan_again`.

        Parameters
        ----------
        text : str
            What ``json.dumps(plan.to_dict())`` or ``cubes plan --json`` gave.
        source : Catalog
            Has to hold the same files.
        root : path, optional
            Another folder or url for the stores.
        scratch : path, optional
            As for `cubes.plan`.

        Raises
        ------
        BadArgument
            If the text is no plan, or one of another version.
        InconsistentData
            If files, parameters or versions are not those of the plan.

        Examples
        --------
        >>> import cubes, json
        >>> source = cubes.source("one", "sample")
        >>> plan = cubes.plan(source, [pid], ["channels"], root="new-cubes")
        >>> Plan.from_json(json.dumps(plan.to_dict()), source) == plan
        True
        """
        from chunking.planner import plan_again

        return plan_again(text, source, root, scratch)

    @property
    def todo(self) -> tuple[StorePlan, ...]:
        """The stores that do not exist yet."""
        return tuple(store for store in self.stores if not store.exists)

    @property
    def expected_s(self) -> float | None:
        """Expected time to build the stores that do not exist yet; None without calibration."""
        if self.calibration is None:
            return None
        return sum(self.calibration.of(store).seconds(store) for store in self.todo)

    def disk_bytes(self, store: StorePlan) -> int:
        """Expected size of the arrays of a store on disk: as measured, or else by the ratio of its product."""
        ratio = 0.0 if self.calibration is None else self.calibration.of(store).ratio
        return round(store.nbytes / ratio) if ratio else store.disk_bytes

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain JSON types, with the sums that a program wants to know. All sizes are bytes."""
        stores = [self._store_dict(store) for store in self.stores]
        sums = {key: sum(store[key] for store in stores) for key in ("tasks", "read_bytes", "bytes", "disk_bytes")}
        return {
            "plan_version": PLAN_VERSION,
            "root": str(self.home),
            "store": self.home.store,
            "options": asdict(self.options),
            **sums,
            "task_bytes": max((store["task_bytes"] for store in stores), default=0),
            "expected_s": self.expected_s,
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "refused": dict(self.refused),
            "stores": stores,
        }

    def _store_dict(self, store: StorePlan) -> dict[str, Any]:
        known = {name: value for name, value in asdict(replace(store, regions=())).items() if name != "regions"}
        return known | {
            "bytes": store.nbytes,
            "disk_bytes": self.disk_bytes(store),
            "chunks": store.n_chunks,
            "tasks": len(store.regions),
            "task_shape": [stop - start for start, stop in store.regions[0]] if store.regions else [],
            "expected_s": None if self.calibration is None else self.calibration.of(store).seconds(store),
        }

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
        read, size = (sum(getattr(store, name) for store in self.stores) for name in ("read_bytes", "nbytes"))
        disk = sum(self.disk_bytes(store) for store in self.stores)
        memory = max((store.task_bytes for store in self.stores), default=0)
        lines = [
            f"{len(self.stores)} stores in {self.home}: {tasks} tasks, {chunks} chunks",
            f"{human_bytes(read)} to read; {human_bytes(size)} before compression, about {human_bytes(disk)} on disk; "
            f"a task holds up to {human_bytes(memory)}",
        ]
        return "\n".join([*lines, *self._expected()])

    def _expected(self) -> list[str]:
        """What the expected time is, and what it was measured on."""
        if self.calibration is None or self.expected_s is None:
            return []
        measured = ", ".join(sorted({speed.pid for speed in self.calibration.speeds}))
        exist = len(self.stores) - len(self.todo)
        without = f"; {exist} exist already and take none of it" if exist else ""
        return [
            f"about {human_seconds(self.expected_s)} with {self.calibration.workers} workers "
            f"({self.calibration.executor}), from some tasks of every product that were run here on {measured}{without}"
        ]


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


def human_seconds(seconds: float) -> str:
    """A time as one says it.

    Examples
    --------
    >>> human_seconds(4.2), human_seconds(200), human_seconds(30_000)
    ('4 s', '3 min', '8.3 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
