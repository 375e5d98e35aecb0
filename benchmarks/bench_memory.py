"""Memory of every product beside what its plan says: it must not be more, nor grow with the recording.

    python benchmarks/bench_memory.py [--products ap lf ...] [--minutes 5 10] [--units 300]

A generated sorting, and generated seconds of AP and LF again and again. Every build is a process of its own. `worker`
is the largest resident size (VmHWM) of a worker, one of two processes, over what it had after a tiny build that loads
all libraries; `serial` that of a build without workers, planning, labels and publication included. Pages of mapped
files count. `plan` is the plan's memory of a task. Needs 600 MB of disk for each minute.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench_counts import write_session
from measure import Run, run_process
from raw_session import Session

import cubes
from chunking.build import build_store
from chunking.executors import Executor, open_executor, run_serially
from chunking.products import parse_product
from loaders.inputs import Inputs

PRODUCTS = (
    "spikes", "channels", "counts_1ms", "counts_20ms", "ap", "lf", "sync", "lfp_250hz", "lfp_250hz_car",
    "lfp_250hz_destriped",
)  # fmt: skip
OF_SORTING = PRODUCTS[:4]
WORKERS = 2


@dataclass(frozen=True)
class Resident:
    """A task that looks at its process, after a tiny build, and waits, so that no other worker is left without one."""

    tiny: Path
    product: str

    def __call__(self, item: int) -> tuple[int, int, int]:
        """Process, its resident bytes, and the most that these have been since the last look."""
        load_libraries(self.tiny, self.product)
        time.sleep(0.5)
        gc.collect()
        now, peak = (_status(name) for name in ("VmRSS", "VmHWM"))
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        return os.getpid(), now, peak


@cache
def load_libraries(tiny: Path, product: str) -> None:
    """A tiny build, once a process."""
    with tempfile.TemporaryDirectory() as root:
        build(tiny, product, Path(root), run_serially)


def build(folder: Path, product: str, root: Path, execute: Executor) -> int:
    """Build, and say what the plan said of memory."""
    source = cubes.source("folder", folder)
    pid = source.insertions()[0].pid
    (plan,) = cubes.plan(source, [pid], [product], root=root).stores
    build_store(root, plan, parse_product(product), Inputs(source, pid), execute, _quiet, replacing=False)
    return plan.task_bytes


def _status(name: str) -> int:
    return 1024 * int(Path("/proc/self/status").read_text().partition(f"{name}:")[2].split()[0])


def run_build(tiny: Path, folder: Path, product: str, executor: str) -> Run:
    """One build in this process, or in workers of it."""
    looks, look = range(4 * WORKERS), Resident(tiny, product)
    with tempfile.TemporaryDirectory(dir=folder.parent) as root, open_executor(executor, WORKERS) as execute:
        before = {process: now for process, now, _ in execute(look, looks)}
        start = time.perf_counter()
        planned = build(folder, product, Path(root), execute)
        seconds = time.perf_counter() - start
        peaks: dict[int, int] = {}
        for process, _, peak in execute(look, looks):
            peaks[process] = max(peak, peaks.get(process, 0))
    over = max(peaks[process] - before[process] for process in before)
    return {"over": over, "libraries": max(before.values()), "plan": planned, "seconds": seconds}


def _quiet(_: Any) -> None:
    pass


def sessions(folder: Path, minutes: float, units: int, products: list[str]) -> Iterator[tuple[str, Path, Path]]:
    """The products, each with a tiny session and another one that it can be built from."""
    if of_sorting := [product for product in products if product in OF_SORTING]:
        tiny, session = folder / "tiny", folder / "sorting/session"
        write_session(tiny, 10, 1, 8.3334)
        write_session(session, units, minutes, 8.3334)
        yield from ((product, tiny, session) for product in of_sorting)
    if of_voltage := [product for product in products if product not in OF_SORTING]:
        second = Session.write(folder / "second", 1)
        repeated = Session.repeat(second, folder / "raw", round(60 * minutes))
        yield from ((product, second.folder, repeated.folder) for product in of_voltage)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", nargs="+", default=list(PRODUCTS), choices=PRODUCTS)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 10])
    parser.add_argument("--units", type=int, default=300)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_build(Path(options.one[0]), Path(options.one[1]), *options.one[2:])))
        return
    columns = ("product", "minutes", "plan", "worker", "serial", "libraries", "wall s")
    print(f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", sep="\n", flush=True)
    for minutes in options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            for product, tiny, session in sessions(Path(folder), minutes, options.units, options.products):
                command = [sys.executable, __file__, "--one", tiny, session, product]
                worker, serial = (run_process([*command, executor]) for executor in ("processes", "serial"))
                sizes = (worker["plan"], worker["over"], serial["over"], worker["libraries"])
                cells = [f"{size / 1e6:.0f} MB" for size in sizes]
                print("|", " | ".join([product, f"{minutes:g}", *cells, f"{worker['seconds']:.1f}"]), "|", flush=True)


if __name__ == "__main__":
    main()
