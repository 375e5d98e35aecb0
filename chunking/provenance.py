"""Where a product comes from: attributes that go into the store, and the key that says whether it is up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

from chunking.schema import CONVENTIONS, SCHEMA_VERSION
from loaders.records import Insertion, SourceFile

_VOLTAGE = (".cbin", ".bin")
_UNSAID = ("model", "dataset", "session_comment")  # not every catalog knows; the pid tells; a part of the comment


@dataclass(frozen=True, slots=True)
class SourceStore:
    """One store that was read, for the provenance of what is made of stores: its path in the root, and its version."""

    rel_path: str
    build_key: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a product is made of.

    Attributes
    ----------
    insertion : Insertion
    facts : mapping
        Attributes that this kind of product has, such as the sorter and the number of spikes.
    sources : sequence of SourceFile or SourceStore
    notes : sequence of str
        What was noticed while reading.
    """

    insertion: Insertion
    facts: Mapping[str, Any]
    sources: Sequence[SourceFile | SourceStore]
    notes: Sequence[str]


def attributes(origin: Origin, product: str, title: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a store: identity, what was noticed, and every source file by path, size and hash.

    The same inputs give the same attributes whenever they are built, and wherever they came from: times, dataset ids
    and what only some catalogs know are in the manifest only. So are source stores, of which there may be hundreds.
    """
    insertion = origin.insertion
    return {
        "Conventions": CONVENTIONS,
        "title": title,
        "product": product,
        "pid": insertion.pid,
        "eid": insertion.eid,
        "probe": insertion.probe,
        "lab": insertion.lab,
        "subject": insertion.subject,
        "date": insertion.date,
        "number": insertion.number,
        **({"comment": insertion.comment} if insertion.comment else {}),
        **origin.facts,
        "notes": "\n".join(origin.notes),
        "parameters": to_json(parameters),
        "sources": to_json(describe_sources(file for file in origin.sources if isinstance(file, SourceFile))),
        "build_key": build_key(origin, product, parameters),
        "ibl_cubes_version": version("ibl-cubes"),
    }


_NOT_FACTS = (
    *("Conventions", "title", "product", "pid", "eid", "probe", "lab", "subject", "date", "number", "comment"),
    *("notes", "parameters", "sources", "build_key", "ibl_cubes_version"),
    "coordinates",  # which xarray writes
)


def origin_of(attrs: Mapping[str, Any], sources: Sequence[SourceFile]) -> Origin:
    """What a store was made of, from its attributes and from the files in its manifest: `attributes` backwards."""
    names = ("pid", "eid", "probe", "lab", "subject", "date", "number")
    insertion = Insertion(**{name: attrs[name] for name in names}, comment=attrs.get("comment", ""))
    facts = {name: value for name, value in attrs.items() if name not in _NOT_FACTS}
    return Origin(insertion, facts, sources, str(attrs["notes"]).split("\n") if attrs["notes"] else [])


def build_key(origin: Origin, product: str, parameters: Mapping[str, Any]) -> str:
    """Hash of all that determines the bytes of a product: sources, parameters, schema and version."""
    inputs = {
        "insertion": {name: value for name, value in asdict(origin.insertion).items() if name not in _UNSAID},
        "sources": describe_sources(origin.sources),
        "product": product,
        "parameters": parameters,
        "schema": SCHEMA_VERSION,
        "versions": _versions(),
    }
    return hashlib.blake2b(to_json(inputs).encode(), digest_size=16).hexdigest()


@cache  # a fifth of the time of planning many insertions was spent on it
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("ibl-cubes", "iblatlas")}  # iblatlas makes the region labels


def software() -> dict[str, str]:
    """Versions of what wrote a store, for its manifest."""
    return {name: version(name) for name in ("ibl-cubes", "iblatlas", "zarr", "numcodecs", "numpy", "xarray")}


def to_json(value: object) -> str:
    """Strict JSON: sorted keys, no NaN."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def describe_sources(files: Iterable[SourceFile | SourceStore]) -> list[dict[str, Any]]:
    """Source files by path, revision, size and hash: what makes one of them another."""
    return [_source(file) for file in sorted(files, key=lambda file: file.rel_path)]


def _source(file: SourceFile | SourceStore) -> dict[str, Any]:
    """A file by its path, size and hash, and the list that it is of if its release has one.

    The hash of voltage is in its own header; its md5 only some catalogs know.
    """
    if isinstance(file, SourceStore):
        return asdict(file)
    hashes = {"sha1": file.sha1} if file.rel_path.endswith(_VOLTAGE) else {"md5": file.md5, "blake2b": file.blake2b}
    known = {name: value for name, value in (hashes | {"listed_in": file.listed_in}).items() if value}
    return {"path": file.rel_path, "revision": file.revision, "bytes": file.size} | known
