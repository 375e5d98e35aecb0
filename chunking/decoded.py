"""Whether every chunk of a store decodes, through its own codecs, to the cells that the manifest has the sums of."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from chunking.encode import fill_value
from chunking.manifest import Files, Problem
from chunking.schema import validate
from loaders.checksum import crc32
from loaders.errors import StoreError


def check_decoded(store: Path, files: Files, damaged: Collection[str]) -> list[Problem]:
    """Decode a store, one chunk at a time, and compare it with the schema.

    Parameters
    ----------
    store : Path
    files : Files
        What its manifest lists.
    damaged : collection of str
        Files that are known to be damaged; they are left out.

    Returns
    -------
    list of Problem
        Empty if every chunk decodes to the cells whose sum the manifest has, and the schema holds.
    """
    problems = []
    for name in sorted({key.split("/")[0] for key in files if key.endswith("/zarr.json")}):
        if f"{name}/zarr.json" not in damaged:
            problems += _check_array(zarr.open_array(store / name, mode="r"), name, files, damaged)
    if not problems and not damaged:
        try:
            with xr.open_zarr(store, chunks=None) as ds:
                validate(ds)
        except (StoreError, ValueError, KeyError) as error:
            problems.append(Problem("zarr.json", str(error)))
    return problems


def _check_array(array: zarr.Array[Any], name: str, files: Files, damaged: Collection[str]) -> list[Problem]:
    problems = []
    for index in np.ndindex(array.cdata_shape):
        key = "/".join([name, "c", *map(str, index)])
        if key in files and key not in damaged and (what := _differs(array, index, files[key].get("decoded_crc32"))):
            problems.append(Problem(key, what, (0, files[key]["bytes"])))
    return problems


def _differs(array: zarr.Array[Any], index: tuple[int, ...], expected: str | None) -> str:
    """What is wrong with one chunk; empty if it is as written. The labels have no sum of their cells."""
    part = tuple(slice(i * step, (i + 1) * step) for i, step in zip(index, array.chunks, strict=True))
    try:
        cells = np.asarray(array[part])
    except Exception as error:  # whatever a codec raises
        return f"does not decode ({error})"
    return "" if expected is None else other_cells(cells, array.chunks, expected)


def other_cells(cells: NDArray[Any], chunks: tuple[int, ...], expected: str) -> str:
    """How the cells of a chunk differ from those of a checksum; empty if they do not."""
    if cells.shape != chunks:  # at the end of the array, beyond which a chunk has the fill value
        chunk = np.full(chunks, fill_value(cells.dtype), cells.dtype)
        chunk[tuple(slice(size) for size in cells.shape)] = cells
        cells = chunk
    value = crc32(np.ascontiguousarray(cells))
    return "" if value == expected else f"decodes to cells of crc32 {value}, expected {expected}"
