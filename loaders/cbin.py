"""Recordings compressed by mtscomp (``.cbin`` with its ``.ch``): any samples as a (channel, time) block.

A ``.cbin`` is a row of independent zlib streams, one a chunk of time, each of the int16 differences along time. With
the usual chunk order ``F`` they lie channel after channel, which is (channel, time) as it stands: inflate, undo the
differences in place, and nothing is transposed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loaders.blocks import Block, Scratch, block_for, check_window, count_rows
from loaders.byte_source import ByteSource, LocalFile
from loaders.chunk_index import MAX_HEADER_BYTES, ChunkIndex
from loaders.errors import BadArgument, CorruptData
from loaders.mtscomp_chunk import Hashes, inflate, undo_differences


@dataclass(frozen=True)
class Cbin:
    """An mtscomp recording. Threads may share one; a pickle holds the index and some hundred bytes.

    Parameters
    ----------
    source : ByteSource
        The ``.cbin``.
    index : ChunkIndex
        What its ``.ch`` says.

    Examples
    --------
    >>> recording = Cbin.open("_spikeglx_ephysData_g0_t0.imec0.ap.cbin")  # doctest: +SKIP
    >>> recording.read(0, 30_000, channels=slice(0, 10)).shape  # doctest: +SKIP
    (10, 30000)
    """

    source: ByteSource
    index: ChunkIndex
    _scratch: Scratch = field(default_factory=Scratch, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.source.size != self.index.offsets[-1]:
            end = self.index.offsets[-1]
            raise CorruptData(f"{self.source.name}: expected {end} bytes as in its header, got {self.source.size}")

    @classmethod
    def open(cls, path: str | Path, header: str | Path | None = None) -> Cbin:
        """Open a file of this machine.

        Parameters
        ----------
        path : path
            The ``.cbin``.
        header : path, optional
            The ``.ch``, by default the file of the same name.

        Raises
        ------
        NotFound
            If one of the files does not exist.
        CorruptData
            If the header is none, or the two do not fit together.
        """
        source = LocalFile(path)
        return cls.over(source, LocalFile(source.path.with_suffix(".ch") if header is None else header))

    @classmethod
    def over(cls, source: ByteSource, header: ByteSource) -> Cbin:
        """Open what two byte sources hold; see `open` for the errors."""
        if header.size > MAX_HEADER_BYTES:
            raise CorruptData(
                f"{header.name}: expected a header of at most {MAX_HEADER_BYTES} bytes, got {header.size}"
            )
        return cls(source, ChunkIndex.parse(header.read(0, header.size), header.name, source.size))

    @property
    def n_channels(self) -> int:
        """Number of channels, with those of synchronisation."""
        return self.index.n_channels

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        return self.index.n_samples

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return self.index.n_chunks

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second, as the header has it."""
        return self.index.sample_rate_hz

    def span(self, i: int) -> tuple[int, int]:
        """First sample of chunk `i`, and the one after its last."""
        if not 0 <= i < self.n_chunks:
            raise BadArgument(f"chunk {i}: {self.source.name} has the chunks 0 to {self.n_chunks - 1}")
        return self.index.bounds[i], self.index.bounds[i + 1]

    def touching(self, start: int, stop: int) -> range:
        """The chunks that hold any of the samples ``start:stop``."""
        check_window(start, stop, self.n_samples, self.source.name)
        if start == stop:
            return range(0)
        return range(bisect_right(self.index.bounds, start) - 1, bisect_left(self.index.bounds, stop))

    def chunk(self, i: int, out: Block | None = None) -> Block:
        """One chunk.

        Parameters
        ----------
        i : int
        out : (channel, time) int16, optional
            Where to put it: exactly its shape, contiguous. By default a new array; a given one is faster.

        Returns
        -------
        (channel, time) int16
            `out` if given.

        Raises
        ------
        BadArgument
            If there is no such chunk, or `out` does not fit.
        CorruptData
            If the chunk cannot be decoded to exactly the size that the index says.
        """
        start, stop = self.span(i)
        out = block_for((self.n_channels, stop - start), out)
        self._load(i, out)
        return out

    def read(self, start: int, stop: int, channels: slice | None = None) -> Block:
        """The samples ``start:stop``; decodes exactly the chunks that hold some of them.

        Parameters
        ----------
        start, stop : int, samples
            ``0 <= start <= stop <= n_samples``.
        channels : slice, optional
            Which channels, as for numpy; by default all.

        Returns
        -------
        (channel, time) int16
            A new array.
        """
        chunks = self.touching(start, stop)
        rows = slice(None) if channels is None else channels
        n_rows = count_rows(rows, self.n_channels)
        if channels is None and len(chunks) == 1 and self.span(chunks[0]) == (start, stop):
            return self.chunk(chunks[0])
        result = np.empty((n_rows, stop - start), np.int16)
        for i in chunks:
            first, last = self.span(i)
            a, b = max(first, start), min(last, stop)
            with self._borrow(last - first) as block:
                result[:, a - start : b - start] = self.chunk(i, block)[rows, a - first : b - first]
        return result

    def stored_bytes(self, start: int, stop: int) -> int:
        """Bytes of the source that `read` takes for the samples ``start:stop``."""
        chunks = self.touching(start, stop)
        return self.index.offsets[chunks.stop] - self.index.offsets[chunks.start] if chunks else 0

    def read_holds(self, start: int, stop: int) -> int:
        """The most bytes that `read` of all channels holds, its result included."""
        chunks, offsets = self.touching(start, stop), self.index.offsets
        stored = max((offsets[i + 1] - offsets[i] for i in chunks), default=0)
        in_place = len(chunks) == 1 and self.span(chunks[0]) == (start, stop)
        buffers = (not in_place) + (self.index.order == "C")
        n_samples = stop - start + buffers * self.index.longest_chunk
        return 2 * self.n_channels * n_samples + 2 * stored  # twice: as it comes from a server, and in one piece

    def chunks(self, *, check: bool = False) -> Iterator[tuple[int, Block]]:
        """All chunks in order.

        Parameters
        ----------
        check : bool
            Compare the hashes of the header after the last chunk.

        Yields
        ------
        int
            First sample.
        (channel, time) int16
            Valid until the next one is asked for: it lies in a buffer that is used again.

        Raises
        ------
        CorruptData
            If a chunk cannot be decoded, or at the end if a hash differs; the message says which.
        """
        hashes = Hashes(self.index)
        with self._borrow(self.index.longest_chunk) as buffer:
            for i in range(self.n_chunks):
                start, stop = self.span(i)
                block = buffer.reshape(-1)[: self.n_channels * (stop - start)].reshape(self.n_channels, -1)
                stored = self._load(i, block)
                if check:
                    hashes.update(stored, block)
                yield start, block
        if check:
            hashes.check(self.source.name)

    def verify(self) -> tuple[str, ...]:
        """Decode everything and compare the hashes of the header; takes a full pass and the memory of one chunk.

        Returns
        -------
        tuple of str
            The hashes that were compared: ``sha1_compressed``, ``sha1_uncompressed``. Without the second nothing tells
            whether header and file belong together.

        Raises
        ------
        CorruptData
            If a chunk cannot be decoded or a hash differs; the message says which.
        """
        for _ in self.chunks(check=True):
            pass
        return tuple(key for key in ("sha1_compressed", "sha1_uncompressed") if getattr(self.index, key))

    @contextmanager
    def _borrow(self, n_samples: int) -> Iterator[Block]:
        with self._scratch.borrow(self.n_channels * n_samples * 2) as buffer:
            yield buffer.view(np.int16).reshape(self.n_channels, n_samples)

    def _load(self, i: int, out: Block) -> bytes:
        """Decode chunk `i` into `out` and return its bytes, read once more if they are corrupt.

        A bit that was turned over on the way from a server heals so; a file that is corrupt stays it.
        """
        stored = self._stored(i)
        try:
            self._decode(i, stored, out)
        except CorruptData:
            stored = self._stored(i)
            self._decode(i, stored, out)
        return stored

    def _stored(self, i: int) -> bytes:
        return self.source.read(self.index.offsets[i], self.index.offsets[i + 1])

    def _decode(self, i: int, stored: bytes, out: Block) -> None:
        index = self.index
        try:
            if index.order == "F":
                inflate(stored, out)
                undo_differences(out, time=1 if index.time_diff else None, space=0 if index.spatial_diff else None)
                return
            with self._borrow(out.shape[1]) as block:
                by_time = block.reshape(out.shape[::-1])
                inflate(stored, by_time)
                undo_differences(by_time, time=0 if index.time_diff else None, space=1 if index.spatial_diff else None)
                out[...] = by_time.T
        except ValueError as error:
            where = f"chunk {i} (bytes {index.offsets[i]}:{index.offsets[i + 1]})"
            raise CorruptData(f"{self.source.name}: {where}: {error}; fetch it again") from error
