"""Spike counting: ours against the functions that people use today, and against the floors of the machine.

    python benchmarks/bench_counts.py [--units 1000] [--minutes 60] [--rate 8.33] [--rounds 3] [--json FILE]

Every run is a process of its own, and the methods take turns, so that a change of the machine's speed hits all alike:
trust the ratios, not the seconds. Inputs are mapped from ``.npy`` files for everyone. Memory is the peak of private
memory (RssAnon) over what the process had before, so neither inputs nor imports count.

Dense methods cannot hold an hour at 1 ms (3.6e9 cells of 8 bytes are 29 GB); they work on blocks of 60 million cells,
which flatters their memory. Ours and the floors use the same blocks.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from measure import Run, median, peak_memory, ratio, size_of, spread, take_turns, timed, timed_part
from report import Section, add_report_option, write_section

WIDTHS = {"1ms": Fraction(1, 1000), "20ms": Fraction(1, 50), "100ms": Fraction(1, 10)}
BLOCK_CELLS = 60_000_000


class Data:
    """The spikes of one benchmark session, cut into blocks of `BLOCK_CELLS` cells."""

    def __init__(self, session: Path, width: Fraction) -> None:
        sorting = session / "alf/probe00/iblsorter"
        self.session, self.width = session, width
        self.times = np.load(sorting / "spikes.times.npy", mmap_mode="r")
        self.clusters = np.load(sorting / "spikes.clusters.npy", mmap_mode="r")
        self.n_units = len(np.load(sorting / "clusters.channels.npy", mmap_mode="r"))
        self.n_bins = int(self.times[-1] / float(width)) + 1
        self.block_bins = min(self.n_bins, max(1, BLOCK_CELLS // self.n_units))

    def blocks(self) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """First and last bin, times and clusters of every block."""
        for start in range(0, self.n_bins, self.block_bins):
            stop = min(start + self.block_bins, self.n_bins)
            i, j = np.searchsorted(self.times, [start * float(self.width), stop * float(self.width)])
            yield start, stop, self.times[i:j], self.clusters[i:j]


def ours_count(data: Data) -> None:
    """Count every block, exactly, without writing."""
    from chunking.bins import BinGrid
    from chunking.counting import count_spikes

    grid = BinGrid.spanning(data.width, 0.0, float(data.times[-1]))
    for start in range(0, grid.n, data.block_bins):
        part = grid.part(start, min(start + data.block_bins, grid.n))
        i, j = np.searchsorted(data.times, part.edges()[[0, -1]])
        count_spikes(data.times[i:j], data.clusters[i:j], part, (0, data.n_units), np.dtype("uint8"))


def ours_build(data: Data) -> int:
    """From the session folder to a published, verified store: hashes, validation, plan, counting, writing, fsync."""
    import cubes
    from chunking.bins import width_name

    with tempfile.TemporaryDirectory(dir=data.session.parent) as root:
        source = cubes.source("folder", data.session)
        plan = cubes.plan(source, [source.insertions()[0].pid], [f"counts_{width_name(data.width)}"], root=root)
        cubes.build(plan)
        return size_of(Path(root))


def ours_write(data: Data) -> int:
    """Count and write: from spikes in memory to a published, verified store, fsync included."""
    import cubes
    from chunking.bins import width_name
    from chunking.build import build_store
    from chunking.executors import open_executor
    from chunking.products import parse_product
    from loaders.inputs import Inputs

    with tempfile.TemporaryDirectory(dir=data.session.parent) as root:
        source = cubes.source("folder", data.session)
        pid, name = source.insertions()[0].pid, f"counts_{width_name(data.width)}"
        plan = cubes.plan(source, [pid], [name], root=root)
        inputs = Inputs(source, pid)
        inputs.sorting  # noqa: B018  loaded before the clock starts
        with open_executor("threads", 2) as execute, timed():
            build_store(
                Path(root), plan.stores[0], parse_product(name), inputs, execute, lambda _: None, replacing=False
            )
        return size_of(Path(root))


def bincount2d(data: Data) -> None:
    """What brainbox uses."""
    from iblutil.numerical import bincount2D

    width = float(data.width)
    for start, stop, times, clusters in data.blocks():
        bincount2D(times, clusters, xbin=width, ybin=1, xlim=[start * width, stop * width], ylim=[0, data.n_units - 1])


def histogram2d(data: Data) -> None:
    """NumPy's own."""
    for start, stop, times, clusters in data.blocks():
        edges = np.arange(start, stop + 1) * float(data.width)
        np.histogram2d(clusters, times, bins=[np.arange(data.n_units + 1), edges])


def scipy_sparse(data: Data) -> None:
    """Coordinates to a sparse matrix; edges by floor, so some spikes are a bin off."""
    from scipy.sparse import coo_array

    for start, stop, times, clusters in data.blocks():
        bins = np.floor(times / float(data.width)).astype(np.int32) - start
        shape = (data.n_units, stop - start + 1)
        coo_array((np.ones(len(bins), np.uint8), (clusters.astype(np.int32), bins)), shape=shape).tocsr()


def memset(data: Data) -> None:
    """Floor: set every cell of a reused block to zero."""
    block = np.empty((data.n_units, data.block_bins), np.uint8)
    for _ in range(0, data.n_bins, data.block_bins):
        block.fill(0)


METHODS: dict[str, Callable[[Data], int | None]] = {
    "ours, counting": ours_count,
    "ours, counting and writing": ours_write,
    "ours, files to store": ours_build,
    "iblutil bincount2D": bincount2d,
    "np.histogram2d": histogram2d,
    "scipy coo to csr": scipy_sparse,
    "memset floor": memset,
}


def write_session(folder: Path, n_units: int, minutes: float, rate_hz: float) -> None:
    """An ALF session with lognormal rates and spike times on the 30 kHz grid, in order of time."""
    sorting = folder / "alf/probe00/iblsorter"
    sorting.mkdir(parents=True)
    rng = np.random.default_rng(1)
    weights = rng.lognormal(0, 1, n_units)
    n = int(n_units * minutes * 60 * rate_hz)
    times = np.sort(rng.integers(0, int(minutes * 60 * 30000), n)) / 30000
    np.save(sorting / "spikes.times.npy", times)
    np.save(sorting / "spikes.clusters.npy", rng.choice(n_units, n, p=weights / weights.sum()).astype(np.uint32))
    np.save(sorting / "clusters.channels.npy", np.arange(n_units) % 384)


def run_one(session: Path, width: str, method: str) -> dict[str, float | None]:
    """One measured run, after one on a handful of spikes that loads and compiles everything."""
    tiny = session.parent / "tiny"
    METHODS[method](Data(tiny, Fraction(1, 10)))
    timed_part()
    data = Data(session, WIDTHS[width])
    with peak_memory() as peak:
        start = time.perf_counter()
        disk = METHODS[method](data)
        seconds = time.perf_counter() - start
    return {"seconds": timed_part() or seconds, "peak": peak(), "disk": disk, "spikes": len(data.times)}


def measure(session: Path, rounds: int) -> dict[str, dict[str, list[Run]]]:
    """All methods at all widths, in turns, each run in a process of its own."""
    commands = {
        (width, method): [sys.executable, __file__, "--one", session, width, method]
        for width in WIDTHS
        for method in METHODS
    }
    runs = take_turns(commands, rounds)
    return {width: {method: runs[width, method] for method in METHODS} for width in WIDTHS}


def report(results: dict[str, dict[str, list[Run]]]) -> str:
    """A table with medians; ratios are medians of the ratios within a round."""
    lines = []
    for width, methods in results.items():
        reference = methods["iblutil bincount2D"]
        lines += [
            "",
            f"### {width}",
            "",
            "| method | s (min–max) | million spikes/s | x bincount2D | peak MB | disk MB |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        for method, runs in methods.items():
            speed = runs[0]["spikes"] / median(runs) / 1e6
            disk = f"{runs[0]['disk'] / 1e6:.1f}" if runs[0]["disk"] else ""
            lines.append(
                f"| {method} | {spread(runs)} | {speed:.0f} | {ratio(reference, runs):.1f} "
                f"| {median(runs, 'peak') / 1e6:.0f} | {disk} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=8.3334, help="mean rate of a unit, Hz")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    add_report_option(parser)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(Path(options.one[0]), *options.one[1:])))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_session(Path(folder) / "session", options.units, options.minutes, options.rate)
        write_session(Path(folder) / "tiny", 10, 1, 5)
        spikes = int(options.units * options.minutes * 60 * options.rate)
        print(f"{options.units} units, {options.minutes:g} min, {spikes:,} spikes, {os.cpu_count()} cores", flush=True)
        results = measure(Path(folder) / "session", options.rounds)
    print(report(results))
    if options.report:
        text = f"{options.units} units, {options.minutes:g} min, {spikes:,} spikes, {options.rounds} rounds."
        write_section("counts", Section("Spike counts against peers", text + "\n" + report(results)))
    if options.json:
        options.json.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
