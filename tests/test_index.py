"""The computed time coordinate gives what a dense one does, without its memory."""

import copy
import pickle
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from cubes.index import ClockIndex, NoSuchTime, SampleTimes, attach_clock
from loaders import sample
from loaders.clock import Clock
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound

FOUR_HOURS = 4 * 3600 * 30000


def voltage(n: int, knots: Any = ((0.0, 300.0, 600.0), (0.5, 0.5101, 0.5201)), **attrs: int) -> xr.Dataset:
    """Two channels, no coordinate of time yet."""
    data = np.arange(2 * n, dtype=np.int32).reshape(2, n)
    return xr.Dataset(
        {
            "ap": (("channel", "time"), data),
            "knot_sample": ("knot", np.asarray(knots[0]), attrs),
            "knot_time": ("knot", np.asarray(knots[1])),
        }
    )


def dense(ds: Any) -> Any:
    """The same with ordinary labels."""
    return ds.drop_vars("time").assign_coords(time=("time", ds.time.values, ds.time.attrs))


def is_lazy(ds: xr.Dataset | xr.DataArray) -> bool:
    return isinstance(ds.xindexes.get("time"), ClockIndex)


def same(lazy: Any, expected: Any) -> None:
    """Identical, to the last bit; xarray compares the kinds of index too, so these may differ only on purpose."""
    assert lazy.time.values.tobytes() == expected.time.values.tobytes()
    xr.testing.assert_identical(dense(lazy) if is_lazy(lazy) and not is_lazy(expected) else lazy, expected)


@st.composite
def recordings(draw: st.DrawFn) -> xr.Dataset:
    """Knots of any spacing, within or beyond the samples, then cut with any step in either direction."""
    n = draw(st.integers(1, 60))
    gaps = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    seconds = draw(st.lists(st.floats(1e-5, 1e-2), min_size=len(gaps), max_size=len(gaps)))
    first = draw(st.integers(-20, 30))
    samples = np.cumsum([first, *gaps]).astype(float)
    times = np.cumsum([draw(st.floats(-10, 5000)), *(np.array(gaps) * seconds)])
    start = draw(st.integers(0, 5))
    ds = attach_clock(voltage(n, (samples, times), first_sample=start))
    step = draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2]))
    return ds.isel(time=slice(draw(st.none() | st.integers(-60, 60)), None, step))


@st.composite
def times_near(draw: st.DrawFn, ds: xr.Dataset) -> float:
    """A label, one beside it by one unit in the last place, half way between two, or anywhere."""
    if not ds.sizes["time"]:
        return draw(st.floats(-10, 10))
    labels = ds.time.values
    label = draw(st.sampled_from(labels.tolist()))
    other = draw(st.sampled_from(labels.tolist()))
    near = [label, np.nextafter(label, np.inf), np.nextafter(label, -np.inf), (label + other) / 2]
    return float(draw(st.sampled_from(near) | st.floats(labels.min() - 0.01, labels.max() + 0.01)))


@given(st.data())
def test_slices_are_those_of_a_dense_coordinate(data: st.DataObject) -> None:
    ds = data.draw(recordings())
    bound = st.none() | times_near(ds) | st.sampled_from([np.inf, -np.inf])
    label = slice(data.draw(bound), data.draw(bound), data.draw(st.sampled_from([None, 1, 2, 7, -1, -3])))
    result = ds.sel(time=label)
    assert is_lazy(result)
    if ds.sizes["time"] > 1:  # of one label or none pandas cannot know the direction
        same(result, dense(ds).sel(time=label))


@given(st.data())
def test_nearest_is_that_of_a_dense_coordinate(data: st.DataObject) -> None:
    ds = data.draw(recordings().filter(lambda ds: ds.sizes["time"] > 0))
    wanted = data.draw(st.lists(times_near(ds), min_size=1, max_size=5))
    times = np.clip(wanted, ds.time.values.min(), ds.time.values.max())
    expected = dense(ds)
    same(ds.sel(time=times, method="nearest"), expected.sel(time=times, method="nearest"))
    same(ds.sel(time=times[0], method="nearest"), expected.sel(time=times[0], method="nearest"))
    tolerance = data.draw(st.sampled_from([0.0, 1e-6, 1e-3, 1.0]))
    outcomes: list[Any] = []
    for each in (ds, expected):
        try:
            outcomes.append(each.sel(time=wanted, method="nearest", tolerance=tolerance))
        except KeyError:
            outcomes.append(None)
    assert (outcomes[0] is None) == (outcomes[1] is None)
    if outcomes[0] is not None:
        same(*outcomes)


@given(recordings(), st.slices(60), st.slices(60))
def test_positions_are_those_of_a_dense_coordinate(ds: xr.Dataset, first: slice, second: slice) -> None:
    result = ds.isel(time=first).isel(time=second)
    assert is_lazy(result)
    same(result, dense(ds).isel(time=first).isel(time=second))


@given(recordings(), st.data())
def test_windows_come_together_again(ds: xr.Dataset, data: st.DataObject) -> None:
    size = ds.sizes["time"]
    cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))
    bounds = zip([0, *cuts], [*cuts, size], strict=True)
    whole = xr.concat([ds.isel(time=slice(a, b)) for a, b in bounds], "time")
    assert is_lazy(whole)
    assert whole.xindexes["time"].equals(ds.xindexes["time"])
    same(whole, ds)


def test_times_are_interpolated_knots() -> None:
    ds = attach_clock(voltage(601))
    expected = np.interp(np.arange(601), [0, 300, 600], [0.5, 0.5101, 0.5201])
    assert ds.time.values.tobytes() == expected.tobytes()
    assert ds.sel(time=slice(0.505, 0.506)).time.values.tobytes() == expected[149:179].tobytes()
    assert ds.time.attrs == {"units": "s", "long_name": "time of the sample", "axis": "T", "clock": "session"}
    assert set(ds.coords) == {"time", "knot_sample", "knot_time"}


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_sample_against_the_closed_form(sample_root: Path, probe: sample.SampleProbe) -> None:
    knots = np.load(next((sample_root / probe.session / "raw_ephys_data" / probe.probe).glob("*.timestamps.npy"))).T
    empty = da.zeros((2, probe.clock.n_samples), chunks=(2, 30000), dtype=np.int16)
    ds = attach_clock(voltage(1, knots).drop_vars("ap").assign(ap=(("channel", "time"), empty)))
    for start in (10.0, 55.5):
        window = ds.sel(time=slice(start, start + 1))
        first, last = np.ceil(probe.clock.samples(start)), np.floor(probe.clock.samples(start + 1))
        assert abs(window.sizes["time"] - (last - first + 1)) <= 1
        expected = probe.clock.session_s(np.arange(first, last + 1))
        np.testing.assert_allclose(window.time.values[:100], expected[:100], rtol=0, atol=1e-9)


def test_exact_labels_need_no_method() -> None:
    ds = attach_clock(voltage(601))
    label = float(ds.time[123])
    assert int(ds.ap.sel(time=label)[0]) == 123
    same(ds.sel(time=ds.time.values[[5, 3]]), dense(ds).isel(time=[5, 3]))
    with pytest.raises(NoSuchTime, match="pass method='nearest'"):
        ds.sel(time=np.nextafter(label, 1))


def test_a_time_that_no_sample_covers_is_refused() -> None:
    ds = attach_clock(voltage(601))
    last = float(ds.time[-1])
    assert int(ds.ap.sel(time=last + 1e-5, method="nearest")[0]) == 600  # within half a sample
    with pytest.raises(NoSuchTime, match=r"0\.6.* and 1 more: the samples here cover 0\.49\d+ to 0\.52"):
        ds.sel(time=[0.51, 0.6, 0.7], method="nearest")
    for error in (KeyError, NotFound):
        with pytest.raises(error, match=r"within 0\.001 s"):
            ds.sel(time=0.53, method="nearest", tolerance=1e-3)
    assert int(ds.ap.sel(time=0.53, method="nearest", tolerance=0.1)[0]) == 600
    with pytest.raises(NoSuchTime, match="not a time"):
        ds.sel(time=np.nan, method="nearest")
    with pytest.raises(NoSuchTime, match="no samples"):
        ds.isel(time=slice(0)).sel(time=0.5, method="nearest")


def test_slices_off_the_recording_are_empty_or_clipped() -> None:
    ds = attach_clock(voltage(601))
    for label in (slice(5, 6), slice(-2, -1), slice(0.52, 0.51)):
        assert ds.sel(time=label).sizes["time"] == 0
    assert ds.sel(time=slice(-9, 9)).sizes["time"] == 601
    assert ds.sel(time=slice(5, 6)).sel(time=slice(0, 1)).time.values.size == 0
    assert "empty" in repr(ds.sel(time=slice(5, 6)).xindexes["time"])


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (slice(np.nan, 1), {}, "single times in seconds, got nan"),
        (slice([0, 1], 2), {}, "single times in seconds"),
        (slice(0, 1, 0.5), {}, "counts samples, expected an integer"),
        (slice(0, 1, 0), {}, "counts samples"),
        (slice(0, 1), {"method": "nearest"}, "single times"),
        (slice("a", "b"), {}, "seconds as numbers"),
        (np.timedelta64(1, "s"), {"method": "nearest"}, "seconds as numbers, got timedelta64"),
        (0.51, {"method": "ffill"}, "None or 'nearest', got 'ffill'"),
        (0.51, {"tolerance": 1.0}, "needs method='nearest'"),
    ],
)
def test_labels_that_mean_nothing_are_refused(label: Any, options: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        attach_clock(voltage(601)).sel(time=label, **options)


def test_labelled_arrays_of_times_keep_their_dimensions() -> None:
    ds = attach_clock(voltage(601))
    onsets = xr.DataArray([[0.501, 0.502], [0.511, 0.512]], dims=("trial", "lag"), coords={"trial": [7, 9]})
    result = ds.ap.sel(time=onsets, method="nearest")
    assert result.sizes == {"channel": 2, "trial": 2, "lag": 2}
    same(result, dense(ds).ap.sel(time=onsets, method="nearest"))
    one = onsets[0].rename(trial="number")
    same(ds.ap.sel(time=one.variable, method="nearest"), dense(ds).ap.sel(time=one.variable, method="nearest"))
    same(ds.sel(time=onsets[0, 0], method="nearest"), dense(ds).sel(time=onsets[0, 0], method="nearest"))


@pytest.mark.parametrize("where", [5, -1, [3, 1, -2], [], np.arange(601) % 7 == 0, xr.Variable("time", [4, 2])])
def test_other_positions_give_stored_labels(where: Any) -> None:
    ds = attach_clock(voltage(601))
    result = ds.isel(time=where)
    assert not is_lazy(result)
    same(result, dense(ds).isel(time=where))
    assert list(result.xindexes) == list(dense(ds).isel(time=where).xindexes)


def test_positions_off_the_end_are_an_index_error() -> None:
    for where in ([601], [-602], 601):
        with pytest.raises(IndexError):
            attach_clock(voltage(601)).isel(time=where).load()


def test_points_have_no_index() -> None:
    ds = attach_clock(voltage(601))
    where = xr.DataArray([1, 5], dims="event")
    same(ds.isel(time=where), dense(ds).isel(time=where))


def test_concat_of_windows_that_do_not_meet_has_stored_labels() -> None:
    ds = attach_clock(voltage(601))
    other = attach_clock(voltage(601, ((0.0, 600.0), (0.5, 0.53))))
    a, b, c = ds.isel(time=slice(0, 10)), ds.isel(time=slice(20, 30)), ds.isel(time=[40, 41])
    for parts in ([a, b], [b, a], [a, a], [a, c], [c, a], [a, other.isel(time=slice(10, 20))]):
        parts = [part.drop_vars(["knot_sample", "knot_time"]) for part in parts]
        result = xr.concat(parts, "time")
        assert not is_lazy(result)
        same(result, xr.concat([dense(part) for part in parts], "time"))
    assert result.time.attrs["units"] == "s"
    assert is_lazy(xr.concat([ds.isel(time=slice(0, 1)), ds.isel(time=slice(3, 4))], "time"))


def test_groups_come_together_in_order() -> None:
    ds = attach_clock(voltage(601)).isel(time=slice(0, 9)).assign_coords(even=("time", np.arange(9) % 2))
    same(ds.groupby("even").map(lambda part: part * 2), dense(ds).groupby("even").map(lambda part: part * 2))


def test_names_can_change() -> None:
    ds = attach_clock(voltage(601))
    renamed = ds.rename(time="t")
    assert isinstance(renamed.xindexes["t"], ClockIndex)
    assert renamed.sel(t=slice(0.505, 0.506)).sizes["t"] == 30
    assert renamed.t.attrs == ds.time.attrs
    assert not renamed.xindexes["t"].equals(ds.xindexes["time"])


def test_equal_means_the_same_samples_of_the_same_clock() -> None:
    ds = attach_clock(voltage(601))
    index, again = ds.xindexes["time"], attach_clock(voltage(601)).xindexes["time"]
    assert index.equals(again)
    others = [
        ds.isel(time=slice(1, None)),
        ds.isel(time=slice(None, None, 2)),
        attach_clock(voltage(601, ((0.0, 600.0), (0.5, 0.53)))),
        attach_clock(voltage(601, first_sample=1)),
    ]
    for other in others:
        assert not index.equals(other.xindexes["time"])
    assert not index.equals(dense(ds).xindexes["time"])
    xr.align(ds, attach_clock(voltage(601)), join="exact")
    with pytest.raises(ValueError, match=r"cannot align|join"):
        xr.align(ds, others[0], join="exact")


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda ds: ds.copy(deep=True), lambda ds: pickle.loads(pickle.dumps(ds))],
    ids=["copy", "deepcopy", "Dataset.copy", "pickle"],
)
def test_duplicates_stay_computed(duplicate: Callable[[xr.Dataset], xr.Dataset]) -> None:
    ds = attach_clock(voltage(601)).isel(time=slice(5, 500, 3))
    again = duplicate(ds)
    assert is_lazy(again)
    assert again.xindexes["time"].equals(ds.xindexes["time"])
    same(again.sel(time=slice(0.505, 0.506)), ds.sel(time=slice(0.505, 0.506)))


def test_pickles_are_small() -> None:
    ds = attach_clock(long_recording())
    assert len(pickle.dumps(ds.xindexes["time"])) < 13_000  # 721 knots of 16 bytes


def test_arithmetic_dask_and_trees_keep_it() -> None:
    ds = attach_clock(voltage(601)).chunk(time=100)
    window = (ds.ap * 2.34).astype(np.float32).sel(time=slice(0.505, 0.51))
    assert is_lazy(window)
    assert window.chunks is not None
    same(window.compute(), (dense(ds).ap * 2.34).astype(np.float32).sel(time=slice(0.505, 0.51)).compute())
    assert is_lazy(xr.DataTree.from_dict({"/": xr.Dataset(), "ap": ds})["ap"].to_dataset())
    assert is_lazy(ds.ap - ds.ap.mean("channel"))
    blocks = ds.isel(time=slice(0, 200)).map_blocks(lambda part: part)
    np.testing.assert_array_equal(blocks.compute().time.values, ds.time.values[:200])


def test_loaded_windows_are_still_computed() -> None:
    window = attach_clock(voltage(601)).isel(time=slice(50, 500)).load()
    assert is_lazy(window)
    same(window.sel(time=slice(0.505, 0.506)), dense(window).sel(time=slice(0.505, 0.506)))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_saved_window_has_plain_times(tmp_path: Path, zarr_format: int) -> None:
    window = attach_clock(voltage(601)).sel(time=slice(0.505, 0.51))
    window.to_zarr(tmp_path / "w.zarr", zarr_format=zarr_format, consolidated=False)
    again = xr.open_zarr(tmp_path / "w.zarr", consolidated=False, chunks=None)
    np.testing.assert_array_equal(again.time.values, window.time.values)
    assert again.time.attrs == window.time.attrs
    with pytest.raises(BadArgument, match="only once"):
        attach_clock(again)


def test_a_plain_store_gets_its_clock(tmp_path: Path) -> None:
    voltage(601).to_zarr(tmp_path / "ap.zarr", consolidated=False)
    ds = attach_clock(xr.open_zarr(tmp_path / "ap.zarr", consolidated=False))
    np.testing.assert_array_equal(ds.sel(time=slice(0.505, 0.506)).ap, voltage(601).ap[:, 149:179])
    assert ds.sel(time=slice(0.505, 0.506)).ap.chunks is not None


def test_parts_of_a_recording_know_where_they_start() -> None:
    whole = attach_clock(voltage(601))
    part = attach_clock(voltage(101, first_sample=300, n_samples=101))
    np.testing.assert_array_equal(part.time, whole.time[300:401])


def test_samples_beyond_the_knots_are_told() -> None:
    ds = attach_clock(voltage(1201))
    assert ds.time.attrs["extrapolated_s"] == [0.0, pytest.approx(0.02)]
    assert ds.sel(time=slice(0.505, 0.506)).time.attrs == ds.time.attrs
    before = attach_clock(voltage(601, ((300.0, 600.0), (0.51, 0.52))))
    assert before.time.attrs["extrapolated_s"] == [pytest.approx(0.01), 0.0]


def test_what_has_no_clock_is_refused() -> None:
    ds = voltage(601)
    with pytest.raises(BadArgument, match="no knot_sample and no knot_time"):
        attach_clock(ds.drop_vars(["knot_sample", "knot_time"]))
    with pytest.raises(BadArgument, match="no knot_time"):
        attach_clock(ds.drop_vars("knot_time"))
    with pytest.raises(BadArgument, match="dimension time without a coordinate"):
        attach_clock(ds.rename(time="sample"))
    with pytest.raises(BadArgument, match="only once"):
        attach_clock(attach_clock(ds))
    with pytest.raises(InconsistentData, match="601 samples have these knots, time has 10; attach the clock, then cut"):
        attach_clock(voltage(601, n_samples=601).isel(time=slice(0, 10)))
    with pytest.raises(CorruptData, match="must increase"):
        attach_clock(voltage(601, ((0.0, 300.0, 200.0), (0.5, 0.51, 0.52))))
    with pytest.raises(BadArgument, match="n_samples"):
        attach_clock(voltage(0))


def test_all_labels_as_a_pandas_index() -> None:
    ds = attach_clock(voltage(601))
    pd.testing.assert_index_equal(ds.indexes["time"], dense(ds).indexes["time"])


def test_very_steep_and_very_flat_lines() -> None:
    clock = Clock([0, 1, 2, 1e6], [5000.0, 5000.0 + 1e-10, 5001.0, 5001.1], 1000)
    index = ClockIndex(SampleTimes(clock, 1000))
    ds = xr.Dataset({"x": ("time", np.arange(1000))}).assign_coords(xr.Coordinates.from_xindex(index))
    for label in ds.time.values[[0, 1, 2, 3, 500, 999]]:
        assert ds.sel(time=slice(label, label)).sizes["time"] == 1


def long_recording() -> xr.Dataset:
    """Four hours of AP, knots every 20 s that begin late and end early."""
    samples = np.linspace(100, FOUR_HOURS - 5000, 721)
    seconds = samples / 30000.390639481 + 0.5 + 1e-4 * np.sin(samples / 1e9)
    data = da.zeros((384, FOUR_HOURS), chunks=(384, 30000 * 60), dtype=np.int16)
    return xr.Dataset(
        {"ap": (("channel", "time"), data), "knot_sample": ("knot", samples), "knot_time": ("knot", seconds)}
    )


CHEAP: dict[str, Callable[[xr.Dataset], Any]] = {
    "repr": repr,
    "html": lambda ds: ds._repr_html_(),
    "repr of the times": lambda ds: repr(ds.time),
    "repr of a tree": lambda ds: repr(xr.DataTree.from_dict({"/": xr.Dataset(), "ap": ds})),
    "slice": lambda ds: ds.sel(time=slice(7000, 7001)).time.values,
    "nearest": lambda ds: ds.sel(time=7000.0, method="nearest"),
    "steps": lambda ds: ds.isel(time=slice(None, None, 12)).sel(time=slice(7000, 7001)).time.values,
    "backwards": lambda ds: ds.isel(time=slice(None, None, -1)).sel(time=slice(7001, 7000)).time.values,
    "copy": copy.deepcopy,
    "pickle": lambda ds: pickle.loads(pickle.dumps(ds.time)),
    "arithmetic": lambda ds: ds.ap * 2.34,
    "align": lambda ds: xr.align(ds, ds.copy(deep=True), join="exact"),
    "rename": lambda ds: ds.rename(time="t"),
    "last": lambda ds: ds.time[-1].values,
}


@pytest.mark.parametrize("name", CHEAP)
def test_four_hours_cost_nothing(name: str) -> None:
    recording = long_recording()
    CHEAP[name](attach_clock(recording))  # imports what it needs
    tracemalloc.start()
    try:
        start = time.perf_counter()
        ds = attach_clock(recording)
        attached_s = time.perf_counter() - start
        CHEAP[name](ds)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert attached_s < 0.05
    assert peak < 10e6


def test_four_hours_take_no_time() -> None:
    ds = attach_clock(long_recording())
    for act, limit_s in (
        (lambda: repr(ds.time), 0.01),
        (lambda: ds.sel(time=slice(7000, 7001)), 0.01),
        (lambda: ds.sel(time=7000.0, method="nearest"), 0.01),
    ):
        assert min(_duration(act) for _ in range(5)) < limit_s


def _duration(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
