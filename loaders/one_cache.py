"""A catalog over the tables of a ONE cache, offline, through the real ONE client.

The files lie in a cache folder of this machine or, where a server is named, can be fetched from there. The plain
``One`` client in local mode is used, not ``OneAlyx``: the latter writes settings and folders into the user's home.
``One`` has no ``pid2eid``, so pids are looked up in the ``insertions`` table of the cache.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.alf_paths import check_pid, known_pids, record_of, split_alf_path
from loaders.errors import BadArgument, CorruptData, NotFound
from loaders.insertion_table import in_order
from loaders.readers import read_table
from loaders.records import DatasetRecord, Insertion
from loaders.remote_names import file_url, insert_id, session_folder

if TYPE_CHECKING:
    import pandas as pd
    from one.api import One


class OneCatalog:
    """What the tables of a ONE cache hold.

    Parameters
    ----------
    one : one.api.One
        A client in local mode whose tables hold the sessions and datasets. Files lie in its cache folder.
    insertions : DataFrame, optional
        Index ``(eid, id)`` with ``id`` the pid; column ``name``, optionally ``model`` and ``comment``. Without it
        the table of that name that the client has read.
    data_server : str
        Where the files can be fetched from, such as ``https://ibl.flatironinstitute.org/public``; empty if nowhere.

    Raises
    ------
    BadArgument
        If the client has no table of insertions and none is given.
    """

    def __init__(self, one: One, insertions: pd.DataFrame | None = None, *, data_server: str = "") -> None:
        if insertions is None:
            insertions = one._cache.get("insertions")  # there is no public way to this table
        if insertions is None:
            raise BadArgument(
                f"one: expected a client with a table insertions.pqt in {one.cache_dir}, which is not there; use a "
                "client in remote mode, or give its cache folder"
            )
        self._one = one
        self._data_server = data_server
        self._insertions = {
            check_pid(str(pid)): (str(eid), *(str(row.get(name) or "") for name in ("name", "model", "comment")))
            for (eid, pid), row in zip(insertions.index.tolist(), insertions.to_dict("records"), strict=True)
        }

    @classmethod
    def from_folder(cls, folder: str | Path, *, cache: str | Path = "", data_server: str = "") -> OneCatalog:
        """Open a ONE cache folder, the one with ``sessions.pqt``, ``datasets.pqt`` and ``insertions.pqt``.

        Parameters
        ----------
        folder : path
        cache : path, optional
            Where the files lie, or would lie, if that is elsewhere.
        data_server : str
            Where the files can be fetched from; see the class.

        Raises
        ------
        NotFound
            If the folder or one of its tables does not exist.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise NotFound(f"source folder {folder}: does not exist")
        for table in ("sessions.pqt", "datasets.pqt", "insertions.pqt"):
            if not (folder / table).is_file():
                raise NotFound(
                    f"source folder {folder}: expected a ONE cache with a table {table}, which is not there; "
                    "for a session folder without tables use the source 'folder'"
                )
        insertions = read_table(folder / "insertions.pqt")
        if "name" not in insertions.columns or insertions.index.nlevels != 2:
            raise CorruptData(f"{folder / 'insertions.pqt'}: expected an index (eid, id) and a column 'name'")
        read_table(folder / "sessions.pqt")  # ONE itself reads a broken table with an obscure error
        datasets = read_table(folder / "datasets.pqt")
        from one.api import One

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ONE warns about tables that it has no use for
            one = One(cache_dir=cache or folder, tables_dir=folder, mode="local")
            if len(datasets) and not len(one.list_datasets()):
                raise CorruptData(
                    f"{folder / 'datasets.pqt'}: ONE does not accept this table; download the cache again"
                )
            return cls(one, insertions, data_server=data_server)

    def insertions(self) -> list[Insertion]:
        """All insertions, sorted by subject, date, number and probe."""
        return in_order(self.insertion(pid) for pid in self._insertions)

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the ones that exist."""
        if pid not in self._insertions:
            raise NotFound(f"pid {pid!r}: unknown to this source, which has {known_pids(self._insertions, pid)}")
        eid, probe, model, comment = self._insertions[pid]
        lab, subject, date, number = split_alf_path(self._session_path(eid))
        return Insertion(pid, eid, probe, lab, subject, date, number, model, comment)

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files of the session of `insertion` that the cache lists, sorted by path."""
        session_path = self._session_path(insertion.eid)
        server = file_url(self._data_server, session_folder(insertion)) if self._data_server else ""
        table = self._one.list_datasets(insertion.eid, details=True)
        cache = Path(self._one.cache_dir)
        records = [_record(cache, session_path, server, str(index), row) for index, row in table.iterrows()]
        return sorted(records, key=lambda record: record.rel_path)

    def _session_path(self, eid: str) -> Path:
        try:
            path = self._one.eid2path(eid)
        except ValueError:  # what ONE says of an eid that it does not know
            path = None
        if path is None:
            raise NotFound(f"session {eid}: in the insertions table of the cache but not in its sessions table")
        cache = Path(self._one.cache_dir)  # whose own path may well begin with ..
        if not Path(path).is_relative_to(cache) or ".." in Path(path).relative_to(cache).parts:
            raise CorruptData(
                f"sessions table of the cache: session {eid} lies in {path}, which leads out of the cache"
            )
        return Path(path)


def _record(cache: Path, session_path: Path, server: str, dataset_id: str, row: pd.Series[Any]) -> DatasetRecord:
    import pandas as pd

    rel_path = str(row["rel_path"])
    return record_of(
        session_path,
        rel_path,
        size=None if pd.isna(row.get("file_size")) else int(row["file_size"]),
        md5=row["hash"] if isinstance(row.get("hash"), str) and row["hash"] else None,
        default=bool(row.get("default_revision", False)),
        id=dataset_id,
        url=file_url(server, insert_id(rel_path, dataset_id)) if server and row.get("exists", True) else "",
        cache=cache if server else None,
    )
