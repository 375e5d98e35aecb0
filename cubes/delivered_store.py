"""A store in another home as Zarr reads it: every file is compared with the manifest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype

from chunking.delivered import Delivered, get_checked
from loaders.errors import StoreError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class DeliveredStore(Store):
    """The files of one version of a store, as its manifest lists them.

    What is missing or damaged is an error, never a fill value.

    Parameters
    ----------
    delivered : Delivered
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, delivered: Delivered) -> None:
        super().__init__(read_only=True)
        self.delivered = delivered
        self.build_key = delivered.build_key

    def with_read_only(self, read_only: bool = False) -> DeliveredStore:
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
            raise StoreError(f"store {self}: {key}: parts of a file cannot be compared with the manifest")
        data = get_checked(self.delivered, key)
        return None if data is None else (prototype or default_buffer_prototype()).buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether this version has such a file."""
        return key in self._files()

    async def list(self) -> AsyncIterator[str]:
        """All files."""
        for key in self._files():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All files whose path begins so."""
        for key in self._files():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names directly below a folder."""
        start = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in dict.fromkeys(key[len(start) :].split("/")[0] for key in self._files() if key.startswith(start)):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        """Refused: it is for reading only."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refused: it is for reading only."""
        self._check_writable()

    def _files(self) -> dict[str, Any]:
        files: dict[str, Any] = self.delivered.manifest()["files"]
        return files

    def __str__(self) -> str:
        return self.delivered.name

    def __repr__(self) -> str:
        return f"DeliveredStore({self.delivered.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeliveredStore) and self.delivered == other.delivered

    def __hash__(self) -> int:
        return hash(self.delivered)

    def __reduce__(self) -> tuple[Any, ...]:
        return DeliveredStore, (self.delivered,)
