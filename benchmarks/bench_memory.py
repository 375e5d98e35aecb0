"""Memory of building the product ap from a .cbin, for recordings of several lengths: it must not grow with them.

    python benchmarks/bench_memory.py [--seconds 30 120 480]

One generated second of AP, again and again. Every build is a process of its own, with 2 workers, after a tiny one that
loads everything. `peak` is the largest resident size of the whole process, libraries included (VmHWM); `over the
start` is private memory (RssAnon) over what the process had before the build. Needs 17 MB of disk for each second.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from measure import Run, peak_memory, run_process, size_of
from raw_session import Session


def run_build(session: Session) -> Run:
    """One build, after one of a second that loads everything."""
    with tempfile.TemporaryDirectory(dir=session.root) as folder:
        Session(session.root.parent / "second").build("ap", Path(folder) / "first")
        with peak_memory() as peak:
            start, cpu = time.perf_counter(), time.process_time()
            store = session.build("ap", Path(folder) / "root")
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        resident = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
        return {
            "seconds": seconds, "cpu": cpu, "peak": peak(), "resident": 1024 * int(resident), "disk": size_of(store)
        }  # fmt: skip


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[30, 120, 480])
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_build(Session(options.one))))
        return
    columns = ("recording", "peak", "over the start", "wall s", "CPU s", "x real time")
    print(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        second = Session.write(Path(folder) / "second", 1)
        for seconds in options.seconds:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                session = Session.repeat(second, Path(place) / "session", seconds)
                (Path(place) / "second").symlink_to(second.root)
                run = run_process([sys.executable, __file__, "--one", session.root])
            print(
                f"| {seconds} s | {run['resident'] / 1e6:.0f} MB | {run['peak'] / 1e6:.0f} MB | {run['seconds']:.1f} "
                f"| {run['cpu']:.1f} | {seconds / run['seconds']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
