"""Microvolts as int16 with one gain: half the size of float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loaders.errors import BadArgument
from loaders.records import Floats

HEADROOM = 4
"""Largest storable voltage, in ranges of the recording: filters overshoot, and a reference can double a voltage."""

_MAX = np.iinfo(np.int16).max


def step_uv(range_uv: Floats) -> float:
    """Microvolts a step, such that `HEADROOM` times the largest range (channel,) of a recording fits into int16.

    A stored value is off by half a step at most: 0.15 uV for NP1 at a gain of 250, 0.4 uV for NP2.

    Examples
    --------
    >>> round(step_uv(np.array([2400.0])), 4)  # LF of NP1, gain 250
    0.293
    """
    return float(HEADROOM * range_uv.max() / _MAX)


def to_steps(uv: NDArray[np.float32], gain_to_uv: float, where: str) -> NDArray[np.int16]:
    """Round microvolts to steps of `gain_to_uv`.

    Raises
    ------
    BadArgument
        If a value does not fit. None is ever clipped.
    """
    steps = uv / np.float32(gain_to_uv)
    np.rint(steps, out=steps)
    if not (np.abs(steps) <= _MAX).all():  # NaN does not fit either
        raise BadArgument(
            f"{where}, lfp_dtype: int16 holds up to {_MAX * gain_to_uv:g} uV, got {np.abs(uv).max():g} uV; "
            "build it with lfp_dtype float32"
        )
    return steps.astype(np.int16)
