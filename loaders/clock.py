"""The clock of a probe against the clock of its session: straight lines between knots.

IBL stores the knots as ``_spikeglx_*.timestamps.npy``, (knot, 2): AP sample and session seconds, usually 20 s apart
(``ibllib/ephys/sync_probes.py``), and the same as ``_spikeglx_*.sync.npy`` with probe seconds for samples.

Rules
-----
- A `Clock` counts samples of one band. An LF sample is 12 AP samples by hardware: the metas agree (``imSampRate`` of
  30000.390639481 and 2500.0325532900833), nominal rates do not (30000.39 / 2500 is 13 ppm, 47 ms an hour, away).
- Knots seldom end where the recording does. Samples of the recording (0 to ``n_samples - 1``) outside the knots follow
  the line of the nearest segment, and `Clock.is_extrapolated` tells them. The reference probe of a session, and a fit
  by one line, have two knots a second apart: there nearly everything is extrapolated, by definition of that fit.
- Whatever lies outside both the knots and the recording is refused, unless the caller says what should come instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loaders.errors import BadArgument, CorruptData, InconsistentData

Floats = NDArray[np.float64]
Outside = Literal["raise", "nan", "extrapolate"]

LF_RATIO = 12
RATE_TOLERANCE = 0.01  # clocks drift by 1e-4 at most; more is a file of something else


@dataclass(frozen=True, eq=False, slots=True)
class Clock:
    """Session time of the samples of one band.

    Attributes
    ----------
    knot_sample : (knot,) float64
        Samples at the knots, increasing; need not be whole.
    knot_time : (knot,) float64, seconds
        Session times at the knots, increasing.
    n_samples : int, optional
        Length of the recording in samples of the band. Without it nothing outside the knots has a time.
    name : str
        What errors call the knots, such as the path of their file.

    Raises
    ------
    CorruptData
        If there are fewer than two knots, or they are not finite and strictly increasing.

    Examples
    --------
    >>> clock = Clock([0, 30000, 60000], [0.5, 1.5, 2.500002], n_samples=75000)
    >>> clock.seconds([0, 45000, 74999]).round(6).tolist()
    [0.5, 2.000001, 2.99997]
    >>> clock.is_extrapolated([0, 45000, 74999]).tolist()
    [False, False, True]
    >>> clock.seconds(75000)
    Traceback (most recent call last):
    ...
    loaders.errors.BadArgument: sample: outside the recording, which has samples 0 to 74999 ...
    """

    knot_sample: Floats
    knot_time: Floats
    n_samples: int | None = None
    name: str = "knots"
    _ends: tuple[float, float] = field(init=False, repr=False)  # samples: the knots and the recording

    def __post_init__(self) -> None:
        sample, time = _checked_knots(self.knot_sample, self.knot_time, self.name)
        if self.n_samples is not None and self.n_samples < 1:
            raise BadArgument(f"n_samples: expected at least 1, got {self.n_samples}")
        sample.flags.writeable = time.flags.writeable = False
        ends = [sample[0], sample[-1], *([] if self.n_samples is None else [0.0, self.n_samples - 1.0])]
        object.__setattr__(self, "knot_sample", sample)
        object.__setattr__(self, "knot_time", time)
        object.__setattr__(self, "_ends", (float(min(ends)), float(max(ends))))

    @classmethod
    def from_timestamps(
        cls,
        timestamps: ArrayLike,
        n_samples: int | None = None,
        *,
        rate_hz: float | None = None,
        name: str = "timestamps.npy",
    ) -> Clock:
        """Clock of the AP band from ``_spikeglx_*.timestamps.npy``.

        Parameters
        ----------
        timestamps : (knot, 2) array
            AP sample, session seconds.
        n_samples : int, optional
            Length of the AP recording.
        rate_hz : float, optional
            Sampling rate of the AP meta; given, the knots must agree with it within one percent.
        name : str
            What errors call the file.

        Raises
        ------
        CorruptData
            If the array is no increasing list of knots.
        InconsistentData
            If the knots are those of another rate.

        Examples
        --------
        >>> Clock.from_timestamps([[0, 0.5], [600000, 20.5]]).support
        (0.5, 20.5)
        """
        table = _two_columns(timestamps, name)
        clock = cls(table[:, 0], table[:, 1], n_samples, name)
        clock._check_rate(rate_hz)
        return clock

    @classmethod
    def from_sync(
        cls, sync: ArrayLike, rate_hz: float, n_samples: int | None = None, *, name: str = "sync.npy"
    ) -> Clock:
        """Clock of one band from ``_spikeglx_*.sync.npy``, where there are no timestamps.

        Parameters
        ----------
        sync : (knot, 2) array, seconds
            Probe time (sample divided by the rate of the meta), session time.
        rate_hz : float
            Sampling rate of the band, from its meta.
        n_samples : int, optional
            Length of the recording in samples of the band.
        name : str
            What errors call the file.

        Raises
        ------
        CorruptData, InconsistentData
            As in `from_timestamps`.
        """
        table = _two_columns(sync, name)
        clock = cls(table[:, 0] * rate_hz, table[:, 1], n_samples, name)
        clock._check_rate(rate_hz)
        return clock

    @property
    def support(self) -> tuple[float, float]:
        """Session times, seconds, of the first and the last knot."""
        return float(self.knot_time[0]), float(self.knot_time[-1])

    @property
    def extent(self) -> tuple[float, float]:
        """Session times, seconds, between which every time has a sample: the support and the recording."""
        first, last = _on_lines(np.array(self._ends), self.knot_sample, self.knot_time)
        return float(first), float(last)

    @property
    def extrapolated_s(self) -> tuple[float, float]:
        """Seconds of the recording before the first and after the last knot."""
        return self.support[0] - self.extent[0], self.extent[1] - self.support[1]

    def seconds(self, sample: ArrayLike, *, outside: Outside = "raise") -> Floats:
        """Session times of samples.

        Parameters
        ----------
        sample : array
            Samples of the band, whole or fractions. NaN gives NaN.
        outside : {"raise", "nan", "extrapolate"}
            What to do with samples outside both the knots and the recording.

        Returns
        -------
        array of float64, seconds
            Of the shape of `sample`.

        Raises
        ------
        BadArgument
            If a sample lies outside and `outside` is ``"raise"``.
        """
        values = np.asarray(sample, dtype=np.float64)
        allowed = self._allowed(values, self._ends, outside, self._describe_samples)
        return _on_lines(allowed, self.knot_sample, self.knot_time)

    def samples(self, seconds: ArrayLike, *, outside: Outside = "raise") -> Floats:
        """Samples (fractions) at session times; the inverse of `seconds`.

        Parameters
        ----------
        seconds : array, seconds
            NaN gives NaN.
        outside : {"raise", "nan", "extrapolate"}
            What to do with times outside both the support and the recording.

        Returns
        -------
        array of float64, samples
            Of the shape of `seconds`.

        Raises
        ------
        BadArgument
            If a time lies outside and `outside` is ``"raise"``.

        Examples
        --------
        >>> clock = Clock([0, 30000], [0.5, 1.5])
        >>> clock.samples([1.0, 9.0], outside="nan").tolist()
        [15000.0, nan]
        """
        values = np.asarray(seconds, dtype=np.float64)
        allowed = self._allowed(values, self.extent, outside, self._describe_times)
        return _on_lines(allowed, self.knot_time, self.knot_sample)

    def is_extrapolated(self, sample: ArrayLike) -> NDArray[np.bool_]:
        """Whether samples lie before the first or after the last knot."""
        values = np.asarray(sample, dtype=np.float64)
        return np.asarray((values < self.knot_sample[0]) | (values > self.knot_sample[-1]))

    def scaled(self, ratio: float, n_samples: int | None = None) -> Clock:
        """The same clock in samples of another band.

        Parameters
        ----------
        ratio : float
            Samples of this band in one sample of the other.
        n_samples : int, optional
            Length of the other band in its own samples.
        """
        if not (np.isfinite(ratio) and ratio > 0):
            raise BadArgument(f"ratio: expected a positive number, got {ratio}")
        return Clock(self.knot_sample / ratio, self.knot_time, n_samples, self.name)

    def for_lf(self, n_samples: int | None = None) -> Clock:
        """Clock of the LF band from that of the AP band: LF sample k is AP sample 12 k.

        Parameters
        ----------
        n_samples : int, optional
            Length of the LF recording.

        Examples
        --------
        >>> ap = Clock([0, 30000], [0.5, 1.5])
        >>> float(ap.for_lf().seconds(1250)) == float(ap.seconds(15000))
        True
        """
        return self.scaled(LF_RATIO, n_samples)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Clock):
            return NotImplemented
        return self is other or self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[type[Clock], tuple[Any, ...]]:
        return Clock, (self.knot_sample, self.knot_time, self.n_samples, self.name)

    def _key(self) -> tuple[int | None, bytes, bytes]:
        return self.n_samples, self.knot_sample.tobytes(), self.knot_time.tobytes()

    def _check_rate(self, rate_hz: float | None) -> None:
        if rate_hz is None:
            return
        found_hz = float(np.ptp(self.knot_sample) / np.ptp(self.knot_time))
        if not abs(found_hz / rate_hz - 1) <= RATE_TOLERANCE:
            raise InconsistentData(
                f"{self.name}: the knots make {found_hz:.6g} samples a second, the meta says {rate_hz:.6g}; "
                "they belong to another recording or band"
            )

    @staticmethod
    def _allowed(values: Floats, ends: tuple[float, float], outside: Outside, describe: Callable[[], str]) -> Floats:
        """The values, with NaN for those outside `ends`, or the error that `describe` explains."""
        if outside not in ("raise", "nan", "extrapolate"):
            raise BadArgument(f"outside: expected 'raise', 'nan' or 'extrapolate', got {outside!r}")
        off = (values < ends[0]) | (values > ends[1])
        if outside == "extrapolate" or not off.any():
            return values
        if outside == "nan":
            return np.where(off, np.nan, values)
        count = f"{np.count_nonzero(off)} of {values.size}, the first is {values[off].flat[0]:.10g}"
        raise BadArgument(f"{describe()} ({count}); leave them out, or pass outside='nan' or outside='extrapolate'")

    def _describe_samples(self) -> str:
        first, last = self._ends
        return f"sample: outside the recording, which has samples {first:.10g} to {last:.10g}"

    def _describe_times(self) -> str:
        first, last = self.extent
        knots = f"knots from {self.support[0]:.6f} to {self.support[1]:.6f} s"
        return f"seconds: outside the recording, which lasts from {first:.6f} to {last:.6f} s with {knots}"


def _on_lines(x: Floats, xp: Floats, fp: Floats) -> Floats:
    """Interpolate between the knots `xp`, `fp`, and follow the first and the last line beyond them."""
    y = np.asarray(np.interp(x, xp, fp), dtype=np.float64)
    early, late = x < xp[0], x > xp[-1]
    if early.any():
        y = np.where(early, fp[0] + (x - xp[0]) * ((fp[1] - fp[0]) / (xp[1] - xp[0])), y)
    if late.any():
        y = np.where(late, fp[-1] + (x - xp[-1]) * ((fp[-1] - fp[-2]) / (xp[-1] - xp[-2])), y)
    return y


def _two_columns(array: ArrayLike, name: str) -> NDArray[Any]:
    table = np.asarray(array)
    if table.ndim != 2 or table.shape[1] != 2:
        raise CorruptData(f"{name}: expected two columns (knot, 2), got shape {table.shape}; fetch it again")
    return table


def _checked_knots(samples: ArrayLike, times: ArrayLike, name: str) -> tuple[Floats, Floats]:
    """Own copies of the knots, or CorruptData."""
    try:
        sample, time = np.array(samples, dtype=np.float64), np.array(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CorruptData(f"{name}: the knots are not numbers ({error}); fetch it again") from error
    if sample.ndim != 1 or sample.shape != time.shape:
        raise CorruptData(f"{name}: expected a sample and a time a knot, got shapes {sample.shape} and {time.shape}")
    if len(sample) < 2:
        raise CorruptData(f"{name}: expected at least two knots, got {len(sample)}; without them there is no clock")
    for what, values in (("sample", sample), ("time", time)):
        if not np.isfinite(values).all():
            knot = np.flatnonzero(~np.isfinite(values))[0]
            raise CorruptData(f"{name}: the {what} of knot {knot} is {values[knot]}; fetch it again")
        if not (np.diff(values) > 0).all():
            knot = int(np.flatnonzero(np.diff(values) <= 0)[0])
            raise CorruptData(
                f"{name}: the {what}s of the knots must increase, knot {knot + 1} ({values[knot + 1]:.10g}) does not "
                f"exceed knot {knot} ({values[knot]:.10g}); fetch it again"
            )
    _check_resolution(sample, time, name)
    return sample, time


def _check_resolution(sample: Floats, time: Floats, name: str) -> None:
    """Refuse knots so close in time that float64 cannot tell neighbouring samples apart."""
    shortest_s = (np.diff(time) / np.diff(sample)).min()
    if shortest_s < 8 * np.spacing(np.abs(time).max()):
        raise CorruptData(
            f"{name}: two knots leave {shortest_s:.3g} s a sample, less than float64 can tell; fetch it again"
        )
