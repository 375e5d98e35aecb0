"""What cubes of the whole Brain-Wide Map take, from the measured cost of one insertion.

    python benchmarks/bwm_estimate.py [--minutes 70] [--rounds 3] [--report]

Two generated recordings of different lengths a product, each built from its files to a verified store, in turns, on one
worker. Bytes and CPU time are a line through both (a store costs something by itself, and something a minute), read at
the mean length of an insertion. Spikes have the mean number of units of an insertion, of the good ones or of all, with
lognormal rates; voltage has 384 channels. The network is not in it: AP is fetched at what the line gives.

What is assumed: 699 insertions, 621,733 units of which 75,708 are good, 70 minutes; good units fire at 7.1 Hz (the mean
of the good units of IBL's repeated site, published with the paper on reproducible electrophysiology), all units at
8.3 Hz. Generated voltage compresses as real one: 3.0 here, 2.8 to 3.3 on the real snippets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from measure import Run, size_of, take_turns
from report import Section, Table, add_report_option, markdown, write_section

INSERTIONS, UNITS, GOOD_UNITS = 699, 621_733, 75_708
UNIQUE_S = {"ap": 4, "lf": 60}  # of voltage, again and again: longer than what a chunk holds of a channel
RELEASE_GB = 5.3  # IBL's compressed release of the spikes of the good units


@dataclass(frozen=True)
class Case:
    """One product of the estimate: which spikes or band, and the two lengths that are built, in seconds."""

    title: str
    product: str
    units: int = 0
    rate_hz: float = 0.0
    lengths_s: tuple[int, int] = (1200, 4200)

    @property
    def folder(self) -> str:
        return f"{self.units}" if self.units else self.product


GOOD, ALL = round(GOOD_UNITS / INSERTIONS), round(UNITS / INSERTIONS)
CASES = (
    Case("spikes of good units", "spikes", GOOD, 7.1),
    Case("counts of 1 ms, good units", "counts_1ms", GOOD, 7.1),
    Case("counts of 20 ms, good units", "counts_20ms", GOOD, 7.1),
    Case("spikes of all units", "spikes", ALL, 8.3),
    Case("counts of 1 ms, all units", "counts_1ms", ALL, 8.3),
    Case("counts of 20 ms, all units", "counts_20ms", ALL, 8.3),
    Case("LF", "lf", lengths_s=(60, 240)),
    Case("AP", "ap", lengths_s=(8, 32)),
)


def run_one(root: Path, product: str) -> Run:
    """Bytes and CPU seconds of one build, after one that loads everything."""
    import cubes

    def build(folder: Path, out: Path) -> Path:
        source = cubes.source("folder", folder)
        plan = cubes.plan(source, [source.insertions()[0].pid], [product], root=out)
        return Path(cubes.build(plan, executor="serial")[0])

    with tempfile.TemporaryDirectory(dir=root) as out:
        warm = root.parent.parent / (f"{product}/tiny" if product in UNIQUE_S else "tiny") / "session"
        build(warm, Path(out) / "warm")
        start, cpu = time.perf_counter(), time.process_time()
        store = build(root / "session", Path(out) / "root")
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "bytes": size_of(store)}


def shorter(case: Case, by: int) -> Case:
    """The same with 1/`by` of the lengths; voltage is repeated from `UNIQUE_S` seconds."""
    step = UNIQUE_S.get(case.product, 1)
    short, long = (max(step, length // by // step * step) for length in case.lengths_s)
    return replace(case, lengths_s=(short, max(long, 2 * short)))


def write_data(folder: Path, cases: tuple[Case, ...]) -> None:
    """All recordings."""
    from bench_counts import write_session
    from raw_session import Session

    write_session(folder / "tiny/session", 10, 1, 5)
    for case in cases:
        for length in case.lengths_s:
            root = folder / case.folder / str(length)
            if case.units and not root.exists():
                write_session(root / "session", case.units, length / 60, case.rate_hz)
        if band := case.product if case.product in UNIQUE_S else "":
            short = Session.write(folder / band / "short", UNIQUE_S[band], [band])
            Session.write(folder / band / "tiny", 0.1, [band])
            for length in case.lengths_s:
                Session.repeat(short, folder / band / str(length), length // UNIQUE_S[band])


def at_length(short: float, long: float, lengths_s: tuple[int, int], seconds: float) -> float:
    """The line through two measurements."""
    slope = (long - short) / (lengths_s[1] - lengths_s[0])
    return long + slope * (seconds - lengths_s[1])


def rows(results: dict[str, list[Run]], cases: tuple[Case, ...], minutes: float) -> list[list[object]]:
    """Of one insertion, and of all of them."""
    found: list[list[object]] = []
    for case in cases:
        short, long = (results[f"{case.title}|{length}"] for length in case.lengths_s)
        per_round = [
            {key: at_length(a[key], b[key], case.lengths_s, 60 * minutes) for key in ("bytes", "cpu")}
            for a, b in zip(short, long, strict=True)
        ]
        size = statistics.median(run["bytes"] for run in per_round)
        hours = sorted(run["cpu"] * INSERTIONS / 3600 for run in per_round)
        total = size * INSERTIONS / 1e9
        shown = f"{total / 1000:.1f} TB" if total > 2000 else f"{total:.1f} GB"
        cpu = f"{statistics.median(hours):.2f} ({hours[0]:.2f}–{hours[-1]:.2f})"
        found.append(
            [case.title, f"{size / 1e6:.1f}", f"{statistics.median(hours) * 3600 / INSERTIONS:.1f}", shown, cpu]
        )
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=70, help="mean length of an insertion")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shorter", type=int, default=1, help="of the recordings, for tests: 1/N of the lengths")
    parser.add_argument("--only", nargs="+", help="these products only, such as spikes counts_1ms")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    add_report_option(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(Path(options.one[0]), options.one[1])))
        return
    cases = tuple(shorter(c, options.shorter) for c in CASES if not options.only or c.product in options.only)
    with tempfile.TemporaryDirectory() as folder:
        write_data(Path(folder), cases)
        commands: dict[str, list[str | Path]] = {
            f"{case.title}|{length}": [
                sys.executable, __file__, "--one", Path(folder) / case.folder / str(length), case.product,
            ]
            for case in cases
            for length in case.lengths_s
        }  # fmt: skip
        results = take_turns(commands, options.rounds)
    found = rows(results, cases, options.minutes)
    columns = ["product", "MB an insertion", "core seconds an insertion", "the whole map", "core hours (min–max)"]
    table = Table(f"{INSERTIONS} insertions of {options.minutes:g} minutes", columns, found)
    text = (
        f"From measured builds of one insertion ({GOOD} good units of {ALL}; `benchmarks/bwm_estimate.py` says what is "
        f"assumed). IBL's own compressed release of the spikes of the good units, without labels, has {RELEASE_GB} GB. "
        "Fetching is not in it; on two cores the hours are half of those."
    )
    print(markdown(table))
    if options.report:
        write_section("bwm", Section("The whole Brain-Wide Map", text, [table]))


if __name__ == "__main__":
    main()
