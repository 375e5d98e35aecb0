"""One file of a session -> one checked array or table. Nothing is unpickled, nothing is repaired."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import CorruptData, NotFound
from loaders.records import DatasetRecord, SourceFile
from loaders.verified import VerifiedSums

if TYPE_CHECKING:
    import pandas as pd


def md5(path: Path) -> str:
    """MD5 of a file; see `hash_of`."""
    return hash_of(path, "md5")


def hash_of(path: Path, algorithm: str) -> str:
    """Hash of a file as a hexadecimal string; computed once for a file that does not change.

    Once a process, and where the file lies in a cache that is managed (`loaders.verified`) once and for all.
    """
    status = path.stat()
    return _hash_of(path, algorithm, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of(path: Path, algorithm: str, size: int, mtime_ns: int) -> str:  # the plan and the build read the same files
    sums = VerifiedSums.of(path)
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if sums is not None and (known := sums.recall(path, status, algorithm)):
            return known
        digest = hashlib.file_digest(file, algorithm).hexdigest()
        after = os.fstat(file.fileno())
    if sums is not None and (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
        sums.remember(path, status, digest, algorithm)
    return digest


def check_file(record: DatasetRecord) -> SourceFile:
    """Compare a file with its record, and return what the provenance of a product says about it.

    Raises
    ------
    NotFound
        If the catalog lists the file and the disk does not have it.
    CorruptData
        If the file is empty, or its size or hash differ from the record.
    """
    path = record.path
    if not path.is_file():
        raise NotFound(
            f"{record.rel_path}: listed by the catalog but not on disk at {path}; download the session again"
        )
    size = path.stat().st_size
    if size == 0:
        raise CorruptData(f"{path}: the file is empty (0 bytes); fetch it again")
    if record.size is not None and size != record.size:
        raise CorruptData(f"{path}: expected {record.size} bytes as in the catalog, got {size}; fetch it again")
    algorithm, expected = record.checksum
    digest = hash_of(path, algorithm)
    if expected not in (None, digest):
        raise CorruptData(f"{path}: expected {algorithm} {expected} as in the catalog, got {digest}; fetch it again")
    known = {"md5": "", "listed_in": record.listed_in} | {algorithm: digest}
    return SourceFile(record.rel_path, record.revision, size, id=record.id, confirmed=expected is not None, **known)


def read_npy(path: Path, *, kinds: str, ndim: int = 1) -> NDArray[Any]:
    """Map a ``.npy`` file into memory, read only.

    Parameters
    ----------
    path : Path
    kinds : str
        Accepted numpy dtype kinds, such as ``"f"`` or ``"iu"``.
    ndim : int
        Expected number of dimensions.

    Returns
    -------
    (n,) or (n, m) array
        Memory-mapped, so that only the parts that are used take memory.

    Raises
    ------
    CorruptData
        If the file is no plain array, is truncated, has bytes too many, or another type or shape.
    """
    try:
        array = _open_npy(path)
    except (ValueError, EOFError, OSError) as error:
        raise CorruptData(f"{path}: not a readable npy file without pickles ({error}); fetch it again") from error
    if array.dtype.kind not in kinds or array.dtype.itemsize > 8 or array.dtype == np.float16:
        raise CorruptData(f"{path}: expected a dtype of kind {_kind_names(kinds)} of 4 or 8 bytes, got {array.dtype}")
    if array.ndim != ndim:
        raise CorruptData(f"{path}: expected {ndim} dimension(s), got shape {array.shape}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _open_npy(path: Path) -> NDArray[Any]:
    array: NDArray[Any]
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"its npy version {version[0]}.{version[1]} is unknown")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        expected = file.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects")
    if (size := path.stat().st_size) != expected:
        raise ValueError(f"its header announces {expected} bytes, the file has {size}")
    mode = None if 0 in shape or shape == () else "r"  # an empty array cannot be mapped
    array = np.load(path, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
    return array


def _kind_names(kinds: str) -> str:
    names = {"f": "float", "i": "integer", "u": "unsigned integer", "b": "bool", "U": "text"}
    return " or ".join(names[kind] for kind in kinds)


def read_table(path: Path, *, text: bool = False) -> pd.DataFrame:
    """Read a ``.pqt`` or ``.csv`` table; with `text` every column of a csv is text, as it stands there.

    Raises
    ------
    CorruptData
        If the file cannot be parsed.
    """
    import pandas as pd

    try:
        return pd.read_csv(path, dtype=str if text else None) if path.suffix == ".csv" else pd.read_parquet(path)
    except Exception as error:  # pyarrow and pandas raise many unrelated types here
        raise CorruptData(f"{path}: not a readable {path.suffix} table ({error}); fetch it again") from error
