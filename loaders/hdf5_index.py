"""HDF5 as an index: where in a file the numbers of a dataset lie, and reading them without HDF5.

h5py looks once where a dataset is stored (`index_dataset`); what it finds, `Hdf5Array`, is pickled to whoever reads:
plain ranges of bytes, from any thread or machine, with the retries of the byte source and no lock of HDF5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.byte_source import ByteSource
from loaders.errors import BadArgument, CorruptData, NotFound
from loaders.hdf5_filters import FILTERS, undo_filters
from loaders.records import Ints

if TYPE_CHECKING:
    import h5py

_MISSING = -1
_RUN_BYTES = 1 << 24  # neighbouring chunks are read together up to this
_GAP_BYTES = 1 << 16  # and what lies between them is read too, if it is no more


@dataclass(frozen=True, eq=False, slots=True)
class Hdf5Array:
    """A dataset of numbers in an HDF5 file, read along its first axis. Threads may share one; it is picklable.

    Attributes
    ----------
    source : ByteSource
        The file: of one size and version, so that the offsets hold.
    path : str
        Of the dataset in the file.
    dtype : dtype
    shape : tuple of int
    chunks : tuple of int
        Shape of a chunk; that of the dataset if it is stored in one piece.
    filters : tuple of int
        Keys of `loaders.hdf5_filters.FILTERS`, in the order in which they were applied.
    offset, n_bytes : (n_0, n_1, ...) int64, bytes
        Where each chunk lies and what it takes, by its place in the grid of chunks; -1 for one that was never written.
    skipped : (n_0, n_1, ...) uint32
        Bit `i` of a chunk says that it went without filter `i`.
    fill : number
        What the cells of chunks hold that were never written.

    Examples
    --------
    >>> with open_hdf5(LocalFile("probe_lfp.nwb")) as file:  # doctest: +SKIP
    ...     lfp = index_dataset(file, "acquisition/lfp/data", source)
    >>> lfp.read(12_500, 25_000).shape  # one request, if it is stored in one piece # doctest: +SKIP
    (12500, 96)
    """

    source: ByteSource
    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    filters: tuple[int, ...]
    offset: Ints
    n_bytes: Ints
    skipped: NDArray[np.uint32]
    fill: Any

    @property
    def name(self) -> str:
        """File and dataset, for messages."""
        return f"{self.source.name} {self.path}"

    @property
    def n_missing(self) -> int:
        """Number of chunks that were never written."""
        return int(np.count_nonzero(self.offset == _MISSING))

    @property
    def is_plain(self) -> bool:
        """Whether it is stored in one piece, without filters: then a read is one request of just its bytes."""
        return self.chunks == self.shape and not self.filters and not self.n_missing

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """The rows ``start:stop``.

        Returns
        -------
        (stop - start, ...) array
            In the byte order of this machine.

        Raises
        ------
        BadArgument
            If the rows are not within the dataset.
        CorruptData
            If the file has changed, or a chunk is damaged.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise BadArgument(f"{self.name}: rows {start}:{stop} are not within its {self.shape[0]} rows")
        rows = (stop - start, *self.shape[1:])
        native = self.dtype.newbyteorder("=")
        if 0 in rows:
            return np.empty(rows, native)
        if self.is_plain:
            row, first = self._row_bytes, int(self.offset.item())
            stored = self.source.read(first + start * row, first + stop * row)
            return np.frombuffer(stored, self.dtype).reshape(rows).astype(native, copy=False)
        out = np.full(rows, self.fill, native)
        for where, chunk in self._chunks(start, stop):
            _put(out, chunk, (where[0] - start, *where[1:]))
        return out

    def stored_bytes(self, start: int, stop: int) -> int:
        """Bytes of the file that hold the rows ``start:stop``."""
        if self.is_plain:
            return (stop - start) * self._row_bytes
        return int(self.n_bytes[self._grid_rows(start, stop)].sum())

    def read_holds(self, start: int, stop: int) -> int:
        """The most bytes that `read` holds, its result included."""
        rows = (stop - start) * self._row_bytes
        if self.is_plain:
            return rows
        largest = int(self.n_bytes.max(initial=0))
        return rows + max(_RUN_BYTES, largest) + largest + 3 * prod(self.chunks) * self.dtype.itemsize

    @property
    def _row_bytes(self) -> int:
        return prod(self.shape[1:]) * self.dtype.itemsize

    def _grid_rows(self, start: int, stop: int) -> slice:
        return slice(start // self.chunks[0], -(-stop // self.chunks[0]))

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[list[int], NDArray[Any]]]:
        """First cell and data of all chunks that hold some of the rows; each stored range is read once."""
        grid = self._grid_rows(start, stop)
        offset, n_bytes, skipped = (part[grid] for part in (self.offset, self.n_bytes, self.skipped))
        there = np.flatnonzero(offset.reshape(-1) != _MISSING)
        order = there[np.argsort(offset.reshape(-1)[there], kind="stable")]
        begin, size = offset.reshape(-1)[order], n_bytes.reshape(-1)[order]
        for first, last in _runs(begin, size):
            stored = self.source.read(int(begin[first]), int(begin[last - 1] + size[last - 1]))
            for k in range(first, last):
                place = np.unravel_index(order[k], offset.shape)
                cell = [int(i) * step for i, step in zip(place, self.chunks, strict=True)]
                cell[0] += grid.start * self.chunks[0]
                at = int(begin[k] - begin[first])
                yield cell, self._decode(stored[at : at + int(size[k])], int(skipped[place]), cell)
            del stored  # or two runs would be held while the next one is read

    def _decode(self, stored: bytes, skipped: int, cell: Sequence[int]) -> NDArray[Any]:
        n_bytes = prod(self.chunks) * self.dtype.itemsize
        try:
            plain = undo_filters(stored, self.filters, skipped, n_bytes, self.dtype.itemsize)
        except ValueError as error:
            where = f"{self.name}: the chunk at {tuple(cell)}"
            raise CorruptData(f"{where} is damaged ({error}); fetch it again") from error
        return np.frombuffer(plain, self.dtype).reshape(self.chunks)


def index_dataset(file: h5py.File, path: str, source: ByteSource) -> Hdf5Array:
    """Where the numbers of a dataset lie.

    Parameters
    ----------
    file : h5py.File
        From `loaders.hdf5_file.open_hdf5`.
    path : str
    source : ByteSource
        The bytes of the same file.

    Raises
    ------
    NotFound
        If the file has no such dataset.
    BadArgument
        If it is stored in a way that is not read here: only datasets of plain numbers, contiguous or in chunks, with
        the filters gzip, shuffle and fletcher32 are.
    CorruptData
        If a part of it would lie outside the file.
    """
    dataset = file.get(path)
    if dataset is None or not hasattr(dataset, "dtype"):
        raise NotFound(f"{source.name}: has no dataset {path}")
    where = f"{source.name} {path}"
    properties = dataset.id.get_create_plist()
    _refuse_layout(file, dataset, properties, where)
    filters = _filters(properties, where)
    chunks = dataset.chunks or dataset.shape
    grid = tuple(-(-n // step) if step else 0 for n, step in zip(dataset.shape, chunks, strict=True))
    offset, n_bytes = np.full(grid, _MISSING), np.zeros(grid, np.int64)
    skipped = np.zeros(grid, np.uint32)
    if dataset.chunks is not None:

        def note(chunk: Any) -> None:
            place = tuple(i // step for i, step in zip(chunk.chunk_offset, chunks, strict=True))
            offset[place], n_bytes[place], skipped[place] = chunk.byte_offset, chunk.size, chunk.filter_mask

        dataset.id.chunk_iter(note)
    elif (start := dataset.id.get_offset()) is not None and offset.size:
        offset[...], n_bytes[...] = start, dataset.id.get_storage_size()
        if n_bytes.item() != dataset.size * dataset.dtype.itemsize:
            raise CorruptData(
                f"{where}: expected {dataset.size * dataset.dtype.itemsize} bytes, the file says {n_bytes.item()}"
            )
    end = int((offset + n_bytes).max(initial=0))
    if end > source.size:
        raise CorruptData(f"{where}: ends at byte {end} of a file of {source.size} bytes: truncated; fetch it again")
    shape, chunks = tuple(map(int, dataset.shape)), tuple(map(int, chunks))
    plain = np.dtype(dataset.dtype.str)
    return Hdf5Array(source, path, plain, shape, chunks, filters, offset, n_bytes, skipped, dataset.fillvalue)


def _refuse_layout(file: h5py.File, dataset: Any, properties: Any, where: str) -> None:
    """Raise BadArgument unless a dataset is an array of plain numbers whose bytes lie in ranges of the file."""
    from h5py import h5d, h5t

    layouts = {h5d.CHUNKED: "", h5d.CONTIGUOUS: "", h5d.COMPACT: "compact", h5d.VIRTUAL: "virtual"}
    odd = layouts.get(properties.get_layout(), "unknown")
    if odd:
        raise BadArgument(f"{where}: expected a dataset that is contiguous or chunked, got a {odd} one; use h5py")
    if properties.get_external_count():
        raise BadArgument(f"{where}: expected its data in this file, got external files; use h5py")
    if file.userblock_size:
        raise BadArgument(f"{where}: expected a file without a user block, got one of {file.userblock_size} bytes")
    if dataset.shape is None or dataset.shape == ():
        raise BadArgument(f"{where}: expected an array, got a single value or none; use h5py")
    dtype = dataset.dtype
    if dtype.kind not in "biuf" or not h5t.py_create(dtype, logical=True).equal(dataset.id.get_type()):
        kind = {"O": "of variable length or references", "V": "compound", "S": "text"}.get(dtype.kind, str(dtype))
        raise BadArgument(f"{where}: expected plain numbers, got elements that are {kind}; use h5py")


def _filters(properties: Any, where: str) -> tuple[int, ...]:
    found = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    for code, _, _, name in found:
        if code not in FILTERS:
            raise BadArgument(
                f"{where}: expected the filters {', '.join(FILTERS.values())} or none, got "
                f"{name.decode(errors='replace') or code}; use h5py"
            )
    return tuple(code for code, *_ in found)


def _runs(begin: Ints, size: Ints) -> list[tuple[int, int]]:
    """Stretches of ranges, in order of their begin, that are read together: first, and the one after the last."""
    runs: list[tuple[int, int]] = []
    for k in range(len(begin)):
        if runs:
            first, last = runs[-1]
            gap = begin[k] - (begin[last - 1] + size[last - 1])
            if 0 <= gap <= _GAP_BYTES and begin[k] + size[k] - begin[first] <= _RUN_BYTES:
                runs[-1] = (first, k + 1)
                continue
        runs.append((k, k + 1))
    return runs


def _put(out: NDArray[Any], chunk: NDArray[Any], cell: Sequence[int]) -> None:
    """Copy the part of a chunk that lies within an array, its first cell being `cell` of the array."""
    within, inside = [], []
    for start, size, n in zip(cell, chunk.shape, out.shape, strict=True):
        first, stop = max(start, 0), min(start + size, n)
        within.append(slice(first, stop))
        inside.append(slice(first - start, stop - start))
    out[tuple(within)] = chunk[tuple(inside)]
