"""One engine of Zarr v3: writes an array, or reads a store in several ways. OPERATION ENGINE LAYOUT FOLDER.

Runs in the environments that engines.sh makes.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

CHUNK, RATE = (96, 30000), 30000
Array = np.ndarray[Any, Any]

ZARR = {
    "zarr-python": {},
    "zarr-python, async.concurrency 1": {"async.concurrency": 1},
    "zarr-python, async.concurrency 64": {"async.concurrency": 64},
    "zarr-python, one thread": {"threading.max_workers": 1},
    "zarr-python, fused pipeline": {"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"},
    "zarrs": {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"},
}
DASK = {"zarr-python, dask on 1 thread": 1, "zarr-python, dask on 2 threads": 2, "zarr-python, dask on 4 threads": 4}


def codecs() -> dict[str, Any]:
    """Those of our stores."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    blosc = BloscCodec(typesize=2, cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=1 << 20)
    return {"compressors": (blosc, Crc32cCodec())}


def create(path: Path, layout: str, samples: Array) -> Any:
    """An empty array, of chunks or of shards with all channels of 8 s."""
    import zarr

    shards = None if layout == "chunks" else (samples.shape[0], 8 * RATE)
    shape, dtype = samples.shape, samples.dtype
    return zarr.create_array(path, shape=shape, chunks=CHUNK, shards=shards, dtype=dtype, **codecs())


def tensorstore(path: Path) -> Any:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return ts.open(spec, context=ts.Context({"data_copy_concurrency": {"limit": 2}})).result()


def write(engine: str, layout: str, samples: Array, path: Path) -> None:
    array = create(path, layout, samples)
    if engine == "tensorstore":
        tensorstore(path)[...] = samples
    elif engine == "numcodecs, 2 threads":
        write_bare(path, samples)
    elif engine in DASK:
        import dask
        import dask.array as da

        step = samples.shape[0] if layout == "shards" else CHUNK[0], 8 * RATE if layout == "shards" else RATE
        with dask.config.set(scheduler="threads", num_workers=DASK[engine]):
            da.from_array(samples, chunks=step).store(array, lock=False)
    else:
        array[...] = samples


def write_bare(path: Path, samples: Array) -> None:
    """Floor: blosc, a checksum and a file, on two threads."""
    import google_crc32c
    import numcodecs

    codec = numcodecs.Blosc("zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=1 << 20)

    def one(key: tuple[int, int]) -> None:
        rows, times = (slice(i * n, (i + 1) * n) for i, n in zip(key, CHUNK, strict=True))
        data = codec.encode(np.ascontiguousarray(samples[rows, times]))
        target = path / f"c/{key[0]}/{key[1]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data + google_crc32c.value(data).to_bytes(4, "little"))

    keys = [(i, j) for i in range(samples.shape[0] // CHUNK[0]) for j in range(samples.shape[1] // CHUNK[1])]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, keys))


def reader(engine: str, path: Path) -> Callable[[slice, slice], Array]:
    """A function of rows and times."""
    import zarr

    if engine == "tensorstore":
        opened = tensorstore(path)
        return lambda rows, times: np.asarray(opened[rows, times].read().result())
    if engine == "numcodecs, 2 threads":
        shape = zarr.open_array(path, mode="r").shape
        return lambda rows, times: read_bare(path, shape, rows, times)
    array = zarr.open_array(path, mode="r")
    if engine in DASK:
        import dask
        import dask.array as da

        lazy = da.from_array(array, chunks=CHUNK)

        def compute(rows: slice, times: slice) -> Array:
            with dask.config.set(scheduler="threads", num_workers=DASK[engine]):
                return np.asarray(lazy[rows, times].compute())

        return compute
    return lambda rows, times: np.asarray(array[rows, times])


def read_bare(path: Path, shape: tuple[int, int], rows: slice, times: slice) -> Array:
    """Floor: files, checksums, blosc, and one copy, on two threads; whole rows of chunks or windows."""
    import google_crc32c
    import numcodecs

    codec = numcodecs.Blosc()
    a, b, c, d = *rows.indices(shape[0])[:2], *times.indices(shape[1])[:2]
    out = np.empty((b - a, d - c), np.int16)

    def one(key: tuple[int, int]) -> None:
        data = (path / f"c/{key[0]}/{key[1]}").read_bytes()
        if google_crc32c.value(data[:-4]).to_bytes(4, "little") != data[-4:]:
            raise RuntimeError(f"chunk {key} is damaged")
        block = np.frombuffer(codec.decode(data[:-4]), np.int16).reshape(CHUNK)
        i, j = key[0] * CHUNK[0], key[1] * CHUNK[1]
        low, high, first, last = max(a, i), min(b, i + CHUNK[0]), max(c, j), min(d, j + CHUNK[1])
        out[low - a : high - a, first - c : last - c] = block[low - i : high - i, first - j : last - j]

    keys = [(i, j) for i in range(a // CHUNK[0], -(-b // CHUNK[0])) for j in range(c // CHUNK[1], -(-d // CHUNK[1]))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, keys))
    return out


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(engine: str, layout: str, folder: Path) -> dict[str, float]:
    """Wall seconds of writing, of reading everything, of windows of 1 s at random places, and of one channel."""
    import zarr

    samples = np.load(folder / "samples.npy")
    zarr.config.set(ZARR.get(engine, {}))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        write(engine, layout, samples[:, : 8 * RATE], Path(name) / "warm")
        shutil.rmtree(Path(name) / "warm")
        found["write"] = seconds(lambda: write(engine, layout, samples, Path(name) / "ap"))
        read = reader(engine, folder / layout)
        everything = slice(None), slice(None)
        if not np.array_equal(read(*everything), samples):
            raise RuntimeError(f"{engine}, {layout}: reads something else")
        if not np.array_equal(reader("zarr-python", Path(name) / "ap")(*everything), samples):
            raise RuntimeError(f"{engine}, {layout}: writes something else")
    found["whole"] = seconds(lambda: read(*everything))
    starts = np.random.default_rng(0).integers(0, samples.shape[1] - RATE, 6)
    windows = [seconds(lambda a=a: read(slice(None), slice(int(a), int(a) + RATE))) for a in starts]
    found["window"] = statistics.median(windows[1:])
    rows = [seconds(lambda i=i: read(slice(i, i + 1), slice(None))) for i in (5, 105, 205, 305)]
    return found | {"channel": statistics.median(rows[1:]), "bytes": samples.nbytes}


def prepare(folder: Path) -> None:
    """The stores that everybody reads, and one for every codec."""
    samples = np.load(folder / "samples.npy")
    for layout in ("chunks", "shards"):
        create(folder / layout, layout, samples)[...] = samples
    for name, options in foreign().items():
        write_codec(folder / "codecs" / name, options, samples[:96, :RATE])


def foreign() -> dict[str, dict[str, Any]]:
    """The codecs of bench_codecs.py that zarr-python can write."""
    from zarr.codecs import GzipCodec, ZstdCodec
    from zarr.codecs import numcodecs as registered

    return {
        "blosc zstd 1 bitshuffle, 1 MiB blocks, crc32c (ours)": codecs(),
        "zstd 3 + checksum": {"compressors": ZstdCodec(level=3, checksum=True)},
        "gzip 5": {"compressors": GzipCodec(level=5)},
        "numcodecs.delta + blosc": {"filters": registered.Delta(dtype="<i2"), **codecs()},
        "numcodecs.pcodec": {"serializer": registered.PCodec()},
    }


def write_codec(path: Path, options: dict[str, Any], block: Array) -> None:
    import zarr

    zarr.create_array(path, shape=block.shape, chunks=block.shape, dtype=block.dtype, **options)[...] = block


def readable(engine: str, folder: Path) -> dict[str, str]:
    """By codec, whether the engine reads it, and reads the same."""
    import zarr

    samples = np.load(folder / "samples.npy")[:96, :RATE]
    settings = dict(ZARR.get(engine, {}))
    if engine == "zarrs":
        settings["codec_pipeline.strict"] = True  # or it hands over to zarr-python
    zarr.config.set(settings)
    found = {}
    for path in sorted((folder / "codecs").iterdir()):
        try:
            got = reader(engine, path)(slice(None), slice(None))
            found[path.name] = "yes" if np.array_equal(got, samples) else "OTHER VALUES"
        except Exception as error:  # every library has its own
            found[path.name] = f"no ({type(error).__name__})"
    return found


def main() -> None:
    import warnings

    warnings.simplefilter("ignore")  # on codecs that are no part of the specification, which is the question here
    operation, engine, layout, folder = *sys.argv[1:4], Path(sys.argv[4])
    if operation == "prepare":
        prepare(folder)
        print("{}")
    elif operation == "readable":
        print(json.dumps(readable(engine, folder)))
    else:
        print(json.dumps(measure(engine, layout, folder)))


if __name__ == "__main__":
    main()
