"""A store whose voltage stays where it is: ``link.json`` says in which file, how to decode it, and what it must hold.

A file of this machine is named relative to the store, so that both can be moved together, and every range of it has a
checksum that is compared when it is read. A remote file is named by its url and by the version that the server must
name in every answer. Another file in its place is refused, never shown under the labels of the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from chunking.manifest import Problem
from loaders.byte_source import ByteSource, LocalFile
from loaders.cbin import Cbin
from loaders.checked_source import CheckedSource, RangeHashes, hash_ranges
from loaders.chunk_index import ChunkIndex
from loaders.errors import BadArgument, CorruptData, CubesError, NotFound, StoreError
from loaders.flat_binary import FlatBinary
from loaders.http_get import address_of
from loaders.recording import Recording
from loaders.remote_file import RemoteFile
from loaders.voltage import Voltage

LINK = "link.json"
_RANGE_BYTES = 1 << 22  # of an uncompressed file, where nothing says how it is read


@dataclass(frozen=True, slots=True)
class Link:
    """Where the voltage of a store lies.

    Attributes
    ----------
    place : mapping
        ``path`` of the recording relative to the store, with ``/``; or its ``url``, ``size`` and ``version``.
    recording : mapping
        ``header``, the keys of its ``.ch``, or ``n_channels`` and ``sample_rate_hz`` if it is not compressed.
    window : (int, int)
        First sample of the store, and the one after its last.
    n_channels : int
        Number of channels that the store shows: without those of synchronisation.
    attrs : mapping
        Attributes of the variable.
    hashes : RangeHashes or None
        None of a remote recording.
    """

    place: Mapping[str, Any]
    recording: Mapping[str, Any]
    window: tuple[int, int]
    n_channels: int
    attrs: Mapping[str, Any]
    hashes: RangeHashes | None


def write_link(folder: Path, final: Path, voltage: Voltage, window: tuple[int, int], attrs: Mapping[str, Any]) -> None:
    """Hash the recording, and write the link into the folder of a new store; one read of the whole file.

    Parameters
    ----------
    folder, final : Path
        Where the store lies now, and where it will be.
    voltage : Voltage
    window : (int, int)
        First sample, and the one after the last.
    attrs : mapping
        Attributes of the variable.

    Raises
    ------
    CorruptData
        If the recording is not the one that its header was written for.
    """
    recording = voltage.recording
    if isinstance(recording, Cbin):
        how: dict[str, Any] = {"header": recording.index.to_header()}
    else:
        how = {"n_channels": recording.n_channels, "sample_rate_hz": recording.sample_rate_hz}
    link = {
        "link_version": 1,
        **_place(voltage, final),
        "recording": how,
        "window": list(window),
        "n_channels": voltage.meta.n_channels,
        "attrs": dict(attrs),
    }
    (folder / LINK).write_text(json.dumps(link, sort_keys=True, allow_nan=False))


def _place(voltage: Voltage, final: Path) -> dict[str, Any]:
    """Where a recording lies, and how it will be known again."""
    source = voltage.recording.source
    if isinstance(source, RemoteFile):
        if not source.version:
            raise BadArgument(f"{source.name}: the server names no version of it, so a change could not be noticed")
        return {"place": {"url": source.name, "size": source.size, "version": source.version}, "hashes": None}
    if not isinstance(source, LocalFile):
        raise BadArgument(f"{source.name}: expected a file, got {type(source).__name__}")
    recording = voltage.recording
    bounds = (
        recording.index.offsets if isinstance(recording, Cbin) else (*range(0, source.size, _RANGE_BYTES), source.size)
    )
    hashes = hash_ranges(source, bounds)
    voltage.refuse_other_sha1(hashes.sha1)
    path = Path(os.path.relpath(source.path.resolve(), final.resolve())).as_posix()
    return {"place": {"path": path}, "hashes": asdict(hashes)}


def is_linked(store: Path) -> bool:
    """Whether the voltage of a store lies elsewhere."""
    return (store / LINK).is_file()


def read_link(store: Path) -> Link:
    """Read the link of a store; raises StoreError if it is damaged."""
    try:
        link = json.loads((store / LINK).read_text())
        if link["link_version"] != 1:
            raise StoreError(f"store {store}: link version {link['link_version']} is unknown; update ibl-cubes")
        given = link["hashes"]
        hashes = given and RangeHashes(tuple(given["bounds"]), tuple(given["crc32"]), str(given["sha1"]))
        start, stop = link["window"]
        return Link(link["place"], link["recording"], (start, stop), link["n_channels"], link["attrs"], hashes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"store {store}: its {LINK} cannot be read ({error!r}); remove it and build it again"
        ) from error


def open_linked(store: Path, link: Link) -> Recording:
    """The recording that a store links to.

    Raises
    ------
    NotFound
        If it is no longer where it was.
    CorruptData
        If it has another size; if it has other bytes, this is raised when they are read.
    """
    remedy = "put the file back, or remove the store and build it again"
    try:
        source = _open_place(store, link)
        if (header := link.recording.get("header")) is None:
            return FlatBinary(source, link.recording["n_channels"], link.recording["sample_rate_hz"])
        return Cbin(source, ChunkIndex.parse(json.dumps(header), str(store / LINK), source.size))
    except NotFound as error:
        what = "the recording that it links to was moved or removed"
        raise NotFound(f"store {store}: {what}: {error}; {remedy}") from error
    except CorruptData as error:
        raise CorruptData(f"store {store}: the recording that it links to has changed: {error}; {remedy}") from error


def _open_place(store: Path, link: Link) -> ByteSource:
    if link.hashes is not None:
        return CheckedSource(LocalFile(os.path.normpath(store.resolve() / link.place["path"])), link.hashes)
    url = link.place["url"]
    return RemoteFile(url, link.place["size"], address_of(url), link.place["version"])


def check_linked(store: Path, *, quick: bool = False) -> list[Problem]:
    """What is wrong with the recording that a store links to; `quick` looks at its presence and size only.

    The byte ranges are those of the recording.
    """
    try:
        link = read_link(store)
        recording = open_linked(store, link)
    except CubesError as error:
        return [Problem(LINK, str(error))]
    if link.hashes is None:  # a remote recording is asked for one byte, and so for its version
        bounds: tuple[int, ...] = (0, 1)
    else:
        bounds = () if quick else link.hashes.bounds
    problems = []
    for i, (start, stop) in enumerate(pairwise(bounds)):
        try:
            recording.source.read(start, stop)
        except CubesError as error:
            samples = _samples(recording, i, link) if link.hashes is not None else ""
            problems.append(Problem(LINK, str(error), (start, stop), samples))
    return problems


def _samples(recording: Recording, i: int, link: Link) -> str:
    """Which samples of the store the range `i` of a recording holds, in words."""
    if isinstance(recording, Cbin):
        first, stop = recording.index.bounds[i : i + 2]
    else:
        cell_bytes = 2 * recording.n_channels
        first, stop = i * _RANGE_BYTES // cell_bytes, -(-(i + 1) * _RANGE_BYTES // cell_bytes)
    offset, end = link.window
    first, stop = max(first, offset) - offset, min(stop, end) - offset
    return f"time {first}..{stop - 1}" if first < stop else "none that the store shows"
