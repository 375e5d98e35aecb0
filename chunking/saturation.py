"""Which samples are saturated, by IBL's criterion: more than 20 % of the channels beyond 0.96 of their range.

That is ``ibldsp.voltage.saturation(..., v_per_sec=None)``, whose other criterion, the slope, takes normal LFP for
saturation. Here it is computed from the integers as recorded.

After decimation a sample stands for the raw samples nearest to it: raw sample ``i`` belongs to output
``(i + factor // 2) // factor`` (the later one of two that are equally near), or to the last one if there is none. An
output is saturated if any of its raw samples is.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from loaders.blocks import Block
from loaders.recording import Recording
from loaders.spikeglx_meta import RecordingMeta

RANGE_FRACTION = 0.96
CHANNEL_FRACTION = 0.2


class SaturationWatch:
    """A recording that notes which samples are saturated while they are read, so that nothing is decoded twice.

    Parameters
    ----------
    recording : Recording
    meta : RecordingMeta
        Range and gain of its channels.
    factor, start, stop : int
        The decimation, and the outputs ``start:stop`` to tell about.

    """

    def __init__(self, recording: Recording, meta: RecordingMeta, factor: int, start: int, stop: int) -> None:
        self._recording = recording
        self._limit = np.floor(RANGE_FRACTION * meta.range_uv / meta.gain_to_uv).astype(np.int32)
        self._edges = raw_edges(factor, start, stop, recording.n_samples)
        self._saturated = np.zeros(self._edges[-1] - self._edges[0], dtype=np.bool_)

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        return self._recording.n_samples

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second."""
        return self._recording.sample_rate_hz

    def read(self, start: int, stop: int, channels: slice | None = None) -> Block:
        """The samples ``start:stop`` of some channels, as for `Recording.read`; all with voltage must be among them."""
        block = self._recording.read(start, stop, channels)
        first, last = max(start, int(self._edges[0])), min(stop, int(self._edges[-1]))
        if first < last:
            where = slice(first - int(self._edges[0]), last - int(self._edges[0]))
            self._saturated[where] = saturated(block[: len(self._limit), first - start : last - start], self._limit)
        return block

    def outputs(self) -> NDArray[np.bool_]:
        """Whether each output stands for a saturated sample, (stop - start,); valid once all samples were read."""
        begins = (self._edges[:-1] - self._edges[0]).astype(np.intp)
        return np.asarray(np.logical_or.reduceat(self._saturated, begins))


def saturated(block: Block, limit: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Samples of which more than `CHANNEL_FRACTION` of the channels exceed a limit.

    Parameters
    ----------
    block : (channel, time) int16
    limit : (channel,) int32

    Returns
    -------
    (time,) bool

    Examples
    --------
    >>> import numpy as np
    >>> saturated(np.array([[0, 511, -512], [0, 3, 4]], np.int16), np.array([491, 491], np.int32)).tolist()
    [False, True, True]
    """
    return np.asarray(_count_beyond(block, limit) / len(limit) > CHANNEL_FRACTION)


def raw_edges(factor: int, start: int, stop: int, n_samples: int) -> NDArray[np.int64]:
    """First raw sample of the outputs ``start:stop``, and the one after the last, (stop - start + 1,).

    Examples
    --------
    >>> raw_edges(10, 0, 3, 28).tolist()
    [0, 5, 15, 28]
    """
    edges = np.clip(np.arange(start, stop + 1, dtype=np.int64) * factor - factor // 2, 0, n_samples)
    if stop * factor >= n_samples:  # the last output of the recording
        edges[-1] = n_samples
    return edges


@njit(nogil=True, cache=True)
def _count_beyond(block: Block, limit: NDArray[np.int32]) -> NDArray[np.int32]:
    count = np.zeros(block.shape[1], dtype=np.int32)
    for channel in range(block.shape[0]):
        high = limit[channel]
        for i in range(block.shape[1]):
            value = np.int32(block[channel, i])
            count[i] += (value > high) | (value < -high)
    return count
