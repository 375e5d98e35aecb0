"""A table of insertions, such as a release -> `Insertion` records by pid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from loaders.alf_paths import check_pid
from loaders.errors import BadArgument
from loaders.records import Insertion

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("pid", "eid", "probe", "lab", "subject", "date", "number")


def insertions_by_pid(table: pd.DataFrame | Iterable[Insertion]) -> dict[str, Insertion]:
    """The insertions of a table, sorted as all catalogs do.

    Parameters
    ----------
    table : DataFrame or iterable of Insertion
        A DataFrame has the columns ``pid, eid, probe, lab, subject, date`` (text) and ``number``.

    Raises
    ------
    BadArgument
        If a column or value is missing, or a pid stands there twice.
    """
    import pandas as pd

    found = _rows(table) if isinstance(table, pd.DataFrame) else list(table)
    by_pid = {check_pid(insertion.pid): insertion for insertion in in_order(found)}
    if len(by_pid) < len(found):
        raise BadArgument(f"insertions: expected every pid once, got {len(found)} rows with {len(by_pid)} pids")
    return by_pid


def in_order(insertions: Iterable[Insertion]) -> list[Insertion]:
    """Insertions by subject, date, number and probe: the order of every catalog."""
    return sorted(insertions, key=lambda i: (i.subject, i.date, i.number, i.probe))


def _rows(table: pd.DataFrame) -> list[Insertion]:
    if missing := [name for name in COLUMNS if name not in table.columns]:
        raise BadArgument(f"insertions: expected the columns {', '.join(COLUMNS)}; {', '.join(missing)} are missing")
    rows = table[list(COLUMNS)]
    if rows.isna().any(axis=None):
        raise BadArgument("insertions: expected a value in every row and column, got some that are missing")
    return [_insertion(row) for row in rows.to_dict("records")]


def _insertion(row: dict[Any, Any]) -> Insertion:
    texts = {name: str(row[name]) for name in COLUMNS if name != "number"}
    return Insertion(**texts | {"date": texts["date"][:10]}, number=int(row["number"]))
