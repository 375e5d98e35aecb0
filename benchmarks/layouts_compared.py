"""The layouts that are compared: what each serves, and writing a data set in it.

The named ones of `chunking.layouts`, and candidates beside them, sharded and not. All are written by zarr-python with
the codecs of the stores, whole shards by two threads, so that write times compare layouts and not writers.
"""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from datasets import DATASETS, Array, Dataset
from measure import size_of

from chunking.encode import compressors, consolidate, fill_value
from chunking.layouts import SPIKES_PER_CHUNK, layouts_of
from cubes.pooled_product import UNITS_PER_CHUNK

AP_HZ, LF_HZ = 30_000, 2500
WHOLE = 10**9  # clipped to the array


@dataclass(frozen=True)
class Layout:
    """One way to cut an array.

    Attributes
    ----------
    name, serves : str
    chunk : tuple of int
        Clipped to the array.
    shard : tuple of int, optional
        Whole chunks of one file; clipped to what holds the array.
    default : bool
        What a build takes when nothing is said.
    """

    name: str
    serves: str
    chunk: tuple[int, ...]
    shard: tuple[int, ...] | None = None
    default: bool = False


def _named(product: str, rate_hz: float) -> list[Layout]:
    """The layouts that a build knows by name."""
    return [
        Layout(layout.name, layout.serves, layout.chunks(product, (WHOLE, WHOLE), rate_hz), default=name == "balanced")
        for name, layout in layouts_of(product).items()
    ]


SMALL = Layout("50 x 15,000 in shards", "small chunks in few files", (50, 15_000), (1000, 60_000))

LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "counts_20ms": (
        *_named("counts_20ms", 50),
        Layout("100 x 15,000", "single units; a window lies in more files", (100, 15_000)),
        Layout("250 x 7,500", "as balanced, in twice as many files", (250, 7_500)),
        Layout("100 x 60,000", "single units, in few files", (100, 60_000)),
        SMALL,
    ),
    "counts_1ms": (
        *_named("counts_1ms", 1000),
        Layout("250 x 15,000", "as balanced, in twice as many files", (250, 15_000)),
        Layout("100 x 60,000", "single units, in as many files", (100, 60_000)),
        SMALL,
    ),
    "spikes": (
        Layout("200,000", "single units and the whole alike", (SPIKES_PER_CHUNK,), default=True),
        Layout("100,000", "single units", (100_000,)),
        Layout("500,000", "regions and the whole", (500_000,)),
        Layout("2,000,000", "the whole", (2_000_000,)),
        Layout("100,000 in shards", "single units in few files", (100_000,), (2_000_000,)),
    ),
    "ap": (
        *_named("ap", AP_HZ),
        Layout("32 x 1 s", "neighbouring channels in short windows", (32, AP_HZ)),
        Layout("384 x 0.1 s in shards", "windows of milliseconds, in few files", (384, AP_HZ // 10), (384, 8 * AP_HZ)),
        Layout("32 x 1 s in shards", "neighbouring channels, in few files", (32, AP_HZ), (384, 8 * AP_HZ)),
    ),
    "lf": (
        *_named("lf", LF_HZ),
        Layout("384 x 1 s", "as mtscomp cuts", (384, LF_HZ)),
    ),
    "lfp": (
        *_named("lfp_250hz", 250),
        Layout("96 x 15,000", "windows first", (96, 15_000)),
        Layout("32 x 15,000 in shards", "channels and windows alike, in few files", (32, 15_000), (384, 60_000)),
    ),
    "pooled": (
        Layout("1000 units", "regions and the whole", (UNITS_PER_CHUNK, WHOLE, WHOLE), default=True),
        Layout("100 units", "few units", (100, WHOLE, WHOLE)),
        Layout("1000 units x 1 condition", "one condition at a time", (1000, 1, WHOLE)),
        Layout("100 units in shards", "few units, in few files", (100, WHOLE, WHOLE), (1000, WHOLE, WHOLE)),
    ),
}  # fmt: skip
"""The layouts of every product, the default first."""


def fitted(layout: Layout, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunk and shard for an array: no larger than it, and the shard of whole chunks."""
    chunk = tuple(min(c, n) for c, n in zip(layout.chunk, shape, strict=True))
    if layout.shard is None:
        return chunk, None
    whole = zip(layout.shard, chunk, shape, strict=True)
    return chunk, tuple(-(-min(s, -(-n // c) * c) // c) * c for s, c, n in whole)


def write(name: str, layout: Layout, array: Array, folder: Path) -> dict[str, Any]:
    """Write a data set in a layout, as the only array of a store; says how long it took and what is on disk."""
    dataset, store = DATASETS[name], folder / f"{name} {layout.name}".replace(",", "").replace(" ", "_")
    said = store / "written.json"
    if said.exists():
        return dict(json.loads(said.read_text()))
    shutil.rmtree(store, ignore_errors=True)
    chunk, shard = fitted(layout, array.shape)
    target = _create(dataset, store, array.shape, chunk, shard)
    start = time.perf_counter()
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda region: _copy(array, target, region), _regions(array.shape, shard or chunk)))
    seconds = time.perf_counter() - start
    consolidate(store)
    files = [path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json"]
    facts = {"path": str(store), "write_seconds": seconds, "disk_bytes": size_of(store), "files": len(files)}
    facts |= {"chunk": chunk, "shard": shard}
    said.write_text(json.dumps(facts))
    return facts


def _create(
    dataset: Dataset, store: Path, shape: tuple[int, ...], chunk: tuple[int, ...], shard: tuple[int, ...] | None
) -> Any:
    dtype = np.dtype(dataset.dtype)
    group = zarr.open_group(store, mode="w", zarr_format=3)
    return group.create_array(
        dataset.variable, shape=shape, dtype=dtype, chunks=chunk, shards=shard, compressors=compressors(dtype),
        fill_value=fill_value(dtype), dimension_names=dataset.dims, attributes={"step_s": dataset.step_s},
        config={"write_empty_chunks": True},
    )  # fmt: skip


def _copy(array: Array, target: Any, region: tuple[slice, ...]) -> None:
    target[region] = np.ascontiguousarray(array[region])


def _regions(shape: tuple[int, ...], step: tuple[int, ...]) -> list[tuple[slice, ...]]:
    starts = (range(0, n, s) for n, s in zip(shape, step, strict=True))
    return [tuple(slice(a, min(a + s, n)) for a, s, n in zip(at, step, shape, strict=True)) for at in product(*starts)]
