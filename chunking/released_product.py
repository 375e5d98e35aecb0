"""The products ``lfp_<rate>hz`` of data sets that publish LFP already filtered: the same samples, relabelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import schema
from chunking.cost import RATIOS, Cost, on_disk, task_bytes, write_bytes
from chunking.layouts import LFP_CHUNK, LfpLayout, lfp_layout
from chunking.lfp_product import nominal_hz, parse_lfp
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from chunking.voltage_product import hash_begin, samples_within
from loaders.errors import BadArgument, InconsistentData, PlanRefused
from loaders.inputs import Inputs
from loaders.published_lfp import PublishedLfp, exact_steps


@dataclass(frozen=True)
class PublishedLfpProduct:
    """``lfp(channel, time)``: float32 in uV, or int16 with a gain, each chunk of which is proven to be the same.

    Its time is a clock, not stored. Nobody knows which samples were saturated.

    Parameters
    ----------
    rate_hz : int
        Nominal rate: that of the timestamps of the source, to the next 10 Hz.
    window_s : (float, float), optional
        Part of the recording, session seconds.
    dtype : {"float32", "int16"}
    layout : LfpLayout
    """

    rate_hz: int
    window_s: tuple[float, float] | None = None
    dtype: str = "float32"
    layout: LfpLayout = field(default_factory=lambda: lfp_layout("balanced"))

    @cached_property
    def name(self) -> str:
        return f"lfp_{self.rate_hz}hz"

    @cached_property
    def title(self) -> str:
        return f"LFP as published, at {self.rate_hz} Hz"

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        window = {} if self.window_s is None else {"window_s": "{!r}:{!r}".format(*self.window_s)}
        layout = {} if self.layout.name == "balanced" else {"layout": self.layout.name}
        done = {"filter": "none but that of the source", "dtype": self.dtype}
        return {"rate_hz": str(self.rate_hz), **done, **window, **layout}

    def origin(self, inputs: Inputs) -> Origin:
        lfp = self._lfp(inputs)
        facts = {"sampling_rate_hz": lfp.rate_hz, **lfp.facts}
        return Origin(lfp.insertion, facts, (lfp.source,), lfp.notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        lfp = self._lfp(inputs)
        start, stop = self._samples(lfp)
        shape = (len(lfp.channels), stop - start)
        chunks = self.layout.chunks(self.name, shape, self.rate_hz)
        attrs = schema.LFP.attrs
        if self.dtype == "int16":
            attrs = schema.LFP_STEPS.attrs | {"gain_to_uV": _uv(self._gain_v(lfp)), "offset_to_uV": 0.0}
        array = ArrayPlan("lfp", ("channel", "time"), shape, self.dtype, chunks, attrs)
        return (array,), tuple(((0, shape[0]), step) for step in steps(shape[1], LFP_CHUNK[1]))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        lfp = self._lfp(inputs)
        first, last = self._samples(lfp)
        holds = max(lfp.samples.read_holds(first + start, first + stop) for _, (start, stop) in regions)
        block = 4 * arrays[0].shape[0] * min(LFP_CHUNK[1], arrays[0].shape[1])
        proving = 5 * block if self.dtype == "int16" else block
        return Cost(
            lfp.samples.stored_bytes(first, last),
            on_disk(arrays, RATIOS["lfp int16" if self.dtype == "int16" else "lfp"]),
            task_bytes(holds + block, block + proving, block + write_bytes(arrays)),
        )

    def labels(self, inputs: Inputs) -> xr.Dataset:
        lfp = self._lfp(inputs)
        start, stop = self._samples(lfp)
        knots = schema.clock_knots(lfp.clock, start, stop - start)
        return xr.Dataset(coords=schema.published_channels(lfp.channels) | knots)

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        lfp = self._lfp(inputs)
        offset, _ = self._samples(lfp)
        start, stop = (offset + k for k in region[1])
        volts = lfp.read_volts(start, stop)
        if self.dtype == "int16":
            return {"lfp": self._steps(lfp, volts, arrays[0].attrs["gain_to_uV"], start)}
        volts *= np.float32(1e6)
        return {"lfp": volts}

    def read_some(self, inputs: Inputs) -> int:
        return hash_begin(self._lfp(inputs).samples.source) if self.window_s is None else 0

    def check_source(self, inputs: Inputs) -> None:
        """The hash of the whole file, where all of it is read anyway."""
        if self.window_s is None:
            self._lfp(inputs).check_source()

    def _lfp(self, inputs: Inputs) -> PublishedLfp:
        lfp = inputs.lfp
        if (nominal := nominal_hz(lfp.rate_hz)) != self.rate_hz:
            raise PlanRefused(
                f"{self._where(lfp)}: expected lfp_{nominal}hz, the rate at which this LFP was published "
                f"({lfp.rate_hz:.6g} Hz); it is not filtered once more"
            )
        return lfp

    def _samples(self, lfp: PublishedLfp) -> tuple[int, int]:
        """First sample of the window, and the one after the last."""
        return samples_within(lfp.clock, lfp.n_samples, self.window_s, self._where(lfp))

    def _gain_v(self, lfp: PublishedLfp) -> float:
        if (gain := lfp.find_gain()) is None:
            tried = ", ".join(f"{_uv(gain):g}" for gain in lfp.gains_v)
            raise PlanRefused(
                f"{self._where(lfp)}: lfp_dtype: expected samples that are whole steps of {tried} uV to store them as "
                "int16, and these are not; build it with lfp_dtype float32"
            )
        return gain

    def _steps(self, lfp: PublishedLfp, volts: NDArray[np.float32], gain_to_uv: float, start: int) -> NDArray[np.int16]:
        gain = next(gain for gain in lfp.gains_v if _uv(gain) == gain_to_uv)
        if (found := exact_steps(volts, gain)) is None:
            raise InconsistentData(
                f"{self._where(lfp)}: lfp_dtype: some of the samples {start} to {start + volts.shape[1] - 1} are no "
                f"whole steps of {gain_to_uv:g} uV, as others are; build it with lfp_dtype float32"
            )
        return found

    def _where(self, lfp: PublishedLfp) -> str:
        return f"pid {lfp.insertion.pid}, product {self.name}"


def parse_published_lfp(
    name: str, window_s: tuple[float, float] | None = None, dtype: str = "float32", layout: str = "balanced"
) -> PublishedLfpProduct:
    """The product of a name; raises BadArgument as `parse_lfp` does, and for a suffix.

    Examples
    --------
    >>> parse_published_lfp("lfp_1250hz").title
    'LFP as published, at 1250 Hz'
    """
    made = parse_lfp(name, window_s, dtype, layout)
    if made.processing:
        raise BadArgument(f"expected lfp_{made.rate_hz}hz: this data set has processed its LFP itself")
    return PublishedLfpProduct(made.rate_hz, window_s, dtype, made.layout)


def _uv(volts: float) -> float:
    return round(1e6 * volts, 9)
