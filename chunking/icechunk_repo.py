"""A store as an icechunk repository: the same files, as chunks and metadata of commits, and a tag when it is complete.

One repository holds one version of one product. The last commit carries the manifest; readers open the tag, never the
tip of a branch. icechunk itself does not wait for the disk, and loses commits of concurrent writers on a local file
system (both measured): there, a repository is made in the staging folder, behind its lock, and renamed like a store.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunking.delivered import THREADS, verify_delivered
from chunking.manifest import MANIFEST, has_own_checksum, read_manifest
from chunking.versions import archive_of
from loaders.checksum import crc32
from loaders.errors import BadArgument, StoreError

if TYPE_CHECKING:
    import icechunk

ICECHUNK = ".icechunk"
_BATCH_BYTES, _BATCH_FILES = 1 << 28, 4096  # a commit rewrites the list of all chunks: few commits, and not all at once


def check_installed() -> None:
    """Raise BadArgument if the package icechunk, an extra of this one, is not there."""
    try:
        import icechunk  # noqa: F401  not at the top: most never need it
    except ImportError as error:
        raise BadArgument(
            f"store icechunk: expected the package icechunk, which is not there ({error}); pip install "
            "'ibl-cubes[icechunk]'"
        ) from error


@dataclass(frozen=True)
class IcechunkStore:
    """One version of a store, in a repository.

    Attributes
    ----------
    place : str
        Path or url of the repository.
    build_key : str
    """

    place: str
    build_key: str

    @property
    def name(self) -> str:
        """Path or url of the repository."""
        return self.place

    def manifest(self) -> dict[str, Any]:
        """The manifest in the metadata of the commit that is tagged."""
        return self._there().manifest()

    def get(self, key: str) -> bytes | None:
        """A file; None if there is none."""
        there = self._there()
        try:
            if (found := there.get(key)) is not None:
                return found
        except StoreError:
            if self._where() == there.where:
                raise
        return self._there().get(key)  # a replacement came in between, or there is none

    def sizes(self) -> dict[str, int | None]:
        """All files; their sizes are known to those who read them."""
        return self._there().sizes()

    def _there(self) -> _Snapshot:
        where = self._where()
        if where not in self._opened:
            self._opened[where] = self._open(where)
        return self._opened[where]

    @cached_property
    def _opened(self) -> dict[str, _Snapshot]:
        return {}

    def _open(self, where: str) -> _Snapshot:
        check_installed()
        import icechunk

        with _explained(self.place):
            repository = icechunk.Repository.open(_storage(where))
            tag = _tag(self.build_key)
            snapshot = _Snapshot(where, repository, repository.lookup_tag(tag))
        manifest = snapshot.manifest()
        if not has_own_checksum(manifest) or manifest.get("build_key") != self.build_key:
            raise StoreError(f"store {self.place}: its manifest is not as written; build it again")
        return snapshot

    def _where(self) -> str:
        """Where this version is: in its place, or where it was put when it was replaced."""
        if "://" in self.place:
            return self.place
        path = Path(self.place)
        archive = archive_of(path, self.build_key)
        return str(archive if archive.exists() and read_manifest(path)["build_key"] != self.build_key else path)

    def __reduce__(self) -> tuple[Any, ...]:
        return IcechunkStore, (self.place, self.build_key)


class _Snapshot:
    """A commit of a repository, whether it has a tag or not."""

    def __init__(self, where: str, repository: icechunk.Repository, commit: str) -> None:
        self.where = self.name = where
        metadata = next(iter(repository.ancestry(snapshot_id=commit))).metadata
        self._manifest: dict[str, Any] = json.loads(str(metadata.get("manifest", "{}")))
        self._store = repository.readonly_session(snapshot_id=commit).store
        self.build_key = str(self._manifest.get("build_key"))

    def manifest(self) -> dict[str, Any]:
        return self._manifest

    def get(self, key: str) -> bytes | None:
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.sync import sync

        with _explained(self.where):
            try:
                found = sync(self._store.get(key, default_buffer_prototype()))
            except KeyError:  # no such array
                return None
        return None if found is None else found.to_bytes()

    def sizes(self) -> dict[str, int | None]:
        from zarr.core.sync import sync

        with _explained(self.where):
            return dict.fromkeys(sync(_listed(self._store)))


def local_repository(path: Path) -> IcechunkStore:
    """The present version in a local repository; raises StoreError if it is not a complete one."""
    return IcechunkStore(str(path.absolute()), str(read_manifest(path)["build_key"]))


def deliver(folder: Path, place: str | Path) -> IcechunkStore:
    """Commit the files of a complete store in batches, compare what is read back, and tag it.

    What an earlier delivery of the same files has committed is not sent again.

    Parameters
    ----------
    folder : Path
        With its manifest.
    place : path or str
        Of the repository, which need not exist.

    Raises
    ------
    StoreError
        If the repository holds something else, does not take the files, or does not give them back.
    BadArgument
        If icechunk is not installed.
    """
    check_installed()
    import icechunk

    manifest = read_manifest(folder)
    store = IcechunkStore(str(place), str(manifest["build_key"]))
    with _explained(store.place):
        storage = _storage(store.place)
        try:
            repository = icechunk.Repository.open_or_create(storage)
        except icechunk.IcechunkError:  # another builder of the same has made it meanwhile; or it says so again
            repository = icechunk.Repository.open(storage)
        _tag_verified(repository, _commit(repository, folder, manifest, store.place), store)
    return store


def _commit(repository: icechunk.Repository, folder: Path, manifest: Mapping[str, Any], place: str) -> str:
    """Commit the batches that are not there yet; gives the last commit."""
    import icechunk
    from zarr.core.sync import sync

    files = manifest["files"]
    batches = _batches(files)
    of = {"files_crc32": crc32(json.dumps(files, sort_keys=True).encode()), "batches": len(batches)}
    while True:
        session = repository.writable_session("main")
        done = _done(repository, session.snapshot_id, of, place)
        if done == len(batches):
            return session.snapshot_id
        sync(_set(session.store, folder, files, batches[done]))
        metadata: dict[str, Any] = {**of, "done": done + 1}
        if done + 1 == len(batches):
            metadata["manifest"] = (folder / MANIFEST).read_text()
        try:
            session.commit(f"{done + 1} of {len(batches)}", metadata=metadata)
        except icechunk.ConflictError:
            continue  # another builder of the same has committed meanwhile: go on from there


def _done(repository: icechunk.Repository, snapshot: str, of: Mapping[str, Any], place: str) -> int:
    """How many batches are committed."""
    last = next(iter(repository.ancestry(snapshot_id=snapshot)))
    if last.parent_id is None:
        return 0
    said = dict(last.metadata)
    if {name: said.get(name) for name in of} != of:
        raise StoreError(f"store {place}: holds something else than what is to be written; remove it and build again")
    return int(str(said["done"]))


def _batches(files: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """The files in the order in which they go in: icechunk takes chunks of arrays that it knows; always the same."""
    metadata = sorted((key for key in files if key.endswith("zarr.json")), key=lambda key: (key.count("/"), key))
    batches: list[list[str]] = [[]]
    size = 0
    for key in [*metadata, *(key for key in sorted(files) if not key.endswith("zarr.json"))]:
        if size >= _BATCH_BYTES or len(batches[-1]) >= _BATCH_FILES:
            batches.append([])
            size = 0
        batches[-1].append(key)
        size += files[key]["bytes"]
    return batches


async def _set(store: icechunk.IcechunkStore, folder: Path, files: Mapping[str, Any], keys: list[str]) -> None:
    from zarr.core.buffer import default_buffer_prototype

    buffer, room = default_buffer_prototype().buffer, asyncio.Semaphore(THREADS)

    async def put(key: str) -> None:
        async with room:
            data = (folder / key).read_bytes()
            if crc32(data) != files[key]["crc32"]:
                raise StoreError(f"store {folder}: {key}: is not as written; build it again")
            await store.set(key, buffer.from_bytes(data))

    metadata = [key for key in keys if key.endswith("zarr.json")]
    for key in metadata:  # of a group before those of its arrays
        await put(key)
    await asyncio.gather(*(put(key) for key in keys if key not in set(metadata)))


def _tag_verified(repository: icechunk.Repository, tip: str, store: IcechunkStore) -> None:
    """Tag the last commit, if what is read back from it is what the manifest lists."""
    import icechunk

    if problems := verify_delivered(_Snapshot(store.place, repository, tip)):
        listed = "; ".join(f"{problem.key}: {problem.what}" for problem in problems[:4])
        raise StoreError(f"store {store.place}: {len(problems)} files are not as written ({listed}); remove it")
    if _tag(store.build_key) in repository.list_tags():
        return
    try:
        repository.create_tag(_tag(store.build_key), snapshot_id=tip)
    except icechunk.IcechunkError:
        if _tag(store.build_key) not in repository.list_tags():  # else: by another builder of the same, meanwhile
            raise


def _tag(build_key: str) -> str:
    return f"complete-{build_key}"


def _storage(place: str) -> icechunk.Storage:
    import icechunk

    if "://" not in place:
        return icechunk.local_filesystem_storage(place)
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
    return icechunk.s3_storage(
        bucket=bucket,
        prefix=prefix,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        endpoint_url=endpoint,
        allow_http=True,
        force_path_style=endpoint is not None,
        anonymous=anonymous or None,
        from_env=None if anonymous else True,
    )


async def _listed(store: icechunk.IcechunkStore) -> list[str]:
    return [key async for key in store.list()]


@contextmanager
def _explained(place: str) -> Iterator[None]:
    """Errors of icechunk as one that names the store."""
    import icechunk

    try:
        yield
    except icechunk.IcechunkError as error:
        first = next(line for line in str(error).splitlines() if line.strip())
        raise StoreError(
            f"store {place}: icechunk cannot do it ({first.strip()[:200]}); verify it or build it again"
        ) from None
