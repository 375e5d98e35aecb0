"""All that the products of one insertion are built from, each loaded when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.channel_quality import label_channels
from loaders.errors import CubesError, NotFound
from loaders.formats import Format, format_of
from loaders.published_lfp import PublishedLfp
from loaders.records import Catalog, DatasetRecord, Insertion, Sites, Sorting
from loaders.session_files import SessionData, SessionFiles, session_id
from loaders.voltage import Voltage

_AT_ONCE = 1_000_000  # spikes


class Inputs:
    """The inputs of one insertion.

    A pickle carries the records of the files, not what was read and not the catalog: a worker needs no database. It
    also has, once it was asked for, where published LFP lies.

    Parameters
    ----------
    catalog : Catalog
    pid : str
    sorter, revision : str, optional
        Exact choice of the sorting; see `loaders.resolve.resolve_sorting`.
    """

    def __init__(self, catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> None:
        self._catalog = catalog
        self._choice = {"sorter": sorter, "revision": revision}
        self.insertion: Insertion = catalog.insertion(pid)
        self.format: Format = format_of(self.insertion)
        self._voltage: dict[str, Voltage] = {}
        self._channel_labels: dict[str, NDArray[np.int8]] = {}
        self._labelling = Lock()
        self._session: dict[str, SessionData] = {}
        self._loading_session = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        lfp = self.__dict__.get("lfp")  # where the samples lie was looked up with HDF5: no worker needs it
        return _unpickle, (RecordedSession.of(self._catalog, self.insertion.pid), self._choice, lfp)

    @cached_property
    def sorting(self) -> Sorting:
        """The spike sorting; raises NotFound if there is none."""
        return self.format.sorting(self._catalog, self.insertion.pid, **self._choice)

    @cached_property
    def row_size(self) -> NDArray[np.int64]:
        """How many spikes each unit has, (unit,)."""
        clusters, row_size = self.sorting.spikes.clusters, np.zeros(len(self.sorting.units), np.int64)
        for start in range(0, len(clusters), _AT_ONCE):  # bincount makes a copy as int64
            row_size += np.bincount(clusters[start : start + _AT_ONCE], minlength=len(row_size))
        return row_size

    @cached_property
    def sites_if_any(self) -> Sites | None:
        """The recording sites of the spike sorting, or None if the probe has none and none was asked for."""
        try:
            return self.format.sites(self._catalog, self.insertion.pid, **self._choice)
        except NotFound:
            if self._choice != {"sorter": None, "revision": None}:
                raise
            return None

    def voltage(self, band: str) -> Voltage:
        """The raw voltage of one band; raises NotFound if there is none."""
        if band not in self._voltage:
            self._voltage[band] = self.format.voltage(self._catalog, self.insertion.pid, band)
        return self._voltage[band]

    @cached_property
    def lfp(self) -> PublishedLfp:
        """The LFP, where the data set publishes it; raises NotFound if there is none."""
        return self.format.lfp(self._catalog, self.insertion.pid)

    def channel_labels(self, band: str) -> NDArray[np.int8]:
        """Which channels of a band are bad; see `loaders.channel_quality.label_channels`."""
        with self._labelling:  # the tasks of a build, on threads, ask for it all at once
            if band not in self._channel_labels:
                self._channel_labels[band] = label_channels(self.voltage(band))
            return self._channel_labels[band]

    def session(self, name: str, load: Callable[[SessionFiles], SessionData]) -> SessionData:
        """What a loader makes of the files of the session, loaded once for a name; see `loaders.session_files`."""
        with self._loading_session:  # as above
            if name not in self._session:
                try:
                    self._session[name] = load(SessionFiles(self._catalog.datasets(self.insertion)))
                except CubesError as error:
                    raise type(error)(f"session {session_id(self.insertion)}: {error}") from error
            return self._session[name]


@dataclass(frozen=True)
class RecordedSession:
    """A catalog of one insertion: what another one knew of it."""

    recorded: Insertion
    records: tuple[DatasetRecord, ...]

    @classmethod
    def of(cls, catalog: Catalog, pid: str) -> RecordedSession:
        """What a catalog knows of one insertion."""
        insertion = catalog.insertion(pid)
        return cls(insertion, tuple(catalog.datasets(insertion)))

    def insertions(self) -> list[Insertion]:
        """The one insertion."""
        return [self.recorded]

    def insertion(self, pid: str) -> Insertion:
        """The insertion, if `pid` is its own."""
        if pid != self.recorded.pid:
            raise NotFound(f"pid {pid!r}: these are the records of {self.recorded.pid}")
        return self.recorded

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files of its session."""
        return list(self.records)


def _unpickle(session: RecordedSession, choice: dict[str, str | None], lfp: PublishedLfp | None) -> Inputs:
    inputs = Inputs(session, session.recorded.pid, **choice)
    if lfp is not None:
        inputs.lfp = lfp
    return inputs
