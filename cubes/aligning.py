"""What happens around events: spikes, counts or any signal as (..., trial, time) relative to each event."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from chunking.bins import Width
from chunking.perievent import Window
from cubes.around import counted_spikes, summed_bins
from cubes.around_samples import mean_in_bins, nearest_samples
from cubes.ragged import check_ragged
from loaders.errors import BadArgument

Floats = NDArray[np.float64]


def align(
    source: xr.DataArray | xr.Dataset | xr.DataTree,
    events: Any,
    window: tuple[Width, Width],
    width: Width | None = None,
    stride: Width | None = None,
    *,
    on: str | None = None,
    support: tuple[float, float] | None = None,
) -> xr.Dataset:
    """Cut out what happens around every event.

    Parameters
    ----------
    source : Dataset, DataTree or DataArray
        The product ``spikes`` (counted exactly, at any width); the ``counts`` of a store (bins are added up, from the
        bin edge that is nearest to the event); or any signal along ``time``, such as ``lfp``, ``ap``, the velocity of
        the wheel or the position of a paw.
    events : (trial,) array or DataArray, or Dataset, seconds on the session clock
        Times, in any order; NaN where there is none. Of a Dataset, such as the product ``trials``, the times are the
        variable `on`, and all other variables of its trials become coordinates of the result, to group by. Events may
        have a dimension of their own, such as the ``presentation`` of the product ``stimuli``, in the place of
        ``trial``.
    window : (float, float), seconds
        Around the event, such as ``(-0.5, 1)``; bins lie wholly within it.
    width : float, str, Decimal or Fraction, seconds
        Of a bin: ``0.02``, ``"20ms"`` or ``"1/3"``. Left out for a signal whose samples are wanted as they are.
    stride : as `width`, optional
        From the beginning of a bin to that of the next; by default `width`. Bins overlap if it is less.
    on : str, optional
        Which variable of a Dataset has the times.
    support : (float, float), seconds, optional
        Where the source was recorded. By default what it says itself: for spikes and counts from session time 0, or
        the first spike if that is earlier, to the last spike; for signals from the first sample to the last.

    Returns
    -------
    Dataset
        ``counts(unit, trial, time)``, or the signal under its own name with ``trial, time`` in the place of its
        ``time``; float, because NaN stands wherever there is no event or the bin is not wholly within the recording.
        ``coverage(trial, time)`` is the fraction of the bin that is. ``time`` is the middle of the bins, relative to
        the event. Lazy if the source is made of dask arrays, in blocks of units or channels; else at once, in one array
        and on all cores. `to_rate` makes Hz of counts.

    Raises
    ------
    BadArgument
        If the events are no times, or those of another session, the window is shorter than a bin, or the source is none
        of the above.

    Notes
    -----
    Samples know where their recording was interrupted, if their clock does, as that of published LFP: `coverage` leaves
    interruptions out, and bins that reach into one are NaN. Of spikes and counts only the begin and the end are known:
    an interruption, or a time that the source calls invalid, is covered, and its bins hold the spikes that there are.

    A spike at `t` is in the bin ``[low, high)`` of an event when ``event + low <= t < event + high`` in float64, `low`
    and `high` being the correctly rounded multiples of `stride`, and `width`, from the start of the window on.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> aligned = cubes.align(spikes, [10.0, 20.0, float("nan")], window=(-0.5, 1), width=0.02)
    >>> aligned.counts.sizes
    Frozen({'unit': 500, 'trial': 3, 'time': 75})
    >>> aligned.coverage.mean("time").values
    array([1., 1., 0.])
    """
    times = _event_times(events, on)
    if isinstance(source, xr.DataTree):
        source = source.to_dataset()
    if not isinstance(source, xr.Dataset | xr.DataArray):
        raise BadArgument(f"source: expected a Dataset, DataTree or DataArray, got {type(source).__name__}")
    _refuse_other_session(source, events)
    if isinstance(source, xr.Dataset) and "counts" in source.data_vars:
        source = source["counts"].assign_attrs(_span(source.attrs))
    if isinstance(source, xr.Dataset):
        _refuse_many_signals(source)
        aligned = _align_spikes(source, times, window, width, stride, support)
    elif "time" not in source.dims:
        raise BadArgument(f"source: expected a dimension time, got {', '.join(map(str, source.dims)) or 'none'}")
    elif "bin_width_exact" in source.coords["time"].attrs:
        aligned = summed_bins(source, times, window, width, stride, support)
    elif width is None:
        if stride is not None:
            raise BadArgument("stride: only for bins; give width too, or neither")
        aligned = nearest_samples(source, times, window, support)
    else:
        aligned = mean_in_bins(source, times, Window.parse(window, width, stride), support)
    return aligned.assign_coords(times.coords).assign_attrs(_identity(source.attrs) | _named(times))


def to_rate(counts: xr.DataArray) -> xr.DataArray:
    """Spike counts in bins as rates.

    Parameters
    ----------
    counts : (..., time) DataArray
        From `align`, `bin` or the ``counts`` of a store; what was computed from them, such as a mean over trials, as
        long as its coordinate ``time`` is kept.

    Returns
    -------
    DataArray
        ``rate``, Hz, float32: counts divided by the width of the bins.

    Raises
    ------
    BadArgument
        If the coordinate ``time`` does not say how wide the bins are, or these are rates already.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> counts = cubes.align(spikes, [10.0, 20.0], window=(-0.5, 1), width=0.02).counts
    >>> cubes.to_rate(counts).attrs["units"]
    'Hz'
    """
    refuse_other_than_array(counts, "counts")
    if counts.attrs.get("units") == "Hz":
        raise BadArgument("counts: these are rates already, their units are Hz")
    width = counts.coords["time"].attrs.get("bin_width") if "time" in counts.coords else None
    if width is None:
        raise BadArgument("counts: expected a coordinate time with the attribute bin_width, as align and bin give it")
    rate: xr.DataArray = (counts / np.float64(width)).astype("float32").rename("rate")
    return rate.assign_attrs(units="Hz", long_name="spikes a second", cell_methods="time: mean")


def refuse_other_than_array(values: object, name: str) -> None:
    """Raise BadArgument for the whole of what `align` gives instead of its signal."""
    if not isinstance(values, xr.DataArray):
        raise BadArgument(f"{name}: expected a DataArray, such as aligned.counts, got {type(values).__name__}")


def _event_times(events: Any, on: str | None) -> xr.DataArray:
    """The times of the events (trial,), with everything known of them as coordinates."""
    if isinstance(events, xr.DataTree):
        events = events.to_dataset()
    if isinstance(events, xr.Dataset):
        if on is None or on not in events.variables:
            raise BadArgument(f"on: expected one of the times of the events, {_times_in(events)}, got {on!r}")
        times = events[on]
        if not _is_time(events, on):
            raise BadArgument(f"on: expected one of the times of the events, {_times_in(events)}, got {on!r}")
        labels = {name: v for name, v in events.variables.items() if v.dims == times.dims}
        times = times.assign_coords(labels)
    elif on is not None:
        raise BadArgument("on: only for events that are a Dataset; of a table give the column itself, table[on]")
    elif isinstance(events, xr.DataArray):
        times = events
    else:
        values = np.asarray(events)
        times = xr.DataArray(values, dims=("trial",) if values.ndim == 1 else None)
    times = times.compute()  # small, and groups are made of its labels
    if times.ndim != 1 or times.dtype.kind not in "fiu":
        raise BadArgument(f"events: expected times in seconds along one dimension, got {times.dtype} {times.shape}")
    if np.isinf(times.values).any():
        raise BadArgument("events: expected times in seconds, or NaN where there is none, got infinity")
    dim = times.dims[0]
    if dim in ("time", "unit", "spike", "channel"):
        raise BadArgument(f"events: their dimension cannot be called {dim}, which is that of the data; rename it")
    if dim not in times.coords:
        times = times.assign_coords({dim: np.arange(times.size)})
    return times.assign_coords(event_time=(dim, times.values.astype(np.float64), {"units": "s", "clock": "session"}))


def _times_in(events: xr.Dataset) -> str:
    said = (name for name, v in events.variables.items() if v.attrs.get("units") == "s" and _is_time(events, name))
    return ", ".join(sorted(map(str, said))) or "none"


def _is_time(events: xr.Dataset, name: Hashable) -> bool:
    """Whether a variable is a time. One of our stores says its clock; durations and other clocks do not count."""
    attrs = events[name].attrs
    if "ibl-cubes" in str(events.attrs.get("Conventions")):
        return attrs.get("units") == "s" and attrs.get("clock") == "session"
    return attrs.get("units", "s") == "s" and "flag_values" not in attrs


def _refuse_other_session(source: xr.DataArray | xr.Dataset, events: Any) -> None:
    """Raise BadArgument if both say of which session they are, and it is not the same: each has its own clock."""
    ours, theirs = (str(getattr(data, "attrs", {}).get("eid", "")) for data in (source, events))
    if ours and theirs and ours != theirs:
        raise BadArgument(f"events: expected those of session {ours}, as the source, got those of session {theirs}")


def _refuse_many_signals(source: xr.Dataset) -> None:
    """Raise BadArgument if a Dataset is neither spikes nor counts: which of its signals is meant is not known."""
    if "spike_time" not in source.variables:
        signals = sorted(str(name) for name, v in source.data_vars.items() if "time" in v.dims)
        raise BadArgument(
            "source: expected the product spikes, counts, or one signal along time, got a Dataset with the signals "
            f"{', '.join(signals) or 'none'}; choose a product, tree['spikes'], or a signal, tree['wheel'].velocity"
        )


def _named(times: xr.DataArray) -> dict[str, str]:
    return {"aligned_to": str(times.name)} if times.name is not None else {}


def _span(attrs: dict[str, Any]) -> dict[str, Any]:
    return {name: attrs[name] for name in ("first_spike_s", "last_spike_s") if name in attrs}


def _identity(attrs: dict[str, Any]) -> dict[str, Any]:
    names = ("pid", "eid", "subject", "date", "lab", "probe", "sorter", "revision", "collection", "selection")
    return {name: attrs[name] for name in names if name in attrs}


def _align_spikes(
    spikes: xr.Dataset,
    times: xr.DataArray,
    window: tuple[Width, Width],
    width: Width | None,
    stride: Width | None,
    support: tuple[float, float] | None,
) -> xr.Dataset:
    check_ragged(spikes)
    if width is None:
        raise BadArgument("width: expected the width of a bin in seconds, such as 0.02; spikes have no samples")
    return counted_spikes(spikes, times, Window.parse(window, width, stride), support)
