"""Runs a plan: for every store labels, arrays, one task a region, manifest, publication."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path

from chunking import encode
from chunking.linked_product import LinkedProduct
from chunking.manifest import read_manifest
from chunking.plan import Plan, Region, StorePlan
from chunking.products import Product, parse_product
from chunking.provenance import Origin, attributes, build_key, software
from chunking.publish import publish, refuse_existing, staged
from chunking.schema import validate
from loaders.errors import BadArgument, InconsistentData, StoreError
from loaders.inputs import Inputs


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a build stands: `done` of `total` tasks of one store; ``done == total`` means published."""

    pid: str
    product: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]


def run(plan: Plan, *, existing: str = "error", workers: int = 2, progress: OnProgress | None = None) -> list[Path]:
    """Build every store of a plan. Parameters and errors are those of `cubes.build`."""
    if existing not in ("error", "skip"):
        raise BadArgument(f"existing: expected 'error' or 'skip', got {existing!r}")
    if workers < 1:
        raise BadArgument(f"workers: expected at least 1, got {workers}")
    if existing == "error":
        refuse_existing(plan.root, [store.path for store in plan.stores])
    for store in plan.stores:
        _refuse_other(plan.root / store.path, store)
    report = progress or (lambda _: None)
    built = []
    for _, group in groupby(plan.stores, key=lambda store: store.pid):
        todo = [store for store in group if not (plan.root / store.path).exists()]
        if not todo:
            continue
        inputs = Inputs(plan.catalog, todo[0].pid, sorter=todo[0].sorter, revision=todo[0].revision)
        for store in todo:
            product = parse_product(store.product, plan.options)
            built.append(build_store(plan.root, store, product, inputs, workers, report))
    return built


def _refuse_other(path: Path, plan: StorePlan) -> None:
    """Raise StoreError if a store exists that is not the planned one: another sorting, other files, another layout."""
    if path.exists() and read_manifest(path).get("build_key") != plan.build_key:
        raise StoreError(
            f"store {path}: exists, but was built from other files, parameters or versions than planned now (sorter "
            f"{plan.sorter!r}, revision {plan.revision!r}); remove it or choose another root"
        )


def build_store(
    root: Path, plan: StorePlan, product: Product, inputs: Inputs, workers: int, report: OnProgress
) -> Path:
    """Build and publish one store."""
    origin = product.origin(inputs)
    if build_key(origin, product.name, product.parameters) != plan.build_key:
        raise InconsistentData(
            f"pid {plan.pid}, product {plan.product}: the source has changed since the plan; plan again"
        )
    attrs = attributes(origin, product.name, product.title, product.parameters)
    total = len(plan.regions) + 2
    report(Progress(plan.pid, plan.product, 0, total))
    with staged(root, plan.path) as folder:
        encode.write_labels(folder, product.labels(inputs).assign_attrs(attrs))
        encode.create_arrays(folder, plan.arrays)

        tasks: list[Callable[[], None]] = [partial(product.check_source, inputs)]
        tasks += [partial(write_region, folder, product, inputs, plan, region) for region in plan.regions]
        for done in _run_tasks(tasks, workers):
            report(Progress(plan.pid, plan.product, done, total))
        encode.consolidate(folder)
        if isinstance(product, LinkedProduct):
            product.link(inputs, folder, root / plan.path)
        _check(folder)
        publish(folder, root / plan.path, _facts(plan, origin))
    report(Progress(plan.pid, plan.product, total, total))
    return root / plan.path


def _run_tasks(tasks: Sequence[Callable[[], None]], workers: int) -> Iterator[int]:
    """Run the tasks on threads and yield how many are done; an error or Ctrl-C drops those that have not begun."""
    pool = ThreadPoolExecutor(workers)
    try:
        for done, future in enumerate(as_completed([pool.submit(task) for task in tasks]), start=1):
            future.result()
            yield done
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def write_region(store: Path, product: Product, inputs: Inputs, plan: StorePlan, region: Region) -> None:
    """One task: make the blocks of one region and write their chunks, whole."""
    blocks = product.blocks(inputs, plan.arrays, region)
    for array in plan.arrays:
        encode.write_chunks(store, array, region, blocks[array.name])


def _check(folder: Path) -> None:
    import xarray as xr

    with xr.open_zarr(folder, chunks=None) as ds:
        validate(ds)


def _facts(plan: StorePlan, origin: Origin) -> dict[str, object]:
    return {
        "pid": plan.pid,
        "product": plan.product,
        "build_key": plan.build_key,
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "sources": [asdict(source) for source in origin.sources],
    }
