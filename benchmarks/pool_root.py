"""A root of generated insertions and sessions, as `cubes.pool` reads them: stores of spikes and of trials."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import encode
from chunking.build import build_one
from chunking.plan import StorePlan
from chunking.products import Product
from chunking.provenance import build_key, software
from chunking.publish import complete, publish
from chunking.schema import CONVENTIONS
from chunking.sorting_products import SpikesProduct
from loaders.records import Channels, Insertion, Sorting, SourceFile, Spikes, Units
from loaders.regions import locate

REGIONS = {"VISp": 385, "TH": 549, "CA1": 382, "void": 0}


@dataclass(frozen=True)
class OneSorting:
    """The inputs of a product of a sorting."""

    sorting: Sorting

    @property
    def row_size(self) -> np.ndarray:
        return np.bincount(self.sorting.spikes.clusters, minlength=len(self.sorting.units))


@dataclass(frozen=True)
class Given:
    """A product that knows its inputs."""

    product: Product
    inputs: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.product, name)

    def origin(self, inputs: object) -> Any:
        return self.product.origin(self.inputs)

    def labels(self, inputs: object) -> Any:
        return self.product.labels(self.inputs)

    def blocks(self, inputs: object, *rest: Any) -> Any:
        return self.product.blocks(self.inputs, *rest)

    def check_source(self, inputs: object) -> None:
        self.product.check_source(self.inputs)


def write_spikes(
    root: Path,
    insertion: Insertion,
    trains: Sequence[NDArray[np.float64]],
    label: NDArray[np.float64],
    atlas_id: NDArray[np.int64],
    uuid: Sequence[str],
    metrics: Mapping[str, NDArray[Any]] | None = None,
) -> Path:
    """The store ``spikes`` of an insertion, made by the product itself."""
    n = len(trains)
    times = np.concatenate(trains) if n else np.zeros(0)
    order = np.argsort(times, kind="stable")
    clusters = np.repeat(np.arange(n), [len(train) for train in trains])[order]
    times = times[order]
    place = np.linspace(-0.002, 0.002, n)
    channels = Channels(
        np.arange(n), place * 0, place * 0, locate(place, place - 0.001, place - 0.003, atlas_id), "alf"
    )
    units = Units(np.array(uuid, dtype=object), np.arange(n), np.arange(n) * 20.0, label, label == 1, metrics or {})
    digest = hashlib.md5(times.tobytes() + clusters.tobytes() + label.tobytes()).hexdigest()
    source = SourceFile("alf/spikes.times.npy", "", times.nbytes, digest)
    spikes = Spikes(times, clusters, times * 0, times * 0)
    sorting = Sorting(insertion, "generated", "", "alf", spikes, units, channels, (source,))
    product, inputs = SpikesProduct(), OneSorting(sorting)
    arrays, regions = product.arrays(inputs)  # type: ignore[arg-type]
    key = build_key(product.origin(inputs), product.name, product.parameters)  # type: ignore[arg-type]
    path = f"insertions/{insertion.pid}/spikes.zarr"
    plan = StorePlan(insertion.pid, "spikes", path, "generated", "", arrays, regions, 0, 0, 0, key, exists=False)
    given: Any = Given(product, inputs)
    return build_one(root, plan, given, existing="replace", executor="serial", workers=1)


def write_trials(root: Path, eid: str, trials: Mapping[str, NDArray[Any]]) -> Path:
    """The store ``trials`` of a session: the columns, along ``trial``."""
    key = hashlib.md5(b"".join(np.asarray(values).tobytes() for values in trials.values())).hexdigest()
    columns = {name: ("trial", values) for name, values in trials.items()}
    ds = xr.Dataset(columns, {"trial": np.arange(len(next(iter(trials.values()))))})
    folder = root / f"{eid}.trials"
    encode.create_arrays(folder, ())
    encode.write_labels(folder, ds.assign_attrs(Conventions=CONVENTIONS, product="trials", eid=eid, build_key=key))
    encode.consolidate(folder)
    final = root / "sessions" / eid / "trials.zarr"
    complete(folder, final, {}, {"product": "trials", "build_key": key, "software": software()})
    publish(folder, final)
    return final


def random_trials(rng: np.random.Generator, n: int, stop_s: float) -> dict[str, NDArray[Any]]:
    """The columns of trials that the brain-wide map recipe needs, with some missing."""
    start = np.linspace(5, stop_s - 5, n) + rng.uniform(-1, 1, n)
    on_left = rng.random(n) < 0.5
    contrast = rng.choice([0.0, 0.0625, 0.125, 0.25, 1.0], n)
    reaction = rng.uniform(0.05, 0.5, n)
    moved = np.where(rng.random(n) < 0.05, np.nan, start + reaction)
    correct = rng.random(n) < 0.8
    return {
        "stimOn_times": start,
        "firstMovement_times": moved,
        "feedback_times": start + reaction + 0.2,
        "contrastLeft": np.where(on_left, contrast, np.nan),
        "contrastRight": np.where(on_left, np.nan, contrast),
        "choice": np.where(on_left == correct, 1.0, -1.0),
        "feedbackType": np.where(correct, 1.0, -1.0),
        "probabilityLeft": np.repeat([0.5, 0.2, 0.8, 0.2], -(-n // 4))[:n],
        "bwm_include": ~np.isnan(moved) & (reaction >= 0.08),
    }
