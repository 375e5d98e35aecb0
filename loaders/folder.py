"""A catalog over one bare ALF session folder, without any database: what lies there is what exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from loaders.alf_paths import check_pid, known_pids, record_of, split_alf_path
from loaders.errors import BadArgument, NotFound
from loaders.records import DatasetRecord, Insertion


class FolderCatalog:
    """The probes of one session folder.

    Parameters
    ----------
    folder : path
        A session folder: it has a subfolder ``alf`` with one folder a probe.
    pids : mapping of str to str, optional
        Pid of each probe, such as ``{"probe00": "da8dfec1-..."}``. Without it a probe is named by its session,
        ``<subject>_<date>_<number>_<probe>``, or ``<folder>_<probe>`` where the path does not tell.

    Raises
    ------
    NotFound
        If the folder does not exist or is no session.
    BadArgument
        If `pids` names a probe that the session does not have.
    """

    def __init__(self, folder: str | Path, pids: Mapping[str, str] | None = None) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise NotFound(f"session folder {self._folder}: does not exist")
        probes = sorted(path.name for path in (self._folder / "alf").glob("probe*") if path.is_dir())
        if not probes:
            raise NotFound(f"session folder {self._folder}: expected alf/probe00 or the like in it, found none")
        if unknown := sorted(set(pids or {}) - set(probes)):
            raise BadArgument(f"pids: the session has no {', '.join(unknown)}; its probes are {', '.join(probes)}")
        self._insertions: dict[str, Insertion] = {}
        for probe in probes:
            insertion = self._insertion(probe, (pids or {}).get(probe))
            if insertion.pid in self._insertions:
                raise BadArgument(f"pids: {insertion.pid!r} stands for two probes; every probe needs its own")
            self._insertions[insertion.pid] = insertion

    def _insertion(self, probe: str, pid: str | None) -> Insertion:
        lab, subject, date, number = split_alf_path(self._folder)
        session = f"{subject}_{date}_{number:03d}" if subject else self._folder.resolve().name
        name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{session}_{probe}").lstrip("._-")
        return Insertion(check_pid(pid or name), "", probe, lab, subject, date, number)

    def insertions(self) -> list[Insertion]:
        """All probes of the session, sorted by name."""
        return list(self._insertions.values())

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the ones that exist."""
        if pid not in self._insertions:
            raise NotFound(f"pid {pid!r}: unknown to {self._folder}, which has {known_pids(self._insertions)}")
        return self._insertions[pid]

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files below the session folder, sorted by path."""
        paths = (path for path in self._folder.rglob("*") if path.is_file())
        rel_paths = sorted(path.relative_to(self._folder).as_posix() for path in paths)
        return [record_of(self._folder, rel_path) for rel_path in rel_paths]
