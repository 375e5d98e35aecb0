"""The command ``cubes``: the functions of the package on the command line.

Exit codes: 0 done; 1 an error, told in one line, or a store that does not verify; 2 wrong usage, or a store that could
not be compared; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter

from cubes import cli_layouts, cli_stores, cli_tables
from cubes.cli_progress import Bar
from cubes.cli_shared import Json, fail, open_source, to_json
from cubes.cli_tables import Filters
from loaders.errors import BadArgument, CubesError, NotFound

if TYPE_CHECKING:
    from chunking.plan import Plan
    from loaders.records import Catalog

app = App(
    name="cubes",
    help="Labelled data cubes of Neuropixels recordings.",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,
)
for _command in (
    *(cli_stores.ls, cli_stores.info, cli_stores.verify, cli_stores.repair),
    *(cli_layouts.rechunk, cli_layouts.advise),
    *(cli_stores.status, cli_stores.gc),
    *(cli_tables.releases, cli_tables.catalog, cli_tables.find, cli_tables.presence),
):
    app.command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; always ends in SystemExit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        result = app(arguments, exit_on_error=False, print_error=True, result_action="return_value")
        print(end="", flush=True)  # a closed pipe shows now, not at exit
    except CycloptsError:
        return 2
    except CubesError as error:
        return fail(str(error))
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        print(
            "cubes: interrupted; nothing half-written was published. The same command goes on; a build with "
            "--skip-existing.",
            file=sys.stderr,
        )
        return 130
    return result if isinstance(result, int) else 0


def _fail_each(failed: Mapping[str, str]) -> int:
    """Name every insertion that failed, a line each; gives the exit code."""
    for pid, reason in failed.items():
        fail(reason if pid in reason else f"pid {pid}: {reason}")
    return 1 if failed else 0


@app.command
def demo(folder: Path = Path("demo")) -> None:
    """Sample data, plan, build, summary and figure in one go.

    Parameters
    ----------
    folder
        Where everything goes; what is there already is used again.
    """
    from cubes.demo import run_demo

    with Bar() as bar:
        run_demo(folder, say=bar.say, progress=bar.update)


@app.command
def sample(folder: Path, *, voltage: bool = True) -> None:
    """Write the sample data: a small ONE cache with two sessions, three probes and known truth.

    Parameters
    ----------
    folder
        Must not exist, or be empty.
    voltage
        Also write a few seconds of compressed AP and LF voltage, which takes most of the time.
    """
    from cubes.sources import source, write_sample

    write_sample(folder, voltage=voltage, progress=lambda line: print(line, file=sys.stderr))
    for insertion in source("one", folder).insertions():
        print(insertion.pid, insertion.subject, insertion.date, insertion.probe, insertion.model)


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """What is to be built.

    Parameters
    ----------
    source
        A ONE cache folder, or one ALF session folder; or bucket (public, no login), openalyx (the login is taken from
        ALYX_LOGIN and ALYX_PWD, or ALYX_TOKEN, or from ONE) or http, for which pids or a release must be named.
    to
        Folder of the stores; or a bucket, as s3://bucket/prefix, with credentials in AWS_ACCESS_KEY_ID ... as usual.
    scratch
        For a bucket: folder on this machine in which stores are made before they are sent; an interrupted build goes on
        there.
    store
        zarr or, with the extra ibl-cubes[icechunk], icechunk.
    products
        spikes, channels, ap, lf, sync, lfp_RATEhz (lfp_250hz, lfp_250hz_car, lfp_250hz_destriped ...), counts_WIDTH
        (counts_1ms, counts_1_3s ...); trials, wheel, pose_left ..., or session for all that the session has. By
        default what is linked or, if nothing is, spikes channels counts_20ms.
    sorter
        Exact spike sorter, such as iblsorter.
    revision
        Exact revision of the sorting, such as 2024-05-06.
    counts_layout
        balanced, by-unit or by-time.
    voltage_layout
        balanced, by-time or by-channel.
    window
        Part of the voltage, as START:STOP in session seconds, such as 0:600.
    link
        Which of ap and lf are not copied but shown from the files of the source.
    lfp_dtype
        float32 (microvolts) or int16 (with a gain).
    tracker
        Whose points pose_left ... hold: lightningPose, dlc, or best (the first of these that exists).
    cache
        Folder for files of a remote source. By default $IBL_CUBES_CACHE, or else ibl-cubes in the user's cache.
    catalog
        Folder with the tables that --region and the other filters ask; by default those beside the stores.
    pids_file
        File with the pids of insertions, one a line; what follows a # is a comment.
    tables
        For http: folder with the tables of a ONE cache.
    """

    source: str
    to: str
    scratch: Path | None = None
    store: str = "zarr"
    products: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")] = None
    sorter: str | None = None
    revision: str | None = None
    counts_layout: str = "balanced"
    voltage_layout: str = "balanced"
    window: str | None = None
    link: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    lfp_dtype: str = "float32"
    tracker: str = "best"
    cache: Path | None = None
    catalog: Path | None = None
    pids_file: Annotated[Path | None, Parameter(name="--pids")] = None
    tables: Path | None = None
    filters: Filters = Filters()  # noqa: RUF009  frozen

    def plan(self, pids: tuple[str, ...]) -> Plan:
        """The plan for some insertions; for all of the source, or of those that were found, if none is named."""
        from cubes.building import plan as make_plan

        named = self.named(pids)
        source = self.open_source(named)
        return make_plan(
            source,
            named or tuple(insertion.pid for insertion in source.insertions()),
            self.products,
            root=self.to,
            scratch=self.scratch,
            store=self.store,
            sorter=self.sorter,
            revision=self.revision,
            counts_layout=self.counts_layout,
            voltage_layout=self.voltage_layout,
            window_s=_window(self.window),
            link=self.link,
            lfp_dtype=self.lfp_dtype,
            tracker=self.tracker,
            errors="report",
        )

    def plan_again(self, path: Path, pids: tuple[str, ...]) -> Plan:
        """The plan of a file, which says everything but where the files are."""
        from chunking.plan import Plan

        release = Filters(release=self.filters.release)
        where = Choice(self.source, self.to, self.scratch, cache=self.cache, tables=self.tables, filters=release)
        if pids or self != where:
            raise BadArgument(
                f"plan {path}: says what is built and how; expected beside it only --source, --to, --scratch, --cache, "
                "--tables and --release"
            )
        wanted = _read_text(path, "the JSON of cubes plan --json")
        return Plan.from_json(wanted, self.open_source(("of the plan",)), self.to, scratch=self.scratch)

    def named(self, pids: tuple[str, ...]) -> tuple[str, ...]:
        """The pids that are named: one by one, in the file, by the release, or by what they are."""
        if self.pids_file is not None:
            pids += _read_pids(self.pids_file)
        from chunking.homes import local

        release, others = self.filters.release, self.filters != Filters(release=self.filters.release)
        if others:
            if pids:
                raise BadArgument("pids: expected either pids or filters such as --region, got both")
            found = self.filters.find(self.catalog or local(self.to, "a filter without --catalog"))["pid"]
            if found.empty:
                raise NotFound("filters: no insertion of the catalog fits them")
            return tuple(found)
        if self.catalog is not None:
            raise BadArgument("catalog: expected a filter such as --region, got none")
        if pids or release is None:
            return pids
        from loaders.releases import release as release_table

        return tuple(release_table(release)["pid"])

    def open_source(self, pids: tuple[str, ...]) -> Catalog:
        """The source; what is remote and large is never taken whole by accident."""
        from cubes.sources import REMOTE

        if self.source in REMOTE and not pids and self.filters.release is None:
            raise BadArgument(f"source {self.source}: expected pids or --release, got neither; all of it is too much")
        return open_source(self.source, self.cache, self.filters.release, self.tables)


@app.command
def plan(
    *pids: str,
    choice: Choice,
    calibrate: Json = False,
    executor: str = "threads",
    workers: int = 2,
    json: Json = False,
) -> int:
    """Show which stores would be built, with shapes, chunks, bytes and memory. Writes nothing.

    Exit code 1 if an insertion cannot be built; the others are planned all the same.

    Parameters
    ----------
    pids
        Probe insertions, named before the options; all of the source if none is given.
    calibrate
        Run some tasks of every product, in a folder that is removed again, to tell how long the build will take.
    executor
        That of the build, for --calibrate.
    workers
        Those of the build, for --calibrate.
    json
        Print JSON, which cubes build --plan takes.
    """
    planned = choice.plan(pids)
    if calibrate and planned.stores:
        planned = planned.calibrate(executor=executor, workers=workers)
    if json:
        print(to_json(planned.to_dict()))
    elif planned.stores:
        print(planned)
    return _fail_each(planned.refused)


@app.command
def build(
    *pids: str,
    choice: Choice,
    plan: Path | None = None,
    skip_existing: Json = False,
    replace: Json = False,
    executor: str = "threads",
    workers: int = 2,
    json: Json = False,
) -> int:
    """Build the stores of some insertions. A store exists only when it is complete and verified.

    An insertion that fails does not stop the others: each is named with its reason at the end, and the exit code is 1.
    The same command with --skip-existing then does only what is missing.

    Parameters
    ----------
    pids
        Probe insertions, named before the options; all of the source if none is given.
    plan
        File with the JSON of cubes plan --json: exactly that is built, or an error says what has changed since.
    skip_existing
        Leave stores that exist as they are, instead of refusing, and wait for those that another process is building.
    replace
        Build stores anew that exist and are out of date; whoever reads the old version keeps it, until cubes gc.
    executor
        threads, serial, processes, dask (a cluster on this machine), or the address of a dask scheduler.
    workers
        Threads or processes.
    json
        Print JSON.
    """
    from cubes.building import build as build_stores

    if skip_existing and replace:
        raise BadArgument("skip-existing, replace: choose one of them")
    planned = choice.plan(pids) if plan is None else choice.plan_again(plan, pids)
    with Bar(planned.todo if skip_existing else planned.stores) as bar:
        existing = "replace" if replace else "skip" if skip_existing else "error"
        how = {"existing": existing, "executor": executor, "errors": "report"}
        built = build_stores(planned, workers=workers, progress=bar.update, **how)
    done = [store for store in planned.stores if store.pid not in built.failed]
    skipped = sum(planned.home.where(store.path) not in built for store in done)
    if json:
        print(to_json({"built": [str(path) for path in built], "skipped": skipped, "failed": built.failed}))
    else:
        for path in built:
            print(path)
        if skipped:
            print(f"{skipped} stores existed already and were left as they are", file=sys.stderr)
    return _fail_each(built.failed)


@app.command
def pool(
    root: Path,
    *,
    recipe: str = "bwm",
    where: str | None = None,
    name: str | None = None,
    pids: Path | None = None,
    replace: Json = False,
    skip_failing: Json = False,
    executor: str = "threads",
    workers: int = 2,
) -> None:
    """Pool the responses of many insertions into ROOT/pooled/NAME.zarr: unit x condition x time, and regions.

    The same command goes on after an interruption, and does nothing if nothing has changed.

    Parameters
    ----------
    root
        Folder of the stores: spikes of the insertions, trials (or what the recipe names) of their sessions.
    recipe
        bwm (the four alignments of the brain-wide map paper), or a .toml file like it.
    where
        Only these insertions: an expression such as "lab == 'wittenlab' and date >= '2020-01-01'".
    name
        Of the store; by default that of the recipe.
    pids
        File with the pids of insertions, one a line; what follows a # is a comment.
    replace
        Make a store of this name anew that was made of other insertions or by another recipe.
    skip_failing
        Leave out insertions without spikes, trials or units that are wanted, instead of refusing; each is named.
    executor
        threads, serial, processes, dask (a cluster on this machine), or the address of a dask scheduler.
    workers
        Threads or processes.
    """
    from cubes.pooling import make_pool

    chosen = None if pids is None else _read_pids(pids)
    errors, existing = "skip" if skip_failing else "raise", "replace" if replace else "skip"
    with Bar() as bar:
        how = {"executor": executor, "existing": existing, "progress": bar.update}
        path, left_out = make_pool(root, where, recipe, chosen, name=name, errors=errors, workers=workers, **how)
    for pid, reason in left_out.items():
        print(f"left out: {pid}: {reason}", file=sys.stderr)
    print(path)


def _read_pids(path: Path) -> tuple[str, ...]:
    """The pids of a file, one a line, without comments."""
    lines = [line.partition("#")[0].strip() for line in _read_text(path, "text with one pid a line").splitlines()]
    if not any(lines):
        raise BadArgument(f"pids {path}: expected one pid a line, got none")
    return tuple(line for line in lines if line)


def _read_text(path: Path, what: str) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise BadArgument(f"{path}: expected {what}, got {error}") from error


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        start, stop = (float(number) for number in text.split(":"))
    except ValueError as error:
        raise BadArgument(f"window: expected START:STOP in seconds, such as 0:600, got {text!r}") from error
    return start, stop
