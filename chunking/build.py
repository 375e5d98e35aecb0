"""Runs a plan: for every store labels, arrays, one task a region, manifest, publication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, cast

from chunking import encode
from chunking.executors import Executor, open_executor
from chunking.group_commit import group_commit
from chunking.linked_product import LinkedProduct
from chunking.manifest import REMEDY, Files, read_manifest, verify_store
from chunking.plan import ArrayPlan, Plan, Region, StorePlan, region_of
from chunking.planner import refuse_unknown_errors
from chunking.products import Product, parse_product
from chunking.provenance import Origin, attributes, build_key, software
from chunking.publish import complete, publish, refuse_existing
from chunking.room import refuse_too_little_memory
from chunking.salvage import Salvage
from chunking.schema import validate
from chunking.staging import staging
from chunking.versions import finish_replacement, replace
from loaders.errors import BadArgument, CubesError, InconsistentData, StoreError
from loaders.inputs import Inputs


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a build stands: `done` of `total` tasks of one store; ``done == total`` means published.

    `nbytes` is the size of its large arrays without compression.
    """

    pid: str
    product: str
    done: int
    total: int
    nbytes: int = 0


OnProgress = Callable[[Progress], None]


class Built(list[Path]):
    """The stores that were built.

    Attributes
    ----------
    failed : dict
        Why an insertion was refused or failed, by pid; empty unless built with ``errors="report"``.
    """

    def __init__(self, failed: Mapping[str, str]) -> None:
        super().__init__()
        self.failed = dict(failed)


def run(
    plan: Plan,
    *,
    existing: str = "error",
    executor: str = "threads",
    workers: int = 2,
    progress: OnProgress | None = None,
    errors: str = "raise",
) -> Built:
    """Build every store of a plan. Parameters and errors are those of `cubes.build`."""
    refuse_unknown_errors(errors)
    if existing not in EXISTING:
        raise BadArgument(f"existing: expected one of {', '.join(EXISTING)}, got {existing!r}")
    if existing == "error":
        refuse_existing(plan.root, [store.path for store in plan.stores])
    if errors == "raise":
        for store in plan.stores:
            _refuse_unusable(plan.root / store.path, store, existing)
    if "://" not in executor:  # which has machines of its own
        refuse_too_little_memory(plan.stores, 1 if executor == "serial" else workers)
    largest = max((store.task_bytes for store in plan.stores), default=0)
    with open_executor(executor, workers, largest) as execute:
        return _build_pids(plan, existing, execute, progress or (lambda _: None), errors)


EXISTING = ("error", "skip", "replace")


def _build_pids(plan: Plan, existing: str, execute: Executor, report: OnProgress, errors: str) -> Built:
    built = Built(plan.refused)
    for pid, group in groupby(plan.stores, key=lambda store: store.pid):
        stores = list(group)
        try:
            if errors == "report":  # otherwise it was done for all of them before any work
                for store in stores:
                    _refuse_unusable(plan.root / store.path, store, existing)
            _build_stores(plan, stores, execute, report, built, replacing=existing == "replace")
        except (CubesError, OSError) as error:
            if errors == "raise":
                raise
            built.failed[pid] = str(error)
    return built


def _build_stores(
    plan: Plan,
    stores: Sequence[StorePlan],
    execute: Executor,
    report: OnProgress,
    built: list[Path],
    *,
    replacing: bool,
) -> None:
    """Build the stores of one insertion that do not exist yet."""
    todo = [store for store in stores if not _is_built(plan.root / store.path, store)]
    if not todo:
        return
    inputs = Inputs(plan.catalog, todo[0].pid, sorter=todo[0].sorter, revision=todo[0].revision)
    for store in todo:
        product = parse_product(store.product, plan.options)
        built.append(build_store(plan.root, store, product, inputs, execute, report, replacing=replacing))


def _is_built(path: Path, plan: StorePlan) -> bool:
    return path.exists() and read_manifest(path).get("build_key") == plan.build_key


def _refuse_unusable(path: Path, plan: StorePlan, existing: str) -> None:
    """Raise StoreError if a store exists that is damaged or, unless it is to be replaced, not the planned one."""
    if existing == "skip":
        _refuse_other(path, plan)
    _refuse_damaged(path, plan)


def _refuse_other(path: Path, plan: StorePlan) -> None:
    """Raise StoreError if a store exists that is not the planned one: another sorting, other files, another layout."""
    if path.exists() and not _is_built(path, plan):
        raise StoreError(
            f"store {path}: exists, but was built from other files, parameters or versions than planned now (sorter "
            f"{plan.sorter!r}, revision {plan.revision!r}); replace it, remove it or choose another root"
        )


def _refuse_damaged(path: Path, plan: StorePlan) -> None:
    """Raise StoreError if the planned store exists, but lacks files or has cut ones: it would pass for built."""
    if _is_built(path, plan) and (problems := verify_store(path, quick=True)):
        raise StoreError(f"store {path}: exists, but is damaged ({problems[0].key}: {problems[0].what}); {REMEDY}")


def build_store(
    root: Path,
    plan: StorePlan,
    product: Product,
    inputs: Inputs,
    execute: Executor,
    report: OnProgress,
    *,
    replacing: bool,
    salvage: Salvage | None = None,
) -> Path:
    """Build and publish one store; if another version of it exists, replace or refuse that.

    With a `salvage`, the store is there and damaged: its intact parts are taken over, and it is replaced.
    """
    origin = product.origin(inputs)
    if build_key(origin, product.name, product.parameters) != plan.build_key:
        raise InconsistentData(
            f"pid {plan.pid}, product {plan.product}: the source has changed since the plan; plan again"
        )
    attrs = attributes(origin, product.name, product.title, product.parameters)
    at = partial(Progress, plan.pid, plan.product, total=len(plan.regions) + 3, nbytes=plan.nbytes)
    with staging(root, plan.path, plan.build_key) as stage:
        final = root / plan.path
        if salvage is None:
            if _is_built(final, plan) or (replacing and finish_replacement(final, plan.build_key)):
                return final  # by another build since this one began, or before a crash
            if not replacing:
                _refuse_other(final, plan)
        folder = stage.store
        finished = stage.resume()
        if salvage is not None:
            finished |= salvage.adopt(stage, plan, finished)
        report(at(len(finished)))
        encode.create_arrays(folder, plan.arrays)
        task = StoreTask(folder.absolute(), product, inputs, plan.arrays, attrs)
        regions = [region for region in plan.regions if str(region) not in finished]
        sealed: Files = {key: facts for files in finished.values() for key, facts in files.items()}
        # What is mended is compared with what it was: for a few chunks, not all of a recording is read.
        source = () if salvage is not None and salvage.is_known and plan.regions else (SOURCE,)
        with (
            group_commit(stage.keep) as keep,  # where waiting for the disk holds up none of the workers
            closing(execute(task, (*source, LABELS, *regions))) as results,  # or tasks outlive an error here
        ):
            for done, (part, written) in enumerate(results, start=1 + len(finished)):
                if written:
                    keep(part, written)
                sealed |= written
                report(at(done))
        stage.sweep()
        encode.consolidate(folder)
        if isinstance(product, LinkedProduct):
            product.link(inputs, folder, final)
        check_store(folder)
        complete(folder, final, sealed, _facts(plan, product, origin))
        if salvage is not None:
            salvage.refuse_other(read_manifest(folder)["files"])
            replace(folder, final, "damaged")
        elif final.exists():
            replace(folder, final)
        else:
            publish(folder, final)
    report(at(len(plan.regions) + 3))
    return final


SOURCE, LABELS = "source", "labels"


@dataclass(frozen=True)
class StoreTask:
    """What the tasks of one store share. Called with a region, `SOURCE` or `LABELS`, it does that part."""

    folder: Path
    product: Product
    inputs: Inputs
    arrays: tuple[ArrayPlan, ...]
    attrs: Mapping[str, Any]

    def __call__(self, part: Region | str) -> tuple[str, Files]:
        """Do one part of the store; gives its name, and the chunks that it wrote with their checksums."""
        if part == SOURCE:
            self.product.check_source(self.inputs)
        elif part == LABELS:  # what zarr writes for them is sealed with the metadata, at the end
            encode.write_labels(self.folder, self.product.labels(self.inputs).assign_attrs(self.attrs))
        else:
            return str(part), self._write(cast(Region, part))
        return str(part), {}

    def _write(self, region: Region) -> Files:
        blocks = self.product.blocks(self.inputs, self.arrays, region)
        written: Files = {}
        for array in self.arrays:
            part = region_of(array, region, self.arrays[0])
            written |= encode.write_chunks(self.folder, array, part, blocks[array.name])
        return written


def check_store(folder: Path) -> None:
    """Raise an error unless a store that was written has what the contract asks for."""
    import xarray as xr

    with xr.open_zarr(folder, chunks=None) as ds:
        validate(ds)


def _facts(plan: StorePlan, product: Product, origin: Origin) -> dict[str, object]:
    return {
        "pid": plan.pid,
        "product": plan.product,
        "build_key": plan.build_key,
        "sorter": plan.sorter,
        "revision": plan.revision,
        "parameters": dict(product.parameters),
        "built": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "sources": [asdict(source) for source in origin.sources],
    }
