"""A recording of voltage, compressed or not, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from loaders.blocks import Block
from loaders.byte_source import ByteSource


class Recording(Protocol):
    """Samples of channels over time, in chunks of time. Picklable; threads may share one."""

    @property
    def source(self) -> ByteSource:
        """The bytes of the recording."""
        ...

    @property
    def n_channels(self) -> int:
        """Number of channels, with those of synchronisation."""
        ...

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        ...

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        ...

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second."""
        ...

    def span(self, i: int) -> tuple[int, int]:
        """First sample of chunk `i`, and the one after its last."""
        ...

    def chunk(self, i: int, out: Block | None = None) -> Block:
        """One chunk as (channel, time) int16, in `out` if given."""
        ...

    def read(self, start: int, stop: int, channels: slice | None = None) -> Block:
        """The samples ``start:stop`` of some channels as a new (channel, time) int16 array."""
        ...

    def stored_bytes(self, start: int, stop: int) -> int:
        """Bytes of the source that `read` takes for the samples ``start:stop``."""
        ...

    def read_holds(self, start: int, stop: int) -> int:
        """The most bytes that `read` of all channels holds, its result included."""
        ...

    def chunks(self) -> Iterator[tuple[int, Block]]:
        """First sample and block of all chunks in order; a block is valid until the next one is asked for."""
        ...
