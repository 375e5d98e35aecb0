"""Alignment to events, against brute force, brainbox and closed form."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import cubes
from chunking.perievent import Window
from loaders.errors import BadArgument


def spikes_dataset(trains: list[np.ndarray], first: float, last: float) -> xr.Dataset:
    """A product ``spikes`` in memory."""
    sizes = np.array([len(train) for train in trains], dtype=np.int64)
    return xr.Dataset(
        {"spike_time": ("spike", np.concatenate(trains) if trains else np.zeros(0))},
        {
            "unit": np.arange(len(trains)) * 7,
            "row_size": ("unit", sizes),
            "row_start": ("unit", np.cumsum(sizes) - sizes),
            "acronym_beryl": ("unit", [f"R{i}" for i in range(len(trains))]),
        },
        {"n_spikes": int(sizes.sum()), "first_spike_s": first, "last_spike_s": last, "pid": "p"},
    )


@st.composite
def recordings(draw: st.DrawFn) -> tuple[list[np.ndarray], np.ndarray, Window]:
    """Spikes on the 30 kHz grid, events on it and between, bins with gaps and overlaps, spikes on and beside edges."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    start = draw(st.sampled_from([Fraction(-1, 2), Fraction(0), Fraction(-1, 3), Fraction(1, 10)]))
    width = draw(st.sampled_from([Fraction(1, 50), Fraction(1, 80), Fraction(1, 1000), Fraction(1, 3)]))
    stride = draw(st.sampled_from([width, width / 6, width * 3, Fraction(1, 480)]))
    window = Window(start, width, stride, draw(st.integers(1, 40)))
    events = np.r_[rng.integers(0, 60 * 30000, 4) / 30000, rng.uniform(-2, 62, 3), np.nan, 0.0]
    edges = np.unique(np.r_[window.low(), window.high()])
    on_edges = (events[~np.isnan(events), None] + edges).ravel()
    trains = []
    for _ in range(draw(st.integers(0, 4))):
        beside = np.nextafter(rng.choice(on_edges, 5), rng.choice([-np.inf, np.inf]))
        train = np.r_[rng.integers(0, 60 * 30000, 300) / 30000, rng.choice(on_edges, 20), beside]
        trains.append(np.sort(train[(train >= 0) & (train <= 60)]))
    return trains, events, window


def brute_force(train: np.ndarray, event: float, window: Window, j: int, first: float, last: float) -> float:
    """Spikes of one unit in one bin of one event, in the words of the documentation."""
    low = float(window.start + j * window.stride)
    high = float(window.start + j * window.stride + window.width)
    if np.isnan(event) or event + low < first or event + high > last:
        return np.nan
    return float(np.count_nonzero((train >= event + low) & (train < event + high)))


@given(recordings(), st.booleans())
def test_counts_equal_brute_force(recording, lazy):
    trains, events, window = recording
    spikes = spikes_dataset(trains, 0.0, 60.0)
    end = window.start + (window.n - 1) * window.stride + window.width
    bins = {"window": (window.start, end), "width": window.width, "stride": window.stride}
    bins["window"] = (str(window.start) if window.start else 0, str(end)) if end > 0 else bins["window"]
    aligned = cubes.align(spikes.chunk(spike=100) if lazy else spikes, events, **bins)
    assert aligned.counts.dims == ("unit", "trial", "time")
    assert aligned.counts.shape == (len(trains), len(events), window.n)
    expected = [
        [[brute_force(train, event, window, j, 0.0, 60.0) for j in range(window.n)] for event in events]
        for train in trains
    ]
    np.testing.assert_array_equal(aligned.counts.values, np.array(expected).reshape(aligned.counts.shape))


def test_ten_thousand_cells_of_the_sample(sample_cubes, sample_source):
    pid = sample_source.insertions()[0].pid
    spikes = cubes.open(sample_cubes, pid)["spikes"].to_dataset().load()
    rng = np.random.default_rng(1)
    last = spikes.attrs["last_spike_s"]
    events = np.r_[rng.uniform(-1, last + 1, 100), spikes.spike_time.values[::5000], np.nan, 0.5, last - 1]
    aligned = cubes.align(spikes, events, (-0.5, 1), 0.0125, Fraction(1, 480))
    window = Window.parse((-0.5, 1), 0.0125, Fraction(1, 480))
    cells = [rng.integers(0, size, 10_000) for size in aligned.counts.shape]
    times, starts, sizes = (spikes[name].values for name in ("spike_time", "row_start", "row_size"))
    trains = [times[a : a + n] for a, n in zip(starts, sizes, strict=True)]
    first = min(0.0, spikes.attrs["first_spike_s"])
    expected = [brute_force(trains[u], events[i], window, j, first, last) for u, i, j in zip(*cells, strict=True)]
    assert np.isnan(expected).any()
    assert np.nanmax(expected) > 1
    np.testing.assert_array_equal(aligned.counts.values[tuple(cells)], np.array(expected))


def test_where_brainbox_is_right_we_agree_and_where_it_is_not_we_do_not():
    from brainbox.singlecell import bin_spikes2D, calculate_peths

    rng = np.random.default_rng(2)
    trains = [np.sort(rng.uniform(0, 100, 3000)) for _ in range(5)]
    spikes = spikes_dataset(trains, 0.0, 100.0)
    times, units = np.concatenate(trains), np.repeat(np.arange(5), 3000)
    order = np.argsort(times, kind="stable")
    times, units = times[order], units[order]
    events = rng.uniform(1, 98, 40)
    window = {"pre_time": 0.5, "post_time": 1, "bin_size": 0.02}
    ours = cubes.align(spikes, events, (-0.5, 1), 0.02)
    theirs, centres = bin_spikes2D(times, units, np.arange(5), events, **window)
    np.testing.assert_array_equal(ours.counts.transpose("trial", "unit", "time").values, theirs)
    np.testing.assert_allclose(ours.time.values, centres, atol=1e-12)

    missing = np.r_[events, np.nan]  # one event that did not happen: zeros for all units and trials
    peths, _ = calculate_peths(times, units, np.arange(5), missing, 0.5, 1, 0.02, smoothing=0)
    assert (peths.means == 0).all()
    mean = cubes.align(spikes, missing, (-0.5, 1), 0.02).counts.mean("trial")
    np.testing.assert_allclose(mean.values, ours.counts.mean("trial").values)
    assert (bin_spikes2D(times, units, np.arange(5), missing, **window)[0][-1] == 0).all()
    assert cubes.align(spikes, missing, (-0.5, 1), 0.02).counts.isel(trial=-1).isnull().all()

    beyond = bin_spikes2D(times, units, np.arange(5), np.array([500.0]), **window)[0]
    assert (beyond == 0).all()  # silence, where nothing was recorded
    assert cubes.align(spikes, [500.0], (-0.5, 1), 0.02).counts.isnull().all()

    shuffled = bin_spikes2D(times, units, np.array([4, 3, 2, 1, 0]), events, **window)[0]
    np.testing.assert_array_equal(shuffled, theirs)  # whose rows are not those that were asked for
    reverse = cubes.align(spikes.isel(unit=[4, 3, 2, 1, 0]), events, (-0.5, 1), 0.02)
    xr.testing.assert_equal(reverse.counts, ours.counts.isel(unit=[4, 3, 2, 1, 0]))


def test_lazy_and_eager_are_the_same(sample_cubes, sample_source):
    pid = sample_source.insertions()[0].pid
    lazy = cubes.open(sample_cubes, pid)["spikes"]
    eager = cubes.open(sample_cubes, pid, chunks=None)["spikes"]
    a, b = (cubes.align(s, [3.0, 30.0, np.nan, 1e6], (-0.2, 0.5), 0.01) for s in (lazy, eager))
    assert a.counts.chunks is not None
    assert b.counts.chunks is None
    xr.testing.assert_identical(a.compute(), b)
    assert a.attrs["pid"] == pid
    assert "acronym_beryl" in a.coords
    assert a.coverage.sum("time").values.tolist() == [70, 70, 0, 0]


def test_labels_of_trials_are_there_to_group_by():
    trials = xr.Dataset(
        {"stimOn_times": ("trial", [1.0, 2.0, np.nan], {"units": "s"}), "choice": ("trial", [1.0, -1.0, 1.0])},
        {"trial": [4, 5, 6]},
    )
    aligned = cubes.align(spikes_dataset([np.array([1.05, 2.5])], 0, 10), trials, (0, 1), 0.5, on="stimOn_times")
    assert aligned.counts.groupby("choice").sum().values.tolist() == [[[0, 1], [1, 0]]]
    assert aligned.trial.values.tolist() == [4, 5, 6]
    assert aligned.attrs["aligned_to"] == "stimOn_times"
    assert aligned.time.attrs["bin_width"] == 0.5


@pytest.mark.parametrize("lazy", [False, True])
def test_a_counts_cube_gives_what_its_spikes_give_from_its_bin_edges(sample_cubes, sample_source, lazy):
    pid = sample_source.insertions()[0].pid
    tree = cubes.open(sample_cubes, pid, chunks="native" if lazy else None)
    edges = np.array([100, 501, 700]) * 0.02
    for width, stride in ((None, None), ("0.1", "0.04")):
        from_cube = cubes.align(tree["counts_20ms"], [*edges, np.nan, -5.0, 1e5], (-0.5, 1), width, stride)
        from_spikes = cubes.align(tree["spikes"], [*edges, np.nan, -5.0, 1e5], (-0.5, 1), width or 0.02, stride)
        np.testing.assert_array_equal(from_cube.counts.values, from_spikes.counts.values)
        np.testing.assert_allclose(from_cube.event_shift.values[:3], 0, atol=1e-12)
    between = cubes.align(tree["counts_20ms"], [edges[0] + 0.007, edges[1] - 0.004], (-0.5, 1))
    np.testing.assert_allclose(between.event_shift.values, [-0.007, 0.004], atol=1e-12)
    np.testing.assert_array_equal(between.counts.values, cubes.align(tree["counts_20ms"], edges[:2], (-0.5, 1)).counts)


def test_a_cut_cube_knows_its_own_times(sample_cubes, sample_source):
    counts = cubes.open(sample_cubes, sample_source.insertions()[0].pid)["counts_20ms"].counts
    whole, cut = (cubes.align(c, [30.0, 20.1], (-0.2, 0.2)) for c in (counts, counts.sel(time=slice(20, 40))))
    np.testing.assert_array_equal(cut.counts.isel(trial=0), whole.counts.isel(trial=0))
    assert np.isnan(cut.counts.isel(trial=1)).any()
    with pytest.raises(BadArgument, match="bins are missing"):
        cubes.align(counts.isel(time=[1, 2, 4]), [30.0], (-0.2, 0.2))
    with pytest.raises(BadArgument, match=r"width: expected a multiple of the 0\.02 s bins"):
        cubes.align(counts, [30.0], (-0.2, 0.2), 0.05)


def test_bins_at_the_ends_of_a_cut_cube_are_known(sample_cubes, sample_source):
    counts = cubes.open(sample_cubes, sample_source.insertions()[0].pid, chunks=None)["counts_20ms"].counts
    cut = counts.isel(unit=[0], time=slice(1667, 2885))
    at = np.r_[1667 + np.arange(30), 2885 - np.arange(30)]  # events, counted in bins
    aligned = cubes.align(cut, at * 0.02, (-0.3, 0.3), 0.1, 0.02)
    first = at[:, None] - 15 + np.arange(aligned.sizes["time"])
    whole = (first >= 1667) & (first + 5 <= 2885)
    np.testing.assert_array_equal(aligned.coverage == 1, whole)
    np.testing.assert_array_equal(aligned.counts.notnull()[0], whole)


@pytest.mark.parametrize("lazy", [False, True])
def test_samples_and_means_of_a_signal(lazy):
    time = np.arange(2000) / 250 + 3  # its value is its own time
    signal = xr.DataArray(
        np.stack([time, -time]), {"channel": [5, 6], "time": time}, ("channel", "time"), name="lfp"
    ).astype("float32")
    source = signal.chunk(time=300) if lazy else signal
    events = np.array([5.0013, 5.0, np.nan, 3.01, 2.0, 50.0])
    samples = cubes.align(source, events, (-0.02, 0.02))
    assert samples.lfp.dims == ("channel", "trial", "time")
    assert samples.sizes["time"] == 10
    np.testing.assert_allclose(samples.lfp.values[0, 0], 5.0 + np.arange(-5, 5) / 250, atol=1e-6)
    np.testing.assert_allclose(samples.event_shift.values[:2], [-0.0013, 0], atol=1e-9)
    assert np.isnan(samples.lfp.values[0, 2]).all()
    assert np.isnan(samples.lfp.values[0, 3]).tolist() == [True] * 3 + [False] * 7
    assert np.isnan(samples.lfp.values[:, 4:]).all()
    means = cubes.align(source, events, (-0.02, 0.02), 0.02)
    np.testing.assert_allclose(means.lfp.values[:, 0, 0], [4.992, -4.992], atol=1e-5)  # of 4.984, 4.988 ... 5.0
    np.testing.assert_allclose(means.lfp.values[:, 1, 1], [5.008, -5.008], atol=1e-5)
    assert np.isnan(means.lfp.values[:, 3, 0]).all()
    assert means.coverage.values[3].tolist() == pytest.approx([0.5, 1.0])


def test_voltage_with_a_computed_clock(sample_root_with_voltage, tmp_path):
    source = cubes.source("one", sample_root_with_voltage)
    pid = source.insertions()[0].pid
    cubes.build(cubes.plan(source, [pid], ["ap"], root=tmp_path / "c"))
    ap = cubes.open(tmp_path / "c", pid)["ap"].to_dataset()
    event = float(ap.time[30_000])
    aligned = cubes.align(ap.ap, [event + 1e-6], (-0.001, 0.001))
    np.testing.assert_array_equal(aligned.ap.isel(trial=0).values, ap.ap[:, 29_970:30_030].values)
    assert aligned.ap.attrs["units"] == "count"
    assert cubes.to_uv(ap.ap).attrs["units"] == "uV"
    assert cubes.align(cubes.to_uv(ap.ap), [event], (-0.001, 0.001)).ap.attrs["units"] == "uV"


def test_uneven_samples_need_bins():
    signal = xr.DataArray([1.0, 2.0, np.nan, 4.0], {"time": [0.0, 1.0, 1.1, 3.0]}, ("time",), name="x")
    with pytest.raises(BadArgument, match="not evenly spaced; give width"):
        cubes.align(signal, [1.0], (-0.5, 0.5))
    assert cubes.align(signal, [1.0], (-0.5, 0.5), 0.5).x.values[0].tolist() == pytest.approx(
        [np.nan, 2.0], nan_ok=True
    )


def test_rates_say_that_they_are_rates():
    counts = cubes.align(spikes_dataset([np.array([1.01, 1.02])], 0, 10), [1.0], (0, 0.1), 0.05).counts
    rate = cubes.to_rate(counts)
    assert rate.values.tolist() == [[[40.0, 0.0]]]
    assert rate.attrs["units"] == "Hz"
    assert counts.attrs["units"] == "1"
    with pytest.raises(BadArgument, match="are rates already"):
        cubes.to_rate(rate)
    with pytest.raises(BadArgument, match="bin_width"):
        cubes.to_rate(counts.drop_vars("time"))
    with pytest.raises(BadArgument, match="expected a DataArray"):
        cubes.to_rate(counts.to_dataset())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": (1, 0)}, "window: expected stop after start"),
        ({"window": (0, 0.01)}, "window: .* is shorter than a bin"),
        ({"window": 3}, "window: expected \\(start, stop\\)"),
        ({"width": None}, "width: expected the width of a bin"),
        ({"width": -1}, "bin width"),
        ({"stride": 0}, "stride: expected seconds"),
        ({"events": [[1.0]]}, "events: expected times in seconds along one dimension"),
        ({"events": ["a"]}, "events: expected times"),
        ({"events": [np.inf]}, "events: .* got infinity"),
        (
            {"events": xr.Dataset({"t": ("trial", [1.0], {"units": "s"})})},
            "on: expected one of the times .* t, got None",
        ),
        ({"on": "x"}, "on: only for events that are a Dataset"),
        ({"support": (3, 2)}, "support: expected"),
        (
            {"events": xr.Dataset({"contrast": ("trial", [1.0], {"units": "1"})}), "on": "contrast"},
            "on: expected one of the times of the events, none, got 'contrast'",
        ),
        (
            {
                "events": xr.Dataset(
                    {
                        "duration": ("trial", [1.0], {"units": "s"}),
                        "stimOn_times": ("trial", [1.0], {"units": "s", "clock": "session"}),
                    },
                    attrs={"Conventions": "ACDD-1.3 ibl-cubes-1"},
                ),
                "on": "duration",
            },
            "on: expected one of the times of the events, stimOn_times, got 'duration'",
        ),
        ({"events": xr.DataArray([1.0], dims="unit")}, "events: their dimension cannot be called unit"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"events": [1.0], "window": (0, 1), "width": 0.1} | change
    with pytest.raises(BadArgument, match=message):
        cubes.align(spikes_dataset([np.array([1.0])], 0, 10), **arguments)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("my-cubes", "source: expected a Dataset, DataTree or DataArray, got str"),
        (
            xr.Dataset({"b": ("time", [1.0]), "a": ("time", [1.0])}),
            "one signal along time, got .* signals a, b; choose",
        ),
        (xr.DataTree(), "signals none; choose a product"),
    ],
)
def test_sources_that_are_none(source, message):
    with pytest.raises(BadArgument, match=message):
        cubes.align(source, [1.0], (0, 1), 0.1)


def test_events_of_another_session_are_refused():
    spikes = spikes_dataset([np.array([1.0])], 0, 10)
    trials = xr.Dataset({"t": ("trial", [1.0], {"units": "s"})}, attrs={"eid": "one"})
    cubes.align(spikes, trials, (0, 1), 0.1, on="t")  # that of the spikes is not known
    cubes.align(spikes.assign_attrs(eid="one"), trials, (0, 1), 0.1, on="t")
    with pytest.raises(BadArgument, match=r"events: expected those of session two, .* got those of session one"):
        cubes.align(spikes.assign_attrs(eid="two"), trials, (0, 1), 0.1, on="t")


def test_nothing_is_a_result_too():
    assert cubes.align(spikes_dataset([], 0, 10), [1.0], (0, 1), 0.5).counts.shape == (0, 1, 2)
    assert cubes.align(spikes_dataset([np.array([1.0])], 0, 10), [], (0, 1), 0.5).counts.shape == (1, 0, 2)
    assert cubes.align(spikes_dataset([np.array([1.0])], 0, 10).chunk(), [], (0, 1), 0.5).counts.shape == (1, 0, 2)


@pytest.mark.parametrize("region", ["BMA", "CEA", "GPe", "LGd"])
def test_counts_of_a_real_session_come_back(region):
    """Spikes put anywhere into the real trial windows, as many as the real session has there, and in between.

    The spikes themselves are not published with these files. Their last three trials have no times, and counts of 0.
    """
    folder = Path(__file__).parents[2] / "shared/realdata/prior-localization"
    if not folder.exists():
        pytest.skip("needs the real recordings in ../shared/realdata")
    intervals, real = np.load(folder / "intervals.npy"), np.load(folder / f"merged_{region}_ephys_in.npy")
    rng = np.random.default_rng(5)
    known = ~np.isnan(intervals[:, 0])
    starts = intervals[known, 0]
    trains = []
    for counts in real.T:
        inside = np.repeat(starts, counts[known]) + rng.uniform(0, 0.4999, int(counts[known].sum()))
        inside[:3] = np.repeat(starts, counts[known])[:3]  # on the edge, which belongs to the window
        between = np.r_[starts + 0.5, starts - 1e-9]  # the other edge does not, nor does what comes before
        trains.append(np.sort(np.r_[inside, between]))
    last = max(train[-1] for train in trains) + 10
    aligned = cubes.align(spikes_dataset(trains, 0.0, last), intervals[:, 0], (0, 0.5), 0.5).counts.isel(time=0)
    np.testing.assert_array_equal(aligned.values[:, known], real[known].T)
    assert known.sum() == 422
    assert (real[~known] == 0).all()  # silence in theirs, although nobody knows
    assert np.isnan(aligned.values[:, ~known]).all()
