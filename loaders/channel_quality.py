"""Which channels are dead, noisy or outside the brain, by ibl-neuropixel, from snippets of the raw voltage.

The rule is ``ibldsp.voltage.detect_bad_channels_cbin``: ten batches of 10,000 samples (4 s of LF, 0.33 s of AP), evenly
spaced over the recording, and of every channel the label that it has most often. Two things differ:

- Every shank is judged by itself, in the order of its rows, because the criteria compare a channel with its neighbours
  and with the median of all. IBL gets the same by splitting recordings of several shanks.
- Batches without any signal common to the channels (stretches of zeros) do not vote.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InconsistentData
from loaders.voltage import Voltage

N_BATCHES = 10
BATCH_SAMPLES = 10_000
LABELLING_BYTES = 200_000_000
"""The most that `label_channels` holds."""
_FEWEST_SAMPLES = 1000


class ChannelLabel(IntEnum):
    """Labels of `ibldsp.voltage.detect_bad_channels`."""

    GOOD = 0
    DEAD = 1
    NOISY = 2
    OUTSIDE = 3


def label_channels(voltage: Voltage) -> NDArray[np.int8]:
    """Label the channels of a recording; reads at most 100,000 samples, takes seconds and holds some 200 MB.

    Parameters
    ----------
    voltage : Voltage

    Returns
    -------
    (channel,) int8
        `ChannelLabel` of each.

    Raises
    ------
    InconsistentData
        If the recording is too short, or no batch has a signal.
    """
    from scipy.stats import mode

    starts = _batch_starts(voltage)
    geometry = voltage.geometry
    along = np.lexsort((-geometry.col, geometry.row, geometry.shank))  # as spikeglx sorts channels
    labels = np.empty(voltage.meta.n_channels, dtype=np.int8)
    votes = [_label_batch(voltage, start, along) for start in starts]
    for shank in np.unique(geometry.shank):
        on_shank = geometry.shank == shank
        valid = [vote[on_shank] for vote in votes if (vote[on_shank] >= 0).all()]
        if not valid:
            raise InconsistentData(
                f"pid {voltage.insertion.pid}, {voltage.band} band: the channels of shank {shank} cannot be labelled, "
                f"their median is flat in all {len(starts)} snippets; leave out products that need labels"
            )
        labels[on_shank] = mode(np.stack(valid), axis=0).mode
    return labels


def _batch_starts(voltage: Voltage) -> list[int]:
    n_samples = voltage.recording.n_samples
    if n_samples < _FEWEST_SAMPLES:
        raise InconsistentData(
            f"pid {voltage.insertion.pid}, {voltage.band} band: expected at least {_FEWEST_SAMPLES} samples to label "
            f"channels by, got {n_samples}; leave out products that need labels"
        )
    starts = np.linspace(0, max(n_samples - BATCH_SAMPLES, 0), N_BATCHES)
    return sorted({int(start) for start in starts})


def _label_batch(voltage: Voltage, start: int, along: NDArray[np.intp]) -> NDArray[np.int8]:
    """Labels (channel,) by one batch; -1 on shanks without a signal."""
    from ibldsp.voltage import detect_bad_channels

    meta, shank = voltage.meta, voltage.geometry.shank
    stop = min(start + BATCH_SAMPLES, voltage.recording.n_samples)
    block = voltage.recording.read(start, stop, slice(0, meta.n_channels))
    labels = np.full(meta.n_channels, -1, dtype=np.int8)
    for this in np.unique(shank):
        rows = along[shank[along] == this]
        volts = block[rows] * np.float32(1e-6 * meta.gain_to_uv[rows, None])
        if np.ptp(np.median(volts - volts.mean(axis=1, keepdims=True), axis=0)) > 0:
            labels[rows] = detect_bad_channels(volts, fs=meta.sampling_rate_hz)[0]
    return labels
