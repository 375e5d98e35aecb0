"""Exact half-open time bins of any rational width.

A spike at `t` is in bin `k` when ``edge(k) <= t < edge(k + 1)``, where ``edge(k)`` is the correctly rounded float64 of
``k * width`` and `width` is a rational number. Spike times of Neuropixels recordings fall on such edges all the time;
``floor(t / width)`` in floating point puts thousands of them an hour into the wrong bin.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import BadArgument

MAX_DENOMINATOR = 1_000_000
MAX_BINS = 2**31
_EXACT = 2**53

Times = NDArray[np.float64]


Width = float | np.floating[Any] | str | Decimal | Fraction


def parse_width(width: Width) -> Fraction:
    """Bin width in seconds as an exact fraction.

    Parameters
    ----------
    width : float, str, Decimal or Fraction, seconds
        ``0.02``, ``"0.02"``, ``"1/50"`` and ``"20ms"`` are the same width; a float means the simplest fraction that
        rounds to it.

    Raises
    ------
    BadArgument
        If it is not a finite positive number, or not a fraction with a denominator up to 1,000,000.

    Examples
    --------
    >>> parse_width(0.02), parse_width("1/3"), parse_width(1 / 3)
    (Fraction(1, 50), Fraction(1, 3), Fraction(1, 3))
    """
    if isinstance(width, str) and width.strip().endswith("s"):
        return width_from_name(width.strip())
    try:
        exact = Fraction(str(width) if isinstance(width, np.floating) else width)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise BadArgument(
            f"bin width: expected a positive number of seconds such as 0.02 or '1/3', got {width!r}"
        ) from error
    simple = exact.limit_denominator(MAX_DENOMINATOR)
    if exact <= 0:
        raise BadArgument(f"bin width: expected a positive number of seconds, got {width!r}")
    if simple != exact and not (isinstance(width, float | np.floating) and type(width)(float(simple)) == width):
        raise BadArgument(
            f"bin width: expected seconds as a fraction with a denominator up to {MAX_DENOMINATOR:,} "
            f"(so not below 1 us), got {width!r}"
        )
    return simple


@dataclass(frozen=True, slots=True)
class BinGrid:
    """The bins `first` to ``first + n - 1`` of the grid ``k * width`` that starts at session time 0.

    Attributes
    ----------
    width : Fraction, seconds
    first : int
        Number of the first bin; negative if spikes lie before session time 0.
    n : int
        Number of bins.
    """

    width: Fraction
    first: int
    n: int

    def __post_init__(self) -> None:
        reach = 2 * (max(abs(self.first), abs(self.first + self.n)) + 1) * self.width.numerator
        if reach >= _EXACT:
            raise BadArgument(f"bin width {self.width} s: too many bins for exact edges in float64")

    @classmethod
    def spanning(cls, width: Fraction, first_time: float, last_time: float) -> BinGrid:
        """The bins from session time 0, or from `first_time` if that is earlier, to the one of `last_time`.

        Raises
        ------
        BadArgument
            If a bin is longer than this span, or there are more than `MAX_BINS`.
        """
        span_s = last_time - min(0.0, first_time)
        if float(width) > span_s:
            raise BadArgument(
                f"bin width {float(width):g} s: longer than the recording, of which the spikes span {span_s:g} s"
            )
        if span_s / float(width) > MAX_BINS:
            raise BadArgument(
                f"bin width {float(width):g} s: {span_s / float(width):.0f} bins, more than the limit of {MAX_BINS}; "
                f"is the last spike really at {last_time:g} s?"
            )
        first = min(0, bin_number(first_time, width))
        return cls(width, first, bin_number(last_time, width) + 1 - first)

    def part(self, start: int, stop: int) -> BinGrid:
        """The bins `start` to `stop` (counted from `first`, `stop` not included) as a grid of their own."""
        return BinGrid(self.width, self.first + start, stop - start)

    def edges(self, start: int = 0, stop: int | None = None) -> Times:
        """Edges of the bins `start` to `stop` (counted from `first`), one more than there are bins; seconds."""
        stop = self.n if stop is None else stop
        return _edges(np.arange(self.first + start, self.first + stop + 1), self.width)

    def centres(self) -> Times:
        """Correctly rounded middle of every bin, seconds; shape ``(n,)``."""
        centres = np.arange(2 * self.first + 1, 2 * (self.first + self.n) + 1, 2, dtype=np.float64)
        centres *= self.width.numerator  # in place: an hour has millions of bins; exact, as in `_edges`
        centres /= 2.0 * self.width.denominator
        return centres


def _edges(k: NDArray[np.int64], width: Fraction) -> Times:
    # Integers below 2**53 are exact in float64 and IEEE division rounds correctly, so this is the float64 nearest to
    # the true edge. Multiplying by float(width) would round twice.
    edges: Times = (k * width.numerator).astype(np.float64) / float(width.denominator)
    return edges


def bin_number(time: float, width: Fraction) -> int:
    """Number of the bin of one time on the grid ``k * width``.

    Examples
    --------
    >>> bin_number(0.7, Fraction(1, 10))  # floor(0.7 / 0.1) is 6 in floats
    7
    """
    k = math.floor(time / float(width))  # at most one off: the division errs by less than one bin
    before, after = _edges(np.array([k, k + 1]), width)
    return k - int(before > time) + int(after <= time)


def width_name(width: Fraction) -> str:
    """Canonical name of a width: ``20ms``, ``1s``, ``33us``, ``1_3s``.

    Examples
    --------
    >>> width_name(Fraction(1, 50)), width_name(Fraction(1, 3))
    ('20ms', '1_3s')
    """
    for unit, per_second in (("s", 1), ("ms", 1_000), ("us", 1_000_000)):
        if (width * per_second).denominator == 1:
            return f"{int(width * per_second)}{unit}"
    return f"{width.numerator}_{width.denominator}s"


def width_from_name(name: str) -> Fraction:
    """Inverse of `width_name`; also accepts decimals and ``1/3s``.

    Raises
    ------
    BadArgument
        If `name` is no positive number followed by s, ms or us.
    """
    match = re.fullmatch(r"([0-9./_e+-]+)(s|ms|us)", name)
    try:
        value = (
            Fraction(match[1].replace("_", "/")) / {"s": 1, "ms": 1_000, "us": 1_000_000}[match[2]] if match else None
        )
    except (ValueError, ZeroDivisionError):
        value = None
    if value is None or value <= 0:
        raise BadArgument(f"bin width {name!r}: expected a positive number and a unit, such as 20ms, 0.5ms, 1s or 1_3s")
    return parse_width(value)
