"""A common reference: the median of the good channels of each shank, taken away from all channels of the shank.

Offsets of channels stay in, here and in the median, as for any common reference without a high-pass before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InconsistentData
from loaders.records import Ints

_PIECE = 8192  # samples of a median at once: a few MB


def subtract_common(uv: NDArray[np.float32], shank: Ints, good: NDArray[np.bool_], where: str) -> None:
    """Take the median of the good channels of each shank away from all its channels, in place.

    Parameters
    ----------
    uv : (channel, time) float32
    shank : (channel,) int
    good : (channel,) bool
        Channels that make the reference. The others are referenced, too.
    where : str
        What errors call the data.

    Raises
    ------
    InconsistentData
        If a shank has no good channel.
    """
    for this in np.unique(shank):
        rows, referring = np.flatnonzero(shank == this), np.flatnonzero((shank == this) & good)
        if not len(referring):
            raise InconsistentData(f"{where}: shank {this} has no good channel, and so no reference; build it without")
        for start in range(0, uv.shape[1], _PIECE):
            piece = slice(start, start + _PIECE)
            uv[rows, piece] -= np.median(uv[referring, piece], axis=0)
