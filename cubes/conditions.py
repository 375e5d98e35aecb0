"""From trials to conditions: mean, standard error and number of trials; baseline; smoothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.signal.windows import gaussian

from cubes.aligning import refuse_other_than_array, to_rate
from loaders.errors import BadArgument

_REACH = 4  # standard deviations: a Gaussian kernel ends there


def psth(aligned: xr.DataArray | xr.Dataset, by: str | Sequence[str] = ()) -> xr.Dataset:
    """Peri-stimulus time histograms: mean over the trials of each condition.

    Parameters
    ----------
    aligned : (..., trial, time) Dataset or DataArray
        From `align`.
    by : str or list of str
        Coordinates of the trials whose values make the conditions, such as ``["side", "contrast"]``. Trials with NaN,
        or empty text, in one of them belong to none. By default all trials together.

    Returns
    -------
    Dataset
        ``mean(..., condition ..., time)``, Hz for counts; ``sem``, the standard error of the mean, NaN below two
        trials; ``n``, how many trials went in. Trials that are NaN in a bin are left out of that bin.

    Raises
    ------
    BadArgument
        If there is no such coordinate, no trial has a value of it, or nothing is aligned to trials.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> aligned = cubes.align(spikes, [10.0, 20.0, 30.0], window=(-0.5, 1), width=0.02)
    >>> aligned = aligned.assign_coords(side=("trial", ["left", "right", "left"]))
    >>> cubes.psth(aligned, by="side")["n"].isel(time=0, unit=0).values
    array([2, 1])
    """
    values = _values(aligned)
    dim = event_dim(values)
    names = [by] if isinstance(by, str) else list(by)
    for name in names:
        if name not in values.coords or values.coords[name].dims != (dim,):
            known = sorted(str(key) for key, c in values.coords.items() if c.dims == (dim,))
            raise BadArgument(f"by: expected coordinates of {dim}, which are {', '.join(known)}, got {name!r}")
    values = values.assign_coords({name: values.coords[name].compute() for name in names})  # or there are no groups
    labelled = np.ones(values.sizes[dim], bool)
    for name in names:
        has = _has_value(values.coords[name])
        labelled &= has
        if not has.any():
            raise BadArgument(
                f"by: none of the {values.sizes[dim]} trials has a value of {name}, so there are no conditions"
            )
    if not labelled.all():
        values = values.isel({dim: np.flatnonzero(labelled)})
    trials = values.groupby(names) if names else values
    n = trials.count(dim)
    mean = trials.mean(dim)
    sem = (trials.std(dim, ddof=1) / np.sqrt(n)).where(n > 1)
    last = [name for name in values.dims if name not in (dim, "time")]
    order = [*last, *names, "time"]
    found = {"mean": _per_second(mean, values), "sem": _per_second(sem, values), "n": n}
    made = xr.Dataset({name: array.transpose(*order).drop_attrs() for name, array in found.items()})
    units = values.attrs.get("units", "1") if values.name != "counts" else "Hz"
    made["mean"].attrs = {"long_name": "mean over trials", "units": units}
    made["sem"].attrs = {"long_name": "standard error of the mean", "units": units}
    made["n"].attrs = {"long_name": "number of trials", "units": "1"}
    made["time"].attrs = values["time"].attrs
    return made.assign_attrs(aligned.attrs if isinstance(aligned, xr.Dataset) else {})


def _has_value(labels: xr.DataArray) -> NDArray[np.bool_]:
    """Which labels are neither NaN nor empty text."""
    known = labels.notnull().values
    return known & (labels.values != "") if labels.dtype.kind in "OTU" else known


def baseline(values: xr.DataArray, window: tuple[float, float]) -> xr.DataArray:
    """Subtract from every trial its own mean within a window.

    Parameters
    ----------
    values : (..., time) DataArray
        Counts, rates or a signal, from `align`; or means from `psth`.
    window : (float, float), seconds
        After the event; bins whose middle lies in ``[start, stop)``.

    Returns
    -------
    DataArray
        Of the same shape; its attribute ``baseline_s`` is the window. NaN where the baseline is not known.

    Raises
    ------
    BadArgument
        If no bin lies in the window, or this is no DataArray.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> rate = cubes.to_rate(cubes.align(spikes, [10.0, 20.0], window=(-0.5, 1), width=0.1).counts)
    >>> change = cubes.baseline(rate, (-0.5, 0))
    >>> abs(float(change.sel(time=slice(-0.5, 0)).sum())) < 0.1
    True
    """
    refuse_other_than_array(values, "values")
    before = in_window(values, window, "window").mean("time", skipna=False)
    less: xr.DataArray = (values - before).assign_attrs(values.attrs)
    return less.rename(values.name).assign_attrs(baseline_s=[float(time) for time in window])


def in_window(values: xr.DataArray, window: tuple[float, float], name: str) -> xr.DataArray:
    """The bins whose middle lies in ``[start, stop)``; raises BadArgument if there are none."""
    start, stop = window
    inside = (values["time"].values >= start) & (values["time"].values < stop)
    if not inside.any():
        first, last = values["time"].values[[0, -1]] if values.sizes["time"] else (np.nan, np.nan)
        raise BadArgument(f"{name}: no bin lies in {window} s; they are at {first:g} to {last:g} s")
    return values.isel(time=np.flatnonzero(inside))


def smooth(values: xr.DataArray, sd: float, *, causal: bool = False) -> xr.DataArray:
    """Smooth along time with a Gaussian kernel.

    Parameters
    ----------
    values : (..., time) DataArray
        With evenly spaced bins.
    sd : float, seconds
        Standard deviation of the kernel, which ends at four of them.
    causal : bool
        Only the past: the half of the kernel that lies before. A response then never begins before its cause.

    Returns
    -------
    DataArray
        Of the same shape; the attribute ``smoothing`` says how. At the ends of the window, and beside NaN, the kernel
        is cut and made whole again by its sum; NaN stays NaN.

    Raises
    ------
    BadArgument
        If `sd` is not positive, the bins are not evenly spaced, or this is no DataArray.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> rate = cubes.to_rate(cubes.align(spikes, [10.0, 20.0], window=(-0.5, 1), width=0.01).counts)
    >>> cubes.smooth(rate, 0.02).attrs["smoothing"]
    'Gaussian kernel, sd 0.02 s, cut at 4 sd'
    """
    refuse_other_than_array(values, "values")
    if not sd > 0:
        raise BadArgument(f"sd: expected seconds above 0, got {sd}")
    steps = np.diff(values["time"].values)
    if not len(steps) or np.ptp(steps) > 1e-6 * steps.mean():
        raise BadArgument("values: expected evenly spaced bins along time, at least two")
    kernel = _kernel(sd / float(steps.mean()), causal)
    smoothed: xr.DataArray = xr.apply_ufunc(
        _convolve, values, kwargs={"kernel": kernel}, input_core_dims=[["time"]], output_core_dims=[["time"]],
        dask="parallelized", output_dtypes=[np.result_type(values.dtype, np.float32)], keep_attrs=True,
        dask_gufunc_kwargs={"allow_rechunk": True},
    )  # fmt: skip
    how = f"Gaussian kernel{', its past half' if causal else ''}, sd {sd:g} s, cut at {_REACH} sd"
    return smoothed.assign_attrs(smoothing=how)


def _kernel(sd_bins: float, causal: bool) -> NDArray[np.float64]:
    reach = int(np.ceil(_REACH * sd_bins))
    kernel: NDArray[np.float64] = gaussian(2 * reach + 1, sd_bins)
    if causal:
        kernel[:reach] = 0  # a convolution turns the kernel round: what is right of its middle is the past
    return kernel / kernel.sum()


def _convolve(values: NDArray[np.floating], kernel: NDArray[np.float64]) -> NDArray[np.floating]:
    known = ~np.isnan(values)
    weight = convolve1d(known.astype(np.float64), kernel, mode="constant")
    total = convolve1d(np.where(known, values, 0.0), kernel, mode="constant", output=np.float64)
    smoothed = np.divide(total, weight, out=np.full(values.shape, np.nan), where=known)
    result: NDArray[np.floating] = smoothed.astype(np.result_type(values.dtype, np.float32))
    return result


def _values(aligned: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """The signal of what `align` gave."""
    if isinstance(aligned, xr.DataArray):
        return aligned
    names = [name for name in aligned.data_vars if name != "coverage"]
    if len(names) != 1:
        raise BadArgument(
            f"aligned: expected one signal, got {', '.join(map(str, names)) or 'none'}; choose a DataArray"
        )
    return aligned[names[0]]


def event_dim(values: xr.DataArray) -> str:
    """The dimension of the trials, which comes before ``time``."""
    if values.dims[-1:] != ("time",) or values.ndim < 2 or "event_time" not in values.coords:
        raise BadArgument(f"aligned: expected what align gives, (..., trial, time), got dimensions {values.dims}")
    return str(values.dims[-2])


def _per_second(statistic: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
    return to_rate(statistic) if values.name == "counts" else statistic
