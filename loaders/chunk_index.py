"""The ``.ch`` header of an mtscomp recording, checked before anything is read or allocated.

Format: https://github.com/int-brain-lab/mtscomp (version 1.0).
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from loaders.errors import CorruptData

MAX_HEADER_BYTES = 1 << 24  # 100 hours of 1 s chunks; a hostile one of this size takes 0.4 GB to parse
MAX_CHUNK_BYTES = 1 << 30
MAX_CHANNELS = 100_000
MAX_RATE_HZ = 1e6
DEFLATE_LIMIT = 1032  # no deflate stream expands more: 258 bytes from two bits


@dataclass(frozen=True, slots=True)
class ChunkIndex:
    """Where the chunks of a ``.cbin`` lie and how they were made.

    Attributes
    ----------
    n_channels : int
    sample_rate_hz : float
        As the header has it. Nothing in the file can confirm it: compare it with the meta.
    bounds : tuple of int
        First sample of each chunk, and the number of samples.
    offsets : tuple of int
        First byte of each chunk, and the number of bytes.
    order : str
        ``F`` if the samples of a channel lie together, ``C`` if those of a time do.
    time_diff, spatial_diff : bool
        Whether differences along time and along channels were stored.
    sha1_compressed : str or None
        Of the file.
    sha1_uncompressed : str or None
        Of the samples as (time, channel) int16.
    """

    n_channels: int
    sample_rate_hz: float
    bounds: tuple[int, ...]
    offsets: tuple[int, ...]
    order: str = "F"
    time_diff: bool = True
    spatial_diff: bool = False
    sha1_compressed: str | None = None
    sha1_uncompressed: str | None = None

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        return self.bounds[-1]

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return len(self.bounds) - 1

    @property
    def longest_chunk(self) -> int:
        """Number of samples of each channel in the longest chunk."""
        return max(stop - start for start, stop in pairwise(self.bounds))

    def to_header(self) -> dict[str, Any]:
        """The keys of a ``.ch`` that `parse` reads back as this index."""
        return {
            "version": "1.0",
            "algorithm": "zlib",
            "dtype": "int16",
            "n_channels": self.n_channels,
            "sample_rate": self.sample_rate_hz,
            "chunk_bounds": list(self.bounds),
            "chunk_offsets": list(self.offsets),
            "chunk_order": self.order,
            "do_time_diff": self.time_diff,
            "do_spatial_diff": self.spatial_diff,
            "sha1_compressed": self.sha1_compressed,
            "sha1_uncompressed": self.sha1_uncompressed,
        }

    @classmethod
    def parse(
        cls, text: bytes | str, name: str, file_size: int, *, max_chunk_bytes: int = MAX_CHUNK_BYTES
    ) -> ChunkIndex:
        """Read the text of a ``.ch`` file.

        Parameters
        ----------
        text : bytes or str
        name : str
            What messages call the header, such as its path.
        file_size : int, bytes
            Size of the ``.cbin``.
        max_chunk_bytes : int
            Refuse chunks that are larger than this when decoded.

        Raises
        ------
        CorruptData
            If a key is missing, has another type or an impossible value, contradicts another, or does not fit to
            `file_size`.
        """
        header = _Header(_load(text, name), name)
        header.choice("algorithm", ("zlib",), optional=True)
        header.choice("version", ("1.0",), optional=True)
        header.choice("dtype", ("int16",))
        index = cls(
            n_channels=header.integer("n_channels", MAX_CHANNELS),
            sample_rate_hz=header.rate("sample_rate"),
            bounds=header.rising("chunk_bounds"),
            offsets=header.rising("chunk_offsets"),
            order=header.choice("chunk_order", ("F", "C")),
            time_diff=header.flag("do_time_diff"),
            spatial_diff=header.flag("do_spatial_diff"),
            sha1_compressed=header.sha1("sha1_compressed"),
            sha1_uncompressed=header.sha1("sha1_uncompressed"),
        )
        _check_shape(header, index)
        _check_chunks(header, index, file_size, max_chunk_bytes)
        return index


class _Header:
    """The keys of a header, each given out once it has the type and range that it must have."""

    def __init__(self, keys: dict[str, Any], name: str) -> None:
        self.keys = keys
        self.name = name

    def refuse(self, key: str, expected: str, got: object) -> NoReturn:
        shown = repr(got)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise CorruptData(f"{self.name}: {key}: expected {expected}, got {shown}; fetch it again")

    def get(self, key: str, expected: str) -> Any:
        if key not in self.keys:
            raise CorruptData(f"{self.name}: no key {key} ({expected}): not an mtscomp header; fetch it again")
        return self.keys[key]

    def choice(self, key: str, values: tuple[str, ...], *, optional: bool = False) -> str:
        expected = " or ".join(values)
        value = self.keys.get(key, values[0]) if optional else self.get(key, expected)
        return str(value) if value in values else self.refuse(key, expected, value)

    def flag(self, key: str) -> bool:
        value = self.get(key, "true or false")
        return value if isinstance(value, bool) else self.refuse(key, "true or false", value)

    def integer(self, key: str, most: int) -> int:
        value = self.get(key, expected := f"an integer from 1 to {most}")
        return value if type(value) is int and 1 <= value <= most else self.refuse(key, expected, value)

    def rate(self, key: str) -> float:
        value = self.get(key, expected := f"a number between 0 and {MAX_RATE_HZ:.0f} Hz")
        # the comparison goes first: it holds for no NaN, and float() fails for integers of 400 digits
        fits = type(value) in (int, float) and 0 < value < MAX_RATE_HZ and math.isfinite(value)
        return float(value) if fits else self.refuse(key, expected, value)

    def rising(self, key: str) -> tuple[int, ...]:
        value = self.get(key, expected := "a list of two or more integers that rise from 0")
        if not isinstance(value, list) or len(value) < 2 or any(type(item) is not int for item in value):
            self.refuse(key, expected, value)
        if value[0] != 0:
            self.refuse(f"{key}[0]", "0", value[0])
        for i, (before, after) in enumerate(pairwise(value)):
            if after <= before:
                self.refuse(f"{key}[{i + 1}]", f"more than {before}", after)
        return tuple(value)

    def sha1(self, key: str) -> str | None:
        value = self.keys.get(key)
        if value is None:  # as `mtscomp.Reader.chop` leaves it
            return None
        if not isinstance(value, str) or len(value) != 40 or not set(value) <= set(string.hexdigits):
            self.refuse(key, "40 hexadecimal digits or null", value)
        return str(value).lower()


def _check_shape(header: _Header, index: ChunkIndex) -> None:
    shape = header.keys.get("shape")
    chopped = header.flag("chopped") if "chopped" in header.keys else False
    if shape is None:
        return
    if not isinstance(shape, list) or len(shape) != 2 or any(type(item) is not int for item in shape):
        header.refuse("shape", "a list of two integers", shape)
    expected = [index.n_samples, index.n_channels]
    fits = shape[1] == expected[1] and shape[0] >= expected[0] if chopped else shape == expected
    if not fits:  # `mtscomp.Reader.chop` leaves the shape of the whole
        header.refuse("shape", f"{expected} as chunk_bounds and n_channels say", shape)


def _check_chunks(header: _Header, index: ChunkIndex, file_size: int, max_chunk_bytes: int) -> None:
    if len(index.offsets) != len(index.bounds):
        header.refuse("chunk_offsets", f"{len(index.bounds)} entries, as chunk_bounds has", len(index.offsets))
    if index.offsets[-1] != file_size:
        header.refuse("chunk_offsets[-1]", f"the {file_size} bytes of the recording", index.offsets[-1])
    for i, (samples, span) in enumerate(zip(pairwise(index.bounds), pairwise(index.offsets), strict=True)):
        n_bytes, stored = (samples[1] - samples[0]) * index.n_channels * 2, span[1] - span[0]
        limit = min(max_chunk_bytes, stored * DEFLATE_LIMIT)
        if n_bytes > limit:
            header.refuse(f"chunk {i}", f"at most {limit} bytes decoded from {stored} stored", n_bytes)


def _load(text: bytes | str, name: str) -> dict[str, Any]:
    if len(text) > MAX_HEADER_BYTES:
        raise CorruptData(f"{name}: expected a header of at most {MAX_HEADER_BYTES} bytes, got {len(text)}")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8")
        keys = json.loads(decoded, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{name}: not a readable mtscomp header ({error}); fetch it again") from error
    if not isinstance(keys, dict):
        raise CorruptData(f"{name}: expected a JSON object, got a {type(keys).__name__}; fetch it again")
    return keys


def _no_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key occurs twice")
    return keys
