"""An HDF5 file opened over any byte source with few requests: its tree is read here, large data by `hdf5_index`."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from loaders.byte_source import ByteSource
from loaders.errors import CorruptData, CubesError, NotFound

if TYPE_CHECKING:
    import h5py

FIRST_BYTES = 1 << 22
"""Read at once when a file is opened: most of what describes a file lies at its begin."""
BLOCK_BYTES = 1 << 20
_BLOCKS = 16  # the tree of a dataset in chunks is gone through once: more would only be held


@contextmanager
def open_hdf5(source: ByteSource) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    The first `FIRST_BYTES` are one request, what is asked for later comes in blocks of `BLOCK_BYTES`; larger reads are
    requests of their own.

    Raises
    ------
    CorruptData
        If it is no HDF5 file, a damaged one, or lacks what the body of the ``with`` asks of it.
    NotFound
        If h5py is not installed.
    SourceUnavailable
        If the bytes cannot be reached.

    Examples
    --------
    >>> from loaders.byte_source import LocalFile
    >>> with open_hdf5(LocalFile("session.nwb")) as file:  # doctest: +SKIP
    ...     ids = file["units/id"][:]
    """
    blocks = _Blocks(source)
    try:
        with _open(blocks) as file:
            yield file
        blocks.refuse_failed()
    except CubesError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        blocks.refuse_failed()
        raise CorruptData(
            f"{source.name}: not a sound HDF5 file, or not as expected ({error}); fetch it again"
        ) from error


def _open(blocks: _Blocks) -> h5py.File:
    """What ``h5py.File(blocks)`` does, but that its list of properties is closed in any case.

    After a failure that one lives as long as the traceback; if that is till the end of the process, HDF5 closes it when
    Python is gone, and crashes.
    """
    try:
        import h5py
    except ImportError as error:
        raise NotFound("h5py is not installed, which reads NWB files; pip install 'ibl-cubes[hdf5]'") from error
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    try:
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, blocks)
        return h5py.File(h5py.h5f.open(b"source", h5py.h5f.ACC_RDONLY, access))
    finally:
        access.close()


class _Blocks(io.RawIOBase):
    """A byte source as HDF5 reads it. Not for several threads; h5py has one lock for all files anyway."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__()
        self._source = source
        self._position = 0
        self._first = b""
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._failed: BaseException | None = None

    def refuse_failed(self) -> None:
        """Raise what went wrong with a read, of which HDF5 knows only that it made no sense."""
        if (failed := self._failed) is not None:
            raise failed

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Nothing, once a read has failed: an exception here would leave HDF5 with a file that it can never close."""
        start, view = self._position, memoryview(buffer).cast("B")
        stop = min(start + len(view), self._source.size)
        if start >= stop or self._failed is not None:
            return 0
        try:
            view[: stop - start] = self._get(start, stop)
        except BaseException as error:  # Ctrl-C too
            self._failed = error
            return 0
        self._position = stop
        return stop - start

    def _get(self, start: int, stop: int) -> bytes:
        if not self._first:
            self._first = self._source.read(0, min(FIRST_BYTES, self._source.size))
        if stop <= len(self._first):
            return self._first[start:stop]
        if stop - start > BLOCK_BYTES:
            return self._source.read(start, stop)
        parts = []
        for i in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)):
            block, first = self._block(i), i * BLOCK_BYTES
            parts.append(block[max(start - first, 0) : stop - first])
        return b"".join(parts)

    def _block(self, i: int) -> bytes:
        if i not in self._blocks:
            start = i * BLOCK_BYTES
            self._blocks[i] = self._source.read(start, min(start + BLOCK_BYTES, self._source.size))
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(i)
        return self._blocks[i]
