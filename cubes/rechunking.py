"""Stores that exist, in another layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from chunking.build import Progress, build_one
from chunking.homes import Folder, local
from chunking.icechunk_repo import ICECHUNK
from chunking.layouts import COUNTS_LAYOUTS, LFP_LAYOUTS, VOLTAGE_LAYOUTS, layout_of, layouts_of
from chunking.link import is_linked
from chunking.made_from import MadeFrom, read_made_from
from chunking.manifest import read_manifest
from chunking.on_dask import ClusterLost
from chunking.plan import ArrayPlan, StorePlan
from chunking.planner import refuse_unknown_errors
from chunking.products import parse_product
from chunking.provenance import attributes, build_key, origin_of
from chunking.room import refuse_full_disk
from cubes.layout_sample import rate_of
from cubes.rechunked_product import RechunkedProduct
from cubes.stores import find_stores, info
from loaders.errors import BadArgument, CubesError, NotFound, PlanRefused, StoreError
from loaders.formats import FORMATS, IBL
from loaders.records import SourceFile


class Rechunked(list[Path]):
    """The stores that are in another layout now.

    Attributes
    ----------
    unchanged : list of Path
        Stores that had the layout already.
    failed : dict
        Why a store could not be copied, by its path; empty unless called with ``errors="report"``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unchanged: list[Path] = []
        self.failed: dict[str, str] = {}


def rechunk(
    path: str | Path | Iterable[str | Path],
    layout: str,
    *,
    products: Iterable[str] | None = None,
    pids: Iterable[str] | None = None,
    executor: str = "threads",
    workers: int = 2,
    progress: Callable[[Progress], None] | None = None,
    errors: str = "raise",
) -> Rechunked:
    """Copy stores into another layout: the same labels and cells in other chunks.

    It is a build whose source is the store: what it makes equals, byte for byte, what `cubes.build` with this layout
    would have made of the recording, takes the place of the old version in one step once it is verified, and readers
    keep the version that they opened until `cubes.gc` removes it. Whatever is read is compared with the checksums of
    the manifest. Interrupted or killed, the same call goes on.

    A task holds 256 MiB of cells at most, or one new chunk if that is larger, and one old and one new chunk beside it,
    however long the recording is. Where chunks of few units over hours become chunks of all units, or these those, that
    is by reading them several times: of counts at 1 ms up to 20 times, and building them again is faster.

    Parameters
    ----------
    path : path or iterable of path
        Stores of the products ``counts_<width>``, ``ap``, ``lf`` or ``lfp_<rate>hz``, or roots with many.
    layout : str
        ``balanced``, ``by-time``, and of counts ``by-unit``, of voltage ``by-channel``; `cubes.advise` tells which.
    products : iterable of str, optional
        Of a root: which products. By default all that have such a layout.
    pids : iterable of str, optional
        Of a root: which insertions; by default all.
    executor, workers, progress
        As for `cubes.build`.
    errors : {"raise", "report"}
        If a store cannot be copied: raise the error, or go on with the others and keep the reason in the result.

    Returns
    -------
    list of Path
        The stores that were copied. Its attribute ``unchanged`` lists those that had the layout already, ``failed``
        says why others could not be copied.

    Raises
    ------
    NotFound
        If there is no such store.
    PlanRefused
        If the product has no such layout, or none at all, the voltage is linked, or the memory or disk is too small.
    StoreError
        If the store is damaged, was made by another version of ibl-cubes or iblatlas, or another build holds it.
    InconsistentData
        If another build replaced the store meanwhile.
    BadArgument
        If it is a url or an icechunk repository.

    Examples
    --------
    >>> import cubes
    >>> store = f"my-cubes/insertions/{pid}/counts_20ms.zarr"
    >>> cubes.info(store)["variables"]["counts"]["chunks"]
    [250, 6000]
    >>> cubes.rechunk(store, "by-unit")[0].name
    'counts_20ms.zarr'
    >>> cubes.info(store)["variables"]["counts"]["chunks"]
    [10, 6000]
    """
    refuse_unknown_errors(errors)
    known = dict.fromkeys([*COUNTS_LAYOUTS, *VOLTAGE_LAYOUTS, *LFP_LAYOUTS])
    if layout not in known:
        raise PlanRefused(f"layout {layout!r}: does not exist; layouts that exist: {', '.join(known)}")
    paths = [path] if isinstance(path, str | Path) else list(path)
    wanted = None if products is None else list(products)
    named = None if pids is None else set(pids)
    done = Rechunked()
    how: dict[str, Any] = {"executor": executor, "workers": workers, "progress": progress}
    for store in dict.fromkeys(store for one in paths for store in _choose(one, layout, wanted, named)):
        try:
            _rechunk_store(store, layout, done, how)
        except ClusterLost:  # it would be the same for all the others, each after a minute
            raise
        except (CubesError, OSError) as error:
            if errors == "raise":
                raise
            done.failed[str(store)] = str(error)
    return done


def _choose(path: str | Path, layout: str, products: list[str] | None, pids: set[str] | None) -> list[Path]:
    """The stores that are meant by a path; raises NotFound if there are none."""
    folder = local(path, "rechunk").absolute()
    for product in products or ():
        layout_of(product, layout)
    found = [store for store in find_stores(folder) if isinstance(store, Path)]
    chosen = [
        store
        for store in found
        if store == folder
        or (
            (store.stem in products if products is not None else _has(store.stem, layout))
            and (pids is None or store.parent.name in pids)
        )
    ]
    if not chosen:
        wanted = f"the products {', '.join(products)}" if products else f"a product with the layout {layout!r}"
        of = f" and the pids {', '.join(sorted(pids))}" if pids else ""
        raise NotFound(f"root {folder}: holds no store of {wanted}{of}; cubes ls shows what there is")
    return chosen


def _has(product: str, layout: str) -> bool:
    try:
        return layout in layouts_of(product)
    except PlanRefused:
        return False


def _rechunk_store(store: Path, layout: str, done: Rechunked, how: dict[str, Any]) -> None:
    plan, product = plan_rechunk(store, layout)
    if read_manifest(store)["build_key"] == plan.build_key:
        if problems := Folder(store.parents[2]).problems(plan.path):
            raise StoreError(f"store {store}: is damaged ({problems[0].key}: {problems[0].what}); run cubes repair")
        done.unchanged.append(store)
        return
    refuse_full_disk(store.parents[2], [replace(plan, exists=False)])
    done.append(build_one(store.parents[2], plan, product, existing="replace", **how))


def plan_rechunk(store: Path, layout: str) -> tuple[StorePlan, RechunkedProduct]:
    """The plan of a store in another layout, and the product that copies it. Errors are those of `rechunk`."""
    if store.suffix == ICECHUNK:
        raise BadArgument(f"store {store}: is an icechunk repository; only Zarr stores are rechunked")
    layout_of(store.stem, layout)
    if is_linked(store):
        raise PlanRefused(
            f"store {store}: links to the recording, and its voltage lies as it does there; build a store with a copy"
        )
    (made_from, *_), manifest, facts = read_made_from(store), read_manifest(store), info(store)
    path = f"insertions/{made_from.pid}/{made_from.product}.zarr"
    if store.parents[2] / path != store:
        raise StoreError(f"store {store}: expected <root>/{path}; move it there first")
    product = _product(store, layout, made_from, manifest, facts)
    arrays, regions = product.arrays(None)
    cost = product.cost(None, arrays, regions)
    return StorePlan(
        pid=made_from.pid,
        product=made_from.product,
        path=path,
        sorter=made_from.sorter,
        revision=made_from.revision,
        arrays=arrays,
        regions=regions,
        read_bytes=cost.read_bytes,
        disk_bytes=cost.disk_bytes,
        task_bytes=cost.task_bytes,
        build_key=build_key(product.made_of, product.name, product.parameters),
        exists=True,
    ), product


def _product(
    store: Path, layout: str, made_from: MadeFrom, manifest: dict[str, Any], facts: dict[str, Any]
) -> RechunkedProduct:
    name, attrs = made_from.product, facts["attrs"]
    origin = origin_of(attrs, [SourceFile(**source) for source in manifest["sources"]])
    options = made_from.options()
    dataset = next((one for one in FORMATS if made_from.pid.startswith(f"{one}-")), IBL)  # ids of others say it
    was = parse_product(name, options, dataset)
    becomes = parse_product(name, replace(options, counts_layout=layout, voltage_layout=layout), dataset)
    said = {attr: value for attr, value in attrs.items() if attr != "coordinates"}
    if attributes(origin, name, was.title, was.parameters) != said:
        raise StoreError(
            f"store {store}: was made by another version of ibl-cubes or iblatlas ({manifest['software']}), and its "
            "copy would say that this one had made it; build it anew with cubes build --replace"
        )
    variables = facts["variables"]
    large = {key.partition("/c/")[0] for key, entry in manifest["files"].items() if "decoded_crc32" in entry}
    first = name.split("_")[0]  # also where it holds no cells
    shape, old = (tuple(variables[first][what]) for what in ("shape", "chunks"))
    chunks = layout_of(name, layout).chunks(name, shape, float(attrs.get("sampling_rate_hz") or rate_of(name)))
    cut = dict(zip(variables[first]["dims"], chunks, strict=True))
    arrays = tuple(_array(one, variables[one], cut) for one in (first, *sorted(large - {first})))
    return RechunkedProduct(
        store.absolute(), made_from.build_key, name, becomes.title, becomes.parameters, origin, arrays, old
    )


def _array(name: str, variable: dict[str, Any], chunks: dict[str, int]) -> ArrayPlan:
    dims = tuple(variable["dims"])
    shape, cut = tuple(variable["shape"]), tuple(chunks[dim] for dim in dims)
    return ArrayPlan(name, dims, shape, variable["dtype"], cut, variable["attrs"])
