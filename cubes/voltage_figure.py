"""A figure of a window of voltage: all channels as an image by depth, and some of them as traces."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cubes.figures import GREY, INK, region_colours
from cubes.microvolts import to_uv
from loaders.errors import BadArgument

MAX_SAMPLES = 60_000
N_TRACES = 16


def plot_voltage(voltage: xr.DataArray, *, limit_uv: float | None = None) -> Figure:
    """Draw a window of voltage.

    Parameters
    ----------
    voltage : (channel, time) DataArray
        A window of ``ap`` or ``lf`` as recorded, or in microvolts; at most 60,000 samples, with the session clock.
    limit_uv : float, optional
        End of the colour scale; by default the 99.5th percentile of the deviation from each channel's median.

    Returns
    -------
    Figure
        1600 x 900 pixels: image with channels by shank and depth, 16 traces, both marked with the region's colour.

    Raises
    ------
    BadArgument
        If the window is empty or too long, or the array has other dimensions or no clock.

    Examples
    --------
    >>> import cubes
    >>> lf = cubes.open("my-cubes", pid)["lf"].lf.sel(time=slice(1, 1.5))  # doctest: +SKIP
    >>> cubes.plot_voltage(lf).savefig("lf.png")  # doctest: +SKIP
    """
    if set(voltage.dims) != {"channel", "time"} or "time" not in voltage.coords:
        raise BadArgument(
            f"voltage: expected the dimensions channel and time with the session clock, got {voltage.dims}"
        )
    if not 0 < voltage.sizes["time"] <= MAX_SAMPLES:
        found = f"{voltage.sizes['time']:,}"
        raise BadArgument(
            f"voltage: expected 1 to {MAX_SAMPLES:,} samples, got {found}; cut with .sel(time=slice(a, b))"
        )
    uv = (to_uv(voltage) if voltage.dtype.kind == "i" else voltage).transpose("channel", "time").load()
    uv = uv.isel(channel=np.lexsort((uv["x_um"], uv["y_um"], uv["shank"])))
    uv = uv - uv.median("time")
    limit = float(np.percentile(np.abs(uv), 99.5)) if limit_uv is None else float(limit_uv)
    colours = region_colours(uv["acronym_beryl"].values.tolist())
    strip = np.array([colours[str(name)] for name in uv["acronym_beryl"].values])

    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    grid = figure.add_gridspec(1, 5, width_ratios=(0.25, 9, 0.2, 0.5, 6.6), wspace=0.06)
    grid.update(left=0.09, right=0.955, top=0.88, bottom=0.09)
    _draw_strip(figure.add_subplot(grid[0]), uv, strip)
    image = _draw_image(figure.add_subplot(grid[1]), uv, limit)
    figure.colorbar(image, cax=figure.add_subplot(grid[2]))
    figure.axes[-1].set_title("µV", fontsize=11, color=GREY)
    _draw_traces(figure.add_subplot(grid[4]), uv, strip, limit)
    _write_heading(figure, voltage, uv)
    return figure


def _draw_strip(ax: Axes, uv: xr.DataArray, strip: np.ndarray) -> None:
    n = len(strip)
    ax.imshow(strip[:, None, :], aspect="auto", origin="lower", extent=(0, 1, 0, n))
    names = uv["acronym_beryl"].values.astype(object)
    borders = np.flatnonzero(np.r_[True, names[1:] != names[:-1], True])
    for start, stop in pairwise(borders.tolist()):
        if stop - start > 0.03 * n:
            ax.text(
                -0.4,
                (start + stop) / 2,
                names[start],
                ha="right",
                va="center",
                fontsize=11,
                color=strip[start],
                weight="bold",
            )
    ax.set_axis_off()


def _draw_image(ax: Axes, uv: xr.DataArray, limit: float) -> AxesImage:
    times = uv["time"].values
    extent = (times[0], times[-1], 0, uv.sizes["channel"])
    image = ax.imshow(uv.values, aspect="auto", origin="lower", extent=extent, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_yticks([])
    ax.set_xlabel("Time in the session (s)", fontsize=12, color=INK)
    shanks = len(np.unique(uv["shank"]))
    order = "deepest at the bottom" if shanks == 1 else f"{shanks} shanks, the deepest of each at its bottom"
    ax.set_title(f"All channels, {order}", loc="left", fontsize=12, color=INK)
    return image


def _draw_traces(ax: Axes, uv: xr.DataArray, strip: np.ndarray, limit: float) -> None:
    chosen = np.unique(np.linspace(0, uv.sizes["channel"] - 1, N_TRACES).round().astype(int))
    times, step = uv["time"].values, 2.5 * limit
    for i, channel in enumerate(chosen):
        ax.plot(times, uv.values[channel] + i * step, color=strip[channel], lw=0.6)
    ax.set_yticks(step * np.arange(len(chosen)), [f"{uv['y_um'].values[c]:.0f}" for c in chosen], fontsize=10)
    ax.set_xlim(times[0], times[-1])
    ax.yaxis.tick_right()
    ax.set_ylim(-step, step * len(chosen))
    ax.set_xlabel("Time in the session (s)", fontsize=12, color=INK)
    ax.set_title(f"{len(chosen)} channels at their height above the tip (µm)", loc="left", fontsize=12, color=INK)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _write_heading(figure: Figure, voltage: xr.DataArray, uv: xr.DataArray) -> None:
    name = "Voltage" if voltage.name is None else str(voltage.name).upper()
    ms = 1000 * float(uv["time"][-1] - uv["time"][0])
    figure.text(0.02, 0.955, f"{name}, {ms:.0f} ms", fontsize=19, weight="bold", color=INK)
    note = f"{uv.sizes['channel']} channels x {uv.sizes['time']:,} samples; the median of each channel is taken away"
    figure.text(0.02, 0.925, note, fontsize=12, color=GREY)
