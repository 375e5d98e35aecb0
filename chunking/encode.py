"""Codecs of the stores, and the empty arrays of a new one.

Only codecs of the Zarr v3 core are used, so that any Zarr reader opens the stores. ``blosc`` alone does not notice a
flipped bit, therefore every chunk ends in a crc32c. The block size is given: the automatic one of blosc loses a third
of the compression on some inputs.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from chunking.manifest import Files, store_files
from chunking.plan import ArrayPlan, Region, chunks_of
from loaders.checksum import crc32

if TYPE_CHECKING:
    import xarray as xr

PARTIAL = ".partial"  # of files that are being written; zarr gives its own the same ending
_BLOCK_BYTES = 1 << 20


def compressors(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Lossless compression and checksum for one dtype.

    Integers are small and shuffled by bits; floats by bytes (a time axis of an hour is then ten times smaller); text
    is not shuffled.
    """
    if dtype.kind in "OTU":
        return (ZstdCodec(level=3), Crc32cCodec())
    shuffle: Literal["shuffle", "bitshuffle"] = "shuffle" if dtype.kind == "f" else "bitshuffle"
    blosc = BloscCodec(typesize=dtype.itemsize, cname="zstd", clevel=1, shuffle=shuffle, blocksize=_BLOCK_BYTES)
    return (blosc, Crc32cCodec())


def write_labels(store: Path, labels: xr.Dataset) -> None:
    """Write the small variables of a product and its attributes into its group, one chunk a variable.

    Beside the store, and then moved file by file: a worker may have died while it did the same.
    """
    encoding = {
        str(name): {
            "compressors": compressors(variable.dtype),
            "chunks": tuple(max(size, 1) for size in variable.shape),
            "_FillValue": None,
        }
        for name, variable in labels.variables.items()
    }
    # Without write_empty_chunks a column of zeros would have no file, and nothing could tell it from a lost one.
    options: dict[str, Any] = {"zarr_format": 3, "consolidated": False, "write_empty_chunks": True}
    partial = store.with_name(f"{uuid.uuid4().hex}{PARTIAL}")
    labels.to_zarr(partial, mode="w", encoding=encoding, **options)
    for key, path in store_files(partial).items():
        (store / key).parent.mkdir(parents=True, exist_ok=True)
        path.replace(store / key)
    shutil.rmtree(partial)


def create_arrays(store: Path, arrays: tuple[ArrayPlan, ...]) -> None:
    """Create the large arrays of a product, empty, and its group if there is none yet."""
    group = zarr.open_group(store, mode="a", zarr_format=3)
    for plan in arrays:
        dtype = np.dtype(plan.dtype)
        group.create_array(
            plan.name,
            shape=plan.shape,
            dtype=dtype,
            chunks=plan.chunks,
            compressors=compressors(dtype),
            fill_value=fill_value(dtype),
            dimension_names=plan.dims,
            attributes=dict(plan.attrs),
        )


def write_chunks(store: Path, plan: ArrayPlan, region: Region, block: NDArray[Any]) -> Files:
    """Write one region of an array, whole chunks, as the metadata of the array say.

    The bytes are those that zarr-python writes (a test compares them). It is done here because the calls from thread
    to thread of its pipeline cost as much as compressing a chunk of counts: two threads write twice as fast this way.

    Parameters
    ----------
    store : Path
    plan : ArrayPlan
        Created by `create_arrays`.
    region : Region
        Begins and ends at borders of chunks, or at the end of the array.
    block : array
        Data of the region.

    Returns
    -------
    Files
        What was written: sizes and checksums of the bytes in memory, and of the cells that they hold.
    """
    written = {}
    for key, chunk in chunks_of(plan, region).items():
        offset = tuple(first - start for first, (start, _) in zip(chunk, region, strict=True))
        cells = block[tuple(slice(begin, begin + step) for begin, step in zip(offset, plan.chunks, strict=True))]
        written[key] = _write(store, key, _padded(cells, plan))
    return written


def _padded(cells: NDArray[Any], plan: ArrayPlan) -> NDArray[Any]:
    """The cells as a whole chunk; what lies beyond the end of the array has the fill value."""
    if cells.shape == plan.chunks:
        return np.ascontiguousarray(cells)
    chunk = np.full(plan.chunks, fill_value(cells.dtype), cells.dtype)
    chunk[tuple(slice(size) for size in cells.shape)] = cells
    return chunk


def _write(store: Path, key: str, chunk: NDArray[Any]) -> dict[str, Any]:
    """Write one chunk beside the store, and rename it: a worker that was given up for dead may write it again."""
    shuffle = numcodecs.Blosc.SHUFFLE if chunk.dtype.kind == "f" else numcodecs.Blosc.BITSHUFFLE
    stored: bytes = numcodecs.Blosc("zstd", clevel=1, shuffle=shuffle, blocksize=_BLOCK_BYTES).encode(chunk)
    end = int(google_crc32c.value(stored)).to_bytes(4, "little")
    partial, path = store.with_name(f"{uuid.uuid4().hex}{PARTIAL}"), store / key
    with partial.open("wb") as file:  # not joined before: megabytes would be copied
        file.write(stored)
        file.write(end)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)
    return {"bytes": len(stored) + len(end), "crc32": crc32(end, crc32(stored)), "decoded_crc32": crc32(chunk)}


def fill_value(dtype: np.dtype[Any]) -> float:
    """NaN for floats, else 0."""
    return np.nan if dtype.kind == "f" else 0


def consolidate(store: Path) -> None:
    """Gather all metadata in the root, so that a store opens with one read.

    What `zarr.consolidate_metadata` writes, byte for byte. That warns (other readers ignore what is gathered), and
    warnings cannot be silenced in one thread alone: several stores are in the making at once.
    """
    path = store / "zarr.json"
    root = json.loads(path.read_text())
    members = {member.parent.name: json.loads(member.read_text()) for member in sorted(store.glob("*/zarr.json"))}
    gathered = {"kind": "inline", "must_understand": False, "metadata": members}
    order = {name: root[name] for name in ("attributes", "zarr_format")}
    text = json.dumps(order | {"consolidated_metadata": gathered, "node_type": root["node_type"]}, indent=2)
    path.write_text(text)
