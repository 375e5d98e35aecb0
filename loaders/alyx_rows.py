"""Rows of the tables of a catalog from what the Alyx database answers: JSON of insertions, sessions and datasets.

Pure functions of answers that somebody recorded; nothing here asks for anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from loaders.errors import CorruptData, InconsistentData
from loaders.table_rows import Part, Rows
from loaders.table_schema import DATASETS, INSERTIONS, SESSIONS

if TYPE_CHECKING:
    import pandas as pd

Json = Mapping[str, Any]
Row = dict[str, Any]

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SESSION = re.compile(r".*/Subjects/[^/]+/\d{4}-\d\d-\d\d/\d{1,3}/(?P<rel_path>.+)")


def rows_of_alyx(answer: object) -> Rows:
    """All that an answer of the database tells, of insertions, their sessions, and files.

    Parameters
    ----------
    answer : JSON
        One insertion, session or dataset, as ``read`` gives it; a list of them, or a page of one; or an entry of the
        cache of ONE, which is ``[answer, expiry]``.

    Raises
    ------
    CorruptData
        If something else is in it.
    """
    insertions: list[Row] = []
    sessions: list[Row] = []
    of_sessions: list[Row] = []  # files of sessions and of insertions, which list all of theirs, and single files
    of_insertions: list[Row] = []
    of_files: list[Row] = []
    for record in _records(answer):
        if "session_info" in record:
            insertions.append(_insertion(record))
            sessions.append(_session(record["session_info"]))
            of_insertions += _datasets(record["session_info"]["id"], record.get("datasets", ()))
        elif "file_records" in record:
            of_files += _datasets(str(record["session"]).rpartition("/")[2], [record])
        elif "start_time" in record:
            sessions.append(_session(record))
            of_sessions += _datasets(_session(record)["eid"], record.get("data_dataset_session_related", ()))
        else:
            raise CorruptData(
                f"answer of the database: expected insertions, sessions or datasets, got the keys {sorted(record)[:8]}"
            )
    parts = (
        Part(INSERTIONS, _last(insertions, ["pid"]), ("pid",)),
        Part(SESSIONS, _last(sessions, ["eid"]), ("eid",)),
        Part(DATASETS, _last(of_sessions, ["eid", "rel_path"]), ("eid",)),
        Part(DATASETS, _last(of_insertions, ["eid", "rel_path"]), ("eid", "collection")),
        Part(DATASETS, _last(of_files, ["eid", "rel_path"]), ("eid", "rel_path")),
    )
    return Rows(tuple(part for part in parts if len(part.rows)))


def histology_of(record: Json) -> str:
    """How far the place of a probe is known: ``resolved``, ``aligned``, ``traced`` or ``none``."""
    facts = record.get("json") or {}
    quality = facts.get("extended_qc") or {}
    if quality.get("alignment_resolved"):
        return "resolved"
    if quality.get("alignment_count"):
        return "aligned"
    return "traced" if facts.get("xyz_picks") or quality.get("tracing_exists") else "none"


def rel_path_of(url: str) -> str:
    """Path of a file in its session folder, from where it can be fetched: without the uuid in its name.

    Examples
    --------
    >>> rel_path_of("https://host/lab/Subjects/A/2021-06-23/001/alf/%23v1%23/a.b.cc918b3b-a9a6-40ba-9eca-bb9ae05e721b.npy")
    'alf/#v1#/a.b.npy'
    """
    match = _SESSION.fullmatch(unquote(url if "#" in url else urlsplit(url).path))
    if match is None:
        raise InconsistentData(
            f"dataset url {url}: expected .../Subjects/<subject>/<date>/<number>/..., cannot place it"
        )
    path = PurePosixPath(match["rel_path"])
    return str(path.with_name(re.sub(rf"\.{_UUID}(?=\.|$)", "", path.name)))


def _records(answer: object) -> Iterator[Json]:
    if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], str):
        answer = answer[0]
    if isinstance(answer, dict) and "results" in answer:
        answer = answer["results"]
    for record in answer if isinstance(answer, list) else [answer]:
        if not isinstance(record, dict):
            raise CorruptData(f"answer of the database: expected JSON objects, got {record!r:.60}")
        yield record


def _insertion(record: Json) -> Row:
    facts = record.get("json") or {}
    quality = facts.get("extended_qc") or {}
    session = _session(record["session_info"])
    picks = facts.get("xyz_picks")
    n_units = facts.get("n_units")
    return {
        "pid": record["id"],
        "eid": record["session_info"]["id"],
        "probe": record["name"],
        **{name: session[name] for name in ("lab", "subject", "date", "number")},
        "model": record.get("model") or None,
        "serial": record.get("serial") or None,
        "qc": facts.get("qc"),
        "histology": histology_of(record),
        "xyz_picks": json.dumps(picks) if picks else None,
        "alignment_count": quality.get("alignment_count", 0),
        "alignment_resolved": bool(quality.get("alignment_resolved", False)),
        "n_units": n_units,
        "n_good_units": facts.get("n_units_qc_pass"),
        "counted_in": None if n_units is None else "database",
        "files_listed": True if any(isinstance(file, dict) for file in record.get("datasets", ())) else None,
    }


def _session(record: Json) -> Row:
    projects = record.get("projects")
    return {
        "eid": record.get("id") or str(record["url"]).rpartition("/")[2],
        "lab": record["lab"],
        "subject": record["subject"],
        "date": record["start_time"][:10],
        "number": record["number"],
        "task_protocol": record.get("task_protocol") or None,
        "projects": ",".join(sorted(projects)) if projects else None,
        "files_listed": True if "data_dataset_session_related" in record else None,
    }


def _datasets(eid: str, records: Any) -> Iterator[Row]:
    """One row a file that has bytes somewhere; an insertion in a list gives only the ids of its files."""
    for record in records:
        if not isinstance(record, dict) or (url := record.get("data_url") or _copy(record)) is None:
            continue
        *folders, name = PurePosixPath(rel_path_of(url)).parts
        default = record.get("default_revision", record.get("default_dataset"))
        yield {
            "eid": eid,
            "rel_path": "/".join((*folders, name)),
            "collection": "/".join(part for part in folders if not part.startswith("#")),
            "revision": next((part.strip("#") for part in folders if part.startswith("#")), ""),
            "name": name,
            "size": record.get("file_size"),
            "md5": record.get("hash") or None,
            "default": default in (True, "True") if default is not None else None,
            "version": record.get("version") or None,
            "id": record.get("id") or str(record["url"]).rpartition("/")[2],
            "url": url,
        }


def _copy(record: Json) -> str | None:
    """Where the bytes of a file are, of its copies the same one, in whatever order they come: flatiron before aws."""
    copies = sorted(record.get("file_records", ()), key=lambda copy: str(copy.get("data_repository")), reverse=True)
    return next((str(copy["data_url"]) for copy in copies if copy["exists"] and copy["data_url"]), None)


def _last(rows: list[Row], key: list[str]) -> pd.DataFrame:
    """The rows as a table; of several with the same key the last that knows, column by column."""
    import pandas as pd

    return pd.DataFrame(rows).groupby(key, sort=False, as_index=False).last() if rows else pd.DataFrame(columns=key)
