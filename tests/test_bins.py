"""Exact bins, against fractions and brute force."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunking.bins import BinGrid, bin_number, parse_width, width_from_name, width_name
from chunking.counting import count_spikes, largest_count, smallest_dtype
from loaders.errors import BadArgument, InconsistentData, StoreError

widths = st.sampled_from(
    [Fraction(1, 1000), Fraction(1, 50), Fraction(1, 10), Fraction(1, 3), Fraction(1, 30000), Fraction(7, 3)]
)


def rounded(k: int, width: Fraction) -> float:
    """The float64 nearest to k * width: Python divides integers with correct rounding."""
    return (k * width.numerator) / width.denominator


def brute_bin(time: float, width: Fraction) -> int:
    k = math.floor(Fraction(time) / width) - 2
    while rounded(k + 1, width) <= time:
        k += 1
    return k


@st.composite
def spike_trains(draw: st.DrawFn) -> tuple[Fraction, np.ndarray, np.ndarray]:
    """Spikes anywhere, on edges, on the 30 kHz grid, and next to edges by one unit in the last place."""
    width = draw(widths)
    anywhere = st.floats(-3, 5000)
    on_edge = st.integers(-5, 100_000).map(lambda k: rounded(k, width))
    on_sample = st.integers(0, 10**8).map(lambda k: k / 30000)
    beside = on_edge.flatmap(lambda t: st.sampled_from([np.nextafter(t, np.inf), np.nextafter(t, -np.inf)]))
    times = np.sort(
        np.array(draw(st.lists(st.one_of(anywhere, on_edge, on_sample, beside), min_size=1, max_size=60)), dtype=float)
    )
    rows = np.array(draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times))))
    return width, times, rows


@given(spike_trains())
def test_every_spike_lies_between_the_edges_of_its_bin(train):
    width, times, _ = train
    assert [bin_number(time, width) for time in times] == [brute_bin(time, width) for time in times]


@given(spike_trains())
def test_counts_equal_brute_force(train):
    width, times, rows = train
    first = brute_bin(times[0], width)
    times, rows = times[times < rounded(first + 500, width)], rows[times < rounded(first + 500, width)]
    grid = BinGrid(width, first, 500)
    counts = count_spikes(times, rows, grid, (0, 4), np.dtype("uint16"))
    expected = np.zeros((4, 500), dtype=int)
    for time, row in zip(times, rows, strict=True):
        expected[row, brute_bin(time, width) - first] += 1
    np.testing.assert_array_equal(counts, expected)
    assert largest_count(times, rows, grid, 4) == expected.max()


def test_spikes_on_the_30_khz_grid_equal_searchsorted_where_floor_fails():
    times = np.arange(0, 30000 * 600) / 30000  # every sample of ten minutes
    grid = BinGrid.spanning(Fraction(1, 100), 0.0, times[-1])
    counts = count_spikes(times, np.zeros(len(times), dtype=np.int32), grid, (0, 1), np.dtype("uint16"))
    edges = np.array([rounded(k, Fraction(1, 100)) for k in range(grid.n + 1)])
    expected = np.diff(np.searchsorted(times, edges))
    np.testing.assert_array_equal(counts[0], expected)
    assert (expected == 300).all()
    naive = np.bincount(np.floor(times / 0.01).astype(int))
    assert np.count_nonzero(naive != 300) > 1000


@given(widths, st.integers(-1000, 10**6), st.integers(1, 50))
def test_edges_and_centres_are_correctly_rounded(width, first, n):
    grid = BinGrid(width, first, n)
    assert grid.edges().tolist() == [rounded(first + i, width) for i in range(n + 1)]
    assert grid.centres().tolist() == [float(Fraction(2 * (first + i) + 1, 2) * width) for i in range(n)]
    assert grid.part(1, n).edges().tolist() == grid.edges()[1:].tolist()


def test_probes_of_a_session_share_the_grid():
    early, late = BinGrid.spanning(Fraction(1, 50), 0.5, 10), BinGrid.spanning(Fraction(1, 50), 3.7, 12)
    assert early.first == late.first == 0
    assert BinGrid.spanning(Fraction(1, 50), -0.05, 10).first == -3


def test_a_count_that_does_not_fit_is_an_error():
    times, rows = np.full(256, 0.5), np.zeros(256, dtype=np.uint32)
    grid = BinGrid(Fraction(1), 0, 1)
    with pytest.raises(StoreError, match="more than 255 spikes"):
        count_spikes(times, rows, grid, (0, 1), np.dtype("uint8"))
    assert count_spikes(times[:255], rows[:255], grid, (0, 1), np.dtype("uint8"))[0, 0] == 255
    assert count_spikes(times, rows, grid, (0, 1), smallest_dtype(largest_count(times, rows, grid, 1)))[0, 0] == 256


@pytest.mark.parametrize("time", [-0.1, 1.0, 5.0])
def test_a_spike_outside_the_bins_is_an_error(time):
    with pytest.raises(InconsistentData, match="outside"):
        count_spikes(np.array([time]), np.array([1]), BinGrid(Fraction(1, 10), 0, 10), (0, 2), np.dtype("uint8"))


@given(spike_trains(), st.integers(0, 4), st.integers(0, 4))
def test_some_rows_are_those_of_all(train, first, last):
    width, times, rows = train
    grid = BinGrid.spanning(width, times[0], times[0] + 10 * float(width))
    times, rows = times[times < grid.edges()[-1]], rows[: np.count_nonzero(times < grid.edges()[-1])]
    everything = count_spikes(times, rows, grid, (0, 4), np.dtype("uint16"))
    some = count_spikes(times, rows, grid, (min(first, last), max(first, last)), np.dtype("uint16"))
    np.testing.assert_array_equal(some, everything[min(first, last) : max(first, last)])


@pytest.mark.parametrize(("largest", "dtype"), [(0, "uint8"), (255, "uint8"), (256, "uint16"), (65536, "uint32")])
def test_smallest_dtype(largest, dtype):
    assert smallest_dtype(largest) == dtype


@pytest.mark.parametrize("width", [0.02, "0.02", "1/50", Decimal("0.02"), Fraction(1, 50)])
def test_one_width_in_many_spellings(width):
    assert parse_width(width) == Fraction(1, 50)


def test_a_third_as_float():
    assert parse_width(1 / 3) == Fraction(1, 3)


@pytest.mark.parametrize("width", [0, -0.02, math.nan, math.inf, "x", "1/0", None, 1e-9, "0.00000001"])
def test_bad_widths_are_refused(width):
    with pytest.raises(BadArgument, match="bin width"):
        parse_width(width)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("20ms", "20ms"), ("0.02s", "20ms"), ("1000ms", "1s"), ("1/3s", "1_3s"), ("0.5ms", "500us"), ("1_3s", "1_3s")],
)
def test_names_of_widths(name, canonical):
    assert width_name(width_from_name(name)) == canonical
    assert width_from_name(canonical) == width_from_name(name)


@pytest.mark.parametrize("name", ["", "ms", "20", "20m", "0ms", "-1ms", "nans", "1/0s"])
def test_bad_names_are_refused(name):
    with pytest.raises(BadArgument, match="bin width"):
        width_from_name(name)


def test_a_grid_beyond_exact_floats_is_refused():
    with pytest.raises(BadArgument, match="too many bins"):
        BinGrid(Fraction(999_999, 1_000_000), 0, 2**40)
