"""A store in the making: locked, in ``<root>/.staging``, with a journal of what is there for good.

Whatever ends a build, the next one of the same store goes on with what the journal lists and the disk has unchanged.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from chunking.encode import PARTIAL
from chunking.journal import Journal
from chunking.manifest import MANIFEST, Files, compare_files, store_files
from chunking.plan import PLACES
from chunking.publish import seal
from loaders.errors import CubesError, StoreError

STAGING = ".staging"
_STORE, _JOURNAL = "store", "journal.jsonl"
_log = logging.getLogger(__name__)


class Held(StoreError):
    """Another build is making the store."""


@dataclass(frozen=True)
class Staging:
    """The folder of a store in the making.

    Attributes
    ----------
    store, final : Path
        What will be renamed, and to which path.
    journal : Journal
    """

    store: Path
    final: Path
    journal: Journal

    def resume(self) -> dict[str, Files]:
        """The parts that an earlier build finished and that are unchanged; everything else is removed."""
        kept = {part: files for part, files in self.journal.read().items() if self._unchanged(files)}
        keys = {key for files in kept.values() for key in files}
        (self.store / MANIFEST).unlink(missing_ok=True)
        self.sweep()
        for key, path in store_files(self.store).items():
            if key not in keys:
                path.unlink()
        for folder in sorted((path for path in self.store.rglob("*") if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()  # zarr would take it for a member of the group
        return kept

    def sweep(self) -> None:
        """Remove what killed workers were in the middle of writing."""
        for path in list(self.store.parent.rglob(f"*{PARTIAL}")):
            if path.is_dir():  # beside the store; a thread of zarr may write there even after its build has failed
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def keep(self, parts: Mapping[str, Files]) -> None:
        """Write the files of parts to disk, compare what is read back, and then, only then, put them into the journal.

        Raises
        ------
        StoreError
            If a file is not as written.
        """
        seal(self.store, {key: facts for files in parts.values() for key, facts in files.items()}, self.final)
        self.journal.add(parts)

    def _unchanged(self, files: Files) -> bool:
        return all((self.store / key).is_file() for key in files) and not compare_files(self.store, files)


@contextmanager
def staging(root: Path, path: str, build_key: str, *, wait: bool = False) -> Iterator[Staging]:
    """The staging of the store ``root / path``, held by one build at a time; with `wait`, until that lets go of it.

    After an error or an interruption it stays if its journal lists anything, and the next build with the same
    `build_key` goes on there. Work for another `build_key` of the same store is removed: it is out of date.

    Raises
    ------
    Held
        If another build holds it.
    StoreError
        If `root` cannot be written to, or something cannot be written later, as on a full
        disk.
    """
    name = path.replace("/", ".")
    base = root / STAGING
    folder = base / f"{name}.{build_key}"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"root {root}: cannot be written to ({error}); choose another folder") from error
    with _explained(root / path), _lock(base, name, root / path, wait):
        for stale in set(base.glob(f"{name}.*")) - {folder, *base.glob("*.lock"), *base.glob("*.holder.json")}:
            shutil.rmtree(stale)
        (folder / _STORE).mkdir(parents=True, exist_ok=True)
        try:
            yield Staging(folder / _STORE, root / path, Journal(folder / _JOURNAL))
        except BaseException:
            if not (folder / _JOURNAL).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _explained(store: Path) -> Iterator[None]:
    """Errors of the disk and of the memory as one that names the store."""
    try:
        yield
    except MemoryError as error:
        raise StoreError(
            f"store {store}: a task ran out of memory ({error}); nothing was published; use fewer workers, a smaller "
            "layout or a larger limit, and build again: what is complete was kept"
        ) from error
    except OSError as error:
        if isinstance(error, CubesError):
            raise
        raise StoreError(
            f"store {store}: writing failed ({error}); nothing was published; make room or choose another root, and "
            "build again: what is complete was kept"
        ) from error


@contextmanager
def _lock(base: Path, name: str, store: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of a store; it is free at once when its holder dies."""
    lock, holder = FileLock(base / f"{name}.lock"), base / f"{name}.holder.json"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise Held(f"store {store}: {_describe(holder)}; wait for it, or stop it") from error
        _log.warning("store %s: %s; waiting for it", store, _describe(holder))
        lock.acquire(timeout=-1)
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since}))
        yield
    finally:
        with suppress(OSError):  # it is only for a message; the lock has to be free even on a disk that fails
            holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    return _held(holder) or "another process is building it"


def _held(holder: Path) -> str:
    try:
        facts = json.loads(holder.read_text())
        return f"process {facts['process']} on {facts['host']} has been building it since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return ""


@dataclass(frozen=True, slots=True)
class Staged:
    """A store in the making, seen from outside.

    Attributes
    ----------
    build_key : str
    parts : int
        How many its journal lists.
    holder : str
        Who is building it; empty if nobody is.
    """

    build_key: str
    parts: int
    holder: str


def staged(root: Path) -> dict[str, Staged]:
    """The stores in the making, by path relative to the root. Takes no lock, and changes nothing."""
    found = {}
    kinds = [place.partition("/")[0] for place in PLACES]
    for folder in sorted(path for kind in kinds for path in (root / STAGING).glob(f"{kind}.*.zarr.*/")):
        name, _, build_key = folder.name.rpartition(".")
        kind, _, store = name.removesuffix(".zarr").partition(".")
        owner, _, product = store.rpartition(".")
        path = "/".join(filter(None, (kind, owner, f"{product}.zarr")))
        holder = folder.with_name(f"{name}.holder.json")
        held = _held(holder) if _alive(holder) else ""
        found[path] = Staged(build_key, len(Journal(folder / _JOURNAL).peek()), held)
    return found


def _alive(holder: Path) -> bool:
    """Whether the process that left its name may live: of another machine, that is not known."""
    try:
        facts = json.loads(holder.read_text())
        if facts["host"] == socket.gethostname():
            os.kill(facts["process"], 0)
    except (OSError, ValueError, KeyError) as error:
        return isinstance(error, PermissionError)  # it lives, and is another user's
    return True
