"""`cubes.pool` over generated insertions: seconds an insertion, and peak memory.

    python benchmarks/bench_pool.py [--insertions 10 30 100] [--units 100] [--trials 500] [--minutes 60] [--rate-hz 10]

Units fire as Poisson processes, all are good; the recipe is that of the brain-wide map. Insertions beyond the first few
are hard links to these, under other pids, so that files are in the cache of the system. Every run is a process of its
own, with two threads. The first pool of all, which is not listed, compiles. CPU seconds tell more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import Run, peak_memory, run_process, size_of
from pool_root import random_trials, write_spikes, write_trials

from chunking.manifest import entry, make_manifest, read_manifest
from loaders.records import Insertion

ORIGINALS = 4
BWM_UNITS = 75_708


def pid_of(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def write_original(root: Path, number: int, units: int, trials: int, stop_s: float, rate_hz: float) -> None:
    """One insertion and its session; rates vary from unit to unit as they do in the brain, log-normally."""
    rng = np.random.default_rng(number)
    rates = rate_hz * rng.lognormal(-0.5, 1, units)
    trains = [np.sort(rng.uniform(0, stop_s, rng.poisson(rate * stop_s))) for rate in rates]
    regions = rng.choice([385, 549, 382], units)
    insertion = Insertion(pid_of(number), pid_of(number), "probe00", "lab", f"subject{number}", "2020-01-01", 1)
    write_spikes(root, insertion, trains, np.ones(units), regions, [""] * units)  # without uuids, which are unique
    write_trials(root, insertion.eid, random_trials(rng, trials, stop_s))


def copy_insertion(root: Path, old: str, new: str) -> None:
    """The stores of an insertion and its session under other ids: links, but for metadata and manifest."""
    for kind in ("insertions", "sessions"):
        for store in (root / kind / old).glob("*.zarr"):
            copy = root / kind / new / store.name
            shutil.copytree(store, copy, copy_function=os.link)
            text = (store / "zarr.json").read_text().replace(old, new)
            (copy / "zarr.json").unlink()
            (copy / "zarr.json").write_text(text)
            manifest = read_manifest(store)
            files = manifest.pop("files") | {"zarr.json": entry(copy / "zarr.json")}
            facts = {name: value for name, value in manifest.items() if name != "crc32"}
            (copy / "manifest.json").unlink()
            (copy / "manifest.json").write_text(json.dumps(make_manifest(files, facts), sort_keys=True, indent=1))


def write_root(root: Path, insertions: int, units: int, trials: int, minutes: float, rate_hz: float) -> None:
    for number in range(insertions):
        if number < ORIGINALS:
            write_original(root, number, units, trials, minutes * 60, rate_hz)
        else:
            copy_insertion(root, pid_of(number % ORIGINALS), pid_of(number))


def measure(root: Path, insertions: int) -> Run:
    """One pool, and the same call again."""
    import cubes

    pids = [pid_of(number) for number in range(insertions)]
    with peak_memory() as peak:
        start, start_cpu = time.perf_counter(), time.process_time()
        cubes.pool(root, pids=pids, name=f"of_{insertions}")
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    start = time.perf_counter()
    cubes.pool(root, pids=pids, name=f"of_{insertions}")
    again = time.perf_counter() - start
    on_disk = size_of(root / f"pooled/of_{insertions}.zarr")
    return {"seconds": seconds, "cpu": cpu, "again": again, "peak": peak(), "bytes": on_disk}


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--insertions", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate-hz", type=float, default=10)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root is not None:
        print(json.dumps(measure(options.root, options.insertions[0])))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_root(root, max(options.insertions), options.units, options.trials, options.minutes, options.rate_hz)
        print(f"{options.units} units, {options.trials} trials, {options.minutes:g} min, {options.rate_hz:g} Hz")
        print("| insertions | s | s an insertion | CPU s an insertion | memory | on disk | the same call again |")
        print("|---|---|---|---|---|---|---|")
        command = [sys.executable, __file__, "--root", root, "--insertions"]
        run_process([*command, "1"])
        for insertions in options.insertions:
            run = run_process([*command, str(insertions)])
            each, cpu = run["seconds"] / insertions, run["cpu"] / insertions
            print(
                f"| {insertions} | {run['seconds']:.1f} | {each:.3f} | {cpu:.3f} | {run['peak'] / 1e6:.0f} MB | "
                f"{run['bytes'] / 1e6:.1f} MB | {run['again']:.2f} s |",
                flush=True,
            )
        of_all = BWM_UNITS / options.units / 60
        print(f"{BWM_UNITS:,} units at the last rate: {each * of_all:.1f} min, {cpu * of_all:.1f} min of CPU")


if __name__ == "__main__":
    main()
