"""Builds with bare calls and nothing else: the floors of `bench_floors.py` and `bench_paths.py`.

What makes the bytes of a chunk is called as we call it, on as many threads, with a checksum, and waited for (fsync).
There are no labels, no metadata, no journal, no name of the final store, and nothing is read back.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from measure import Run
from raw_session import N_ROWS, header

WORKERS = 2
Array = np.ndarray


def timed(work: Callable[[], object]) -> Run:
    """Wall and CPU seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def blosc() -> Any:
    """The codec of the stores, for one thread."""
    import numcodecs
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False
    return numcodecs.Blosc("zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=1 << 20)


def voltage(cbin: Path, channels: int, seconds: int, target: Path) -> Run:
    """A `.cbin` of whole seconds cut into so many channels and seconds; the file is hashed, as its header asks."""
    import imagecodecs

    known = header(cbin)
    bounds, offsets = known["chunk_bounds"], known["chunk_offsets"]
    file = os.open(cbin, os.O_RDONLY)
    codec, buffers = blosc(), {}  # one a thread

    def hash_all() -> None:
        sha1 = hashlib.sha1(usedforsecurity=False)
        for a, b in pairwise(offsets):
            sha1.update(os.pread(file, b - a, a))

    def cut(first: int) -> None:
        """Some seconds of all channels."""
        last = min(first + seconds, len(bounds) - 1)
        start, n = bounds[first], bounds[last] - bounds[first]
        thread = threading.get_ident()
        if thread not in buffers:
            buffers[thread] = np.zeros((N_ROWS, n), np.int16), np.zeros((N_ROWS, bounds[1]), np.int16)
        block, second = (buffer[:, :size] for buffer, size in zip(buffers[thread], (n, bounds[1]), strict=True))
        for i in range(first, last):
            stored = os.pread(file, offsets[i + 1] - offsets[i], offsets[i])
            into = block if seconds == 1 else second[:, : bounds[i + 1] - bounds[i]]
            imagecodecs.deflate_decode(stored, out=into.reshape(-1).view(np.uint8))
            imagecodecs.delta_decode(into, axis=1, out=into)
            if seconds > 1:
                block[:, bounds[i] - start : bounds[i + 1] - start] = into
        for row in range(0, N_ROWS - 1, channels):
            chunk = block[row : min(row + channels, N_ROWS - 1)]
            imagecodecs.deflate_crc32(chunk)
            write(target, codec.encode(chunk))

    first_seconds = range(0, len(bounds) - 1, seconds)
    return timed(lambda: _build(target, cut, first_seconds, hash_all))


def counts(sorting: Path, width: Fraction, n_units: int, chunk: tuple[int, int], target: Path) -> Run:
    """The two arrays of a sorting, hashed, mapped, and counted in every chunk with the kernel that we have."""
    from chunking.bins import BinGrid
    from chunking.counting import count_spikes

    codec = blosc()

    paths = [sorting / f"spikes.{name}.npy" for name in ("times", "clusters")]

    def hash_one(path: Path) -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "md5")

    def build() -> None:
        times, clusters = (np.load(path, mmap_mode="r") for path in paths)
        whole = BinGrid.spanning(width, float(times[0]), float(times[-1]))
        starts = product(range(0, whole.n, chunk[1]), range(0, n_units, chunk[0]))

        def cut(at: tuple[int, int]) -> None:
            grid = whole.part(at[0], min(at[0] + chunk[1], whole.n))
            some = slice(*np.searchsorted(times, grid.edges()[[0, -1]]))
            units = (at[1], min(at[1] + chunk[0], n_units))
            block = count_spikes(times[some], clusters[some], grid, units, np.dtype(np.uint8))
            write(target, codec.encode(block if block.shape == chunk else _padded(block, chunk)))

        _build(target, cut, starts, *(partial(hash_one, path) for path in paths))

    return timed(build)


def _padded(block: Array, chunk: tuple[int, int]) -> Array:
    whole = np.zeros(chunk, block.dtype)
    whole[: block.shape[0], : block.shape[1]] = block
    return whole


def write(folder: Path, data: bytes) -> None:
    """Bytes and their checksum, as a file of its own."""
    import google_crc32c

    with (folder / uuid.uuid4().hex).open("wb", buffering=0) as out:
        out.write(data)
        out.write(google_crc32c.value(data).to_bytes(4, "little"))


def _build(target: Path, cut: Callable[[Any], None], parts: Iterable[Any], *more: Callable[[], None]) -> None:
    """All parts on two threads, and then every file waited for."""
    with ThreadPoolExecutor(WORKERS) as pool, ThreadPoolExecutor(8) as disk:
        work = [pool.submit(one) for one in more] + [pool.submit(cut, part) for part in parts]
        for done in work:
            done.result()
        list(disk.map(_sync, target.iterdir()))


def _sync(path: Path) -> None:
    with path.open("rb") as out:
        os.fsync(out.fileno())
