"""One pinned release of the Allen Visual Behavior recordings: its manifest, and where each of its files is."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from loaders.allen_manifest import (
    PROJECT,
    Manifest,
    ManifestFile,
    check_version,
    manifest_name,
    parse_manifest,
    parse_version,
    versions_of,
)
from loaders.errors import InconsistentData, NotFound, SourceUnavailable
from loaders.fetcher import fetch
from loaders.records import DatasetRecord
from loaders.remote_names import file_url

BUCKET, REGION = "visual-behavior-neuropixels-data", "us-west-2"
VERSION = "0.5.0"
"""The newest release that this was written for."""


class AllenRelease:
    """The files of one release: in the public bucket, in a cache folder of the SDK, or in the bucket as it is mounted.

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
        self.manifest = self._read_manifest(None if manifest is None else Path(manifest))

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
        )

    def versions(self) -> list[str]:
        """The releases that there are, oldest first; raises SourceUnavailable if the bucket cannot be asked."""
        if self.folder is not None:
            return versions_of(path.name for place in _manifest_folders(self.folder) for path in place.glob("*.json"))
        return versions_of(self._listed())

    def newer(self) -> list[str]:
        """The releases after this one: they are never taken without being asked for."""
        return [version for version in self.versions() if parse_version(version) > parse_version(self.version)]

    def _local(self, rel_path: str) -> Path | None:
        if self.folder is None:
            return None
        places = (self.folder / f"{PROJECT}-{self.version}" / rel_path, self.folder / PROJECT / rel_path)
        return next((path for path in places if path.is_file()), None)

    def _read_manifest(self, given: Path | None) -> Manifest:
        path = given or self._find_manifest()
        try:
            found = parse_manifest(path.read_bytes(), str(path))
        except OSError as error:
            raise NotFound(f"manifest {path}: cannot be read ({error.strerror})") from error
        if found.version != self.version:
            raise InconsistentData(f"manifest {path}: expected that of release {self.version}, got {found.version}")
        return found

    def _find_manifest(self) -> Path:
        name = manifest_name(self.version)
        if self.folder is not None:
            if not self.folder.is_dir():
                raise NotFound(f"folder {self.folder}: does not exist")
            found = [place / name for place in _manifest_folders(self.folder) if (place / name).is_file()]
            if not found:
                have = ", ".join(self.versions()) or "none"
                raise NotFound(f"folder {self.folder}: has no manifest of release {self.version}; it has {have}")
            return found[0]
        url = self._url(BUCKET, f"{PROJECT}/manifests/{name}")
        record = DatasetRecord(name, "", "", name, self._cache / name, url=url, cache=self._cache)
        if not record.path.is_file():  # it has no hash: one that is here counts
            fetch([record])
        return record.path

    def _url(self, bucket: str, key: str, version_id: str = "") -> str:
        query = f"?versionId={version_id}" if version_id else ""
        if self._endpoint:
            return file_url(self._endpoint, f"{bucket}/{key}") + query
        return file_url(f"https://{bucket}.s3.{REGION}.amazonaws.com", key) + query

    def _listed(self) -> list[str]:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        options: dict[str, Any] = {"endpoint": self._endpoint} if self._endpoint else {}
        store = S3Store(
            BUCKET,
            region=REGION,
            skip_signature=True,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "60s"},
            retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
            **options,
        )
        try:
            items = [item for page in obstore.list(store, f"{PROJECT}/manifests/") for item in page]
        except (BaseError, OSError) as error:
            raise SourceUnavailable(
                f"s3://{BUCKET}/{PROJECT}/manifests/: cannot be listed ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); check the network and try again"
            ) from error
        return [item["path"].rpartition("/")[2] for item in items]


def _manifest_folders(folder: Path) -> tuple[Path, ...]:
    """Where manifests lie in a cache of the SDK and in a mounted bucket."""
    return folder, folder / PROJECT / "manifests"
