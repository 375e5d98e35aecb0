"""IBL's destriping of LFP, in blocks of bounded memory that give what the whole recording gives.

`ibldsp.voltage.destripe_lfp` filters in time (Butterworth forwards and backwards, then a shift of each channel by the
fraction of a sample that it is read late) and across channels (dead and noisy ones interpolated, then the median of
each shank taken away). Its steps are done here one by one: those in time on few channels at once, with a halo on both
sides of a block; those across channels sample by sample.

Blocks are cut at fixed outputs of the recording, so that every output has one value, whatever part is built. It agrees
with `destripe_lfp` of the whole recording to some 1e-4 of the standard deviation, except in the first and last 0.1 s:
there IBL's shift, a circular one, mixes in the other end of the recording, and this one its mirror image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chunking.decimate import Fir
from chunking.layouts import LFP_CHUNK
from loaders.records import Floats, Ints

MIN_RATE_HZ = 2500
"""Faster voltage is decimated to the lowest rate from here on before it is destriped."""

BAND_HZ = (0.5, 300.0)
HALO_S = 10
"""Samples on either side of a block: what a start of the filter leaves after them is 1e-7 of the signal."""

_BLOCK_SAMPLES = 100_000
_MIRRORED = 1024
_CHANNELS_AT_ONCE = 16
_SAMPLES_AT_ONCE = 8192

Microvolts = NDArray[np.float32]


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """What destriping has to know of a probe.

    Attributes
    ----------
    rate_hz : float
        Of the samples that are destriped.
    shift : (channel,) float64, samples
        How much later than the first ones each channel is read, at that rate.
    x_um, y_um : (channel,) float64, um
        Sites across the whole probe and along it.
    shank : (channel,) int64
    label : (channel,) int8
        `loaders.channel_quality.ChannelLabel`.
    """

    rate_hz: float
    shift: Floats
    x_um: Floats
    y_um: Floats
    shank: Ints
    label: NDArray[np.int8]


def butterworth(rate_hz: float) -> dict[str, Any]:
    """The band-pass of `ibldsp.voltage.destripe_lfp`, as its argument ``butter_kwargs``."""
    return {"N": 3, "Wn": list(BAND_HZ), "btype": "bandpass", "fs": rate_hz}


def factor_before(factor: int, nominal_hz: int) -> int:
    """The part of a decimation that comes before destriping: to the lowest rate from `MIN_RATE_HZ` on.

    Examples
    --------
    >>> factor_before(120, 30_000), factor_before(30, 30_000), factor_before(10, 2500)
    (12, 10, 1)
    """
    return max(d for d in range(1, factor + 1) if factor % d == 0 and (d == 1 or nominal_hz / d >= MIN_RATE_HZ))


def destriped_lfp(
    read: Callable[[int, int], Microvolts], n_samples: int, fir: Fir, start: int, stop: int, probe: Probe
) -> Microvolts:
    """Destriped and decimated samples of a recording.

    Holds the result and, for 384 channels at 2500 Hz, some 600 MB, whatever the length (twice that at 1 Hz, whose
    filter is long).

    Parameters
    ----------
    read : callable
        Gives the samples ``a:b`` as (channel, time) float32, uV.
    n_samples : int
        Length of the recording.
    fir : Fir
        For the decimation after destriping.
    start, stop : int
        First output, and the one after the last; output `k` is sample ``k * factor``.
    probe : Probe

    Returns
    -------
    (channel, stop - start) float32, uV
    """
    out = np.empty((len(probe.shift), stop - start), dtype=np.float32)
    halo = round(HALO_S * probe.rate_hz)
    for first, last in _blocks(fir.factor, start, stop, -(-n_samples // fir.factor)):
        low, high = first * fir.factor - fir.half, (last - 1) * fir.factor + fir.half + 1
        begin, end = max(low, 0), min(high, n_samples)
        read_from = max(begin - halo, 0)
        clean = _destripe(read(read_from, min(end + halo, n_samples)), begin - read_from, end - read_from, probe)
        a, b = max(first, start), min(last, stop)
        out[:, a - start : b - start] = _decimate(clean, fir, begin - low, high - end)[:, a - first : b - first]
    return out


def destriped_holds(fir: Fir, n_outputs: int, n_channels: int, rate_hz: float, read_holds: int) -> int:
    """The most bytes that `destriped_lfp` holds.

    Parameters
    ----------
    fir : Fir
    n_outputs : int
    n_channels : int
    rate_hz : float
        Of the samples that are destriped.
    read_holds : int
        The most bytes that reading a sample of all channels holds beside the microvolts.
    """
    block = _block_outputs(fir.factor) * fir.factor + 2 * fir.half
    samples = block + 2 * round(HALO_S * rate_hz)
    read = 4 * n_channels * samples
    filtering = 16 * 8 * _CHANNELS_AT_ONCE * samples  # copies of float64 and complex numbers, 13 of them measured
    return 4 * n_channels * n_outputs + read + max(read_holds * samples, 4 * n_channels * block + filtering)


def _block_outputs(factor: int) -> int:
    longest = max(_BLOCK_SAMPLES // factor, 1)
    return max(n for n in range(1, longest + 1) if LFP_CHUNK[1] % n == 0)


def _blocks(factor: int, start: int, stop: int, n_outputs: int) -> Iterator[tuple[int, int]]:
    """First output and the one after the last, of the blocks with some of ``start:stop``; tasks cut none of them."""
    step = _block_outputs(factor)
    for first in range(start // step * step, stop, step):
        yield first, min(first + step, n_outputs)


def _destripe(uv: Microvolts, start: int, stop: int, probe: Probe) -> Microvolts:
    """The samples ``start:stop`` of a block (channel, time), destriped."""
    from ibldsp.voltage import car, interpolate_bad_channels

    clean = np.empty((len(uv), stop - start), dtype=np.float32)
    for rows in _slices(len(uv), _CHANNELS_AT_ONCE):
        clean[rows] = _filter(uv[rows], probe.shift[rows], probe.rate_hz)[:, start:stop]
    inside = probe.label != 3
    for piece in _slices(clean.shape[1], _SAMPLES_AT_ONCE):
        part = interpolate_bad_channels(clean[:, piece], probe.label, probe.x_um, probe.y_um)
        part[inside] = car(part[inside], collection=probe.shank[inside])
    return clean


def _filter(uv: Microvolts, shift: Floats, rate_hz: float) -> Floats:
    """The steps in time, on some channels of a block."""
    from ibldsp.fourier import fshift
    from scipy.fft import next_fast_len
    from scipy.signal import butter, sosfiltfilt

    band = sosfiltfilt(butter(**butterworth(rate_hz), output="sos"), uv)
    n_samples = band.shape[1]
    after = next_fast_len(n_samples + 2 * _MIRRORED, real=True) - n_samples - _MIRRORED
    mirrored = np.pad(band, ((0, 0), (_MIRRORED, after)), mode="reflect")  # the shift is circular
    return np.asarray(fshift(mirrored, shift, axis=1)[:, _MIRRORED : _MIRRORED + n_samples])


def _decimate(clean: Microvolts, fir: Fir, before: int, after: int) -> Microvolts:
    """Every `factor`-th sample of a block, low-passed; `before` and `after` of it are the mirror image of the rest."""
    from scipy.signal import upfirdn

    zeros = -2 * fir.half % fir.factor  # the first whole sum then falls on a multiple of the factor
    taps = np.concatenate([np.zeros(zeros), fir.taps])
    skip = (2 * fir.half + zeros) // fir.factor
    n = (clean.shape[1] + before + after - len(fir.taps)) // fir.factor + 1
    out = np.empty((len(clean), n), dtype=np.float32)
    for rows in _slices(len(clean), _CHANNELS_AT_ONCE):
        mirrored = np.pad(clean[rows], ((0, 0), (before, after)), mode="reflect")
        out[rows] = upfirdn(taps, mirrored, 1, fir.factor)[:, skip : skip + n]
    return out


def _slices(size: int, step: int) -> list[slice]:
    return [slice(i, i + step) for i in range(0, size, step)]
