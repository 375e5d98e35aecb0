"""The manifest of an Allen release -> which files it has, where, in which version and with which hash (pure)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loaders.errors import BadArgument, CorruptData, NotFound

PROJECT = "visual-behavior-neuropixels"
NO_FILE = -999
"""The `file_id` of what a release does not have."""
RIGHT_LFP_SINCE = (0, 5, 0)
"""Before this release the LFP of most sessions has a wrong scale."""

_URL = re.compile(r"https://(?P<bucket>[a-z0-9][a-z0-9.-]*)\.s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com/(?P<key>[^?#]+)")
_NAME = re.compile(rf"{PROJECT}_project_manifest_v(\d+\.\d+\.\d+)\.json")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a release.

    Attributes
    ----------
    bucket, key : str
        Where it lies.
    rel_path : str
        Its path below the name of the project.
    version_id : str
        Which version of the object.
    blake2b : str
        Its hash, of 64 bytes.
    """

    bucket: str
    key: str
    rel_path: str
    version_id: str
    blake2b: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of one release: the tables by name, the data by the `file_id` that the tables of this release give."""

    version: str
    tables: Mapping[str, ManifestFile]
    files: Mapping[int, ManifestFile]

    def table(self, name: str) -> ManifestFile:
        """A table by its name, such as ``units``."""
        if name not in self.tables:
            raise NotFound(f"release {self.version}: has no table {name!r}; its tables are {', '.join(self.tables)}")
        return self.tables[name]

    def file(self, file_id: int, what: str) -> ManifestFile:
        """A data file; NotFound for the number that stands for no file, and for one that the manifest does not have."""
        if file_id < 0:
            raise NotFound(f"{what}: the release {self.version} has no such file (its file_id is {file_id})")
        if file_id not in self.files:
            raise NotFound(
                f"{what}: the manifest {self.version} has no file {file_id}; files are numbered anew in every release, "
                "so take the tables and the manifest of one release"
            )
        return self.files[file_id]


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs between two releases, by paths below the name of the project; `renamed` has (old, new)."""

    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    deleted: tuple[str, ...]
    created: tuple[str, ...]


def parse_version(text: str) -> tuple[int, int, int]:
    """The three numbers of a version, for comparison: 0.10.0 comes after 0.9.0.

    Examples
    --------
    >>> max(["0.9.0", "0.10.0"], key=parse_version)
    '0.10.0'
    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", str(text)):  # a float, from whoever forgot the quotes
        raise BadArgument(f"version: expected one such as 0.5.0, got {text!r}")
    major, minor, patch = map(int, text.split("."))
    return major, minor, patch


def check_version(version: str, *, old: bool = False) -> None:
    """Refuse a release whose LFP is wrong, unless `old` says that this is known."""
    if parse_version(version) < RIGHT_LFP_SINCE and not old:
        raise BadArgument(
            f"version: expected 0.5.0 or later, got {version}: before 0.5.0 the LFP of most sessions has a wrong scale "
            "(a factor of 2); take 0.5.0, or say old=True if you do not mind"
        )


def manifest_name(version: str) -> str:
    """The name of the manifest of a release."""
    return f"{PROJECT}_project_manifest_v{version}.json"


def versions_of(names: Iterable[str]) -> list[str]:
    """The versions of the manifests among some names of files, oldest first."""
    found = {match[1] for name in names if (match := _NAME.fullmatch(name))}
    return sorted(found, key=parse_version)


def parse_manifest(text: str | bytes, name: str) -> Manifest:
    """Parse a manifest.

    Parameters
    ----------
    text : str or bytes
        JSON.
    name : str
        For messages.

    Raises
    ------
    CorruptData
        If it is no manifest of this project, or an entry has no url of its bucket, version or hash.
    """
    try:
        said = json.loads(text)
        version = said["manifest_version"]
        tables, files = said["metadata_files"], said["data_files"]
        _check_head(said["project_name"], said["metadata_file_id_column_name"], version)
        return Manifest(
            version,
            {str(key): _file(key, entry) for key, entry in tables.items()},
            {_number(key): _file(key, entry) for key, entry in files.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CorruptData(f"{name}: not a manifest of an Allen release ({reason}); fetch it again") from error


def _check_head(project: str, column: str, version: str) -> None:
    if (project, column) != (PROJECT, "file_id"):
        raise ValueError(f"it is of the project {project!r} with the key {column!r}, expected {PROJECT} with file_id")
    parse_version(version)


def _number(key: str) -> int:
    if not re.fullmatch(r"\d+", key):
        raise ValueError(f"data file {key!r}: expected a number")
    return int(key)


def _file(name: str, entry: Mapping[str, Any]) -> ManifestFile:
    url, version_id, file_hash = (entry[key] for key in ("url", "version_id", "file_hash"))
    match = _URL.fullmatch(url)
    if match is None or not match["key"].startswith(f"{PROJECT}/") or ".." in match["key"].split("/"):
        raise ValueError(f"file {name}: expected a url of a bucket with a key below {PROJECT}/, got {url!r}")
    if not isinstance(version_id, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", version_id):
        raise ValueError(f"file {name}: expected the id of a version, got {version_id!r}")
    if not re.fullmatch(r"[0-9a-f]{128}", file_hash):
        raise ValueError(f"file {name}: expected a hash of 128 digits, got {file_hash!r}")
    key = match["key"]
    return ManifestFile(match["bucket"], key, key.removeprefix(f"{PROJECT}/"), version_id, file_hash)


def compare(old: Manifest, new: Manifest) -> Changes:
    """What became of every file from one release to another, by its path and its hash."""
    before, after = _hashes(old), _hashes(new)
    gone, come = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    renamed = []
    for path in list(gone):
        if same := [other for other in come if after[other] == before[path]]:
            renamed.append((path, same[0]))
            gone.remove(path)
            come.remove(same[0])
    changed = sorted(path for path in before.keys() & after.keys() if before[path] != after[path])
    return Changes(tuple(changed), tuple(renamed), tuple(gone), tuple(come))


def _hashes(manifest: Manifest) -> dict[str, str]:
    return {file.rel_path: file.blake2b for file in (*manifest.tables.values(), *manifest.files.values())}
