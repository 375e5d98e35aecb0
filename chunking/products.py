"""What can be built, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import xarray as xr
from numpy.typing import NDArray

from chunking.cost import Cost
from chunking.manifest import Files
from chunking.plan import ArrayPlan, Options, Region
from chunking.provenance import Origin
from loaders.errors import BadArgument, PlanRefused
from loaders.formats import FORMATS, IBL
from loaders.inputs import Inputs

Blocks = Mapping[str, NDArray[Any]]


class Product(Protocol):
    """What can be built from an insertion. A new one is a class with these members and a line in `parse_product`."""

    @property
    def name(self) -> str:
        """Name of the store, without ``.zarr``."""
        ...

    @property
    def title(self) -> str:
        """What the store holds, in words."""
        ...

    @property
    def parameters(self) -> Mapping[str, str]:
        """Everything but the sources that determines its content."""
        ...

    def origin(self, inputs: Inputs) -> Origin:
        """What it is made of; loads the inputs, and so refuses what cannot be built."""
        ...

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        """Its large arrays, and the regions that the tasks write, each of whole chunks."""
        ...

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        """Bytes to read and to write, and the most that a task holds."""
        ...

    def labels(self, inputs: Inputs) -> xr.Dataset:
        """Its coordinates and small variables."""
        ...

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        """The data of one region, by name of the array."""
        ...

    def read_some(self, inputs: Inputs) -> int:
        """Read some of the source as the one task does that reads all of it; gives the bytes, 0 without such a task."""
        ...

    def check_source(self, inputs: Inputs) -> None:
        """Whatever takes a full read of the source and was not checked when it was loaded."""
        ...


@runtime_checkable
class Finishing(Protocol):
    """A product of which something is made from all its chunks."""

    def finish(self, folder: Path) -> Files:
        """Write it; `folder` is the store in the making, with all chunks and labels. Gives the chunks that it wrote."""
        ...


def parse_product(name: str, options: Options | None = None, dataset: str = IBL) -> Product:
    """The product of a name, as the insertions of a data set (`Insertion.dataset`) have it.

    That is ``spikes``, ``channels``, ``counts_<width>``, ``ap``, ``lf``, ``sync``, ``lfp_<rate>hz``,
    ``lfp_<rate>hz_car``, ``lfp_<rate>hz_destriped`` or one of `chunking.session_products`.

    Raises
    ------
    PlanRefused
        If there is no such product, or its bin width, rate, layout or window cannot be used.
    """
    from chunking.bins import width_from_name
    from chunking.layouts import counts_layout, voltage_layout
    from chunking.lfp_product import parse_lfp
    from chunking.linked_product import LinkedProduct
    from chunking.released_product import parse_published_lfp
    from chunking.session_products import session_products
    from chunking.sorting_products import ChannelsProduct, CountsProduct, SpikesProduct
    from chunking.voltage_product import SyncProduct, VoltageProduct

    options = options or Options()
    if name == "spikes":
        return SpikesProduct()
    if name == "channels":
        return ChannelsProduct()
    if name == "sync":
        return SyncProduct()
    if name in ("ap", "lf") and name in options.link:
        return LinkedProduct(name, options.window_s)
    if name in ("ap", "lf"):
        return VoltageProduct(name, voltage_layout(options.voltage_layout), options.window_s)
    if name.startswith("lfp"):
        try:
            parse = parse_lfp if dataset == IBL else parse_published_lfp
            return parse(name, options.window_s, options.lfp_dtype, options.voltage_layout)
        except BadArgument as error:
            raise PlanRefused(f"product {name!r}: {error}") from error
    if match := re.fullmatch(r"counts_(.+)", name):
        try:
            return CountsProduct(width_from_name(match[1]), counts_layout(options.counts_layout))
        except BadArgument as error:
            raise PlanRefused(f"product {name!r}: {error}") from error
    try:
        of_session = session_products(options.tracker, dataset)
    except BadArgument as error:
        raise PlanRefused(f"product {name!r}: {error}") from error
    if name in of_session:
        return of_session[name]
    raise PlanRefused(
        f"product {name!r}: does not exist; expected spikes, channels, ap, lf, sync, lfp_<rate>hz such as lfp_250hz "
        "(also lfp_250hz_car, lfp_250hz_destriped), counts_<width> such as counts_20ms, session (all that follow), "
        f"{', '.join(of_session)}"
    )


def known_product(name: str, options: Options) -> Product:
    """The product of a name, as the first data set has it that has one; raises PlanRefused if none has."""
    refused = []
    for dataset in FORMATS:
        try:
            return parse_product(name, options, dataset)
        except PlanRefused as error:
            refused.append(error)
    raise refused[0]


def steps(size: int, step: int, start: int = 0) -> list[tuple[int, int]]:
    """Start and stop of consecutive pieces of `size` cells."""
    return [(i, min(i + step, size)) for i in range(start, size, max(step, 1))]
