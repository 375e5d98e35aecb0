"""A table of an NWB file -> plain columns: numbers as float64 with NaN, text with empty for what is missing.

In the files of Allen a truth value with holes is 0, 1 or NaN, a missing whole number -99, a missing text ``N/A``. The
layout is that of ``DynamicTable`` in https://hdmf-common-schema.readthedocs.io: a dataset a column, and
``<name>_index`` with the end of every row beside a ragged one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import CorruptData, InconsistentData
from loaders.records import Ints

if TYPE_CHECKING:
    import h5py

MISSING_INTEGER = -99
MISSING_TEXT = "N/A"
_USABLE = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class NwbTable:
    """The columns of one table.

    Attributes
    ----------
    ids : (row,) int64
    columns : mapping of str to (row,) array
        float64, or text as objects.
    ragged : mapping of str to (array, (row,) int64)
        The values of all rows, and where each row ends.
    """

    ids: Ints
    columns: dict[str, NDArray[Any]]
    ragged: dict[str, tuple[NDArray[Any], Ints]]

    def __len__(self) -> int:
        return len(self.ids)


def read_nwb_table(group: h5py.Group, notes: list[str]) -> NwbTable:
    """Read a table.

    Columns of references, such as ``timeseries``, are passed over; others that are not one value a row are left out.

    Parameters
    ----------
    group : h5py.Group
        The table.
    notes : list of str
        Gets what was left out, in words.

    Raises
    ------
    InconsistentData
        If columns have different lengths, or the rows of a ragged one do not fit its values.

    Examples
    --------
    >>> with open_hdf5(LocalFile("session.nwb")) as file:  # doctest: +SKIP
    ...     trials = read_nwb_table(file["intervals/trials"], notes)
    >>> trials.columns["change_frame"]  # doctest: +SKIP
    array([300., nan, 660.])
    """
    name = str(group.name)
    ids = np.asarray(group["id"][:], np.int64)
    columns: dict[str, NDArray[Any]] = {}
    ragged: dict[str, tuple[NDArray[Any], Ints]] = {}
    for key, data in group.items():
        if key == "id" or not hasattr(data, "dtype") or _is_reference(data):
            continue
        if key.endswith("_index") and key.removesuffix("_index") in group:
            continue  # ends of the rows of that column; ``image_index`` alone is one of its own
        if data.ndim != 1 or not _USABLE.fullmatch(key):
            notes.append(f"{name}: the column {key!r} is left out, because it is not one value a row")
        elif f"{key}_index" in group:
            ends = np.asarray(group[f"{key}_index"][:], np.int64)  # unsigned: differences would wrap
            ragged[key] = _values(data), _checked_ends(ends, len(data), f"{name}/{key}")
        else:
            columns[key] = _values(data)
    lengths = {key: len(values) for key, values in columns.items()} | {key: len(r[1]) for key, r in ragged.items()}
    if wrong := {key: n for key, n in lengths.items() if n != len(ids)}:
        raise InconsistentData(f"{name}: expected {len(ids)} rows as its ids, got {wrong}; fetch the file again")
    return NwbTable(ids, columns, ragged)


def as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Text that stands for numbers as float64; anything else as it is.

    Examples
    --------
    >>> as_numbers(np.array(["0.08", ""], dtype=object))
    array([0.08,  nan])
    """
    if values.dtype.kind != "O":
        return values
    try:
        return np.array([np.nan if value == "" else float(value) for value in values])
    except ValueError:
        return values


def as_text(values: NDArray[Any]) -> NDArray[np.object_]:
    """Numbers as text that gives the same numbers again, NaN as empty text."""
    if values.dtype.kind == "O":
        return values
    texts = ["" if np.isnan(value) else repr(float(value)).removesuffix(".0") for value in values]
    return np.array(texts, dtype=object)


def _is_reference(data: h5py.Dataset) -> bool:
    """Whether a column is made of references to other objects, or of compounds with such: of no use outside a file."""
    from h5py import check_ref_dtype

    return data.dtype.names is not None or check_ref_dtype(data.dtype) is not None


def _values(data: h5py.Dataset) -> NDArray[Any]:
    from h5py import check_string_dtype

    if check_string_dtype(data.dtype) is not None:
        text: NDArray[Any] = np.asarray(data.asstr()[:], object)
        return np.where(text == MISSING_TEXT, "", text)
    if data.dtype.kind not in "biuf":
        raise CorruptData(
            f"{data.name}: expected numbers, truth values or text, got {data.dtype}; fetch the file again"
        )
    numbers = np.asarray(data[:], np.float64)
    return np.where(numbers == MISSING_INTEGER, np.nan, numbers) if data.dtype.kind == "i" else numbers


def _checked_ends(ends: Ints, n: int, name: str) -> Ints:
    last = ends[-1] if len(ends) else 0
    if last != n or (np.diff(ends, prepend=0) < 0).any():
        raise InconsistentData(
            f"{name}: expected rows that end in order, the last at {n}, got {last}; fetch the file again"
        )
    return ends
