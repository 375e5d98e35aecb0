"""How the stores of a root stand: built, stale, damaged, in the making; and what is kept of older versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from chunking.homes import local
from chunking.icechunk_repo import ICECHUNK
from chunking.manifest import read_manifest
from chunking.plan import PLACES, Plan
from chunking.provenance import software
from chunking.schema import CONVENTIONS
from chunking.staging import staged
from chunking.versions import VERSIONS
from cubes.lazy_store import read_metadata
from cubes.stores import info
from loaders.errors import NotFound, StoreError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("pid", "product", "state", "why", "parts_staged", "builder", "versions_kept", "path")


def status(root: str | Path, plan: Plan | None = None) -> pd.DataFrame:
    """Tell of every store of a root how it stands. Reads metadata only, and changes nothing.

    Parameters
    ----------
    root : path
        Folder of the stores.
    plan : Plan, optional
        What there should be. With it, a store is stale if other files, parameters or versions would make it now;
        without, if another version of the schema, of ibl-cubes or of iblatlas made it; a pooled store also if a store
        that it is made of was replaced or removed.

    Returns
    -------
    DataFrame
        One row a store: ``pid`` (of a session its eid), ``product``; ``state``, which is ``built``, ``stale``,
        ``damaged`` (no readable metadata),
        ``staging`` (begun, not there yet), or ``missing`` (planned only); ``why``; ``parts_staged``, parts
        that a build in progress or interrupted has finished; ``builder``, the process that is at it; ``versions_kept``,
        replaced versions that `gc` has not removed; ``path`` relative to the root.

    Raises
    ------
    NotFound
        If there is no such folder.

    Examples
    --------
    >>> import cubes
    >>> set(cubes.status("my-cubes")["state"])
    {'built'}
    """
    import pandas as pd

    root = local(root, "status")
    if not root.is_dir():
        raise NotFound(f"root {root}: no such folder")
    planned = {} if plan is None else {store.path: store.build_key for store in plan.stores}
    making = staged(root)
    stores = _stores(root)
    rows = []
    for path, name in sorted((stores | {name: name for name in {*making, *planned} - {*stores.values()}}).items()):
        folder, stage = root / path, making.get(name)
        state, why = _state(folder, planned.get(name)) if path in stores else ("missing", "not built")
        if stage and state == "missing":
            state, why = "staging", "being built" if stage.holder else "interrupted; the same build goes on"
        rows.append({
            "pid": folder.parent.name, "product": folder.stem, "state": state, "why": why,
            "parts_staged": stage.parts if stage else 0, "builder": stage.holder if stage else "",
            "versions_kept": len(list((folder.parent / VERSIONS).glob(f"{folder.stem}.*"))), "path": path,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _stores(root: Path) -> dict[str, str]:
    """The stores of a root, by path relative to it: as what they are planned and made, which is always Zarr."""
    patterns = [f"{place}/*{kind}" for place in PLACES for kind in (".zarr", ICECHUNK)]
    paths = [path.relative_to(root) for pattern in patterns for path in root.glob(pattern)]
    return {path.as_posix(): path.with_suffix(".zarr").as_posix() for path in paths}


def _state(store: Path, planned_key: str | None) -> tuple[str, str]:
    """State of a store that exists, and why it is not built if it is not."""
    try:
        manifest, attrs = read_manifest(store), info(store)["attrs"]
    except StoreError as error:
        return "damaged", str(error)
    if planned_key is not None:
        differs = manifest.get("build_key") != planned_key
        return ("stale", "other files, parameters or versions than planned") if differs else ("built", "")
    if attrs.get("Conventions") != CONVENTIONS:
        return "stale", f"written as {attrs.get('Conventions')}, now {CONVENTIONS}"
    made = manifest.get("software", {})
    for name in ("ibl-cubes", "iblatlas"):
        if made.get(name) != software()[name]:
            return "stale", f"made by {name} {made.get(name)}, now {software()[name]}"
    others = [source for source in manifest.get("sources", ()) if "build_key" in source and _changed(store, source)]
    if others:
        return (
            "stale",
            f"{len(others)} of the stores that it is made of were replaced or removed: {others[0]['rel_path']}",
        )
    return "built", ""


def _changed(pooled: Path, source: Mapping[str, str]) -> bool:
    """Whether a source of a pooled store is not the version that it was made of."""
    try:
        return read_metadata(pooled.parents[1] / source["rel_path"]).build_key != source["build_key"]
    except StoreError:
        return True
