"""A store as a dataset from its metadata alone: one small file is read; arrays are opened when values are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core.indexing import ExplicitIndexer, IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from chunking.delivered import Place, get_checked
from chunking.manifest import read_entry
from cubes.delivered_store import DeliveredStore
from cubes.pinned_store import PinnedStore
from loaders.checksum import crc32
from loaders.errors import StoreError

_ROOT = "zarr.json"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a store says of itself.

    Attributes
    ----------
    path : Path or Delivered
    build_key : str
        Which version of it.
    attrs : mapping
        Attributes of the store.
    arrays : mapping
        The metadata of every array, as Zarr has it.
    """

    path: Place
    build_key: str
    attrs: Mapping[str, Any]
    arrays: Mapping[str, Any]


def read_metadata(store: Place) -> Metadata:
    """Read the consolidated metadata of a store, and compare them with its manifest.

    Raises
    ------
    StoreError
        If the store has no manifest, or its metadata are not those of the manifest.
    """
    if not isinstance(store, Path):
        return _metadata(store, get_checked(store, _ROOT) or b"{}")
    for _ in range(2):  # once more, because a replacement may have come in between
        expected = read_entry(store, _ROOT)
        try:
            data = (store / _ROOT).read_bytes()
        except OSError as error:
            raise StoreError(f"store {store}: its {_ROOT} cannot be read ({error}); build the store again") from error
        if (crc := crc32(data)) == expected["crc32"]:
            return _metadata(store.absolute(), data)
    raise StoreError(
        f"store {store}: {_ROOT}: expected crc32 {expected['crc32']} and {expected['bytes']} bytes, got crc32 {crc}, "
        f"{len(data)} bytes; it is damaged: run cubes verify"
    )


def _metadata(store: Place, data: bytes) -> Metadata:
    root = json.loads(data)
    attrs, arrays = root["attributes"], root["consolidated_metadata"]["metadata"]
    return Metadata(store, attrs["build_key"], attrs, arrays)


def lazy_dataset(metadata: Metadata) -> xr.Dataset:
    """The dataset of a store: what `xr.open_zarr` gives, but no index, and nothing is read by now."""
    variables = {name: _variable(metadata, name) for name in metadata.arrays}
    listed = str(metadata.attrs.get("coordinates", "")).split()
    named = {name for name in variables if name in listed or variables[name].dims == (name,)}
    coords = xr.Coordinates({name: variables[name] for name in variables if name in named}, indexes={})
    data = {name: variable for name, variable in variables.items() if name not in named}
    return xr.Dataset(data, coords, {k: v for k, v in metadata.attrs.items() if k != "coordinates"})


def _variable(metadata: Metadata, name: str) -> xr.Variable:
    array = metadata.arrays[name]
    dims, chunks = array["dimension_names"], array["chunk_grid"]["configuration"]["chunk_shape"]
    attrs = {k: v for k, v in array["attributes"].items() if k != "coordinates"}
    data = LazilyIndexedArray(StoreArray(metadata.path, metadata.build_key, name, array))
    return xr.Variable(dims, data, attrs, {"preferred_chunks": dict(zip(dims, chunks, strict=True))})


class StoreArray(BackendArray):
    """One array of one version of a store, as xarray reads it: opened when values are first asked for. Picklable."""

    def __init__(self, store: Place, build_key: str, name: str, metadata: dict[str, Any]) -> None:
        self.store, self.build_key, self.name, self.metadata = store, build_key, name, metadata
        self.shape = tuple(metadata["shape"])
        text = metadata["data_type"] == "string"
        self.dtype = np.dtypes.StringDType() if text else np.dtype(metadata["data_type"])

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        """The values at a key of xarray."""
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> Any:
        store = PinnedStore(self.store, self.build_key) if isinstance(self.store, Path) else DeliveredStore(self.store)
        place = StorePath(store, self.name)
        array = zarr.Array(zarr.AsyncArray(ArrayV3Metadata.from_dict(self.metadata), place))
        return np.asarray(array.oindex[key], self.dtype)
