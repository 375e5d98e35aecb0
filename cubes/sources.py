"""Where recordings come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from loaders.errors import BadArgument, NotFound
from loaders.records import Catalog

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("one", "folder", "sample", "auto")


def source(kind: str, folder: str | Path, *, pids: Mapping[str, str] | None = None) -> Catalog:
    """Open a source of recordings.

    Parameters
    ----------
    kind : {"one", "folder", "sample", "auto"}
        ``one``: a ONE cache folder, used offline. ``folder``: one bare ALF session folder, without any database.
        ``sample``: the sample data, written to `folder` first if that does not exist. ``auto``: ``one`` or
        ``folder``, whichever `folder` is.
    folder : path
    pids : mapping of str to str, optional
        For ``folder``: the pid of each probe, if known.

    Returns
    -------
    Catalog
        With the methods ``insertions()``, ``insertion(pid)`` and ``datasets(insertion)``.

    Raises
    ------
    BadArgument
        If `kind` is unknown or does not take `pids`.
    NotFound
        If `folder` does not exist or is not of that kind.

    Examples
    --------
    >>> import cubes
    >>> source = cubes.source("one", "sample")
    >>> [insertion.probe for insertion in source.insertions()]
    ['probe00', 'probe01', 'probe00']
    """
    if kind not in KINDS:
        raise BadArgument(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    folder = Path(folder)
    if kind == "auto":
        kind = _detect(folder)
    if pids is not None and kind != "folder":
        raise BadArgument(f"pids: only the source 'folder' takes them, a source {kind!r} knows its own")
    if kind == "folder":
        from loaders.folder import FolderCatalog

        return FolderCatalog(folder, pids)
    if kind == "sample" and not folder.exists():
        write_sample(folder)
    from loaders.one_cache import OneCatalog

    return OneCatalog.from_folder(folder)


def write_sample(folder: str | Path, *, voltage: bool = True, progress: Callable[[str], None] | None = None) -> Path:
    """Write the sample data: a small ONE cache with two sessions, three probes and known truth.

    Parameters
    ----------
    folder : path
        Must not exist, or be empty.
    voltage : bool
        Also write a few seconds of compressed AP and LF voltage, which takes most of the time.
    progress : callable, optional
        Called with a line of text at every step.

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    StoreError
        If `folder` is not empty or cannot be written.

    Examples
    --------
    >>> import cubes
    >>> cubes.write_sample("another-sample", voltage=False).name
    'another-sample'
    """
    from loaders import sample

    return sample.write_sample(Path(folder), voltage=voltage, progress=progress)


def is_source(folder: Path) -> bool:
    """Whether a folder is a ONE cache or an ALF session."""
    return (folder / "sessions.pqt").is_file() or (folder / "alf").is_dir()


def ls(folder: str | Path) -> pd.DataFrame:
    """List the insertions of a source, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(insertion) for insertion in source("auto", folder).insertions()])


def _detect(folder: Path) -> str:
    if not folder.is_dir():
        raise NotFound(f"source folder {folder}: does not exist")
    if is_source(folder):
        return "one" if (folder / "sessions.pqt").is_file() else "folder"
    raise NotFound(
        f"source folder {folder}: is no session and no ONE cache; expected a subfolder alf (an ALF session) "
        "or a table sessions.pqt (a ONE cache)"
    )
