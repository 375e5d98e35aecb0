"""What layouts are compared on: a part of a store, or an array like those of recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from chunking.bins import width_from_name
from chunking.homes import local
from chunking.layouts import Layout, layouts_of
from chunking.lfp_product import parse_lfp
from chunking.link import is_linked
from chunking.patterns import Grid
from cubes.pinned_store import PinnedStore
from cubes.stores import info
from loaders.errors import BadArgument, PlanRefused

SAMPLE_BYTES = 360_000_000
"""Of the array that is measured on: an hour of 1000 units at 10 ms, 16 s of AP, 3 min of LF."""

_PIECE_CELLS = 1 << 24  # that are generated, and then repeated
_UNIT_HZ, _NOISE, _COMMON = 8.3, 6.0, 3.0  # mean rate of a unit; steps of the converter, as in IBL's recordings


@dataclass(frozen=True, eq=False)
class Sample:
    """Cells ``(unit, time)`` or ``(channel, time)`` to measure on.

    Attributes
    ----------
    product : str
    cells : array, (row, time)
    rate_hz : float
    n_times : int
        Of all of it, of which the cells may be the first.
    about : str
        What they are, in words.
    store : str
        Where they are from; empty if they were generated.
    layout : str
        That of the store.
    """

    product: str
    cells: NDArray[Any]
    rate_hz: float
    n_times: int
    about: str
    store: str = ""
    layout: str = ""

    @cached_property
    def layouts(self) -> Mapping[str, Layout]:
        """The layouts of the product."""
        return layouts_of(self.product)

    @property
    def kind(self) -> str:
        """See `chunking.patterns.Grid.kind`."""
        return self.grid(next(iter(self.layouts))).kind

    def grid(self, layout: str, *, whole: bool = False) -> Grid:
        """The cells as they are cut by a layout, or all of what they are a part of."""
        rows, times = self.cells.shape
        times = self.n_times if whole else times
        chunks = self.layouts[layout].chunks(self.product, (rows, times), self.rate_hz)
        return Grid(self.product, (rows, times), chunks, self.cells.dtype.itemsize, self.rate_hz)


def generated(product: str, units: int, minutes: float, *, counted: bool = False) -> Sample:
    """Spikes of units with lognormal rates, or noise of which some is common to all channels.

    Of `SAMPLE_BYTES` at most; what is longer than 16 million cells repeats itself, further apart than codecs see. If
    `counted`, of any length, all zeros, and no memory.
    """
    layouts_of(product)
    rows, rate_hz = units if product.startswith("counts") else 384, rate_of(product)
    if rows < 1 or not 0 < minutes < float("inf"):
        raise BadArgument(f"units, minutes: expected more than none, got {units} and {minutes:g}")
    dtype = np.dtype({"counts": np.uint8, "lfp": np.float32}.get(product.split("_")[0], np.int16))
    n = max(round(60 * minutes * rate_hz), 1)
    if counted:
        return Sample(product, _zeros(dtype, (rows, n)), rate_hz, n, f"{minutes:g} min")
    n_times, n = n, min(n, max(SAMPLE_BYTES // (rows * dtype.itemsize), 1))
    some = _some(product, rows, min(n, max(_PIECE_CELLS // rows, 1)), rate_hz, dtype)
    cells = np.tile(some, (1, -(-n // some.shape[1])))[:, :n]
    return Sample(product, cells, rate_hz, n_times, f"generated, {n / rate_hz / 60:.2g} min")


def _some(product: str, rows: int, n: int, rate_hz: float, dtype: np.dtype[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if product.startswith("counts"):
        means = rng.lognormal(0, 1, (rows, 1)) / np.exp(0.5) * _UNIT_HZ / rate_hz
        return np.minimum(rng.poisson(means, (rows, n)), 255).astype(dtype)
    noise = rng.standard_normal((rows, n), np.float32)
    noise *= np.float32(_NOISE)
    noise += (_COMMON * rng.standard_normal(n)).astype(np.float32)
    return noise if dtype.kind == "f" else np.rint(noise, out=noise).astype(dtype)


def of_store(path: str | Path, *, counted: bool = False) -> Sample:
    """The first `SAMPLE_BYTES` of a store; if `counted` the shape of all of it, and zeros."""
    store = local(path, "advise").absolute()
    if store.suffix != ".zarr":
        raise BadArgument(f"store {store}: expected one Zarr store, such as <root>/insertions/<pid>/counts_20ms.zarr")
    layouts_of(store.stem)
    attrs = info(store)["attrs"]
    product = str(attrs["product"])
    if is_linked(store):
        raise PlanRefused(f"store {store}: links to the recording, and its voltage lies as it does there")
    rate_hz = float(attrs.get("sampling_rate_hz") or rate_of(product))
    group = zarr.open_group(PinnedStore(store), mode="r", zarr_format=3)
    array = cast(zarr.Array[Any], group[product.split("_")[0]])
    rows, times = array.shape
    if not rows or not times:
        raise PlanRefused(f"store {store}: holds no cells, so every layout is as good")
    layout = json.loads(attrs["parameters"]).get("layout", "balanced")
    if counted:
        return Sample(product, _zeros(array.dtype, (rows, times)), rate_hz, times, str(path), str(path), layout)
    n = min(max(SAMPLE_BYTES // (rows * array.dtype.itemsize), 1), times)
    about = f"the first {n / rate_hz / 60:.2g} min of {path}"
    return Sample(product, np.asarray(array[:, :n]), rate_hz, times, about, str(path), layout)


def _zeros(dtype: np.dtype[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Of any size, in no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def rate_of(product: str) -> float:
    """Bins or samples a second of a product, Hz; raises PlanRefused if its name does not say."""
    try:
        if product.startswith("counts_"):
            return float(1 / width_from_name(product.removeprefix("counts_")))
        return float(parse_lfp(product).rate_hz) if product.startswith("lfp") else {"ap": 3e4, "lf": 2500.0}[product]
    except (BadArgument, KeyError) as error:
        raise PlanRefused(f"product {product!r}: {error}") from error
