"""The list of all files of a store with size and checksum: what makes a lost or changed chunk visible.

A missing chunk reads as zeros in Zarr, without an error. The manifest, written last, is therefore what says that a
store is complete; it lies in the store as ``manifest.json``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from loaders.checksum import crc32, crc32_of_file
from loaders.errors import StoreError

MANIFEST = "manifest.json"
REMEDY = "run cubes repair, or remove it and build it again"

Files = dict[str, dict[str, Any]]
"""Size (``bytes``) and checksum (``crc32``) of files, by their path within a store; of chunks of the large arrays also
the checksum of the cells (``decoded_crc32``)."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a store.

    Attributes
    ----------
    key : str
        The file, by its path within the store.
    what : str
        In words.
    byte_range : (int, int) or None
        First byte concerned, and the one after the last: of the file, all of it, as its checksum is that of the whole;
        or of the recording that a store links to. None if the file has no known size.
    cells : str
        Which cells these are, in words; empty if they are not of a chunk.
    """

    key: str
    what: str
    byte_range: tuple[int, int] | None = None
    cells: str = ""


def store_files(store: Path) -> dict[str, Path]:
    """All files of a store but the manifest, by their path within it."""
    files = {path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()}
    files.pop(MANIFEST, None)
    return dict(sorted(files.items()))


def entry(path: Path) -> dict[str, Any]:
    """What the manifest says of a file."""
    return {"bytes": path.stat().st_size, "crc32": crc32_of_file(path)}


def make_manifest(files: Files, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a finished store; `facts` (provenance, times) go in beside the files."""
    manifest = {"manifest_version": 1, **facts, "files": files}
    return manifest | {"crc32": _checksum(manifest)}


def _checksum(manifest: Mapping[str, Any]) -> str:
    """Of all that a manifest says but its own checksum."""
    said = {name: value for name, value in manifest.items() if name != "crc32"}
    return crc32(json.dumps(said, sort_keys=True).encode())


def has_own_checksum(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest says what it said when it was written."""
    return manifest.get("crc32") == _checksum(manifest)


def read_manifest(store: Path) -> dict[str, Any]:
    """Read the manifest of a store.

    Raises
    ------
    StoreError
        If `store` is no folder, has no manifest, or one that cannot be read or is not as written.
    """
    if not store.is_dir():
        raise StoreError(f"store {store}: does not exist")
    path = store / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StoreError(
            f"store {store}: has no {MANIFEST}, so it was not built by ibl-cubes or not finished; expected "
            "<root>/insertions/<pid>/<product>.zarr"
        ) from error
    except (OSError, ValueError) as error:
        raise StoreError(f"store {store}: its {MANIFEST} cannot be read ({error}); {REMEDY}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise StoreError(f"store {store}: its {MANIFEST} lists no files; {REMEDY}")
    if manifest.get("crc32") != _checksum(manifest):
        raise StoreError(f"store {store}: its {MANIFEST} is not as written; {REMEDY}")
    return manifest


def read_entry(store: Path, key: str) -> dict[str, Any]:
    """What the manifest says of one file, without parsing the list of all, which may be megabytes.

    Raises
    ------
    StoreError
        If there is no manifest, or it does not list the file.
    """
    path = store / MANIFEST
    try:
        text = path.read_text()
    except (OSError, ValueError):
        return dict(read_manifest(store)["files"][key])  # which says what is wrong
    start = text.rfind(f"\n  {json.dumps(key)}: {{")  # a file of the list: indented by two, as `publish` writes it
    end = text.find("}", start)
    if start < 0 or end < 0 or not text.endswith("}"):
        raise StoreError(f"store {store}: its {MANIFEST} is cut, or does not list {key}; build the store again")
    entry: dict[str, Any] = json.loads(text[text.index("{", start) : end + 1])
    return entry


def verify_store(store: Path, *, quick: bool = False) -> list[Problem]:
    """Compare a store with its manifest.

    Parameters
    ----------
    store : Path
    quick : bool
        Only names and sizes; otherwise every byte is read and its checksum compared.

    Returns
    -------
    list of Problem
        Empty if the store is complete and unchanged.

    Raises
    ------
    StoreError
        If there is no manifest, or it is damaged and so says nothing about the files.
    """
    listed = read_manifest(store)["files"]
    found = store_files(store)
    problems = [Problem(key, "missing", (0, listed[key]["bytes"])) for key in sorted(set(listed) - set(found))]
    extra = sorted(set(found) - set(listed))
    problems += [Problem(key, "not in the manifest", (0, found[key].stat().st_size)) for key in extra]
    problems += [Problem(key, "chunk missing, and not in the manifest") for key in _lost_chunks(store, listed)]
    common = {key: listed[key] for key in sorted(set(listed) & set(found))}
    return problems + compare_files(store, common, quick=quick)


def compare_files(store: Path, files: Files, *, quick: bool = False) -> list[Problem]:
    """Compare files that exist with what is known of them; if `quick`, only their sizes."""
    problems = []
    for key, expected in files.items():
        path = store / key
        size, whole = path.stat().st_size, (0, expected["bytes"])
        if size != expected["bytes"]:
            problems.append(Problem(key, f"{size} bytes, expected {expected['bytes']}", whole))
        elif not quick and (value := crc32_of_file(path)) != expected["crc32"]:
            problems.append(Problem(key, f"crc32 {value}, expected {expected['crc32']}", whole))
    return problems


def _lost_chunks(store: Path, listed: Mapping[str, Any]) -> list[str]:
    """Chunks that the shapes in the array metadata demand and the manifest does not list."""
    arrays = sorted(path.parent.name for path in store.glob("*/zarr.json"))
    intact = [name for name in arrays if entry(store / name / "zarr.json") == listed.get(f"{name}/zarr.json")]
    return [key for name in intact for key in _chunk_keys(store, name) if key not in listed]


def _chunk_keys(store: Path, name: str) -> list[str]:
    metadata = json.loads((store / name / "zarr.json").read_text())
    chunk = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [ceil(size / step) for size, step in zip(metadata["shape"], chunk, strict=True)]
    return ["/".join([name, "c", *map(str, index)]) for index in itertools.product(*map(range, counts))]
