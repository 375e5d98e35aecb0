"""Raw voltage: decoding, building and reading, against the tools of today and against the floors of the machine.

    sh benchmarks/peers/spikeinterface.sh    # once, for that peer
    python benchmarks/bench_raw.py [--seconds 10] [--rounds 3] [--json FILE]

One generated session serves all: 385 channels of AP and LF, noise of about 7 LSB with spikes, or slow waves,
compressed by mtscomp. Every run is a process of its own, and the methods take turns, so that a change of the machine's
speed hits all alike: trust the ratios, not the seconds. MB are those of the int16 samples.

* Decode: CPU time of the process, which does nothing else, so it is speed per core. Everybody decodes every chunk once,
  into memory that is used again where the interface allows it. `inflate` and `memcpy` have their input in memory.
* Build: files to a finished store, 2 workers. Memory is private memory (RssAnon, over what the process had before);
  of SpikeInterface that of all its processes, where shared pages count more than once. It checks no hashes and does
  not wait for the disk; we do both. It reads no LF: it finds no channel in an ``.lf.meta``.
* Windows: at random places, the same for everybody, and nobody may remember a chunk of an earlier window (a new reader
  each, opened before the clock starts). All files are in the page cache. `spikeglx` gives float32 V and the stored cube
  in uV float32 too; the others give int16. `spikeglx` and `Cbin.read` use one core, the others what there is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from measure import Run, median, peak_memory, ratio, run_process, size_of, spread, take_turns
from raw_session import BANDS, N_ROWS, Session, spans, stored_chunks
from report import Section, add_report_option, write_section

PEER = Path(__file__).resolve().parent / "peers/.venv-spikeinterface/bin/python"
SAVE = Path(__file__).resolve().parent / "peers/save_spikeinterface.py"
KINDS = {"1 s, all channels": 10, "50 ms, all channels": 10, "1 channel, all time": 3}


def spikeglx_reader(cbin: Path) -> Any:
    import spikeglx

    return spikeglx.Reader(cbin, sort=False)


def mtscomp_reader(cbin: Path) -> Any:
    import mtscomp

    return mtscomp.decompress(cbin, cbin.with_suffix(".ch"))


# Decoding: each gives the steps of one pass over the file; a step returns nothing that is kept.
Steps = Iterable[Callable[[], object]]


def decode_ours(cbin: Path) -> Steps:
    from loaders.cbin import Cbin

    recording = Cbin.open(cbin)
    buffer = np.empty(N_ROWS * recording.index.longest_chunk, np.int16)
    for i in range(recording.n_chunks):
        start, stop = recording.span(i)
        yield lambda i=i, n=stop - start: recording.chunk(i, buffer[: N_ROWS * n].reshape(N_ROWS, n))


def decode_mtscomp(cbin: Path) -> Steps:
    reader = mtscomp_reader(cbin)
    for i, start, length in reader.iter_chunks():
        yield lambda i=i, start=start, length=length: reader.read_chunk(i, start, length)


def decode_spikeglx(cbin: Path) -> Steps:
    """Windows of one second that are chunks, each with a reader that has none in its cache."""
    for start, stop in spans(cbin):
        reader = spikeglx_reader(cbin)
        yield lambda reader=reader, a=start, b=stop: reader[a:b, :]


def decode_spikeglx_running(cbin: Path) -> Steps:
    """Windows of one second, one after the other, half a second off the chunks: its cache saves one of two."""
    reader = spikeglx_reader(cbin)
    half = (spans(cbin)[0][1]) // 2
    for start, stop in [(0, half), *((a + half, b + half) for a, b in spans(cbin))]:
        yield lambda a=start, b=stop: reader[a : min(b, reader.ns), :] if a < reader.ns else None


def decode_inflate(cbin: Path) -> Steps:
    """Floor: inflate alone, as we use it."""
    from imagecodecs import deflate_decode

    stored = stored_chunks(cbin)
    buffer = np.empty(N_ROWS * 2 * max(b - a for a, b in spans(cbin)), np.uint8)
    for chunk, (start, stop) in zip(stored, spans(cbin), strict=True):
        yield lambda c=chunk, n=stop - start: deflate_decode(c, out=buffer[: N_ROWS * 2 * n])


def decode_memcpy(cbin: Path) -> Steps:
    """Floor: copy as many bytes."""
    buffer = np.zeros(N_ROWS * max(b - a for a, b in spans(cbin)), np.int16)
    target = np.zeros_like(buffer)
    for start, stop in spans(cbin):
        yield lambda n=N_ROWS * (stop - start): np.copyto(target[:n], buffer[:n])


DECODERS: dict[str, Callable[[Path], Steps]] = {
    "ours, Cbin.chunk": decode_ours,
    "mtscomp.Reader.read_chunk": decode_mtscomp,
    "spikeglx.Reader, cold aligned 1 s": decode_spikeglx,
    "spikeglx.Reader, running 1 s": decode_spikeglx_running,
    "inflate alone (imagecodecs)": decode_inflate,
    "memcpy": decode_memcpy,
}


def run_decode(session: Session, band: str, method: str) -> Run:
    """CPU seconds of one pass, after one that loads everything and touches the memory."""
    cbin, spent = session.cbin(band), 0.0
    for _ in range(2):
        spent = 0.0
        for step in DECODERS[method](cbin):
            start = time.process_time()
            step()
            spent += time.process_time() - start
    return {"seconds": spent, "bytes": session.samples(band).nbytes}


def run_build(session: Session, band: str) -> Run:
    """Our build, after one that loads everything; the store is compared with the samples afterwards."""
    import xarray as xr

    tiny = Session(session.root.parent / "tiny")
    with tempfile.TemporaryDirectory(dir=session.root) as folder:
        tiny.build(band, Path(folder) / "tiny")
        with peak_memory() as peak:
            start, cpu = time.perf_counter(), time.process_time()
            store = session.build(band, Path(folder) / "root")
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        exact = same(xr.open_zarr(store, chunks=None)[band], session.samples(band).T)
        return {"seconds": seconds, "cpu": cpu, "peak": peak(), "disk": size_of(store), "exact": exact}


def same(stored: Any, samples: np.ndarray) -> bool:
    """Whether all samples but those of the sync channel are equal; both (channel, time)."""
    steps = (slice(i, i + 30000) for i in range(0, samples.shape[1], 30000))
    return stored.shape == (N_ROWS - 1, samples.shape[1]) and all(
        np.array_equal(np.asarray(stored[:, step]), samples[:-1, step]) for step in steps
    )


# Windows: each gives a function of (first sample, last sample, channel or None) that is ready to read, for every call.
Window = Callable[[int, int, int | None], object]


def window_cube(session: Session, root: str, chunks: Any, *, microvolts: bool = False) -> Window:
    import cubes

    ap = cubes.open(session.root / root, session.pid, chunks=chunks)["ap"].ap
    ap = cubes.to_uv(ap) if microvolts else ap
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(None) if c is None else c).values


def window_in_place(session: Session) -> Window:
    import xarray as xr

    ap = xr.open_dataset(session.cbin("ap"), engine="cubes").ap
    return lambda a, b, c: ap.isel(time=slice(a, b), channel=slice(None) if c is None else c).values


def window_cbin(session: Session) -> Window:
    from loaders.cbin import Cbin

    recording = Cbin.open(session.cbin("ap"))
    return lambda a, b, c: recording.read(a, b, slice(0, N_ROWS - 1) if c is None else slice(c, c + 1))


def window_spikeglx(session: Session) -> Window:
    reader = spikeglx_reader(session.cbin("ap"))
    return lambda a, b, c: reader[a:b, : N_ROWS - 1] if c is None else reader[a:b, c]


WINDOWS: dict[str, Callable[[Session], Window]] = {
    "stored cube": lambda session: window_cube(session, "balanced", None),
    "stored cube, dask": lambda session: window_cube(session, "balanced", "native"),
    "stored cube, dask, to_uv": lambda session: window_cube(session, "balanced", "native", microvolts=True),
    "stored cube, dask, by-time layout": lambda session: window_cube(session, "by-time", "native"),
    ".cbin in place, xarray": window_in_place,
    ".cbin in place, Cbin.read": window_cbin,
    "spikeglx.Reader": window_spikeglx,
}


def run_windows(session: Session, method: str) -> Run:
    """Median wall seconds of a window of every kind; the first one of each loads everything and does not count."""
    n, rate = len(session.samples("ap")), 30000
    result = {}
    for kind, repeats in KINDS.items():
        rng = np.random.default_rng(2)
        length = {"1": rate, "50": rate // 20}[kind.split()[0]] if "all channels" in kind else n
        length, seconds = min(length, n), []
        for _ in range(repeats + 1):
            start = int(rng.integers(0, n - length + 1))
            channel = None if "all channels" in kind else int(rng.integers(N_ROWS - 1))
            read = WINDOWS[method](session)
            before = time.perf_counter()
            read(start, start + length, channel)
            seconds.append(time.perf_counter() - before)
        result[kind] = statistics.median(seconds[1:])
    return result


def measure(
    session: Session, rounds: int, peers: bool, parts: list[str]
) -> dict[str, dict[tuple[str, str], list[Run]]]:
    """The parts, each in turns, each run in a process of its own."""
    one = [sys.executable, __file__, "--one", session.root]
    builds: dict[tuple[str, str], list[str | Path]] = {}
    for band in BANDS:
        builds[band, "cubes.build"] = [*one, "build", band, ""]
        if peers and band == "ap":  # it cannot place the channels of an .lf.meta
            builds[band, "SpikeInterface"] = [*one, "peer", band, ""]
    commands = {
        "decode": {(b, m): [*one, "decode", b, m] for b in BANDS for m in DECODERS},
        "build": builds,
        "windows": {("ap", m): [*one, "windows", "ap", m] for m in WINDOWS},
    }
    return {part: take_turns(commands[part], rounds) for part in parts}


def run_peer(session: Session, band: str) -> Run:
    """SpikeInterface's save; its store is compared with the samples afterwards."""
    import zarr

    with tempfile.TemporaryDirectory(dir=session.root) as folder:
        output = Path(folder) / "si.zarr"
        run = run_process([PEER, SAVE, session.raw, band, output])
        traces = zarr.open_group(output, mode="r")["traces_seg0"]
        steps = (slice(i, i + 30000) for i in range(0, traces.shape[0], 30000))
        samples = session.samples(band)
        exact = all(np.array_equal(traces[step], samples[step, :-1]) for step in steps)
        return run | {"exact": exact and traces.shape[0] == len(samples)}


def report(results: dict[str, dict[tuple[str, str], list[Run]]], session: Session) -> str:
    """Tables of medians; ratios are medians of the ratios within a round."""
    lines = []
    for band in BANDS:
        size = session.samples(band).nbytes
        stored = session.cbin(band).stat().st_size
        lines += ["", f"{band}.cbin: {size / 1e6:.0f} MB of samples, mtscomp ratio {size / stored:.2f}"]
    tables = {"decode": decode_tables, "build": build_tables, "windows": windows_table}
    for part, runs in results.items():
        lines += tables[part](runs, session)
    return "\n".join(lines)


def decode_tables(results: dict[tuple[str, str], list[Run]], session: Session) -> list[str]:
    lines: list[str] = []
    for band in BANDS:
        decode = {method: runs for (b, method), runs in results.items() if b == band}
        peers = [decode[m] for m in ("mtscomp.Reader.read_chunk", "spikeglx.Reader, cold aligned 1 s")]
        floor = decode["inflate alone (imagecodecs)"]
        lines += ["", f"### decode {band}, one core", ""]
        lines += ["| method | CPU s (min–max) | MB/s | x mtscomp | x spikeglx | of inflate |", "|---" * 6 + "|"]
        for method, runs in decode.items():
            speed = runs[0]["bytes"] / median(runs) / 1e6
            times = " | ".join(f"{ratio(peer, runs):.2f}" for peer in peers)
            digits = 3 if median(runs) < 1 else 2
            share = f"{100 * ratio(floor, runs):.0f} %"
            lines.append(f"| {method} | {spread(runs, digits=digits)} | {speed:.0f} | {times} | {share} |")
    return lines


def build_tables(results: dict[tuple[str, str], list[Run]], session: Session) -> list[str]:
    lines: list[str] = []
    for band in BANDS:
        builds = {method: runs for (b, method), runs in results.items() if b == band}
        peer, size = builds.get("SpikeInterface"), session.samples(band).nbytes
        lines += ["", f"### build {band}, .cbin to Zarr, 2 workers", ""]
        lines += [
            "| method | wall s (min–max) | MB/s | CPU s | x SpikeInterface wall | CPU | peak MB | MB | ratio | exact |",
            "|---" * 10 + "|",
        ]
        for method, runs in builds.items():
            times = [f"{ratio(peer, runs, key):.2f}" if peer else "" for key in ("seconds", "cpu")]
            disk = runs[0]["disk"]
            lines.append(
                f"| {method} | {spread(runs)} | {size / median(runs) / 1e6:.0f} | {spread(runs, 'cpu')} | {times[0]} "
                f"| {times[1]} | {spread(runs, 'peak', 1e-6, 0)} | {disk / 1e6:.1f} | {size / disk:.2f} "
                f"| {'yes' if all(run['exact'] for run in runs) else 'NO'} |"
            )
    return lines


def windows_table(results: dict[tuple[str, str], list[Run]], session: Session) -> list[str]:
    windows = {method: runs for (_, method), runs in results.items()}
    lines = ["", "### windows of ap, ms (min–max) and how many times faster than spikeglx.Reader", ""]
    lines += ["| method | " + " | ".join(f"{kind} | x" for kind in KINDS) + " |", "|---" * (1 + 2 * len(KINDS)) + "|"]
    for method, runs in windows.items():
        cells = (
            f"{spread(runs, kind, 1e3, 1)} | {ratio(windows['spikeglx.Reader'], runs, kind):.1f}" for kind in KINDS
        )
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--parts", nargs="+", choices=("decode", "build", "windows"), default=["decode", "build", "windows"]
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out those that have an environment of their own")
    parser.add_argument("--json", type=Path, help="also write every run to this file")
    add_report_option(parser)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        root, part, band, method = options.one
        session = Session(Path(root))
        run = {
            "decode": lambda: run_decode(session, band, method),
            "build": lambda: run_build(session, band),
            "peer": lambda: run_peer(session, band),
            "windows": lambda: run_windows(session, method),
        }[part]()
        print(json.dumps(run))
        return
    packages = ("numpy", "zarr", "imagecodecs", "mtscomp", "ibl-neuropixel")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{options.seconds:g} s, {os.cpu_count()} cores, python {sys.version.split()[0]}, {versions}", flush=True)
    peers = not options.no_peers and PEER.exists()
    if not peers:
        print("SpikeInterface is left out" + ("" if options.no_peers else ": run benchmarks/peers/spikeinterface.sh"))
    with tempfile.TemporaryDirectory() as folder:
        session = Session.write(Path(folder) / "full", options.seconds)
        Session.write(Path(folder) / "tiny", 0.1)
        for layout in ("balanced", "by-time"):
            session.build("ap", session.root / layout, layout)
        results = measure(session, options.rounds, peers, options.parts)
        tables = report(results, session)
        print(tables)
    if options.report:
        text = f"{options.seconds:g} s of generated voltage, {options.rounds} rounds, 2 workers."
        without = "" if peers else " SpikeInterface is missing: its environment was not made."
        write_section("raw", Section("Voltage against peers", text + without + "\n" + tables))
    if options.json:
        rows = {part: {" ".join(key): runs for key, runs in named.items()} for part, named in results.items()}
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
