"""LFP that a data set publishes already filtered and decimated, and the clock that its timestamps make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.byte_source import LocalFile
from loaders.clock import Clock
from loaders.errors import CorruptData
from loaders.hdf5_index import Hdf5Array
from loaders.readers import check_file
from loaders.records import Channels, DatasetRecord, Floats, Insertion, SourceFile

KNOT_TOLERANCE_S = 1e-6
_BLOCK = 1 << 20  # timestamps at a time
_MOST_KNOTS = 100_000
_PLAIN = float(2**15)


@dataclass(frozen=True)
class PublishedLfp:
    """The LFP of one insertion as its source has it.

    Attributes
    ----------
    insertion : Insertion
    samples : Hdf5Array
        (time, channel) float32, V.
    order : (channel,) int64
        Columns of `samples` by increasing number of the channel.
    channels : Channels
        Their sites, in that order.
    clock : Clock
        Session time of the samples.
    rate_hz : float
        Measured on the timestamps.
    gaps_s : sequence of (float, float)
        Session times of the samples before and after each interruption.
    gains_v : sequence of float
        Volts a step that the samples may be multiples of.
    facts : mapping
        What the source did to them, in words, and the like.
    record : DatasetRecord
        The file.
    source : SourceFile
        The same for the provenance; it is not hashed here, see `check_source`.
    notes : sequence of str
    """

    insertion: Insertion
    samples: Hdf5Array
    order: NDArray[np.intp]
    channels: Channels
    clock: Clock
    rate_hz: float
    gaps_s: Sequence[tuple[float, float]]
    gains_v: Sequence[float]
    facts: Mapping[str, Any]
    record: DatasetRecord
    source: SourceFile
    notes: Sequence[str]

    @property
    def n_samples(self) -> int:
        """Samples of each channel."""
        return self.samples.shape[0]

    def read_volts(self, start: int, stop: int) -> NDArray[np.float32]:
        """The samples ``start:stop``, (channel, time); one range of the file if it is stored in one piece."""
        return np.ascontiguousarray(self.samples.read(start, stop).T[self.order])

    def check_source(self) -> None:
        """Compare a file of this machine with the hash of the catalog; one read of the file."""
        if isinstance(self.samples.source, LocalFile):
            check_file(self.record)

    def find_gain(self, n_samples: int = 2048) -> float | None:
        """The largest of `gains_v` that explains the begin, the middle and the end; None if none does.

        That all samples are multiples of it is not proven so.
        """
        n_samples = min(n_samples, self.n_samples)
        starts = {0, (self.n_samples - n_samples) // 2, self.n_samples - n_samples}
        volts = np.concatenate([self.read_volts(start, start + n_samples) for start in sorted(starts)], axis=1)
        fitting = (gain for gain in sorted(self.gains_v, reverse=True) if exact_steps(volts, gain) is not None)
        return next(fitting, None)


def exact_steps(volts: NDArray[np.float32], gain_v: float) -> NDArray[np.int16] | None:
    """The int16 `k` with ``float32(k) * float32(gain_v)`` equal to all of `volts`, bit for bit; None without such.

    Examples
    --------
    >>> exact_steps(np.float32([465, -124]) * np.float32(0.195e-6), 0.195e-6).tolist()
    [465, -124]
    """
    gain = np.float32(gain_v)
    steps = np.rint(volts / gain)
    if not (np.abs(steps) <= _PLAIN).all() or (steps == _PLAIN).any():  # NaN is no step either
        return None
    found = steps.astype(np.int16)
    same = (found.astype(np.float32) * gain).view(np.uint32) == volts.view(np.uint32)
    return found if same.all() else None


def fit_clock(timestamps: Hdf5Array) -> tuple[Clock, float, list[tuple[float, float]]]:
    """The clock of timestamps as straight lines between few knots, true within `KNOT_TOLERANCE_S`.

    Parameters
    ----------
    timestamps : Hdf5Array
        (time,) float64, seconds on the session clock.

    Returns
    -------
    Clock
        Its knots end where the recording does, so nothing is extrapolated.
    float, Hz
        The rate between interruptions.
    list of (float, float), seconds
        The samples before and after each interruption.

    Raises
    ------
    CorruptData
        If they are not finite and increasing, or make no even clock.
    """
    n = timestamps.shape[0]
    if n < 2:
        raise CorruptData(f"{timestamps.name}: expected at least two timestamps, got {n}")
    sample: list[Floats] = [np.zeros(1)]
    time: list[Floats] = [timestamps.read(0, 1).astype(np.float64)]
    for start in range(0, n - 1, _BLOCK):  # neighbours share a timestamp
        block: Floats = timestamps.read(start, min(start + _BLOCK + 1, n)).astype(np.float64)
        if not np.isfinite(block).all() or (np.diff(block) <= 0).any():
            raise CorruptData(f"{timestamps.name}: expected finite, increasing timestamps; fetch it again")
        knots = _knots(block, timestamps.name)
        sample.append((knots[1:] + start).astype(np.float64))
        time.append(block[knots[1:]])
    samples: Floats = np.concatenate(sample)
    seconds: Floats = np.concatenate(time)
    steps, spans = np.diff(samples), np.diff(seconds)
    longest = int(np.argmax(steps))
    rate_hz = float(steps[longest] / spans[longest])
    gaps = np.flatnonzero(spans > 1.5 * steps / rate_hz)
    between = [(float(seconds[i]), float(seconds[i + 1])) for i in gaps]
    return Clock(samples, seconds, n, timestamps.name), rate_hz, between


def _knots(seconds: Floats, name: str) -> NDArray[np.int64]:
    """Positions between which straight lines are true, the first and the last among them (Douglas-Peucker)."""
    kept, todo = {0, len(seconds) - 1}, [(0, len(seconds) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        line = np.linspace(seconds[first], seconds[last], last - first + 1)
        off = np.abs(seconds[first : last + 1] - line)
        worst = int(np.argmax(off))
        if off[worst] > KNOT_TOLERANCE_S:
            kept.add(first + worst)
            todo += [(first, first + worst), (first + worst, last)]
        if len(kept) > _MOST_KNOTS:
            raise CorruptData(f"{name}: the timestamps make no clock of straight lines, more than {_MOST_KNOTS} knots")
    return np.array(sorted(kept))
