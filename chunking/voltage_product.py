"""The products of the raw files: ``ap`` and ``lf``, voltage as recorded, and ``sync``, the digital lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
import xarray as xr

from chunking import schema
from chunking.cost import RATIOS, Cost, on_disk, task_bytes, write_bytes
from chunking.layouts import VoltageLayout
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from loaders.byte_source import ByteSource
from loaders.checked_source import hash_ranges
from loaders.clock import Clock
from loaders.errors import BadArgument, NotFound, PlanRefused
from loaders.inputs import Inputs
from loaders.records import Sites, SourceFile
from loaders.remote_file import RemoteFile
from loaders.sync_lines import find_edges
from loaders.voltage import Voltage, place_channels

_SOME_BYTES, _SOME_CHUNKS = 1 << 25, 8  # for a measurement of half a second


@dataclass(frozen=True)
class VoltageProduct:
    """``ap(channel, time)`` or ``lf(channel, time)``, int16 as recorded; the sync channels are left out."""

    name: str
    layout: VoltageLayout
    window_s: tuple[float, float] | None = None

    @cached_property
    def title(self) -> str:
        return voltage_title(self.name)

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        return {"layout": self.layout.name, **voltage_parameters(self.window_s)}

    def origin(self, inputs: Inputs) -> Origin:
        return voltage_origin(inputs.voltage(self.name), inputs.sites_if_any)

    def samples(self, voltage: Voltage) -> tuple[int, int]:
        """First sample of the window, and the one after the last."""
        return window_samples(voltage, self.name, self.window_s)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        voltage = inputs.voltage(self.name)
        start, stop = self.samples(voltage)
        shape = (voltage.meta.n_channels, stop - start)
        chunks = self.layout.chunks(self.name, shape, voltage.meta.sampling_rate_hz)
        array = ArrayPlan(self.name, ("channel", "time"), shape, "int16", chunks, voltage_attrs(voltage))
        return (array,), tuple(((0, shape[0]), step) for step in steps(shape[1], chunks[1]))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        voltage = inputs.voltage(self.name)
        first, last = self.samples(voltage)
        holds = max(voltage.recording.read_holds(first + start, first + stop) for _, (start, stop) in regions)
        return Cost(
            read_bytes(voltage, first, last),
            on_disk(arrays, RATIOS[self.name]),
            task_bytes(holds + write_bytes(arrays)),
        )

    def labels(self, inputs: Inputs) -> xr.Dataset:
        return voltage_labels(inputs, self.name, self.window_s)

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        voltage = inputs.voltage(self.name)
        offset, _ = self.samples(voltage)
        (_, n_channels), (start, stop) = region
        return {self.name: voltage.recording.read(offset + start, offset + stop)[:n_channels]}

    def read_some(self, inputs: Inputs) -> int:
        return hash_some(inputs.voltage(self.name)) if self.window_s is None else 0

    def check_source(self, inputs: Inputs) -> None:
        """The hash of the whole file, where all of it is read anyway."""
        if self.window_s is None:
            inputs.voltage(self.name).check_source()


def read_bytes(voltage: Voltage, start: int, stop: int) -> int:
    """Bytes of the files of a band that hold the samples ``start:stop``."""
    _, *small = voltage.sources
    return voltage.recording.stored_bytes(start, stop) + sum(file.size for file in small)


def hash_some(voltage: Voltage) -> int:
    """Hash the begin of a recording of this machine; gives the bytes."""
    return hash_begin(voltage.recording.source)


def hash_begin(source: ByteSource) -> int:
    """Hash the begin of a file of this machine; gives the bytes."""
    if isinstance(source, RemoteFile):
        return 0
    end = min(source.size, _SOME_BYTES)
    hash_ranges(source, (*range(0, end, 1 << 20), end))
    return end


def voltage_title(band: str) -> str:
    """What a voltage product holds, in words."""
    return f"{band.upper()} voltage as recorded"


def voltage_parameters(window_s: tuple[float, float] | None) -> dict[str, str]:
    """The window, where there is one."""
    return {} if window_s is None else {"window_s": "{!r}:{!r}".format(*window_s)}


def voltage_labels(inputs: Inputs, band: str, window_s: tuple[float, float] | None) -> xr.Dataset:
    """Coordinates of the channels, and the knots of the clock."""
    voltage = inputs.voltage(band)
    start, stop = window_samples(voltage, band, window_s)
    knots = schema.clock_knots(voltage.clock, start, stop - start)
    return xr.Dataset(coords=voltage_coordinates(voltage, inputs.sites_if_any) | knots)


def voltage_origin(voltage: Voltage, sites: Sites | None) -> Origin:
    """What the voltage of one band is made of, and with the sites of which sorting."""
    facts = {
        "sampling_rate_hz": voltage.meta.sampling_rate_hz,
        "probe_version": voltage.meta.probe_version,
        "probe_part": voltage.meta.part,
        "n_sync_channels_left_out": voltage.meta.n_sync,
    }
    notes = list(voltage.notes)
    files: list[SourceFile] = []
    if sites is None:
        notes.append("no spike sorting, and so no histology: the brain region of every channel is void")
    else:
        facts |= {
            "histology": sites.channels.histology,
            "sites_of": sites.collection,
            "sites_revision": sites.revision,
        }
        files = [file for file in sites.sources if "/channels." in file.rel_path or "/electrodeSites." in file.rel_path]
    return Origin(voltage.insertion, facts, (*voltage.sources, *files), notes)


def voltage_coordinates(voltage: Voltage, sites: Sites | None) -> dict[str, xr.Variable]:
    """Coordinates of the channels: geometry, gains, and the places of the sites of a sorting."""
    places = place_channels(voltage, None if sites is None else sites.channels)
    return schema.voltage_channels(voltage.meta, voltage.geometry, places)


def voltage_attrs(voltage: Voltage) -> dict[str, Any]:
    """Attributes of the variable ``ap`` or ``lf``."""
    return schema.voltage(voltage.band).attrs | _common_gain(voltage)


def window_samples(voltage: Voltage, product: str, window_s: tuple[float, float] | None) -> tuple[int, int]:
    """First sample of a window in session seconds, and the one after the last; PlanRefused if it holds none."""
    n = voltage.recording.n_samples
    if window_s is None:
        return 0, n
    return samples_within(voltage.clock, n, window_s, f"pid {voltage.insertion.pid}, product {product}")


def samples_within(clock: Clock, n: int, window_s: tuple[float, float] | None, where: str) -> tuple[int, int]:
    """The same of `n` samples that a clock counts; `where` is for messages."""
    if window_s is None:
        return 0, n
    where = f"{where}: window {window_s[0]:g}:{window_s[1]:g} s"
    if window_s[0] >= window_s[1]:
        raise PlanRefused(f"{where}: expected it to begin before it ends")
    try:
        start, stop = (ceil(v) for v in clock.samples(np.array(window_s), outside="extrapolate"))
    except (BadArgument, ValueError, OverflowError) as error:
        raise PlanRefused(f"{where}: expected two times in seconds ({error})") from error
    start, stop = max(start, 0), min(stop, n)
    if start >= stop:
        first, last = clock.seconds(np.array([0, n - 1]))  # of the samples; the knots may go on
        raise PlanRefused(f"{where}: holds no sample; the recording lasts from {first:g} to {last:g} s")
    return start, stop


def _common_gain(voltage: Voltage) -> dict[str, float]:
    """The gain as an attribute where all channels share it; it is a coordinate in any case."""
    gains = np.unique(voltage.meta.gain_to_uv)
    return {"gain_to_uV": float(gains[0]), "offset_to_uV": 0.0} if len(gains) == 1 else {}


@dataclass(frozen=True)
class SyncProduct:
    """The digital lines of the probe: one entry an edge. Read from AP, whose samples are the finest."""

    name: str = "sync"
    title: str = "Edges of the digital lines"
    parameters: Mapping[str, str] = field(default_factory=dict)

    def origin(self, inputs: Inputs) -> Origin:
        voltage = inputs.voltage("ap")
        if voltage.meta.n_sync == 0:
            raise NotFound(f"pid {voltage.insertion.pid}: the recording has no sync channel, and so no digital lines")
        facts = {"sampling_rate_hz": voltage.meta.sampling_rate_hz, "probe_version": voltage.meta.probe_version}
        return Origin(voltage.insertion, facts, voltage.sources, voltage.notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        return (), ()

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        voltage = inputs.voltage("ap")
        recording = voltage.recording
        decoding = recording.read_holds(0, recording.span(0)[1])
        # An edge takes some 64 bytes while all are put in order: room for one in 64 samples.
        return Cost(read_bytes(voltage, 0, recording.n_samples), 0, task_bytes(decoding + recording.n_samples))

    def labels(self, inputs: Inputs) -> xr.Dataset:
        voltage = inputs.voltage("ap")
        return xr.Dataset(schema.sync_edges(find_edges(voltage.recording, voltage.meta.n_sync), voltage.clock))

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        return {}

    def read_some(self, inputs: Inputs) -> int:
        voltage = inputs.voltage("ap")
        stop = 0
        for start, block in islice(voltage.recording.chunks(), _SOME_CHUNKS):
            stop = start + block.shape[1]
        return voltage.recording.stored_bytes(0, stop)

    def check_source(self, inputs: Inputs) -> None:
        inputs.voltage("ap").check_source()
