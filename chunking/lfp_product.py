"""The products ``lfp_<rate>hz``: low-passed and decimated voltage in microvolts, with a time for every sample.

The name says what else was done: nothing (``lfp_250hz``), a common reference taken away (``lfp_250hz_car``), or all
that IBL does (``lfp_250hz_destriped``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import schema
from chunking.cost import RATIOS, Cost, label_bytes, on_disk, task_bytes, write_bytes
from chunking.decimate import ATTENUATION_DB, PASS, STOP, Fir, Samples, decimate, decimate_holds, low_pass
from chunking.destripe import (
    BAND_HZ,
    HALO_S,
    Microvolts,
    Probe,
    butterworth,
    destriped_holds,
    destriped_lfp,
    factor_before,
)
from chunking.layouts import LFP_CHUNK, LfpLayout, VoltageLayout, lfp_layout, voltage_layout
from chunking.microvolt_steps import step_uv, to_steps
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin, to_json
from chunking.reference import subtract_common
from chunking.saturation import SaturationWatch
from chunking.voltage_product import VoltageProduct, read_bytes, voltage_coordinates, window_samples
from loaders.channel_quality import LABELLING_BYTES, ChannelLabel
from loaders.clock import LF_RATIO
from loaders.errors import BadArgument, NotFound, PlanRefused
from loaders.geometry import SHANK_PITCH_UM
from loaders.inputs import Inputs
from loaders.records import Floats
from loaders.voltage import Voltage

MAX_RATE_HZ = 1250
DTYPES = ("float32", "int16")
REFERENCES = {
    "": "as recorded: no destriping, no common reference, no bad channels",
    "car": "after decimation, the median of the good channels of each shank is taken away from all its channels",
    "destriped": f"ibldsp.voltage.destripe_lfp before decimation, in blocks with {HALO_S} s on either side: "
    "Butterworth, sample shift, dead and noisy channels interpolated, then from all channels of a shank inside the "
    "brain their median taken away; sites of different shanks are no neighbours",
}
"""What was done besides the decimation, by suffix of the name."""
_NOMINAL_STEP_HZ = 10  # calibrated rates are within 5 Hz of their nominal one, 30000.390639 of 30000


@dataclass(frozen=True)
class LfpProduct:
    """``lfp(channel, time)``, uV, and ``saturated(time)``: from LF, or from AP where the probe has only this band.

    Parameters
    ----------
    rate_hz : int
        Nominal rate, 1 to `MAX_RATE_HZ`. The true one is that of the source divided by a whole factor.
    window_s : (float, float), optional
        Part of the recording, session seconds. The filter sees what lies outside.
    processing : str
        Key of `REFERENCES`. With one, the channels have labels.
    dtype : str
        One of `DTYPES`; int16 has a gain.
    layout : LfpLayout
    """

    rate_hz: int
    window_s: tuple[float, float] | None = None
    processing: str = ""
    dtype: str = "float32"
    layout: LfpLayout = field(default_factory=lambda: lfp_layout("balanced"))

    @cached_property
    def name(self) -> str:
        return f"lfp_{self.rate_hz}hz{'_' if self.processing else ''}{self.processing}"

    @cached_property
    def title(self) -> str:
        done = {"": "", "car": ", common reference taken away", "destriped": ", destriped"}[self.processing]
        return f"Low-passed voltage at {self.rate_hz} Hz{done}"

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
            "reference": REFERENCES[self.processing],
            "dtype": self.dtype,
            **({"ibl_neuropixel_version": version("ibl-neuropixel")} if self.processing else {}),
            **window,
            **({} if self.layout.name == "balanced" else {"layout": self.layout.name}),  # there was none once
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
        if self.processing == "destriped":
            before = self._factor_before(voltage)
            facts |= {"destriped_at_hz": rate_hz / before, "destripe_kwargs": _destripe_kwargs(rate_hz / before)}
            if before > 1:
                notes.append(f"decimated by {before} before destriping; the sample shift is a {before}th of AP's")
            if self.rate_hz > 2 * BAND_HZ[1]:
                notes.append(f"destriping leaves nothing above {BAND_HZ[1]:g} Hz, below half of this rate")
        return Origin(recorded.insertion, {**recorded.facts, **facts}, recorded.sources, notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        voltage = _source(inputs)
        start, stop = self._outputs(voltage)
        shape = (voltage.meta.n_channels, stop - start)
        chunks = self.layout.chunks(self.name, shape, self.rate_hz)
        attrs = schema.LFP.attrs | {"source_band": voltage.band}
        if self.dtype == "int16":
            gain = {"gain_to_uV": step_uv(voltage.meta.range_uv), "offset_to_uV": 0.0}
            attrs = schema.LFP_STEPS.attrs | {"source_band": voltage.band, **gain}
        lfp = ArrayPlan("lfp", ("channel", "time"), shape, self.dtype, chunks, attrs)
        mask = ArrayPlan("saturated", ("time",), shape[1:], "bool", chunks[1:], schema.SATURATED.attrs)
        return (lfp, mask), tuple(((0, shape[0]), step) for step in steps(shape[1], LFP_CHUNK[1]))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        voltage, (start, stop) = _source(inputs), self._outputs(_source(inputs))
        fir, rate_hz = self._filter(voltage), voltage.meta.sampling_rate_hz
        halo = fir.half + (round(HALO_S * rate_hz) if self.processing == "destriped" else 0)
        first, last = max(start * fir.factor - halo, 0), min(stop * fir.factor + halo, voltage.recording.n_samples)
        return Cost(
            read_bytes(voltage, first, last),
            on_disk(arrays, RATIOS["lfp int16" if self.dtype == "int16" else "lfp"]),
            task_bytes(label_bytes(stop - start), *self._holds(voltage, arrays)),
        )

    def _holds(self, voltage: Voltage, arrays: tuple[ArrayPlan, ...]) -> list[int]:
        """The most bytes that a region holds while it is filtered, labelled, rounded and written."""
        fir, rate_hz = self._filter(voltage), voltage.meta.sampling_rate_hz
        n_saved, n_outputs = voltage.recording.n_channels, min(LFP_CHUNK[1], arrays[0].shape[1])
        uv = 4 * n_saved * n_outputs
        watch = n_outputs * (fir.factor + 3 * 8)  # of saturation: raw samples, and edges
        decoding = voltage.recording.read_holds(0, min(voltage.recording.span(0)[1] + 1, voltage.recording.n_samples))
        if self.processing == "destriped":
            before = self._factor_before(voltage)
            reading = 2 * n_saved * before if before == 1 else 0
            filtering = destriped_holds(
                low_pass(fir.factor // before), n_outputs, n_saved, rate_hz / before, reading
            ) + (decimate_holds(low_pass(before), 0, n_saved, rate_hz) if before > 1 else 0)
        else:
            filtering = decimate_holds(fir, n_outputs, n_saved, rate_hz)
        labelling = uv + LABELLING_BYTES if self.processing else 0
        rounding = uv * 13 // 4 if self.dtype == "int16" else 0
        return [watch + decoding + phase for phase in (filtering, labelling, rounding, uv + write_bytes(arrays))]

    def labels(self, inputs: Inputs) -> xr.Dataset:
        voltage = _source(inputs)
        coordinates = voltage_coordinates(voltage, inputs.sites_if_any)
        for name in schema.GAINS:  # lfp is in uV already
            del coordinates[name]
        if self.processing:
            coordinates |= schema.channel_quality(inputs.channel_labels(voltage.band))
        samples = np.arange(*self._outputs(voltage)) * self._filter(voltage).factor
        return xr.Dataset(coords=coordinates | {"time": schema.sample_times(voltage.clock.seconds(samples))})

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        voltage = inputs.voltage(arrays[0].attrs["source_band"])
        offset, _ = self._outputs(voltage)
        start, stop = (offset + k for k in region[1])
        watch = SaturationWatch(voltage.recording, voltage.meta, self._filter(voltage).factor, start, stop)
        lfp: NDArray[Any] = self._microvolts(inputs, voltage, watch, start, stop)
        if self.dtype == "int16":
            lfp = to_steps(lfp, arrays[0].attrs["gain_to_uV"], self._where(voltage))
        return {"lfp": lfp, "saturated": watch.outputs()}

    def _microvolts(self, inputs: Inputs, voltage: Voltage, raw: Samples, start: int, stop: int) -> Microvolts:
        """The outputs ``start:stop``, (channel, time)."""
        fir, gains = self._filter(voltage), (voltage.meta.gain_to_uv, voltage.meta.offset_to_uv)
        if self.processing == "destriped":
            before = self._factor_before(voltage)
            probe = _probe(voltage, before, inputs.channel_labels(voltage.band))
            n_samples = -(-raw.n_samples // before)
            return destriped_lfp(
                partial(_read_uv, raw, before, *gains), n_samples, low_pass(fir.factor // before), start, stop, probe
            )
        lfp = decimate(raw, fir, start, stop, *gains)
        if self.processing == "car":
            good = inputs.channel_labels(voltage.band) == ChannelLabel.GOOD
            subtract_common(lfp, voltage.geometry.shank, good, self._where(voltage))
        return lfp

    def read_some(self, inputs: Inputs) -> int:
        return self._raw(_source(inputs)).read_some(inputs)

    def check_source(self, inputs: Inputs) -> None:
        """The hash of the whole file, where all of it is read anyway."""
        self._raw(_source(inputs)).check_source(inputs)

    def _raw(self, voltage: Voltage) -> VoltageProduct:
        return VoltageProduct(voltage.band, _ANY_LAYOUT, self.window_s)

    def _where(self, voltage: Voltage) -> str:
        return f"pid {voltage.insertion.pid}, product {self.name}"

    def _factor_before(self, voltage: Voltage) -> int:
        """Decimation before destriping."""
        return factor_before(self._filter(voltage).factor, _nominal_hz(voltage))

    def _filter(self, voltage: Voltage) -> Fir:
        nominal_hz = _nominal_hz(voltage)
        factor, rest = divmod(nominal_hz, self.rate_hz)
        if rest or factor < 2:
            raise PlanRefused(
                f"{self._where(voltage)}: expected a rate that is a whole fraction of the "
                f"{nominal_hz} Hz of its {voltage.band} band, such as lfp_250hz or lfp_500hz"
            )
        return low_pass(factor)

    def _outputs(self, voltage: Voltage) -> tuple[int, int]:
        """First decimated sample of the window, and the one after the last."""
        raw_start, raw_stop = window_samples(voltage, self.name, self.window_s)
        factor = self._filter(voltage).factor
        start, stop = -(-raw_start // factor), -(-raw_stop // factor)
        if start >= stop:
            raise PlanRefused(f"{self._where(voltage)}: the window holds no sample at this rate")
        return start, stop


_ANY_LAYOUT: VoltageLayout = voltage_layout("balanced")


def parse_lfp(
    name: str, window_s: tuple[float, float] | None = None, dtype: str = "float32", layout: str = "balanced"
) -> LfpProduct:
    """The product of a name.

    Raises
    ------
    BadArgument
        If the name is not ``lfp_<rate>hz`` with a whole rate from 1 to `MAX_RATE_HZ` and a suffix that exists, or
        there is no such `dtype`.
    PlanRefused
        If there is no such layout.

    Examples
    --------
    >>> product = parse_lfp("lfp_250hz_car")
    >>> product.rate_hz, product.processing
    (250, 'car')
    """
    match = re.fullmatch(r"lfp_([1-9][0-9]{0,5})hz(?:_(.+))?", name)
    if match is None or int(match[1]) > MAX_RATE_HZ:
        raise BadArgument(
            f"expected lfp_<rate>hz with a whole rate from 1 to {MAX_RATE_HZ} Hz, such as lfp_250hz (faster voltage: "
            "the products lf and ap)"
        )
    processing = match[2] or ""
    if processing not in REFERENCES:
        known = ", ".join(f"lfp_{match[1]}hz{'_' if suffix else ''}{suffix}" for suffix in REFERENCES)
        raise BadArgument(f"there is no suffix _{processing}; expected one of {known}")
    if dtype not in DTYPES:
        raise BadArgument(f"lfp_dtype: expected {' or '.join(DTYPES)}, got {dtype!r}")
    return LfpProduct(int(match[1]), window_s, processing, dtype, lfp_layout(layout))


def _nominal_hz(voltage: Voltage) -> int:
    return nominal_hz(voltage.meta.sampling_rate_hz)


def nominal_hz(rate_hz: float) -> int:
    """The rate that a product is named after."""
    return round(rate_hz / _NOMINAL_STEP_HZ) * _NOMINAL_STEP_HZ


def _read_uv(raw: Samples, factor: int, gain: Floats, offset: Floats, start: int, stop: int) -> Microvolts:
    """The samples ``start:stop`` of a recording decimated by `factor`, (channel, time)."""
    if factor > 1:
        return decimate(raw, low_pass(factor), start, stop, gain, offset)
    uv = raw.read(start, stop, slice(0, len(gain))).astype(np.float32)
    uv *= gain[:, None].astype(np.float32)
    uv += offset[:, None].astype(np.float32)
    return uv


def _probe(voltage: Voltage, factor: int, label: NDArray[np.int8]) -> Probe:
    """What destriping asks of a probe after decimation by `factor`."""
    made_from_ap = voltage.band == "lf" and not voltage.meta.model.imro_gains  # its shifts count AP samples
    geometry = voltage.geometry
    return Probe(
        rate_hz=voltage.meta.sampling_rate_hz / factor,
        shift=geometry.sample_shift / (LF_RATIO if made_from_ap else factor),
        x_um=geometry.x_um + SHANK_PITCH_UM * geometry.shank,
        y_um=geometry.y_um,
        shank=geometry.shank,
        label=label,
    )


def _destripe_kwargs(rate_hz: float) -> str:
    """The call of `ibldsp.voltage.destripe_lfp` that gives the same, besides its arrays.

    There the version of the probe only says whether there is a sample shift; here there always is.
    """
    kwargs = {"fs": rate_hz, "butter_kwargs": butterworth(rate_hz), "k_filter": False, "neuropixel_version": 1}
    return to_json(kwargs)


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
