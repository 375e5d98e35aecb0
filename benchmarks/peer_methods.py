"""What bench_claims.py times: each path as we do it, and as the tools of today do.

    python benchmarks/peer_methods.py PATH METHOD FOLDER    # in the environment of the method; prints one line of JSON

Every import is late, because each tool runs in an environment of its own. A method gives seconds and, where it reads
integers or counts around events, their sum, by which bench_claims.py sees that all of them did the same.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import Run, peak_memory, size_of

N_ROWS, RATE, CHANNEL = 385, 30000, 100
START, STOP, WIDTH = -0.5, 1.0, 0.02
Array = np.ndarray[Any, Any]


# --- counts: files of a sorting -> a stored cube


def spikes(root: Path) -> tuple[Array, Array, int]:
    """Times, clusters and number of units, from the files."""
    sorting = root / "session/alf/probe00/iblsorter"
    times, clusters = (np.load(sorting / f"spikes.{name}.npy") for name in ("times", "clusters"))
    return times, clusters, len(np.load(sorting / "clusters.channels.npy"))


def blocks(times: Array, n_units: int, width: float) -> Iterator[tuple[float, float, slice]]:
    """First and last time and the spikes of blocks of 60 million cells: a dense array of float64 does not fit."""
    step = max(1, 60_000_000 // n_units) * width
    for start in np.arange(0, times[-1], step):
        i, j = np.searchsorted(times, [start, start + step])
        yield start, min(start + step, times[-1] + width), slice(i, j)


def counts_ours(root: Path, out: Path, width: float) -> None:
    import cubes

    source = cubes.source("folder", root / "session")
    pid = source.insertions()[0].pid
    cubes.build(cubes.plan(source, [pid], [f"counts_{round(1000 * width)}ms"], root=out), workers=2)


def counts_brainbox(root: Path, out: Path, width: float) -> None:
    """`bincount2D`, with which brainbox counts, and `xarray.to_zarr` as it comes, block after block."""
    import xarray as xr
    from iblutil.numerical import bincount2D

    times, clusters, n_units = spikes(root)
    for start, stop, part in blocks(times, n_units, width):
        limits = {"xlim": [start, stop - width], "ylim": [0, n_units - 1]}
        counts, at, units = bincount2D(times[part], clusters[part], xbin=width, ybin=1, **limits)
        block = xr.Dataset({"counts": (("unit", "time"), counts.astype(np.uint8))}, {"unit": units, "time": at})
        if start == 0:
            block.to_zarr(out / "counts.zarr", consolidated=False)
        else:
            block.to_zarr(out / "counts.zarr", append_dim="time", consolidated=False)


def counts_pynapple(root: Path, out: Path, width: float) -> None:
    """`TsGroup.count`, and its own file."""
    import pynapple as nap

    times, clusters, n_units = spikes(root)
    group = nap.TsGroup({unit: nap.Ts(times[clusters == unit]) for unit in range(n_units)})
    group.count(width).save(str(out / "counts.npz"))


def counts_nwb(root: Path, out: Path, width: float) -> None:
    """The units table of an NWB file, a histogram a unit, and an HDF5 array with gzip."""
    import h5py

    with h5py.File(root / "units.nwb") as file, h5py.File(out / "counts.h5", "w") as target:
        times, ends = file["units/spike_times"][:], file["units/spike_times_index"][:]
        n = int(times.max() / width) + 1
        counts = target.create_dataset("counts", (len(ends), n), np.uint8, chunks=(1, n), compression="gzip")
        for unit, (a, b) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            counts[unit] = np.histogram(times[a:b], n, (0, n * width))[0]


def run_counts(method: str, root: Path, width: float) -> Run:
    """Once small, and then for good."""
    work = {"ours": counts_ours, "brainbox": counts_brainbox, "pynapple": counts_pynapple, "nwb": counts_nwb}[method]
    with tempfile.TemporaryDirectory(dir=root) as warm:
        work(root / "tiny", Path(warm), 0.1)
    with tempfile.TemporaryDirectory(dir=root) as folder, peak_memory() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        work(root, Path(folder), width)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "peak": peak(), "disk": size_of(Path(folder))}


# --- ap: .cbin -> a stored array


def cbin(root: Path) -> Path:
    return next((root / "session/raw_ephys_data/probe00").glob("*.ap.cbin"))


def build_ours(root: Path, out: Path) -> None:
    import cubes

    source = cubes.source("folder", root / "session")
    cubes.build(cubes.plan(source, ["session_probe00"], ["ap"], root=out), workers=2)


def build_to_zarr(root: Path, out: Path) -> None:
    """`mtscomp` as a lazy array of dask, and `xarray.to_zarr` as it comes."""
    import dask
    import dask.array as da
    import mtscomp
    import xarray as xr

    path = cbin(root)
    reader = mtscomp.decompress(path, path.with_suffix(".ch"))
    read, sizes = dask.delayed(reader.read_chunk), np.diff(reader.chunk_bounds)
    chunks = zip(reader.iter_chunks(), sizes, strict=True)
    lazy = [da.from_delayed(read(*chunk), (int(n), N_ROWS), np.int16) for chunk, n in chunks]
    with dask.config.set(scheduler="threads", num_workers=2):
        xr.Dataset({"ap": (("time", "channel"), da.concatenate(lazy))}).to_zarr(out / "ap.zarr", consolidated=False)


def run_build(method: str, root: Path) -> Run:
    work = {"ours": build_ours, "to_zarr": build_to_zarr}[method]
    with tempfile.TemporaryDirectory(dir=root) as warm:
        work(root / "tiny", Path(warm))
    with tempfile.TemporaryDirectory(dir=root) as folder, peak_memory() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        work(root, Path(folder))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"seconds": seconds, "cpu": cpu, "peak": peak(), "disk": size_of(Path(folder))}


# --- window and channel: each gives a function (first sample, last sample, channel or None) that is ready to read

Read = Callable[[int, int, int | None], Any]


def read_ours(root: Path) -> Read:
    import cubes

    ap = cubes.open(root / "cube", "session_probe00", chunks=None)["ap"].ap  # as what everybody else here gives
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(None) if c is None else c).values.T


def read_in_place(root: Path) -> Read:
    import xarray as xr

    ap = xr.open_dataset(cbin(root), engine="cubes").ap
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(None) if c is None else c).values.T


def read_spikeglx(root: Path) -> Read:
    """In float32 volts."""
    import spikeglx

    reader = spikeglx.Reader(cbin(root), sort=False)
    return lambda a, b, c: reader[a:b, : N_ROWS - 1] if c is None else reader[a:b, c]


def _traces(recording: Any) -> Read:
    ids = recording.channel_ids

    def read(a: int, b: int, c: int | None) -> Any:
        return recording.get_traces(0, a, b, None if c is None else [ids[c]])

    return read


def read_si_cbin(root: Path) -> Read:
    from spikeinterface.extractors import read_cbin_ibl

    return _traces(read_cbin_ibl(cbin_file_path=cbin(root)))


def read_si_zarr(root: Path) -> Read:
    import spikeinterface

    return _traces(spikeinterface.load(root / "si.zarr"))


def read_to_zarr(root: Path) -> Read:
    import xarray as xr

    ap = xr.open_zarr(root / "default.zarr", consolidated=False, chunks=None).ap
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(0, N_ROWS - 1) if c is None else c).values


def read_nwb(root: Path) -> Read:
    import h5py

    data = h5py.File(root / "ap.nwb")["acquisition/ElectricalSeriesAP/data"]
    return lambda a, b, c: data[a:b, : N_ROWS - 1] if c is None else data[a:b, c]


def read_kerchunk(root: Path) -> Read:
    import xarray as xr

    ap = xr.open_dataset(str(root / "references.json"), engine="kerchunk", chunks=None).ap
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(0, N_ROWS - 1) if c is None else c).values


def read_flat(root: Path) -> Read:
    samples = np.memmap(root / "ap.bin", np.int16, "r").reshape(-1, N_ROWS)
    return lambda a, b, c: np.array(samples[a:b, : N_ROWS - 1] if c is None else samples[a:b, c])


READERS: dict[str, Callable[[Path], Read]] = {
    "ours": read_ours,
    "in place": read_in_place,
    "spikeglx": read_spikeglx,
    "si cbin": read_si_cbin,
    "si zarr": read_si_zarr,
    "to_zarr": read_to_zarr,
    "nwb": read_nwb,
    "kerchunk": read_kerchunk,
    "flat": read_flat,
}


def run_read(method: str, root: Path, kind: str) -> Run:
    """Median of windows at random places, or of one channel of everything, a new reader each; the first is left out."""
    index = json.loads(cbin(root).with_suffix(".ch").read_text())
    n, rng, seconds = index["chunk_bounds"][-1], np.random.default_rng(2), []
    for _ in range(7 if kind == "window" else 2):
        start = int(rng.integers(0, n - RATE)) if kind == "window" else 0
        window = (start, start + RATE, None) if kind == "window" else (0, n, CHANNEL)
        read = READERS[method](root)
        before = time.perf_counter()
        got = read(*window)
        seconds.append(time.perf_counter() - before)
    assert np.asarray(got).size == (RATE * (N_ROWS - 1) if kind == "window" else n)
    total = float(np.abs(got, dtype=np.int64).sum()) if got.dtype == np.int16 else 0.0  # not of volts
    return {"seconds": statistics.median(seconds[1:]), "sum": total}


# --- psth: spikes in memory -> counts of every unit around every event


def psth_ours(times: Array, clusters: Array, n_units: int) -> Callable[[Array], Array]:
    import xarray as xr

    import cubes

    order = np.argsort(clusters, kind="stable")
    sizes = np.bincount(clusters, minlength=n_units)
    rows = {"row_size": ("unit", sizes), "row_start": ("unit", np.cumsum(sizes) - sizes)}
    span = {"n_spikes": len(times), "first_spike_s": times[0], "last_spike_s": times[-1]}
    ds = xr.Dataset({"spike_time": ("spike", times[order])}, {"unit": np.arange(n_units), **rows}, span)
    return lambda events: cubes.align(ds, events, (START, STOP), WIDTH).counts.values


def psth_brainbox(times: Array, clusters: Array, n_units: int) -> Callable[[Array], Array]:
    from brainbox.singlecell import calculate_peths

    units = np.arange(n_units)
    return lambda events: calculate_peths(times, clusters, units, events, -START, STOP, WIDTH, smoothing=0)[1]


def _group(times: Array, clusters: Array, n_units: int) -> Any:
    import pynapple as nap

    order = np.argsort(clusters, kind="stable")
    parts = np.split(times[order], np.cumsum(np.bincount(clusters, minlength=n_units))[:-1])
    return nap.TsGroup({unit: nap.Ts(part) for unit, part in enumerate(parts)})


def psth_pynapple(times: Array, clusters: Array, n_units: int) -> Callable[[Array], Array]:
    """`build_tensor` counts in the epochs; `compute_perievent`, which does not count yet, is slower still."""
    import pynapple as nap

    group = _group(times, clusters, n_units)
    return lambda events: nap.build_tensor(group, nap.IntervalSet(events + START, events + STOP), bin_size=WIDTH)


def psth_numpy(times: Array, clusters: Array, n_units: int) -> Callable[[Array], Array]:
    """What one writes oneself: a histogram of units and bins an event, of the spikes around it."""
    edges = START + WIDTH * np.arange(round((STOP - START) / WIDTH) + 1)

    def count(events: Array) -> Array:
        counts = np.zeros((n_units, len(events), len(edges) - 1))
        first, last = np.searchsorted(times, [events + START, events + STOP])
        for k, (event, a, b) in enumerate(zip(events, first, last, strict=True)):
            bins = np.searchsorted(edges, times[a:b] - event, side="right") - 1
            np.add.at(counts[:, k], (clusters[a:b], np.minimum(bins, len(edges) - 2)), 1)
        return counts

    return count


def run_psth(method: str, root: Path) -> Run:
    times, clusters, n_units = spikes(root)
    events = np.load(root / "events.npy")
    prepare = {"ours": psth_ours, "brainbox": psth_brainbox, "pynapple": psth_pynapple, "numpy": psth_numpy}[method]
    count = prepare(times, clusters.astype(np.int32), n_units)
    count(events[:2])
    with peak_memory() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        counts = count(events)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "peak": peak(), "sum": float(np.nansum(counts))}


# --- files that the peers read, each written once


def write_units_nwb(root: Path) -> None:
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile

    times, clusters, n_units = spikes(root)
    file = NWBFile("benchmark", "benchmark", datetime.now(UTC))
    order = np.argsort(clusters, kind="stable")
    for part in np.split(times[order], np.cumsum(np.bincount(clusters, minlength=n_units))[:-1]):
        file.add_unit(spike_times=part)
    with NWBHDF5IO(root / "units.nwb", "w") as io:
        io.write(file)


def write_ap_nwb(root: Path) -> None:
    """As neuroconv would: chunks of 64 channels and 10 MB, gzip of level 4."""
    from datetime import UTC, datetime

    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    samples = np.memmap(root / "ap.bin", np.int16, "r").reshape(-1, N_ROWS)
    file = NWBFile("benchmark", "benchmark", datetime.now(UTC))
    group = file.create_electrode_group("g", "g", "l", file.create_device("d"))
    for _ in range(N_ROWS):
        file.add_electrode(group=group, location="l")
    chunks = (min(78_125, len(samples)), 64)
    data = H5DataIO(samples, compression="gzip", compression_opts=4, chunks=chunks)
    electrodes = file.create_electrode_table_region(list(range(N_ROWS)), "all")
    file.add_acquisition(ElectricalSeries(name="ElectricalSeriesAP", data=data, electrodes=electrodes, rate=30000.0))
    with NWBHDF5IO(root / "ap.nwb", "w") as io:
        io.write(file)


def write_references(root: Path) -> None:
    """Kerchunk's, by hand, over the decompressed recording: one chunk a second."""
    n = (root / "ap.bin").stat().st_size // (2 * N_ROWS)
    meta = {"zarr_format": 2, "shape": [n, N_ROWS], "chunks": [RATE, N_ROWS], "dtype": "<i2", "order": "C"}
    meta |= {"compressor": None, "filters": None, "fill_value": None}
    references: dict[str, Any] = {".zgroup": '{"zarr_format": 2}', "ap/.zarray": json.dumps(meta)}
    references["ap/.zattrs"] = '{"_ARRAY_DIMENSIONS": ["time", "channel"]}'
    step = 2 * N_ROWS * RATE
    for i in range(-(-n // RATE)):
        references[f"ap/{i}.0"] = [f"file://{root / 'ap.bin'}", i * step, min(step, 2 * N_ROWS * n - i * step)]
    (root / "references.json").write_text(json.dumps({"version": 1, "refs": references}))


def write_default_zarr(root: Path) -> None:
    import xarray as xr

    samples = np.memmap(root / "ap.bin", np.int16, "r").reshape(-1, N_ROWS)
    xr.Dataset({"ap": (("time", "channel"), samples)}).to_zarr(root / "default.zarr", consolidated=False)


WRITERS = {
    "units.nwb": write_units_nwb,
    "ap.nwb": write_ap_nwb,
    "references": write_references,
    "default.zarr": write_default_zarr,
}


def main() -> None:
    path, method, root = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    if path == "write":
        WRITERS[method](root)
        print("{}")
    elif path in ("window", "channel"):
        print(json.dumps(run_read(method, root, path)))
    elif path == "build":
        print(json.dumps(run_build(method, root)))
    elif path == "psth":
        print(json.dumps(run_psth(method, root)))
    else:
        print(json.dumps(run_counts(method, root, float(path))))


if __name__ == "__main__":
    main()
