"""The whole way in one go: sample data, plan, build, plain ``xr.open_zarr``, a summary and a figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from chunking.build import Progress
from cubes.building import DEFAULT_PRODUCTS, build, plan
from cubes.index import attach_clock
from cubes.microvolts import to_uv
from cubes.opening import open
from cubes.sources import source, write_sample
from loaders.records import Catalog, Insertion


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
        say(f"1. Sample data: a small ONE cache in {sample} (some ten seconds)")
        write_sample(sample)
    else:
        say(f"1. Sample data: already in {sample}")
    catalog = source("one", sample)
    insertions = catalog.insertions()
    say("\n2. Plan\n")
    products = {i.pid: [*DEFAULT_PRODUCTS, *bands(catalog, i), "lfp_250hz"] for i in insertions}
    plans = [plan(catalog, [pid], names, root=root) for pid, names in products.items()]
    say("\n\n".join(map(str, plans)))
    built = [store for planned in plans for store in build(planned, existing="skip", progress=progress)]
    existed = sum(len(planned.stores) for planned in plans) - len(built)
    say(f"\n3. Built {len(built)} stores in {root}{f'; {existed} existed already' if existed else ''}\n")
    pid = insertions[0].pid
    for product, describe in (("counts_20ms", describe_counts), ("ap", describe_voltage), ("lf", describe_voltage)):
        store = root / "insertions" / pid / f"{product}.zarr"
        say(f'4. xr.open_zarr("{store}")\n')
        with xr.open_zarr(store, chunks=None) as ds:
            say(describe(ds) + "\n")
    figure = save_figure(summary_figure(open(root, pid)), folder / "summary.png")
    say(f"5. Figure: {figure}")
    return figure


def bands(catalog: Catalog, insertion: Insertion) -> list[str]:
    """The bands of raw voltage that an insertion has; Neuropixels 2 has no LF."""
    names = [r.name for r in catalog.datasets(insertion) if r.collection == f"raw_ephys_data/{insertion.probe}"]
    return [band for band in ("ap", "lf") if any(name.endswith(f".{band}.cbin") for name in names)]


def describe_voltage(ds: xr.Dataset) -> str:
    """A voltage cube in a few sentences."""
    ds = attach_clock(ds)
    voltage = ds[ds.attrs["product"]]
    rms_uv = to_uv(voltage.isel(time=slice(30_000))).std("time")
    first, last = (float(voltage["time"][i]) for i in (0, -1))
    return "\n".join(
        (
            f"   {voltage.name}({', '.join(map(str, voltage.dims))}) {voltage.dtype}, {voltage.sizes['channel']} "
            f"channels x {voltage.sizes['time']:,} samples at {ds.attrs['sampling_rate_hz']:.4f} Hz",
            f"   from {first:.4f} to {last:.4f} s of the session; median RMS {float(rms_uv.median()):.1f} uV",
        )
    )


def describe_counts(ds: xr.Dataset) -> str:
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
