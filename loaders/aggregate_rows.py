"""Rows of the tables of a catalog from the tables of units and channels of a whole release.

The public bucket has them as ``aggregates/<tag>/clusters.pqt`` and ``channels.pqt``; papers publish others like them.
A row is named by levels of the index, or by columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.errors import InconsistentData
from loaders.regions import LEVELS, VOID_ID, locate, region_rows
from loaders.table_rows import Part, Rows, place
from loaders.table_schema import CHANNELS, METRIC_UNITS, UNITS, Table

if TYPE_CHECKING:
    import pandas as pd

_UNITS = {"channels": "channel", "depths": "depth_um", "uuids": "uuid"}
_KEYS = {"units": ("unit", "cluster_id"), "channels": ("channel", "rawInd", "raw_ind")}


def rows_of_units(table: pd.DataFrame, *, sorter: str | None = None, revision: str | None = None) -> Rows:
    """Units of many insertions.

    Parameters
    ----------
    table : DataFrame
        ``pid`` and ``cluster_id`` as index or columns; ``channels, depths, uuids, label, atlas_id, x, y, z`` and
        quality metrics where it has them.
    sorter, revision : str, optional
        Which sorting the units are of, as the table does not say.

    Raises
    ------
    InconsistentData
        If rows have no name, stand twice, or are called by an acronym that their atlas id does not have.
    """
    rows = _named(table, "units").rename(columns=_UNITS)
    label = rows["label"].astype("Float64") if "label" in rows else None
    good = None if label is None else (label == 1)
    rows = rows.assign(sorter=sorter, revision=revision, good=good, **_places(rows, "units"))
    return _rows(rows, UNITS, table)


def rows_of_channels(table: pd.DataFrame) -> Rows:
    """Recording sites of many insertions, with ``x, y, z`` (m), ``atlas_id``, ``axial_um`` and ``lateral_um``.

    Raises
    ------
    InconsistentData
        As of `rows_of_units`.
    """
    rows = _named(table, "channels")
    return _rows(rows.assign(**_places(rows, "channels")), CHANNELS, table)


def _rows(rows: pd.DataFrame, kind: Table, table: pd.DataFrame) -> Rows:
    known = {*kind.names, *_UNITS, *_KEYS[kind.name], *METRIC_UNITS, "pid", "acronym"}
    unused = sorted(set(map(str, table.columns)) - known)
    notes = (f"{kind.name}: columns that the table does not keep: {', '.join(unused)}",) if unused else ()
    return Rows((Part(kind, rows, ("pid",)),), notes)


def _named(table: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The rows with their names as columns, ``pid`` and that of the kind; two nameless levels are these."""
    ours, *theirs = _KEYS[kind]
    if table.index.nlevels == 2 and not any(table.index.names):
        table = table.rename_axis(index=["pid", ours])
    levels = [name for name in table.index.names if name is not None]
    rows = table.drop(columns=levels, errors="ignore").reset_index() if levels else table.reset_index(drop=True)
    found = next((name for name in (*theirs, ours) if name in rows), None)
    if "pid" not in rows or found is None:
        raise InconsistentData(
            f"table of {kind}: expected pid and {theirs[0]} as levels of the index or as columns, got "
            f"{', '.join(map(str, rows.columns))}"
        )
    return rows.drop(columns=ours, errors="ignore").rename(columns={found: ours}) if found != ours else rows


def _places(rows: pd.DataFrame, kind: str) -> dict[str, Any]:
    """Columns of the place of every row, all from its coordinates and its atlas id."""
    nowhere = np.full(len(rows), np.nan)
    x, y, z = (rows[axis].to_numpy(dtype=np.float64) if axis in rows else nowhere for axis in "xyz")
    if "atlas_id" not in rows:
        missing = {"atlas_id": None, **{f"acronym_{level.lower()}": None for level in LEVELS}}
        return place(locate(x, y, z, np.full(len(rows), VOID_ID))) | missing
    located = locate(x, y, z, rows["atlas_id"].fillna(VOID_ID).to_numpy(dtype=np.int64))
    if "acronym" in rows:
        known = region_rows(located.atlas_id) >= 0
        wrong = known & (rows["acronym"].fillna("void").to_numpy(dtype=object) != located.acronym_allen)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            raise InconsistentData(
                f"table of {kind}: {np.count_nonzero(wrong)} rows are called otherwise than their atlas id, such as "
                f"{located.atlas_id[first]}: expected {located.acronym_allen[first]}, got {rows['acronym'].iloc[first]}"
            )
    return place(located)
