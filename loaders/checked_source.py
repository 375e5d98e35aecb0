"""A byte source that is compared with checksums of its ranges at every read.

A file that others may change, such as one that a store links to, is the one that was hashed or it is refused.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from loaders.byte_source import ByteSource
from loaders.checksum import crc32
from loaders.errors import BadArgument, CorruptData


@dataclass(frozen=True, slots=True)
class RangeHashes:
    """Checksums of the ranges of a file between `bounds`, and the hash of all of it.

    Attributes
    ----------
    bounds : tuple of int
        First byte of each range, and the number of bytes.
    crc32 : tuple of str
        CRC-32 of each range.
    sha1 : str
        Of the whole file.
    """

    bounds: tuple[int, ...]
    crc32: tuple[str, ...]
    sha1: str

    def __post_init__(self) -> None:
        if len(self.crc32) != len(self.bounds) - 1:
            raise BadArgument(f"crc32: expected {len(self.bounds) - 1} checksums, got {len(self.crc32)}")


def hash_ranges(source: ByteSource, bounds: Sequence[int]) -> RangeHashes:
    """Hash a file in one pass that holds one range at a time."""
    sha1, crcs = hashlib.sha1(usedforsecurity=False), []
    for start, stop in pairwise(bounds):
        data = source.read(start, stop)
        sha1.update(data)
        crcs.append(crc32(data))
    return RangeHashes(tuple(bounds), tuple(crcs), sha1.hexdigest())


@dataclass(frozen=True)
class CheckedSource:
    """A byte source whose bytes must be those that were hashed. Threads may share one.

    Parameters
    ----------
    source : ByteSource
    hashes : RangeHashes
        A read takes all ranges that it touches, and compares them.

    Raises
    ------
    CorruptData
        If the source has another size, or at a read, if it has other bytes.
    """

    source: ByteSource
    hashes: RangeHashes

    def __post_init__(self) -> None:
        if self.source.size != (expected := self.hashes.bounds[-1]):
            raise CorruptData(
                f"{self.name}: expected {expected} bytes, got {self.source.size}: another file, or a truncated one"
            )

    @property
    def name(self) -> str:
        """Path or url, for messages."""
        return self.source.name

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.source.size

    def read(self, start: int, stop: int) -> bytes:
        """All bytes of the range ``start:stop``; raises CorruptData if they are not those that were hashed."""
        if not 0 <= start <= stop <= self.size:
            raise BadArgument(f"{self.name}: bytes {start}:{stop} are not within its {self.size} bytes")
        if start == stop:
            return b""
        bounds = self.hashes.bounds
        first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, stop)
        origin = bounds[first]
        data = self.source.read(origin, bounds[last])
        if (start, stop) == (origin, bounds[last]) and last - first == 1:
            self._check(first, data)
            return data
        view = memoryview(data)
        for i in range(first, last):
            self._check(i, bytes(view[bounds[i] - origin : bounds[i + 1] - origin]))
        return data[start - origin : stop - origin]

    def _check(self, i: int, data: bytes) -> None:
        found = crc32(data)
        if found != (expected := self.hashes.crc32[i]):
            start, stop = self.hashes.bounds[i : i + 2]
            raise CorruptData(
                f"{self.name}: bytes {start}:{stop} are not those that were hashed (crc32 {found}, expected "
                f"{expected}): the file was replaced, changed or damaged"
            )
