"""Hashes of files of a cache that the fetcher manages, kept beside them so that each is computed once.

A sum is that of a file of one size and time of change. It stands in ``.cubes-verified/<algorithm>/<path of the file>``
of the cache, put there by a rename: any process may write it at any time, and what is torn or old is computed again.
Folders without ``.cubes-verified`` are the user's, and nothing is written into them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_FOLDER = ".cubes-verified"


@dataclass(frozen=True, slots=True)
class VerifiedSums:
    """The sums of one cache folder, `root`."""

    root: Path

    @classmethod
    def of(cls, path: Path) -> VerifiedSums | None:
        """Those of the managed cache that a file lies in; None if it lies in none."""
        return next((cls(folder) for folder in path.absolute().parents if (folder / _FOLDER).is_dir()), None)

    def manage(self) -> None:
        """Make the cache a managed one; a cache that cannot be written stays as it is."""
        with suppress(OSError):
            (self.root / _FOLDER).mkdir(parents=True, exist_ok=True)

    def recall(self, path: Path, status: os.stat_result, algorithm: str = "md5") -> str | None:
        """The sum of a file with this status, if it is known."""
        try:
            size, mtime_ns, digest = self._note_of(path, algorithm).read_text().split()
        except (OSError, ValueError):
            return None
        return digest if (size, mtime_ns) == (str(status.st_size), str(status.st_mtime_ns)) else None

    def remember(self, path: Path, status: os.stat_result, digest: str, algorithm: str = "md5") -> None:
        """Keep the sum of a file. Where that is impossible, as in a read-only cache, it is computed again next time."""
        note = self._note_of(path, algorithm)
        new = note.with_name(f".{note.name}.{os.getpid()}-{threading.get_ident()}")
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(f"{status.st_size} {status.st_mtime_ns} {digest}\n")
            new.replace(note)

    def lock_path(self, path: Path) -> Path:
        """Where the lock of a file is: whoever holds it may replace the file."""
        name = hashlib.sha256(str(path.absolute().relative_to(self.root)).encode()).hexdigest()[:32]
        return self.root / _FOLDER / "locks" / f"{name}.lock"

    def _note_of(self, path: Path, algorithm: str) -> Path:
        return self.root / _FOLDER / algorithm / path.absolute().relative_to(self.root)
