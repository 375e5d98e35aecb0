"""Our claims against the tools that people use today, each from one run.

    for peer in spikeinterface pynapple nwb virtual; do sh benchmarks/peers/$peer.sh; done    # once
    python benchmarks/bench_claims.py [--minutes 20] [--seconds 16] [--long 64] [--rounds 3] [--claims ...] [--report]

* counts: files of a sorting (1000 units, 8.3 Hz) to a stored cube, at 1 ms and 20 ms. Ours hashes, validates, labels,
  waits for the disk and reads back; the others do not.
* ap: `.cbin` to a stored array, of the longer recording. The same holds.
* window: one second of all channels, at random places.
* channel: one channel of the whole recording, of two lengths: what takes time is in proportion to the length for
  everybody, so the ratio of the longer one holds for an hour.
* psth: all units around 200 events, 75 bins of 20 ms, from spikes in memory.

Everything is generated, every run is a process of its own in the environment of its tool, and the methods take turns.
Files are in the page cache. "Best peer" is the fastest in the same round; for windows and channels there are two: of
the tools that read the recording as it lies (`.cbin`; for channels `spikeglx.Reader` alone, which is what is claimed),
and of all, with those that were first given a copy of their own. What one writes oneself in numpy is shown beside them.
That all did the same is told by sums of what was read or counted around events; stores that are built have none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_counts import write_session
from measure import Run, run_process, spread
from raw_session import Session, spans
from report import Section, Table, add_report_option, markdown, write_section

HERE = Path(__file__).resolve().parent
METHODS = HERE / "peer_methods.py"
UNIQUE_S = 8


@dataclass(frozen=True)
class Method:
    """One way to do it: what it is called, in `peer_methods.py`, and in which environment.

    What one writes oneself in numpy, without any tool, is shown and is no peer.
    """

    title: str
    name: str
    environment: str = ""
    by_hand: bool = False

    @property
    def python(self) -> Path:
        return HERE / f"peers/.venv-{self.environment}/bin/python" if self.environment else Path(sys.executable)


COUNTS = (
    Method("ours, labelled, checked, fsync", "ours"),
    Method("brainbox's bincount2D + xarray.to_zarr", "brainbox"),
    Method("NWB units, np.histogram, HDF5 gzip", "nwb", "nwb"),
    Method("pynapple count, npz", "pynapple", "pynapple"),
)
BUILD = (
    Method("ours, labelled, checked, fsync", "ours"),
    Method("SpikeInterface save(format='zarr')", "si", "spikeinterface"),
    Method("mtscomp + dask + xarray.to_zarr", "to_zarr"),
)
READ = (
    Method("ours, from the store, chunks=None", "ours"),
    Method("ours, .cbin in place", "in place"),
    Method("spikeglx.Reader, .cbin", "spikeglx"),
    Method("SpikeInterface, .cbin", "si cbin", "spikeinterface"),
    Method("SpikeInterface's Zarr", "si zarr", "spikeinterface"),
    Method("xarray.to_zarr as it comes", "to_zarr"),
    Method("NWB, h5py, gzip as of neuroconv", "nwb", "nwb"),
    Method("kerchunk over the decompressed .bin", "kerchunk", "virtual"),
    Method("np.memmap by hand, decompressed .bin", "flat", by_hand=True),
)
PSTH = (
    Method("ours, labelled", "ours"),
    Method("brainbox calculate_peths", "brainbox"),
    Method("pynapple build_tensor", "pynapple", "pynapple"),
    Method("numpy by hand, a loop over events", "numpy", by_hand=True),
)
AGAINST = {"window": ("who reads the .cbin", ("spikeglx", "si cbin")), "channel": ("spikeglx.Reader", ("spikeglx",))}
TARGETS = {"counts": 5, "ap": 4, "window": 10, "channel": 20, "psth": 10}
Results = dict[str, list[Run]]


def turns(path: str, methods: Sequence[Method], root: Path, rounds: int) -> Results:
    """Runs by method; environments that are not there are left out."""
    results: Results = {method.name: [] for method in methods if method.python.exists()}
    for _ in range(rounds):
        for method in methods:
            if method.name in results:
                results[method.name].append(run(path, method, root))
    refuse_other(results)
    return results


def refuse_other(results: Results) -> None:
    """Raise an error if somebody read or counted something else; a spike on an edge may be in the bin beside."""
    sums = {name: runs[0]["sum"] for name, runs in results.items() if runs[0].get("sum")}
    if other := {name: total for name, total in sums.items() if abs(total / sums["ours"] - 1) > 1e-3}:
        raise RuntimeError(f"the sums of {other} are not ours, {sums['ours']}")


def run(path: str, method: Method, root: Path) -> Run:
    if method.name != "si":
        return run_process([method.python, METHODS, path, method.name, root])
    with tempfile.TemporaryDirectory(dir=root) as folder:
        raw = root / "session/raw_ephys_data/probe00"
        return run_process([method.python, HERE / "peers/save_spikeinterface.py", raw, "ap", Path(folder) / "si.zarr"])


def faster(results: Results, peers: Sequence[str]) -> list[float]:
    """In every round, how often our time fits into that of the fastest of the peers."""
    ours = [one["seconds"] for one in results["ours"]]
    best = [min(results[name][i]["seconds"] for name in peers) for i in range(len(ours))]
    return [peer / own for own, peer in zip(ours, best, strict=True)]


def best_of(results: Results, peers: Sequence[str], methods: Sequence[Method]) -> str:
    name = min(peers, key=lambda name: statistics.median(run["seconds"] for run in results[name]))
    return next(method.title for method in methods if method.name == name)


def between(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def beside(ours: Sequence[Run], runs: Sequence[Run], key: str) -> str:
    """How often ours fits into it, in every round; empty where it was not measured."""
    if key not in runs[0] or key not in ours[0]:
        return ""
    return between([run[key] / own[key] for own, run in zip(ours, runs, strict=True)])


def claim(what: str, key: str, results: Results, methods: Sequence[Method], only: Sequence[str] = ()) -> list[object]:
    """A row of the table of claims; without any peer it says so."""
    tools = [method.name for method in methods if not method.by_hand and method.name not in ("ours", "in place")]
    peers = [name for name in only or tools if name in results]
    if not peers:
        return [what, "no peer here", "", f"{TARGETS[key]}", ""]
    values = faster(results, peers)
    held = "yes" if statistics.median(values) >= TARGETS[key] else "NO"
    return [what, best_of(results, peers, methods), between(values), f"{TARGETS[key]}", held]


def table(caption: str, results: Results, methods: Sequence[Method], scale: float = 1.0, unit: str = "s") -> Table:
    rows = []
    for method in methods:
        if runs := results.get(method.name):
            times = [beside(results["ours"], runs, key) for key in ("seconds", "cpu")]
            peak, disk = (f"{runs[0][key] / 1e6:.0f}" if key in runs[0] else "" for key in ("peak", "disk"))
            rows.append([method.title, spread(runs, "seconds", scale), *times, peak, disk])
    found = Table(caption, ["method", f"{unit} (min–max)", "× ours", "CPU, × ours", "peak MB", "MB on disk"], rows)
    show(found)
    return found


def show(table: Table) -> None:
    print(f"\n{markdown(table)}", flush=True)


def measure_counts(folder: Path, options: argparse.Namespace) -> tuple[list[Table], list[list[object]]]:
    """The sorting is written once; everybody starts from its files."""
    root = folder / "counts"
    write_session(root / "session", options.units, options.minutes, 8.3334)
    write_session(root / "tiny/session", 10, 1, 5)
    nwb = COUNTS[2].python
    if nwb.exists():
        for place in (root, root / "tiny"):
            run_process([nwb, METHODS, "write", "units.nwb", place])
    tables, claims = [], []
    for ms in (1, 20):
        # At 1 ms the array of int64 that pynapple makes of half an hour has 14 GB.
        methods = [method for method in COUNTS if ms > 1 or method.name != "pynapple"]
        results = turns(str(ms / 1000), methods, root, options.rounds)
        tables.append(table(f"Counts of {ms} ms, {options.units} units, {options.minutes:g} min", results, methods))
        claims.append(claim(f"counts of {ms} ms, files to store", "counts", results, methods))
    return tables, claims


def measure_psth(folder: Path, options: argparse.Namespace) -> tuple[list[Table], list[list[object]]]:
    root = folder / "psth"
    write_session(root / "session", options.units, options.minutes, 8.3334)
    n = min(200, int(options.minutes * 60 / 4))
    rng = np.random.default_rng(0)  # a trial every few seconds: epochs of pynapple may not overlap
    np.save(root / "events.npy", np.linspace(3, options.minutes * 60 - 5, n) + rng.uniform(0, 1, n))
    results = turns("psth", PSTH, root, options.rounds)
    caption = f"{options.units} units around {n} events"
    return [table(caption, results, PSTH)], [claim("PSTH", "psth", results, PSTH)]


def measure_ap(folder: Path, options: argparse.Namespace) -> tuple[list[Table], list[list[object]]]:
    """Builds of the longer one, windows, and channels of two lengths."""
    short = Session.write(folder / "short", min(UNIQUE_S, options.seconds))
    root, longer = repeated(short, folder / "ap", options.seconds), repeated(short, folder / "long", options.long)
    Session.write(longer / "tiny", 0.1)
    tables, claims = [], []
    if "ap" in options.claims:
        results = turns("build", BUILD, longer, options.rounds)
        tables.append(table(f"{options.long} s of AP, .cbin to a stored array, 2 workers", results, BUILD))
        claims.append(claim("AP, .cbin to store", "ap", results, BUILD))
    if not {"window", "channel"} & set(options.claims):
        return tables, claims
    methods = copies(root, short)
    for kind, scale in (("window", 1e3), ("channel", 1e3)):
        if kind not in options.claims:
            continue
        results = turns(kind, methods, root, options.rounds)
        what = {"window": "1 s, all channels", "channel": f"one channel, {options.seconds} s"}[kind]
        tables.append(table(f"{what}, of AP", results, methods, scale, "ms"))
        whom, against = AGAINST[kind]
        claims.append(claim(f"{what}, against {whom}", kind, results, methods, against))
        claims.append(claim(f"{what}, against copies too", kind, results, methods))
    if "channel" in options.claims:
        cube(longer)
        two = [method for method in READ if method.name in ("ours", "spikeglx")]
        results = turns("channel", two, longer, 1)
        tables.append(table(f"one channel, {options.long} s, of AP", results, two, 1e3, "ms"))
        claims.append(claim(f"one channel, {options.long} s, against {AGAINST['channel'][0]}", "channel", results, two))
    return tables, claims


def repeated(short: Session, root: Path, seconds: int) -> Path:
    Session.repeat(short, root, max(seconds // UNIQUE_S, 1))
    return root


def cube(root: Path) -> None:
    Session(root).build("ap", root / "cube")


def copies(root: Path, short: Session) -> list[Method]:
    """Give every reader what it reads; those who have no environment are left out."""
    cube(root)
    second = spans(short.cbin("ap"))[0][1]
    n = spans(Session(root).cbin("ap"))[-1][1]
    samples = short.samples("ap")[: len(short.samples("ap")) // second * second]
    with (root / "ap.bin").open("wb") as file:
        for _ in range(n // len(samples)):
            file.write(samples)
    run_process([sys.executable, METHODS, "write", "references", root])
    run_process([sys.executable, METHODS, "write", "default.zarr", root])
    methods = [method for method in READ if method.python.exists()]
    for method in methods:
        if method.name == "nwb":
            run_process([method.python, METHODS, "write", "ap.nwb", root])
        elif method.name == "si zarr":
            raw = root / "session/raw_ephys_data/probe00"
            run_process([method.python, HERE / "peers/save_spikeinterface.py", raw, "ap", root / "si.zarr"])
    return methods


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=20, help="of spikes")
    parser.add_argument("--seconds", type=int, default=16, help="of voltage")
    parser.add_argument("--long", type=int, default=64, help="of the longer voltage, seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--claims", nargs="+", choices=tuple(TARGETS), default=list(TARGETS))
    parser.add_argument("--json", type=Path, help="also write the tables to this file")
    add_report_option(parser)
    options = parser.parse_args()
    tables: list[Table] = []
    claims: list[list[object]] = []
    parts = {"counts": measure_counts, "psth": measure_psth, "ap": measure_ap}
    asked = {"ap" if name in ("window", "channel") else name for name in options.claims}
    with tempfile.TemporaryDirectory() as folder:
        for name, part in parts.items():
            if name in asked:
                more = part(Path(folder), options)
                tables, claims = tables + more[0], claims + more[1]
    columns = ["what", "best peer", "ours is faster by (min–max)", "claimed", "holds"]
    tables.insert(0, Table("Ratios within a round", columns, claims))
    show(tables[0])
    missing = sorted({m.environment for m in (*COUNTS, *BUILD, *READ, *PSTH) if not m.python.exists()})
    text = (
        "Every claim from one run, against the fastest of the peers in the same round (`benchmarks/bench_claims.py`). "
        "What reads a copy of its own needs that copy: seconds to minutes to make, and its room on disk."
    )
    if missing:
        text += f" Left out, as their environments are not there: {', '.join(missing)}."
    if options.report:
        write_section("claims", Section("Claims, against the peers", text, tables))
    if options.json:
        options.json.write_text(json.dumps([[found.caption, found.columns, found.rows] for found in tables]))


if __name__ == "__main__":
    main()
