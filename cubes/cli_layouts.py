"""The commands about layouts: copying stores into another one, and which one to take."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from cubes.cli_progress import Bar
from cubes.cli_shared import Json, fail, to_json
from loaders.errors import BadArgument

Several = Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative="")]


def rechunk(
    *paths: str,
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
        balanced, by-time; by-unit (of counts); by-channel (of ap, lf, lfp). cubes advise tells which.
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


def advise(
    *,
    pattern: Several = None,
    store: str | None = None,
    product: str = "counts_20ms",
    units: int = 1000,
    minutes: float = 60,
    latency: str = "0ms",
    estimate: Json = False,
    json: Json = False,
) -> None:
    """Tell which layout serves some ways of reading best: measured on this machine, in less than a minute.

    A table with the time of every pattern on every layout, and how many times that of the best it is; the layout to
    take, the chunks to read all of it with dask, and the command that makes such a store.

    Parameters
    ----------
    pattern
        unit, window-1s, window-60s, region, events, population-rate, rms, spectrogram, training, scan; events=2 counts
        twice. By default all that the product has.
    store
        A store of yours to measure on; otherwise an array is generated.
    product
        Without a store: counts_WIDTH, ap, lf or lfp_RATEhz.
    units
        Without a store: how many units; of voltage there are always 384 channels.
    minutes
        Without a store: how long it is.
    latency
        Of an object store, such as 50ms; it is added for every ten requests.
    estimate
        Count chunks and bytes instead of measuring.
    json
        Print JSON.
    """
    from cubes.advising import advise as advise_layout

    what: dict[str, Any] = {"store": store, "product": product, "units": units, "minutes": minutes}
    advice = advise_layout(_weights(pattern), **what, latency_s=_seconds(latency), measure=not estimate)
    print(to_json(advice.to_dict()) if json else advice)


def _weights(patterns: tuple[str, ...] | None) -> dict[str, float] | None:
    """``unit events=2`` as a mapping."""
    if patterns is None:
        return None
    try:
        parts = [pattern.partition("=") for pattern in patterns]
        return {name: float(weight or 1) for name, _, weight in parts}
    except ValueError as error:
        raise BadArgument(f"pattern: expected NAME or NAME=WEIGHT, such as events=2, got {error}") from error


def _seconds(text: str) -> float:
    """``50ms`` or ``0.05s`` in seconds."""
    match = re.fullmatch(r"(\d+\.?\d*)(ms|s)", text)
    if match is None:
        raise BadArgument(f"latency: expected a time such as 50ms or 0.05s, got {text!r}")
    return float(match[1]) / {"ms": 1000, "s": 1}[match[2]]
