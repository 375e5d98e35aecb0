"""One stored chunk of HDF5 -> its bytes, exactly as many as it must have: gzip, shuffle and fletcher32, without HDF5.

The numbers are those of https://support.hdfgroup.org/documentation/hdf5/latest/_h5_z__u_g.html; a filter is applied in
the order in which the dataset lists them, unless the chunk says that it was skipped.
"""

from __future__ import annotations

from collections.abc import Sequence

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from loaders.mtscomp_chunk import inflate

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
FILTERS = {DEFLATE: "gzip", SHUFFLE: "shuffle", FLETCHER32: "fletcher32"}
"""What can be undone here, by the number that HDF5 has for it."""

_CHECKSUM_BYTES = 4


def undo_filters(
    stored: bytes, filters: Sequence[int], skipped: int, n_bytes: int, itemsize: int
) -> bytes | NDArray[np.uint8]:
    """Undo the filters of one chunk; raises ValueError if that does not give exactly `n_bytes`.

    Parameters
    ----------
    stored : bytes
    filters : sequence of int
        Keys of `FILTERS`, in the order in which they were applied.
    skipped : int
        Bit `i` says that filter `i` was not applied to this chunk.
    n_bytes : int
        Size of a whole chunk.
    itemsize : int, bytes
        Size of an element, by which bytes were shuffled.
    """
    applied = [code for i, code in enumerate(filters) if not skipped >> i & 1]
    data: bytes | NDArray[np.uint8] = stored
    while applied:
        code = applied.pop()
        if code == FLETCHER32:
            data = _check_sum(data)
        elif code == SHUFFLE:
            data = _unshuffle(data, itemsize)
        else:
            inflated = np.empty(n_bytes + _CHECKSUM_BYTES * applied.count(FLETCHER32), np.uint8)
            inflate(bytes(data), inflated)
            data = inflated
    if len(data) != n_bytes:
        raise ValueError(f"expected {n_bytes} bytes, got {len(data)}")
    return data


def _check_sum(data: bytes | NDArray[np.uint8]) -> bytes | NDArray[np.uint8]:
    body, end = data[:-_CHECKSUM_BYTES], bytes(data[-_CHECKSUM_BYTES:])
    if len(end) != _CHECKSUM_BYTES or imagecodecs.h5checksum_fletcher32(bytes(body)) != int.from_bytes(end, "little"):
        raise ValueError("its fletcher32 checksum differs")
    return body


def _unshuffle(data: bytes | NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    """All first bytes of the elements come first; bytes that are no whole element stay at the end."""
    whole = np.frombuffer(data, np.uint8)
    n = len(whole) // itemsize * itemsize
    plain = np.empty_like(whole)
    plain[:n].reshape(-1, itemsize)[...] = whole[:n].reshape(itemsize, -1).T
    plain[n:] = whole[n:]
    return plain
