"""Does a unit respond, how fast does the animal, and what does it choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy import stats

from cubes.conditions import event_dim, in_window
from loaders.errors import BadArgument

if TYPE_CHECKING:
    import pandas as pd


def responsive(
    aligned: xr.Dataset | xr.DataArray,
    *,
    baseline: tuple[float, float],
    response: tuple[float, float],
) -> xr.Dataset:
    """Test for every unit whether its rate after an event differs from the rate before.

    Parameters
    ----------
    aligned : (unit, trial, time) Dataset or DataArray
        Counts, from `align`.
    baseline, response : (float, float), seconds
        After the event; bins whose middle lies in ``[start, stop)``.

    Returns
    -------
    Dataset
        By unit: ``change``, Hz, mean of response less baseline; ``p_value`` of the Wilcoxon signed-rank test of the two
        over trials (`scipy.stats.wilcoxon`, two-sided, zeros split); ``q_value``, the false discovery rate over units
        (Benjamini and Hochberg); ``n``, the trials that went in, which are those without NaN in either window.

    Raises
    ------
    BadArgument
        If these are no counts, a window has no bins, or fewer than two trials are left.

    Examples
    --------
    >>> import cubes
    >>> spikes = cubes.open("my-cubes", pid)["spikes"]
    >>> aligned = cubes.align(spikes, [10.0, 20.0, 30.0, 40.0], window=(-0.5, 0.5), width=0.1)
    >>> tested = cubes.responsive(aligned, baseline=(-0.5, 0), response=(0, 0.5))
    >>> tested.sizes, int(tested["n"][0])
    (Frozen({'unit': 500}), 4)
    """
    if isinstance(aligned, xr.Dataset) and "counts" not in aligned:
        found = ", ".join(map(str, aligned.data_vars))
        raise BadArgument(f"aligned: expected counts, from spikes or a counts cube, got {found or 'none'}")
    counts = aligned["counts"] if isinstance(aligned, xr.Dataset) else aligned
    dim = event_dim(counts)
    if (units := counts.attrs.get("units", "1")) != "1" or "bin_width" not in counts["time"].attrs:
        raise BadArgument(f"aligned: expected counts in bins, as align gives them, got {counts.name} in {units}")
    windows = [in_window(counts, w, name) for name, w in (("baseline", baseline), ("response", response))]
    before, after = (part.astype(np.float64).sum("time", skipna=False).transpose(..., dim) for part in windows)
    n_before, n_after = (part.sizes["time"] for part in windows)
    known = ~np.isnan((before + after).values).any(axis=tuple(range(before.ndim - 1)))
    if known.sum() < 2:
        raise BadArgument(f"aligned: expected two trials or more with known counts in both windows, got {known.sum()}")
    # Whole numbers, proportional to the difference of the rates: ties between trials stay ties.
    difference = (n_before * after - n_after * before).isel({dim: np.flatnonzero(known)})
    p_value = np.asarray(stats.wilcoxon(difference.values, axis=-1, zero_method="zsplit").pvalue)
    q_value = stats.false_discovery_control(p_value, axis=None) if p_value.size else p_value
    labels = difference.isel({dim: 0}, drop=True)
    made = xr.Dataset({
        "change": difference.mean(dim) / (n_before * n_after * float(counts["time"].attrs["bin_width"])),
        "p_value": labels.copy(data=p_value),
        "q_value": labels.copy(data=q_value.reshape(p_value.shape)),
        "n": labels.copy(data=np.full(p_value.shape, known.sum())),
    })  # fmt: skip
    test = "two-sided Wilcoxon signed-rank test over trials, zeros split (scipy.stats.wilcoxon)"
    attrs = {
        "change": {"long_name": "rate in the response window less that in the baseline", "units": "Hz"},
        "p_value": {"long_name": test, "units": "1"},
        "q_value": {"long_name": "false discovery rate over units, Benjamini-Hochberg", "units": "1"},
        "n": {"long_name": "number of trials", "units": "1"},
    }
    for name, given in attrs.items():
        made[name].attrs = given
    seconds = {"baseline_s": [float(t) for t in baseline], "response_s": [float(t) for t in response]}
    return made.assign_attrs((aligned.attrs if isinstance(aligned, xr.Dataset) else {}) | seconds)


def reaction_times(trials: xr.Dataset) -> xr.Dataset:
    """How long the animal took on every trial.

    Parameters
    ----------
    trials : Dataset
        The product ``trials``.

    Returns
    -------
    Dataset
        By trial, seconds: ``response_time`` (``response_times - stimOn_times``) and ``movement_time``
        (``firstMovement_times - stimOn_times``, what the IBL calls reaction time); NaN where one is missing.

    Raises
    ------
    BadArgument
        If a column is missing.

    Examples
    --------
    >>> import cubes
    >>> import xarray as xr
    >>> times = {"stimOn_times": 10.0, "firstMovement_times": 10.25, "response_times": 10.5}
    >>> cubes.reaction_times(xr.Dataset({name: ("trial", [t]) for name, t in times.items()})).movement_time.values
    array([0.25])
    """
    _need(trials, "stimOn_times", "response_times", "firstMovement_times")
    seconds = {"response_time": "response_times", "movement_time": "firstMovement_times"}
    made = xr.Dataset({name: trials[column] - trials["stimOn_times"] for name, column in seconds.items()})
    for name, column in seconds.items():
        made[name].attrs = {"long_name": f"{column} less stimOn_times", "units": "s"}
    return made


def psychometric(trials: xr.Dataset) -> pd.DataFrame:
    """How often the animal chose right, by signed contrast and block.

    Parameters
    ----------
    trials : Dataset
        The product ``trials``, or some of its trials. Trials without a choice are left out.

    Returns
    -------
    DataFrame
        Index ``probabilityLeft`` and ``signed_contrast`` (percent, positive on the right). Columns: ``n``, ``n_right``,
        ``p_right``, and the 95 % Wilson interval ``low, high`` (`scipy.stats.binomtest`). ``choice == -1`` is the turn
        that reports a stimulus on the right.

    Raises
    ------
    BadArgument
        If a column is missing.

    Examples
    --------
    >>> import cubes
    >>> import xarray as xr
    >>> nan = float("nan")
    >>> columns = {"contrastLeft": [nan, 1.0], "contrastRight": [1.0, nan], "choice": [-1.0, -1.0]}
    >>> columns["probabilityLeft"] = [0.5, 0.5]
    >>> trials = xr.Dataset({name: ("trial", values) for name, values in columns.items()})
    >>> cubes.psychometric(trials)["p_right"].to_dict()
    {(0.5, -100.0): 1.0, (0.5, 100.0): 1.0}
    """
    import pandas as pd

    columns = ("contrastLeft", "contrastRight", "choice", "probabilityLeft")
    _need(trials, *columns)
    table = pd.DataFrame({name: trials[name].values for name in columns})
    table = table[np.isin(table["choice"], (-1, 1))]
    signed = table["contrastRight"].fillna(-table["contrastLeft"])
    by = [table["probabilityLeft"], (100 * signed).rename("signed_contrast")]
    grouped = (table["choice"] == -1).groupby(by)
    made = pd.DataFrame({"n": grouped.size(), "n_right": grouped.sum(), "p_right": grouped.mean()})
    intervals = [
        stats.binomtest(int(k), int(n)).proportion_ci(method="wilson")
        for k, n in zip(made["n_right"], made["n"], strict=True)
    ]
    return made.assign(low=[i.low for i in intervals], high=[i.high for i in intervals])


def _need(trials: xr.Dataset, *names: str) -> None:
    if missing := [name for name in names if name not in trials.variables]:
        raise BadArgument(f"trials: expected the product trials, {', '.join(missing)} is missing")
