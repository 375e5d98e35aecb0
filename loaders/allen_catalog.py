"""A catalog over one release of Allen recordings, by its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from loaders import allen_tables as tables
from loaders.alf_paths import known_pids
from loaders.allen_rows import session_rows, unit_and_site_rows
from loaders.errors import NotFound
from loaders.insertion_table import in_order
from loaders.records import DatasetRecord, Insertion
from loaders.table_filters import Names, Sieve

if TYPE_CHECKING:
    import pandas as pd

SORTER = "kilosort2"


class Release(Protocol):
    """Where the tables and files of one release are."""

    @property
    def dataset(self) -> str:
        """What pids and eids begin with."""
        ...

    @property
    def version(self) -> str:
        """The release; empty if there is only one."""
        ...

    @property
    def date_column(self) -> str:
        """Where the table of sessions has the day of the recording, as it was where it was made; empty if nowhere."""
        ...

    def read(self, name: str) -> pd.DataFrame:
        """A table by its name in `loaders.allen_tables.ALL`."""
        ...

    def files(self, sessions: pd.DataFrame, probes: pd.DataFrame) -> list[DatasetRecord]:
        """The files of a session, given its row and those of its probes."""
        ...

    def news(self) -> list[str]:
        """What is to be said of other releases."""
        ...


def _names(insertions: Sequence[Insertion]) -> tuple[list[str], list[str]]:
    return [insertion.pid for insertion in insertions], [insertion.eid for insertion in insertions]


class AllenCatalog:
    """One release of Allen recordings.

    A pid is ``allen-vbn-<probe id>``, an eid ``allen-vbn-<session id>``; Visual Coding has ``allen-vc-``.

    Parameters
    ----------
    release : Release
        Such as `loaders.allen_release.AllenRelease`.
    """

    def __init__(self, release: Release) -> None:
        self.release = release
        self.version = release.version
        self._tables: dict[str, pd.DataFrame] = {}
        self._files: dict[str, list[DatasetRecord]] = {}

    def insertions(self) -> list[Insertion]:
        """All probes, sorted by mouse, date and name."""
        return list(self._insertions.values())

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the nearest ones that exist."""
        if pid not in self._insertions:
            known = known_pids(self._insertions, pid)
            raise NotFound(
                f"pid {pid!r}: not in {' '.join((self.release.dataset, self.version)).strip()}, which has {known}"
            )
        return self._insertions[pid]

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """The file of the session, and the LFP files of its probes, each in the collection of its probe's name."""
        if insertion.eid not in self._files:
            self._files[insertion.eid] = self._files_of(insertion.eid)
        return list(self._files[insertion.eid])

    def _files_of(self, eid: str) -> list[DatasetRecord]:
        key = int(eid.removeprefix(f"{self.release.dataset}-"))
        tables_of_files = (self.table("ecephys_sessions"), self.table("probes"))
        sessions, probes = (rows[rows["ecephys_session_id"] == key] for rows in tables_of_files)
        return sorted(self.release.files(sessions, probes), key=lambda record: record.rel_path)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the release as it is: see `loaders.allen_tables.read_table`. Leave it as it is.

        Parameters
        ----------
        name : {"ecephys_sessions", "behavior_sessions", "probes", "channels", "units"}
        """
        if name not in self._tables:
            self._tables[name] = self.release.read(name)
        return self._tables[name]

    def sessions(self, *, normal: bool = False, structure: Names = None, query: str | None = None) -> pd.DataFrame:
        """Sessions that fit; see `loaders.allen_tables.filter_sessions`."""
        return tables.filter_sessions(self.table("ecephys_sessions"), normal=normal, structure=structure, query=query)

    def channels(self, *, query: str | None = None) -> pd.DataFrame:
        """Channels, each with its probe and its session."""
        sieve = Sieve(self._of_probe(self.table("channels")), "channels")
        sieve.query(query)
        return sieve.result()

    def units(
        self,
        *,
        quality: Names = None,
        valid_channels: bool = False,
        amplitude_cutoff_at_most: float | None = None,
        presence_ratio_at_least: float | None = None,
        isi_violations_at_most: float | None = None,
        query: str | None = None,
    ) -> pd.DataFrame:
        """Units, each with its channel, its probe and its session.

        Without a filter all units are there. A unit whose metric is NaN does not pass a limit on it; how many these
        are is told apart. A limit includes itself, and 0 is a limit.
        """
        limits = {
            "quality": quality,
            "amplitude_cutoff": amplitude_cutoff_at_most,
            "presence_ratio": presence_ratio_at_least,
            "isi_violations": isi_violations_at_most,
        }
        self._need("units", *(name for name, limit in limits.items() if limit is not None))
        rows = tables.joined(self.table("units"), self.table("channels"), "ecephys_channel_id", "channel")
        sieve = Sieve(self._of_probe(rows), "units")
        sieve.names("quality", quality)
        if valid_channels:
            self._need("channels", "valid_data")
            sieve.keep(sieve.rows["channel_valid_data"], "channel is not valid")
        sieve.at_most("amplitude_cutoff", amplitude_cutoff_at_most)
        sieve.at_least("presence_ratio", presence_ratio_at_least)
        sieve.at_most("isi_violations", isi_violations_at_most)
        sieve.query(query)
        return sieve.result()

    def probes(self, *, query: str | None = None) -> pd.DataFrame:
        """Probes, each with its session."""
        rows = tables.joined(self.table("probes"), self.table("ecephys_sessions"), "ecephys_session_id", "session")
        sieve = Sieve(rows, "probes")
        sieve.query(query)
        return sieve.result()

    def table_rows(
        self, insertions: Sequence[Insertion], *, sorter: str | None = None, revision: str | None = None
    ) -> tuple[Mapping[str, pd.DataFrame], list[str]]:
        """Units, sites and sessions as `loaders.table_schema` has them, and what was noticed; no file is opened."""
        if sorter not in (None, SORTER) or revision not in (None, self.version):
            raise NotFound(
                f"sorter {sorter!r}, revision {revision!r}: do not exist; the release has {SORTER!r}, {self.version!r}"
            )
        prefix = f"{self.release.dataset}-"
        pids, eids = ({int(name.removeprefix(prefix)): name for name in names} for names in _names(insertions))
        units, sites, sessions = map(self.table, ("units", "channels", "ecephys_sessions"))
        found, notes = unit_and_site_rows(units, sites, pids, prefix)
        found["units"] = found["units"].assign(sorter=SORTER, revision=self.version)
        found["sessions"] = session_rows(sessions, eids)
        return found, [*notes, *self.release.news()]

    def _need(self, name: str, *columns: str) -> None:
        tables.need(self.table(name), tables.ALL[name], *columns)

    @cached_property
    def _insertions(self) -> dict[str, Insertion]:
        self._need("ecephys_sessions", "mouse_id", *filter(None, [self.release.date_column]))
        self._need("probes", "name")
        rows = tables.joined(self.table("probes"), self.table("ecephys_sessions"), "ecephys_session_id", "session")
        found = [_insertion(row, self.release) for _, row in rows.iterrows()]
        return {insertion.pid: insertion for insertion in in_order(found)}

    def _of_probe(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = tables.joined(rows, self.table("probes"), "ecephys_probe_id", "probe")
        return tables.joined(rows, self.table("ecephys_sessions"), "ecephys_session_id", "session")


def _insertion(row: pd.Series, release: Release) -> Insertion:
    dataset, dated = release.dataset, release.date_column
    return Insertion(
        pid=f"{dataset}-{row['ecephys_probe_id']}",
        eid=f"{dataset}-{row['ecephys_session_id']}",
        probe=str(row["name"]),
        lab="allen",
        subject=str(row["mouse_id"]),
        date=str(row[dated])[:10] if dated else "",
        comment=_comment(row),
        dataset=dataset,
        session_comment=_comment(row),
    )


def _comment(row: pd.Series) -> str:
    histology, activity = row.get("abnormal_histology", ()), row.get("abnormal_activity", ())
    said = [f"abnormal histology: {', '.join(histology)}"] if histology else []
    return "; ".join(said + ([f"abnormal activity at {', '.join(map(str, activity))} s"] if activity else []))
