"""Rows of the tables of a catalog from records: insertions, files, units and sites. No spikes are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from loaders.errors import CorruptData, InconsistentData, NotFound
from loaders.formats import format_of
from loaders.records import Catalog, Channels, DatasetRecord, Insertion, Locations, Units
from loaders.releases import release
from loaders.table_schema import CHANNELS, DATASETS, INSERTIONS, METRIC_UNITS, SESSIONS, TABLES, UNITS, Table, conform

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Part:
    """Rows for one table; `scope` says which old rows they replace, as in `loaders.table_files.merge`."""

    table: Table
    rows: pd.DataFrame
    scope: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a source gives: parts of tables, and in words what was odd."""

    parts: tuple[Part, ...]
    notes: tuple[str, ...] = ()


@runtime_checkable
class Tabled(Protocol):
    """A catalog that has tables of all units and sites, so that no file of a session is needed."""

    def table_rows(
        self, insertions: Sequence[Insertion], *, sorter: str | None = None, revision: str | None = None
    ) -> tuple[Mapping[str, pd.DataFrame], list[str]]:
        """Rows for some of the tables, by their names, and what was noticed."""
        ...


_SCOPES: dict[str, tuple[str, ...]] = {"units": ("pid",), "channels": ("pid",), "sessions": ("eid",)}


def rows_of_catalog(
    catalog: Catalog,
    pids: Sequence[str] | None = None,
    *,
    units: bool = True,
    sorter: str | None = None,
    revision: str | None = None,
) -> Rows:
    """All that a catalog of recordings knows.

    Parameters
    ----------
    catalog : Catalog
    pids : sequence of str, optional
        Only these insertions.
    units : bool
        Also read the units and sites of every insertion (its small files, not its spikes).
    sorter, revision : str, optional
        Exact choice of the sorting. An insertion that does not have it, or whose tables are damaged, is told in a
        note and has no units.
    """
    insertions = catalog.insertions() if pids is None else [catalog.insertion(pid) for pid in pids]
    datasets = {session_id(insertion): catalog.datasets(insertion) for insertion in insertions}
    parts = [*_identities(insertions), _files(datasets)]
    if not units:
        return Rows(tuple(parts))
    if isinstance(catalog, Tabled):
        tables, noticed = catalog.table_rows(insertions, sorter=sorter, revision=revision)
        parts += [Part(TABLES[name], rows, _SCOPES[name]) for name, rows in tables.items()]
        return Rows(tuple(parts), tuple(noticed))
    found, notes = [], []
    for insertion in insertions:
        try:
            sites, of_probe = format_of(insertion).units(catalog, insertion.pid, sorter=sorter, revision=revision)
        except (NotFound, CorruptData, InconsistentData) as error:
            notes.append(f"no units: {error}")
            continue
        rows = _units(insertion.pid, of_probe, sites.channels, sites.sorter, sites.revision)
        found.append((rows, _channels(insertion.pid, sites.channels)))
    if found:
        parts += [
            _together(table, rows) for table, rows in zip((UNITS, CHANNELS), zip(*found, strict=True), strict=True)
        ]
    return Rows(tuple(parts), tuple(notes))


def rows_of_release(name: str) -> Rows:
    """The insertions and sessions of a release."""
    table = release(name).rename(columns={"note": "comment"})
    table["comment"] = table["comment"].where(table["comment"] != "")
    sessions = table.dropna(subset="eid").drop_duplicates("eid")
    return Rows((Part(INSERTIONS, table, ("pid",)), Part(SESSIONS, sessions, ("eid",))))


def rows_of_sessions(table: pd.DataFrame) -> Rows:
    """The sessions of a ONE cache table ``sessions.pqt``, whose index is the eid."""
    sessions = table.rename_axis(index="eid").reset_index()
    if sessions["date"].dtype == object:
        sessions["date"] = sessions["date"].astype(str)
    return Rows((Part(SESSIONS, sessions, ("eid",)),))


def _together(table: Table, rows: Iterable[pd.DataFrame]) -> Part:
    """Rows of many insertions as one part: a table on disk is written once."""
    import pandas as pd

    return Part(table, pd.concat([conform(of_one, table) for of_one in rows], ignore_index=True), ("pid",))


def session_id(insertion: Insertion) -> str:
    """The eid, or where there is no database the session that the pid is called after."""
    return insertion.eid or insertion.pid.removesuffix(f"_{insertion.probe}")


def _identities(insertions: Iterable[Insertion]) -> list[Part]:
    import pandas as pd

    names = ("pid", "probe", "lab", "subject", "date", "model", "comment", "dataset")
    rows = pd.DataFrame(
        [
            {name: getattr(insertion, name) or None for name in names}
            | {"eid": session_id(insertion), "number": insertion.number or None, "files_listed": True}
            for insertion in insertions
        ]
    )
    return [Part(INSERTIONS, rows, ("pid",)), Part(SESSIONS, rows.drop_duplicates("eid"), ("eid",))]


def _files(datasets: dict[str, list[DatasetRecord]]) -> Part:
    import pandas as pd

    names = ("rel_path", "collection", "revision", "name", "size", "md5", "blake2b", "default")
    rows = [
        {
            "eid": eid,
            "id": record.id or None,
            "url": record.url or None,
            **{name: getattr(record, name) for name in names},
        }
        for eid, records in datasets.items()
        for record in records
    ]
    return Part(DATASETS, pd.DataFrame(rows), ("eid",))


def place(locations: Locations) -> dict[str, Any]:
    """Columns of a place in the brain; an unknown hemisphere is missing."""
    names = (
        *("atlas_id", "acronym_allen", "acronym_beryl", "acronym_cosmos", "acronym_swanson"),
        *("x", "y", "z", "ccf_ap", "ccf_dv", "ccf_ml"),
    )
    hemisphere = [None if side == "unknown" else side for side in locations.hemisphere]
    return {name: getattr(locations, name) for name in names} | {"hemisphere": np.array(hemisphere, dtype=object)}


def _units(pid: str, units: Units, channels: Channels, sorter: str, revision: str) -> pd.DataFrame:
    import pandas as pd

    rows = pd.DataFrame(
        {
            "unit": np.arange(len(units)),
            "uuid": [uuid or None for uuid in units.uuid],
            "channel": units.channel,
            "depth_um": units.depth_um,
            "label": units.label,
            "good": [None if np.isnan(label) else bool(label == 1) for label in units.label],
            **{name: values[units.channel] for name, values in place(channels.locations).items()},
            **{name: units.metrics[name] for name in METRIC_UNITS if name in units.metrics},
        }
    )
    return rows.assign(pid=pid, sorter=sorter, revision=revision)


def _channels(pid: str, channels: Channels) -> pd.DataFrame:
    import pandas as pd

    columns = {"channel": np.arange(len(channels)), "lateral_um": channels.lateral_um, "axial_um": channels.axial_um}
    return pd.DataFrame({**columns, **place(channels.locations)}).assign(pid=pid)
