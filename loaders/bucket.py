"""A catalog over the public bucket of the International Brain Laboratory: anonymous, no database, no login.

The bucket has no table of what it holds: which insertions there are comes from a list, such as a release, and which
files a session has from one listing of its prefix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.alf_paths import known_pids, record_of
from loaders.errors import InconsistentData, NotFound, SourceUnavailable
from loaders.insertion_table import insertions_by_pid
from loaders.records import DatasetRecord, Insertion
from loaders.remote_names import file_url, session_folder, split_id

if TYPE_CHECKING:
    import pandas as pd

BUCKET = "ibl-brain-wide-map-public"
REGION = "us-east-1"
PINNED_REVISION = "2024-05-06"
"""Revision of the spike sortings of the Brain-Wide Map release."""

_MD5 = re.compile(r"[0-9a-f]{32}")


class BucketCatalog:
    """What the public bucket holds of some insertions.

    The records have a plain ``https`` URL, which needs neither S3 code nor credentials.

    Parameters
    ----------
    insertions : DataFrame or iterable of Insertion
        Columns ``pid, eid, probe, lab, subject, date, number``.
    cache : path
        Folder where the files would lie on this machine, as in a ONE cache.
    bucket : str
    endpoint : str, optional
        Another S3 server, such as ``http://127.0.0.1:5000``; by default ``$AWS_ENDPOINT_URL_S3``, or else AWS.
    revision : str
        Revision of the sortings that counts as the default one; a bucket does not tell.
    """

    def __init__(
        self,
        insertions: pd.DataFrame | Iterable[Insertion],
        *,
        cache: str | Path,
        bucket: str = BUCKET,
        endpoint: str | None = None,
        revision: str = PINNED_REVISION,
    ) -> None:
        self._insertions = insertions_by_pid(insertions)
        self._cache = Path(cache)
        self._bucket = bucket
        self._endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or None
        self._revision = revision
        self._listings: dict[str, list[DatasetRecord]] = {}

    def insertions(self) -> list[Insertion]:
        """All insertions of the list, sorted by subject, date, number and probe."""
        return list(self._insertions.values())

    def insertion(self, pid: str) -> Insertion:
        """The insertion `pid`; raises NotFound with the nearest ones that exist."""
        if pid not in self._insertions:
            raise NotFound(
                f"pid {pid!r}: not in the list of this source, which has {known_pids(self._insertions, pid)}"
            )
        return self._insertions[pid]

    def datasets(self, insertion: Insertion) -> list[DatasetRecord]:
        """All files of the session of `insertion`, sorted by path; the bucket is asked once a session.

        Raises
        ------
        NotFound
            If the bucket has nothing of the session.
        SourceUnavailable
            If the bucket does not answer.
        InconsistentData
            If the bucket holds two different files for one path.
        """
        folder = session_folder(insertion)
        if folder not in self._listings:
            self._listings[folder] = self._list(folder)
        return list(self._listings[folder])

    def _list(self, folder: str) -> list[DatasetRecord]:
        prefix = f"data/{folder}"
        objects: dict[str, Mapping[str, Any]] = {}
        records: dict[str, DatasetRecord] = {}
        for item in self._objects(prefix):
            record = self._record(folder, item["path"].removeprefix(f"{prefix}/"), item)
            other = objects.setdefault(record.rel_path, item)
            if (other["size"], other["e_tag"]) != (item["size"], item["e_tag"]):
                raise InconsistentData(
                    f"s3://{self._bucket}: {other['path']} and {item['path']} are two different files of one name, and "
                    "the bucket does not tell which one counts; use the source openalyx, which does"
                )
            records.setdefault(record.rel_path, record)
        if not records:
            raise NotFound(f"s3://{self._bucket}/{prefix}/: the bucket holds nothing there; is the session public?")
        return sorted(records.values(), key=lambda record: record.rel_path)

    def _objects(self, prefix: str) -> Iterator[Mapping[str, Any]]:
        import obstore
        from obstore.exceptions import BaseError

        try:
            for page in obstore.list(self._store(), f"{prefix}/"):
                yield from page
        except (BaseError, OSError) as error:
            raise SourceUnavailable(
                f"s3://{self._bucket}/{prefix}/: cannot be listed at {self._endpoint or 'AWS'} "
                f"({type(error).__name__}: {str(error).splitlines()[0]}); check the network and try again"
            ) from error

    def _store(self) -> Any:
        from obstore.store import S3Store

        options: dict[str, Any] = {"endpoint": self._endpoint} if self._endpoint else {}
        return S3Store(
            self._bucket,
            region=REGION,
            skip_signature=True,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "60s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
            **options,
        )

    def _record(self, folder: str, path: str, item: Mapping[str, Any]) -> DatasetRecord:
        parent, _, stored = path.rpartition("/")
        name, dataset_id = split_id(stored)
        record = record_of(
            self._cache / folder,
            f"{parent}/{name}".lstrip("/"),
            size=int(item["size"]),
            md5=_md5(item["e_tag"]),
            id=dataset_id,
            url=self._url(item["path"]),
            version=item["e_tag"] or "",
            cache=self._cache,
        )
        return replace(record, default=bool(record.revision) and record.revision == self._revision)

    def _url(self, key: str) -> str:
        if self._endpoint:
            return file_url(self._endpoint, f"{self._bucket}/{key}")
        return file_url(f"https://{self._bucket}.s3.amazonaws.com", key)


def _md5(e_tag: str | None) -> str | None:
    """The md5 of an object that was uploaded in one piece; of others the ETag is no md5 and has a ``-``."""
    tag = (e_tag or "").strip('"')
    return tag if _MD5.fullmatch(tag) else None
