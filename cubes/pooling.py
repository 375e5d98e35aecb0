"""Many insertions as one cube: unit x condition x time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from chunking.build import Progress, build_one
from chunking.homes import local
from chunking.plan import StorePlan
from chunking.provenance import build_key
from chunking.room import refuse_full_disk
from cubes.opening import open_store
from cubes.opening_many import ERRORS, describe, refuse_failures, refuse_other_errors
from cubes.pinned_store import hold
from cubes.pool_members import LeftOut, find_members
from cubes.pool_recipe import read_recipe
from cubes.pooled_product import PooledProduct
from loaders.errors import BadArgument, NotFound


def pool(
    root: str | Path,
    query: str | None = None,
    recipe: str | Path | Mapping[str, Any] = "bwm",
    pids: Iterable[str] | None = None,
    *,
    name: str | None = None,
    existing: str = "skip",
    executor: str = "threads",
    workers: int = 2,
    errors: str = "raise",
    progress: Callable[[Progress], None] | None = None,
) -> xr.Dataset:
    """Pool the responses of the units of many insertions into one store, ``<root>/pooled/<name>.zarr``.

    It is made of the stores ``spikes`` of the insertions and ``trials`` of their sessions, or the events that the
    recipe names, and is built as every store: what is complete stays after an interruption, and the same call goes on
    there. With nothing changed, the same call only opens it. Insertions of several data sets may go into one, if the
    recipe says under ``of`` what the events and conditions of the others are.

    Parameters
    ----------
    root : path
        Folder of the stores.
    query : str, optional
        An expression over the insertions; see `open_many`.
    recipe : str, path or mapping
        ``bwm``, the four alignments of the brain-wide map paper; a ``.toml`` file like it; or what such a file holds.
    pids : iterable of str, optional
        Probe insertions; by default all of the root.
    name : str, optional
        Of the store; by default that of the recipe.
    existing : {"skip", "error", "replace"}
        What to do with a store of this name: ``skip`` takes what equals the plan, and refuses what was made of other
        insertions, versions of them, or another recipe; ``replace`` makes that anew.
    executor, workers
        Where it runs; see `build`. The bytes are the same. A task holds one chunk of 1000 units in all alignments, and
        the spikes of the units wanted of one insertion; one that reaches into two chunks is read for both.
    errors : {"raise", "skip"}
        If insertions have no spikes, no trials, no units that are wanted, or damaged stores: raise one error that names
        each, or leave them out and list them by reason in the attribute ``parameters``. Damage that only reading shows
        ends the build in either case, with the store that is to be made anew.
    progress : callable, optional
        Called with a `Progress` after every task.

    Returns
    -------
    Dataset
        Lazy. For every alignment ``a`` of the recipe: ``a(unit, condition_a, time_a)``, the mean rate in Hz; ``a_sem``,
        its standard error; ``a_n(unit, condition_a)``, the trials that went in, which are those whose whole window lies
        in the recording; ``a_region(region, condition_a, time_a)``, the mean over the units of a region, and
        ``a_region_n(region, condition_a)``, how many had trials. NaN where there are no trials. ``n_units(region)``.
        ``unit`` is the uuid (``<pid>:<cluster_id>`` if there is none), with the labels of its insertion, place and
        quality as coordinates, and ``source``, its data set.

    Raises
    ------
    NotFound
        If there is no such root, insertion or recipe, or no insertion is left.
    BadArgument
        If the recipe, the query, the name or another argument cannot be used.
    StoreError
        If insertions cannot be pooled (with ``errors="raise"``), or a store is in the way.
    InconsistentData
        If two units have the same uuid, or a store is replaced meanwhile.

    Examples
    --------
    >>> import cubes
    >>> plan = cubes.plan(cubes.source("one", "sample"), [pid], ["spikes", "trials"], root="my-cubes")
    >>> _ = cubes.build(plan, existing="skip")
    >>> pooled = cubes.pool("my-cubes", "lab == 'samplelab'", recipe="bwm")
    >>> pooled.stim.dims, pooled.stim.attrs["units"]
    (('unit', 'condition_stim', 'time_stim'), 'Hz')
    """
    how: dict[str, Any] = {"existing": existing, "executor": executor, "workers": workers, "progress": progress}
    path, _ = make_pool(local(root, "pool"), query, recipe, pids, name=name, errors=errors, **how)
    return open_store(path)


def make_pool(
    root: Path,
    query: str | None,
    recipe: str | Path | Mapping[str, Any],
    pids: Iterable[str] | None,
    *,
    name: str | None,
    errors: str,
    **how: Any,
) -> tuple[Path, dict[str, str]]:
    """Build a pool: its path, and why insertions are left out, by pid. Parameters and errors are those of `pool`."""
    refuse_other_errors(errors, ERRORS)
    cooked = read_recipe(recipe)
    name = _store_name(cooked.name if name is None else name)
    members, left_out = find_members(root, query, pids, cooked)
    failed = {pid: why.error for pid, why in left_out.items()}
    wrong = [error for error in failed.values() if isinstance(error, BadArgument)]
    if wrong and (errors == "raise" or not members):
        raise wrong[0]  # of the recipe: what is wrong for one is most often so for all
    if errors == "raise":
        refuse_failures("insertions cannot be pooled", failed)
    if not members:
        raise NotFound(f"root {root}: no insertion can be pooled; {describe(failed) or 'the query leaves none'}")
    given = {"query": query or "", "left_out": _by_kind(left_out)}
    product = PooledProduct(root.absolute(), f"pooled_{name}", cooked, tuple(members), given)
    plan = _plan(root, f"pooled/{name}.zarr", product)
    refuse_full_disk(root, [plan])
    hold(root)  # or a source that is replaced meanwhile may be removed
    return build_one(root, plan, product, **how), {pid: str(error) for pid, error in failed.items()}


def _store_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise BadArgument(f"name: expected letters, digits, _ and -, got {name!r}")
    return name


def _plan(root: Path, path: str, product: PooledProduct) -> StorePlan:
    arrays, regions = product.arrays(None)
    cost = product.cost(None, arrays, regions)
    return StorePlan(
        pid="",
        product=product.name,
        path=path,
        sorter=None,
        revision=None,
        arrays=arrays,
        regions=regions,
        read_bytes=cost.read_bytes,
        disk_bytes=cost.disk_bytes,
        task_bytes=cost.task_bytes,
        build_key=build_key(product.origin(None), product.name, product.parameters),
        exists=(root / path).exists(),
    )


def _by_kind(left_out: Mapping[str, LeftOut]) -> dict[str, list[str]]:
    """The insertions that are left out, by the kind of the reason."""
    kinds = sorted({why.kind for why in left_out.values()})
    return {kind: [pid for pid, why in left_out.items() if why.kind == kind] for kind in kinds}
