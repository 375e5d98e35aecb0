"""A store whose voltage stays where it is: ``link.json`` says in which file, how to decode it, and what it must hold.

The file is named relative to the store, so that both can be moved together. Every range of it has a checksum that is
compared when it is read: another file in its place is refused, never shown under the labels of the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from loaders.byte_source import LocalFile
from loaders.cbin import Cbin
from loaders.checked_source import CheckedSource, RangeHashes, hash_ranges
from loaders.chunk_index import ChunkIndex
from loaders.errors import BadArgument, CorruptData, CubesError, NotFound, StoreError
from loaders.flat_binary import FlatBinary
from loaders.recording import Recording
from loaders.voltage import Voltage

LINK = "link.json"
_RANGE_BYTES = 1 << 22  # of an uncompressed file, where nothing says how it is read


@dataclass(frozen=True, slots=True)
class Link:
    """Where the voltage of a store lies.

    Attributes
    ----------
    path : str
        Of the recording, relative to the store, with ``/``.
    recording : mapping
        ``header``, the keys of its ``.ch``, or ``n_channels`` and ``sample_rate_hz`` if it is not compressed.
    window : (int, int)
        First sample of the store, and the one after its last.
    n_channels : int
        Number of channels that the store shows: without those of synchronisation.
    attrs : mapping
        Attributes of the variable.
    hashes : RangeHashes
    """

    path: str
    recording: Mapping[str, Any]
    window: tuple[int, int]
    n_channels: int
    attrs: Mapping[str, Any]
    hashes: RangeHashes


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
    source = recording.source
    if not isinstance(source, LocalFile):
        raise BadArgument(f"{source.name}: only a file of this machine can be linked; build the product without link")
    if isinstance(recording, Cbin):
        how: dict[str, Any] = {"header": recording.index.to_header()}
        bounds = recording.index.offsets
    else:
        how = {"n_channels": recording.n_channels, "sample_rate_hz": recording.sample_rate_hz}
        bounds = (*range(0, source.size, _RANGE_BYTES), source.size)
    hashes = hash_ranges(source, bounds)
    voltage.refuse_other_sha1(hashes.sha1)
    link = {
        "link_version": 1,
        "path": Path(os.path.relpath(source.path.resolve(), final.resolve())).as_posix(),
        "recording": how,
        "window": list(window),
        "n_channels": voltage.meta.n_channels,
        "attrs": dict(attrs),
        "sha1": hashes.sha1,
        "bounds": list(hashes.bounds),
        "crc32": list(hashes.crc32),
    }
    (folder / LINK).write_text(json.dumps(link, sort_keys=True, allow_nan=False))


def is_linked(store: Path) -> bool:
    """Whether the voltage of a store lies elsewhere."""
    return (store / LINK).is_file()


def read_link(store: Path) -> Link:
    """Read the link of a store; raises StoreError if it is damaged."""
    try:
        link = json.loads((store / LINK).read_text())
        if link["link_version"] != 1:
            raise StoreError(f"store {store}: link version {link['link_version']} is unknown; update ibl-cubes")
        hashes = RangeHashes(tuple(link["bounds"]), tuple(link["crc32"]), str(link["sha1"]))
        start, stop = link["window"]
        return Link(link["path"], link["recording"], (start, stop), link["n_channels"], link["attrs"], hashes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"store {store}: its {LINK} cannot be read ({error!r}); build the store again") from error


def open_linked(store: Path, link: Link) -> Recording:
    """The recording that a store links to.

    Raises
    ------
    NotFound
        If it is no longer where it was.
    CorruptData
        If it has another size; if it has other bytes, this is raised when they are read.
    """
    path = Path(os.path.normpath(store.resolve() / link.path))
    remedy = "put the file back, or remove the store and build it again"
    try:
        source = CheckedSource(LocalFile(path), link.hashes)
        if (header := link.recording.get("header")) is None:
            return FlatBinary(source, link.recording["n_channels"], link.recording["sample_rate_hz"])
        return Cbin(source, ChunkIndex.parse(json.dumps(header), str(store / LINK), source.size))
    except NotFound as error:
        raise NotFound(
            f"store {store}: the recording that it links to was moved or removed: {path}; {remedy}"
        ) from error
    except CorruptData as error:
        raise CorruptData(f"store {store}: the recording that it links to has changed: {error}; {remedy}") from error


def check_linked(store: Path, *, quick: bool = False) -> list[str]:
    """What is wrong with the recording that a store links to, in words; `quick` looks at its presence and size only."""
    try:
        link = read_link(store)
        source = open_linked(store, link).source
    except CubesError as error:
        return [str(error)]
    problems = []
    for start, stop in () if quick else pairwise(link.hashes.bounds):
        try:
            source.read(start, stop)
        except CubesError as error:
            problems.append(str(error))
    return problems
