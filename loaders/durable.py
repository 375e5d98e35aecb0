"""Waiting until something is on disk, where a power cut cannot take it back."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def fsync(path: Path) -> None:
    """Return when the file, or the names in the folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_all(paths: Iterable[Path]) -> None:
    """`fsync` of many, several at once: a file system writes what several wait for in one go."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(fsync, paths):
            pass


_AT_ONCE = 8
