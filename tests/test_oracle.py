"""The sample as our loaders read it, against the unmodified IBL loader; and the defects that must not be ours."""

import warnings

import numpy as np
import pytest
from brainbox.io.one import SpikeSortingLoader
from brainbox.singlecell import bin_spikes2D
from iblatlas.regions import BrainRegions
from iblutil.numerical import bincount2D

import cubes
from chunking.bins import BinGrid, width_from_name
from chunking.counting import count_spikes
from loaders.errors import InconsistentData, NotFound
from loaders.sample import SAMPLE
from loaders.sorting import load_sorting

PIDS = [probe.pid for probe in SAMPLE]


class Atlas:
    """All that SpikeSortingLoader needs of an atlas, without downloading one."""

    regions = BrainRegions()


@pytest.fixture(params=PIDS)
def both(request, one_local, sample_source):
    """Our sorting, and what IBL's loader makes of the same insertion."""
    ours = load_sorting(sample_source, request.param, revision="2024-05-06")
    theirs = SpikeSortingLoader(pid=request.param, one=one_local, atlas=Atlas())
    spikes, clusters, channels = theirs.load_spike_sorting(ours.sorter, revision="2024-05-06", check_hash=False)
    merged = theirs.merge_clusters(spikes, dict(clusters), channels)
    return ours, spikes, clusters, channels, merged


def test_spikes_are_equal_bit_for_bit(both):
    ours, spikes, *_ = both
    for name in ("times", "clusters", "amps", "depths"):
        array = getattr(ours.spikes, name)
        assert array.dtype == spikes[name].dtype
        np.testing.assert_array_equal(array, spikes[name])


def test_units_are_equal(both):
    ours, _, clusters, _, merged = both
    assert ours.units.uuid.tolist() == clusters["uuids"].squeeze().tolist()
    np.testing.assert_array_equal(ours.units.channel, clusters["channels"])
    np.testing.assert_array_equal(ours.units.depth_um, clusters["depths"])
    assert set(ours.units.metrics) == set(clusters["metrics"].columns) - {"cluster_id"}
    for name, values in ours.units.metrics.items():
        np.testing.assert_array_equal(values, merged[name])
    np.testing.assert_array_equal(ours.units.good, merged["label"] == 1)


def test_channels_are_equal(both):
    ours, _, _, channels, _ = both
    np.testing.assert_array_equal(ours.channels.raw_ind, channels["rawInd"])
    np.testing.assert_array_equal(ours.channels.axial_um, channels["axial_um"])
    np.testing.assert_array_equal(ours.channels.lateral_um, channels["lateral_um"])
    np.testing.assert_array_equal(ours.channels.locations.atlas_id, channels["atlas_id"])
    assert ours.channels.locations.acronym_allen.tolist() == channels["acronym"].tolist()
    for name in "xyz":
        np.testing.assert_array_equal(getattr(ours.channels.locations, name), channels[name])


def test_the_labels_in_the_store_are_those_of_merge_clusters(both, sample_cubes):
    ours, *_, merged = both
    for product in ("spikes", "counts_20ms"):
        ds = cubes.open(sample_cubes, ours.insertion.pid)[product]
        for name in ("x", "y", "z", "lateral_um", "amp_median", "firing_rate", "label", "spike_count"):
            np.testing.assert_array_equal(ds[name], merged[name], err_msg=name)
        assert ds["acronym_allen"].values.tolist() == merged["acronym"].tolist()
        assert ds["uuid"].values.tolist() == ours.units.uuid.tolist()


def counted(times, rows, width, n_rows):
    grid = BinGrid.spanning(width_from_name(width), times[0], times[-1])
    return grid, count_spikes(times, rows, grid, (0, n_rows), np.dtype("uint16"))


def test_d3_unsorted_cluster_ids_do_not_swap_rows():
    times, clusters = np.array([0.1, 0.2, 0.3]), np.array([7, 7, 2])
    theirs, _ = bin_spikes2D(times, clusters, np.array([7, 2]), np.array([0.0]), 0, 1, 1)
    assert theirs[0, :, 0].tolist() == [1, 2]  # the defect: unit 7 has two spikes, not one
    ours = count_spikes(times, clusters, BinGrid(width_from_name("1s"), 0, 1), (0, 8), np.dtype("uint8"))
    assert ours[7, 0] == 2
    assert ours[2, 0] == 1


def test_d4_the_grid_starts_at_session_time_0_with_all_units_and_exact_edges():
    times = np.arange(15, 30000 * 60, 30) / 30000 + 0.5e-3 - 15 / 30000  # every millisecond, from 0.5 ms on
    edges_times = np.arange(1, 60_000) / 1000
    theirs, bins, units = bincount2D(edges_times, np.ones(len(edges_times), dtype=int), xbin=0.001)
    assert bins[0] == edges_times[0]  # the defects: the grid starts at the first spike,
    assert units.tolist() == [1]  # silent units have no row,
    assert np.count_nonzero(theirs[0] != 1) > 1000  # and spikes on edges are counted one bin off
    grid, ours = counted(edges_times, np.ones(len(edges_times), dtype=int), "1ms", 3)
    assert grid.first == 0
    assert ours[:, 0].tolist() == [0, 0, 0]
    assert (ours[1, 1:] == 1).all()
    assert ours.shape == (3, 60_000)
    assert (counted(times, np.zeros(len(times), dtype=int), "1ms", 1)[1] == 1).all()


def test_d5_another_sorter_than_asked_for_is_an_error(one_local, sample_source):
    pid = PIDS[0]  # sorted with pykilosort only
    theirs = SpikeSortingLoader(pid=pid, one=one_local, atlas=Atlas())
    spikes, *_ = theirs.load_spike_sorting("iblsorter", check_hash=False)
    assert len(spikes["times"]) > 0  # the defect: pykilosort in its place, in silence
    with pytest.raises(NotFound, match=f"pid {pid}: .*sorter 'iblsorter' does not exist.*'pykilosort'"):
        load_sorting(sample_source, pid, sorter="iblsorter")


def test_d6_a_revision_that_does_not_exist_is_an_error(one_local, sample_source):
    pid = PIDS[0]
    theirs = SpikeSortingLoader(pid=pid, one=one_local, atlas=Atlas())
    spikes, *_ = theirs.load_spike_sorting("pykilosort", revision="2024-12-31", check_hash=False)
    assert len(spikes["times"]) > 0  # the defect: another revision in its place, in silence
    for wrong in ("2020-01-01", "2024-12-31"):
        with pytest.raises(NotFound, match=f"revision '{wrong}' does not exist"):
            load_sorting(sample_source, pid, revision=wrong)


def test_d6_revisions_of_one_sorting_are_never_mixed(sample_source):
    new = load_sorting(sample_source, PIDS[0], revision="2024-05-06")
    old = load_sorting(sample_source, PIDS[0], revision="")
    assert {s.revision for s in new.sources if "pykilosort" in s.rel_path} == {"2024-05-06"}
    assert {s.revision for s in old.sources if "pykilosort" in s.rel_path} == {""}
    assert len(new.units) != len(old.units)
    assert not set(new.units.uuid) & set(old.units.uuid)


def test_d17_an_unknown_atlas_id_shifts_no_label(tiny):
    from loaders.folder import FolderCatalog

    tiny.save("channels.brainLocationIds_ccf_2017.npy", np.array([385, 87654321, 382]))
    assert len(BrainRegions().id2acronym(np.array([385, 87654321, 382]))) == 2  # the defect
    ours = load_sorting(FolderCatalog(tiny.folder), tiny.pid)
    assert ours.channels.locations.acronym_allen.tolist() == ["VISp", "void", "CA1"]
    assert ours.channels.locations.acronym_allen[ours.units.channel].tolist() == ["VISp", "CA1", "void", "CA1"]


def test_a_missing_file_of_a_revision_is_not_taken_from_the_older_one(sample_root, tmp_path):
    import shutil

    copy = shutil.copytree(sample_root, tmp_path / "one")
    (missing,) = copy.rglob("pykilosort/#2024-05-06#/spikes.times.npy")
    missing.unlink()
    with pytest.raises(NotFound, match="listed by the catalog but not on disk"):
        load_sorting(cubes.source("one", copy), PIDS[0], revision="2024-05-06")
    bare = cubes.source("folder", copy / "samplelab/Subjects/SAMPLE_001/2024-03-01/001")
    pid = next(i.pid for i in bare.insertions() if i.probe == "probe00")
    with pytest.raises(InconsistentData, match=r"spikes\.times is missing; files of another revision"):
        load_sorting(bare, pid, sorter="pykilosort", revision="2024-05-06")


def test_a_file_that_differs_from_its_record_is_refused(sample_root, tmp_path):
    import shutil

    copy = shutil.copytree(sample_root, tmp_path / "one")
    (path,) = copy.rglob("probe00/pykilosort/#2024-05-06#/spikes.times.npy")
    content = bytearray(path.read_bytes())
    content[5000] ^= 1  # one flipped bit
    path.write_bytes(content)
    with pytest.raises(cubes.CorruptData, match=r"spikes\.times\.npy: expected md5 \w+ as in the catalog"):
        load_sorting(cubes.source("one", copy), PIDS[0])


def test_nothing_is_written_into_the_home_or_the_cache(sample_root, private_home):
    before = {path: path.stat().st_mtime_ns for path in sample_root.rglob("*")}
    home = set(private_home.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_sorting(cubes.source("one", sample_root), PIDS[0])
    assert {path: path.stat().st_mtime_ns for path in sample_root.rglob("*")} == before
    assert set(private_home.rglob("*")) == home
