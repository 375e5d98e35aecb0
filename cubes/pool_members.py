"""Which insertions go into a pool, which of their units, and why others do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chunking.homes import Folder
from chunking.manifest import verify_store
from chunking.provenance import SourceStore
from cubes.lazy_store import Metadata, lazy_dataset, read_metadata
from cubes.opening import IDENTITY
from cubes.opening_many import find_metadata
from cubes.pool_recipe import Recipe
from loaders.errors import BadArgument, CubesError, InconsistentData, NotFound, StoreError
from loaders.formats import dataset_of
from loaders.records import Insertion
from loaders.session_files import session_id
from loaders.table_filters import Sieve

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


_TIMES = ("times", "_time")


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """One insertion of a pool.

    Attributes
    ----------
    pid : str
    spikes, events : SourceStore
        Which version of which stores is read.
    rows : (unit,) int64
        The units that are wanted, as rows of the store of the spikes.
    coordinates : mapping of str to str
        The labels of the units, each with its dtype.
    n_spikes : int
        Of all its units.
    """

    pid: str
    spikes: SourceStore
    events: SourceStore
    rows: NDArray[np.int64]
    coordinates: Mapping[str, str]
    n_spikes: int

    @property
    def dataset(self) -> str:
        """The data set that it is of."""
        return dataset_of(self.pid)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Why an insertion is not in a pool: what kind of reason, and the error."""

    kind: str
    error: CubesError


def find_members(
    root: Path, query: str | None, pids: Iterable[str] | None, recipe: Recipe
) -> tuple[list[Member], dict[str, LeftOut]]:
    """The insertions that fit, in the order of their pids, and those that are left out.

    Reads the metadata of the stores, and of the labels of the units those that the recipe asks about.

    Raises
    ------
    NotFound
        If there is no such root or insertion.
    BadArgument
        If the query cannot be used. Of an expression of the recipe that is the reason why insertions are left out.
    """
    found, failed = find_metadata(Folder(root), pids, ["spikes"], query)
    left_out = {path.partition("/")[0]: LeftOut("no spikes", error) for path, error in failed.items()}
    members = []
    usable: set[Any] = set()
    for pid, stores in found.items():
        ours = recipe.of(dataset_of(pid))
        kind = "spikes damaged"
        try:
            spikes = _checked(stores["spikes"])
            kind = "no units that are wanted"
            rows = _wanted_rows(spikes, ours.units)
            kind = f"no {ours.events}"
            events = _checked(read_metadata(events_store(root, spikes, ours.events)))
            kind = f"no {ours.events} of the recipe"
            columns = _columns(events, _events_dim(events, ours))
            if (dataset_of(pid), columns) not in usable:
                _refuse_unusable_events(dict(columns), ours)
                usable.add((dataset_of(pid), columns))
        except CubesError as error:
            left_out[pid] = LeftOut(kind, error)
        else:
            known = dict(_columns(spikes, "unit")), int(spikes.attrs["n_spikes"])
            members.append(Member(pid, _version(root, spikes), _version(root, events), rows, *known))
    return members, left_out


def _version(root: Path, store: Metadata) -> SourceStore:
    return SourceStore(_path(store).relative_to(root.absolute()).as_posix(), store.build_key)


def _path(store: Metadata) -> Path:
    if isinstance(store.path, Path):
        return store.path
    raise StoreError(f"store {store.path.name}: expected a Zarr store in a folder, which is all that can be pooled")


def events_store(root: Path, spikes: Metadata, events: str) -> Path:
    """Where the events of the session of an insertion lie, such as its trials."""
    insertion = Insertion(**{name: spikes.attrs[name] for name in IDENTITY})
    return root / "sessions" / session_id(insertion) / f"{events}.zarr"


def open_source(root: Path, source: SourceStore) -> tuple[xr.Dataset, Metadata]:
    """A source store, lazily, with its metadata.

    Raises
    ------
    InconsistentData
        If it was replaced since it was chosen.
    """
    metadata = read_metadata(root / source.rel_path)
    if metadata.build_key != source.build_key:
        raise InconsistentData(f"store {root / source.rel_path}: was replaced since the pool was planned; pool again")
    return lazy_dataset(metadata), metadata


def unit_frame(ds: xr.Dataset, names: Iterable[str]) -> pd.DataFrame:
    """Variables of one dimension as a table."""
    import pandas as pd

    return pd.DataFrame({name: _plain(ds.variables[name].values) for name in names})


def names_in(expressions: Iterable[str], known: Iterable[str]) -> list[str]:
    """Which of the known names occur in some expressions."""
    words = {word for text in expressions for word in re.findall(r"[A-Za-z_]\w*", text)}
    return [name for name in known if name in words]


def rows_where(frame: pd.DataFrame, expression: str, what: str) -> NDArray[np.int64]:
    """Rows of a table for which an expression is true."""
    sieve = Sieve(frame, what)
    sieve.query(expression)
    return np.asarray(sieve.rows.index, np.int64)


def _checked(metadata: Metadata) -> Metadata:
    """The metadata of a store of which no file is missing or cut."""
    if problems := verify_store(_path(metadata), quick=True):
        raise StoreError(
            f"store {metadata.path}: is damaged ({problems[0].key}: {problems[0].what}); remove it and build it again"
        )
    return metadata


def _wanted_rows(spikes: Metadata, units: str) -> NDArray[np.int64]:
    pid, ds = spikes.attrs["pid"], lazy_dataset(spikes)
    n = ds.sizes["unit"]
    if units == "all":
        rows = np.arange(n)
    else:
        expression = "good" if units == "good" else units
        known = _columns(spikes, "unit")
        _evaluate(dict(known), expression, "units")
        rows = rows_where(unit_frame(ds, names_in([expression], dict(known))), expression, "units")
    if not len(rows):
        raise NotFound(f"pid {pid}: none of its {n} units is wanted ({units})")
    return rows


def _events_dim(events: Metadata, recipe: Recipe) -> str | None:
    """The dimension of the events that a recipe asks for; None if none of them is there.

    Raises
    ------
    BadArgument
        If they are along several.
    """
    named = (events.arrays[a.on]["dimension_names"] for a in recipe.alignments if a.on in events.arrays)
    dims = {tuple(names) for names in named if len(names) == 1}
    if len(dims) > 1:
        raise BadArgument(
            f"recipe {recipe.name}: on: expected times along one dimension of {recipe.events}, got {dims}"
        )
    return str(next(iter(dims))[0]) if dims else None


def _refuse_unusable_events(columns: Mapping[str, str], recipe: Recipe) -> None:
    """Raise BadArgument unless events of these columns have all that a recipe asks for."""
    for alignment in recipe.alignments:
        if columns.get(alignment.on) != "float64":
            times = ", ".join(name for name in columns if name.endswith(_TIMES)) or "none"
            raise BadArgument(
                f"recipe {recipe.name}: alignments.{alignment.name}.on: expected one of the times of the "
                f"{recipe.events}, {times}, got {alignment.on!r}"
            )
        for expression in alignment.conditions.values():
            _evaluate(columns, expression, recipe.events)
    if recipe.trials:
        _evaluate(columns, recipe.trials, recipe.events)


def _evaluate(columns: Mapping[str, str], expression: str, what: str) -> None:
    """Raise BadArgument, which names all columns, if an expression cannot be evaluated for rows of these columns."""
    import pandas as pd

    dtypes = {name: "str" if dtype == "string" else dtype for name, dtype in columns.items()}
    rows_where(pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()}), expression, what)


def _columns(metadata: Metadata, dim: str | None) -> tuple[tuple[str, str], ...]:
    """The variables along one dimension, or along any, each with its dtype."""
    dims = {name: a["dimension_names"] for name, a in metadata.arrays.items()}
    wanted = [name for name in sorted(dims) if (dims[name] == [dim] if dim else len(dims[name]) == 1)]
    return tuple((name, metadata.arrays[name]["data_type"]) for name in wanted)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Text as objects, which pandas compares with text."""
    return values.astype(object) if values.dtype.kind == "T" else values
