"""The whole way in one go: sample data, plan, build, plain ``xr.open_zarr``, a summary and a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from chunking.build import Progress
from cubes.building import DEFAULT_PRODUCTS, build, plan
from cubes.opening import open
from cubes.sources import source, write_sample


def run_demo(
    folder: Path, say: Callable[[str], None] = print, progress: Callable[[Progress], None] | None = None
) -> Path:
    """Write the sample, build its cubes, describe the first and draw it.

    Parameters
    ----------
    folder : Path
        Gets ``sample``, ``cubes`` and ``summary.png``; what is there already is used again.
    say : callable
        Called with every line of the story.

    Returns
    -------
    Path
        The figure.
    """
    from cubes.figures import save_figure, summary_figure

    sample, root = folder / "sample", folder / "cubes"
    if not sample.exists():
        say(f"1. Sample data: a small ONE cache in {sample}")
        write_sample(sample, voltage=False)
    else:
        say(f"1. Sample data: already in {sample}")
    catalog = source("one", sample)
    pids = [insertion.pid for insertion in catalog.insertions()]
    planned = plan(catalog, pids, DEFAULT_PRODUCTS, root=root)
    say(f"\n2. Plan\n\n{planned}\n")
    built = build(planned, existing="skip", progress=progress)
    existed = len(planned.stores) - len(built)
    say(f"3. Built {len(built)} stores in {root}{f'; {existed} existed already' if existed else ''}\n")
    store = root / "insertions" / pids[0] / "counts_20ms.zarr"
    say(f'4. xr.open_zarr("{store}")\n')
    with xr.open_zarr(store, chunks=None) as ds:
        say(describe(ds))
    figure = save_figure(summary_figure(open(root, pids[0])), folder / "summary.png")
    say(f"\n5. Figure: {figure}")
    return figure


def describe(ds: xr.Dataset) -> str:
    """A counts cube in a few sentences."""
    counts = ds["counts"]
    width_s = ds["time"].attrs["bin_width"]
    duration_s = counts.sizes["time"] * width_s
    spikes = int(counts.sum())
    regions, numbers = np.unique(ds["acronym_cosmos"].values[ds["good"].values], return_counts=True)
    by_region = ", ".join(f"{number} in {region}" for region, number in zip(regions, numbers, strict=True))
    return "\n".join(
        (
            f"   {counts.name}({', '.join(map(str, counts.dims))}) {counts.dtype}, "
            f"{counts.sizes['unit']} units x {counts.sizes['time']:,} bins of {1000 * width_s:g} ms",
            f"   {ds.attrs['subject']}, {ds.attrs['date']}, {ds.attrs['probe']}; sorting {ds.attrs['sorter']}, "
            f"revision {ds.attrs['revision']}",
            f"   {spikes:,} spikes, {spikes / duration_s:.0f} a second; at most {int(counts.max())} of a unit in a bin",
            f"   {int(ds['good'].sum())} good units: {by_region}",
        )
    )
