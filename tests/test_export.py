"""Exports: pynapple and HDF5 by uuid, there and back."""

import sys

import h5py
import numpy as np
import pynapple as nap
import pytest
import xarray as xr

import cubes
from loaders.errors import BadArgument, CorruptData, NotFound, StoreError


@pytest.fixture(scope="module")
def spikes(sample_cubes, sample_source) -> xr.Dataset:
    return cubes.open(sample_cubes, sample_source.insertions()[0].pid)["spikes"].to_dataset().load()


def test_spikes_as_a_group_count_as_ours(spikes):
    group = cubes.to_pynapple(spikes)
    assert isinstance(group, nap.TsGroup)
    assert list(group.index) == spikes.unit.values.tolist()
    assert group["acronym_beryl"].tolist() == spikes.acronym_beryl.values.tolist()
    first, n = int(spikes.row_start[7]), int(spikes.row_size[7])
    np.testing.assert_array_equal(group[7].times(), np.round(spikes.spike_time.values[first : first + n], 9))
    assert group.get_info("good").sum() == int(spikes.good.sum())


def test_arrays_become_frames(sample_cubes, sample_source):
    counts = cubes.open(sample_cubes, sample_source.insertions()[0].pid)["counts_20ms"].counts
    frame = cubes.to_pynapple(counts.isel(unit=slice(3, 6)).sel(time=slice(10, 20)))
    assert isinstance(frame, nap.TsdFrame)
    assert frame.shape == (500, 3)
    assert list(frame.columns) == [3, 4, 5]
    np.testing.assert_array_equal(frame.values.T, counts.isel(unit=slice(3, 6)).sel(time=slice(10, 20)).values)
    assert isinstance(cubes.to_pynapple(counts.isel(unit=0, time=slice(0, 5))), nap.Tsd)
    tensor = cubes.to_pynapple(counts.isel(unit=slice(0, 2), time=slice(0, 5)).expand_dims(trial=3).load())
    assert isinstance(tensor, nap.TsdTensor)
    assert tensor.shape == (5, 3, 2)
    with pytest.raises(BadArgument, match="along time"):
        cubes.to_pynapple(counts.isel(time=0))


def test_without_pynapple_or_h5py_one_is_told_what_to_install(spikes, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynapple", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(NotFound, match=r"pip install 'ibl-cubes\[pynapple\]'"):
        cubes.to_pynapple(spikes)
    with pytest.raises(NotFound, match=r"pip install 'ibl-cubes\[hdf5\]'"):
        cubes.write_spikes_h5(spikes, tmp_path / "s.h5")


def test_hdf5_there_and_back(spikes, tmp_path):
    marks = xr.DataArray(np.arange(spikes.sizes["spike"]) % 5 == 0, dims="spike")
    path = cubes.write_spikes_h5(spikes, tmp_path / "spikes.h5", marks)
    with h5py.File(path) as file:
        uuid = str(spikes.uuid.values[9])
        first, n = int(spikes.row_start[9]), int(spikes.row_size[9])
        assert file[uuid]["times"].dtype == np.float64
        np.testing.assert_array_equal(file[uuid]["times"][()], spikes.spike_time.values[first : first + n])
    back = cubes.read_spikes_h5(path)
    assert set(back.uuid.values) == set(spikes.uuid.values)
    order = [back.uuid.values.tolist().index(name) for name in spikes.uuid.values]
    for unit, at in enumerate(order):
        mine, theirs = (
            slice(int(d.row_start[k]), int(d.row_start[k] + d.row_size[k])) for d, k in ((spikes, unit), (back, at))
        )
        np.testing.assert_array_equal(spikes.spike_time.values[mine], back.spike_time.values[theirs])
        np.testing.assert_array_equal(marks.values[mine], back.duplicates.values[theirs])
    a, b = (cubes.align(d, [10.0, 50.0], (0, 1), 0.1).counts for d in (spikes, back.isel(unit=slice(None))))
    np.testing.assert_array_equal(a.values, b.values[order])
    with pytest.raises(StoreError, match="exists"):
        cubes.write_spikes_h5(spikes, path)
    assert [p.name for p in tmp_path.iterdir()] == ["spikes.h5"]


def test_bad_hdf5(spikes, tmp_path):
    with pytest.raises(NotFound, match="no such file"):
        cubes.read_spikes_h5(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("no")
    with pytest.raises(CorruptData, match="expected HDF5"):
        cubes.read_spikes_h5(tmp_path / "text.h5")
    with h5py.File(tmp_path / "order.h5", "w") as file:
        file["a/times"] = [2.0, 1.0]
    with pytest.raises(CorruptData, match="a/times: expected one row of times in order"):
        cubes.read_spikes_h5(tmp_path / "order.h5")
    without = spikes.assign_coords(uuid=("unit", [""] * spikes.sizes["unit"]))
    with pytest.raises(BadArgument, match="500 of 500 have none"):
        cubes.write_spikes_h5(without, tmp_path / "s.h5")
    assert not (tmp_path / "s.h5").exists()
