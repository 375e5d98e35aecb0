"""Opening the stores of an insertion together, or those of a session."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import xarray as xr
from dask.base import tokenize

from chunking.delivered import Place
from chunking.homes import Home, home_of
from chunking.link import is_linked, open_linked, read_link
from chunking.schema import validate
from chunking.session_schema import is_long
from cubes.index import attach_clock
from cubes.pinned_store import pin
from cubes.reading_pipeline import faster_pipeline
from loaders.alf_paths import known_pids
from loaders.errors import InconsistentData, NotFound
from loaders.records import Insertion
from loaders.session_files import session_id

IDENTITY = ("pid", "eid", "probe", "lab", "subject", "date", "number")


Chunks = dict[str, int] | Literal["native"] | None


def open(root: str | Path, pid: str, *, chunks: Chunks = "native") -> xr.DataTree:
    """Open all products of one insertion and of its session, with coordinates in memory and data lazy.

    Parameters
    ----------
    root : path
        Folder of the stores, or ``s3://bucket/prefix``.
    pid : str
        Probe insertion.
    chunks : dict, "native" or None
        Chunks of the dask arrays; ``"native"`` are those of the store, None means lazy arrays without dask.

    Returns
    -------
    DataTree
        One child a product, such as ``tree["counts_20ms"]`` or ``tree["trials"]``; the root has the attributes of the
        insertion.

    Raises
    ------
    NotFound
        If there is no such root or insertion; the message lists those that exist.
    StoreError
        If a store has no manifest, or is not what its attributes promise.
    InconsistentData
        If the products come from different sortings, so that a unit of one is not the same unit of another.

    Examples
    --------
    >>> import cubes
    >>> tree = cubes.open("my-cubes", pid)
    >>> counts = tree["counts_20ms"].counts
    >>> counts.sel(unit=counts.good & (counts.acronym_cosmos == "TH")).dims
    ('unit', 'time')
    """
    home = home_of(root)
    products = {name: open_store(store, chunks) for name, store in home.stores(pid).items()}
    if not products:
        raise NotFound(f"pid {pid!r}: {root} holds no store of it")
    refuse_mixture(pid, products)
    first = next(iter(products.values()))
    attrs = {name: first.attrs[name] for name in IDENTITY}
    products |= _session_stores(home, session_id(Insertion(**attrs)), chunks)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **products}, name=pid)


def open_session(root: str | Path, session: str, *, chunks: Chunks = "native") -> xr.DataTree:
    """Open all products of one session, such as trials and wheel, with coordinates in memory and data lazy.

    Parameters
    ----------
    root : path
        Folder of the stores.
    session : str
        Its eid or, of a session without one, the name of its folder in ``<root>/sessions``.
    chunks : dict, "native" or None
        Chunks of the dask arrays of the products that are long, the wheel and tracked points; as in `open`.

    Returns
    -------
    DataTree
        One child a product, such as ``tree["trials"]``; the root has the attributes of the session.

    Raises
    ------
    NotFound
        If there is no such root or session; the message lists those that exist.
    StoreError
        If a store has no manifest, or is not what its attributes promise.

    Examples
    --------
    >>> import cubes
    >>> source = cubes.source("one", "sample")
    >>> _ = cubes.build(cubes.plan(source, [pid], ["trials"], root="behaviour"))
    >>> trials = cubes.open_session("behaviour", source.insertion(pid).eid)["trials"].to_dataset()
    >>> trials.response_times.where(trials.bwm_include).groupby("side").count().values
    array([14, 14])
    """
    home = home_of(root)
    if session not in (existing := home.sessions()):
        raise NotFound(f"session {session!r}: not in {root}, which has {known_pids(existing)}")
    products = _session_stores(home, session, chunks)
    if not products:
        raise NotFound(f"session {session!r}: {root} holds no store of it")
    first = next(iter(products.values()))
    attrs = {name: first.attrs[name] for name in IDENTITY if name not in ("pid", "probe")}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **products}, name=session)


def _session_stores(home: Home, session: str, chunks: Chunks) -> dict[str, xr.Dataset]:
    """The stores of a session; what is short is left without dask, so that one can group by it."""
    stores = home.within(f"sessions/{session}")
    return {name: open_store(store, chunks if is_long(name) else None) for name, store in stores.items()}


def refuse_mixture(pid: str, products: Mapping[str, xr.Dataset]) -> None:
    """Raise InconsistentData if the products of an insertion come from different sortings."""
    sortings = {
        name: (ds.attrs["collection"], ds.attrs["revision"])
        for name, ds in products.items()
        if "collection" in ds.attrs
    }
    if len(set(sortings.values())) > 1:
        found = "; ".join(f"{name}: {path}, revision {rev or 'none'}" for name, (path, rev) in sortings.items())
        raise InconsistentData(
            f"pid {pid}: the products come from different sortings ({found}); a unit number means another unit in "
            "each. Build them from one revision, or open a single store with xr.open_zarr"
        )


def open_store(store: Place, chunks: Chunks = "native") -> xr.Dataset:
    """Open one store, checked against the schema, with its coordinates loaded."""
    pinned = pin(store)
    with faster_pipeline() if isinstance(store, Path) else nullcontext():  # over a network it changes nothing
        ds = xr.open_zarr(pinned, chunks=None)
    if isinstance(store, Path) and is_linked(store):
        ds[ds.attrs["product"]] = linked_voltage(store)
    validate(ds)
    loaded: xr.Dataset = ds.assign_coords({name: c.variable.load() for name, c in ds.coords.items()})
    if chunks is not None:
        lazy = {name: chunked(v.variable, chunks, store, pinned.build_key, name) for name, v in ds.data_vars.items()}
        loaded = loaded.assign(lazy)
    return attach_clock(loaded) if "knot_sample" in loaded.variables else loaded


def chunked(variable: xr.Variable, chunks: Chunks, store: Place, build_key: str, name: Hashable) -> xr.Variable:
    """A lazy variable as a dask array, with the chunks of its file where `chunks` does not say.

    Its name is made of what determines it: dask would hash the array by pickling it.
    """
    wanted = dict(variable.encoding["preferred_chunks"])
    if isinstance(chunks, dict):
        wanted |= {dim: size for dim, size in chunks.items() if dim in variable.dims}
    place = str(store.absolute()) if isinstance(store, Path) else store.name
    return variable.chunk(wanted, name=f"{name}-{tokenize(place, build_key, name, wanted)}")


def linked_voltage(store: Path) -> xr.Variable:
    """The voltage of the file that a store links to."""
    from cubes.engine import voltage_variable

    link = read_link(store)
    return voltage_variable(open_linked(store, link), link.n_channels, link.attrs, link.window)
