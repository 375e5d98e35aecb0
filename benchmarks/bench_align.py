"""Alignment to events: ours against what people use today.

    python benchmarks/bench_align.py [--units 1000] [--minutes 60] [--rate 8.33] [--events 500] [--rounds 3]

All units, all events, -0.5 to 1 s in bins of 20 ms. Every run is a process of its own, and the methods take turns:
trust the ratios, not the seconds. The spikes lie in memory before the clock starts, in the order that each method asks
for; memory is the peak of private memory over that. pynapple, of which the alignment is timed and not the counting,
runs in an environment of its own (`sh benchmarks/peers/pynapple.sh`), if that exists.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import Run, median, peak_memory, ratio, spread, take_turns, timed, timed_part
from report import Section, add_report_option, write_section

START, STOP, WIDTH = -0.5, 1.0, 0.02
PYNAPPLE = Path(__file__).parent / "peers/.venv-pynapple/bin/python"


class Data:
    """Spikes and events of a benchmark session, as written by `write`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.times = np.load(folder / "times.npy")  # by time
        self.clusters = np.load(folder / "clusters.npy")
        self.events = np.load(folder / "events.npy")
        self.n_units = int(np.load(folder / "n_units.npy"))

    @classmethod
    def write(cls, folder: Path, n_units: int, minutes: float, rate_hz: float, n_events: int) -> None:
        """Spikes on the 30 kHz grid with lognormal rates, events anywhere."""
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        weights = rng.lognormal(0, 1, n_units)
        n = int(n_units * minutes * 60 * rate_hz)
        np.save(folder / "times.npy", np.sort(rng.integers(0, int(minutes * 60 * 30000), n)) / 30000)
        np.save(folder / "clusters.npy", rng.choice(n_units, n, p=weights / weights.sum()).astype(np.int32))
        np.save(folder / "events.npy", np.sort(rng.uniform(2, minutes * 60 - 2, n_events)))
        np.save(folder / "n_units.npy", n_units)


def prepare_ours(data: Data) -> Any:
    import xarray as xr

    order = np.argsort(data.clusters, kind="stable")
    sizes = np.bincount(data.clusters, minlength=data.n_units)
    rows = {"row_size": ("unit", sizes), "row_start": ("unit", np.cumsum(sizes) - sizes)}
    span = {"n_spikes": len(data.times), "first_spike_s": data.times[0], "last_spike_s": data.times[-1]}
    return xr.Dataset({"spike_time": ("spike", data.times[order])}, {"unit": np.arange(data.n_units), **rows}, span)


def ours(spikes: Any, events: np.ndarray) -> np.ndarray:
    """Counts of every unit, event and bin, with labels."""
    import cubes

    counts: np.ndarray = cubes.align(spikes, events, (START, STOP), WIDTH).counts.values
    return counts


def prepare_brainbox(data: Data) -> Data:
    return data


def brainbox(data: Data, events: np.ndarray) -> np.ndarray:
    """calculate_peths: means and, beside them, counts."""
    from brainbox.singlecell import calculate_peths

    units = np.arange(data.n_units)
    _, binned = calculate_peths(data.times, data.clusters, units, events, -START, STOP, WIDTH, smoothing=0)
    return np.asarray(binned).transpose(1, 0, 2)


def prepare_pynapple(data: Data) -> Any:
    import pynapple as nap

    order = np.argsort(data.clusters, kind="stable")
    parts = np.split(data.times[order], np.cumsum(np.bincount(data.clusters, minlength=data.n_units))[:-1])
    return nap.TsGroup({unit: nap.Ts(part) for unit, part in enumerate(parts)})


def pynapple(group: Any, events: np.ndarray) -> np.ndarray:
    """compute_perievent, which is timed, and then the counts of every unit, to compare them."""
    import pynapple as nap

    with timed():
        aligned = nap.compute_perievent(group, nap.Ts(events), window=(START, STOP))
    return np.stack([aligned[unit].count(WIDTH, nap.IntervalSet(START, STOP)).values.T for unit in group.index])


METHODS: dict[str, tuple[Callable[[Data], Any], Callable[[Any, np.ndarray], np.ndarray]]] = {
    "ours": (prepare_ours, ours),
    "brainbox calculate_peths": (prepare_brainbox, brainbox),
    "pynapple compute_perievent": (prepare_pynapple, pynapple),
}


def run_one(folder: Path, method: str) -> Run:
    """One measured run, after one with two events that loads and compiles everything."""
    data = Data(folder)
    prepare, align = METHODS[method]
    prepared = prepare(data)
    align(prepared, data.events[:2])
    timed_part()
    with peak_memory() as peak:
        start = time.perf_counter()
        counts = align(prepared, data.events)
        seconds = time.perf_counter() - start
    shown = counts[:: max(len(counts) // 10, 1)]
    return {
        "seconds": timed_part() or seconds,
        "peak": peak(),
        "bytes": counts.size * 4,
        "sum": float(np.nansum(shown)),
    }


def report(results: dict[str, list[Run]]) -> str:
    """Medians, and the ratios within a round."""
    lines = [
        "| method | s (min–max) | ours is faster by | peak MB | result as float32 MB | spikes |",
        "|---|---|---|---|---|---|",
    ]
    for method, runs in results.items():
        lines.append(
            f"| {method} | {spread(runs)} | {ratio(runs, results['ours']):.1f} | {median(runs, 'peak') / 1e6:.0f} "
            f"| {runs[0]['bytes'] / 1e6:.0f} | {runs[0]['sum']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=8.3334, help="mean rate of a unit, Hz")
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    add_report_option(parser)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(run_one(Path(options.one[0]), options.one[1])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "session"
        Data.write(folder, options.units, options.minutes, options.rate, options.events)
        commands: dict[str, list[str | Path]] = {}
        for method in METHODS:
            python = PYNAPPLE if method.startswith("pynapple") else Path(sys.executable)
            if python.exists():
                commands[method] = [python, __file__, "--one", folder, method]
        what = f"{options.units} units, {options.minutes:g} min, {options.events} events"
        print(what, flush=True)
        table = report(take_turns(commands, options.rounds))
        print(table)
    if options.report:
        missing = ". ".join(
            f"{method} is missing: its environment was not made" for method in METHODS.keys() - commands
        )
        text = f"{what}, {options.rounds} rounds. {missing}"
        write_section("align", Section("Alignment to events against peers", f"{text}\n\n{table}"))


if __name__ == "__main__":
    main()
