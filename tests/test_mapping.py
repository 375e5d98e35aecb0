"""A function over many insertions: labelled results, and every failure by name."""

import shutil

import numpy as np
import pytest
import xarray as xr

import cubes
from loaders.errors import BadArgument, NotFound, StoreError
from loaders.sample import SAMPLE

PIDS = [probe.pid for probe in SAMPLE]


def total(ds):
    return ds.counts.astype("int64").sum()


def by_region(ds):
    return ds.counts.astype("int64").sum("time").groupby("acronym_cosmos").sum()


def two(ds):
    return xr.Dataset({"units": ds.sizes["unit"], "good": ds.good.sum()})


def first_only(ds):
    if ds.attrs["pid"] != PIDS[0]:
        raise ZeroDivisionError("nothing\nto divide")
    return 1.5


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_results_are_labelled_and_in_order(sample_cubes, executor):
    result = cubes.map(total, sample_cubes, product="counts_20ms", executor=executor)
    assert result.dims == ("pid",)
    assert result.pid.values.tolist() == sorted(PIDS)
    for probe in SAMPLE:
        one = result.sel(pid=probe.pid)
        ds = cubes.open(sample_cubes, probe.pid)["counts_20ms"].to_dataset()
        assert int(one) == ds.attrs["n_spikes"]
        assert [str(one[name].values) for name in ("subject", "lab", "date", "probe")] == [
            ds.attrs[name] for name in ("subject", "lab", "date", "probe")
        ]
    assert cubes.map(total, sample_cubes, pids=PIDS, product="counts_20ms").pid.values.tolist() == PIDS


def test_regions_that_not_all_have_are_nan(sample_cubes):
    result = cubes.map(by_region, sample_cubes, product="counts_20ms")
    assert result.dims == ("pid", "acronym_cosmos")
    for pid in PIDS:
        ds = cubes.open(sample_cubes, pid, chunks=None)["counts_20ms"].to_dataset()
        rows = ds.counts.values.sum(axis=1, dtype=int)
        for region in result.acronym_cosmos.values:
            mask = ds.acronym_cosmos.values == region
            expected = rows[mask].sum() if mask.any() else np.nan
            np.testing.assert_equal(float(result.sel(pid=pid, acronym_cosmos=region)), float(expected))


def test_datasets_and_numbers(sample_cubes):
    result = cubes.map(two, sample_cubes, product="counts_20ms", query="probe == 'probe00'")
    assert set(result.data_vars) == {"units", "good"}
    assert result.sizes["pid"] == sum(probe.probe == "probe00" for probe in SAMPLE)
    assert cubes.map(len, sample_cubes, product="channels").dtype.kind == "i"


def test_every_failure_is_named_and_the_others_are_done(sample_cubes):
    with pytest.raises(StoreError, match=r"^2 of 3 insertions failed: ") as caught:
        cubes.map(first_only, sample_cubes, product="counts_20ms")
    for pid in PIDS[1:]:
        assert f"{pid}: ZeroDivisionError: nothing" in str(caught.value)
    result = cubes.map(first_only, sample_cubes, product="counts_20ms", errors="skip")
    assert result.pid.values.tolist() == PIDS[:1]
    assert set(result.attrs["failed"]) == set(PIDS[1:])


def test_damaged_and_missing_stores_fail_alone(sample_cubes, tmp_path):
    for pid in PIDS:
        shutil.copytree(sample_cubes / f"insertions/{pid}/channels.zarr", tmp_path / f"insertions/{pid}/channels.zarr")
    (tmp_path / f"insertions/{PIDS[0]}/channels.zarr/x/c/0").unlink()
    (tmp_path / f"insertions/{PIDS[1]}/channels.zarr/manifest.json").unlink()
    result = cubes.map(lambda ds: ds.x.mean(), tmp_path, product="channels", errors="skip")
    assert result.pid.values.tolist() == PIDS[2:]
    assert "x/c/0" in result.attrs["failed"][PIDS[0]]
    assert "manifest.json" in result.attrs["failed"][PIDS[1]]
    with pytest.raises(StoreError, match="2 of 3 insertions failed"):
        cubes.map(lambda ds: ds.x.mean(), tmp_path, product="channels")
    with pytest.raises(NotFound, match=r"no insertion gives a result; .*not built"):
        cubes.map(len, tmp_path, product="spikes", errors="skip")


def test_results_that_do_not_fit_are_refused(sample_cubes):
    with pytest.raises(BadArgument, match="without the dimension unit"):
        cubes.map(lambda ds: ds.good, sample_cubes, product="counts_20ms")
    with pytest.raises(BadArgument, match="one kind of result"):
        cubes.map(lambda ds: two(ds) if ds.attrs["pid"] == PIDS[0] else 1, sample_cubes, product="counts_20ms")


@pytest.mark.slow
def test_a_cluster_gives_the_same(sample_cubes):
    expected = cubes.map(two, sample_cubes, product="counts_20ms")
    xr.testing.assert_identical(cubes.map(two, sample_cubes, product="counts_20ms", executor="dask"), expected)
