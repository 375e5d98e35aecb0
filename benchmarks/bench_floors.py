"""How far the main paths are from what the machine can do at all.

    python benchmarks/bench_floors.py [--seconds 48] [--rounds 3] [--report]

One core alone: copying, zeroing, reading what is in the page cache, and every step of a build of AP, each on memory
that is used again. Then ours against a floor that does the same work with bare calls and nothing else, in turns:

* Build of AP, files to a verified store, 2 workers. Floor: 2 threads, each second of the recording read, inflated,
  summed up, encoded, written with a checksum and waited for (fsync); and all of the file hashed, as its header asks. No
  labels, no journal, no reading back. `steps` is the sum of the times of the steps on one core, over 2 cores; what
  the bare build does not reach of it is what two threads of this machine take from each other.
* One second of all channels, and one channel of all seconds, from the store. Floor: the same chunk files read, their
  checksums compared, decoded and copied, on as many threads as dask has.

Recordings are some seconds of generated AP again and again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bare_builds
import numpy as np
from bare_builds import WORKERS, blosc, timed
from measure import Run, ratio, spread, take_turns
from raw_session import N_ROWS, Session, stored_chunks
from report import Section, Table, add_report_option, markdown, write_section

CHANNELS, RATE = 96, 30000
UNIQUE_S = 8  # seconds that are generated


def steps(session: Session) -> dict[str, Callable[[], object]]:
    """Every step for one second of AP (23 MB of samples), ready to be timed."""
    import google_crc32c
    import imagecodecs

    stored = stored_chunks(session.cbin("ap"))[0]
    block = np.zeros((N_ROWS, RATE), np.int16)
    flat: Any = block.reshape(-1).view(np.uint8)
    imagecodecs.delta_decode(
        imagecodecs.deflate_decode(stored, out=flat).view(np.int16).reshape(block.shape), axis=1, out=block
    )
    parts = [block[i : i + CHANNELS].copy() for i in range(0, N_ROWS - 1, CHANNELS)]
    other, samples, codec = np.zeros_like(block), block.copy(), blosc()
    encoded = [codec.encode(part) for part in parts]
    target = session.root / "floor.bin"
    descriptor = os.open(session.cbin("ap"), os.O_RDONLY)

    def write() -> None:
        for data in encoded:
            target.write_bytes(data)

    return {
        "memcpy": lambda: np.copyto(other, samples),
        "memset": lambda: other.fill(0),
        "reading the .cbin, in the page cache": lambda: os.pread(descriptor, len(stored), 0),
        "inflate": lambda: imagecodecs.deflate_decode(stored, out=flat),
        "undo the difference": lambda: imagecodecs.delta_decode(other, axis=1, out=other),
        "encode, blosc": lambda: [codec.encode(part) for part in parts],
        "decode, blosc": lambda: [codec.decode(data, out=part) for data, part in zip(encoded, parts, strict=True)],
        "crc32c of what is stored": lambda: [google_crc32c.value(data) for data in encoded],
        "crc32 of the samples": lambda: [imagecodecs.deflate_crc32(part) for part in parts],
        "sha1 of the .cbin": lambda: hashlib.sha1(stored, usedforsecurity=False),
        "writing the chunks, into the page cache": write,
    }


BUILD = (
    "reading the .cbin, in the page cache", "inflate", "undo the difference", "encode, blosc",
    "crc32c of what is stored", "crc32 of the samples", "sha1 of the .cbin", "writing the chunks, into the page cache",
)  # fmt: skip


def run_steps(session: Session) -> Run:
    """CPU seconds of every step, the median of some, in turns."""
    ready = steps(session)
    spent: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(9):
        for name, step in ready.items():
            start = time.thread_time()
            step()
            spent[name].append(time.thread_time() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in spent.items()}


def run_build_ours(session: Session) -> Run:
    import cubes

    with tempfile.TemporaryDirectory(dir=session.root) as folder:
        Session(session.root.parent / "short").build("ap", Path(folder) / "warm")
        source = cubes.source("folder", session.folder)
        return timed(lambda: cubes.build(cubes.plan(source, [session.pid], ["ap"], root=folder), workers=WORKERS))


def run_build_floor(session: Session) -> Run:
    with tempfile.TemporaryDirectory(dir=session.root) as folder:
        return bare_builds.voltage(session.cbin("ap"), CHANNELS, 1, Path(folder))


def read_floor(store: Path, keys: list[tuple[int, int]], place: Callable[[int, int, np.ndarray], object]) -> None:
    """Chunk files -> decoded, and put where they belong."""
    import google_crc32c

    codec = blosc()

    def one(key: tuple[int, int]) -> None:
        data = (store / f"ap/c/{key[0]}/{key[1]}").read_bytes()
        if google_crc32c.value(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise RuntimeError(f"{store}: chunk {key} is damaged")
        place(*key, np.frombuffer(codec.decode(data[:-4]), np.int16).reshape(-1, RATE))

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, keys))


def run_read(session: Session, method: str) -> Run:
    """Median seconds of a window that is a chunk (the third and later count), and of one channel of everything."""
    import cubes

    store = session.root / "store/insertions" / session.pid / "ap.zarr"
    ap = cubes.open(session.root / "store", session.pid)["ap"].ap
    n, window, channel = ap.sizes["time"] // RATE, [], []
    for second in range(7):
        out = np.empty((N_ROWS - 1, RATE), np.int16)

        def into(row: int, _: int, block: np.ndarray, out: np.ndarray = out) -> None:
            out[row * CHANNELS : row * CHANNELS + len(block)] = block

        def floor_window(second: int = second, into: Any = into) -> None:
            read_floor(store, [(row, second) for row in range(4)], into)

        def ours_window(second: int = second) -> object:
            return ap.isel(time=slice(second * RATE, (second + 1) * RATE)).values

        window.append(timed(floor_window if method == "floor" else ours_window)["seconds"])
    for row in range(3):
        line = np.empty(n * RATE, np.int16)

        def along(_: int, second: int, block: np.ndarray, line: np.ndarray = line, row: int = row) -> None:
            line[second * RATE : (second + 1) * RATE] = block[row]

        def floor_channel(along: Any = along) -> None:
            read_floor(store, [(0, second) for second in range(n)], along)

        def ours_channel(row: int = row) -> object:
            return ap.isel(channel=row).values

        channel.append(timed(floor_channel if method == "floor" else ours_channel)["seconds"])
    return {"window": statistics.median(window[2:]), "channel": statistics.median(channel[1:])}


RUNS: dict[str, Callable[[Session], Run]] = {
    "steps": run_steps,
    "build ours": run_build_ours,
    "build floor": run_build_floor,
    "read ours": lambda session: run_read(session, "ours"),
    "read floor": lambda session: run_read(session, "floor"),
}


def tables(results: dict[str, list[Run]], seconds: int) -> list[Table]:
    """One core, and ours beside the floors."""
    block = N_ROWS * RATE * 2 / 1e6
    by_step = results["steps"]
    alone = [
        [name, spread(by_step, name, 1e3, 1), f"{block / statistics.median(r[name] for r in by_step):.0f}",
         "yes" if name in BUILD else ""]
        for name in by_step[0]
    ]  # fmt: skip
    sums = [{"seconds": seconds / WORKERS * sum(run[name] for name in BUILD)} for run in by_step]
    cpu = [{"cpu": 2 * run["seconds"]} for run in sums]
    paths = []
    for name, key, ours, floor, scale in (
        (f"build of {seconds} s of AP", "seconds", "build ours", "build floor", 1),
        (f"build of {seconds} s of AP, CPU", "cpu", "build ours", "build floor", 1),
        ("one second, all channels, ms", "window", "read ours", "read floor", 1e3),
        (f"one channel, {seconds} s, ms", "channel", "read ours", "read floor", 1e3),
    ):
        shares = sorted(f[key] / o[key] for o, f in zip(results[ours], results[floor], strict=True))
        share = f"{100 * statistics.median(shares):.0f} % ({100 * shares[0]:.0f}–{100 * shares[-1]:.0f})"
        paths.append([name, spread(results[ours], key, scale), spread(results[floor], key, scale), share])
    for name, key, floor in (("steps, wall", "seconds", sums), ("steps, CPU", "cpu", cpu)):
        for whose, runs in (("build", results["build ours"]), ("bare build", results["build floor"])):
            share = f"{100 * ratio(floor, runs, key):.0f} %"
            paths.append([f"{whose} against the {name}", spread(runs, key), spread(floor, key), share])
    return [
        Table("One core, one second of AP (23 MB)", ["step", "ms (min–max)", "MB/s", "in the floor of a build"], alone),
        Table("Ours and the floor, in turns", ["path", "ours (min–max)", "floor (min–max)", "reached"], paths),
    ]


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=48, help=f"of the recording, a multiple of {UNIQUE_S}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    add_report_option(parser)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(RUNS[options.one[1]](Session(Path(options.one[0])))))
        return
    with tempfile.TemporaryDirectory() as folder:
        short = Session.write(Path(folder) / "short", min(UNIQUE_S, options.seconds))
        session = Session.repeat(short, Path(folder) / "full", max(options.seconds // UNIQUE_S, 1))
        session.build("ap", session.root / "store")
        commands = {name: [sys.executable, __file__, "--one", session.root, name] for name in RUNS}
        found = tables(take_turns(commands, options.rounds), options.seconds)
    for table in found:
        print(f"\n{markdown(table)}")
    if options.report:
        text = "What the machine can do at all, and how much of it the main paths reach (`benchmarks/bench_floors.py`)."
        write_section("floors", Section("Floors", text, found))


if __name__ == "__main__":
    main()
