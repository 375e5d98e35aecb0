"""A catalog over an Alyx database, asked through the real ONE client in remote mode.

ONE is asked what exists; it carries no bytes. One request an insertion, none if it was listed, and one a session.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from loaders.alf_paths import known_pids, record_of
from loaders.alyx_login import not_logged_in, quiet_login, unreachable
from loaders.errors import CorruptData, NotFound, SourceUnavailable
from loaders.insertion_table import in_order, insertions_by_pid
from loaders.records import DatasetRecord, Insertion
from loaders.remote_names import file_url, session_folder, split_id

if TYPE_CHECKING:
    import pandas as pd
    from one.api import OneAlyx


class AlyxCatalog:
    """What an Alyx database knows.

    It carries a login and therefore cannot be pickled; the records it gives can, and hold none.

    Parameters
    ----------
    one : one.api.OneAlyx
        A client in remote mode. Files would lie in its cache folder.
    insertions : DataFrame or iterable of Insertion, optional
        A list, such as a release, that `insertions` gives instead of all that the database has.
    """

    def __init__(self, one: OneAlyx, insertions: pd.DataFrame | Iterable[Insertion] | None = None) -> None:
        self._one = one
        self._base = str(one.alyx.base_url)
        self._listed = insertions is not None
        self._insertions = {} if insertions is None else insertions_by_pid(insertions)
        self._records: dict[str, list[DatasetRecord]] = {}

    def __reduce__(self) -> NoReturn:
        raise TypeError("AlyxCatalog carries a login and is never pickled; send loaders.inputs.Inputs, or its records")

    def insertions(self) -> list[Insertion]:
        """All insertions of the list or, without one, of the database: a request for every few hundred."""
        if not self._listed:
            rows = self._ask("insertions", "list")
            self._insertions = {str(row["id"]): _insertion(row) for row in rows}
            self._listed = True
        return in_order(self._insertions.values())

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound if the database does not know it."""
        if pid not in self._insertions:
            row = self._ask("insertions", "read", id=pid) if _is_uuid(pid) else None
            if row is None:
                known = f"; known so far: {known_pids(self._insertions, pid)}" if self._insertions else ""
                raise NotFound(f"pid {pid!r}: unknown to {self._base}{known}")
            self._insertions[pid] = _insertion(row)
        return self._insertions[pid]

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files of the session of `insertion` that a server has, sorted by path.

        Those whose quality the database calls CRITICAL are left out, as ONE does.
        """
        eid = insertion.eid
        if eid not in self._records:
            session = self._ask("sessions", "read", id=eid)
            if session is None:
                raise NotFound(f"session {eid} of pid {insertion.pid}: unknown to {self._base}")
            rows = [row for row in session["data_dataset_session_related"] if _usable(row)]
            folder, cache = session_folder(insertion), Path(self._one.cache_dir)
            self._records[eid] = sorted((_record(cache, folder, row) for row in rows), key=lambda r: r.rel_path)
        return list(self._records[eid])

    def _ask(self, endpoint: str, action: str, **query: str) -> Any:
        """The answer of the database; None if it does not know what was asked for."""
        import requests

        try:
            with quiet_login():
                if not self._one.alyx.is_logged_in:
                    self._one.alyx.authenticate()
                answer = self._one.alyx.rest(endpoint, action, **query)
                return list(answer) if action == "list" else answer
        except requests.HTTPError as error:
            return self._refused(error)
        except ValueError as error:
            if "username" in str(error):
                raise not_logged_in(self._base, None) from None
            raise SourceUnavailable(f"{self._base}: expected an answer in JSON, got another ({error})") from error
        except (requests.RequestException, ConnectionError) as error:
            raise unreachable(self._base, error) from error

    def _refused(self, error: Any) -> None:
        status = error.response.status_code
        if status == 404:
            return
        if status in (401, 403) or "/auth-token" in error.response.url:
            raise not_logged_in(self._base, status) from None
        raise SourceUnavailable(f"{self._base}: expected an answer, got HTTP {status}; try again later") from error


def _insertion(row: Mapping[str, Any]) -> Insertion:
    session = row["session_info"]
    return Insertion(
        pid=str(row["id"]),
        eid=str(row["session"]),
        probe=str(row["name"]),
        lab=str(session["lab"]),
        subject=str(session["subject"]),
        date=str(session["start_time"])[:10],
        number=int(session["number"] or 0),
        model=str(row.get("model") or ""),
    )


def _usable(row: Mapping[str, Any]) -> bool:
    return bool(row["data_url"]) and row.get("qc") != "CRITICAL"


def _record(cache: Path, folder: str, row: Mapping[str, Any]) -> DatasetRecord:
    """A record from a dataset of the session; `default_revision` comes as a text."""
    parts = urlsplit(row["data_url"], allow_fragments=False)  # a revision has a #, which the database does not encode
    _, found, stored = unquote(parts.path).partition(f"/{folder}/")
    if not found:
        raise CorruptData(f"dataset {row['id']}: expected it in {folder}, got {row['data_url']}")
    name, _ = split_id(PurePosixPath(stored).name)
    return record_of(
        cache / folder,
        PurePosixPath(stored).with_name(name).as_posix(),
        size=None if row["file_size"] is None else int(row["file_size"]),
        md5=row["hash"] or None,
        default=str(row.get("default_revision")) == "True",
        id=str(row["id"]),
        url=file_url(f"{parts.scheme}://{parts.netloc}", unquote(parts.path).lstrip("/")),
        cache=cache,
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
