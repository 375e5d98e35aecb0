"""The tables of a catalog: what exists, kept on this machine, asked without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cubes.sources import source as open_source
from loaders import table_files
from loaders.aggregate_rows import rows_of_channels, rows_of_units
from loaders.alyx_rows import rows_of_alyx
from loaders.errors import BadArgument, NotFound
from loaders.readers import read_table
from loaders.records import Catalog
from loaders.region_tree import region_ids
from loaders.regions import VOID_ID
from loaders.releases import release as release_table
from loaders.table_filters import Names, Sieve
from loaders.table_rows import Rows, rows_of_catalog, rows_of_release, rows_of_sessions
from loaders.table_schema import CHANNELS, DATASETS, INSERTIONS, SESSIONS, TABLES, UNITS, Table

if TYPE_CHECKING:
    import pandas as pd

Dates = tuple[str | None, str | None]
_OF_INSERTION = ["pid", "eid", "probe", "lab", "subject", "date"]


def catalog(folder: str | Path) -> Tables:
    """Open the tables of what exists, to fill them or to ask them.

    Parameters
    ----------
    folder : path
        A root of stores, whose tables lie in ``<folder>/catalog``; or that folder itself. It need not exist yet.

    Returns
    -------
    Tables
        With ``add_*`` methods that fill it, and ``sessions, insertions, units, channels, datasets`` that ask it.

    Raises
    ------
    NotFound
        When asked for a table that was never filled.

    Examples
    --------
    >>> import cubes
    >>> catalog = cubes.catalog("my-cubes")
    >>> notes = catalog.add_source(cubes.source("one", "sample"))
    >>> found = catalog.insertions(region="CA1", min_good_units=1)
    >>> found.attrs["hidden"][0]["why"], len(found) > 0
    ('no unit and no site in CA1', True)
    """
    folder = Path(folder)
    has_tables = any((folder / f"{name}.parquet").is_file() for name in TABLES)
    return Tables(folder if has_tables and not (folder / "catalog").is_dir() else folder / "catalog")


class Tables:
    """Parquet tables of sessions, insertions, units, channels and datasets in a folder.

    Every ``add_*`` method merges what a source knows into the tables and returns in words what was odd. Every query
    returns a DataFrame whose ``attrs["hidden"]`` says of each filter how many rows it hid and why.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        """Folder and rows."""
        rows = {name: len(table_files.read(self.folder, table, table.key)) for name, table in TABLES.items()}
        return f"Tables({str(self.folder)!r}: {', '.join(f'{n:,} {name}' for name, n in rows.items())})"

    def add_source(
        self,
        source: Catalog | str | Path,
        pids: Sequence[str] | None = None,
        *,
        units: bool = True,
        sorter: str | None = None,
        revision: str | None = None,
    ) -> list[str]:
        """Add what a source of recordings has: insertions, files, and units and sites unless `units` is false."""
        opened = open_source("auto", source) if isinstance(source, str | Path) else source
        return self._add(rows_of_catalog(opened, pids, units=units, sorter=sorter, revision=revision))

    def add_release(self, name: str) -> list[str]:
        """Add the insertions and sessions of a release."""
        return self._add(rows_of_release(name))

    def add_alyx(self, answer: object) -> list[str]:
        """Add recorded answers of the database, as JSON: insertions, sessions, datasets, pages or lists of them."""
        return self._add(rows_of_alyx(answer))

    def add_sessions(self, table: pd.DataFrame | str | Path) -> list[str]:
        """Add the table of sessions of a ONE cache."""
        return self._add(rows_of_sessions(_table(table)))

    def add_units(
        self, table: pd.DataFrame | str | Path, *, sorter: str | None = None, revision: str | None = None
    ) -> list[str]:
        """Add a table of units of many insertions, such as ``aggregates/<tag>/clusters.pqt`` of the public bucket."""
        return self._add(rows_of_units(_table(table), sorter=sorter, revision=revision))

    def add_channels(self, table: pd.DataFrame | str | Path) -> list[str]:
        """Add a table of sites of many insertions, such as ``aggregates/<tag>/channels.pqt``."""
        return self._add(rows_of_channels(_table(table)))

    def sessions(
        self, *, lab: Names = None, subject: Names = None, date: Dates | None = None, query: str | None = None
    ) -> pd.DataFrame:
        """Sessions, by lab, subject, dates (first, last) or any expression over the columns."""
        sieve = Sieve(self._read(SESSIONS), "sessions")
        return _recorded(sieve, lab, subject, date, query).result()

    def insertions(
        self,
        *,
        region: Names = None,
        mapping: str = "Allen",
        min_good_units: int | None = None,
        release: str | None = None,
        lab: Names = None,
        subject: Names = None,
        date: Dates | None = None,
        query: str | None = None,
    ) -> pd.DataFrame:
        """Insertions.

        Parameters
        ----------
        region : str or iterable of str, optional
            Any of these regions, of any depth; all that lies within counts. The answer then has the columns
            ``units_in_region``, ``good_units_in_region`` and ``channels_in_region``.
        mapping : {"Allen", "Beryl", "Cosmos", "Swanson"}
            At which level places are named.
        min_good_units : int, optional
            At least so many good units; in the region, if there is one.
        release : str, optional
            Only those of a release.
        lab, subject : str or iterable of str, optional
        date : (str or None, str or None), optional
            First and last day, YYYY-MM-DD.
        query : str, optional
            An expression over the columns, such as ``"model == '3B2' and alignment_resolved"``.
        """
        sieve = Sieve(self._read(INSERTIONS), "insertions")
        if release is not None:
            sieve.keep(sieve.rows["pid"].isin(release_table(release)["pid"]), f"not in release {release}")
        if region is not None:
            self._keep_in_region(sieve, region, mapping)
        _recorded(sieve, lab, subject, date, query)
        sieve.at_least("n_good_units" if region is None else "good_units_in_region", min_good_units)
        return sieve.result()

    def units(
        self,
        *,
        region: Names = None,
        mapping: str = "Allen",
        hemisphere: str | None = None,
        label: float | None = None,
        pid: Names = None,
        lab: Names = None,
        subject: Names = None,
        date: Dates | None = None,
        query: str | None = None,
    ) -> pd.DataFrame:
        """Units with their insertion; `label` is the least quality, 1 for good units. Else as `insertions`."""
        sieve = self._with_insertions(UNITS)
        _placed(sieve, region, mapping, hemisphere)
        sieve.at_least("label", label)
        sieve.names("pid", pid)
        return _recorded(sieve, lab, subject, date, query).result()

    def channels(
        self,
        *,
        region: Names = None,
        mapping: str = "Allen",
        hemisphere: str | None = None,
        pid: Names = None,
        lab: Names = None,
        subject: Names = None,
        date: Dates | None = None,
        query: str | None = None,
    ) -> pd.DataFrame:
        """Recording sites with their insertion; as `units`."""
        sieve = self._with_insertions(CHANNELS)
        _placed(sieve, region, mapping, hemisphere)
        sieve.names("pid", pid)
        return _recorded(sieve, lab, subject, date, query).result()

    def datasets(self, *, eid: Names = None, query: str | None = None) -> pd.DataFrame:
        """Files of sessions."""
        sieve = Sieve(self._read(DATASETS), "datasets")
        sieve.names("eid", eid)
        sieve.query(query)
        return sieve.result()

    def _add(self, rows: Rows) -> list[str]:
        with table_files.locked(self.folder):
            for part in rows.parts:
                table_files.update(self.folder, part.table, part.rows, part.scope)
            if {part.table.name for part in rows.parts} & {"units", "insertions"}:
                counts = _count_units(table_files.read(self.folder, UNITS, ["pid", "good"]))
                table_files.update(self.folder, INSERTIONS, counts, ["pid"])
        return list(rows.notes)

    def _read(self, table: Table) -> pd.DataFrame:
        if not (self.folder / f"{table.name}.parquet").is_file():
            raise NotFound(
                f"catalog {self.folder}: has no table of {table.name} yet; add a source, a release or tables to it"
            )
        return table_files.read(self.folder, table)

    def _with_insertions(self, table: Table) -> Sieve:
        insertions = table_files.read(self.folder, INSERTIONS, _OF_INSERTION)
        return Sieve(self._read(table).merge(insertions, on="pid", how="left"), table.name)

    def _keep_in_region(self, sieve: Sieve, region: Names, mapping: str) -> None:
        """Count units and sites in the region, and keep insertions that have one."""
        ids = _ids(region, mapping)
        rows = sieve.rows.copy()
        pids = rows["pid"]
        found, placed = pids.isna(), pids.isna()
        for table in (UNITS, CHANNELS):
            columns = ["pid", "atlas_id", *(["good"] if table is UNITS else [])]
            sites = table_files.read(self.folder, table, columns)
            inside = sites[sites["atlas_id"].abs().isin(ids)]
            counted = {table.name: inside["pid"]}
            if table is UNITS:
                counted["good_units"] = inside.loc[inside["good"].fillna(False), "pid"]
            for name, which in counted.items():
                counts = pids.map(which.value_counts()).astype("Int64").fillna(0)
                rows[f"{name}_in_region"] = counts.where(pids.isin(sites["pid"].unique()))
            found |= pids.isin(inside["pid"].unique())
            placed |= pids.isin(sites.loc[sites["atlas_id"].fillna(VOID_ID) != VOID_ID, "pid"].unique())
        sieve.rows = rows
        where = f"no unit and no site in {_words(region)}"
        sieve.keep(found.astype("boolean").where(placed), where)


def _ids(region: Names, mapping: str) -> frozenset[int]:
    names = [region] if isinstance(region, str) else list(region or ())
    if not names or not all(isinstance(name, str) for name in names):
        raise BadArgument(f"region: expected acronyms of the Allen atlas, got {names}")
    return frozenset().union(*(region_ids(name, mapping) for name in names))


def _words(region: Names) -> str:
    return region if isinstance(region, str) else " or ".join(region or ())


def _placed(sieve: Sieve, region: Names, mapping: str, hemisphere: str | None) -> None:
    """Filters by place, of units and sites."""
    if region is not None:
        ids = sieve.rows["atlas_id"]
        inside = ids.abs().isin(_ids(region, mapping)).astype("boolean")
        sieve.keep(inside.mask(ids.fillna(VOID_ID) == VOID_ID), f"not in {_words(region)}")
    if hemisphere is not None:
        if hemisphere not in ("left", "right"):
            raise BadArgument(f"hemisphere: expected 'left' or 'right', got {hemisphere!r}")
        side = sieve.rows["hemisphere"]
        sieve.keep((side == hemisphere).astype("boolean").mask(side.isna()), f"not in the {hemisphere} hemisphere")


def _recorded(sieve: Sieve, lab: Names, subject: Names, date: Dates | None, query: str | None) -> Sieve:
    """Filters that every table with a recording has."""
    sieve.names("lab", lab)
    sieve.names("subject", subject)
    sieve.between("date", date)
    sieve.query(query)
    return sieve


def _count_units(units: pd.DataFrame) -> pd.DataFrame:
    """Units and good units of every insertion; where none has a quality, how many are good is not known."""
    by_pid = units.groupby("pid", sort=True)["good"]
    counts = by_pid.size().to_frame("n_units").assign(n_good_units=by_pid.sum(min_count=1).astype("Int64"))
    return counts.reset_index().assign(counted_in="units")


def _table(table: pd.DataFrame | str | Path) -> pd.DataFrame:
    return read_table(Path(table)) if isinstance(table, str | Path) else table
