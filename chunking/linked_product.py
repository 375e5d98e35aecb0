"""The products ``ap`` and ``lf`` without a copy: the labels are stored, the voltage stays in the file of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import xarray as xr

from chunking.cost import Cost, task_bytes
from chunking.link import write_link
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks
from chunking.provenance import Origin
from chunking.voltage_product import (
    hash_some,
    read_bytes,
    voltage_attrs,
    voltage_labels,
    voltage_origin,
    voltage_parameters,
    voltage_title,
    window_samples,
)
from loaders.inputs import Inputs
from loaders.remote_file import RemoteFile


@dataclass(frozen=True)
class LinkedProduct:
    """``ap`` or ``lf`` in place: `cubes.open` shows the same dataset as of a copy, from the recording itself."""

    name: str
    window_s: tuple[float, float] | None = None

    @cached_property
    def title(self) -> str:
        return f"{voltage_title(self.name)}, in place"

    @cached_property
    def parameters(self) -> Mapping[str, str]:
        return {"storage": "linked", **voltage_parameters(self.window_s)}

    def origin(self, inputs: Inputs) -> Origin:
        recorded = voltage_origin(inputs.voltage(self.name), inputs.sites_if_any)
        return Origin(recorded.insertion, {**recorded.facts, "storage": "linked"}, recorded.sources, recorded.notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        return (), ()

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        voltage = inputs.voltage(self.name)
        recording = voltage.recording
        end = 0 if isinstance(recording.source, RemoteFile) else recording.n_samples  # a remote one is not hashed
        return Cost(read_bytes(voltage, 0, end), 0, task_bytes(recording.read_holds(*recording.span(0))))

    def labels(self, inputs: Inputs) -> xr.Dataset:
        return voltage_labels(inputs, self.name, self.window_s)

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        return {}

    def read_some(self, inputs: Inputs) -> int:
        return hash_some(inputs.voltage(self.name))

    def check_source(self, inputs: Inputs) -> None:
        """Nothing: `link` reads and hashes all of it."""

    def link(self, inputs: Inputs, folder: Path, final: Path) -> None:
        """Write the link of a new store; see `chunking.link.write_link`."""
        voltage = inputs.voltage(self.name)
        write_link(folder, final, voltage, window_samples(voltage, self.name, self.window_s), voltage_attrs(voltage))
