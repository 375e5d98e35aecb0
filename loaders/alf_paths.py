"""The parts of ALF paths, and lists of pids for messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from loaders.errors import BadArgument, CorruptData
from loaders.records import DatasetRecord

_SHOWN = 8
_PID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_pid(pid: str) -> str:
    """Return `pid` if it can name a folder; raise BadArgument otherwise."""
    if not _PID.fullmatch(pid):
        raise BadArgument(f"pid {pid!r}: expected letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return pid


def split_alf_path(session_path: Path) -> tuple[str, str, str, int]:
    """``lab, subject, date, number`` of ``.../lab/Subjects/subject/YYYY-MM-DD/NNN``; empty where the path differs."""
    pattern = r"(?:([^/]+)/Subjects/)?([^/]+)/(\d{4}-\d\d-\d\d)/(\d{1,3})"
    match = re.search(rf"(?:^|/){pattern}$", session_path.absolute().as_posix())
    if match is None:
        return "", "", "", 0
    return match[1] or "", match[2], match[3], int(match[4])


def known_pids(pids: Iterable[str], wanted: str = "") -> str:
    """The pids that exist, for a message: those nearest to `wanted`, or the first few, and how many more."""
    names = sorted(pids)
    few = names if len(names) <= _SHOWN else get_close_matches(wanted, names) or names[:_SHOWN]
    shown = ", ".join(few) or "none"
    return shown if len(names) == len(few) else f"{shown} and {len(names) - len(few)} more"


def record_of(session_path: Path, rel_path: str, **facts: Any) -> DatasetRecord:
    """The record of one file, its collection and revision taken from the path.

    Raises
    ------
    CorruptData
        If `rel_path` leads out of the session folder.
    """
    if ".." in PurePosixPath(rel_path).parts or rel_path.startswith("/"):
        raise CorruptData(f"{session_path}: a dataset is said to lie in {rel_path!r}, which leads out of the session")
    *folders, name = PurePosixPath(rel_path).parts
    revision = next((part.strip("#") for part in folders if part.startswith("#")), "")
    collection = "/".join(part for part in folders if not part.startswith("#"))
    return DatasetRecord(rel_path, collection, revision, name, session_path / rel_path, **facts)
