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
from loaders.records import Insertion
from loaders.session_files import session_id
from loaders.table_filters import Sieve

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True, eq=False, slots=True)
class Member:
    """One insertion of a pool.

    Attributes
    ----------
    pid : str
    spikes, trials : SourceStore
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
    trials: SourceStore
    rows: NDArray[np.int64]
    coordinates: Mapping[str, str]
    n_spikes: int


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
        kind = "spikes damaged"
        try:
            spikes = _checked(stores["spikes"])
            kind = "no units that are wanted"
            rows = _wanted_rows(spikes, recipe.units)
            kind = "no trials"
            trials = _checked(read_metadata(trials_store(root, spikes)))
            kind = "no trials of the recipe"
            if (columns := _columns(trials, "trial")) not in usable:
                _refuse_unusable_trials(dict(columns), recipe)
                usable.add(columns)
        except CubesError as error:
            left_out[pid] = LeftOut(kind, error)
        else:
            known = dict(_columns(spikes, "unit")), int(spikes.attrs["n_spikes"])
            members.append(Member(pid, _version(root, spikes), _version(root, trials), rows, *known))
    return members, left_out


def _version(root: Path, store: Metadata) -> SourceStore:
    return SourceStore(_path(store).relative_to(root.absolute()).as_posix(), store.build_key)


def _path(store: Metadata) -> Path:
    if isinstance(store.path, Path):
        return store.path
    raise StoreError(f"store {store.path.name}: expected a Zarr store in a folder, which is all that can be pooled")


def trials_store(root: Path, spikes: Metadata) -> Path:
    """Where the trials of the session of an insertion lie."""
    insertion = Insertion(**{name: spikes.attrs[name] for name in IDENTITY})
    return root / "sessions" / session_id(insertion) / "trials.zarr"


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


def _refuse_unusable_trials(columns: Mapping[str, str], recipe: Recipe) -> None:
    """Raise BadArgument unless trials of these columns have all that a recipe asks for."""
    for alignment in recipe.alignments:
        if columns.get(alignment.on) != "float64":
            raise BadArgument(
                f"recipe {recipe.name}: alignments.{alignment.name}.on: expected one of the times of the trials, "
                f"{', '.join(name for name in columns if name.endswith('_times')) or 'none'}, got {alignment.on!r}"
            )
        for expression in alignment.conditions.values():
            _evaluate(columns, expression, "trials")
    if recipe.trials:
        _evaluate(columns, recipe.trials, "trials")


def _evaluate(columns: Mapping[str, str], expression: str, what: str) -> None:
    """Raise BadArgument, which names all columns, if an expression cannot be evaluated for rows of these columns."""
    import pandas as pd

    dtypes = {name: "str" if dtype == "string" else dtype for name, dtype in columns.items()}
    rows_where(pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()}), expression, what)


def _columns(metadata: Metadata, dim: str) -> tuple[tuple[str, str], ...]:
    """The variables along one dimension, each with its dtype."""
    arrays = metadata.arrays.items()
    return tuple((name, a["data_type"]) for name, a in sorted(arrays) if a["dimension_names"] == [dim])


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Text as objects, which pandas compares with text."""
    return values.astype(object) if values.dtype.kind == "T" else values
