"""The data of the benchmarks of layouts: a registry, and arrays that are made once and kept.

    python benchmarks/datasets.py [--data FOLDER] [--quick] [NAME ...]

Every data set is one array in a ``.npy`` file, mapped and not loaded. Voltage compresses as real voltage does (mtscomp:
AP 2.5 to 3, LF about 3.2). The long ones are made of the same seconds again and again, which no codec of ours notices:
a chunk, and a block of it, is shorter than what is repeated.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from raw_session import voltage

from chunking.bins import BinGrid, width_from_name
from chunking.counting import count_spikes

CACHE = Path(tempfile.gettempdir()) / "ibl-cubes-bench"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Dataset:
    """One array to cut into chunks.

    Attributes
    ----------
    name, about : str
    product : str
        Whose layouts apply: counts_20ms, counts_1ms, spikes, ap, lf, lfp or pooled.
    variable : str
        Name of the array in a store.
    dims : tuple of str
    shape : tuple of int
    quick : tuple of int
        Shape in tests.
    step_s : float
        Seconds from one bin or sample to the next; of ragged spikes, the mean between spikes of a unit.
    dtype : str
    long : bool
        Left out unless asked for: it takes minutes and gigabytes.
    """

    name: str
    about: str
    product: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    quick: tuple[int, ...]
    step_s: float
    dtype: str
    long: bool = False

    def size(self, *, quick: bool) -> tuple[int, ...]:
        """The shape."""
        return self.quick if quick else self.shape


def _voltage(name: str, seconds: int, rate_hz: int, *, long: bool = False) -> Dataset:
    band = name.partition("_")[0]
    about = f"{band.upper()}, 384 channels, {seconds} s, int16"
    quick = (40, rate_hz if band == "ap" else 4 * rate_hz)
    return Dataset(
        name, about, band, band, ("channel", "time"), (384, seconds * rate_hz), quick, 1 / rate_hz, "int16", long
    )


def _counts(width: str, minutes: int) -> Dataset:
    step_s = float(width_from_name(width))
    about = f"1000 units, {minutes} min in bins of {width}, Poisson with log-normal rates of 8.3 Hz in the mean"
    shape, quick = (1000, round(minutes * 60 / step_s)), (40, round(20 / step_s))
    return Dataset(
        f"counts_{width}", about, f"counts_{width}", "counts", ("unit", "time"), shape, quick, step_s, "uint8"
    )


DATASETS = {
    dataset.name: dataset
    for dataset in (
        _counts("20ms", 60),
        _counts("1ms", 10),
        Dataset(
            "spikes", "times of 30 million spikes of 1000 units in 60 min, by unit and then by time", "spikes",
            "spike_time", ("spike",), (30_000_000,), (20_000,), 1 / 8.3334, "float64",
        ),
        _voltage("ap_30s", 30, 30_000),
        _voltage("ap_300s", 300, 30_000, long=True),
        _voltage("lf_600s", 600, 2500),
        _voltage("lf_1h", 3600, 2500, long=True),
        Dataset(
            "lfp_250hz", "LFP at 250 Hz, 384 channels, 20 min, float32 uV", "lfp", "lfp", ("channel", "time"),
            (384, 300_000), (40, 2_500), 1 / 250, "float32",
        ),
        Dataset(
            "pooled", "mean rates of 20,000 units in 8 conditions and 75 bins, float32 Hz", "pooled", "stim",
            ("unit", "condition", "time"), (20_000, 8, 75), (200, 8, 75), 0.02, "float32",
        ),
    )
}  # fmt: skip
"""All data sets by name."""

N_UNITS, MEAN_HZ, TICKS_HZ = 1000, 8.3334, 30_000
NOISE_LSB = {"ap": 5.0, "lf": 8.0}  # of which the ratio of mtscomp follows
REPEATED_S = {"ap": 30, "lf": 300}  # longer than a block of 1 MiB of one channel


def load(name: str, folder: Path = CACHE, *, quick: bool = False) -> Array:
    """The array of a data set, mapped; made the first time."""
    dataset = DATASETS[name]
    path = folder / ("quick" if quick else "full") / f"{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        shape = dataset.size(quick=quick)
        array = np.lib.format.open_memmap(partial, "w+", np.dtype(dataset.dtype), shape)
        MAKERS[dataset.product](dataset, array)
        array.flush()
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def unit_of_spikes(n_spikes: int) -> Array:
    """Spikes of every unit, in order of unit: log-normal rates, the same in every run."""
    weights = np.random.default_rng(1).lognormal(0, 1, N_UNITS)
    sizes = np.floor(n_spikes * weights / weights.sum()).astype(np.int64)
    sizes[0] += n_spikes - sizes.sum()
    return sizes


def _make_spikes(dataset: Dataset, out: Array) -> None:
    """Times on the 30 kHz grid, sorted in every unit."""
    rng, stop = np.random.default_rng(2), 0
    seconds = len(out) / (N_UNITS * MEAN_HZ)
    for size in unit_of_spikes(len(out)):
        start, stop = stop, stop + size
        out[start:stop] = np.sort(rng.integers(0, round(seconds * TICKS_HZ), size)) / TICKS_HZ


def _make_counts(dataset: Dataset, out: Array) -> None:
    """Counted block by block from spikes in order of time."""
    rng, (n_units, n_bins) = np.random.default_rng(3), out.shape
    weights = rng.lognormal(0, 1, n_units)
    width = width_from_name(dataset.name.partition("_")[2])
    step = max(20_000_000 // n_units, 1)
    for start in range(0, n_bins, step):
        grid = BinGrid(width, start, min(step, n_bins - start))
        n = round(n_units * MEAN_HZ * grid.n * dataset.step_s)
        ticks = rng.integers(0, max(round(grid.n * dataset.step_s * TICKS_HZ), 1), n)
        times = np.sort(ticks) / TICKS_HZ + start * dataset.step_s
        units = rng.choice(n_units, n, p=weights / weights.sum()).astype(np.int64)
        inside = (times >= grid.edges()[0]) & (times < grid.edges()[-1])
        block = count_spikes(times[inside], units[inside], grid, (0, n_units), np.dtype(np.uint8))
        out[:, start : start + grid.n] = block


def _make_voltage(dataset: Dataset, out: Array) -> None:
    """Seconds of the generated session, (channel, time), repeated where the data set is longer."""
    n_channels, n_samples = out.shape
    repeated = min(n_samples, round(REPEATED_S[dataset.product] / dataset.step_s))
    for start, block in _seconds(dataset, repeated):
        for again in range(start, n_samples, repeated):
            stop = min(again + len(block), n_samples)
            out[:, again:stop] = block[: stop - again, :n_channels].T


def _seconds(dataset: Dataset, n_samples: int) -> Iterator[tuple[int, Array]]:
    start = 0
    for block in voltage(dataset.product, n_samples, round(1 / dataset.step_s), NOISE_LSB[dataset.product]):
        yield start, block
        start += len(block)


def _make_lfp(dataset: Dataset, out: Array) -> None:
    """Slow waves and noise in uV: all bits of the mantissa are in use, as after a filter."""
    rng, (n_channels, n_samples) = np.random.default_rng(4), out.shape
    step = 10_000
    for start in range(0, n_samples, step):
        at = np.arange(start, min(start + step, n_samples), dtype=np.float32) * np.float32(dataset.step_s)
        noise = 15 * rng.standard_normal((n_channels, len(at)), dtype=np.float32)
        phase = np.arange(n_channels, dtype=np.float32)[:, None] / 100
        out[:, start : start + step] = noise + 100 * np.sin(2 * np.pi * 6 * at + phase)


def _make_pooled(dataset: Dataset, out: Array) -> None:
    """Means over some 100 trials of rates that differ from unit to unit."""
    rng = np.random.default_rng(5)
    rates = rng.lognormal(1.5, 1, (out.shape[0], 1, 1))
    out[:] = rng.poisson(rates * dataset.step_s * 100, out.shape) / np.float32(100 * dataset.step_s)


MAKERS: dict[str, Callable[[Dataset, Array], None]] = {
    "counts_20ms": _make_counts,
    "counts_1ms": _make_counts,
    "spikes": _make_spikes,
    "ap": _make_voltage,
    "lf": _make_voltage,
    "lfp": _make_lfp,
    "pooled": _make_pooled,
}


def main() -> None:
    """Make data sets ahead of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=DATASETS, default=[n for n, d in DATASETS.items() if not d.long])
    parser.add_argument("--data", type=Path, default=CACHE)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for name in options.names:
        array = load(name, options.data, quick=options.quick)
        print(f"{name}: {array.shape} {array.dtype}, {array.nbytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
