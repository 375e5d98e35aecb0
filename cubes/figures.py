"""One figure that shows a recording: spikes, population rate and probe, coloured by brain region."""

from __future__ import annotations

import colorsys
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cubes.binning import bin
from loaders.errors import NotFound, StoreError
from loaders.regions import brain_regions

Colour = tuple[float, float, float]
Window = tuple[float, float]
Segment = tuple[str, NDArray[Any], NDArray[Any]]  # region, its ends on the probe and among the units, from 0 to 1
WINDOW_S, BIN_S, SIGMA_S, SHANK_GAP_UM = 10, 0.02, 0.04, 100
INK, GREY, BLUE = "#222222", "#6e6e6e", "#0072B2"
_OUTSIDE = {"void": (0.55, 0.55, 0.55), "root": (0.35, 0.35, 0.35)}  # black and white in the atlas
_LUMINANCES = (0.15, 0.31, 0.06, 0.22)  # of sister regions; contrast with white 3 to 10
_NAME_HEIGHT = 0.038  # of a region's name, in heights of a panel


def summary_figure(tree: xr.DataTree) -> Figure:
    """Draw a recording: the spikes of ten typical seconds by depth, the population rate, and the probe.

    Parameters
    ----------
    tree : DataTree
        From `cubes.open`, with the products ``spikes`` and ``channels``; without ``counts_20ms`` spikes are counted.

    Returns
    -------
    Figure
        1600 x 900 pixels. The gids of its data: ``raster``, ``sites``, ``units``, ``rate_all``, ``rate_good``.

    Raises
    ------
    NotFound
        If a product is missing.
    """
    if missing := sorted({"spikes", "channels"} - set(tree.children)):
        raise NotFound(f"tree {tree.name}: expected spikes and channels; build {' and '.join(missing)} first")
    spikes, channels = tree["spikes"].to_dataset(), tree["channels"].to_dataset().load()
    units = _units_by_depth(spikes)
    for level in ("acronym_allen", "acronym_beryl", "acronym_cosmos"):  # the finest with room for the names
        segments = _segments(channels, units, level)
        if all(np.diff(left + right)[0] / 2 > _NAME_HEIGHT for name, left, right in segments if name != "void"):
            break
    regions = [ds[level].values.tolist() for ds in (channels, units)]
    colours = region_colours([name for name, *_ in segments] + regions[0] + regions[1])
    for ds, names in zip((channels, units), regions, strict=True):
        ds["colour"] = (*ds[level].dims, "rgb"), np.array([colours[name] for name in names]).reshape(-1, 3)
    population = _population(tree, spikes)
    window = _typical_window(population)
    figure = Figure(figsize=(32 / 3, 6), dpi=150, facecolor="white")
    _draw_probe(figure.add_axes((0.068, 0.3, 0.157, 0.545)), channels, units)
    _draw_names(figure.add_axes((0.228, 0.3, 0.09, 0.545)), units, segments, colours)
    raster = figure.add_axes((0.319, 0.3, 0.663, 0.545))
    _draw_raster(raster, spikes, units, window, population.attrs["all"] - units.sizes["unit"])
    _draw_rate(figure.add_axes((0.319, 0.09, 0.663, 0.15), sharex=raster), population, window)
    _write_title(figure, spikes.attrs | population.attrs)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG with 150 dots per inch; the file appears complete or not at all.

    Parameters
    ----------
    figure : Figure
    path : Path
        A file that is there is replaced.

    Raises
    ------
    StoreError
        If the folder does not exist or cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")
    try:
        figure.savefig(unfinished, format="png", dpi=150)
        unfinished.replace(path)
    except OSError as error:
        raise StoreError(f"figure {path}: cannot be written ({error}); choose another folder") from error
    finally:
        if unfinished.is_file():
            unfinished.unlink()
    return path


def region_colours(acronyms: Iterable[str]) -> dict[str, Colour]:
    """Red, green, blue of each region: the hue of the atlas, dark enough for white, sisters of unlike luminance."""
    atlas = dict(zip(brain_regions().acronym.tolist(), (brain_regions().rgb / 255.0).tolist(), strict=True))
    colours, sisters = dict(_OUTSIDE), Counter[int]()
    for name in dict.fromkeys(acronyms):
        if name not in colours:
            hue, _, saturation = colorsys.rgb_to_hls(*atlas[name])
            luminance = _LUMINANCES[sisters[round(12 * hue)] % len(_LUMINANCES)]
            sisters[round(12 * hue)] += 1
            shades = [colorsys.hls_to_rgb(hue, light, min(saturation, 0.75)) for light in np.linspace(0.9, 0.1, 161)]
            colours[name] = next(s for s in shades if np.dot((0.2126, 0.7152, 0.0722), np.power(s, 2.2)) <= luminance)
    return colours


def _units_by_depth(spikes: xr.Dataset) -> xr.Dataset:
    """Units with spikes and a depth, from the deepest up, with their firing rate."""
    depth, size = spikes["depth_um"].values, spikes["row_size"].values
    order = np.lexsort((spikes["lateral_um"].values, depth))
    units = spikes.drop_dims("spike").isel(unit=order[np.isfinite(depth[order]) & (size[order] > 0)])
    seconds = spikes.attrs.get("last_spike_s", 0.0) - min(0.0, spikes.attrs.get("first_spike_s", 0.0))
    return units.assign(rate=units["row_size"] / (seconds or 1.0))


def _segments(channels: xr.Dataset, units: xr.Dataset, level: str) -> list[Segment]:
    """The regions along the probe, from the tip: at each depth the one of most sites."""
    axial, sites = channels["axial_um"].values, channels[level].values.astype(object)
    depths = np.unique(axial)
    names = np.array([Counter(sites[axial == depth]).most_common(1)[0][0] for depth in depths])
    first = np.flatnonzero(names[1:] != names[:-1]) + 1
    edges = np.array([depths[0] - 10, *(depths[first - 1] + depths[first]) / 2, depths[-1] + 10])
    left = (edges - edges[0]) / (edges[-1] - edges[0])
    right = np.searchsorted(units["depth_um"].values, edges) / units.sizes["unit"] if units.sizes["unit"] else left
    return [(str(names[i]), left[n : n + 2], right[n : n + 2]) for n, i in enumerate([0, *first])]


def _shanks(channels: xr.Dataset) -> tuple[NDArray[np.int64], str]:
    """Shank of every site, by gaps across the probe or, where sites coincide there, by gaps in the brain."""
    position, axial, direction = channels["lateral_um"].values, channels["axial_um"].values, "left to right"
    xyz = 1e6 * np.stack([channels[name].values for name in "xyz"], axis=1)
    if np.unique([position, axial], axis=1).shape[1] < len(axial) and np.isfinite(xyz).all():
        across = xyz - np.vander(axial, 2) @ np.linalg.lstsq(np.vander(axial, 2), xyz)[0]
        axis = np.linalg.svd(across, full_matrices=False)[2][0]
        main = int(np.argmax(np.abs(axis)))
        position, direction = across @ axis * np.sign(axis[main]), ("left to right", "back to front", "upwards")[main]
    shank = np.zeros(len(axial), dtype=np.int64)
    shank[np.argsort(position)[1:]] = np.cumsum(np.diff(np.sort(position)) > SHANK_GAP_UM)
    return shank, direction


def _draw_probe(ax: Axes, channels: xr.Dataset, units: xr.Dataset) -> None:
    (shank, direction), axial, x = _shanks(channels), channels["axial_um"].values, channels["lateral_um"].values
    left, right = (np.array([end(x[shank == s]) for s in np.unique(shank)]) for end in (np.min, np.max))
    width, low, high = max(16.0, (right - left).max()), axial.min() - 10, axial.max() + 10
    place = 2.6 * width * np.arange(len(left))  # shanks beside each other, whatever their distance
    ax.bar(place + width / 2, high - low, 1.7 * width, low, color="#efefef")
    x = x + (place - left)[shank]
    ax.scatter(x, axial, s=4, marker="s", c=0.5 + 0.5 * channels["colour"].values, lw=0, snap=False, gid="sites")
    units = units.sortby("rate", ascending=False)  # small circles over large ones
    edges: Any = units["colour"].values
    style: Any = {"c": np.where(units["good"].values[:, None], edges, 1.0), "edgecolors": edges, "linewidths": 0.7}
    style |= {"s": 4 + 3 * units["rate"].values.clip(max=60), "clip_on": False, "gid": "units"}
    ax.scatter(x[units["channel"].values], units["depth_um"], **style)
    several, sides = len(place) > 1, [f"{left[0]:.0f}", f"{right[0]:.0f}"]
    names = [str(n + 1) for n in range(len(place))] if several else sides
    ax.set_xticks(place + width / 2 if several else [0, right[0] - left[0]], names)
    ax.set(xlim=(-0.9 * width, place[-1] + 1.9 * width), ylim=(low, high))
    key = [(f"{rate} spikes/s", 4 + 3 * rate, "white") for rate in (1, 10, 50)]
    for label, area, face in [*key, ("good unit", 24, INK), ("other unit", 24, "white")]:
        ax.scatter([], [], s=area, c=face, edgecolors=INK, linewidths=0.7, label=label)
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.15), ncols=2, fontsize=8, frameon=False, labelspacing=0.9)
    _clean(ax, "Recording sites and units", f"Shank, {direction}" if several else "Lateral (µm)", "Above the tip (µm)")


def _draw_names(ax: Axes, units: xr.Dataset, segments: list[Segment], colours: dict[str, Colour]) -> None:
    """Join each region's depths on the probe with its rows in the raster; the name stands in between."""
    x = np.linspace(0, 1, 41)
    for name, left, right in segments:
        lower, upper = left[:, None] + (right - left)[:, None] * x**2 * (3 - 2 * x)
        ax.fill_between(0.88 * x, lower, upper, color=colours[name], alpha=0.16, linewidth=0)
        if upper[20] - lower[20] > _NAME_HEIGHT:
            style: Any = {"ha": "center", "va": "center_baseline", "fontsize": 8.5, "fontweight": "bold"}
            ax.text(0.44, (lower[20] + upper[20]) / 2, name, color=colours[name], **style)
    if units.sizes["unit"]:
        ax.imshow(units["colour"].values[:, None], extent=(0.88, 0.96, 0, 1), aspect="auto", origin="lower")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()


def _draw_raster(ax: Axes, spikes: xr.Dataset, units: xr.Dataset, window: Window, left_out: int) -> None:
    times, ranges = spikes["spike_time"].values, zip(units["row_start"].values, units["row_size"].values, strict=True)
    rows = [times[start : start + size] for start, size in ranges]
    rows = [row[slice(*np.searchsorted(row, window))] for row in rows]
    rank = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    colours: Any = units["colour"].values[rank]
    ax.vlines(np.concatenate([[], *rows]), rank - 0.5, rank + 0.5, colors=colours, linewidth=0.7, gid="raster")
    ax.set(xlim=window, ylim=(-0.5, max(len(rows), 1) - 0.5), yticks=[])
    note = f" ({left_out} without depth left out)" if left_out else ""
    _clean(ax, (f"Spikes of {len(rows)} units, deepest at the bottom" if len(rank) else "No spikes to show") + note)
    ax.spines["left"].set_visible(False)
    ax.tick_params(labelbottom=False)


def _population(tree: xr.DataTree, spikes: xr.Dataset) -> xr.Dataset:
    """Spikes per second and unit: mean of all units that have spikes, and of the good ones."""
    counts = tree["counts_20ms"]["counts"] if "counts_20ms" in tree.children else bin(spikes, BIN_S)
    active = spikes["row_size"].values > 0
    rows = {"all": np.flatnonzero(active), "good": np.flatnonzero(active & spikes["good"].values)}
    rates = {name: counts.isel(unit=row).sum("unit") / (max(len(row), 1) * BIN_S) for name, row in rows.items()}
    return xr.Dataset(rates, attrs={name: len(row) for name, row in rows.items()}).load()


def _typical_window(population: xr.Dataset) -> Window:
    """The ten seconds whose mean rate is closest to the median of all; everything if that is shorter."""
    time, step = population["time"].values, round(1 / BIN_S)
    if len(time) <= WINDOW_S * step:
        return (float(time[0]) - BIN_S / 2, float(time[-1]) + BIN_S / 2) if len(time) else (0.0, float(WINDOW_S))
    seconds = population["all"].values[: len(time) // step * step].reshape(-1, step).sum(axis=1)
    sums = np.convolve(seconds, np.ones(WINDOW_S), "valid")
    start = float(time[step * int(np.argmin(np.abs(sums - np.median(sums))))]) - BIN_S / 2
    return start, start + WINDOW_S


def _draw_rate(ax: Axes, population: xr.Dataset, window: Window) -> None:
    kernel = np.exp(-0.5 * (BIN_S * np.arange(-10, 11) / SIGMA_S) ** 2)
    time = population["time"].values
    inside = (time > window[0]) & (time < window[1])
    for name, colour, width in (("all", GREY, 1.0), ("good", BLUE, 1.4)):
        if (n := population.attrs[name]) and len(time):
            rate = np.convolve(np.pad(population[name].values, 10, "edge"), kernel / kernel.sum(), "valid")[inside]
            ax.plot(time[inside], rate, color=colour, lw=width, label=f"{name} units ({n})", gid=f"rate_{name}")
            ax.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, frameon=False, fontsize=8, borderpad=0)
    ax.set_ylim(0, None)
    _clean(ax, f"Mean rate per unit (Gaussian, σ = {1e3 * SIGMA_S:.0f} ms)", "Time in the session (s)", "Spikes/s")


def _write_title(figure: Figure, has: Mapping[str, Any]) -> None:
    numbers = f"{has['all']} units with spikes ({has['good']} good), {has['n_spikes']:,} spikes"
    text = "   ·   ".join([numbers, f"{has['sorter']} {has['revision']}".rstrip(), f"pid {has['pid']}"])
    title = f"{has['subject']}   {has['date']}   {has['probe']}"
    figure.text(0.018, 0.945, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.018, 0.907, text, fontsize=8.5, color=GREY)


def _clean(ax: Axes, title: str, xlabel: str = "", ylabel: str = "") -> None:
    ax.set_title(title, loc="left", fontsize=9, color=INK, pad=5)
    ax.set_xlabel(xlabel, fontsize=8.5, color=INK)
    ax.set_ylabel(ylabel, fontsize=8.5, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=GREY, linewidth=0.7)
    ax.tick_params(labelsize=8, color=GREY, labelcolor=INK, width=0.7, length=3)
