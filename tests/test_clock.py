"""The clock, against the closed form of the sample, numpy, and IBL's own loader."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders import sample
from loaders.clock import Clock
from loaders.errors import BadArgument, CorruptData, InconsistentData

A, B, C = sample.SAMPLE
AP_HZ, LF_HZ = 30000.390639481, 2500.0325532900833  # imSampRate of sample3B_g0_t0.imec1.{ap,lf}.meta (ibl-neuropixel)
MICROSECOND = 1e-6


def timestamps(root: Path, probe: sample.SampleProbe, suffix: str = "timestamps") -> np.ndarray:
    return np.load(next((root / probe.session / "raw_ephys_data" / probe.probe).glob(f"*.{suffix}.npy")))


def loader(one: Any, probe: sample.SampleProbe) -> Any:
    from brainbox.io.one import SpikeSortingLoader

    return SpikeSortingLoader(one=one, pid=probe.pid, atlas=object())


@st.composite
def clocks(draw: st.DrawFn) -> Clock:
    """Any rate, drift and spacing of knots; the recording may end before the knots, or after."""
    gaps = draw(st.lists(st.floats(1, 1e6), min_size=1, max_size=8))
    drift = draw(st.lists(st.floats(-1e-3, 1e-3), min_size=len(gaps), max_size=len(gaps)))
    rate = draw(st.sampled_from([30000.0, AP_HZ, LF_HZ]))
    samples = np.cumsum([draw(st.floats(-1e4, 1e6)), *gaps])
    times = np.cumsum([draw(st.floats(-100, 1e4)), *(np.array(gaps) * (1 + np.array(drift)) / rate)])
    return Clock(samples, times, draw(st.none() | st.integers(1, 10**7)))


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_sample_clock_is_the_closed_form(sample_root: Path, probe: sample.SampleProbe) -> None:
    truth = probe.clock
    clock = Clock.from_timestamps(timestamps(sample_root, probe), truth.n_samples, rate_hz=truth.fs_hz)
    samples = np.linspace(0, truth.n_samples - 1, 100_001)
    np.testing.assert_allclose(clock.seconds(samples), truth.session_s(samples), rtol=0, atol=1e-9)
    np.testing.assert_allclose(clock.samples(truth.session_s(samples)), samples, rtol=0, atol=1e-5)
    lf = clock.for_lf(truth.n_samples // 12)
    np.testing.assert_allclose(
        lf.seconds(np.arange(10_000)), truth.session_s(12 * np.arange(10_000)), rtol=0, atol=1e-9
    )
    sync = Clock.from_sync(timestamps(sample_root, probe, "sync"), truth.fs_hz, truth.n_samples)
    np.testing.assert_allclose(sync.knot_sample, clock.knot_sample, rtol=0, atol=1e-6)


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_agrees_with_the_ibl_loader(one_local: Any, sample_root: Path, probe: sample.SampleProbe) -> None:
    ssl = loader(one_local, probe)
    clock = Clock.from_timestamps(timestamps(sample_root, probe), probe.clock.n_samples)
    last = int(clock.knot_sample[-1])
    ap = np.append(np.arange(0, last, 997), last)
    lf = np.append(np.arange(0, last // 12, 97), last // 12)
    theirs = ssl.samples2times(ap)
    assert np.abs(clock.seconds(ap) - theirs).max() < MICROSECOND
    assert np.abs(clock.samples(theirs) - ssl.samples2times(theirs, direction="reverse")).max() < 0.03  # 1 us
    theirs = ssl.samples2times(lf, fs=ssl._sync["fs"] / 12)
    assert np.abs(clock.for_lf().seconds(lf) - theirs).max() < MICROSECOND


def test_lf_back_to_samples_is_right_where_the_ibl_loader_is_wrong(one_local: Any, sample_root: Path) -> None:
    ssl = loader(one_local, A)
    clock = Clock.from_timestamps(timestamps(sample_root, A)).for_lf()
    seconds = clock.seconds(250_000)
    assert clock.samples(seconds) == pytest.approx(250_000, abs=1e-6)
    theirs = ssl.samples2times(seconds, direction="reverse", fs=2500)  # D7: the ratio multiplies the seconds
    assert abs(float(theirs) - 250_000) > 1e6


def test_nominal_rates_drift_where_the_ratio_of_12_does_not(one_local: Any, sample_root: Path) -> None:
    for ap_hz, lf_hz in ((AP_HZ, LF_HZ), (29999.762343096234, 2499.9801952580196)):  # the other: CatGT, neuroconv
        assert ap_hz / lf_hz == pytest.approx(12, rel=1e-13)
    clock = Clock.from_timestamps(timestamps(sample_root, A)).for_lf()
    late = int(clock.knot_sample[-1])
    wrong_s = float(loader(one_local, A).samples2times(late, fs=2500)) - float(clock.seconds(late))
    assert wrong_s / (late / LF_HZ) == pytest.approx(1.3e-5, rel=0.01)  # 47 ms an hour


def test_nothing_is_extrapolated_in_silence(one_local: Any, sample_root: Path) -> None:
    ssl, table = loader(one_local, A), timestamps(sample_root, A)
    clock = Clock.from_timestamps(table)
    beyond = int(table[-1, 0]) + 10**7
    assert np.isfinite(ssl.samples2times(beyond))  # D8
    for values, convert in ((beyond, clock.seconds), (-1, clock.seconds), (1e6, clock.samples), (-1e3, clock.samples)):
        with pytest.raises(BadArgument, match=r"outside the recording.*outside='nan'"):
            convert(values)
        assert np.isnan(convert(values, outside="nan"))
    assert clock.seconds(beyond, outside="extrapolate") == pytest.approx(float(ssl.samples2times(beyond)), abs=1e-9)
    with pytest.raises(BadArgument, match="'raise', 'nan' or 'extrapolate', got 'clip'"):
        clock.seconds(0, outside="clip")  # type: ignore[arg-type]


def test_the_error_names_the_support_and_counts() -> None:
    clock = Clock([10, 20], [1.0, 2.0], 31)
    with pytest.raises(BadArgument, match=r"lasts from 0\.000000 to 3\.000000 s with knots.*\(2 of 3.* is 9\)"):
        clock.samples([1.5, 9.0, -4.0])
    with pytest.raises(BadArgument, match=r"samples 0 to 30 \(1 of 1, the first is 31\)"):
        clock.seconds(31)


def test_samples_of_the_recording_beyond_the_knots_have_flagged_times() -> None:
    clock = Clock([10, 20, 40], [1.0, 2.0, 3.0], 61)
    assert clock.support == (1.0, 3.0)
    assert clock.extent == (0.0, 4.0)
    assert clock.extrapolated_s == (1.0, 1.0)
    np.testing.assert_allclose(clock.seconds([0, 5, 60]), [0.0, 0.5, 4.0])
    np.testing.assert_array_equal(clock.is_extrapolated([0, 10, 40, 41, 60]), [True, False, False, True, True])
    np.testing.assert_allclose(clock.samples([0.0, 4.0]), [0, 60])
    assert Clock([10, 20], [1.0, 2.0], 15).extrapolated_s == (1.0, 0.0)  # the knots may outlast the recording
    assert Clock([10, 20], [1.0, 2.0]).extrapolated_s == (0.0, 0.0)


def test_reference_probes_have_two_knots_a_second_apart() -> None:
    clock = Clock.from_timestamps([[0.0, 0.0], [30000.0, 1.0]], 108_000_000, rate_hz=30000.0)
    assert clock.extrapolated_s == (0.0, pytest.approx(3599 - 1 / 30000))
    assert clock.samples(3000.0) == pytest.approx(90_000_000, abs=1e-6)


@given(clocks(), st.lists(st.floats(-1e5, 1e7), min_size=1, max_size=20))
def test_both_ways_are_inverse(clock: Clock, samples: list[float]) -> None:
    seconds = clock.seconds(samples, outside="extrapolate")
    np.testing.assert_allclose(clock.samples(seconds, outside="extrapolate"), samples, rtol=0, atol=1e-6)


@given(clocks(), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_inside_the_knots_it_is_interpolation(clock: Clock, fractions: list[float]) -> None:
    first, last = clock.knot_sample[[0, -1]]
    samples = np.clip(first + np.array(fractions) * (last - first), first, last)
    expected = np.interp(samples, clock.knot_sample, clock.knot_time)
    np.testing.assert_array_equal(clock.seconds(samples), expected)
    assert not clock.is_extrapolated(samples).any()
    if clock.n_samples is not None:
        assert np.isfinite(clock.samples(clock.seconds([0, clock.n_samples - 1]))).all()


def test_missing_values_stay_missing() -> None:
    clock = Clock([0, 10], [1.0, 2.0])
    np.testing.assert_array_equal(clock.samples([1.5, np.nan]), [5.0, np.nan])
    assert np.isnan(clock.seconds(np.nan))
    with pytest.raises(BadArgument):
        clock.seconds(np.inf)


def test_shapes_are_kept() -> None:
    clock = Clock([0, 10], [1.0, 2.0])
    assert clock.seconds(3).shape == ()
    assert clock.seconds(np.zeros((2, 3), dtype=np.int32)).shape == (2, 3)
    assert clock.samples([]).shape == (0,)


def test_a_clock_is_a_value() -> None:
    samples = np.array([0.0, 10.0])
    clock = Clock(samples, [1.0, 2.0], 100, "here")
    samples[:] = 7
    again = pickle.loads(pickle.dumps(clock))
    assert again == clock == Clock([0, 10], [1, 2], 100)
    assert hash(again) == hash(clock)
    assert len(pickle.dumps(clock)) < 1000
    assert clock != Clock([0, 10], [1, 2.1], 100)
    assert clock != Clock([0, 10], [1, 2], 101)
    assert clock != "clock"
    with pytest.raises(AttributeError):
        clock.n_samples = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        again.knot_time[0] = 0.0


def test_other_bands() -> None:
    clock = Clock([0, 120], [0.5, 1.5], 240)
    lf = clock.for_lf(21)
    assert lf.seconds(5) == clock.seconds(60)
    assert lf.n_samples == 21
    assert clock.scaled(2.0).knot_sample.tolist() == [0, 60]
    for ratio in (0, -1, np.nan):
        with pytest.raises(BadArgument, match="ratio"):
            clock.scaled(ratio)


BROKEN = [
    ([[0, 0.0]], "at least two knots, got 1"),
    (np.zeros((0, 2)), "at least two knots, got 0"),
    ([0.0, 1.0], r"two columns .* got shape \(2,\)"),
    (np.zeros((3, 3)), r"two columns .* got shape \(3, 3\)"),
    ([[0, 0.0], [np.nan, 1.0]], "the sample of knot 1 is nan"),
    ([[0, 0.0], [1, np.inf]], "the time of knot 1 is inf"),
    ([[0, 0.0], [30000, 1.0], [30000, 2.0]], "samples of the knots must increase, knot 2 .30000"),
    ([[0, 0.0], [30000, 1.0], [60000, 1.0]], "times of the knots must increase, knot 2"),
    ([[60000, 2.0], [30000, 1.0], [0, 0.0]], "must increase, knot 1"),
    ([["a", "b"], ["c", "d"]], "not numbers"),
    ([[0, 1e4], [30000, 10001.0], [1e9, 10001.0 + 1e-9]], "less than float64 can tell"),
]


@pytest.mark.parametrize(("table", "message"), BROKEN)
def test_broken_knots_are_refused(table: Any, message: str) -> None:
    with pytest.raises(CorruptData, match=message) as caught:
        Clock.from_timestamps(table, name="raw/probe00/x.timestamps.npy")
    assert str(caught.value).startswith("raw/probe00/x.timestamps.npy: ")


def test_other_bad_arguments() -> None:
    with pytest.raises(CorruptData, match=r"shapes \(2,\) and \(3,\)"):
        Clock([0, 1], [0, 1, 2])
    with pytest.raises(BadArgument, match="n_samples"):
        Clock([0, 1], [0, 1], 0)


def test_knots_of_another_rate_are_refused(sample_root: Path) -> None:
    for table, rate in ((timestamps(sample_root, A, "sync"), AP_HZ), (timestamps(sample_root, A), LF_HZ)):
        with pytest.raises(InconsistentData, match="another recording or band"):
            Clock.from_timestamps(table, rate_hz=rate)
