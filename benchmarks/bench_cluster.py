"""Builds of many small insertions on a dask cluster: what an insertion costs, and whether that grows with their number.

    python benchmarks/bench_cluster.py [--insertions 10 50 200 699] [--workers 2] [--plot cost.png]

Generated insertions (`--units`, `--minutes`), three products each. Every build runs in a process of its own: serially;
on a cluster of this machine that runs already, whose scheduler lives in the process that builds; and `cubes.map` over
what was built. The overhead of the cluster is what it takes longer than the serial build: negative where the workers
gain more than it costs. Beside it the time of all processes on the CPU, which other work on the machine does not
change. All files are in the cache of the system.
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
from typing import Any

import numpy as np
import pandas as pd
from measure import Run, run_process

import cubes

PRODUCTS = ("spikes", "channels", "counts_20ms")


def write_session(folder: Path, units: int, minutes: float, channels: int = 384) -> None:
    """A bare ALF session of one probe."""
    rng = np.random.default_rng(0)
    spikes = int(units * minutes * 60 * 5)  # 5 Hz
    arrays = {
        "spikes.times": np.sort(rng.uniform(0, minutes * 60, spikes)),
        "spikes.clusters": rng.integers(0, units, spikes, np.uint32),
        "spikes.amps": rng.uniform(5e-5, 3e-4, spikes),
        "spikes.depths": rng.uniform(0, 3820, spikes),
        "clusters.channels": rng.integers(0, channels, units),
        "clusters.depths": rng.uniform(0, 3820, units),
        "channels.localCoordinates": np.c_[np.tile([43.0, 11, 59, 27], channels // 4), np.arange(channels) // 2 * 20.0],
        "channels.rawInd": np.arange(channels),
        "channels.mlapdv": np.c_[np.full(channels, -2000), np.full(channels, -1500), np.linspace(-4000, 0, channels)],
        "channels.brainLocationIds_ccf_2017": np.full(channels, 382),
    }
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    metrics = pd.DataFrame({"cluster_id": range(units), "label": rng.integers(0, 4, units) / 3, "firing_rate": 5.0})
    metrics.to_parquet(folder / "clusters.metrics.pqt")


class Sessions:
    """Many sessions as one source."""

    def __init__(self, folder: Path) -> None:
        probes = [(path, cubes.source("folder", path)) for path in sorted(folder.iterdir())]
        self._of = {source.insertions()[0].pid: source for _, source in probes}

    def insertions(self) -> list[Any]:
        """All of them."""
        return [source.insertion(pid) for pid, source in self._of.items()]

    def insertion(self, pid: str) -> Any:
        """One of them."""
        return self._of[pid].insertion(pid)

    def datasets(self, insertion: Any) -> Any:
        """Its files."""
        return self._of[insertion.pid].datasets(insertion)


def total(ds: Any) -> Any:
    """What `cubes.map` computes."""
    return ds.counts.astype("int64").sum()


def peak_rss() -> int:
    """Most memory that this process ever held, in bytes."""
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def build_on(executor: str, folder: Path, workers: int) -> Run:
    """Build all sessions of a folder; on a cluster, also run `cubes.map` over them."""
    source, root = Sessions(folder / "sessions"), folder / executor
    shutil.rmtree(root, ignore_errors=True)
    start = time.perf_counter()
    plan = cubes.plan(source, [insertion.pid for insertion in source.insertions()], PRODUCTS, root=root)
    run: Run = {"plan": time.perf_counter() - start}
    if executor != "dask":
        begun = time.process_time()
        run |= _timed(plan, executor, workers)
        return run | {"memory": peak_rss(), "cpu": time.process_time() - begun}
    import dask
    from distributed import Client, LocalCluster, SchedulerPlugin

    class Most(SchedulerPlugin):
        tasks = 0

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            self.tasks = max(self.tasks, len(cluster.scheduler.tasks))

    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "threads_per_worker": 1}
    dask.config.set({"distributed.worker.profile.enabled": False})  # as on the clusters that we start
    with LocalCluster(n_workers=workers, **local) as cluster, Client(cluster) as client:
        most = Most()
        cluster.scheduler.add_plugin(most)
        begun, workers_begun = time.process_time(), sum(client.run(time.process_time).values())
        run |= _timed(plan, cluster.scheduler_address, workers)
        driver, all_workers = time.process_time() - begun, sum(client.run(time.process_time).values()) - workers_begun
        run |= {"cpu": driver + all_workers, "driver": driver, "memory": peak_rss()}
        run |= {"tasks": most.tasks, "workers": max(client.run(peak_rss).values())}
        most.tasks, start = 0, time.perf_counter()
        cubes.map(total, root, product="counts_20ms", executor=cluster.scheduler_address)
        return run | {"map": time.perf_counter() - start, "map_tasks": most.tasks}


def _timed(plan: Any, executor: str, workers: int) -> Run:
    start = time.perf_counter()
    stores = cubes.build(plan, executor=executor, workers=workers)
    seconds = time.perf_counter() - start
    if len(stores) != len(plan.stores):
        raise RuntimeError(f"{len(stores)} of {len(plan.stores)} stores were built")
    return {"seconds": seconds}


def measure(n: int, options: argparse.Namespace) -> dict[str, Run]:
    """Every executor, each in a process of its own, on the same sessions."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "sessions", "s0000")
        write_session(first / "alf/probe00", options.units, options.minutes)
        for number in range(1, n):
            shutil.copytree(first, first.with_name(f"s{number:04}"), copy_function=os.link)
        common = ["--workers", str(options.workers), "--folder", folder]
        names = [name for name in options.executors if name != "serial" or n <= options.serial_most]
        return {name: run_process([sys.executable, __file__, *common, "--one", name]) for name in names}


def row(n: int, name: str, run: Run, serial: Run | None) -> str:
    """One line of the table."""
    cells = [f"{n}", name, f"{run['plan'] / n * 1e3:.0f}", f"{run['seconds'] / n * 1e3:.0f}"]
    cells += [f"{(run['seconds'] - serial['seconds']) / n * 1e3:+.0f}" if serial else ""]
    cells += [f"{run['cpu'] / n * 1e3:.0f}", f"{run['driver'] / n * 1e3:.0f}" if "driver" in run else ""]
    cells += [f"{run['memory'] / 1e6:.0f} MB"]
    if "tasks" in run:
        cells += [f"{run['workers'] / 1e6:.0f} MB", f"{run['tasks']:.0f}", f"{run['map'] / n * 1e3:.1f}"]
        cells += [f"{run['map_tasks']:.0f}"]
    return f"| {' | '.join(cells)} |"


def plot(runs: dict[int, dict[str, Run]], path: Path) -> None:
    """Cost of an insertion against their number."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (cost, memory) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name in next(iter(runs.values())):
        each = {n: run[name]["seconds"] / n * 1e3 for n, run in runs.items() if name in run}
        (line,) = cost.plot(list(each), list(each.values()), "o-", label=f"{name}, elapsed")
        cpu = [run[name]["cpu"] / n * 1e3 for n, run in runs.items() if name in run]
        cost.plot(list(each), cpu, "s:", color=line.get_color(), label=f"{name}, on the CPU")
    cost.set(xscale="log", xlabel="insertions", ylabel="ms per insertion", ylim=(0, None), title="Cost of an insertion")
    for key, label in (("memory", "driver and scheduler"), ("workers", "largest worker")):
        peaks = {n: run["dask"][key] / 1e6 for n, run in runs.items() if "dask" in run}
        memory.plot(list(peaks), list(peaks.values()), "o-", label=label)
    memory.set(xscale="log", xlabel="insertions", ylabel="peak MB", ylim=(0, None), title="Memory on the cluster")
    for axes in (cost, memory):
        axes.set_xticks(list(runs), [str(n) for n in runs])
        axes.minorticks_off()
        axes.set_ylim(0, axes.get_ylim()[1] * 1.4)  # room for the legend
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--insertions", type=int, nargs="+", default=[10, 50, 200, 699])
    parser.add_argument("--executors", nargs="+", default=["serial", "dask"])
    parser.add_argument("--serial-most", type=int, default=699, help="build more insertions than this not serially")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--units", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(build_on(options.one, options.folder, options.workers)))
        return
    print("Milliseconds an insertion; `driver` is the process that builds, with the scheduler in it.\n")
    print(
        "| insertions | executor | plan | build | overhead | CPU | CPU driver | driver | worker | tasks | map | tasks |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    runs: dict[int, dict[str, Run]] = {}
    for n in options.insertions:
        runs[n] = measure(n, options)
        for name, run in runs[n].items():
            print(row(n, name, run, runs[n].get("serial")), flush=True)
        if options.plot:
            plot(runs, options.plot)


if __name__ == "__main__":
    main()
