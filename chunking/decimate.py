"""Decimation by a whole factor with a symmetric (zero-phase) FIR low-pass: blocks give what the whole array gives.

The filter follows from the factor alone, and everyone can make it again with
``scipy.signal.firwin(taps, 0.9 / factor, window=("kaiser", beta))``. It passes up to 0.8 of the new Nyquist frequency
and stops from 1 on, so that nothing folds back. Output ``k`` is a float64 sum over ``2 * half + 1`` samples around
sample ``k * factor``, always by the same instructions: no output depends on where the blocks were cut. (In float32 a
constant voltage would come out changed; the half of the time that it would save is less than decoding takes.)

Before the first and after the last sample of a recording its mirror image continues it (``x[-i] = x[i]``), which
neither invents a step nor repeats the noise of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from loaders.blocks import Block

ATTENUATION_DB = 80
PASS, STOP = 0.8, 1.0
"""End of the pass band and begin of the stop band, as fractions of the new Nyquist frequency."""

PIECE_BYTES = 1 << 25
"""Raw samples that are read at once."""


@dataclass(frozen=True, eq=False, slots=True)
class Fir:
    """A low-pass for one factor.

    Attributes
    ----------
    factor : int
    taps : (2 * half + 1,) float64
        Symmetric; their sum is 1.
    beta : float
        Of the Kaiser window.
    """

    factor: int
    taps: NDArray[np.float64]
    beta: float

    @property
    def half(self) -> int:
        """Samples that an output needs on either side."""
        return len(self.taps) // 2

    @property
    def cutoff(self) -> float:
        """Frequency of half the amplitude (-6 dB), as a fraction of the Nyquist frequency of the source."""
        return (PASS + STOP) / 2 / self.factor


class Samples(Protocol):
    """What decimation asks of a recording; the methods are those of `loaders.recording.Recording`."""

    @property
    def n_samples(self) -> int:
        """Number of samples of each channel."""
        ...

    @property
    def sample_rate_hz(self) -> float:
        """Samples a second."""
        ...

    def read(self, start: int, stop: int, channels: slice | None = None) -> Block:
        """The samples ``start:stop`` of some channels as a new (channel, time) int16 array."""
        ...


@lru_cache(maxsize=16)
def low_pass(factor: int) -> Fir:
    """The filter for decimation by `factor`.

    Examples
    --------
    >>> fir = low_pass(10)
    >>> len(fir.taps), round(float(fir.taps.sum()), 12)
    (511, 1.0)
    """
    from scipy.signal import firwin, kaiserord

    # One dB more than promised, since Kaiser's formula is an approximation.
    n_taps, beta = kaiserord(ATTENUATION_DB + 1, (STOP - PASS) / factor)
    n_taps += 1 - n_taps % 2  # odd: the centre is a sample
    taps = np.asarray(firwin(n_taps, (PASS + STOP) / 2 / factor, window=("kaiser", beta)), dtype=np.float64)
    taps.flags.writeable = False
    return Fir(factor, taps, float(beta))


def decimate(
    recording: Samples,
    fir: Fir,
    start: int,
    stop: int,
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Low-passed samples of a recording at ``k * factor``, in microvolts.

    Holds the result and, of the recording, about three times `PIECE_BYTES`, whatever its length.

    Parameters
    ----------
    recording : Samples
        Such as a `Recording`.
    fir : Fir
    start, stop : int
        First `k`, and the one after the last.
    gain, offset : (channel,) float64
        ``uV = gain * sample + offset``. Channels of the recording beyond these are left out.

    Returns
    -------
    (channel, stop - start) float32, uV
    """
    out = np.empty((len(gain), stop - start), dtype=np.float32)
    for first, block in _blocks(recording, fir, start, stop, len(gain)):
        n = (block.shape[1] - len(fir.taps)) // fir.factor + 1
        row = _aligned_zeros(block.shape[1] + (_TOGETHER - 1) * fir.factor)
        _convolve(block, fir.taps, fir.factor, gain, offset, row, out[:, first - start : first - start + n])
    return out


def decimate_holds(fir: Fir, n_outputs: int, n_channels: int, rate_hz: float) -> int:
    """The most bytes that `decimate` holds: its result, and the samples of two pieces, joined and mirrored.

    Parameters
    ----------
    fir : Fir
    n_outputs : int
    n_channels : int
        Of the recording, with those of synchronisation.
    rate_hz : float
        Of the recording.
    """
    samples = _piece_samples(n_channels, rate_hz) + len(fir.taps)
    return 4 * n_channels * n_outputs + 4 * 2 * n_channels * samples + 8 * samples


def _piece_samples(n_channels: int, rate_hz: float) -> int:
    """Samples that are read at once: whole seconds, as mtscomp cuts at these."""
    second = max(round(rate_hz), 1)
    return max(PIECE_BYTES // (2 * n_channels * second), 1) * second


def _blocks(recording: Samples, fir: Fir, start: int, stop: int, n_channels: int) -> Iterator[tuple[int, Block]]:
    """First output and the samples for some outputs, until `stop`; every sample is read once."""
    piece = _piece_samples(n_channels, recording.sample_rate_hz)
    held, held_start = np.empty((n_channels, 0), np.int16), max(start * fir.factor - fir.half, 0)
    while start < stop:
        held_stop = held_start + held.shape[1]
        low, need = start * fir.factor - fir.half, start * fir.factor + fir.half + 1
        end = min(max((held_stop // piece + 1) * piece, need), recording.n_samples)
        last = min((stop - 1) * fir.factor + fir.half + 1, recording.n_samples)
        if (end := min(end, last)) > held_stop:
            new = recording.read(held_stop, end)[:n_channels]  # a whole chunk is not copied
            kept = held[:, max(low - held_start, 0) :]
            held, held_start = np.concatenate([kept, new], axis=1), max(low, 0)
        whole = held_start + held.shape[1] == recording.n_samples
        n = stop - start if whole else (held_start + held.shape[1] - need) // fir.factor + 1
        high = (start + n - 1) * fir.factor + fir.half + 1
        yield start, _mirrored(held, held_start, low, high, recording.n_samples)
        start += n


def _mirrored(held: Block, held_start: int, low: int, high: int, n_samples: int) -> Block:
    """Samples ``low:high``, of which `held` has those that exist, and the mirror image of the recording the rest."""
    inside = held[:, max(low, 0) - held_start : min(high, n_samples) - held_start]
    pad = (max(-low, 0), max(high - n_samples, 0))
    return np.pad(inside, ((0, 0), pad), mode="reflect") if any(pad) else inside


_TOGETHER = 4  # outputs that share the loads of the taps, in `_sums`
_CACHE_LINE_BYTES = 64


def _aligned_zeros(n: int) -> NDArray[np.float64]:
    """Zeros that begin at a cache line; vectors that lie across two of them take half as long again."""
    extra = _CACHE_LINE_BYTES // 8
    zeros = np.zeros(n + extra)
    skip = -zeros.ctypes.data % _CACHE_LINE_BYTES // 8
    return zeros[skip : skip + n]


@njit(nogil=True, fastmath={"reassoc", "contract"}, cache=True)
def _convolve(
    block: Block,
    taps: NDArray[np.float64],
    factor: int,
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
    row: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Fill `out`; `row` has room for a channel and ends in zeros, which the sums beyond the last output see."""
    n, size = out.shape[1], taps.size
    for channel in range(out.shape[0]):
        row[: block.shape[1]] = block[channel]
        for k in range(0, n, _TOGETHER):
            a, b, c, d = k * factor, (k + 1) * factor, (k + 2) * factor, (k + 3) * factor
            sums = _sums(row[a : a + size], row[b : b + size], row[c : c + size], row[d : d + size], taps)
            for j in range(min(_TOGETHER, n - k)):
                out[channel, k + j] = sums[j] * gain[channel] + offset[channel]


@njit(nogil=True, fastmath={"reassoc", "contract"}, cache=True)
def _sums(
    w: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    taps: NDArray[np.float64],
) -> tuple[float, float, float, float]:
    """The sums of four windows, each under the same taps."""
    a = b = c = d = 0.0
    for i in range(taps.size):
        tap = taps[i]
        a += tap * w[i]
        b += tap * x[i]
        c += tap * y[i]
        d += tap * z[i]
    return a, b, c, d
