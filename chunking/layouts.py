"""Named chunk shapes. `benchmarks/` compares them; the default is the one that serves most uses well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

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
    seconds : int
        A chunk of narrow bins covers so many seconds, but at most `MOST_BINS` bins: fewer files, of a size alike.
    """

    name: str
    serves: str
    units: int
    bins: int
    seconds: int = 0

    def chunks(self, product: str, shape: tuple[int, int], rate_hz: float) -> tuple[int, int]:
        """Shape of the chunks of an array."""
        bins = max(self.bins, min(MOST_BINS, round(rate_hz * self.seconds)))
        return _within((self.units, bins), shape)


MOST_BINS = 30_000

COUNTS_LAYOUTS = {
    layout.name: layout
    for layout in (
        CountsLayout("balanced", "single units over the session and all units around events alike", 250, 15_000, 30),
        CountsLayout("by-unit", "few units over the whole session", 10, 4_000_000),
        CountsLayout("by-time", "all units in short windows", 10_000, 5_000),
    )
}

SPIKES_PER_CHUNK = 200_000
"""Spikes in one chunk of the ragged arrays: 1.6 MB of float64, read whole for any unit in it."""


LFP_CHUNK = (32, 60_000)
"""Channels and samples in one chunk of ``lfp``: 7.7 MB of float32, four minutes at 250 Hz. In every layout a task makes
so many samples of all channels, and chunks divide them."""


def counts_layout(name: str) -> CountsLayout:
    """The layout `name`; raises PlanRefused with the ones that exist."""
    return _named(COUNTS_LAYOUTS, name, "counts layout")


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

    def chunks(self, product: str, shape: tuple[int, int], rate_hz: float) -> tuple[int, int]:
        """Shape of the chunks of an array: whole seconds, rounded as mtscomp does that cuts there too."""
        seconds = self.ap_seconds if product == "ap" else self.lf_seconds
        return _within((self.channels(product), round(rate_hz) * seconds), shape)


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
    return _named(VOLTAGE_LAYOUTS, name, "voltage layout")


@dataclass(frozen=True, slots=True)
class LfpLayout:
    """How ``lfp(channel, time)`` is cut.

    Attributes
    ----------
    name : str
    serves : str
        The access pattern that it is made for.
    channels, samples : int
        Shape of one chunk.
    """

    name: str
    serves: str
    channels: int
    samples: int

    def chunks(self, product: str, shape: tuple[int, int], rate_hz: float) -> tuple[int, int]:
        """Shape of the chunks of an array."""
        return _within((self.channels, self.samples), shape)


LFP_LAYOUTS = {
    layout.name: layout
    for layout in (
        LfpLayout("balanced", "windows of all channels and single channels over time alike", *LFP_CHUNK),
        LfpLayout("by-time", "all channels in short windows", 384, 2500),
        LfpLayout("by-channel", "single channels over the whole recording", 8, 60_000),
    )
}


def lfp_layout(name: str) -> LfpLayout:
    """The layout `name`; raises PlanRefused with the ones that exist."""
    return _named(LFP_LAYOUTS, name, "voltage layout")


Layout = CountsLayout | VoltageLayout | LfpLayout
Named = TypeVar("Named", bound=Layout)


def _named(layouts: Mapping[str, Named], name: str, what: str) -> Named:
    if name not in layouts:
        known = "; ".join(f"{layout.name} ({layout.serves})" for layout in layouts.values())
        raise PlanRefused(f"{what} {name!r}: does not exist; layouts that exist: {known}")
    return layouts[name]


def layouts_of(product: str) -> Mapping[str, Layout]:
    """The layouts of a product by name; raises PlanRefused if it is not cut by one.

    Examples
    --------
    >>> list(layouts_of("counts_20ms"))
    ['balanced', 'by-unit', 'by-time']
    >>> layouts_of("lf")["by-time"].chunks("lf", (384, 9_000_000), 2500.03)
    (384, 25000)
    """
    kind = product.split("_")[0]
    named: Mapping[str, Mapping[str, Layout]] = {
        "counts": COUNTS_LAYOUTS,
        "ap": VOLTAGE_LAYOUTS,
        "lf": VOLTAGE_LAYOUTS,
        "lfp": LFP_LAYOUTS,
    }
    if kind not in named:
        raise PlanRefused(f"product {product!r}: has no layouts; expected counts_<width>, ap, lf or lfp_<rate>hz")
    return named[kind]


def layout_of(product: str, name: str) -> Layout:
    """The layout `name` of a product; raises PlanRefused with the ones that exist."""
    return _named(layouts_of(product), name, f"product {product!r}, layout")


def _within(chunk: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """A chunk that is no larger than its array."""
    return min(chunk[0], max(shape[0], 1)), min(chunk[1], max(shape[1], 1))
