"""Replacing a store while others read it: the old version stays until nobody can be using it.

The present version of a product is the folder ``<product>.zarr``. When it is replaced, old and new change places in
one step, and the old one stays in ``.versions/<product>.<build key>.zarr`` beside it until `collect` removes it. One
that was repaired stays as ``.versions/<product>.damaged.zarr``.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from chunking.manifest import read_manifest
from chunking.plan import PLACES
from chunking.publish import after_the_rename
from loaders.durable import fsync
from loaders.errors import StoreError

VERSIONS, READERS = ".versions", ".readers"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def archive_of(final: Path, version: str) -> Path:
    """Where a version of a store lies, or would lie, after it was replaced."""
    return final.parent / VERSIONS / f"{final.stem}.{version}{final.suffix}"


def replace(new: Path, final: Path, version: str | None = None) -> Path:
    """Put a finished store in the place of another; from one moment to the next, readers find the new one.

    Parameters
    ----------
    new : Path
        Complete, with its manifest, on the same file system.
    final : Path
        A store that exists.
    version : str, optional
        What the old version is called from now on; by default its build key, by which its readers find it. A damaged
        one gives way to the same build key, so that its readers go on with the whole one.

    Returns
    -------
    Path
        Where the old version is now.
    """
    archive = archive_of(final, str(read_manifest(final)["build_key"]) if version is None else version)
    archive.parent.mkdir(exist_ok=True)
    if archive.exists():  # replaced before, and restored or damaged again since
        archive.rename(archive.with_name(f"{uuid.uuid4().hex}.removed"))
    new.rename(archive)  # for an instant the new one, so that the exchange leaves the old one where it belongs
    fsync(archive.parent)
    _retire(archive, final)
    return archive


def finish_replacement(final: Path, build_key: str) -> bool:
    """Go on with a replacement that a crash cut between its two steps; whether there was one."""
    if not final.exists():
        return False
    archive = archive_of(final, str(read_manifest(final)["build_key"]))
    if not archive.exists() or read_manifest(archive)["build_key"] != build_key:
        return False
    _retire(archive, final)
    return True


def _retire(archive: Path, final: Path) -> None:
    """Exchange the new version, in the archive, for the present one; its time says that later readers do not use it."""
    os.utime(final)  # should a crash come between the exchange and the exact time
    _exchange(archive, final)
    with after_the_rename(final):
        os.utime(archive)
        fsync(archive.parent)
        fsync(final.parent)


def _exchange(a: Path, b: Path) -> None:
    """Let two folders change places in one step; Linux has a call for it."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        code = errno.ENOSYS
    elif rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return
    else:
        code = ctypes.get_errno()
    if code not in (errno.ENOSYS, errno.EINVAL):
        raise StoreError(f"store {b}: cannot be replaced ({os.strerror(code)})")
    # Other systems, and some network file systems: for an instant there is no store, which readers wait out.
    aside = b.with_name(f"{uuid.uuid4().hex}.removed")
    b.rename(aside)
    a.rename(b)
    aside.rename(a)


class Lease:
    """Says that this process reads the stores of a root, for as long as it lives.

    A file that is locked: when the process dies, however it dies, the lock is gone; when it ends in peace, so is the
    file. On a root that cannot be written to there is no lease.
    """

    def __init__(self, root: Path) -> None:
        name = f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
        self.path = root / READERS / f"{name}.lock"
        self._lock = FileLock(self.path, thread_local=False)
        try:
            self.path.parent.mkdir(exist_ok=True)
            self._lock.acquire(timeout=0)
            self.path.with_suffix(".json").write_text(json.dumps({"since": time.time()}))
        except OSError:
            self._lock.release()
        else:
            self._process = os.getpid()
            atexit.register(self._end)

    def _end(self) -> None:
        if os.getpid() == self._process:  # not of a fork, which ends before the reader does
            self.release()

    def release(self) -> None:
        """End the lease."""
        atexit.unregister(self._end)
        self._lock.release()
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".json").unlink(missing_ok=True)


def collect(root: Path, older_than_s: float = 86_400) -> tuple[list[Path], list[Path]]:
    """Remove the versions that nobody can be reading.

    Parameters
    ----------
    root : Path
    older_than_s : float, seconds
        Keep what was replaced later than this: for readers on other machines whose locks cannot be seen.

    Returns
    -------
    list of Path
        The versions that were removed.
    list of Path
        Those that were kept.
    """
    reading_since = min(_readers(root), default=float("inf"))
    removed, kept = [], []
    for version in sorted(path for place in PLACES for path in root.glob(f"{place}/{VERSIONS}/*")):
        replaced = version.stat().st_mtime
        if replaced > reading_since or replaced > time.time() - older_than_s:
            kept.append(version)
            continue
        aside = version.with_name(f"{uuid.uuid4().hex}.removed")
        version.rename(aside)
        shutil.rmtree(aside)
        removed.append(version)
    return removed, kept


def _readers(root: Path) -> Iterable[float]:
    """Since when the living readers of a root read; leases of dead ones are removed."""
    for path in (root / READERS).glob("*.lock"):
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            try:
                yield float(json.loads(path.with_suffix(".json").read_text())["since"])
            except (OSError, ValueError, KeyError):
                yield 0.0  # it has only just begun
        else:
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            lock.release()
