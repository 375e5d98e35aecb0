"""A store compared with its source, bit for bit: the product is made again, block by block, and nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from chunking.link import LINK, is_linked, open_linked, read_link
from chunking.made_from import MadeFrom
from chunking.manifest import Problem
from chunking.plan import ArrayPlan, Region, chunks_of, region_of
from chunking.products import Blocks, Product, steps
from chunking.provenance import attributes
from loaders.inputs import Inputs
from loaders.records import Catalog

_DIFFERS = "differs from what the source gives"


def compare_with_source(store: Path, made_from: MadeFrom, catalog: Catalog, damaged: Collection[str]) -> list[Problem]:
    """Make the product of a store again and compare every cell.

    Parameters
    ----------
    store : Path
    made_from : MadeFrom
        How it was made.
    catalog : Catalog
        The source.
    damaged : collection of str
        Files that are known to be damaged; they are left out.

    Returns
    -------
    list of Problem
        Chunks that differ; and, under ``zarr.json``, what has changed in the source since.

    Raises
    ------
    CubesError
        If the source cannot be read, or is itself damaged.
    """
    product, inputs = made_from.prepare(catalog)
    changes = made_from.changes(product, inputs)
    problems = [Problem("zarr.json", f"the source has changed since the build: {change}") for change in changes]
    product.check_source(inputs)
    arrays, regions = product.arrays(inputs)
    if not any(key.endswith("zarr.json") for key in damaged):
        attrs = {} if changes else attributes(product.origin(inputs), product.name, product.title, product.parameters)
        problems += _labels(store, product.labels(inputs), attrs, damaged)
    shown = [array for array in arrays if f"{array.name}/zarr.json" not in damaged]
    stored = {array.name: zarr.open_array(store / array.name, mode="r") for array in shown}
    other = [array for array in shown if stored[array.name].shape != array.shape]
    problems += [_other_shape(array, stored[array.name].shape) for array in other]
    same = [array for array in shown if array not in other]
    for region in regions if same else ():
        blocks = product.blocks(inputs, arrays, region)
        for array in same:
            part = region_of(array, region, arrays[0])
            problems += _chunks(stored[array.name], array, part, blocks, damaged)
    if is_linked(store) and LINK not in damaged:
        problems += _linked(store, product, inputs)
    return problems


def _other_shape(array: ArrayPlan, shape: tuple[int, ...]) -> Problem:
    return Problem(f"{array.name}/zarr.json", f"has the shape {shape}, the source gives {array.shape}")


def _chunks(
    stored: zarr.Array[Any], array: ArrayPlan, region: Region, blocks: Blocks, damaged: Collection[str]
) -> Iterator[Problem]:
    """The chunks of a region that differ."""
    block = blocks[array.name]
    for key, first in chunks_of(array, region).items():
        if key in damaged:
            continue
        offset = [i - start for i, (start, _) in zip(first, region, strict=True)]
        part = block[tuple(slice(i, i + step) for i, step in zip(offset, array.chunks, strict=True))]
        there = np.asarray(stored[tuple(slice(i, i + n) for i, n in zip(first, part.shape, strict=True))])
        if not _equal(there, part):
            yield Problem(key, f"{_DIFFERS} ({np.count_nonzero(there != part)} of {part.size} cells)")


def _labels(store: Path, labels: xr.Dataset, attrs: Mapping[str, Any], damaged: Collection[str]) -> Iterator[Problem]:
    """The labels that differ, and the attributes of the store that do."""
    with xr.open_zarr(store, chunks=None) as ds:
        for absent in sorted(map(str, set(labels.variables) - set(ds.variables))):
            yield Problem(f"{absent}/zarr.json", "missing; the source gives it")
        for name, label in labels.variables.items():
            key = "/".join([str(name), "c", *("0" for _ in label.dims)])
            if name not in ds.variables or key in damaged:
                continue
            found = ds.variables[name]
            if found.dims != label.dims or not _equal(found.values, label.values):
                yield Problem(key, _DIFFERS)
            if any(not _equal(np.asarray(found.attrs.get(k)), np.asarray(v)) for k, v in label.attrs.items()):
                yield Problem(f"{name}/zarr.json", f"its attributes are {found.attrs}, the source gives {label.attrs}")
        wrong = [attr for attr, value in attrs.items() if ds.attrs.get(attr) != value]
    for attr in wrong:
        yield Problem("zarr.json", f"its attribute {attr} {_DIFFERS}")


def _equal(a: Any, b: Any) -> bool:
    """Whether two arrays are the same, bit for bit; text by its characters."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "OTU" or b.dtype.kind in "OTU":
        return bool(a.tolist() == b.tolist())
    return a.dtype == b.dtype and bool(np.array_equal(a.reshape(-1).view(np.uint8), b.reshape(-1).view(np.uint8)))


def _linked(store: Path, product: Product, inputs: Inputs) -> Iterator[Problem]:
    """The parts of a linked recording, of about a second, that differ from the recording of the source."""
    link, voltage = read_link(store), inputs.voltage(product.name)
    linked = open_linked(store, link)
    first, end = link.window
    for start, stop in steps(end, round(voltage.meta.sampling_rate_hz), first):
        there, source = (recording.read(start, stop)[: link.n_channels] for recording in (linked, voltage.recording))
        if not _equal(there, source):
            yield Problem(LINK, _DIFFERS, None, f"time {start - first}..{stop - first - 1}")
