"""What the recordings share: (channel, time) blocks, the windows that may be asked for, and buffers to fill."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from loaders.errors import BadArgument

Block = NDArray[np.int16]


class Scratch:
    """Buffers that are used again, because memory that was never touched is slow; pickles empty."""

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []  # append and pop are atomic

    @contextmanager
    def borrow(self, n_bytes: int) -> Iterator[NDArray[np.uint8]]:
        """A buffer of `n_bytes` that nobody else uses meanwhile."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(n_bytes, np.uint8)
        if buffer.size < n_bytes:
            buffer = np.empty(n_bytes, np.uint8)
        try:
            yield buffer[:n_bytes]
        finally:
            self._free.append(buffer)

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()


def check_window(start: int, stop: int, n_samples: int, name: str) -> None:
    """Raise BadArgument unless ``0 <= start <= stop <= n_samples``."""
    if not 0 <= start <= stop <= n_samples:
        raise BadArgument(f"samples {start}:{stop}: not within the samples 0:{n_samples} of {name}")


def count_rows(rows: slice, n_channels: int) -> int:
    """Number of channels that a slice takes; raises BadArgument for anything that is no usable slice."""
    try:
        return len(range(*rows.indices(n_channels)))
    except (AttributeError, TypeError, ValueError) as error:
        raise BadArgument(f"channels: expected a slice of integers, got {rows!r} ({error})") from error


def block_for(shape: tuple[int, int], out: Block | None) -> Block:
    """A new (channel, time) block, or `out` if given; raises BadArgument if that does not fit."""
    if out is None:
        return np.empty(shape, np.int16)
    if out.shape != shape or out.dtype != np.int16 or not (out.flags.c_contiguous and out.flags.writeable):
        raise BadArgument(
            f"out: expected a contiguous, writeable int16 array of shape {shape}, got {out.dtype} of shape {out.shape}"
        )
    return out
