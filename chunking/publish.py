"""A store is built elsewhere and renamed: its final path exists only if it is complete.

Everything is written to disk (fsync) before the rename, because a file system may otherwise keep the rename and lose
the data in a power cut; and read back, because only then it is known to be what was meant.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from chunking.manifest import MANIFEST, Files, Problem, compare_files, entry, make_manifest, store_files, verify_store
from loaders.durable import fsync, fsync_all
from loaders.errors import StoreError


class _Home(Protocol):
    def exists(self, path: str) -> bool: ...


def refuse_existing(home: _Home, paths: list[str]) -> None:
    """Raise StoreError if one of the stores is there already."""
    existing = [path for path in paths if home.exists(path)]
    if existing:
        raise StoreError(
            f"root {home}: {len(existing)} of {len(paths)} stores exist already and are never overwritten: "
            f"{', '.join(existing[:4])}{' ...' if len(existing) > 4 else ''}; remove them, choose another root, "
            "skip what exists, or replace it"
        )


def seal(store: Path, files: Files, final: Path) -> None:
    """Write some files to disk, and compare what is read back with what was written.

    Parameters
    ----------
    store : Path
        Where they are now.
    files : Files
    final : Path
        Where they are to be, for the message.

    Raises
    ------
    StoreError
        If a file differs.
    """
    fsync_all(store / key for key in files)
    _refuse(final, compare_files(store, files))


def complete(store: Path, final: Path, sealed: Files, facts: Mapping[str, Any]) -> None:
    """Complete a store with its manifest; when this returns, all of it is on disk.

    Parameters
    ----------
    store, final : Path
        Where it is now, and where it is to be.
    sealed : Files
        Those that went through `seal`; all others are sealed here.
    facts : mapping
        What the manifest says beside the files.

    Raises
    ------
    StoreError
        If a chunk is missing or differs.
    """
    others = {key: entry(path) for key, path in store_files(store).items() if key not in sealed}
    seal(store, others, final)
    manifest = store / MANIFEST
    text = json.dumps(make_manifest(sealed | others, facts), sort_keys=True, indent=1, allow_nan=False)
    manifest.write_text(text)
    fsync(manifest)
    _refuse(final, verify_store(store, quick=True))
    fsync_all([store, *(path for path in store.rglob("*") if path.is_dir())])


def publish(store: Path, final: Path) -> None:
    """Rename a complete store to its final path; raises StoreError if that exists or cannot be made durable."""
    new = [folder for folder in final.parents if not folder.exists()]
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        store.rename(final)
    except OSError as error:
        raise StoreError(f"store {final}: cannot be published ({error})") from error
    with after_the_rename(final):
        # Up to the root: the folders of the insertion may be as new as the store.
        fsync_all({*final.parents[:3], *(folder.parent for folder in new)})


@contextmanager
def after_the_rename(final: Path) -> Iterator[None]:
    """What is left to do once a store has its final path: an error here does not mean that it was not published."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"store {final}: is published and complete, but then the disk failed ({error}), and a power cut may undo "
            "it; look at the disk, and verify the store"
        ) from error


def _refuse(final: Path, problems: list[Problem]) -> None:
    if problems:
        listed = "; ".join(f"{problem.key}: {problem.what}" for problem in problems[:4])
        raise StoreError(f"store {final}: {len(problems)} files are not as written ({listed}); nothing was published")
