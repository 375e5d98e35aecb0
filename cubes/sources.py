"""Where recordings come from."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.errors import BadArgument, NotFound
from loaders.records import Catalog, Insertion

if TYPE_CHECKING:
    import pandas as pd
    from one.api import One

REMOTE = ("bucket", "openalyx", "http", "allen-vbn", "allen-vc")
"""The sources that are reached over a network, by their names."""

DEFAULT_RELEASE = "2023_12_bwm_release"
FLATIRON = "https://ibl.flatironinstitute.org/public"


def source(kind: str, folder: str | Path | None = None, **options: Any) -> Catalog:
    """Open a source of recordings. All sources give the same facts and files of the same insertion.

    ============= ==========================================================================================
    kind          what it is, and its options
    ============= ==========================================================================================
    ``one``       a ONE cache folder, used offline; or ``one=``, any instance of the ONE client
    ``folder``    one bare ALF session folder, without any database; ``pids=``: a mapping of probe to its
                  pid or `Insertion`, if known
    ``sample``    the sample data, written to `folder` first if that does not exist
    ``auto``      ``one``, ``folder`` or ``allen-vbn``, whichever `folder` is
    ``bucket``    the public bucket, without a login; ``release=`` (by default the Brain-Wide Map of 2023)
                  or ``insertions=``, ``cache=``, ``revision=`` (the sorting that counts as the default),
                  ``endpoint=``
    ``openalyx``  the public database, with a login that is never asked for: ``username=`` and ``password=``
                  or ``token=``, or ``ALYX_LOGIN``, ``ALYX_PWD`` and ``ALYX_TOKEN`` of the environment, or
                  what ONE saved; ``release=`` or ``insertions=`` to list only these, ``cache=``,
                  ``base_url=``
    ``http``      the public file server; ``tables=``: a folder with the ``sessions.pqt``, ``datasets.pqt``
                  and ``insertions.pqt`` of a ONE cache that say what it has; ``cache=``, ``base_url=``
    ``allen-vbn`` a release of the Allen Visual Behavior recordings: of the public bucket, or of `folder`, a cache
                  folder of the SDK or the bucket as it is mounted; ``version=``, ``cache=``, ``endpoint=``,
                  ``manifest=`` (a path), ``old=`` (allow releases before 0.5.0, whose LFP has a wrong scale)
    ``allen-vc``  the Allen Visual Coding recordings, whose files have no hashes, and whose tables no dates of
                  recording: of the public bucket, or of `folder`; ``cache=``, ``endpoint=``
    ============= ==========================================================================================

    Parameters
    ----------
    kind : str
        One of the above.
    folder : path, optional
        The folder, for those kinds that are one.
    **options
        As above. ``cache`` is the folder where remote files would lie on this machine, by default that of
        `cache_folder`; ``insertions`` is a DataFrame with the columns ``pid, eid, probe, lab, subject, date,
        number``, or a list of `Insertion`.

    Returns
    -------
    Catalog
        With the methods ``insertions()``, ``insertion(pid)`` and ``datasets(insertion)``.

    Raises
    ------
    BadArgument
        If `kind` is unknown or does not take one of the options.
    NotFound
        If `folder` does not exist or is not of that kind.
    SourceUnavailable
        If a login is missing or refused, or a server does not answer.

    Examples
    --------
    >>> import cubes
    >>> source = cubes.source("one", "sample")
    >>> [insertion.probe for insertion in source.insertions()]
    ['probe00', 'probe01', 'probe00']
    """
    if kind not in KINDS:
        raise BadArgument(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    signature = inspect.signature(KINDS[kind])
    try:
        given = signature.bind(*([] if folder is None else [folder]), **options)
    except TypeError as error:
        raise BadArgument(f"source {kind!r}: {error}; it takes {', '.join(signature.parameters)}") from error
    return KINDS[kind](*given.args, **given.kwargs)


def cache_folder() -> Path:
    """Where remote files go: ``$IBL_CUBES_CACHE``, else ``ibl-cubes`` in ``$XDG_CACHE_HOME`` or in ``~/.cache``."""
    if chosen := os.environ.get("IBL_CUBES_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibl-cubes"


def _one(folder: str | Path | None = None, *, one: One | None = None) -> Catalog:
    if (folder is None) == (one is None):
        raise BadArgument("source 'one': expected a folder or one=, exactly one of the two")
    from loaders.one_cache import OneCatalog

    if one is None:
        return OneCatalog.from_folder(str(folder))
    if one.offline:
        return OneCatalog(one)
    from loaders.alyx import AlyxCatalog

    return AlyxCatalog(one)


def _folder(folder: str | Path, *, pids: Mapping[str, str | Insertion] | None = None) -> Catalog:
    from loaders.folder import FolderCatalog

    return FolderCatalog(folder, pids)


def _sample(folder: str | Path) -> Catalog:
    if not Path(folder).exists():
        write_sample(folder)
    return _one(folder)


def _auto(folder: str | Path) -> Catalog:
    return source(_detect(Path(folder)), folder)


def _bucket(
    *,
    release: str | None = None,
    insertions: pd.DataFrame | Iterable[Insertion] | None = None,
    cache: str | Path | None = None,
    endpoint: str | None = None,
    revision: str | None = None,
) -> Catalog:
    from loaders.bucket import PINNED_REVISION, BucketCatalog

    listed = _listed(release, insertions)
    return BucketCatalog(
        _release(DEFAULT_RELEASE) if listed is None else listed,
        cache=cache or cache_folder(),
        endpoint=endpoint,
        revision=PINNED_REVISION if revision is None else revision,
    )


def _openalyx(
    *,
    username: str | None = None,
    password: str | None = None,
    token: str | None = None,
    release: str | None = None,
    insertions: pd.DataFrame | Iterable[Insertion] | None = None,
    cache: str | Path | None = None,
    base_url: str | None = None,
) -> Catalog:
    from loaders.alyx import AlyxCatalog
    from loaders.alyx_login import OPENALYX, connect

    listed = _listed(release, insertions)
    folder = cache or cache_folder()
    one = connect(base_url or OPENALYX, folder, username=username, password=password, token=token)
    return AlyxCatalog(one, listed)


def _http(tables: str | Path, *, cache: str | Path | None = None, base_url: str = FLATIRON) -> Catalog:
    from loaders.one_cache import OneCatalog

    return OneCatalog.from_folder(tables, cache=cache or cache_folder(), data_server=base_url)


def _allen(
    folder: str | Path | None = None,
    *,
    version: str | None = None,
    cache: str | Path | None = None,
    endpoint: str | None = None,
    manifest: str | Path | None = None,
    old: bool = False,
) -> Catalog:
    from loaders.allen_catalog import AllenCatalog
    from loaders.allen_release import VERSION, AllenRelease

    where: dict[str, Any] = {"cache": cache or cache_folder(), "endpoint": endpoint, "manifest": manifest}
    return AllenCatalog(AllenRelease(folder, version=version or VERSION, old=old, **where))


def _allen_coding(
    folder: str | Path | None = None, *, cache: str | Path | None = None, endpoint: str | None = None
) -> Catalog:
    from loaders.allen_catalog import AllenCatalog
    from loaders.allen_coding import CodingRelease

    return AllenCatalog(CodingRelease(folder, cache=cache or cache_folder(), endpoint=endpoint))


KINDS: dict[str, Callable[..., Catalog]] = {
    "one": _one,
    "folder": _folder,
    "sample": _sample,
    "auto": _auto,
    "bucket": _bucket,
    "openalyx": _openalyx,
    "http": _http,
    "allen-vbn": _allen,
    "allen-vc": _allen_coding,
}


def _listed(release: str | None, insertions: Any) -> Any:
    """The insertions that a release or a list names; None if neither was given."""
    if release is not None and insertions is not None:
        raise BadArgument("release, insertions: expected one of the two, got both")
    return insertions if release is None else _release(release)


def _release(name: str) -> Any:
    from loaders.releases import release

    return release(name)


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
    """Whether a folder is a ONE cache, an ALF session or a release of Allen."""
    return (folder / "sessions.pqt").is_file() or (folder / "alf").is_dir() or _is_allen(folder)


def _is_allen(folder: Path) -> bool:
    project = "visual-behavior-neuropixels"
    return any(folder.glob(f"{project}_project_manifest_v*.json")) or (folder / project / "manifests").is_dir()


def ls(folder: str | Path) -> pd.DataFrame:
    """List the insertions of a source, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(insertion) for insertion in source("auto", folder).insertions()])


def _detect(folder: Path) -> str:
    if not folder.is_dir():
        raise NotFound(f"source folder {folder}: does not exist")
    if _is_allen(folder):
        return "allen-vbn"
    if is_source(folder):
        return "one" if (folder / "sessions.pqt").is_file() else "folder"
    raise NotFound(
        f"source folder {folder}: is no session and no ONE cache; expected a subfolder alf (an ALF session) "
        "or a table sessions.pqt (a ONE cache)"
    )
