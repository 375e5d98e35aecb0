"""What lies in a root: listing and describing stores, removing old versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunking.bucket import Bucket, store_at_url
from chunking.delivered import Delivered, Place
from chunking.homes import home_of, is_url, local
from chunking.icechunk_repo import ICECHUNK, local_repository
from chunking.link import is_linked, read_link
from chunking.manifest import REMEDY, Files, entry, read_manifest
from chunking.plan import PLACES
from chunking.versions import collect
from loaders.errors import NotFound, StoreError

if TYPE_CHECKING:
    import pandas as pd

_IDENTITY = ("pid", "product", "subject", "date", "probe", "sorter", "revision")
_DIMS = ("unit", "channel", "spike", "time", "edge", "line", "knot", "wheel_sample", "space", "keypoint", "region")
_NOT_SHAPE = ("knot", "condition_", "time_")  # a pooled store has several of the last two
_COLUMNS = (*_IDENTITY, "state", "shape", "bytes", "files", "built", "path")


def ls(root: str | Path) -> pd.DataFrame:
    """List the stores of a root.

    Parameters
    ----------
    root : path
        Folder of the stores.

    Returns
    -------
    DataFrame
        One row a store: pid, product, subject, date, probe (neither pid nor probe of a session's), sorter,
        revision, state (``built``, or ``damaged`` if its
        metadata are: `cubes.verify` says how, and looks at all else), shape, bytes on disk, files, when it was built,
        and its path relative to `root`.

    Raises
    ------
    NotFound
        If there is no such folder.

    Examples
    --------
    >>> import cubes
    >>> cubes.ls("my-cubes")["product"].tolist()
    ['channels', 'counts_20ms', 'spikes']
    """
    import pandas as pd

    rows = [{"path": _relative(store, root), **_row(store)} for store in find_stores(root)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _row(store: Place) -> dict[str, Any]:
    """One store in the list; of a damaged one, what its path and, in a folder, the disk say."""
    try:
        facts = info(store)
    except StoreError:
        blank = dict.fromkeys((*_IDENTITY, "shape", "bytes", "files", "built"), "")
        return blank | _seen(store) | {"state": "damaged"}
    row = {name: facts["attrs"].get(name, "") for name in _IDENTITY}
    shape = " x ".join(str(size) for dim, size in facts["dims"].items() if not dim.startswith(_NOT_SHAPE))
    return row | {name: facts[name] for name in ("bytes", "files", "built")} | {"state": "built", "shape": shape}


def _seen(store: Place) -> dict[str, Any]:
    """What can be told of a store without opening it."""
    if not isinstance(store, Path):
        *_, pid, version = store.name.split("/")
        return {"pid": pid, "product": version.partition(".")[0]}
    files = [path for path in store.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    return {"pid": store.parent.name, "product": store.stem, "bytes": size, "files": len(files)}


def info(store: str | Path | Delivered) -> dict[str, Any]:
    """Describe one store: its attributes, dimensions, variables and manifest.

    Parameters
    ----------
    store : path
        One ``.zarr`` folder, or its url.

    Returns
    -------
    dict
        Plain JSON types: ``path, bytes, files, built, software, dims, variables, attrs``; ``variables`` has for each
        its dims, shape, dtype, chunk shape and attributes.

    Raises
    ------
    StoreError
        If it is not a complete store of this project.

    Examples
    --------
    >>> import cubes
    >>> cubes.info(f"my-cubes/insertions/{pid}/counts_20ms.zarr")["variables"]["counts"]["shape"]
    [500, 6000]
    """
    place = place_of(store)
    manifest = read_manifest(place) if isinstance(place, Path) else place.manifest()
    metadata = _consolidated(place, manifest["files"])
    variables = {name: _variable(array) for name, array in sorted(metadata["arrays"].items())}
    dims = {dim: size for v in variables.values() for dim, size in zip(v["dims"], v["shape"], strict=True)}
    if isinstance(place, Path) and is_linked(place):
        start, stop = read_link(place).window
        dims["time"] = stop - start
    return {
        "path": str(place) if isinstance(place, Path) else place.name,
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "files": len(manifest["files"]),
        "built": manifest.get("built", ""),
        "software": manifest.get("software", {}),
        "dims": dict(sorted(dims.items(), key=lambda item: (*_DIMS, item[0]).index(item[0]))),
        "variables": variables,
        "attrs": metadata["attrs"],
    }


def gc(root: str | Path, *, older_than_s: float = 86_400) -> tuple[list[Path], list[Path]]:
    """Remove versions of stores that were replaced and that nobody can be reading.

    Parameters
    ----------
    root : path
        Folder of the stores.
    older_than_s : float, seconds
        Keep what was replaced later than this: for readers on other machines, whose locks may be invisible here.

    Returns
    -------
    removed, kept : list of Path
        Versions that are gone; those that were replaced too recently, or that a process which still runs may read.

    Raises
    ------
    NotFound
        If `root` holds no cubes.

    Examples
    --------
    >>> import cubes
    >>> cubes.gc("my-cubes")
    ([], [])
    """
    root = local(root, "gc")
    kinds = [place.partition("/")[0] for place in PLACES]
    if not any((root / kind).is_dir() for kind in kinds):
        raise NotFound(f"root {root}: holds no cubes (there is no folder {' or '.join(kinds)} in it)")
    return collect(root, older_than_s)


def find_stores(path: str | Path) -> list[Place]:
    """The store at `path`, or all stores below a root; raises NotFound if there are none."""
    if is_url(path):
        if str(path).endswith((".zarr", ICECHUNK)):
            return [place_of(path)]
        bucket = Bucket(str(path))
        stores = [store for folder in bucket.folders() for store in bucket.within(folder).values()]
    else:
        stores = _local_stores(Path(path))
    if not stores:
        raise NotFound(f"{path}: holds no stores (looked for <product>.zarr in insertions/<pid> and sessions/<eid>)")
    return stores


def _relative(store: Place, root: str | Path) -> str:
    if isinstance(store, Path):
        return store.relative_to(root).as_posix() if store != Path(root) else "."
    root = str(home_of(root)) if is_url(root) else str(Path(root).absolute())
    return store.name.removeprefix(root).strip("/") or "."


def _local_stores(path: Path) -> list[Place]:
    if not path.is_dir():
        raise NotFound(f"{path}: no such folder")
    if path.suffix in (".zarr", ICECHUNK):
        return [path]
    patterns = [f"{place}/*{kind}" for place in PLACES for kind in (".zarr", ICECHUNK)]
    return [*sorted(store for pattern in patterns for store in path.glob(pattern))]


def place_of(store: str | Path | Delivered) -> Place:
    """A store by its path or url."""
    if isinstance(store, str | Path):
        if is_url(store):
            return store_at_url(str(store))
        return local_repository(Path(store)) if Path(store).suffix == ICECHUNK else Path(store)
    return store


def _consolidated(store: Place, files: Files) -> dict[str, Any]:
    """Attributes of a store, and the metadata of its arrays."""
    if not isinstance(store, Path):
        from cubes.lazy_store import read_metadata

        metadata = read_metadata(store)
        return {"attrs": metadata.attrs, "arrays": metadata.arrays}
    try:
        found = entry(store / "zarr.json")
    except OSError as error:
        raise StoreError(f"store {store}: its zarr.json cannot be read ({error}); {REMEDY}") from error
    if found != files.get("zarr.json"):
        raise StoreError(f"store {store}: its zarr.json is not as written; {REMEDY}")
    root = json.loads((store / "zarr.json").read_text())
    return {"attrs": root["attributes"], "arrays": root["consolidated_metadata"]["metadata"]}


def _variable(array: dict[str, Any]) -> dict[str, Any]:
    return {
        "dims": array.get("dimension_names") or [],
        "shape": array["shape"],
        "dtype": array["data_type"],
        "chunks": array["chunk_grid"]["configuration"]["chunk_shape"],
        "attrs": {name: value for name, value in array["attributes"].items() if name != "coordinates"},
    }
