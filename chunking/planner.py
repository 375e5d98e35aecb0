"""pids x products -> a `Plan`. Reads and validates every sorting once, so that what cannot be built is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from chunking.plan import ArrayPlan, Plan, Region, StorePlan
from chunking.products import Product, parse_product
from chunking.provenance import build_key
from loaders.alf_paths import check_pid
from loaders.errors import PlanRefused
from loaders.records import Catalog, Sorting
from loaders.sorting import load_sorting


def make_plan(
    catalog: Catalog,
    pids: Iterable[str],
    products: Iterable[str],
    root: Path,
    *,
    sorter: str | None = None,
    revision: str | None = None,
    counts_layout: str = "balanced",
) -> Plan:
    """Plan one store for every pid and product. Parameters and errors are those of `cubes.plan`."""
    names = _unique(products, "products")
    chosen = {product.name: product for product in (parse_product(name, counts_layout) for name in names)}
    stores = []
    for pid in _unique(pids, "pids"):
        sorting = load_sorting(catalog, pid, sorter=sorter, revision=revision)
        stores += [_plan_store(root, sorting, product) for product in chosen.values()]
    return Plan(root, tuple(stores), counts_layout, catalog)


def _plan_store(root: Path, sorting: Sorting, product: Product) -> StorePlan:
    arrays, regions = product.arrays(sorting)
    pid = check_pid(sorting.insertion.pid)
    path = f"insertions/{pid}/{product.name}.zarr"
    return StorePlan(
        pid=pid,
        product=product.name,
        path=path,
        sorter=sorting.sorter,
        revision=sorting.revision,
        arrays=arrays,
        regions=regions,
        task_bytes=_largest_task(arrays, regions),
        build_key=build_key(sorting, product.name, product.parameters),
        exists=(root / path).exists(),
    )


def _largest_task(arrays: Sequence[ArrayPlan], regions: Sequence[Region]) -> int:
    cells = max((prod(stop - start for start, stop in region) for region in regions), default=0)
    return cells * sum(np.dtype(array.dtype).itemsize for array in arrays)


def _unique(items: Iterable[Any], what: str) -> list[Any]:
    if isinstance(items, str):
        raise PlanRefused(f"{what}: expected a list, got the text {items!r}; write [{items!r}]")
    listed = list(items)
    if not listed:
        raise PlanRefused(f"{what}: expected at least one, got none")
    return list(dict.fromkeys(listed))
