"""The lossless codecs of bench_codecs.py: chunk -> bytes -> chunk.

Each imports what it needs when it is used: some run in an environment of their own (`benchmarks/peers/codecs.sh`).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Chunk = np.ndarray[Any, Any]

MIB = 1 << 20
ANY, PYTHON, NONE = "any Zarr v3 reader", "zarr-python", "none"


@dataclass(frozen=True)
class Codec:
    """One codec.

    Attributes
    ----------
    name : str
    readers : str
        Who reads a Zarr array with it as installed; bench_engines.py tries.
    encode : callable
        (row, time) array -> bytes.
    decode : callable
        Bytes and a (row, time) array to fill -> the decoded array, which may be the one given.
    peer : bool
        Needs the environment of the foreign codecs.
    voltage_only : bool
        Takes no unsigned counts.
    """

    name: str
    readers: str
    encode: Callable[[Chunk], Any]
    decode: Callable[[Any, Chunk], Chunk]
    peer: bool = False
    voltage_only: bool = False


def _blosc(cname: str, level: int, block: int = 0) -> Any:
    import numcodecs
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False  # speed per core
    return numcodecs.Blosc(cname, clevel=level, shuffle=numcodecs.Blosc.BITSHUFFLE, blocksize=block)


def _from_blosc(data: Any, out: Chunk) -> Chunk:
    import numcodecs

    numcodecs.Blosc().decode(data, out=out)
    return out


def blosc(name: str, cname: str, level: int, block: int = 0) -> Codec:
    return Codec(name, ANY, lambda x: _blosc(cname, level, block).encode(x), _from_blosc)


def _delta_blosc(chunk: Chunk) -> Any:
    import numcodecs

    return _blosc("zstd", 1, MIB).encode(numcodecs.Delta(chunk.dtype).encode(chunk))


def _from_delta_blosc(data: Any, out: Chunk) -> Chunk:
    import numcodecs

    scratch = _from_blosc(data, np.empty_like(out))
    return np.asarray(numcodecs.Delta(out.dtype).decode(scratch, out=out.reshape(-1)))


def _rows_blosc(chunk: Chunk) -> Any:
    import imagecodecs

    return _blosc("zstd", 1, MIB).encode(imagecodecs.delta_encode(chunk, axis=1))


def _from_rows_blosc(data: Any, out: Chunk) -> Chunk:
    import imagecodecs

    return np.asarray(imagecodecs.delta_decode(_from_blosc(data, out), axis=1, out=out))


def _zstd(level: int, checksum: bool) -> Any:
    import numcodecs

    return numcodecs.Zstd(level=level, checksum=checksum)


def zstd(name: str, level: int, checksum: bool) -> Codec:
    return Codec(name, ANY, lambda x: _zstd(level, checksum).encode(x), lambda d, out: _zstd(0, False).decode(d, out))


def _to_mtscomp(chunk: Chunk) -> bytes:
    return zlib.compress(np.diff(chunk, axis=1, prepend=chunk.dtype.type(0)).tobytes())


def _from_mtscomp(data: bytes, out: Chunk) -> Chunk:
    import imagecodecs

    flat: Any = out.reshape(-1).view(np.uint8)
    imagecodecs.deflate_decode(data, out=flat)
    return np.asarray(imagecodecs.delta_decode(out, axis=1, out=out))


def _gzip(chunk: Chunk) -> bytes:
    return zlib.compress(chunk, 5, 31)


def _from_gzip(data: bytes, out: Chunk) -> Chunk:
    return np.frombuffer(zlib.decompress(data, 31), out.dtype)


def _pcodec(chunk: Chunk) -> Any:
    from pcodec import ChunkConfig, standalone

    return standalone.simple_compress(chunk.reshape(-1), ChunkConfig())


def _from_pcodec(data: Any, out: Chunk) -> Chunk:
    from pcodec import standalone

    standalone.simple_decompress_into(data, out.reshape(-1))
    return out


_VOICES = 8  # the most that FLAC takes


def _flac(chunk: Chunk) -> list[bytes]:
    import soundfile

    parts = []
    for i in range(0, len(chunk), _VOICES):
        file = io.BytesIO()
        rows = np.ascontiguousarray(chunk[i : i + _VOICES].T)
        soundfile.write(file, rows, 32000, format="FLAC", subtype="PCM_16")  # the rate is a label
        parts.append(file.getvalue())
    return parts


def _from_flac(parts: list[bytes], out: Chunk) -> Chunk:
    import soundfile

    for i, part in enumerate(parts):
        out[i * _VOICES : (i + 1) * _VOICES] = soundfile.read(io.BytesIO(part), dtype="int16", always_2d=True)[0].T
    return out


OURS = "blosc zstd 1 bitshuffle, 1 MiB blocks (ours)"

CODECS = (
    blosc(OURS, "zstd", 1, MIB),
    blosc("blosc zstd 1 bitshuffle, automatic blocks", "zstd", 1),
    blosc("blosc zstd 5 bitshuffle, automatic blocks (SpikeInterface's)", "zstd", 5),
    blosc("blosc lz4 5 bitshuffle, automatic blocks", "lz4", 5),
    Codec("difference along time + ours", NONE, _rows_blosc, _from_rows_blosc),
    Codec("numcodecs.delta + ours", PYTHON, _delta_blosc, _from_delta_blosc),
    zstd("zstd 0 (the default of zarr-python)", 0, False),
    zstd("zstd 3 + checksum", 3, True),
    Codec("gzip 5", ANY, _gzip, _from_gzip),
    Codec("difference along time + zlib 6 (mtscomp; inflate of imagecodecs)", NONE, _to_mtscomp, _from_mtscomp),
    Codec("pcodec 8", PYTHON, _pcodec, _from_pcodec, peer=True, voltage_only=True),
    Codec("FLAC, 8 channels a stream", NONE, _flac, _from_flac, peer=True, voltage_only=True),
)
