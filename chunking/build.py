"""Runs a plan: for every store labels, arrays, one task a region, manifest, publication."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from dataclasses import replace as changed
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, cast

from chunking import encode
from chunking.at_once import map_at_once
from chunking.executors import Executor, open_executor
from chunking.group_commit import group_commit
from chunking.homes import Folder, Home
from chunking.linked_product import LinkedProduct
from chunking.manifest import REMEDY, Files, read_manifest
from chunking.on_dask import ClusterLost
from chunking.plan import ArrayPlan, Plan, Region, StorePlan, region_of
from chunking.planner import refuse_unknown_errors
from chunking.products import Finishing, Product, parse_product
from chunking.provenance import Origin, attributes, build_key, software
from chunking.publish import complete, refuse_existing, seal
from chunking.room import refuse_too_little_memory
from chunking.salvage import Salvage
from chunking.schema import validate
from chunking.staging import Held, staging
from chunking.versions import replace
from loaders.errors import BadArgument, CubesError, InconsistentData, StoreError
from loaders.inputs import Inputs, RecordedSession


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


class Built(list[Path | str]):
    """The stores that were built: paths, or urls.

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
        refuse_existing(plan.home, [store.path for store in plan.stores])
    if errors == "raise":
        for store in plan.stores:
            _refuse_unusable(plan.home, store, existing)
    if "://" not in executor:  # which has machines of its own
        refuse_too_little_memory(plan.stores, 1 if executor == "serial" else workers)
    largest = max((store.task_bytes for store in plan.stores), default=0)
    with open_executor(executor, workers, largest) as execute:
        work = Work(plan, existing, execute, _one_at_a_time(progress or (lambda _: None)), errors)
        return _build_pids(work, at_once=1 if executor == "serial" else _AT_ONCE)


EXISTING = ("error", "skip", "replace")
_AT_ONCE = 8  # insertions in the making: beside the tasks a store waits mostly for the disk
_AT_ONCE_BYTES = 500_000_000  # of their arrays; insertions of more than this are built one after another


def _one_at_a_time(report: OnProgress) -> OnProgress:
    lock = Lock()

    def locked(event: Progress) -> None:
        with lock:
            report(event)

    return locked


@dataclass(frozen=True)
class Work:
    """What the insertions of a build share."""

    plan: Plan
    existing: str
    execute: Executor
    report: OnProgress
    errors: str
    wait: bool = False  # for other builds that hold a store
    asking: Lock = field(default_factory=Lock)  # catalogs are not made to be asked by several threads


@dataclass
class Outcome:
    """What became of one insertion."""

    built: list[Path | str] = field(default_factory=list)
    failed: str = ""
    held: bool = False


def _build_pids(work: Work, at_once: int) -> Built:
    groups = [list(stores) for _, stores in groupby(work.plan.stores, key=lambda store: store.pid)]
    results = map_at_once(
        partial(_build_pid, work),
        groups,
        [sum(store.nbytes for store in stores) for stores in groups],
        most=at_once,
        most_bytes=_AT_ONCE_BYTES,
        stop=work.execute.stop,
    )
    built = Built(work.plan.refused)
    for stores, outcome in zip(groups, results, strict=True):
        built += outcome.built
        if outcome.held:  # all others are done by now
            outcome = _build_pid(changed(work, wait=True), stores)
            built += outcome.built
        if outcome.failed:
            built.failed[stores[0].pid] = outcome.failed
    return built


def _build_pid(work: Work, stores: Sequence[StorePlan]) -> Outcome:
    """Build the stores of one insertion that do not exist yet."""
    outcome = Outcome()
    try:
        if work.errors == "report":  # otherwise it was done for all of them before any work
            for store in stores:
                _refuse_unusable(work.plan.home, store, work.existing)
        _build_stores(work, stores, outcome.built)
    except ClusterLost:  # it would be the same for all the others, each after a minute
        raise
    except (CubesError, OSError) as error:
        if isinstance(error, Held) and work.existing == "skip":
            outcome.held = True
        elif work.errors == "raise":
            raise
        else:
            outcome.failed = str(error)
    return outcome


def _build_stores(work: Work, stores: Sequence[StorePlan], built: list[Path | str]) -> None:
    plan = work.plan
    todo = [store for store in stores if not _is_built(plan.home, store)]
    if not todo:
        return
    with work.asking:
        session = RecordedSession.of(plan.catalog, todo[0].pid)
    inputs = Inputs(session, todo[0].pid, sorter=todo[0].sorter, revision=todo[0].revision)
    how: Any = {"replacing": work.existing == "replace", "wait": work.wait, "home": plan.home}
    for store in todo:
        product = parse_product(store.product, plan.options, inputs.insertion.dataset)
        path = build_store(plan.root, store, product, inputs, work.execute, work.report, **how)
        built += [path] if path else []


def _is_built(home: Home, plan: StorePlan) -> bool:
    return home.present(plan.path) == plan.build_key


def _refuse_unusable(home: Home, plan: StorePlan, existing: str) -> None:
    """Raise StoreError if a store exists that is damaged or, unless it is to be replaced, not the planned one."""
    if existing == "skip":
        _refuse_other(home, plan)
    _refuse_damaged(home, plan)


def _refuse_other(home: Home, plan: StorePlan) -> None:
    """Raise StoreError if a store exists that is not the planned one: another sorting, other files, another layout."""
    if home.exists(plan.path) and not _is_built(home, plan):
        sorting = f" (sorter {plan.sorter!r}, revision {plan.revision!r})" if plan.sorter else ""
        raise StoreError(
            f"store {home.where(plan.path)}: exists, but was built from other files, parameters or versions than "
            f"planned now{sorting}; replace it, remove it or choose another root"
        )


def _refuse_damaged(home: Home, plan: StorePlan) -> None:
    """Raise StoreError if the planned store exists, but lacks files or has cut ones: it would pass for built."""
    if _is_built(home, plan) and (problems := home.problems(plan.path)):
        remedy = REMEDY if isinstance(home, Folder) and home.store == "zarr" else "remove it and build it again"
        raise StoreError(
            f"store {home.where(plan.path)}: exists, but is damaged ({problems[0].key}: {problems[0].what}); {remedy}"
        )


def build_store(
    root: Path,
    plan: StorePlan,
    product: Product,
    inputs: Any,
    execute: Executor,
    report: OnProgress,
    *,
    replacing: bool,
    wait: bool = False,
    salvage: Salvage | None = None,
    home: Home | None = None,
) -> Path | str | None:
    """Build one store in `root` and publish it there, or in another home; replace or refuse another version of it.

    None if another build did it since this one began; `wait` says to wait for such a build. With a `salvage`, the store
    is there and damaged: its intact parts are taken over, and it is replaced. `inputs` are what the product reads: the
    `Inputs` of an insertion, or anything else that it knows.
    """
    home = home or Folder(root)
    origin = product.origin(inputs)
    if build_key(origin, product.name, product.parameters) != plan.build_key:
        raise InconsistentData(
            f"pid {plan.pid}, product {plan.product}: the source has changed since the plan; plan again"
        )
    attrs = attributes(origin, product.name, product.title, product.parameters)
    at = partial(Progress, plan.pid, plan.product, total=len(plan.regions) + 3, nbytes=plan.nbytes)
    with staging(root, plan.path, plan.build_key, wait=wait) as stage:
        final = root / plan.path
        if salvage is None:
            if _is_built(home, plan):
                return None
            if home.finish(plan.path, plan.build_key, replacing=replacing):
                return home.where(plan.path)
            if not replacing:
                _refuse_other(home, plan)
        folder = stage.store
        finished = stage.resume()
        if salvage is not None:
            finished |= salvage.adopt(stage, plan, finished)
        regions = [region for region in plan.regions if str(region) not in finished]
        before = len(plan.regions) - len(regions)  # a copy and a build of the same store have different regions
        report(at(before))
        encode.create_arrays(folder, plan.arrays)
        task = StoreTask(folder.absolute(), product, inputs, plan.arrays, attrs)
        sealed: Files = {key: facts for files in finished.values() for key, facts in files.items()}
        # What is mended is compared with what it was: for a few chunks, not all of a recording is read.
        source = () if salvage is not None and salvage.is_known and plan.regions else (SOURCE,)
        with (
            group_commit(stage.keep) as keep,  # where waiting for the disk holds up none of the workers
            closing(execute(task, (*source, LABELS, *regions))) as results,  # or tasks outlive an error here
        ):
            for done, (part, written) in enumerate(results, start=1 + before):
                if written:
                    keep(part, written)
                sealed |= written
                report(at(done))
        stage.sweep()
        if isinstance(product, Finishing):
            made = product.finish(folder)
            seal(folder, made, final)
            sealed |= made
        encode.consolidate(folder)
        if isinstance(product, LinkedProduct):
            product.link(inputs, folder, final)
        check_store(folder)
        complete(folder, final, sealed, _facts(plan, product, origin))
        if salvage is not None:
            salvage.refuse_other(read_manifest(folder)["files"])
            replace(folder, final, "damaged")
        else:
            home.publish(folder, plan.path, replacing=replacing)
    report(at(len(plan.regions) + 3))
    return home.where(plan.path)


def build_one(
    root: Path,
    plan: StorePlan,
    product: Product,
    *,
    existing: str,
    executor: str,
    workers: int,
    progress: OnProgress | None = None,
) -> Path:
    """Build one store of a product that knows itself what it reads. Parameters and errors are those of `cubes.build`.

    What equals the plan is left as it is, even with ``existing="replace"``.
    """
    if existing not in EXISTING:
        raise BadArgument(f"existing: expected one of {', '.join(EXISTING)}, got {existing!r}")
    home = Folder(root)
    if existing == "error":
        refuse_existing(home, [plan.path])
    _refuse_unusable(home, plan, existing)
    if _is_built(home, plan):
        return home.where(plan.path)
    if "://" not in executor:
        refuse_too_little_memory([plan], 1 if executor == "serial" else workers)
    with open_executor(executor, workers, plan.task_bytes) as execute:
        report = progress or (lambda _: None)
        build_store(root, plan, product, None, execute, report, replacing=existing == "replace")
    return home.where(plan.path)


SOURCE, LABELS = "source", "labels"


@dataclass(frozen=True)
class StoreTask:
    """What the tasks of one store share. Called with a region, `SOURCE` or `LABELS`, it does that part."""

    folder: Path
    product: Product
    inputs: Any
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
