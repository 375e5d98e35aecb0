"""Named chunk shapes. `benchmarks/` compares them; the default is the one that serves most uses well."""

from __future__ import annotations

from dataclasses import dataclass

from loaders.errors import PlanRefused


@dataclass(frozen=True, slots=True)
class CountsLayout:
    """How a ``counts(unit, time)`` array is cut.

    Attributes
    ----------
    name : str
    serves : str
        The access pattern that it is made for.
    units, bins : int
        Shape of one chunk; the array may be smaller.
    """

    name: str
    serves: str
    units: int
    bins: int


COUNTS_LAYOUTS = {
    layout.name: layout
    for layout in (
        CountsLayout("balanced", "single units over the session and all units around events alike", 100, 60_000),
        CountsLayout("by-unit", "few units over the whole session", 10, 4_000_000),
        CountsLayout("by-time", "all units in short windows", 10_000, 5_000),
    )
}

SPIKES_PER_CHUNK = 500_000
"""Spikes in one chunk of the ragged arrays: 4 MB of float64, read whole for any unit in it."""


LFP_CHUNK = (32, 60_000)
"""Channels and samples in one chunk of ``lfp``, of every layout: 7.7 MB of float32, four minutes at 250 Hz."""


def counts_layout(name: str) -> CountsLayout:
    """The layout `name`; raises PlanRefused with the ones that exist."""
    if name not in COUNTS_LAYOUTS:
        known = "; ".join(f"{layout.name} ({layout.serves})" for layout in COUNTS_LAYOUTS.values())
        raise PlanRefused(f"counts layout {name!r}: does not exist; layouts that exist: {known}")
    return COUNTS_LAYOUTS[name]


@dataclass(frozen=True, slots=True)
class VoltageLayout:
    """How ``ap(channel, time)`` and ``lf(channel, time)`` are cut.

    Attributes
    ----------
    name : str
    serves : str
        The access pattern that it is made for.
    ap_channels, ap_seconds, lf_channels, lf_seconds : int
        Shape of one chunk. A task holds all channels of its seconds.
    """

    name: str
    serves: str
    ap_channels: int
    ap_seconds: int
    lf_channels: int
    lf_seconds: int

    def channels(self, band: str) -> int:
        """Channels in a chunk."""
        return self.ap_channels if band == "ap" else self.lf_channels


VOLTAGE_LAYOUTS = {
    layout.name: layout
    for layout in (
        VoltageLayout("balanced", "windows of all channels and single channels over time alike", 96, 1, 32, 60),
        VoltageLayout("by-time", "all channels in short windows", 384, 1, 384, 10),
        VoltageLayout("by-channel", "single channels over the whole recording", 16, 4, 8, 60),
    )
}


def voltage_layout(name: str) -> VoltageLayout:
    """The layout `name`; raises PlanRefused with the ones that exist."""
    if name not in VOLTAGE_LAYOUTS:
        known = "; ".join(f"{layout.name} ({layout.serves})" for layout in VOLTAGE_LAYOUTS.values())
        raise PlanRefused(f"voltage layout {name!r}: does not exist; layouts that exist: {known}")
    return VOLTAGE_LAYOUTS[name]
