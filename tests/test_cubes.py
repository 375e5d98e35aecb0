"""What people type: open, bin, select."""

import pickle

import dask
import numpy as np
import pytest
import xarray as xr

import cubes
from loaders.errors import BadArgument, InconsistentData, NotFound, StoreError
from loaders.region_tree import region_ids
from loaders.sample import SAMPLE

PIDS = [probe.pid for probe in SAMPLE]


@pytest.fixture
def tree(sample_cubes):
    return cubes.open(sample_cubes, PIDS[0])


def test_open_has_every_product_with_coordinates_in_memory_and_data_lazy(tree):
    assert set(tree.children) == {
        "spikes",
        "channels",
        "counts_1ms",
        "counts_10ms",
        "counts_20ms",
        "counts_100ms",
        "counts_1_3s",
    }
    assert tree.attrs["subject"] == "SAMPLE_001"
    for child in tree.children.values():
        ds = child.to_dataset()
        assert all(coordinate.chunks is None for coordinate in ds.coords.values())
        assert all(array.chunks is not None for array in ds.data_vars.values())


def test_open_without_dask(sample_cubes):
    ds = cubes.open(sample_cubes, PIDS[0], chunks=None)["counts_20ms"].to_dataset()
    assert ds.counts.chunks is None
    assert not ds.counts.variable._in_memory


def test_boolean_masks_and_times_select(tree):
    ds = tree["counts_20ms"].to_dataset()
    ca1 = ds.sel(unit=(ds.acronym_allen == "CA1") & ds.good, time=slice(10, 11))
    assert ca1.sizes["time"] == 50
    assert set(ca1.acronym_allen.values.tolist()) == {"CA1"}
    assert ds.counts.groupby("acronym_cosmos").sum("unit").sum() == ds.attrs["n_spikes"]


def test_open_refuses_to_mix_sortings(sample_source, tmp_path):
    cubes.build(cubes.plan(sample_source, PIDS[:1], ["counts_100ms"], root=tmp_path, revision=""))
    cubes.build(cubes.plan(sample_source, PIDS[:1], ["spikes"], root=tmp_path, revision="2024-05-06"))
    with pytest.raises(
        InconsistentData, match=r"counts_100ms: alf/probe00/pykilosort, revision none; spikes: .*2024-05-06"
    ):
        cubes.open(tmp_path, PIDS[0])


def test_open_errors(sample_cubes, tmp_path):
    with pytest.raises(NotFound, match=r"pid 'x': not in .*, which has"):
        cubes.open(sample_cubes, "x")
    with pytest.raises(NotFound, match="holds no cubes"):
        cubes.open(tmp_path, PIDS[0])
    with pytest.raises(NotFound, match="not in"):
        cubes.open(sample_cubes, "../insertions")
    with pytest.raises(StoreError, match="does not exist"):
        cubes.info(sample_cubes / "none.zarr")


@pytest.mark.parametrize(("width", "name"), [(0.001, "1ms"), ("0.02", "20ms"), (0.1, "100ms"), (1 / 3, "1_3s")])
def test_bin_equals_the_stored_counts_at_any_width(tree, width, name):
    lazy = cubes.bin(tree["spikes"].to_dataset(), width)
    stored = tree[f"counts_{name}"].counts
    assert dask.is_dask_collection(lazy.data)
    assert lazy.dtype == "uint16"
    xr.testing.assert_equal(lazy.compute().astype("uint8"), stored.compute())
    assert lazy.time.attrs == stored.time.attrs


def test_bin_of_some_units_in_any_order(tree):
    spikes, stored = tree["spikes"].to_dataset(), tree["counts_20ms"].counts.load()
    units = [402, 3, 4, 5, 77, 300]
    np.testing.assert_array_equal(cubes.bin(spikes.sel(unit=units), 0.02), stored.sel(unit=units))
    good = spikes.isel(unit=np.flatnonzero(spikes.good))
    np.testing.assert_array_equal(cubes.bin(good, 0.02), stored.sel(unit=stored.good))


def test_bin_of_a_window(tree):
    stored = tree["counts_20ms"].counts
    window = cubes.bin(tree["spikes"].to_dataset(), 0.02, start=10, stop=11)
    xr.testing.assert_equal(window.compute().astype("uint8"), stored.sel(time=slice(10, 11)).compute())
    beyond = cubes.bin(tree["spikes"].to_dataset(), 1, start=-2, stop=200)
    assert (float(beyond.time[0]), float(beyond.time[-1])) == (-1.5, 199.5)
    assert int(beyond.sum()) == tree["spikes"].attrs["n_spikes"]


def test_bin_survives_pickle_and_other_chunks(sample_cubes, tree):
    lazy = cubes.bin(tree["spikes"].to_dataset(), 0.1)
    expected = lazy.compute()
    xr.testing.assert_equal(pickle.loads(pickle.dumps(lazy)).compute(), expected)
    for chunks in (None, {"spike": 200_000}):
        other = cubes.open(sample_cubes, PIDS[0], chunks=chunks)["spikes"].to_dataset()
        xr.testing.assert_equal(cubes.bin(other, 0.1).compute(), expected)


def test_bin_refuses_what_would_be_wrong(tree):
    spikes = tree["spikes"].to_dataset()
    with pytest.raises(BadArgument, match="expected all 124905 spikes, got 10"):
        cubes.bin(spikes.isel(spike=slice(10)), 0.02)
    with pytest.raises(BadArgument, match="row_size, row_start, spike_time is missing"):
        cubes.bin(tree["counts_20ms"].to_dataset(), 0.02)
    for start, stop in ((5, 1), (5, 5)):
        with pytest.raises(BadArgument, match="after start"):
            cubes.bin(spikes, 0.02, start=start, stop=stop)
    with pytest.raises(BadArgument, match="start: expected a time in seconds, got nan"):
        cubes.bin(spikes, 0.02, start=np.nan)
    with pytest.raises(BadArgument, match="longer than the recording"):
        cubes.bin(spikes, 1000)
    with pytest.raises(BadArgument, match="choose one unit as a list"):
        cubes.bin(spikes.sel(unit=5), 0.02)
    with pytest.raises(BadArgument, match="n_spikes"):
        cubes.bin(spikes.drop_attrs(), 0.02)
    with pytest.raises(BadArgument, match="unsigned"):
        cubes.bin(spikes, 0.02, dtype="float32")
    with pytest.raises(BadArgument, match="unsigned"):
        cubes.bin(spikes, 0.02, dtype="nonsense")
    with pytest.raises(StoreError, match="more than 255"):
        cubes.bin(spikes, 100, dtype="uint8").compute()


def test_select_by_region_quality_and_hemisphere(tree):
    ds = tree["counts_20ms"].to_dataset()
    chosen = cubes.select(ds, region="hpf", good=True, hemisphere="left")
    expected = np.isin(ds.atlas_id, list(region_ids("HPF"))) & ds.good & (ds.hemisphere == "left")
    assert chosen.unit.values.tolist() == np.flatnonzero(expected).tolist()
    assert 0 < chosen.sizes["unit"] < ds.sizes["unit"]
    hidden = ds.sizes["unit"] - chosen.sizes["unit"]
    kept, reasons = chosen.attrs["selection"].split(" (")
    assert kept == f"kept {chosen.sizes['unit']} of 500 units"
    assert sum(int(reason.split()[0]) for reason in reasons.split(", ")) == hidden
    assert cubes.select(ds).attrs["selection"] == "kept 500 of 500 units"
    both = cubes.select(ds, region=["HPF", "Isocortex"]).sizes["unit"]
    assert both == sum(cubes.select(ds, region=name).sizes["unit"] for name in ("HPF", "Isocortex"))
    assert cubes.select(tree["channels"].to_dataset(), region="CA1").sizes["channel"] > 0


def test_select_then_bin_the_ragged_spikes(tree):
    chosen = cubes.select(tree["spikes"].to_dataset(), region="TH", good=True)
    stored = cubes.select(tree["counts_20ms"].to_dataset(), region="TH", good=True)
    np.testing.assert_array_equal(cubes.bin(chosen, 0.02), stored.counts)
    spikes = chosen.sizes["spike"]
    assert spikes == chosen.attrs["n_spikes"] == int(chosen.row_size.sum()) == int(stored.counts.sum()) < 124_905
    unit = chosen.isel(unit=3)
    mine = chosen.spike_time.values[int(unit.row_start) : int(unit.row_start + unit.row_size)]
    everything = tree["spikes"].to_dataset().sel(unit=int(unit.unit))
    start = int(everything.row_start)
    np.testing.assert_array_equal(mine, everything.spike_time.values[start : start + int(everything.row_size)])
    twice = cubes.select(chosen, region="PO")
    assert twice.attrs["selection"].startswith(chosen.attrs["selection"] + "; kept ")
    assert len(cubes.select(tree["counts_20ms"], good=True).unit) == int(tree["counts_20ms"].good.sum())


def test_select_errors(tree):
    ds = tree["counts_20ms"].to_dataset()
    with pytest.raises(NotFound, match="did you mean"):
        cubes.select(ds, region="CAA1")
    with pytest.raises(BadArgument, match="channels have no quality"):
        cubes.select(tree["channels"], good=True)
    with pytest.raises(BadArgument, match="expected acronyms"):
        cubes.select(ds, region=[None])
    with pytest.raises(BadArgument, match="hemisphere"):
        cubes.select(ds, hemisphere="both")
    with pytest.raises(BadArgument, match="expected a dimension unit or channel, got none"):
        cubes.select(xr.Dataset(), good=True)


def test_ls_lists_every_store(sample_cubes):
    table = cubes.ls(sample_cubes)
    assert len(table) == 7 * 3
    assert set(table.pid) == set(PIDS)
    assert (table.bytes > 0).all()


def test_source_sample_writes_and_auto_finds(tmp_path, monkeypatch, sample_root, tiny):
    import shutil

    def copy(folder, **_):
        return shutil.copytree(sample_root, folder)

    monkeypatch.setattr("cubes.sources.write_sample", copy)
    first = cubes.source("sample", tmp_path / "s").insertions()
    assert [i.pid for i in cubes.source("auto", tmp_path / "s").insertions()] == [i.pid for i in first]
    assert [i.pid for i in cubes.source("auto", tiny.folder).insertions()] == [tiny.pid]
    with pytest.raises(NotFound, match=r"expected a subfolder alf .* or a table sessions\.pqt"):
        cubes.source("auto", tmp_path)
    with pytest.raises(BadArgument, match=r"source 'one': .*argument 'pids'; it takes folder, one"):
        cubes.source("one", sample_root, pids={"probe00": "x"})


def test_a_broken_cache_table_is_named(sample_root, tmp_path):
    import shutil

    copy = shutil.copytree(sample_root, tmp_path / "one")
    (copy / "datasets.pqt").write_bytes(b"nonsense")
    with pytest.raises(cubes.CorruptData, match=r"datasets\.pqt: not a readable"):
        cubes.source("one", copy)
