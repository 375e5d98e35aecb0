"""A recording of voltage, compressed or not, behind one interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from loaders.blocks import Block
from loaders.byte_source import ByteSource
from loaders.cbin import Cbin
from loaders.errors import BadArgument, InconsistentData
from loaders.flat_binary import FlatBinary


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

    def chunks(self) -> Iterator[tuple[int, Block]]:
        """First sample and block of all chunks in order; a block is valid until the next one is asked for."""
        ...


def open_recording(path: str | Path, n_channels: int | None = None, sample_rate_hz: float | None = None) -> Recording:
    """Open a recording of this machine.

    Parameters
    ----------
    path : path
        A ``.cbin`` with its ``.ch`` beside it, or a ``.bin`` or ``.dat``.
    n_channels : int, optional
        Must be given for uncompressed files; a compressed one must have as many.
    sample_rate_hz : float, optional
        Must be given for uncompressed files; the header of a compressed one tells.

    Returns
    -------
    Recording

    Raises
    ------
    NotFound
        If the file, or the header of a compressed one, does not exist.
    CorruptData
        If header and file do not fit together, or the size is not a multiple of that of a sample.
    InconsistentData
        If a compressed file has another number of channels.
    BadArgument
        If the suffix is unknown, or a number is missing.
    """
    path = Path(path)
    if path.suffix == ".cbin":
        recording = Cbin.open(path)
        if n_channels not in (None, recording.n_channels):
            raise InconsistentData(f"{path}: expected {n_channels} channels, its header has {recording.n_channels}")
        return recording
    if path.suffix not in (".bin", ".dat"):
        raise BadArgument(f"{path}: expected a recording with the suffix .cbin, .bin or .dat")
    if n_channels is None or sample_rate_hz is None:
        raise BadArgument(f"{path}: an uncompressed file tells neither: give n_channels and sample_rate_hz")
    return FlatBinary.open(path, n_channels, sample_rate_hz)
