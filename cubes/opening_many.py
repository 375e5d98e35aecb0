"""Opening the stores of many insertions together, each from its metadata alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import xarray as xr

from chunking.homes import Folder, Home, home_of
from chunking.link import is_linked
from chunking.schema import validate
from cubes.lazy_store import Metadata, lazy_dataset, read_metadata
from cubes.opening import IDENTITY, Chunks, chunked, linked_voltage, refuse_mixture
from cubes.pinned_store import hold
from loaders.errors import BadArgument, CubesError, InconsistentData, NotFound, StoreError
from loaders.table_filters import Sieve

ERRORS = ("raise", "skip")


def open_many(
    root: str | Path,
    pids: Iterable[str] | None = None,
    products: Iterable[str] | None = None,
    query: str | None = None,
    chunks: Chunks = None,
    *,
    errors: str = "raise",
) -> xr.DataTree:
    """Open the stores of many insertions as one lazy tree, within milliseconds a store.

    Of every store one file is read, and compared with the manifest. Data and coordinates are lazy, and no coordinate
    has an index, which would have to be read: ``ds.set_xindex("unit")`` makes one, `attach_clock` the ``time`` of
    ``ap`` and ``lf``. `open` does all that for one insertion.

    Parameters
    ----------
    root : path
        Folder of the stores, or ``s3://bucket/prefix``.
    pids : iterable of str, optional
        Probe insertions; by default all of the root.
    products : iterable of str, optional
        Such as ``["counts_20ms"]``; by default all that there are.
    query : str, optional
        An expression over ``pid, eid, probe, lab, subject, date, number`` of the insertions, such as
        ``lab == 'wittenlab' and date >= '2020-01-01'``.
    chunks : dict, "native" or None
        Chunks of the dask arrays of the data; ``"native"`` are those of the store, None means lazy arrays without dask.
    errors : {"raise", "skip"}
        Of stores that are unfinished, damaged or, where `products` names them, missing: raise one error that names
        them all, or leave them out and say why in the attribute ``skipped`` of the tree.

    Returns
    -------
    DataTree
        ``/<pid>/<product>``; the node of an insertion has its attributes.

    Raises
    ------
    NotFound
        If there is no such root or insertion, or nothing fits.
    StoreError
        If some stores cannot be opened (with ``errors="raise"``).
    BadArgument
        If `query` or `errors` cannot be used.

    Examples
    --------
    >>> import cubes
    >>> tree = cubes.open_many("my-cubes", products=["counts_20ms"], query="probe == 'probe00'")
    >>> sum(node["counts_20ms"].sizes["unit"] for node in tree.children.values())
    500
    """
    home = home_of(root)
    refuse_other_errors(errors, ERRORS)
    found, skipped = find_metadata(home, pids, products, query)
    if isinstance(home, Folder):
        hold(home.root)
    nodes: dict[str, xr.Dataset] = {}
    for pid, stores in found.items():
        try:
            nodes |= _nodes(pid, stores, chunks)
        except CubesError as error:
            skipped[pid] = error
    if errors == "raise":
        refuse_failures("stores cannot be opened", skipped)
    if not nodes:
        raise NotFound(f"root {root}: no store fits; {describe(skipped) or 'query or products leave none'}")
    attrs = {"skipped": {path: str(error) for path, error in skipped.items()}}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


def find_metadata(
    home: Home, pids: Iterable[str] | None, products: Iterable[str] | None, query: str | None
) -> tuple[dict[str, dict[str, Metadata]], dict[str, CubesError]]:
    """The metadata of the stores that are wanted, by pid and product; and of those that cannot be read, why."""
    wanted = None if products is None else _listed("products", products)
    found: dict[str, dict[str, Metadata]] = {}
    failed: dict[str, CubesError] = {}
    for pid in home.pids() if pids is None else _listed("pids", pids):
        try:
            stores = home.stores(pid)
        except (StoreError, InconsistentData) as error:
            failed[pid] = error
            continue
        for product in stores if wanted is None else wanted:
            try:
                if product not in stores:
                    raise NotFound(f"{product} is not built; {pid} has {', '.join(stores) or 'no store'}")
                found.setdefault(pid, {})[product] = read_metadata(stores[product])
            except CubesError as error:
                failed[f"{pid}/{product}"] = error
    return _chosen(found, query), failed


def _chosen(found: dict[str, dict[str, Metadata]], query: str | None) -> dict[str, dict[str, Metadata]]:
    if query is None or not found:
        return found
    import pandas as pd

    sieve = Sieve(pd.DataFrame([identity(stores) for stores in found.values()]), "insertions")
    sieve.query(query)
    return {pid: found[pid] for pid in sieve.rows["pid"]}


def identity(stores: Mapping[str, Metadata]) -> dict[str, object]:
    """Which insertion the stores are of: pid, eid, probe, lab, subject, date, number."""
    attrs = next(iter(stores.values())).attrs
    return {name: attrs[name] for name in IDENTITY}


def _nodes(pid: str, stores: Mapping[str, Metadata], chunks: Chunks) -> dict[str, xr.Dataset]:
    products = {product: _dataset(metadata, chunks) for product, metadata in stores.items()}
    refuse_mixture(pid, products)
    return {f"/{pid}": xr.Dataset(attrs=identity(stores)), **{f"/{pid}/{name}": ds for name, ds in products.items()}}


def _dataset(metadata: Metadata, chunks: Chunks) -> xr.Dataset:
    ds = lazy_dataset(metadata)
    if isinstance(metadata.path, Path) and is_linked(metadata.path):
        ds[ds.attrs["product"]] = linked_voltage(metadata.path)
    validate(ds)
    if chunks is None:
        return ds
    where = (metadata.path, metadata.build_key)
    return ds.assign({name: chunked(v.variable, chunks, *where, name) for name, v in ds.data_vars.items()})


def _listed(what: str, names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise BadArgument(f"{what}: expected a list, got the text {names!r}; write [{names!r}]")
    return list(dict.fromkeys(names))


def refuse_other_errors(errors: str, known: tuple[str, ...]) -> None:
    """Raise BadArgument if there is no such way to treat errors."""
    if errors not in known:
        raise BadArgument(f"errors: expected one of {', '.join(known)}, got {errors!r}")


def refuse_failures(what: str, failed: Mapping[str, Exception]) -> None:
    """Raise StoreError with everything that failed, if anything did."""
    if failed:
        raise StoreError(f"{len(failed)} {what}: {describe(failed)}") from next(iter(failed.values()))


def describe(failed: Mapping[str, Exception]) -> str:
    """What failed, each with its reason."""
    return "; ".join(f"{name}: {error}" for name, error in failed.items())
