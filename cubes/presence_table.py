"""Which data are there, of many insertions, as a labelled table with CF flags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubes.tables import Tables
from loaders.errors import NotFound
from loaders.presence import MISSING, STATES, UNKNOWN, Presence, of_probe, presence_of
from loaders.records import Catalog, DatasetRecord, Insertion
from loaders.table_rows import session_id

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_LABELS = ("pid", "eid", "probe", "lab", "subject", "date")


def presence(
    source: Catalog | Tables,
    pids: Sequence[str] | None = None,
    *,
    video_qc: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Tell which data of every insertion are complete, which are not, and why.

    Parameters
    ----------
    source : Catalog or Tables
        A source of recordings (``cubes.source``), or the tables of a catalog (``cubes.catalog``).
    pids : sequence of str, optional
        Only these insertions.
    video_qc : mapping of str to mapping, optional
        ``extended_qc`` of sessions by eid, from the database; without it there are no items of video quality.

    Returns
    -------
    Dataset
        ``state(insertion, dataset)`` int8 with ``flag_values`` and ``flag_meanings``: 2 complete, 1 error (the raw data
        are there and what is made from them is not), 0 missing, -1 unknown (the tables of a catalog do not have all
        files of the session); ``reason`` and ``detail`` in words; and ``local``: 1 if all of its files are on
        this machine, 0 if not, -1 if that is not known.

    Raises
    ------
    NotFound
        If one of `pids` is unknown.

    Examples
    --------
    >>> import cubes
    >>> table = cubes.presence(cubes.source("one", "sample"))
    >>> table.state.sel(dataset="sorting").values.tolist(), table.state.attrs["flag_meanings"]
    ([2, 2, 2], 'unknown missing error complete')
    """
    return _dataset(
        list(_of_tables(source, pids, video_qc) if isinstance(source, Tables) else _of_source(source, pids, video_qc))
    )


Row = tuple[Insertion, dict[str, Presence], frozenset[str] | None, bool]
"""An insertion, its items, its files on this machine, and whether all files of its session are known."""


def _of_source(
    source: Catalog, pids: Sequence[str] | None, video_qc: Mapping[str, Mapping[str, Any]] | None
) -> Iterator[Row]:
    for insertion in source.insertions() if pids is None else [source.insertion(pid) for pid in pids]:
        records = source.datasets(insertion)
        local = frozenset(record.rel_path for record in records if record.path.is_file())
        qc = None if video_qc is None else video_qc.get(session_id(insertion))
        yield insertion, presence_of(records, insertion.probe, video_qc=qc, dataset=insertion.dataset), local, True


def _of_tables(
    tables: Tables, pids: Sequence[str] | None, video_qc: Mapping[str, Mapping[str, Any]] | None
) -> Iterator[Row]:
    rows = tables.insertions()
    if pids is not None:
        if unknown := sorted(set(pids) - set(rows["pid"])):
            raise NotFound(f"pid {unknown[0]!r}: not in the catalog {tables.folder}")
        rows = rows[rows["pid"].isin(list(pids))]
    sessions = tables.sessions()
    complete = set(sessions.loc[sessions["files_listed"].fillna(False), "eid"])
    files = {str(eid): of_session for eid, of_session in tables.datasets().groupby("eid")}
    for row in _plain(rows):
        labels = {name: row[name] or "" for name in (*_LABELS, "model")}
        found = _plain(files[row["eid"]]) if row["eid"] in files else []
        versions = {file["rel_path"]: file["version"] for file in found if file["version"]}
        items = presence_of(
            map(_record, found),
            labels["probe"],
            histology=row["histology"],
            video_qc=None if video_qc is None else video_qc.get(labels["eid"]),
            versions=versions,
            dataset=row["dataset"] or "ibl",
        )
        whole = row["eid"] in complete
        yield (
            Insertion(**labels, number=row["number"] or 0, dataset=row["dataset"] or "ibl"),
            {
                name: p.unless_unlisted(whole or (of_probe(name) and row["files_listed"] is True))
                for name, p in items.items()
            },
            None,
            whole,
        )


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts, with None for what is missing."""
    plain = rows.astype(object).where(rows.notna(), None)
    return [dict(zip(plain.columns, values, strict=True)) for values in plain.to_numpy()]


def _record(row: Mapping[str, Any]) -> DatasetRecord:
    names = ("rel_path", "collection", "revision", "name", "size", "md5", "blake2b")
    facts = {name: row[name] for name in names}
    return DatasetRecord(**facts, path=Path(row["rel_path"]), default=bool(row["default"]), id=row["id"] or "")


def _absent(item: str, whole: bool) -> Presence:
    """What an item is for a session that does not have it, while others do."""
    if item.endswith(".qc"):
        return Presence(UNKNOWN, "the database was not asked")
    reason = "the session has no such task" if item.startswith("passive") else "its data set has no such item"
    return Presence(MISSING, reason).unless_unlisted(whole)


def _dataset(rows: Sequence[Row]) -> xr.Dataset:
    import xarray as xr

    items = list(dict.fromkeys(name for row in rows for name in row[1]))
    table = [[(found.get(name) or _absent(name, whole), local) for name in items] for _, found, local, whole in rows]

    def grid(values: Iterable[list[Any]], dtype: Any) -> Any:
        return ("insertion", "dataset"), np.array(list(values), dtype=dtype).reshape(len(rows), len(items))

    here = {True: 1, False: 0, None: -1}
    flags = {"flag_values": np.array(list(STATES.values()), dtype=np.int8), "flag_meanings": " ".join(STATES)}
    dataset = xr.Dataset(
        {
            "state": grid([[p.state for p, _ in row] for row in table], np.int8),
            "reason": grid([[p.reason for p, _ in row] for row in table], object),
            "detail": grid([[p.detail for p, _ in row] for row in table], object),
            "local": grid([[here[p.is_local(local)] for p, local in row] for row in table], np.int8),
        },
        coords={"dataset": np.array(items, dtype=object)}
        | {name: ("insertion", np.array([getattr(i, name) for i, *_ in rows], dtype=object)) for name in _LABELS},
    )
    dataset["state"].attrs = {"long_name": "whether the data are there", **flags}
    dataset["local"].attrs = {
        "long_name": "whether all its files are on this machine",
        "flag_values": np.array([-1, 0, 1], dtype=np.int8),
        "flag_meanings": "unknown elsewhere local",
    }
    return dataset
