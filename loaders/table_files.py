"""The tables of a catalog on disk: parquet files, replaced as a whole, and how new rows go in with the old."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import CorruptData, StoreError
from loaders.table_schema import REAL, TEXT, TRUTH, WHOLE, Table, conform

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def read(folder: Path, table: Table, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table, or some columns of it; a table that was never written has no rows.

    Raises
    ------
    CorruptData
        If the file is no parquet table, or not this one.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{table.name}.parquet"
    names = table.names if columns is None else list(columns)
    if not path.is_file():
        return conform(pd.DataFrame(), table)[names]
    try:
        found = pq.read_schema(path)
        if not found.equals(_arrow_schema(table), check_metadata=False):
            raise CorruptData(
                f"{path}: has not the columns of the table {table.name}; remove it and add its rows again"
            )
        types = {pa.string(): pd.StringDtype("pyarrow"), pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
        rows: pd.DataFrame = pq.read_table(path, columns=names).to_pandas(types_mapper=types.get, ignore_metadata=True)
    except (pa.ArrowException, OSError) as error:
        raise CorruptData(f"{path}: not a readable parquet table ({error}); remove it, add its rows again") from error
    return rows.astype({name: table.dtypes[name] for name in names})


def write(folder: Path, table: Table, rows: pd.DataFrame) -> None:
    """Replace a table: whoever reads it meanwhile sees the old one or the new one, whole.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{table.name}.parquet"
    data = pa.Table.from_pandas(conform(rows, table), schema=_arrow_schema(table), preserve_index=False)
    temporary = folder / f".{path.name}.{uuid.uuid4().hex[:12]}"
    try:
        with temporary.open("xb") as file:
            pq.write_table(data, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: writing failed ({error}); the table is as it was; make room and try again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def update(folder: Path, table: Table, new: pd.DataFrame, scope: Sequence[str]) -> None:
    """Merge rows into a table on disk; a table that they do not change is not written. Call it `locked`."""
    old = read(folder, table)
    merged = merge(old, conform(new, table), table, scope)
    if not merged.equals(old):
        write(folder, table, merged)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the tables of a folder, made if need be, so that nobody else changes them between reading and writing."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire()
    except OSError as error:
        raise StoreError(f"catalog {folder}: cannot be written to ({error}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def merge(old: pd.DataFrame, new: pd.DataFrame, table: Table, scope: Sequence[str]) -> pd.DataFrame:
    """Old and new rows of a table as one.

    Parameters
    ----------
    old, new : DataFrame
        Both conform to `table`.
    scope : sequence of str
        Columns. What is new replaces every old row with the same values in them: with ``["pid"]``, all units of an
        insertion at once, so that units of two sortings never mix. In a table that fills, a row that stays takes
        over what is new and keeps what the new one does not know.
    """
    import pandas as pd

    key = list(table.key)
    replaced = _same(old, new, scope)
    kept = old[~replaced]
    if table.fills:
        known = old[_same(old, new, key)]
        new = new.set_index(key).combine_first(known.set_index(key)).reset_index() if len(known) else new
    return conform(pd.concat([rows for rows in (kept, new) if len(rows)] or [old]), table)


def _same(old: pd.DataFrame, new: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Which old rows have values of some columns that a new row has too."""
    import pandas as pd

    left, right = (pd.MultiIndex.from_frame(rows[list(columns)].astype(object)) for rows in (old, new))
    return left.isin(right)


@lru_cache
def _arrow_schema(table: Table) -> pa.Schema:
    import pyarrow as pa

    kinds: dict[str, Any] = {TEXT: pa.string(), WHOLE: pa.int64(), REAL: pa.float64(), TRUTH: pa.bool_()}
    return pa.schema(
        [
            pa.field(column.name, kinds[column.dtype], metadata={"units": column.unit, "long_name": column.meaning})
            for column in table.columns
        ]
    )
