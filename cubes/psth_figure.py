"""A figure of one unit around an event: a raster of its trials by condition, and the mean rates below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cubes.conditions import event_dim, psth, smooth
from cubes.figures import GREY, INK
from loaders.errors import BadArgument

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MAX_CONDITIONS = 12


def plot_psth(aligned: xr.Dataset, *, by: str | Sequence[str] = (), sd: float | None = None) -> Figure:
    """Draw the trials of one unit and its rate in every condition.

    Parameters
    ----------
    aligned : (trial, time) Dataset
        ``counts`` of one unit, from `align`; choose it with ``.sel(unit=5)``. Also a signal without units.
    by : str or list of str
        Coordinates of the trials that make the conditions; see `psth`.
    sd : float, optional
        Smooth the rate of every trial with a Gaussian kernel of this standard deviation, seconds.

    Returns
    -------
    Figure
        1200 x 900 pixels: the bins with spikes of every trial, grouped by condition; below, mean and standard error.

    Raises
    ------
    BadArgument
        If there are several units, more than twelve conditions, or no such coordinate.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> aligned = cubes.align(spikes, [10.0, 20.0, 30.0], window=(-0.5, 1), width=0.02)
    >>> figure = cubes.plot_psth(aligned.isel(unit=0), sd=0.02)
    """
    names = [name for name in aligned.data_vars if name != "coverage"]
    if len(names) != 1 or aligned[names[0]].ndim != 2:
        found = ", ".join(f"{name}{aligned[name].dims}" for name in names)
        raise BadArgument(f"aligned: expected one unit, (trial, time), got {found}; choose one with .sel(unit=...)")
    values = aligned[names[0]].load()
    by = [by] if isinstance(by, str) else list(by)
    made = psth(values if sd is None else smooth(values, sd), by).load()
    conditions = list(_conditions(values, made, by))
    if len(conditions) > MAX_CONDITIONS:
        raise BadArgument(f"by: {len(conditions)} conditions, more than the {MAX_CONDITIONS} that can be told apart")
    figure = Figure(figsize=(12, 9), dpi=100, facecolor="white")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.3, 1))
    figure.subplots_adjust(left=0.09, right=0.97, top=0.87, bottom=0.08, hspace=0.06)
    _draw_trials(upper, values, [condition.trials for condition in conditions])
    _draw_means(lower, conditions)
    _write_heading(figure, aligned, values, sd)
    return figure


@dataclass(frozen=True)
class _Condition:
    """What is drawn of one condition; `trials` are positions."""

    label: str
    trials: NDArray[np.intp]
    mean: xr.DataArray
    sem: xr.DataArray


def _conditions(values: xr.DataArray, made: xr.Dataset, by: Sequence[str]) -> Iterator[_Condition]:
    """The conditions that have trials."""
    known = ~np.isnan(values.values).all(axis=1)
    for parts in product(*(made[name].values for name in by)):
        at = dict(zip(by, parts, strict=True))
        chosen = known & np.all([values.coords[name].values == part for name, part in at.items()] or [known], axis=0)
        if chosen.any():
            yield _Condition(_label(at), np.flatnonzero(chosen), made["mean"].sel(at), made["sem"].sel(at))


def _label(at: dict[str, Any]) -> str:
    shown = {name: f"{part:g}" if isinstance(part, float) else str(part) for name, part in at.items()}
    return ", ".join(f"{name} {part}" for name, part in shown.items()) or "all trials"


def _draw_trials(ax: Axes, values: xr.DataArray, trials: list[NDArray[np.intp]]) -> None:
    """One row a trial, conditions below each other, in order of time within."""
    time, row = values["time"].values, 0
    for i, chosen in enumerate(trials):
        rows, bins = np.nonzero(np.nan_to_num(values.values[chosen]) > 0)
        size = max(0.6, min(4.0, 400 / max(sum(map(len, trials)), 1)))
        colour = _COLOURS[i % len(_COLOURS)]
        ax.plot(time[bins], row + rows, "|", color=colour, ms=size, mew=0.9)
        ax.axhspan(row - 0.5, row + len(chosen) - 0.5, color=colour, alpha=0.07, lw=0)
        row += len(chosen)
    ax.set_ylim(max(row, 1) - 0.5, -0.5)
    ax.set_ylabel(f"{event_dim(values).capitalize()}s", fontsize=12, color=INK)
    _tidy(ax)


def _draw_means(ax: Axes, conditions: list[_Condition]) -> None:
    for i, condition in enumerate(conditions):
        time, mean, sem = condition.mean["time"].values, condition.mean.values, condition.sem.values
        colour, n = _COLOURS[i % len(_COLOURS)], len(condition.trials)
        ax.fill_between(time, mean - sem, mean + sem, color=colour, alpha=0.2, lw=0)
        style = "-" if i < len(_COLOURS) else "--"
        ax.plot(time, mean, color=colour, lw=1.8, ls=style, label=f"{condition.label} (n = {n})")
        ax.set_ylabel(f"Mean ± SEM ({condition.mean.attrs.get('units', '')})", fontsize=12, color=INK)
    ax.set_xlabel("Time after the event (s)", fontsize=12, color=INK)
    ax.margins(x=0)
    if conditions:
        ax.legend(frameon=False, fontsize=11, loc="upper right", ncols=1 + len(conditions) // 7)
    _tidy(ax)


def _tidy(ax: Axes) -> None:
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _write_heading(figure: Figure, aligned: xr.Dataset, values: xr.DataArray, sd: float | None) -> None:
    what = f"Unit {values['unit'].item()}" if "unit" in values.coords else str(values.name)
    region = f", {values['acronym_beryl'].item()}" if "acronym_beryl" in values.coords else ""
    event = aligned.attrs.get("aligned_to", "events")
    figure.text(0.03, 0.945, f"{what}{region} around {event}", fontsize=19, weight="bold", color=INK)
    who = " ".join(str(aligned.attrs[name]) for name in ("subject", "date", "probe") if name in aligned.attrs)
    width = values["time"].attrs.get("bin_width")
    bins = f"bins of {1000 * width:g} ms" if width else ""
    smoothed = f"smoothed, sd {1000 * sd:g} ms" if sd else ""
    dim = event_dim(values)
    left_out = int(np.isnan(values.values).all(axis=1).sum())
    missing = f"left out because they have no data: {left_out}" if left_out else ""
    note = "; ".join(part for part in (who, f"{values.sizes[dim]} {dim}s", bins, smoothed, missing) if part)
    figure.text(0.03, 0.91, note, fontsize=12, color=GREY)
