"""How far counts, LF, alignment, opening many stores and fetching are from what the same work costs at least.

    python benchmarks/bench_paths.py [--minutes 20] [--seconds 240] [--stores 200] [--files 100] [--rounds 3] [--report]

AP and windows have their own: `bench_floors.py`. Every run is a process of its own; ours and its floor take turns.

* counts: files of a sorting to a verified store, 2 workers. Floor: `bare_builds.counts`, the same kernel and codec.
* lf: `.cbin` to a verified store, 2 workers. Floor: `bare_builds.voltage`.
* align: spikes in memory, all units around 500 events. Floor: the result, zeroed.
* open_many: stores of the disk. Floor: their metadata are parsed as JSON, and their manifests read.
* fetch: files of a server with a latency, 16 at once. Floor: bare connections that stay open, into memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import bare_builds
import numpy as np
from bare_builds import WORKERS, timed
from bench_align import START, STOP, WIDTH, Data, ours, prepare_ours
from bench_counts import write_session
from bench_fetch import SESSION as FILES
from bench_fetch import run_one as fetch_one
from bench_fetch import served, write_files
from bench_many import make_root
from measure import Run, spread, take_turns
from raw_session import Session
from report import Section, Table, add_report_option, markdown, write_section

from chunking.layouts import layout_of

UNITS, RATE_HZ, EVENTS, AT_ONCE = 1000, 8.3334, 500, 16
SESSION = "session_probe00"
UNIQUE_S = 60


def build(root: Path, product: str) -> Run:
    """Files to a verified store, after a tiny one that loads and compiles everything."""
    import cubes

    def plan(session: Path, target: Path) -> cubes.Plan:
        return cubes.plan(cubes.source("folder", session), [SESSION], [product], root=target)

    with tempfile.TemporaryDirectory(dir=root) as folder:
        cubes.build(plan(root / "tiny/session", Path(folder) / "tiny"), workers=WORKERS)
        return timed(lambda: cubes.build(plan(root / "session", Path(folder) / "cubes"), workers=WORKERS))


def counts_floor(root: Path, product: str) -> Run:
    """The chunks are those of the default."""
    from chunking.bins import width_from_name

    width = Fraction(width_from_name(product.partition("_")[2]))
    chunk = layout_of(product, "balanced").chunks(product, (UNITS, 10**9), float(1 / width))
    for session in (root / "tiny/session", root / "session"):  # the first compiles
        with tempfile.TemporaryDirectory(dir=root) as target:
            run = bare_builds.counts(session / "alf/probe00/iblsorter", width, UNITS, chunk, Path(target))
    return run


def lf_floor(root: Path) -> Run:
    rate = 2500
    channels, samples = layout_of("lf", "balanced").chunks("lf", (384, 10**9), rate)
    with tempfile.TemporaryDirectory(dir=root) as target:
        return bare_builds.voltage(Session(root).cbin("lf"), channels, samples // rate, Path(target))


def align(root: Path) -> Run:
    data = Data(root / "align")
    spikes = prepare_ours(data)
    ours(spikes, data.events[:2])
    return timed(lambda: ours(spikes, data.events))


def align_floor(root: Path) -> Run:
    data = Data(root / "align")
    shape = (data.n_units, len(data.events), round((STOP - START) / WIDTH))
    return timed(lambda: np.empty(shape, np.float32).fill(0))


def open_many(root: Path) -> Run:
    import cubes

    pids = sorted(path.name for path in (root / "many/insertions").iterdir())
    cubes.open(root / "many", pids[0])
    return timed(lambda: cubes.open_many(root / "many", chunks=None))


def open_many_floor(root: Path) -> Run:
    def read() -> None:
        for store in (root / "many/insertions").glob("*/*.zarr"):
            json.loads((store / "zarr.json").read_bytes())
            (store / "manifest.json").read_bytes()

    return timed(read)


def fetch_floor(root: Path, url: str) -> Run:
    """Every thread has one connection, and takes its share of the files."""
    server, files = urlsplit(url), [stored for _, stored, *_ in json.loads((root / "list.json").read_text())]

    def get(some: list[str]) -> None:
        connection = HTTPConnection(str(server.hostname), server.port)
        for name in some:
            connection.request("GET", f"{server.path}/{name}")
            connection.getresponse().read()
        connection.close()

    def get_all() -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(get, [files[i::AT_ONCE] for i in range(AT_ONCE)]))

    return timed(get_all)


PATHS: dict[str, tuple[Callable[[Path], Run], Callable[[Path], Run]]] = {
    "counts of 1 ms": (lambda root: build(root / "counts", "counts_1ms"),
                       lambda root: counts_floor(root / "counts", "counts_1ms")),
    "counts of 20 ms": (lambda root: build(root / "counts", "counts_20ms"),
                        lambda root: counts_floor(root / "counts", "counts_20ms")),
    "LF": (lambda root: build(root / "lf", "lf"), lambda root: lf_floor(root / "lf")),
    "align": (align, align_floor),
    "open_many": (open_many, open_many_floor),
    "fetch": (lambda root: fetch_one(root / "fetch", _url(root), "ours"),
              lambda root: fetch_floor(root / "fetch", _url(root))),
}  # fmt: skip


REST = {
    "counts of 1 ms": "checks of spikes, labels, fsync of small files, comparison before publication",
    "counts of 20 ms": "the same, which does not shrink with the number of bins",
    "LF": "labels, plan and journal, comparison before publication: less of a longer recording",
    "align": "searching and counting the spikes, labels and coverage",
    "open_many": "xarray's objects for the variables of a store, checksum of its metadata, schema",
    "fetch": "size and md5 compared, fsync and rename of every file",
}
"""By profile."""


def _url(root: Path) -> str:
    return (root / "url").read_text()


def prepare(root: Path, options: argparse.Namespace) -> dict[str, str]:
    """What the paths work on; says what it is."""
    for folder in ("counts", "lf", "fetch"):
        (root / folder).mkdir()
    write_session(root / "counts/session", UNITS, options.minutes, RATE_HZ)
    write_session(root / "counts/tiny/session", 10, 1, 5)
    short = Session.write(root / "short", min(UNIQUE_S, options.seconds), ["lf"])
    Session.repeat(short, root / "lf", max(options.seconds // UNIQUE_S, 1))
    Session.write(root / "lf/tiny", 1, ["lf"])
    Data.write(root / "align", UNITS, options.minutes, RATE_HZ, EVENTS)
    make_root(root, options.stores)
    write_files(root / "fetch", options.files, 50_000)
    sorting = f"{UNITS} units, {options.minutes:g} min, files to store"
    return {
        "counts of 1 ms": sorting,
        "counts of 20 ms": sorting,
        "LF": f"{options.seconds} s, .cbin to store",
        "align": f"{UNITS} units, {EVENTS} events, {options.minutes:g} min",
        "open_many": f"{options.stores} stores",
        "fetch": f"{options.files} files of 50 kB, latency 20 ms",
    }


def table(results: dict[str, list[Run]], what: dict[str, str]) -> Table:
    """Ours, the floor, and how much of it is reached."""
    rows = []
    for name in PATHS:
        mine, floor = results[f"{name}, ours"], results[f"{name}, floor"]
        shares = sorted(100 * f["seconds"] / o["seconds"] for o, f in zip(mine, floor, strict=True))
        share = f"{statistics.median(shares):.0f} % ({shares[0]:.0f}–{shares[-1]:.0f})"
        rows.append([name, what[name], *(spread(runs, "seconds", 1e3, 0) for runs in (mine, floor)), share, REST[name]])
    return Table(
        "Ours and the floor, in turns", ["path", "of what", "ours, ms (min–max)", "floor, ms", "reached"], rows
    )


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20, help="of spikes")
    parser.add_argument("--seconds", type=int, default=240, help=f"of LF, a multiple of {UNIQUE_S}")
    parser.add_argument("--stores", type=int, default=200)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    add_report_option(parser)
    options = parser.parse_args()
    if options.one:
        name, _, which = options.one[1].rpartition(", ")
        print(json.dumps(PATHS[name][which == "floor"](Path(options.one[0]))))
        return
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        what = prepare(root, options)
        with served(root / "fetch", 0.02) as server:
            (root / "url").write_text(f"{server}/public/{FILES}")
            runs = [f"{path}, {which}" for path in PATHS for which in ("ours", "floor")]
            commands = {run: [sys.executable, __file__, "--one", root, run] for run in runs}
            found = table(take_turns(commands, options.rounds), what)
    print(f"\n{markdown(found)}")
    if options.report:
        text = (__doc__ or "").partition("[--report]\n\n")[2].strip()
        write_section("paths", Section("The other paths and their floors", text, [found]))


if __name__ == "__main__":
    main()
