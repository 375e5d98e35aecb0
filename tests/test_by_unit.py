"""Spikes in order of unit, against a sort of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunking.by_unit import positions_by_unit


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(7, 9), st.data())
def test_a_range_of_a_stable_sort(clusters, n_units, data):
    """Units without spikes come first, last and between."""
    clusters = np.array(clusters, np.uint32)
    start = data.draw(st.integers(0, len(clusters)))
    stop = data.draw(st.integers(start, len(clusters)))
    row_size = np.bincount(clusters, minlength=n_units)
    expected = np.argsort(clusters, kind="stable")[start:stop]
    np.testing.assert_array_equal(positions_by_unit(clusters, row_size, start, stop), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_any_integer_type(dtype):
    clusters = np.array([2, 0, 2, 0, 2], dtype)
    assert positions_by_unit(clusters, np.array([2, 0, 3]), 0, 5).tolist() == [1, 3, 0, 2, 4]
