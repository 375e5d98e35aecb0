"""pids x products -> a `Plan`. Reads and validates every sorting once, so that what cannot be built is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from chunking.plan import ArrayPlan, Options, Plan, Region, StorePlan, region_of
from chunking.products import Product, parse_product
from chunking.provenance import build_key
from chunking.room import refuse_full_disk, refuse_too_little_memory
from loaders.alf_paths import check_pid
from loaders.errors import BadArgument, CubesError, PlanRefused
from loaders.inputs import Inputs
from loaders.records import Catalog


def make_plan(
    catalog: Catalog,
    pids: Iterable[str],
    products: Iterable[str],
    root: Path,
    *,
    sorter: str | None = None,
    revision: str | None = None,
    options: Options | None = None,
    errors: str = "raise",
) -> Plan:
    """Plan one store for every pid and product. Parameters and errors are those of `cubes.plan`."""
    refuse_unknown_errors(errors)
    options = options or Options()
    products = _unique(products, "products")
    if unlinkable := sorted(set(options.link) - {"ap", "lf"}):
        raise PlanRefused(f"link: expected ap or lf, got {', '.join(unlinkable)}")
    if absent := sorted(set(options.link) - set(products)):
        raise PlanRefused(f"link: {', '.join(absent)} is not among the products {', '.join(products)}; add it to them")
    chosen = {p.name: p for p in (parse_product(name, options) for name in products)}
    if options.window_s is not None and not any(hasattr(product, "window_s") for product in chosen.values()):
        raise PlanRefused(f"window: none of the products {', '.join(products)} takes one; it is for ap, lf and lfp")
    stores: list[StorePlan] = []
    refused: dict[str, str] = {}
    for pid in _unique(pids, "pids"):
        try:
            inputs = Inputs(catalog, pid, sorter=sorter, revision=revision)
            planned = [_plan_store(root, inputs, product) for product in chosen.values()]
            refuse_too_little_memory(planned)
        except (CubesError, OSError) as error:
            if errors == "raise":
                raise
            refused[pid] = str(error)
        else:
            stores += planned
    refuse_full_disk(root, stores)
    return Plan(root, tuple(stores), options, catalog, refused)


def _plan_store(root: Path, inputs: Inputs, product: Product) -> StorePlan:
    origin = product.origin(inputs)
    arrays, regions = product.arrays(inputs)
    sites = inputs.sites_if_any
    pid = check_pid(inputs.insertion.pid)
    path = f"insertions/{pid}/{product.name}.zarr"
    return StorePlan(
        pid=pid,
        product=product.name,
        path=path,
        sorter=None if sites is None else sites.sorter,
        revision=None if sites is None else sites.revision,
        arrays=arrays,
        regions=regions,
        task_bytes=_largest_task(arrays, regions),
        build_key=build_key(origin, product.name, product.parameters),
        exists=(root / path).exists(),
    )


def _largest_task(arrays: Sequence[ArrayPlan], regions: Sequence[Region]) -> int:
    return max((sum(_region_bytes(array, region, arrays[0]) for array in arrays) for region in regions), default=0)


def _region_bytes(array: ArrayPlan, region: Region, first: ArrayPlan) -> int:
    cells = prod(stop - start for start, stop in region_of(array, region, first))
    return cells * np.dtype(array.dtype).itemsize


ERRORS = ("raise", "report")


def refuse_unknown_errors(errors: str) -> None:
    """Raise BadArgument if there is no such way to treat insertions that fail."""
    if errors not in ERRORS:
        raise BadArgument(f"errors: expected one of {', '.join(ERRORS)}, got {errors!r}")


def _unique(items: Iterable[Any], what: str) -> list[Any]:
    if isinstance(items, str):
        raise PlanRefused(f"{what}: expected a list, got the text {items!r}; write [{items!r}]")
    listed = list(items)
    if not listed:
        raise PlanRefused(f"{what}: expected at least one, got none")
    return list(dict.fromkeys(listed))
