"""The products ``lfp_<rate>hz``: low-passed and decimated voltage in microvolts, with a time for every sample.

No destriping, no common reference and no bad channels: every channel is the voltage as recorded below the cut-off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from chunking import schema
from chunking.decimate import ATTENUATION_DB, PASS, STOP, Fir, decimate, low_pass
from chunking.layouts import LFP_CHUNK, VoltageLayout, voltage_layout
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from chunking.voltage_product import VoltageProduct, voltage_coordinates, window_samples
from loaders.errors import BadArgument, NotFound, PlanRefused
from loaders.inputs import Inputs
from loaders.voltage import Voltage

MAX_RATE_HZ = 1250
_NOMINAL_STEP_HZ = 10  # calibrated rates are within 5 Hz of their nominal one, 30000.390639 of 30000


@dataclass(frozen=True)
class LfpProduct:
    """``lfp(channel, time)``, float32 uV: from the LF band, or from AP where the probe records all in one band.

    Parameters
    ----------
    rate_hz : int
        Nominal rate, 1 to `MAX_RATE_HZ`. The true one is that of the source divided by a whole factor.
    window_s : (float, float), optional
        Part of the recording, session seconds. The filter sees what lies outside.
    """

    rate_hz: int
    window_s: tuple[float, float] | None = None

    @cached_property
    def name(self) -> str:
        return f"lfp_{self.rate_hz}hz"

    @cached_property
    def title(self) -> str:
        return f"Low-passed voltage at {self.rate_hz} Hz"

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        window = {} if self.window_s is None else {"window_s": "{!r}:{!r}".format(*self.window_s)}
        return {
            "rate_hz": str(self.rate_hz),
            "filter": "zero-phase FIR low-pass: scipy.signal.firwin(taps, cutoff, window=('kaiser', beta)), symmetric",
            "attenuation_db": str(ATTENUATION_DB),
            "pass_band_end": f"{PASS:g} of the new Nyquist frequency",
            "stop_band_begin": f"{STOP:g} of the new Nyquist frequency",
            "edges": "the recording is continued by its mirror image, x[-i] = x[i]",
            "alignment": "sample k is centred on raw sample k * factor",
            "reference": "as recorded: no destriping, no common reference, no bad channels",
            **window,
        }

    def origin(self, inputs: Inputs) -> Origin:
        voltage = _source(inputs)
        fir, rate_hz = self._filter(voltage), voltage.meta.sampling_rate_hz
        recorded = self._raw(voltage).origin(inputs)
        facts = {
            "sampling_rate_hz": rate_hz / fir.factor,
            "source_band": voltage.band,
            "source_sampling_rate_hz": rate_hz,
            "decimation_factor": fir.factor,
            "filter_cutoff_hz": fir.cutoff * rate_hz / 2,
            "filter_pass_hz": PASS * rate_hz / fir.factor / 2,
            "filter_stop_hz": STOP * rate_hz / fir.factor / 2,
            "filter_taps": len(fir.taps),
            "filter_kaiser_beta": fir.beta,
        }
        notes = list(recorded.notes)
        if voltage.band == "ap":
            notes.append("LFP made from the AP band: this probe records all frequencies in one band")
        return Origin(recorded.insertion, {**recorded.facts, **facts}, recorded.sources, notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        voltage = _source(inputs)
        start, stop = self._outputs(voltage)
        shape = (voltage.meta.n_channels, stop - start)
        chunks = (min(LFP_CHUNK[0], shape[0]), min(LFP_CHUNK[1], shape[1]))
        attrs = schema.LFP.attrs | {"source_band": voltage.band}
        array = ArrayPlan("lfp", ("channel", "time"), shape, "float32", chunks, attrs)
        return (array,), tuple(((0, shape[0]), step) for step in steps(shape[1], chunks[1]))

    def labels(self, inputs: Inputs) -> xr.Dataset:
        voltage = _source(inputs)
        coordinates = voltage_coordinates(voltage, inputs.sites_if_any)
        for name in schema.GAINS:  # lfp is in uV already
            del coordinates[name]
        samples = np.arange(*self._outputs(voltage)) * self._filter(voltage).factor
        return xr.Dataset(coords=coordinates | {"time": schema.sample_times(voltage.clock.seconds(samples))})

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        voltage = inputs.voltage(arrays[0].attrs["source_band"])
        offset, _ = self._outputs(voltage)
        (_, n), (start, stop) = region
        meta = voltage.meta
        fir = self._filter(voltage)
        scale = (meta.gain_to_uv[:n], meta.offset_to_uv[:n])
        return {"lfp": decimate(voltage.recording, fir, offset + start, offset + stop, *scale)}

    def check_source(self, inputs: Inputs) -> None:
        """The hash of the whole file, where all of it is read anyway."""
        self._raw(_source(inputs)).check_source(inputs)

    def _raw(self, voltage: Voltage) -> VoltageProduct:
        return VoltageProduct(voltage.band, _ANY_LAYOUT, self.window_s)

    def _filter(self, voltage: Voltage) -> Fir:
        nominal_hz = round(voltage.meta.sampling_rate_hz / _NOMINAL_STEP_HZ) * _NOMINAL_STEP_HZ
        factor, rest = divmod(nominal_hz, self.rate_hz)
        if rest or factor < 2:
            raise PlanRefused(
                f"pid {voltage.insertion.pid}, product {self.name}: expected a rate that is a whole fraction of the "
                f"{nominal_hz} Hz of its {voltage.band} band, such as lfp_250hz or lfp_500hz"
            )
        return low_pass(factor)

    def _outputs(self, voltage: Voltage) -> tuple[int, int]:
        """First decimated sample of the window, and the one after the last."""
        raw_start, raw_stop = window_samples(voltage, self.name, self.window_s)
        factor = self._filter(voltage).factor
        start, stop = -(-raw_start // factor), -(-raw_stop // factor)
        if start >= stop:
            raise PlanRefused(
                f"pid {voltage.insertion.pid}, product {self.name}: the window holds no sample at this rate"
            )
        return start, stop


_ANY_LAYOUT: VoltageLayout = voltage_layout("balanced")


def lfp_rate(name: str) -> int:
    """The nominal rate in the name of a product.

    Raises
    ------
    BadArgument
        If it is not ``lfp_<rate>hz`` with a whole rate from 1 to `MAX_RATE_HZ`.

    Examples
    --------
    >>> lfp_rate("lfp_250hz")
    250
    """
    match = re.fullmatch(r"lfp_([1-9][0-9]{0,5})hz", name)
    if match is None or int(match[1]) > MAX_RATE_HZ:
        raise BadArgument(
            f"expected lfp_<rate>hz with a whole rate from 1 to {MAX_RATE_HZ} Hz, such as lfp_250hz (faster voltage: "
            "the products lf and ap)"
        )
    return int(match[1])


def _source(inputs: Inputs) -> Voltage:
    """The LF band, or the AP band of a probe that records all frequencies in it.

    Others filter their AP band in hardware (300 Hz high-pass): it is no source of LFP, and their LF band is missing.
    """
    try:
        return inputs.voltage("lf")
    except NotFound:
        voltage = inputs.voltage("ap")
        if voltage.meta.model.imro_gains:  # gains of AP and LF apart: two bands
            raise
        return voltage
