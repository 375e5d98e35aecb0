"""Where the bytes of a recording come from: exact ranges of something of a fixed size."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable

Stamp = tuple[int, int]


class ByteSource(Protocol):
    """Something of a fixed size whose ranges can be read from several threads; pickles in a few bytes."""

    @property
    def name(self) -> str:
        """Path or url, for messages."""
        ...

    @property
    def size(self) -> int:
        """Size in bytes."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """All bytes of the range ``start:stop``; raises CorruptData if there are fewer."""
        ...


class LocalFile:
    """A file on this machine, which must stay as it was when this object was made.

    The file is opened at the first read, once a process, and closed with this object or by `close`. A pickle carries
    the path and the stamp, so that a worker refuses a file that has changed since.

    Parameters
    ----------
    path : path
    stamp : (int, int), optional
        Size in bytes and time of the last change in ns that the file must have; by default those that it has now.

    Raises
    ------
    NotFound
        If there is no such file.
    """

    __slots__ = ("__weakref__", "_lock", "_opened", "path", "stamp")

    def __init__(self, path: str | Path, stamp: Stamp | None = None) -> None:
        self.path = Path(path).absolute()
        self.stamp: Stamp = _stamp_of(self.path) if stamp is None else stamp
        self._opened: _Descriptor | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Path of the file, for messages."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.stamp[0]

    def read(self, start: int, stop: int) -> bytes:
        """All bytes of the range ``start:stop``.

        Raises
        ------
        BadArgument
            If the range is not within the file.
        CorruptData
            If the file has changed since this object was made, or has fewer bytes.
        """
        if not 0 <= start <= stop <= self.size:
            raise BadArgument(f"{self.name}: bytes {start}:{stop} are not within its {self.size} bytes")
        descriptor = self._descriptor()  # this reference keeps it open, also while another thread calls `close`
        try:
            data = _read_fully(descriptor.number, start, stop)
            status = os.fstat(descriptor.number)
        except OSError as error:
            raise SourceUnavailable(f"{self.name}: reading bytes {start}:{stop} failed ({error})") from error
        self._check((status.st_size, status.st_mtime_ns))
        if len(data) != stop - start:
            raise CorruptData(f"{self.name}: expected {stop - start} bytes at {start}, got {len(data)}; fetch it again")
        return data

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._opened = None

    def _descriptor(self) -> _Descriptor:
        with self._lock:
            if self._opened is None:
                self._opened = _Descriptor(self.path)
            return self._opened

    def _check(self, stamp: Stamp) -> None:
        if stamp == self.stamp:
            return
        raise CorruptData(
            f"{self.name}: the file has changed since it was opened: expected {self.stamp[0]} bytes last changed at "
            f"{self.stamp[1]} ns, got {stamp[0]} bytes at {stamp[1]} ns; open it again"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalFile) and (self.path, self.stamp) == (other.path, other.stamp)

    def __hash__(self) -> int:
        return hash((self.path, self.stamp))

    def __repr__(self) -> str:
        return f"LocalFile({str(self.path)!r}, {self.size} bytes)"

    def __reduce__(self) -> tuple[type[LocalFile], tuple[str, Stamp]]:
        return LocalFile, (str(self.path), self.stamp)


class _Descriptor:
    """An open file, closed when the last one who uses it lets go."""

    __slots__ = ("number",)

    def __init__(self, path: Path) -> None:
        self.number = -1
        try:
            self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except FileNotFoundError as error:
            raise NotFound(f"{path}: the file is no longer there") from error
        except OSError as error:
            raise SourceUnavailable(f"{path}: cannot be opened ({error})") from error

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self.number >= 0:
            _close(self.number)


def _stamp_of(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path}: there is no such file") from error
    except OSError as error:
        raise SourceUnavailable(f"{path}: cannot be read ({error})") from error
    if not path.is_file():
        raise NotFound(f"{path}: expected a file, got a folder or a device")
    return status.st_size, status.st_mtime_ns


def _read_fully(number: int, start: int, stop: int) -> bytes:
    data = os.pread(number, stop - start, start)
    if len(data) == stop - start or not data:
        return data
    parts, got = [data], len(data)  # one call reads at most 2 GiB on Linux
    while got < stop - start and (data := os.pread(number, stop - start - got, start + got)):
        parts.append(data)
        got += len(data)
    return b"".join(parts)
