"""One function over many insertions, and its results as one labelled array or dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from chunking.executors import open_executor
from chunking.homes import home_of
from cubes.lazy_store import Metadata
from cubes.opening import Chunks, open_store
from cubes.opening_many import ERRORS, describe, find_metadata, identity, refuse_failures, refuse_other_errors
from loaders.errors import BadArgument, CubesError, NotFound

_LABELS = ("subject", "lab", "date", "probe")
Function = Callable[[xr.Dataset], Any]


def map(
    func: Function,
    root: str | Path,
    query: str | None = None,
    pids: Iterable[str] | None = None,
    *,
    product: str,
    chunks: Chunks = None,
    executor: str = "threads",
    workers: int = 2,
    errors: str = "raise",
) -> xr.DataArray | xr.Dataset:
    """Apply a function to one product of many insertions.

    Parameters
    ----------
    func : callable
        Takes the dataset of one store, as `open` gives it, and returns a DataArray, a Dataset or a number. For a
        cluster it must be possible to pickle it.
    root : path
        Folder of the stores, or ``s3://bucket/prefix``.
    query : str, optional
        An expression over the insertions; see `open_many`.
    pids : iterable of str, optional
        Probe insertions; by default all of the root.
    product : str
        Such as ``counts_20ms``.
    chunks : dict, "native" or None
        As for `open`; None, lazy arrays without dask, is what suits a task that runs beside others.
    executor, workers
        Where it runs; see `build`.
    errors : {"raise", "skip"}
        If some insertions fail: raise one error that names each with its reason, after all others are done; or leave
        them out and say why in the attribute ``failed``.

    Returns
    -------
    DataArray or Dataset
        The results, loaded, along a new first dimension ``pid`` in the order of the pids, with the coordinates ``pid,
        subject, lab, date, probe``. Results of unequal labels, such as regions, are joined (outer): what an insertion
        does not have is NaN.

    Raises
    ------
    NotFound
        If there is no such root or insertion, or nothing fits.
    StoreError
        If stores cannot be opened, or `func` fails (with ``errors="raise"``).
    BadArgument
        If `query` or `errors` cannot be used, or the results do not fit together.

    Examples
    --------
    >>> import cubes
    >>> rates = cubes.map(lambda ds: ds.counts.sum() / ds.attrs["last_spike_s"], "my-cubes", product="counts_20ms")
    >>> rates.dims, rates.sizes["pid"]
    (('pid',), 1)
    """
    refuse_other_errors(errors, ERRORS)
    found, unreadable = find_metadata(home_of(root), pids, [product], query)
    stores = {pid: products[product] for pid, products in found.items()}
    failed: dict[str, Exception] = {path.partition("/")[0]: error for path, error in unreadable.items()}
    results: dict[str, Any] = {}
    with open_executor(executor, workers) as execute:
        for pid, result, error in execute(_Task(func, chunks), list(stores.items())):
            if error is None:
                results[pid] = result
            else:
                failed[pid] = error
    if errors == "raise":
        refuse_failures(f"of {len(stores) + len(unreadable)} insertions failed", failed)
    if not results:
        raise NotFound(f"root {root}: no insertion gives a result; {describe(failed) or 'the query leaves none'}")
    joined = _join({pid: results[pid] for pid in stores if pid in results}, stores)
    return joined.assign_attrs({"failed": {pid: str(error) for pid, error in failed.items()}} if failed else {})


@dataclass(frozen=True)
class _Task:
    """Called with a pid and its store; gives the pid and either a result or the error."""

    func: Function
    chunks: Chunks

    def __call__(self, item: tuple[str, Metadata]) -> tuple[str, Any, Exception | None]:
        pid, metadata = item
        try:
            result = self.func(open_store(metadata.path, self.chunks))
            return pid, result.load() if isinstance(result, xr.DataArray | xr.Dataset) else xr.DataArray(result), None
        except Exception as error:  # of the function of a user: whatever it is, the other insertions go on
            return (
                pid,
                None,
                error if isinstance(error, CubesError) else RuntimeError(f"{type(error).__name__}: {error}"),
            )


def _join(results: dict[str, Any], stores: dict[str, Metadata]) -> xr.DataArray | xr.Dataset:
    kinds = {type(result) for result in results.values()}
    if len(kinds) > 1:
        raise BadArgument(f"func: expected one kind of result, got {' and '.join(kind.__name__ for kind in kinds)}")
    if dims := {str(dim) for result in results.values() for dim in result.dims} & {"unit", "spike"}:
        raise BadArgument(
            f"func: expected results without the dimension {' and '.join(sorted(dims))}, whose numbers mean another "
            "thing in every insertion; reduce it, or group by what insertions share, such as a region"
        )
    # A coordinate such as the `pid` of the units would be in the way of the dimension.
    clean = [result.drop_vars("pid", errors="ignore") for result in results.values()]
    joined: xr.DataArray | xr.Dataset
    try:
        joined = xr.concat(
            clean, "pid", join="outer", coords="different", compat="equals", combine_attrs="drop_conflicts"
        )
    except ValueError as error:
        raise BadArgument(
            f"func: its results do not fit together along pid ({error}); return the same names"
        ) from error
    known = [identity({"": stores[pid]}) for pid in results]
    labels = {name: ("pid", [facts[name] for facts in known]) for name in _LABELS}
    joined = joined.assign_coords({"pid": list(results), **labels})
    return joined
