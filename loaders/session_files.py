"""Which file holds a dataset that belongs to a session and not to a probe, and reading it.

A dataset is read in the revision that the catalog calls default, or else in its latest. Unlike those of a spike
sorting, the datasets of a session do not number each other's rows, and the releases revise them one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.alf_paths import check_pid
from loaders.errors import InconsistentData, NotFound
from loaders.fetcher import fetch
from loaders.readers import check_file, read_npy, read_table
from loaders.records import DatasetRecord, Insertion, SourceFile

if TYPE_CHECKING:
    import pandas as pd

ALF = r"alf(?:/task_[0-9]{2})?"
"""Collections of what was extracted from a session: one, or one a task."""


class NotRecorded(NotFound):
    """A session does not have the data at all: a camera that was not there, a passive protocol that was not run."""


@dataclass(frozen=True, slots=True)
class SessionData:
    """What a loader makes of the files of a session.

    Attributes
    ----------
    arrays : mapping of str to array
        By the name of the variable; `chunking.session_schema` says what their dimensions are.
    facts : mapping
        Attributes of the whole.
    sources : sequence of SourceFile
        Every file that was read.
    notes : sequence of str
        Everything noticed while reading, in words.
    """

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]
    sources: tuple[SourceFile, ...]
    notes: tuple[str, ...]


class SessionFiles:
    """The files of one session; keeps those that were read, and what was noticed, for the provenance.

    Parameters
    ----------
    records : iterable of DatasetRecord
        All files of the session.
    """

    def __init__(self, records: Iterable[DatasetRecord]) -> None:
        self.records = list(records)
        self.notes: list[str] = []
        self._sources: dict[str, SourceFile] = {}

    def find_all(self, pattern: str, collections: str = ALF) -> list[DatasetRecord]:
        """The datasets whose name without namespace fits a regular expression, each in one revision, by path."""
        found: dict[tuple[str, str], list[DatasetRecord]] = {}
        for record in self.records:
            if re.fullmatch(collections, record.collection) and re.fullmatch(f"(?:_[a-z]+_)?{pattern}", record.name):
                found.setdefault((record.collection, record.name), []).append(record)
        return [current(revisions) for _, revisions in sorted(found.items())]

    def find(self, name: str) -> DatasetRecord | None:
        """The dataset of a name, such as ``licks.times.npy``; None if there is none, InconsistentData if several."""
        found = self.find_all(re.escape(name))
        if len(found) > 1:
            paths = ", ".join(record.rel_path for record in found)
            raise InconsistentData(f"{name}: expected one in this session, got {paths}; which one counts is not known")
        return found[0] if found else None

    def need(self, name: str, what: str) -> DatasetRecord:
        """The dataset of a name; NotRecorded if there is none."""
        if (record := self.find(name)) is None:
            raise NotRecorded(f"no {what}: expected {name} in alf or alf/task_<number>, which this session lacks")
        return record

    def array(self, record: DatasetRecord, kinds: str = "f", ndim: int = 1) -> NDArray[Any]:
        """A ``.npy``, mapped into memory, its hash checked."""
        return read_npy(self.path(record), kinds=kinds, ndim=ndim)

    def table(self, record: DatasetRecord) -> pd.DataFrame:
        """A ``.pqt`` or ``.csv``, its hash checked."""
        return read_table(self.path(record))

    def raw_bytes(self, record: DatasetRecord) -> NDArray[np.uint8]:
        """The bytes of any file, its hash checked."""
        return np.fromfile(self.path(record), np.uint8)

    def data(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any] | None = None) -> SessionData:
        """The arrays with all that was read and noticed for them."""
        return SessionData(arrays, facts or {}, tuple(self._sources.values()), tuple(self.notes))

    def path(self, record: DatasetRecord) -> Path:
        """Where a file lies once it is fetched and its hash checked."""
        fetch([record])
        self.add_source(check_file(record))
        return record.path

    def add_source(self, file: SourceFile) -> None:
        """Keep a file that was read elsewhere, for the provenance."""
        self._sources[file.rel_path] = file


def session_id(insertion: Insertion) -> str:
    """What the folder of a session is called: its eid or, without a database, ``<subject>_<date>_<number>``.

    A session folder whose path does not tell these is called as its insertions are, without the name of the probe.

    Examples
    --------
    >>> session_id(Insertion("some-pid", "", "probe00", "lab", "NYU-11", "2020-02-18", 1))
    'NYU-11_2020-02-18_001'
    >>> session_id(Insertion("recording_probe01", "", "probe01"))
    'recording'
    """
    if insertion.eid:
        return check_pid(insertion.eid)  # it names a folder, too
    if insertion.subject:
        name = f"{insertion.subject}_{insertion.date}_{insertion.number:03d}"
        return check_pid(re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-"))
    return insertion.pid.removesuffix(f"_{insertion.probe}")


def current(revisions: list[DatasetRecord]) -> DatasetRecord:
    """The default revision of a dataset, or else the latest."""
    default = [record for record in revisions if record.default]
    return default[0] if len(default) == 1 else max(revisions, key=lambda record: record.revision)
