"""Uncompressed recordings (``.bin``): int16 samples, all channels of a time together, nothing else in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loaders.blocks import Block, Scratch, block_for, check_window, count_rows
from loaders.byte_source import ByteSource, LocalFile
from loaders.chunk_index import MAX_CHANNELS, MAX_RATE_HZ
from loaders.errors import BadArgument, CorruptData


@dataclass(frozen=True)
class FlatBinary:
    """An uncompressed recording, read like a compressed one. Threads may share one; it pickles in some hundred bytes.

    It reads ranges and transposes pieces that fit into the cache. A memory map is no faster at that, and a file that
    shrinks under it kills the process.

    Parameters
    ----------
    source : ByteSource
        The ``.bin``.
    n_channels : int
    sample_rate_hz : float
    chunk_samples : int
        Samples of a chunk; only the last one is shorter.
    piece_bytes : int
        Bytes that are read at once; larger ones suit sources that are far away.

    Raises
    ------
    BadArgument
        If a number is out of range.
    CorruptData
        If the file is empty or not a whole number of samples of `n_channels`.
    """

    source: ByteSource
    n_channels: int
    sample_rate_hz: float
    chunk_samples: int = 30_000
    piece_bytes: int = 1 << 19
    _scratch: Scratch = field(default_factory=Scratch, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.n_channels <= MAX_CHANNELS:
            raise BadArgument(f"n_channels: expected 1 to {MAX_CHANNELS}, got {self.n_channels}")
        if not 0 < self.sample_rate_hz < MAX_RATE_HZ:
            raise BadArgument(f"sample_rate_hz: expected between 0 and {MAX_RATE_HZ:.0f}, got {self.sample_rate_hz}")
        if min(self.chunk_samples, self.piece_bytes) < 1:
            raise BadArgument("chunk_samples and piece_bytes: expected at least 1")
        if self.source.size == 0 or self.source.size % self._row_bytes:
            raise CorruptData(
                f"{self.source.name}: expected a multiple of {self._row_bytes} bytes ({self.n_channels} channels of "
                f"int16), got {self.source.size}; check n_channels, or fetch it again"
            )

    @classmethod
    def open(cls, path: str | Path, n_channels: int, sample_rate_hz: float) -> FlatBinary:
        """Open a file of this machine; raises NotFound if it does not exist."""
        return cls(LocalFile(path), n_channels, sample_rate_hz)

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        return self.source.size // self._row_bytes

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_samples // self.chunk_samples)

    def span(self, i: int) -> tuple[int, int]:
        """First sample of chunk `i`, and the one after its last."""
        if not 0 <= i < self.n_chunks:
            raise BadArgument(f"chunk {i}: {self.source.name} has the chunks 0 to {self.n_chunks - 1}")
        return i * self.chunk_samples, min((i + 1) * self.chunk_samples, self.n_samples)

    def chunk(self, i: int, out: Block | None = None) -> Block:
        """One chunk as (channel, time) int16, as for `Cbin.chunk`."""
        start, stop = self.span(i)
        out = block_for((self.n_channels, stop - start), out)
        self._fill(out, start, slice(None))
        return out

    def read(self, start: int, stop: int, channels: slice | None = None) -> Block:
        """The samples ``start:stop`` of some channels as (channel, time) int16, as for `Cbin.read`."""
        check_window(start, stop, self.n_samples, self.source.name)
        rows = slice(None) if channels is None else channels
        result = np.empty((count_rows(rows, self.n_channels), stop - start), np.int16)
        self._fill(result, start, rows)
        return result

    def stored_bytes(self, start: int, stop: int) -> int:
        """Bytes of the source that `read` takes for the samples ``start:stop``."""
        return (stop - start) * self._row_bytes

    def read_holds(self, start: int, stop: int) -> int:
        """The most bytes that `read` of all channels holds, its result included."""
        return (stop - start) * self._row_bytes + 2 * max(self.piece_bytes, self._row_bytes)

    def chunks(self) -> Iterator[tuple[int, Block]]:
        """First sample and block of all chunks in order; a block is valid until the next one is asked for."""
        with self._scratch.borrow(min(self.chunk_samples, self.n_samples) * self._row_bytes) as buffer:
            for i in range(self.n_chunks):
                start, stop = self.span(i)
                block = buffer[: (stop - start) * self._row_bytes].view(np.int16).reshape(self.n_channels, -1)
                yield start, self.chunk(i, block)

    @property
    def _row_bytes(self) -> int:
        return self.n_channels * 2

    def _fill(self, out: Block, start: int, rows: slice) -> None:
        n_samples = out.shape[1]
        step = max(1, self.piece_bytes // self._row_bytes)
        for a in range(0, n_samples, step):
            b = min(a + step, n_samples)
            stored = self.source.read((start + a) * self._row_bytes, (start + b) * self._row_bytes)
            out[:, a:b] = np.frombuffer(stored, np.int16).reshape(b - a, self.n_channels)[:, rows].T
