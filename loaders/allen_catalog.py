"""A catalog over one release of the Allen Visual Behavior recordings, by its tables."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loaders import allen_tables as tables
from loaders.alf_paths import known_pids
from loaders.allen_manifest import NO_FILE, ManifestFile
from loaders.allen_release import AllenRelease
from loaders.allen_rows import session_rows, unit_and_site_rows
from loaders.errors import CorruptData, InconsistentData, NotFound, SourceUnavailable
from loaders.fetcher import fetch
from loaders.insertion_table import in_order
from loaders.readers import check_file
from loaders.records import DatasetRecord, Insertion
from loaders.table_filters import Names, Sieve

if TYPE_CHECKING:
    import pandas as pd

DATASET, SORTER = "allen-vbn", "kilosort2"
_OF_FILES = ("ecephys_sessions", "probes")
log = logging.getLogger(__name__)


class AllenCatalog:
    """One release of the Allen Visual Behavior recordings.

    A pid is ``allen-vbn-<probe id>``, an eid ``allen-vbn-<session id>``. Tables and files are those of one manifest,
    compared with its hashes.

    Parameters
    ----------
    release : AllenRelease
    """

    def __init__(self, release: AllenRelease) -> None:
        self.release = release
        self.version = release.version
        self._tables: dict[str, pd.DataFrame] = {}
        self._files: dict[str, list[DatasetRecord]] = {}
        if release.folder is not None and (newer := release.newer()):
            log.warning("%s: has the releases %s too; this is %s", release.folder, ", ".join(newer), self.version)

    def insertions(self) -> list[Insertion]:
        """All probes, sorted by mouse, date and name."""
        return list(self._insertions.values())

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the nearest ones that exist."""
        if pid not in self._insertions:
            known = known_pids(self._insertions, pid)
            raise NotFound(f"pid {pid!r}: not in the release {self.version} of {DATASET}, which has {known}")
        return self._insertions[pid]

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """The file of the session, and the LFP files of its probes, each in the collection of its probe's name."""
        if insertion.eid not in self._files:
            self._files[insertion.eid] = self._files_of(insertion.eid)
        return list(self._files[insertion.eid])

    def _files_of(self, eid: str) -> list[DatasetRecord]:
        key = _id_of(eid)
        sessions, probes = (rows[rows["ecephys_session_id"] == key] for rows in map(self.table, _OF_FILES))
        named = [("", row) for _, row in sessions.iterrows()]
        named += [(str(row["name"]), row) for _, row in probes.iterrows() if _is_file(row["file_id"])]
        records = [self.release.record(self._file(row, f"{eid} {of}"), of) for of, row in named]
        return sorted(records, key=lambda record: record.rel_path)

    def table(self, name: str) -> pd.DataFrame:
        """A table of the release as it is: see `loaders.allen_tables.read_table`. Leave it as it is.

        Parameters
        ----------
        name : {"ecephys_sessions", "behavior_sessions", "probes", "channels", "units"}
        """
        if name not in self._tables:
            record = self.release.record(self.release.manifest.table(name))
            fetch([record])
            check_file(record)
            self._tables[name] = tables.read_table(record.path, tables.ALL[name])
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
        keys = {int(insertion.pid.removeprefix(f"{DATASET}-")): insertion.pid for insertion in insertions}
        units, sites, sessions = map(self.table, ("units", "channels", "ecephys_sessions"))
        found, notes = unit_and_site_rows(units, sites, keys)
        found["units"] = found["units"].assign(sorter=SORTER, revision=self.version)
        found["sessions"] = session_rows(sessions, {_id_of(insertion.eid): insertion.eid for insertion in insertions})
        return found, [*notes, *self._news()]

    def _news(self) -> list[str]:
        try:
            newer = self.release.newer()
        except SourceUnavailable as error:
            return [f"whether there is a release after {self.version} is not known: {error}"]
        return [f"there is a newer release, {', '.join(newer)}; this is {self.version}"] if newer else []

    def _need(self, name: str, *columns: str) -> None:
        tables.need(self.table(name), tables.ALL[name], *columns)

    @cached_property
    def _insertions(self) -> dict[str, Insertion]:
        self._need("ecephys_sessions", "mouse_id", "date_of_acquisition")
        self._need("probes", "name")
        rows = tables.joined(self.table("probes"), self.table("ecephys_sessions"), "ecephys_session_id", "session")
        return {insertion.pid: insertion for insertion in in_order(_insertion(row) for _, row in rows.iterrows())}

    def _of_probe(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = tables.joined(rows, self.table("probes"), "ecephys_probe_id", "probe")
        return tables.joined(rows, self.table("ecephys_sessions"), "ecephys_session_id", "session")

    def _file(self, row: pd.Series, what: str) -> ManifestFile:
        """The file of a row; one that lies with another session is refused: the tables are of another release then."""
        found = self.release.manifest.file(int(row["file_id"]) if _is_file(row["file_id"]) else NO_FILE, what)
        if str(row["ecephys_session_id"]) not in found.rel_path.split("/"):
            raise InconsistentData(
                f"{what}: expected a file of session {row['ecephys_session_id']}, the manifest {self.version} has "
                f"{found.rel_path}; the tables and the manifest are of different releases"
            )
        return found


def _is_file(file_id: Any) -> bool:
    import pandas as pd

    return not pd.isna(file_id) and int(file_id) >= 0


def _id_of(name: str) -> int:
    digits = name.removeprefix(f"{DATASET}-")
    if not digits.isdecimal():
        raise CorruptData(f"id {name!r}: expected {DATASET}-<number>")
    return int(digits)


def _insertion(row: pd.Series) -> Insertion:
    return Insertion(
        pid=f"{DATASET}-{row['ecephys_probe_id']}",
        eid=f"{DATASET}-{row['ecephys_session_id']}",
        probe=str(row["name"]),
        lab="allen",
        subject=str(row["mouse_id"]),
        date=str(row["date_of_acquisition"])[:10],  # local, whatever zone it says
        model="NP1.0",
        comment=_comment(row),
        dataset=DATASET,
    )


def _comment(row: pd.Series) -> str:
    histology, activity = row.get("abnormal_histology", ()), row.get("abnormal_activity", ())
    said = [f"abnormal histology: {', '.join(histology)}"] if histology else []
    return "; ".join(said + ([f"abnormal activity at {', '.join(map(str, activity))} s"] if activity else []))
