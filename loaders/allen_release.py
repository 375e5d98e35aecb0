"""One pinned release of the Allen Visual Behavior recordings: its manifest, and where each of its files is."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.allen_manifest import (
    NO_FILE,
    PROJECT,
    Manifest,
    ManifestFile,
    check_version,
    manifest_name,
    parse_manifest,
    parse_version,
    versions_of,
)
from loaders.allen_tables import ALL, read_table
from loaders.errors import InconsistentData, NotFound, SourceUnavailable
from loaders.fetcher import fetch
from loaders.readers import check_file
from loaders.records import DatasetRecord
from loaders.remote_names import file_url

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
BUCKET, REGION = "visual-behavior-neuropixels-data", "us-west-2"
VERSION = "0.5.0"
"""The newest release that this was written for."""


class AllenRelease:
    """The tables and files of a release of Visual Behavior: in the bucket, in a cache folder of the SDK, or mounted.

    Parameters
    ----------
    folder : path, optional
        A cache folder of the SDK, or the bucket as it is mounted: what lies there is used, after its hash was compared.
        Nothing is written there.
    version : str
        The release.
    cache : path
        Where files that `folder` does not have would lie on this machine.
    endpoint : str, optional
        Another S3 server, such as ``http://127.0.0.1:5000``.
    manifest : path, optional
        The manifest, in the place of the one of the folder or the bucket.
    old : bool
        Allow a release whose LFP has a wrong scale.

    Raises
    ------
    BadArgument
        If the version is none, or one with wrong LFP.
    NotFound
        If the folder, or the release in it, does not exist.
    CorruptData, SourceUnavailable
        If the manifest is none, or cannot be fetched.
    """

    dataset = "allen-vbn"
    date_column = "date_of_acquisition"
    """It is the local time in Seattle, although it says +00:00: the day as it stands there is that of the recording."""

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        cache: str | Path,
        version: str = VERSION,
        endpoint: str | None = None,
        manifest: str | Path | None = None,
        old: bool = False,
    ) -> None:
        check_version(version, old=old)
        self.version = version
        self.folder = None if folder is None else Path(folder).absolute()
        self._cache = Path(cache).absolute()
        self._endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or None
        self.manifest, self._listed_in = self._read_manifest(None if manifest is None else Path(manifest))
        if self.folder is not None and (newer := self.newer()):
            log.warning("%s: has the releases %s too; this is %s", self.folder, ", ".join(newer), version)

    def record(self, file: ManifestFile, collection: str = "") -> DatasetRecord:
        """A file of the release: in the folder if it is there, else in the cache, to be fetched."""
        name = file.rel_path.rpartition("/")[2]
        local = self._local(file.rel_path)
        remote = local is None
        return DatasetRecord(
            *(name, collection, self.version, name),
            local or self._cache / f"{PROJECT}-{self.version}" / file.rel_path,
            default=True,
            id=file.version_id,
            url=self._url(file.bucket, file.key, file.version_id) if remote else "",
            cache=self._cache if remote else None,
            blake2b=file.blake2b,
            listed_in=self._listed_in,
        )

    def read(self, name: str) -> pd.DataFrame:
        """A table, compared with its hash: see `loaders.allen_tables.read_table`."""
        record = self.record(self.manifest.table(name))
        fetch([record])
        check_file(record)
        return read_table(record.path, ALL[name])

    def files(self, sessions: pd.DataFrame, probes: pd.DataFrame) -> list[DatasetRecord]:
        """The file of a session, and the LFP files of its probes, each in the collection of its probe's name."""
        named = [("", row) for _, row in sessions.iterrows()]
        named += [(str(row["name"]), row) for _, row in probes.iterrows() if _is_file(row["file_id"])]
        return [self.record(self._file(row, f"session {row['ecephys_session_id']}"), of) for of, row in named]

    def news(self) -> list[str]:
        """What is to be said of other releases."""
        try:
            newer = self.newer()
        except SourceUnavailable as error:
            return [f"whether there is a release after {self.version} is not known: {error}"]
        return [f"there is a newer release, {', '.join(newer)}; this is {self.version}"] if newer else []

    def _file(self, row: pd.Series, what: str) -> ManifestFile:
        """The file of a row; one that lies with another session is refused: the tables are of another release then."""
        found = self.manifest.file(int(row["file_id"]) if _is_file(row["file_id"]) else NO_FILE, what)
        if str(row["ecephys_session_id"]) not in found.rel_path.split("/"):
            raise InconsistentData(
                f"{what}: expected a file of that session, the manifest {self.version} has {found.rel_path}; the "
                "tables and the manifest are of different releases"
            )
        return found

    def versions(self) -> list[str]:
        """The releases that there are, oldest first; raises SourceUnavailable if the bucket cannot be asked."""
        if self.folder is not None:
            return versions_of(path.name for place in _manifest_folders(self.folder) for path in place.glob("*.json"))
        items = list_in(BUCKET, f"{PROJECT}/manifests/", self._endpoint)
        return versions_of(item["path"].rpartition("/")[2] for item in items)

    def newer(self) -> list[str]:
        """The releases after this one: they are never taken without being asked for."""
        return [version for version in self.versions() if parse_version(version) > parse_version(self.version)]

    def _local(self, rel_path: str) -> Path | None:
        if self.folder is None:
            return None
        places = (self.folder / f"{PROJECT}-{self.version}" / rel_path, self.folder / PROJECT / rel_path)
        return next((path for path in places if path.is_file()), None)

    def _read_manifest(self, given: Path | None) -> tuple[Manifest, str]:
        """The manifest, and what the provenance says of it."""
        path = given or self._find_manifest()
        try:
            text = path.read_bytes()
            found = parse_manifest(text, str(path))
        except OSError as error:
            raise NotFound(f"manifest {path}: cannot be read ({error.strerror})") from error
        if found.version != self.version:
            raise InconsistentData(f"manifest {path}: expected that of release {self.version}, got {found.version}")
        return found, f"{manifest_name(self.version)}, blake2b {hashlib.blake2b(text).hexdigest()}"

    def _find_manifest(self) -> Path:
        name = manifest_name(self.version)
        if self.folder is not None:
            if not self.folder.is_dir():
                raise NotFound(f"folder {self.folder}: {'is a file' if self.folder.exists() else 'does not exist'}")
            found = [place / name for place in _manifest_folders(self.folder) if (place / name).is_file()]
            if not found:
                have = ", ".join(self.versions()) or f"none; name the one with {name} or {PROJECT}/manifests in it"
                raise NotFound(f"folder {self.folder}: has no manifest of release {self.version}; it has {have}")
            return found[0]
        url = self._url(BUCKET, f"{PROJECT}/manifests/{name}")
        record = DatasetRecord(name, "", "", name, self._cache / name, url=url, cache=self._cache)
        if not record.path.is_file():  # it has no hash: one that is here counts
            fetch([record])
        return record.path

    def _url(self, bucket: str, key: str, version_id: str = "") -> str:
        query = f"?versionId={version_id}" if version_id else ""
        return url_in(bucket, key, self._endpoint) + query


def url_in(bucket: str, key: str, endpoint: str | None) -> str:
    """The http address of a file in a bucket of Allen."""
    if endpoint:
        return file_url(endpoint, f"{bucket}/{key}")
    return file_url(f"https://{bucket}.s3.{REGION}.amazonaws.com", key)


def list_in(bucket: str, prefix: str, endpoint: str | None) -> list[Mapping[str, Any]]:
    """The objects below a prefix, each with path, size and e_tag; raises SourceUnavailable if they cannot be listed."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    store = S3Store(
        bucket,
        region=REGION,
        skip_signature=True,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "60s"},
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
        **options,
    )
    try:
        return [item for page in obstore.list(store, prefix) for item in page]
    except (BaseError, OSError) as error:
        raise SourceUnavailable(
            f"s3://{bucket}/{prefix}: cannot be listed ({type(error).__name__}: {str(error).splitlines()[0]}); check "
            "the network and try again"
        ) from error


def _manifest_folders(folder: Path) -> tuple[Path, ...]:
    """Where manifests lie in a cache of the SDK and in a mounted bucket."""
    return folder, folder / PROJECT / "manifests"


def _is_file(file_id: Any) -> bool:
    import pandas as pd

    return not pd.isna(file_id) and int(file_id) >= 0
