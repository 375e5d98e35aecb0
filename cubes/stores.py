"""What lies in a root: listing, describing and verifying stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunking.link import LINK, check_linked, is_linked, read_link
from chunking.manifest import Problem, read_manifest, verify_store
from chunking.versions import collect
from loaders.errors import NotFound, StoreError

if TYPE_CHECKING:
    import pandas as pd

_IDENTITY = ("pid", "product", "subject", "date", "probe", "sorter", "revision")
_DIMS = ("unit", "channel", "spike", "time", "edge", "line", "knot")
_COLUMNS = (*_IDENTITY, "shape", "bytes", "files", "built", "path")


def ls(root: str | Path) -> pd.DataFrame:
    """List the stores of a root.

    Parameters
    ----------
    root : path
        Folder of the stores.

    Returns
    -------
    DataFrame
        One row a store: pid, product, subject, date, probe, sorter, revision, shape, bytes on disk, files, when it
        was built, and its path relative to `root`.

    Raises
    ------
    NotFound
        If there is no such folder.
    StoreError
        If a store has no manifest.

    Examples
    --------
    >>> import cubes
    >>> cubes.ls("my-cubes")["product"].tolist()
    ['channels', 'counts_20ms', 'spikes']
    """
    import pandas as pd

    rows = []
    for store in find_stores(Path(root)):
        facts = info(store)
        row = {name: facts["attrs"].get(name, "") for name in _IDENTITY}
        shape = " x ".join(str(size) for dim, size in facts["dims"].items() if dim != "knot")
        path = store.relative_to(root).as_posix() if store != Path(root) else "."
        rows.append(row | {name: facts[name] for name in ("bytes", "files", "built")} | {"shape": shape, "path": path})
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def info(store: str | Path) -> dict[str, Any]:
    """Describe one store: its attributes, dimensions, variables and manifest.

    Parameters
    ----------
    store : path
        One ``.zarr`` folder.

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
    store = Path(store)
    manifest = read_manifest(store)
    metadata = _consolidated(store)
    variables = {name: _variable(array) for name, array in sorted(metadata["arrays"].items())}
    dims = {dim: size for v in variables.values() for dim, size in zip(v["dims"], v["shape"], strict=True)}
    if is_linked(store):
        start, stop = read_link(store).window
        dims["time"] = stop - start
    return {
        "path": str(store),
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "files": len(manifest["files"]),
        "built": manifest.get("built", ""),
        "software": manifest.get("software", {}),
        "dims": dict(sorted(dims.items(), key=lambda item: _DIMS.index(item[0]))),
        "variables": variables,
        "attrs": metadata["attrs"],
    }


def verify(path: str | Path, *, quick: bool = False) -> dict[str, list[Problem]]:
    """Compare stores with their manifests, and linked recordings with what they held.

    Parameters
    ----------
    path : path
        One store, or a root with many.
    quick : bool
        Compare names and sizes only; otherwise every byte is read and its checksum compared.

    Returns
    -------
    dict of str to list of Problem
        For every store its problems; an empty list means that it is complete and unchanged.

    Raises
    ------
    NotFound
        If there is no store.

    Examples
    --------
    >>> import cubes
    >>> any(cubes.verify("my-cubes").values())
    False
    """
    report = {}
    for store in find_stores(Path(path)):
        try:
            report[str(store)] = verify_store(store, quick=quick)
            if is_linked(store):
                report[str(store)] += [Problem(LINK, what) for what in check_linked(store, quick=quick)]
        except StoreError as error:
            report[str(store)] = [Problem("manifest.json", str(error))]
    return report


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
    root = Path(root)
    if not (root / "insertions").is_dir():
        raise NotFound(f"root {root}: holds no cubes (there is no folder {root / 'insertions'})")
    return collect(root, older_than_s)


def find_stores(path: Path) -> list[Path]:
    """The store at `path`, or all stores below a root; raises NotFound if there are none."""
    if not path.is_dir():
        raise NotFound(f"{path}: no such folder")
    stores = [path] if path.suffix == ".zarr" else sorted(path.glob("insertions/*/*.zarr"))
    if not stores:
        raise NotFound(f"{path}: holds no stores (looked for insertions/<pid>/<product>.zarr)")
    return stores


def _consolidated(store: Path) -> dict[str, Any]:
    try:
        root = json.loads((store / "zarr.json").read_text())
        return {"attrs": root["attributes"], "arrays": root["consolidated_metadata"]["metadata"]}
    except (OSError, ValueError, KeyError) as error:
        what = f"its zarr.json cannot be read ({error!r})"
        raise StoreError(f"store {store}: {what}; remove it and build it again") from error


def _variable(array: dict[str, Any]) -> dict[str, Any]:
    return {
        "dims": array.get("dimension_names") or [],
        "shape": array["shape"],
        "dtype": array["data_type"],
        "chunks": array["chunk_grid"]["configuration"]["chunk_shape"],
        "attrs": {name: value for name, value in array["attributes"].items() if name != "coordinates"},
    }
