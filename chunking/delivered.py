"""A store that was delivered to another home than a local folder: read by key, and compared with its manifest."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from chunking.manifest import MANIFEST, Problem, has_own_checksum
from loaders.checksum import crc32
from loaders.errors import StoreError

THREADS = 8  # requests at once: each holds one file in memory


class Delivered(Protocol):
    """One version of a store, which never changes. Can be pickled; the pickle has no credentials."""

    @property
    def name(self) -> str:
        """Its url or path, for messages and for names."""
        ...

    @property
    def build_key(self) -> str:
        """Which version of the product it is."""
        ...

    def manifest(self) -> dict[str, Any]:
        """Its manifest; raises StoreError if there is none, or one that cannot be read."""
        ...

    def get(self, key: str) -> bytes | None:
        """A file; None if there is none."""
        ...

    def sizes(self) -> dict[str, int | None]:
        """All files but the manifest with their size in bytes; None where that is not known without reading."""
        ...


Place = Path | Delivered
"""Where a store lies: a local folder, or another home."""


def get_checked(store: Delivered, key: str) -> bytes | None:
    """A file as the manifest lists it; None if it lists none.

    Raises
    ------
    StoreError
        If it is missing or differs.
    """
    expected = store.manifest()["files"].get(key)
    if expected is None:
        return None
    data = store.get(key)
    if data is not None and (len(data), crc32(data)) == (expected["bytes"], expected["crc32"]):
        return data
    got = "no file" if data is None else f"crc32 {crc32(data)}, {len(data)} bytes"
    raise StoreError(
        f"store {store.name}: {key}: expected crc32 {expected['crc32']} and {expected['bytes']} bytes, got {got}; "
        "it is damaged: run cubes verify"
    )


def verify_delivered(store: Delivered, *, quick: bool = False) -> list[Problem]:
    """Compare a store with its manifest: names and sizes and, unless `quick`, every byte. Errors as `verify_store`."""
    manifest = store.manifest()
    if not has_own_checksum(manifest):
        return [Problem(MANIFEST, "is not as written")]
    listed, found = manifest["files"], store.sizes()
    problems = [Problem(key, "missing") for key in sorted(set(listed) - set(found))]
    problems += [Problem(key, "not in the manifest") for key in sorted(set(found) - set(listed))]
    unread = []
    for key in sorted(set(listed) & set(found)):
        size, expected = found[key], listed[key]["bytes"]
        if size is not None and size != expected:
            problems.append(Problem(key, f"{size} bytes, expected {expected}"))
        else:
            unread.append(key)
    return problems if quick else problems + _different(store, unread, listed)


def _different(store: Delivered, keys: list[str], listed: dict[str, Any]) -> list[Problem]:
    def compare(key: str) -> Problem | None:
        data, expected = store.get(key), listed[key]
        if data is None:
            return Problem(key, "missing")
        if (value := crc32(data)) != expected["crc32"]:
            return Problem(key, f"crc32 {value}, expected {expected['crc32']}")
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        return [problem for problem in pool.map(compare, keys) if problem is not None]
