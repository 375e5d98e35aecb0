"""A file that is being fetched: hidden beside its place, hashed as it grows, and moved there when it is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from loaders.durable import fsync
from loaders.errors import SourceUnavailable

BLOCK_BYTES = 1 << 20


class PartialFile:
    """The bytes so far of the file `target`, in ``.<name>.<key>.part`` beside it. Use it in a ``with``.

    Parameters
    ----------
    target : Path
    key : str
        What the file will be, such as its md5: bytes that another process left under the same key are kept and hashed.
        If it is empty, nothing tells what they are of.
    algorithm : str
        What the bytes are hashed with, a name of `hashlib`.

    Raises
    ------
    SourceUnavailable
        If the disk is full or cannot be written, here and in every method; nothing is left behind then.

    Attributes
    ----------
    size : int, bytes
    version : str
        What the server says that the bytes are of; empty if they were here before.
    """

    def __init__(self, target: Path, key: str, algorithm: str = "md5") -> None:
        self.target, self.algorithm = target, algorithm
        self.path = target.with_name(f".{target.name}.{key or 'unknown'}.part")
        with self._writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
            self.size, self.version = 0, ""
            self._hash = hashlib.new(algorithm, usedforsecurity=False)
            self._file.seek(0)
            while block := self._file.read(BLOCK_BYTES):
                self._hash.update(block)
                self.size += len(block)

    @property
    def digest(self) -> str:
        """Hash of the bytes so far, hexadecimal."""
        return self._hash.hexdigest()

    def append(self, block: bytes) -> None:
        """Add bytes at the end."""
        with self._writing():
            self._file.write(block)
        self._hash.update(block)
        self.size += len(block)

    def restart(self) -> None:
        """Throw all bytes away."""
        with self._writing():
            self._file.seek(0)
            self._file.truncate()
        self.size, self.version = 0, ""
        self._hash = hashlib.new(self.algorithm, usedforsecurity=False)

    def publish(self) -> None:
        """Move the file to its place, safe from a power cut; one that is there and differs is put aside."""
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            if self.target.exists():
                self.target.replace(self.quarantine_path)
            self.path.replace(self.target)
            fsync(self.target.parent)
            for left in self.target.parent.glob(f".{_literal(self.target.name)}.*.part"):
                left.unlink(missing_ok=True)  # of other keys

    def quarantine(self) -> Path:
        """Put the file aside under a name that nobody reads, and return it."""
        with self._writing():
            self._file.close()
            return self.path.replace(self.quarantine_path)

    @property
    def quarantine_path(self) -> Path:
        """Where a file goes that is not what it should be; a later one takes its place."""
        return self.target.with_name(f".{self.target.name}.quarantine")

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._writing():
            self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with suppress(OSError):  # a folder that cannot be written has no such file either
                self.path.unlink(missing_ok=True)  # a full disk gets its space back
            reason = error.strerror or str(error)
            raise SourceUnavailable(
                f"{self.target}: cannot be written ({reason}); make space, or choose another folder for the cache"
            ) from error


def _literal(name: str) -> str:
    """A name as a pattern of glob that matches only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
