"""One stored chunk of mtscomp -> its samples, exactly as many as it must have, and the hashes of a whole recording."""

from __future__ import annotations

import hashlib
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from loaders.blocks import Block
from loaders.chunk_index import ChunkIndex
from loaders.errors import CorruptData

_HASHED_SAMPLES = 512  # of all channels: these and their transpose fit into the cache


def inflate(stored: bytes, out: NDArray[Any]) -> None:
    """Inflate one zlib stream that fills `out` exactly; raises ValueError if it does anything else."""
    target: Any = out.reshape(-1).view(np.uint8)  # the releases of imagecodecs name its type differently
    try:
        got = imagecodecs.deflate_decode(stored, out=target)
    except imagecodecs.DeflateError as error:
        raise ValueError(f"not a sound zlib stream of {target.size} bytes ({error})") from error
    if len(got) != target.size:
        raise ValueError(f"expected {target.size} bytes, got {len(got)}")
    # libdeflate has compared the checksum that follows the stream, and ignores what comes after it
    if int.from_bytes(stored[-4:], "big") != imagecodecs.deflate_adler32(target):
        raise ValueError("other bytes follow the end of its zlib stream")


def undo_differences(block: Block, *, time: int | None, space: int | None) -> None:
    """Sum up in place along the given axes, modulo 2**16."""
    for axis in (space, time):
        if axis is not None:
            imagecodecs.delta_decode(block, axis=axis, out=block)


class Hashes:
    """The two hashes of a header, of what was read so far."""

    def __init__(self, index: ChunkIndex) -> None:
        self._expected = {"sha1_compressed": index.sha1_compressed, "sha1_uncompressed": index.sha1_uncompressed}
        self._got = {key: hashlib.sha1(usedforsecurity=False) for key, value in self._expected.items() if value}

    def update(self, stored: bytes, block: Block) -> None:
        """Add one chunk, as stored and as (channel, time)."""
        if "sha1_compressed" in self._got:
            self._got["sha1_compressed"].update(stored)
        if "sha1_uncompressed" not in self._got:
            return
        for start in range(0, block.shape[1], _HASHED_SAMPLES):
            by_time = np.ascontiguousarray(block[:, start : start + _HASHED_SAMPLES].T)
            self._got["sha1_uncompressed"].update(by_time.data)

    def check(self, name: str) -> None:
        """Raise CorruptData, with the name of the file, if a hash differs from that of the header."""
        for key, sha1 in self._got.items():
            if (digest := sha1.hexdigest()) != self._expected[key]:
                raise CorruptData(f"{name}: expected {key} {self._expected[key]}, got {digest}; fetch it again")
