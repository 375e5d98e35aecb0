"""The commands about layouts: copying stores into another one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from cubes.cli_progress import Bar
from cubes.cli_shared import Json, fail, to_json

Several = Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")]


def rechunk(
    *paths: Path,
    layout: str,
    product: Several = None,
    pid: Several = None,
    executor: str = "threads",
    workers: int = 2,
    json: Json = False,
) -> int:
    """Copy stores into another layout: the same labels and cells in other chunks, of the store, without its source.

    The copy takes the place of the old version in one step; whoever reads that keeps it, until cubes gc. What has the
    layout already is left alone. Interrupted or killed, the same command goes on. Exit code 1 if a store could not be
    copied.

    Parameters
    ----------
    paths
        Stores, or roots with many.
    layout
        balanced, by-time; by-unit (of counts); by-channel (of ap, lf, lfp).
    product
        Of roots: only these products, such as counts_20ms ap. By default all that have such a layout.
    pid
        Of roots: only these insertions.
    executor
        threads, serial, processes, dask (a cluster on this machine), or the address of a dask scheduler.
    workers
        Threads or processes.
    json
        Print JSON.
    """
    from cubes.rechunking import rechunk as rechunk_stores

    if not paths:
        return fail("rechunk: expected stores, or a root, got none", 2)
    with Bar() as bar:
        how: dict[str, Any] = {"executor": executor, "workers": workers, "progress": bar.update, "errors": "report"}
        done = rechunk_stores(paths, layout, products=product, pids=pid, **how)
    if json:
        unchanged = [str(path) for path in done.unchanged]
        print(to_json({"rechunked": [str(path) for path in done], "unchanged": unchanged, "failed": done.failed}))
    else:
        for path in done:
            print(path)
        print(f"stores rechunked: {len(done)}, unchanged: {len(done.unchanged)}", file=sys.stderr)
    for reason in done.failed.values():
        fail(reason)
    return 1 if done.failed else 0
