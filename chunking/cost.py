"""What building a store takes: bytes to read, bytes on disk, and the most memory that one task holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import e, log2, pi, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunking.plan import ArrayPlan, Region, region_of

TASK_BYTES = 1 << 25
"""What any task may hold beside its data: buffers of the codecs and of zarr, small labels, memory freed in pieces."""

RATIOS = {"ap": 2.9, "lf": 2.6, "lfp": 1.2, "lfp int16": 2.0, "spikes": 1.3}
"""Size without compression over size on disk, of recordings as those of IBL are. That of counts follows from the
number of spikes in a cell."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What building a store takes.

    Attributes
    ----------
    read_bytes : int
        Size of the source files; of voltage, the part within the window.
    disk_bytes : int
        Expected size of its large arrays on disk.
    task_bytes : int
        The most that a task holds: what it reads, decodes, makes of it and writes. Files that are mapped do not count.
    """

    read_bytes: int
    disk_bytes: int
    task_bytes: int


def region_bytes(arrays: Sequence[ArrayPlan], region: Region) -> int:
    """Size of one region of all arrays, without compression.

    Examples
    --------
    >>> region_bytes([ArrayPlan("counts", ("unit", "time"), (5, 9), "uint16", (5, 3))], ((0, 5), (0, 3)))
    30
    """
    return sum(
        prod(stop - start for start, stop in region_of(array, region, arrays[0])) * np.dtype(array.dtype).itemsize
        for array in arrays
    )


def write_bytes(arrays: Sequence[ArrayPlan]) -> int:
    """The most that writing a block holds beside it: a chunk that is filled up, compressed, and with its checksum."""
    return 3 * max((prod(array.chunks) * np.dtype(array.dtype).itemsize for array in arrays), default=0)


def label_bytes(n: int) -> int:
    """The most that the labels hold that have `n` float64 in their longest coordinate; measured: 5.4 times its size."""
    return 6 * 8 * n


def task_bytes(*phases: int) -> int:
    """The memory of a task whose phases, or of tasks each of which, hold at most these bytes."""
    return TASK_BYTES + max(phases, default=0)


def resident_bytes(*arrays: NDArray[Any]) -> int:
    """Size of arrays that are in memory: not mapped from a file, nor one value in the place of many.

    Examples
    --------
    >>> resident_bytes(np.zeros(10), np.broadcast_to(np.nan, 1000))
    80
    """
    return sum(array.nbytes for array in arrays if all(array.strides) and not _is_mapped(array))


def _is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = array.base
    return isinstance(array, np.memmap)


def on_disk(arrays: Iterable[ArrayPlan], ratio: float) -> int:
    """Expected size of arrays that shrink by `ratio`."""
    return round(sum(array.nbytes for array in arrays) / ratio)


def counts_on_disk(counts: ArrayPlan, n_spikes: int) -> int:
    """Expected size of counts: the entropy of a Poisson distribution, and some more for what the codec adds.

    Measured on an hour of 1000 units with 30 million spikes: 1.6 times the entropy in bins of 1 ms, 1.0 of 20 ms and
    of 100 ms.

    Examples
    --------
    >>> counts_on_disk(ArrayPlan("counts", ("unit", "time"), (1000, 180_000), "uint8", (250, 15_000)), 30_000_000) / 1e6
    16.6...
    """
    cells = prod(counts.shape)
    if not cells or not n_spikes:
        return 0
    mean = n_spikes / cells
    bits = mean * log2(e / mean) if mean < 0.5 else max(0.5 * log2(2 * pi * e * (mean + 1 / 12)), 1)
    return min(round(1.1 * cells * bits / 8), counts.nbytes)
