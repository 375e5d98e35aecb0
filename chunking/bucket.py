"""An S3 bucket as the home of stores: every version of a store under a name of its own, and a pointer to one of them.

``insertions/<pid>/<product>.<build key>.zarr/...`` holds the files, ``insertions/<pid>/<product>.json`` says which
version readers find. A bucket has no rename, so the order is the protocol: chunks, metadata of the arrays, metadata of
the store, manifest, pointer. Nothing is ever overwritten but the pointer, which is put only if it is still the one that
was seen before. So a version that plain Zarr can open has all its chunks, one with a manifest is complete, and of
several builders exactly one wins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from chunking.delivered import THREADS, Place, verify_delivered
from chunking.icechunk_repo import ICECHUNK, IcechunkStore, deliver
from chunking.manifest import MANIFEST, Problem, read_manifest
from chunking.objects import Facts, Objects, Occupied, same_bytes
from loaders.alf_paths import known_pids
from loaders.checksum import crc32
from loaders.errors import NotFound, StoreError

_METADATA = "zarr.json"
_KINDS = ("insertions", "sessions")


@dataclass(frozen=True)
class BucketStore:
    """One version of a store in a bucket.

    Attributes
    ----------
    objects : Objects
        Of the root.
    path : str
        Of the version, relative to the root.
    crc32 : str
        Of its manifest.
    """

    objects: Objects
    path: str
    crc32: str

    @property
    def name(self) -> str:
        """Its url."""
        return f"{self.objects.url}/{self.path}"

    @property
    def build_key(self) -> str:
        """Which version it is: as in its name."""
        return PurePosixPath(self.path).stem.rpartition(".")[2]

    def manifest(self) -> dict[str, Any]:
        """Its manifest, read once."""
        return self._manifest

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        data = self.get(MANIFEST)
        if data is None:
            raise StoreError(f"store {self.name}: has no {MANIFEST}, so it is not complete; build it again")
        manifest = _parse(data, f"store {self.name}: its {MANIFEST}", "files")
        if crc32(data) != self.crc32:
            raise StoreError(f"store {self.name}: its {MANIFEST} is not the one that was published; build it again")
        return manifest

    def get(self, key: str) -> bytes | None:
        """A file; None if there is none."""
        found = self.objects.get(f"{self.path}/{key}")
        return None if found is None else found[0]

    def sizes(self) -> dict[str, int | None]:
        """All files but the manifest with their size, from a listing."""
        return {key: facts.size for key, facts in self.objects.below(self.path).items() if key != MANIFEST}

    def __reduce__(self) -> tuple[Any, ...]:
        return BucketStore, (self.objects, self.path, self.crc32)


@dataclass(frozen=True)
class Bucket:
    """Stores below a url.

    Parameters
    ----------
    url : str
        ``s3://bucket/prefix``.
    store : {"zarr", "icechunk"}
        As what stores are delivered; both are read.
    """

    url: str
    store: str = "zarr"
    objects: Objects = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "objects", Objects(self.url))
        object.__setattr__(self, "url", self.objects.url)

    def __str__(self) -> str:
        return self.url

    def where(self, path: str) -> str:
        """Url of the present version of a store; of the pointer if there is none."""
        store = self._store(path)
        return f"{self.url}/{_pointer(path)}" if store is None else store.name

    def exists(self, path: str) -> bool:
        """Whether there is a pointer."""
        return self._store(path) is not None

    def present(self, path: str) -> str | None:
        """The build key that the pointer names."""
        store = self._store(path)
        return None if store is None else store.build_key

    def problems(self, path: str) -> list[Problem]:
        """What a listing shows to be wrong with the present version."""
        store = self._store(path)
        return [] if store is None else verify_delivered(store, quick=True)

    def finish(self, path: str, build_key: str, *, replacing: bool) -> bool:
        """Point to a version that has its manifest already, if it is whole."""
        before = self._read(path)
        if before is not None and not replacing:
            return False
        version = _version(path, build_key)
        found = self.objects.get(f"{version}/{MANIFEST}") if self.store == "zarr" else None
        if found is None:
            return False
        store = BucketStore(self.objects, version, crc32(found[0]))
        if verify_delivered(store, quick=True):
            return False
        self._point(path, store, before and before[1])
        return True

    def publish(self, folder: Path, path: str, *, replacing: bool) -> None:
        """Put the files of a complete store, then its manifest, then the pointer; what is there already is not sent.

        Raises
        ------
        StoreError
            If another version was published meanwhile, or objects of other content are in the way.
        """
        manifest = read_manifest(folder)
        before = self._read(path)
        if before is not None and not replacing and before[0].build_key != manifest["build_key"]:
            raise _lost(self.where(path))
        if self.store == "icechunk":
            repository = deliver(folder, f"{self.url}/{_version(path, manifest['build_key'], ICECHUNK)}")
            self._point(path, repository, before and before[1])
            return
        version = _version(path, manifest["build_key"])
        delivery = _Delivery(self.objects, version, folder, manifest["files"])
        delivery.send_files()
        self._point(path, BucketStore(self.objects, version, delivery.send_manifest()), before and before[1])

    def pids(self) -> list[str]:
        """The insertions below the root."""
        pids = self.objects.names("insertions", "folders")
        if not pids:
            raise NotFound(f"root {self.url}: holds no cubes (there is nothing below {self.url}/insertions/)")
        return pids

    def stores(self, pid: str) -> dict[str, Place]:
        """The stores that pointers of an insertion name."""
        found = self.within(f"insertions/{pid}") if pid and "/" not in pid else {}
        if not found and pid not in (pids := self.pids()):
            raise NotFound(f"pid {pid!r}: not in {self.url}, which has {known_pids(pids)}")
        return found

    def sessions(self) -> list[str]:
        """The sessions below the root."""
        return self.objects.names("sessions", "folders")

    def folders(self) -> list[str]:
        """What may hold stores, to be asked of `within`."""
        return [f"{kind}/{name}" for kind in _KINDS for name in self.objects.names(kind, "folders")]

    def within(self, folder: str) -> dict[str, Place]:
        """The stores that pointers in a folder name."""
        names = self.objects.names(folder, "objects")
        products = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        found = {product: self._store(f"{folder}/{product}.zarr") for product in products}
        return {product: store for product, store in found.items() if store is not None}

    def _store(self, path: str) -> BucketStore | IcechunkStore | None:
        found = self._read(path)
        return None if found is None else found[0]

    def _read(self, path: str) -> tuple[BucketStore | IcechunkStore, str] | None:
        """What the pointer names, and its ETag."""
        found = self.objects.get(_pointer(path))
        if found is None:
            return None
        pointer = _parse(found[0], f"{self.url}/{_pointer(path)}", "build_key", "store")
        key, etag = str(pointer["build_key"]), found[1]
        if str(pointer.get("store")).endswith(ICECHUNK):
            return IcechunkStore(f"{self.url}/{_version(path, key, ICECHUNK)}", key), etag
        return BucketStore(self.objects, _version(path, key), str(pointer.get("manifest_crc32"))), etag

    def _point(self, path: str, store: BucketStore | IcechunkStore, over: str | None) -> None:
        """Let readers find a version, if they still find what they did when `over` was the pointer."""
        pointer = {"build_key": store.build_key, "store": store.name.rpartition("/")[2]}
        if isinstance(store, BucketStore):  # a tag of icechunk says itself what it is
            pointer["manifest_crc32"] = store.crc32
        try:
            self.objects.put(_pointer(path), json.dumps(pointer, sort_keys=True).encode(), over=over)
        except Occupied as error:
            if self.present(path) != store.build_key:  # else: another builder of the same, or our own lost answer
                raise _lost(self.where(path)) from error


def store_at_url(url: str) -> BucketStore | IcechunkStore:
    """The version of a store at a url that ends in its build key; raises NotFound if it is not complete."""
    if url.endswith(ICECHUNK):
        return IcechunkStore(url, PurePosixPath(url).stem.rpartition(".")[2])
    *root, kind, owner, name = url.rstrip("/").split("/")
    objects, path = Objects("/".join(root)), f"{kind}/{owner}/{name}"
    found = objects.get(f"{path}/{MANIFEST}")
    if found is None:
        raise NotFound(
            f"{url}: no such store, or none that is complete (it has no {MANIFEST}); expected "
            "s3://<bucket>/<prefix>/insertions/<pid>/<product>.<build key>.zarr, as cubes ls shows it"
        )
    return BucketStore(objects, path, crc32(found[0]))


@dataclass(frozen=True)
class _Delivery:
    """The way of one version of a store to a bucket."""

    objects: Objects
    version: str
    folder: Path
    files: Mapping[str, Mapping[str, Any]]

    def send_files(self) -> None:
        """Send what is not there; what makes a store readable comes after what it needs."""
        there = self.objects.below(self.version)
        if foreign := sorted(set(there) - {*self.files, MANIFEST}):
            raise self._in_the_way(foreign[0])
        names = [key for key in self.files if key.endswith(f"/{_METADATA}")]
        chunks = [key for key in self.files if key not in names and key != _METADATA]
        pool = ThreadPoolExecutor(THREADS)
        try:
            for keys in (chunks, names, [_METADATA]):
                for _ in pool.map(lambda key: self._send(key, there.get(key)), keys):
                    pass
        finally:
            pool.shutdown(cancel_futures=True)

    def _send(self, key: str, there: Facts | None) -> None:
        data = (self.folder / key).read_bytes()
        if crc32(data) != self.files[key]["crc32"]:
            raise StoreError(f"store {self.folder}: {key}: is not as written; build it again")
        if there is None:
            try:
                there = Facts(len(data), self.objects.put(f"{self.version}/{key}", data))
            except Occupied:  # by another builder of the same, or by ourselves and the answer was lost
                there = Facts(len(data), "")
        same = same_bytes(there, hashlib.md5(data, usedforsecurity=False).hexdigest(), len(data))
        if same is None:
            found = self.objects.get(f"{self.version}/{key}")
            same = found is not None and found[0] == data
        if not same:
            raise self._in_the_way(key)

    def send_manifest(self) -> str:
        """Send the manifest, or take the one that is there for the same files; gives the checksum of its bytes."""
        data = (self.folder / MANIFEST).read_bytes()
        try:
            self.objects.put(f"{self.version}/{MANIFEST}", data)
        except Occupied:
            found = self.objects.get(f"{self.version}/{MANIFEST}")
            there = (
                {} if found is None else _parse(found[0], f"{self.objects.url}/{self.version}: its {MANIFEST}", "files")
            )
            if found is None or there["files"] != self.files:
                raise self._in_the_way(MANIFEST) from None
            data = found[0]
        return crc32(data)

    def _in_the_way(self, key: str) -> StoreError:
        where = f"{self.objects.url}/{self.version}"
        return StoreError(
            f"store {where}: {key}: an object is there that is not of this store, and nothing is overwritten; remove "
            f"all objects below {where}/ and build again"
        )


def _pointer(path: str) -> str:
    return path.removesuffix(".zarr") + ".json"


def _version(path: str, build_key: str, suffix: str = ".zarr") -> str:
    return f"{path.removesuffix('.zarr')}.{build_key}{suffix}"


def _lost(where: str) -> StoreError:
    return StoreError(
        f"store {where}: another builder published it meanwhile, from other files, parameters or versions; look what "
        "is there, and replace it if it is to be another"
    )


def _parse(data: bytes, what: str, *names: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
        if all(name in value for name in names):
            return dict(value)
    except (ValueError, TypeError):
        pass
    raise StoreError(f"{what} cannot be read; remove it and build the store again")
