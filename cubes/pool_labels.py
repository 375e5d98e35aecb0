"""The labels of a pool: its units, regions, conditions and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking import pool_schema, schema
from cubes.around import window_time
from cubes.pool_members import Member, open_source
from cubes.pool_recipe import Alignment, Recipe
from loaders.errors import InconsistentData

_OF_UNITS = [name for name in pool_schema.POOLED if name in schema.UNIT and name not in ("unit", "pid")]


def unit_labels(root: Path, members: Sequence[Member]) -> dict[str, xr.Variable]:
    """All coordinates of the units, in the order of the members and of their rows.

    Raises
    ------
    InconsistentData
        If two units have the same uuid.
    """
    metrics, _ = shared_metrics(members)
    parts = [_labels_of(root, member, [*_OF_UNITS, *metrics]) for member in members]
    sources = [member.dataset for member in members]
    joined = {name: _joined([part[name] for part in parts], sources) for name in parts[0]}
    _refuse_twice(joined["unit"].values)
    return {name: xr.Variable("unit", schema.text(v.values), v.attrs) for name, v in joined.items()}


def _joined(parts: Sequence[xr.Variable], sources: Sequence[str]) -> xr.Variable:
    """The labels of all insertions; what their attributes say differently is said for each data set."""
    joined: xr.Variable = xr.Variable.concat(parts, "unit")
    for key in joined.attrs:
        said = {source: part.attrs.get(key, "") for source, part in zip(sources, parts, strict=True)}
        if len(set(map(str, said.values()))) > 1:
            joined.attrs[key] = "; ".join(f"{source}: {value}" for source, value in said.items())
    return joined


def shared_metrics(members: Sequence[Member]) -> tuple[list[str], list[str]]:
    """The quality metrics that all insertions have, of one dtype; and those that some lack."""
    known = {*pool_schema.POOLED, *pool_schema.NOT_POOLED}
    found = sorted({name for member in members for name in member.coordinates} - known)
    shared = [name for name in found if len({member.coordinates.get(name) for member in members}) == 1]
    return shared, [name for name in found if name not in shared]


def regions(acronyms: NDArray[Any]) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """The regions (region,) of some units (unit,), in alphabetical order, and the number of that of each unit."""
    names, numbers = np.unique(acronyms.astype(object), return_inverse=True)
    return names, numbers.astype(np.int64)


def region_labels(acronyms: NDArray[Any], level: str) -> dict[str, xr.Variable]:
    """The regions, and how many units each has."""
    names, numbers = regions(acronyms)
    data = {"region": names, "n_units": np.bincount(numbers, minlength=len(names))}
    labels = {name: schema.to_variable(pool_schema.POOLED[name], values) for name, values in data.items()}
    labels["region"].attrs["level"] = level
    return labels


def alignment_labels(alignment: Alignment, recipe: Recipe) -> dict[str, xr.Variable]:
    """The conditions of an alignment, and the middles of its bins."""
    condition, time = f"condition_{alignment.name}", f"time_{alignment.name}"
    names = np.array(list(alignment.conditions), dtype=object)
    conditions = schema.to_variable(pool_schema.of_alignment(alignment.name)[condition], names)
    conditions.attrs["expressions"] = list(alignment.conditions.values())
    centres = window_time(alignment.window)
    events = {"event": alignment.on}
    for dataset, other in recipe.datasets.items():
        theirs = next(a for a in other.alignments if a.name == alignment.name)
        conditions.attrs[f"expressions_{dataset}"] = list(theirs.conditions.values())
        events[f"event_{dataset}"] = theirs.on
    return {condition: conditions, time: xr.Variable(time, centres.values, centres.attrs | events)}


def _labels_of(root: Path, member: Member, names: Sequence[str]) -> Mapping[str, xr.Variable]:
    """The labels of the wanted units of one insertion."""
    spikes, metadata = open_source(root, member.spikes)
    stored = {name: spikes.variables[name][member.rows].load() for name in ("unit", "uuid", *names)}
    clusters, uuids = stored.pop("unit").values, stored.pop("uuid").values.astype(object)
    unnamed = np.array([f"{member.pid}:{cluster}" for cluster in clusters], dtype=object)
    insertion = {name: np.full(len(clusters), str(metadata.attrs[name]), object) for name in pool_schema.INSERTION}
    insertion["source"] = np.full(len(clusters), member.dataset, object)
    data = {"unit": np.where(uuids == "", unnamed, uuids), "cluster_id": clusters, **insertion}
    return {name: schema.to_variable(pool_schema.POOLED[name], values) for name, values in data.items()} | stored


def _refuse_twice(units: NDArray[Any]) -> None:
    names, counts = np.unique(units.astype(object), return_counts=True)
    if (twice := names[counts > 1]).size:
        raise InconsistentData(
            f"unit: expected every uuid once, got {len(twice)} of them more often, such as {', '.join(twice[:3])}; the "
            "same recording is there under two pids: leave one of them out"
        )
