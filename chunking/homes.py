"""Where the stores of a plan are published: the folder in which they are made, or another home, by its url."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chunking.bucket import Bucket
from chunking.delivered import Place
from chunking.icechunk_repo import ICECHUNK, check_installed, deliver, local_repository
from chunking.manifest import MANIFEST, Problem, read_manifest, verify_store
from chunking.publish import complete, publish
from chunking.versions import finish_replacement, replace
from loaders.alf_paths import known_pids
from loaders.errors import BadArgument, InconsistentData, NotFound, StoreError


class Home(Protocol):
    """Where finished stores go, and where readers find them. Can be pickled; the pickle has no credentials.

    A store is named by its path, ``insertions/<pid>/<product>.zarr``, which is also where it is made.
    """

    @property
    def store(self) -> str:
        """As what stores are published: one of `STORES`."""
        ...

    def where(self, path: str) -> Path | str:
        """Path or url of a store, for people."""
        ...

    def exists(self, path: str) -> bool:
        """Whether readers find any version of a store."""
        ...

    def present(self, path: str) -> str | None:
        """The build key of the version that readers find; None if there is none."""
        ...

    def problems(self, path: str) -> list[Problem]:
        """What is wrong with names and sizes of the files of that version."""
        ...

    def finish(self, path: str, build_key: str, *, replacing: bool) -> bool:
        """Go on with a publication that was cut short; whether that has published this version."""
        ...

    def publish(self, folder: Path, path: str, *, replacing: bool) -> None:
        """Publish the complete store in `folder`; only if `replacing` in the place of another version."""
        ...

    def pids(self) -> list[str]:
        """The insertions that have stores, sorted; raises NotFound if this holds no cubes."""
        ...

    def stores(self, pid: str) -> dict[str, Place]:
        """The stores of an insertion by product, sorted; raises NotFound if there is no such insertion."""
        ...

    def sessions(self) -> list[str]:
        """The sessions that have stores, sorted."""
        ...

    def within(self, folder: str) -> dict[str, Place]:
        """The stores in a folder such as ``sessions/<eid>`` by product, sorted; none if there is no such folder."""
        ...


@dataclass(frozen=True)
class Folder:
    """A local folder: a store is renamed to its place.

    Parameters
    ----------
    root : Path
    store : {"zarr", "icechunk"}
        As what stores are published; both are read.
    """

    root: Path
    store: str = "zarr"

    def __str__(self) -> str:
        return str(self.root)

    def where(self, path: str) -> Path:
        """Path of a store."""
        return (self.root / path).with_suffix(f".{self.store}")

    def exists(self, path: str) -> bool:
        """Whether there is such a folder."""
        return self.where(path).exists()

    def present(self, path: str) -> str | None:
        """The build key in the manifest; raises StoreError if there is a folder without one."""
        return str(read_manifest(self.where(path)).get("build_key")) if self.exists(path) else None

    def problems(self, path: str) -> list[Problem]:
        """What is wrong with names and sizes."""
        return verify_store(self.where(path), quick=True)

    def finish(self, path: str, build_key: str, *, replacing: bool) -> bool:
        """Go on with a replacement that was cut between its two steps."""
        return replacing and finish_replacement(self.where(path), build_key)

    def publish(self, folder: Path, path: str, *, replacing: bool) -> None:
        """Rename the folder, or let it change places with the present version."""
        if self.store == "icechunk":
            folder = _repository_of(folder, self.where(path))
        if self.exists(path):
            replace(folder, self.where(path))
        else:
            publish(folder, self.where(path))

    def pids(self) -> list[str]:
        """The folders in ``insertions``."""
        insertions = self.root / "insertions"
        if not insertions.is_dir():
            raise NotFound(f"root {self.root}: holds no cubes (there is no folder {insertions})")
        return sorted(path.name for path in insertions.iterdir() if path.is_dir())

    def stores(self, pid: str) -> dict[str, Place]:
        """The ``.zarr`` and ``.icechunk`` folders of an insertion."""
        folder = self.root / "insertions" / pid
        if not folder.is_dir() or folder.parent != self.root / "insertions":
            raise NotFound(f"pid {pid!r}: not in {self.root}, which has {known_pids(self.pids())}")
        return self.within(f"insertions/{pid}")

    def sessions(self) -> list[str]:
        """The folders in ``sessions``."""
        return sorted(path.name for path in (self.root / "sessions").glob("*/"))

    def within(self, folder: str) -> dict[str, Place]:
        """The ``.zarr`` and ``.icechunk`` folders in a folder; raises InconsistentData if a product has both."""
        found: dict[str, Place] = {store.stem: store for store in (self.root / folder).glob("*.zarr")}
        for path in (self.root / folder).glob(f"*{ICECHUNK}"):
            if path.stem in found:
                raise InconsistentData(f"{folder}: {path.stem} is there as zarr and as icechunk; remove one of them")
            found[path.stem] = local_repository(path)
        return dict(sorted(found.items()))


def _repository_of(folder: Path, final: Path) -> Path:
    """A complete store as a repository beside it, on disk, with a manifest of the files of icechunk."""
    repository = folder.with_name("repository")
    try:
        deliver(folder, repository)
    except StoreError:  # such as one that a power cut left in pieces
        shutil.rmtree(repository)
        deliver(folder, repository)
    (repository / MANIFEST).unlink(missing_ok=True)
    facts = {name: value for name, value in read_manifest(folder).items() if name not in ("files", "crc32")}
    complete(repository, final, {}, facts)
    return repository


def is_url(root: str | Path) -> bool:
    """Whether a root is a url, not a folder."""
    return isinstance(root, str) and "://" in root


def home_of(root: str | Path, store: str = "zarr") -> Folder | Bucket:
    """The home at a path or url; raises BadArgument if there is no such kind of home or of store."""
    if store not in STORES:
        raise BadArgument(f"store: expected one of {', '.join(STORES)}, got {store!r}")
    if store == "icechunk":
        check_installed()
    return Bucket(str(root), store) if is_url(root) else Folder(Path(root), store)


STORES = ("zarr", "icechunk")


def workplace(home: Home, scratch: str | Path | None) -> Path:
    """The folder in which the stores of a home are made.

    Raises
    ------
    BadArgument
        If `scratch` is missing where it is needed, or given where it is not.
    """
    if isinstance(home, Folder):
        if scratch is not None:
            raise BadArgument(f"scratch: only for a bucket; stores of the folder {home} are made in it")
        return home.root
    if scratch is None or is_url(scratch):
        raise BadArgument(f"scratch: expected a local folder, in which the stores for {home} are made, got {scratch}")
    return Path(scratch)


def local(root: str | Path, what: str) -> Path:
    """A root that must be a folder; raises BadArgument if it is a url."""
    if is_url(root):
        raise BadArgument(f"root {root}: {what} works on a local folder only")
    return Path(root)
