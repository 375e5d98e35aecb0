"""The journal of a build: one line a finished part, each with a checksum of its own.

A line is the commit of its part. It is written after the files of the part are on disk, and a line that a crash cut is
as if it had not been written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from chunking.manifest import Files
from loaders.checksum import crc32


class Journal:
    """Which files of a store in the making are complete.

    Parameters
    ----------
    path : Path
        Of the journal; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Files]:
        """The files of every part; a damaged end is cut off, so that later lines do not follow it."""
        parts, good = self._parse()
        if self.path.exists() and good < self.path.stat().st_size:
            os.truncate(self.path, good)
        return parts

    def peek(self) -> dict[str, Files]:
        """The files of every part; changes nothing, as another process may be writing the next line."""
        return self._parse()[0]

    def _parse(self) -> tuple[dict[str, Files], int]:
        """The parts, and how many bytes of the journal are good."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return {}, 0
        parts: dict[str, Files] = {}
        good = 0
        for line in data.splitlines(keepends=True):
            record = line[9:-1]
            if not line.endswith(b"\n") or line[:9] != _checksum(record):
                break
            entry = json.loads(record)
            parts[entry["part"]] = entry["files"]
            good += len(line)
        return parts, good

    def add(self, parts: Mapping[str, Files]) -> None:
        """Append parts; when this returns, they are on disk."""
        lines = b"".join(_line(part, files) for part, files in parts.items())
        with self.path.open("ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _line(part: str, files: Files) -> bytes:
    record = json.dumps({"part": part, "files": files}, sort_keys=True).encode()
    return _checksum(record) + record + b"\n"


def _checksum(record: bytes) -> bytes:
    return f"{crc32(record)} ".encode()
