"""Which NWB file of a session holds what, and its bytes: of this machine or of a server, range by range."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loaders.byte_source import ByteSource, LocalFile
from loaders.errors import CorruptData, InconsistentData, NotFound
from loaders.hdf5_file import open_hdf5
from loaders.readers import check_file
from loaders.records import DatasetRecord, Insertion, SourceFile
from loaders.remote_file import open_file

if TYPE_CHECKING:
    import h5py


def session_record(records: Iterable[DatasetRecord]) -> DatasetRecord:
    """The file of the session: units, electrodes, stimuli, behaviour; raises NotFound if there is none."""
    return _one([record for record in records if _is_nwb(record) and not record.collection], "NWB file of the session")


def lfp_record(records: Iterable[DatasetRecord], insertion: Insertion) -> DatasetRecord:
    """The file with the LFP of a probe, in the collection of its name; raises NotFound if there is none."""
    found = [record for record in records if _is_nwb(record) and record.collection == insertion.probe]
    return _one(found, f"LFP of {insertion.probe}")


def _is_nwb(record: DatasetRecord) -> bool:
    return record.name.endswith(".nwb")


@contextmanager
def open_nwb(record: DatasetRecord) -> Iterator[tuple[h5py.File, ByteSource, SourceFile]]:
    """A small part of an NWB file: the open file, its bytes, and what the provenance says of it.

    A file of this machine is hashed first. Of a remote one only what is asked for is read; its url names a version, of
    which the catalog knows the hash.

    Raises
    ------
    NotFound, CorruptData, SourceUnavailable
        If it is not there, is not the one of the catalog or is damaged, or cannot be reached.
    """
    source = open_file(record)
    file = check_file(record) if isinstance(source, LocalFile) else as_listed(record, source)
    with open_hdf5(source) as nwb:
        yield nwb, source, file


def as_listed(record: DatasetRecord, source: ByteSource) -> SourceFile:
    """What the provenance says of a file that is not hashed: what the catalog knows."""
    if record.size not in (None, source.size):
        raise CorruptData(f"{source.name}: expected {record.size} bytes as in the catalog, got {source.size}")
    md5, blake2b = record.md5 or "", record.blake2b or ""
    listed_in = record.listed_in
    return SourceFile(
        record.rel_path, record.revision, source.size, md5, record.id, blake2b=blake2b, listed_in=listed_in
    )


def _one(found: list[DatasetRecord], what: str) -> DatasetRecord:
    if not found:
        raise NotFound(f"no {what}: none was released")
    if len(found) > 1:
        paths = ", ".join(record.rel_path for record in found)
        raise InconsistentData(f"{what}: expected one file, got {paths}; which one counts is not known")
    return found[0]
