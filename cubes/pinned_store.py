"""One version of a store, for reading: every file is compared with the manifest; a replaced store stays readable."""

from __future__ import annotations

import asyncio
import threading
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from chunking.delivered import Place
from chunking.homes import is_url
from chunking.manifest import MANIFEST, Files, read_manifest
from chunking.versions import Lease, archive_of
from cubes.delivered_store import DeliveredStore
from loaders.checksum import crc32
from loaders.errors import StoreError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class PinnedStore(LocalStore):
    """The files of a store as its manifest lists them when it is opened.

    A file that differs is looked for in the version that was replaced since. What is missing or damaged is an error,
    never a fill value. A pickle carries path and version only.

    Parameters
    ----------
    root : path
        Of the store.
    build_key : str, optional
        Which version; by default the present one.
    """

    def __init__(self, root: Path | str, build_key: str | None = None, *, read_only: bool = True) -> None:
        super().__init__(Path(root).absolute(), read_only=True)
        self.build_key = str(_manifest(self.root)["build_key"]) if build_key is None else build_key

    @property
    def folders(self) -> tuple[Path, Path]:
        """Where this version may lie: where it was, or where it is once it was replaced."""
        return self.root, archive_of(self.root, self.build_key)

    @property
    def files(self) -> Files:
        """What the manifest of this version lists."""
        return _files(self.folders, self.build_key)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The store itself: it is for reading only."""
        return self

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a file; None if this version has no such file."""
        return await asyncio.to_thread(self.get_sync, key, prototype=prototype, byte_range=byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a file; None if this version has no such file."""
        if byte_range is not None:
            raise StoreError(f"store {self.root}: {key}: parts of a file cannot be compared with the manifest")
        expected = self.files.get(key)
        if expected is None:
            return None
        buffer = (default_buffer_prototype() if prototype is None else prototype).buffer
        found: list[str] = []
        for folder in (*self.folders, self.root):  # once more, because a replacement may have come in between
            try:
                data = (folder / key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            if (crc := crc32(data)) == expected["crc32"]:
                return buffer.from_bytes(data)
            found.append(f"crc32 {crc}, {len(data)} bytes")
        raise StoreError(
            f"store {self.root}: {key}: expected crc32 {expected['crc32']} and {expected['bytes']} bytes, got "
            f"{found[0] if found else 'no file'}; it is damaged, or was replaced and removed since it was opened: "
            "run cubes verify"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PinnedStore) and (self.root, self.build_key) == (other.root, other.build_key)

    def __hash__(self) -> int:
        return hash((self.root, self.build_key))

    def __reduce__(self) -> tuple[Any, ...]:
        return PinnedStore, (str(self.root), self.build_key)


def pin(store: Place) -> PinnedStore | DeliveredStore:
    """Open the present version of a store, and keep its root from being collected while this process lives."""
    if not isinstance(store, Path):
        if not is_url(store.name):
            hold(Path(store.name).parents[2])
        return DeliveredStore(store)
    store = store.absolute()
    hold(store.parents[1 if store.parent.name == "pooled" else 2])
    return PinnedStore(store)


def hold(root: Path) -> None:
    """Keep replaced versions of the stores of a root while this process lives."""
    with _LEASES:
        _lease(root.absolute())


_LEASES = threading.Lock()


@cache
def _lease(root: Path) -> Lease:
    return Lease(root)


def _manifest(store: Path) -> dict[str, Any]:
    """The manifest of a store; parsed once for as long as it stays the same file."""
    try:
        status = (store / MANIFEST).stat()
    except OSError:
        return read_manifest(store)  # which says what is wrong
    return _parsed(store, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)
def _parsed(store: Path, stamp: tuple[int, int, int]) -> dict[str, Any]:
    return read_manifest(store)


def _files(folders: tuple[Path, Path], build_key: str) -> Files:
    for folder in (*folders, folders[0]):
        try:
            manifest = _manifest(folder)
        except StoreError:
            continue
        if manifest["build_key"] == build_key:
            files: Files = manifest["files"]
            return files
    raise StoreError(
        f"store {folders[0]}: the version {build_key} was replaced and removed since it was opened; open it again"
    )
