"""How fast this machine builds: some tasks of every product of a plan, in a folder that is removed again."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from chunking import encode
from chunking.build import LABELS, StoreTask, check_store
from chunking.cost import region_bytes
from chunking.executors import Executor, open_executor
from chunking.manifest import Files, entry, store_files
from chunking.plan import Calibration, Plan, Region, Speed, StorePlan
from chunking.products import Product, parse_product
from chunking.provenance import attributes
from chunking.publish import seal
from chunking.room import nearest_folder
from loaders.inputs import Inputs

_ENOUGH_S = 1.0  # of measured tasks
_LONG_S = 10.0  # of a first round that counts, because what it warms up takes little of it
_ROUNDS = 20


def calibrate(plan: Plan, *, executor: str = "threads", workers: int = 2) -> Calibration:
    """Measure the products of a plan, each on its store of middle size. Errors are those of building it."""
    speeds, inputs = [], dict[str, Inputs]()
    with (
        open_executor(executor, workers) as execute,
        tempfile.TemporaryDirectory(prefix=".cubes-calibration-", dir=nearest_folder(plan.root)) as folder,
    ):
        examples = _examples(plan.stores)
        warming_up = min(examples, key=lambda store: store.nbytes, default=None)
        for number, store in enumerate([warming_up, *examples] if warming_up else []):
            place = Path(folder, str(number))
            place.mkdir()
            speeds.append(_measure(plan, store, place, execute, 1 if executor == "serial" else workers, inputs))
    return Calibration(executor, workers, tuple(speeds[1:]))


def _examples(stores: Sequence[StorePlan]) -> list[StorePlan]:
    """One store of each product."""
    products = dict.fromkeys(store.product for store in stores)
    sorted_stores = sorted(stores, key=lambda store: (store.nbytes, store.read_bytes))
    by_product = {product: [store for store in sorted_stores if store.product == product] for product in products}
    return [same[len(same) // 2] for same in by_product.values()]


def _measure(
    plan: Plan, store: StorePlan, place: Path, execute: Executor, workers: int, inputs: dict[str, Inputs]
) -> Speed:
    """Build parts of a store: its labels, some of its regions, and what makes it complete."""
    begin = time.perf_counter()
    if store.pid not in inputs:  # the products of an insertion share them, here as in the build
        inputs[store.pid] = Inputs(plan.catalog, store.pid, sorter=store.sorter, revision=store.revision)
    loaded = inputs[store.pid]
    product = parse_product(store.product, plan.options, loaded.insertion.dataset)
    origin = product.origin(loaded)
    folder = place / "store"
    encode.create_arrays(folder, store.arrays)
    attrs = attributes(origin, product.name, product.title, product.parameters)
    task = StoreTask(folder.absolute(), product, loaded, store.arrays, attrs)
    store_s = time.perf_counter() - begin
    read_s_per_byte = _reading(product, loaded)
    if not store.regions and read_s_per_byte:  # to read the source is all that takes time
        return Speed(store.product, store.pid, store_s, 0.0, read_s_per_byte, 0.0)
    write_s_per_byte, ratio, written = _writing(store, task, execute, workers)
    begin = time.perf_counter()
    list(execute(task, (LABELS,)))
    encode.consolidate(folder)
    check_store(folder)
    seal(folder, {key: entry(path) for key, path in store_files(folder).items() if key not in written}, folder)
    store_s += time.perf_counter() - begin
    return Speed(store.product, store.pid, store_s, write_s_per_byte, read_s_per_byte, ratio)


def _writing(store: StorePlan, task: StoreTask, execute: Executor, workers: int) -> tuple[float, float, Files]:
    """Seconds a byte of the regions, their size over that on disk, and what was written."""
    written: Files = {}
    done: set[Region] = set()
    seconds, n_bytes, n = 0.0, 0, min(workers, len(store.regions))
    for number in range(_ROUNDS if store.regions else 0):
        regions = store.regions[:: len(store.regions) // n][:n]
        begin = time.perf_counter()
        with closing(execute(task, regions)) as results:
            for _, files in results:
                seal(task.folder, files, task.folder)
                written |= files
        took, size = time.perf_counter() - begin, sum(region_bytes(store.arrays, region) for region in regions)
        seconds, n_bytes = (took, size) if number <= 1 else (seconds + took, n_bytes + size)  # the first one warms up
        done.update(regions)
        if seconds > (_ENOUGH_S if number else _LONG_S):
            break
        n = min(8 * workers, len(store.regions))
    on_disk = sum(facts["bytes"] for facts in written.values())
    size = sum(region_bytes(store.arrays, region) for region in done)
    return seconds / max(n_bytes, 1), size / on_disk if on_disk else 0.0, written


def _reading(product: Product, inputs: Inputs) -> float:
    """Seconds a byte of the task that reads the whole source; 0 if there is none."""
    begin = time.perf_counter()
    n_bytes = product.read_some(inputs)
    return (time.perf_counter() - begin) / n_bytes if n_bytes else 0.0
