"""Codecs of the stores, and the empty arrays of a new one.

Only codecs of the Zarr v3 core are used, so that any Zarr reader opens the stores. ``blosc`` alone does not notice a
flipped bit, therefore every chunk ends in a crc32c. The block size is given: the automatic one of blosc loses a third
of the compression on some inputs.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from chunking.plan import ArrayPlan

if TYPE_CHECKING:
    import xarray as xr

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
    """Write the small variables of a product and its attributes as a new Zarr v3 group, one chunk a variable."""
    encoding = {
        str(name): {
            "compressors": compressors(variable.dtype),
            "chunks": tuple(max(size, 1) for size in variable.shape),
            "_FillValue": None,
        }
        for name, variable in labels.variables.items()
    }
    # Without write_empty_chunks a column of zeros would have no file, and nothing could tell it from a lost one.
    labels.to_zarr(store, mode="w-", zarr_format=3, consolidated=False, encoding=encoding, write_empty_chunks=True)


def create_arrays(store: Path, arrays: tuple[ArrayPlan, ...]) -> None:
    """Create the large arrays of a product, empty."""
    group = zarr.open_group(store, mode="r+")
    for plan in arrays:
        dtype = np.dtype(plan.dtype)
        group.create_array(
            plan.name,
            shape=plan.shape,
            dtype=dtype,
            chunks=plan.chunks,
            compressors=compressors(dtype),
            fill_value=np.nan if dtype.kind == "f" else 0,
            dimension_names=plan.dims,
            attributes=dict(plan.attrs),
            config={"write_empty_chunks": True},
        )


def open_arrays(store: Path) -> zarr.Group:
    """Open the group of `store` so that whole chunks are written, empty or not."""
    with zarr.config.set({"array.write_empty_chunks": True}):
        return zarr.open_group(store, mode="r+")


def consolidate(store: Path) -> None:
    """Gather all metadata in the root, so that a store opens with one read."""
    with warnings.catch_warnings():
        # zarr warns that this is not yet part of the v3 specification; readers that do not know it ignore it.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        zarr.consolidate_metadata(store)
