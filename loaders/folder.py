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
    pids : mapping of str to str or Insertion, optional
        Pid of each probe, such as ``{"probe00": "da8dfec1-..."}``, or all that is known of it. Without it a probe is
        named by its session, ``<subject>_<date>_<number>_<probe>``, or ``<folder>_<probe>`` where the path does not
        tell.

    Raises
    ------
    NotFound
        If the folder does not exist or is no session.
    BadArgument
        If `pids` names a probe that the session does not have, or an insertion that is of another probe.
    """

    def __init__(self, folder: str | Path, pids: Mapping[str, str | Insertion] | None = None) -> None:
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

    def _insertion(self, probe: str, known: str | Insertion | None) -> Insertion:
        if not isinstance(known, Insertion):
            return insertion_in(self._folder, probe, known)
        if known.probe != probe:
            raise BadArgument(f"pids: expected an insertion of {probe}, got {known.pid}, which is of {known.probe!r}")
        check_pid(known.pid)
        return known

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


class FileCatalog:
    """A catalog of one voltage file, opened by its path: its insertion, the files beside it, the sortings of its probe.

    In ``<session>/raw_ephys_data/<probe>`` the session tells who it is of. Elsewhere only the folder of the file is
    looked at, and the probe is called as the file calls it, such as ``imec0``.

    Parameters
    ----------
    path : path
        A ``.cbin`` or ``.bin``. Any other voltage beside it is left out.

    Raises
    ------
    NotFound
        If there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        if not self._path.is_file():
            raise NotFound(f"{self._path}: there is no such file")
        folder = self._path.parent
        probe = folder.parent if re.fullmatch("#.+#", folder.name) else folder
        self._session = probe.parent.parent if probe.parent.name == "raw_ephys_data" else None
        imec = re.search(r"\.(imec[0-9]*)\.", self._path.name)
        name = probe.name if self._session or imec is None else imec[1]
        self._insertion = insertion_in(self._session or folder, name)

    def insertions(self) -> list[Insertion]:
        """The one insertion."""
        return [self._insertion]

    def insertion(self, pid: str) -> Insertion:
        """The insertion, if `pid` is its own."""
        if pid != self._insertion.pid:
            raise NotFound(f"pid {pid!r}: unknown to {self._path}, which is of {self._insertion.pid}")
        return self._insertion

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """The voltage file, what lies beside it, and the files in ``alf/<probe>``, sorted by path."""
        probe = insertion.probe
        if (session := self._session) is None:
            found = [
                DatasetRecord(path.name, f"raw_ephys_data/{probe}", "", path.name, path)
                for path in sorted(self._path.parent.iterdir())
            ]
        else:
            folders = (session / "alf" / probe, session / "raw_ephys_data" / probe)
            paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
            found = [record_of(session, path.relative_to(session).as_posix()) for path in paths]
        return [
            record
            for record in found
            if record.path == self._path or (record.path.suffix not in (".cbin", ".bin") and record.path.is_file())
        ]


def insertion_in(folder: Path, probe: str, pid: str | None = None) -> Insertion:
    """The insertion of a probe, named by its session folder as far as the path tells."""
    lab, subject, date, number = split_alf_path(folder)
    session = f"{subject}_{date}_{number:03d}" if subject else folder.resolve().name
    name = re.sub(r"[^A-Za-z0-9._-]", "-", f"{session}_{probe}").lstrip("._-")
    return Insertion(check_pid(pid or name), "", probe, lab, subject, date, number)
