"""PSTHs, baseline, smoothing and tests of responses, against numpy, pandas and scipy."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage, stats

import cubes
from loaders.errors import BadArgument

REALDATA = Path(__file__).parents[2] / "shared/realdata"
real_data = pytest.mark.skipif(not REALDATA.exists(), reason="needs the real recordings in ../shared/realdata")


@pytest.fixture
def aligned() -> xr.Dataset:
    """Counts of 3 units in 40 trials of 10 bins; trial 5 is missing, the last bins of trial 7 are off the recording."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.5, (3, 40, 10)).astype(np.float32)
    counts[:, 5] = np.nan
    counts[:, 7, 6:] = np.nan
    contrast = rng.choice([0.0, 0.25, 1.0], 40)
    contrast[3] = np.nan
    coords = {
        "unit": [4, 5, 9],
        "uuid": ("unit", ["a", "b", "c"]),
        "time": ("time", np.arange(10) * 0.1 - 0.45, {"bin_width": 0.1, "units": "s"}),
        "side": ("trial", rng.choice(["left", "right"], 40)),
        "contrast": ("trial", contrast),
        "event_time": ("trial", np.arange(40.0)),
        "trial": np.arange(40),
    }
    return xr.Dataset({"counts": (("unit", "trial", "time"), counts, {"units": "1"})}, coords, {"pid": "p"})


@pytest.mark.parametrize("lazy", [False, True])
def test_psth_equals_numpy(aligned, lazy):
    made = cubes.psth(aligned.chunk(unit=2) if lazy else aligned, by=["side", "contrast"])
    assert made["mean"].dims == ("unit", "side", "contrast", "time")
    assert made["mean"].attrs["units"] == "Hz"
    assert made.attrs["pid"] == "p"
    counts = aligned.counts.values
    for side in ("left", "right"):
        for contrast in (0.0, 0.25, 1.0):
            chosen = counts[:, (aligned.side.values == side) & (aligned.contrast.values == contrast)]
            n = np.sum(~np.isnan(chosen), axis=1)
            at = {"side": side, "contrast": contrast}
            np.testing.assert_array_equal(made["n"].sel(at).values, n)
            np.testing.assert_allclose(made["mean"].sel(at).values, np.nanmean(chosen, axis=1) / 0.1, rtol=1e-5)
            sem = np.nanstd(chosen, axis=1, ddof=1) / np.sqrt(n) / 0.1
            np.testing.assert_allclose(made["sem"].sel(at).values, sem, rtol=1e-4)


def test_psth_of_everything(aligned):
    made = cubes.psth(aligned)
    assert made["mean"].dims == ("unit", "time")
    assert made["n"].isel(unit=0).values.tolist() == [39] * 6 + [38] * 4
    assert made["uuid"].values.tolist() == ["a", "b", "c"]
    one = cubes.psth(aligned.isel(trial=[1]))
    assert one["sem"].isnull().all()
    assert not one["mean"].isnull().any()


def test_psth_of_a_signal_keeps_its_units(aligned):
    velocity = aligned.counts.isel(unit=0).rename("velocity").assign_attrs(units="rad/s")
    made = cubes.psth(velocity, by="side")
    assert made["mean"].dims == ("side", "time")
    assert made["mean"].attrs["units"] == "rad/s"
    np.testing.assert_allclose(
        made["mean"].sel(side="left").values,
        np.nanmean(velocity.values[aligned.side.values == "left"], axis=0),
        rtol=1e-5,
    )


def test_psth_refuses_what_it_cannot_do(aligned):
    with pytest.raises(BadArgument, match=r"by: .* contrast, event_time, side, trial, got 'nope'"):
        cubes.psth(aligned, by="nope")
    with pytest.raises(BadArgument, match="expected what align gives"):
        cubes.psth(aligned.counts.mean("trial"))
    with pytest.raises(BadArgument, match="none of the 0 trials has a value of side"):
        cubes.psth(aligned.isel(trial=[]), by="side")
    with pytest.raises(BadArgument, match="none of the 1 trials has a value of contrast"):
        cubes.psth(aligned.isel(trial=[3]), by=["side", "contrast"])


def test_baseline(aligned):
    counts = aligned.counts
    less = cubes.baseline(counts, (-0.5, -0.2))
    np.testing.assert_allclose(less.values, counts.values - counts.values[:, :, :3].mean(2, keepdims=True))
    assert less.attrs["baseline_s"] == [-0.5, -0.2]
    with pytest.raises(BadArgument, match="no bin lies in"):
        cubes.baseline(counts, (3, 4))
    for whole in (lambda: cubes.baseline(aligned, (-0.5, -0.2)), lambda: cubes.smooth(aligned, 0.1)):
        with pytest.raises(BadArgument, match=r"values: expected a DataArray, such as aligned\.counts, got Dataset"):
            whole()


def test_smoothing_equals_scipy_inside_and_never_looks_ahead_if_causal():
    time = np.arange(200) * 0.01
    impulse = xr.DataArray(np.zeros(200), {"time": time}, ("time",), name="x")
    impulse[100] = 1.0
    smoothed = cubes.smooth(impulse, 0.03)
    np.testing.assert_allclose(smoothed.values, ndimage.gaussian_filter1d(impulse.values, 3, truncate=4), atol=1e-12)
    assert smoothed.attrs["smoothing"].startswith("Gaussian kernel, sd 0.03 s")
    causal = cubes.smooth(impulse, 0.03, causal=True)
    assert (causal.values[:100] == 0).all()
    assert causal.values[100] > causal.values[101] > causal.values[103] > 0
    assert float(causal.sum()) == pytest.approx(1)
    constant = impulse.copy(data=np.full(200, 7.0))
    constant[50] = np.nan
    flat = cubes.smooth(constant.chunk(time=64), 0.03)
    np.testing.assert_allclose(flat.values[np.arange(200) != 50], 7.0)  # neither the ends nor NaN pull it down
    assert np.isnan(flat.values[50])
    with pytest.raises(BadArgument, match="evenly spaced"):
        cubes.smooth(impulse.isel(time=[0, 1, 3]), 0.03)
    with pytest.raises(BadArgument, match="sd: expected"):
        cubes.smooth(impulse, 0)


def test_responsive_units_are_found():
    rng = np.random.default_rng(3)
    counts = rng.poisson(2.0, (4, 60, 10)).astype(np.float32)
    counts[1, :, 5:] += 3
    counts[2] = 0
    counts[:, 9] = np.nan
    time = ("time", np.arange(10) * 0.1 - 0.45, {"bin_width": 0.1})
    coords = {"time": time, "event_time": ("trial", np.arange(60.0)), "unit": np.arange(4)}
    array = xr.DataArray(counts, coords, ("unit", "trial", "time"), name="counts")
    found = cubes.responsive(array, baseline=(-0.5, 0), response=(0, 0.5))
    assert (found["q_value"] < 0.01).values.tolist() == [False, True, False, False]
    assert float(found["change"][1]) == pytest.approx(30, abs=4)
    assert found["n"].values.tolist() == [59] * 4
    kept = np.delete(counts[0].astype(float), 9, axis=0)
    expected = stats.wilcoxon(kept[:, 5:].sum(1), kept[:, :5].sum(1), zero_method="zsplit")
    assert float(found["p_value"][0]) == pytest.approx(expected.pvalue)
    with pytest.raises(BadArgument, match="two trials"):
        cubes.responsive(array.isel(trial=[9, 10]), baseline=(-0.5, 0), response=(0, 0.5))
    one = cubes.responsive(array.isel(unit=1), baseline=(-0.5, 0), response=(0, 0.5))
    assert float(one["p_value"]) == float(found["p_value"][1])
    with pytest.raises(BadArgument, match=r"expected counts in bins, .* got rate in Hz"):  # change would be in Hz/s
        cubes.responsive(cubes.to_rate(array), baseline=(-0.5, 0), response=(0, 0.5))
    with pytest.raises(BadArgument, match=r"expected counts, .* got lfp"):
        cubes.responsive(array.to_dataset(name="lfp"), baseline=(-0.5, 0), response=(0, 0.5))


def trials_of(table: pd.DataFrame) -> xr.Dataset:
    return xr.Dataset({name: ("trial", column.to_numpy(float)) for name, column in table.items()})


@real_data
def test_reaction_times_of_a_real_session():
    real = pd.read_parquet(REALDATA / "ibl-photometry/_ibl_trials.table.pqt")
    seconds = cubes.reaction_times(trials_of(real))
    np.testing.assert_array_equal(seconds["response_time"], real["response_times"] - real["stimOn_times"])
    np.testing.assert_array_equal(seconds["movement_time"], real["firstMovement_times"] - real["stimOn_times"])
    assert seconds["movement_time"].attrs["units"] == "s"


@real_data
def test_choices_of_a_real_session():
    real = pd.read_csv(
        REALDATA / "ibllib-brainbox/trials_df_test.csv"
    )  # right_choice, signed_contrast are its authors'
    table = cubes.psychometric(trials_of(real))
    chosen = real[real["choice"] != 0]
    expected = chosen.groupby(["probabilityLeft", 100 * chosen["signed_contrast"]])["right_choice"].agg(["size", "sum"])
    assert table["n"].tolist() == expected["size"].tolist()
    assert table["n_right"].tolist() == expected["sum"].tolist()
    assert table.index.to_list() == expected.index.to_list()
    assert ((table["low"] <= table["p_right"]) & (table["p_right"] <= table["high"])).all()
    with pytest.raises(BadArgument, match="choice is missing"):
        cubes.psychometric(trials_of(real).drop_vars("choice"))


def test_the_figure_shows_every_trial_once_and_the_means_of_psth(aligned):
    unit = aligned.isel(unit=1).assign_attrs(aligned_to="stimOn_times")
    figure = cubes.plot_psth(unit, by="side")
    upper, lower = figure.axes
    drawn = sum(len(line.get_xdata()) for line in upper.lines if line.get_marker() == "|")
    assert drawn == np.count_nonzero(np.nan_to_num(unit.counts.values) > 0)
    made = cubes.psth(unit, by="side")
    curves = [line for line in lower.lines if len(line.get_xdata()) == 10]
    for curve, side in zip(curves, ("left", "right"), strict=True):
        np.testing.assert_allclose(curve.get_ydata(), made["mean"].sel(side=side).values)
    assert "left out because they have no data: 1" in figure.texts[1].get_text()
    assert cubes.plot_psth(unit, sd=0.2).axes
    with pytest.raises(BadArgument, match="expected one unit"):
        cubes.plot_psth(aligned)
    with pytest.raises(BadArgument, match="conditions, more than"):
        cubes.plot_psth(unit, by="event_time")
