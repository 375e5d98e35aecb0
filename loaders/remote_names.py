"""Names of files on the IBL servers: the id of the dataset stands before the suffix, and URLs are percent-encoded."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from loaders.errors import CorruptData
from loaders.records import Insertion

_WITH_ID = re.compile(r"(.+)\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(\.[^.]+|)", re.IGNORECASE)


def split_id(name: str) -> tuple[str, str]:
    """``spikes.times.<uuid>.npy`` -> ``spikes.times.npy`` and the uuid, which is empty if the name has none.

    Examples
    --------
    >>> split_id("spikes.times.6523ff36-174f-4902-8d28-70306bf6ec55.npy")
    ('spikes.times.npy', '6523ff36-174f-4902-8d28-70306bf6ec55')
    """
    match = _WITH_ID.fullmatch(name)
    return (match[1] + match[3], match[2]) if match else (name, "")


def insert_id(rel_path: str, dataset_id: str) -> str:
    """The path with the id of the dataset in its last part; the reverse of `split_id`."""
    path = PurePosixPath(rel_path)
    return path.with_name(f"{path.stem}.{dataset_id}{path.suffix}").as_posix()


def file_url(base: str, path: str) -> str:
    """The URL of a path below `base`; ``#`` and spaces are encoded, ``/`` is kept."""
    return f"{base.rstrip('/')}/{quote(path)}"


def session_folder(insertion: Insertion) -> str:
    """``<lab>/Subjects/<subject>/<date>/<number>``, below a cache folder or on a server.

    Raises
    ------
    CorruptData
        If one of the names is empty or would lead elsewhere.
    """
    names = (insertion.lab, insertion.subject, insertion.date)
    if any(not re.fullmatch(r"[^/\\\0]+", name) or name in (".", "..") for name in names):
        raise CorruptData(
            f"pid {insertion.pid}: lab, subject and date {names} do not name a folder; expected plain names without /"
        )
    lab, subject, date = names
    return f"{lab}/Subjects/{subject}/{date}/{insertion.number:03d}"
