"""Reading and validating one sorting: what is refused, what is kept with a note."""

import pickle
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from loaders.alf_paths import record_of
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound
from loaders.folder import FolderCatalog
from loaders.inputs import Inputs
from loaders.records import Insertion
from loaders.sorting import _check_files, load_sorting


def load(tiny, **choice):
    return load_sorting(FolderCatalog(tiny.folder), tiny.pid, **choice)


def test_a_clean_session_has_no_notes_and_every_array_as_it_is(tiny):
    sorting = load(tiny)
    assert sorting.notes == ()
    np.testing.assert_array_equal(sorting.spikes.times, tiny.times)
    np.testing.assert_array_equal(sorting.spikes.clusters, tiny.clusters)
    assert sorting.units.uuid.tolist() == ["ua", "ub", "uc", "ud"]
    assert sorting.units.good.tolist() == [True, False, False, True]
    assert sorting.channels.locations.acronym_allen.tolist() == ["CA1", "VISp", "void"]
    assert sorting.channels.locations.hemisphere.tolist() == ["left", "left", "right"]
    assert {source.rel_path.rsplit("/", 1)[1] for source in sorting.sources} == {p.name for p in tiny.sorting.iterdir()}


@pytest.mark.parametrize(("damage", "error"), [("lost", NotFound), ("empty", CorruptData)])
def test_large_files_are_checked_at_once_with_the_same_error(tiny, monkeypatch, damage, error):
    paths = sorted(tiny.sorting.glob("spikes.*"))
    records = [record_of(tiny.folder, path.relative_to(tiny.folder).as_posix()) for path in paths]
    paths[1].unlink() if damage == "lost" else paths[1].write_bytes(b"")
    said = []
    for large in (1 << 40, 0):
        monkeypatch.setattr("loaders.sorting._LARGE_BYTES", large)
        with pytest.raises(error) as refused:
            _check_files(records)
        said.append(str(refused.value))
    assert said[0] == said[1]
    assert paths[1].name in said[0]


def test_large_files_are_checked_at_once_with_the_same_sources(tiny, monkeypatch):
    sources = load(tiny).sources
    monkeypatch.setattr("loaders.sorting._LARGE_BYTES", 0)
    assert load(tiny).sources == sources


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def pad(path):
    path.write_bytes(path.read_bytes() + b"12345")


def empty(path):
    path.write_bytes(b"")


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def raw_pickle(path):
    path.write_bytes(pickle.dumps([1, 2]))


def wrong_dtype(path):
    np.save(path, np.load(path).astype("U10"))


def wrong_shape(path):
    np.save(path, np.load(path)[:, None])


@pytest.mark.parametrize("damage", [truncate, pad, empty, pickled, raw_pickle, wrong_dtype, wrong_shape])
@pytest.mark.parametrize("name", ["spikes.times.npy", "clusters.channels.npy"])
def test_a_damaged_array_is_named(tiny, damage, name):
    damage(tiny.sorting / name)
    with pytest.raises(CorruptData, match=rf"pid session_probe00: .*{name}"):
        load(tiny)


@pytest.mark.parametrize(
    ("name", "error"), [("clusters.metrics.pqt", CorruptData), ("clusters.uuids.csv", CorruptData)]
)
def test_a_damaged_table_is_named(tiny, name, error):
    (tiny.sorting / name).write_bytes(b"\x00\x01")
    with pytest.raises(error, match=name.rsplit(".", 1)[0]):
        load(tiny)


def test_times_of_integer_type_are_refused(tiny):
    tiny.save("spikes.times.npy", tiny.times.astype(int))
    with pytest.raises(CorruptData, match="expected a dtype of kind float of 4 or 8 bytes, got int64"):
        load(tiny)


@pytest.mark.parametrize("name", ["spikes.times", "spikes.clusters", "clusters.channels"])
def test_a_required_file_that_is_missing(tiny, name):
    (tiny.sorting / f"{name}.npy").unlink()
    with pytest.raises(InconsistentData, match=f"{name} is missing"):
        load(tiny)


@pytest.mark.parametrize("name", ["spikes.times", "spikes.clusters", "spikes.amps", "spikes.depths"])
def test_spike_arrays_of_different_length(tiny, name):
    path = tiny.sorting / f"{name}.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(InconsistentData, match=rf"arrays of one length, got .*{name} 8"):
        load(tiny)


def test_cluster_arrays_of_different_length(tiny):
    tiny.save("clusters.depths.npy", np.zeros(3))
    with pytest.raises(InconsistentData, match=r"clusters\.channels 4, clusters\.depths 3"):
        load(tiny)


@pytest.mark.parametrize("bad", [4, 4_000_000_000])
def test_a_cluster_beyond_the_table(tiny, bad):
    clusters = tiny.clusters.copy()
    clusters[3] = bad
    tiny.save("spikes.clusters.npy", clusters)
    with pytest.raises(InconsistentData, match=f"expected ids from 0 to 3 as in the cluster table, got 0 to {bad}"):
        load(tiny)


def test_a_channel_beyond_the_table(tiny):
    tiny.save("clusters.channels.npy", np.array([0, 1, 2, 3]))
    with pytest.raises(InconsistentData, match="as in the channel table"):
        load(tiny)


def test_metrics_in_another_order_are_joined_on_cluster_id(tiny):
    expected = load(tiny).units.metrics["firing_rate"]
    tiny.save("clusters.metrics.pqt", tiny.metrics().iloc[[2, 0, 3, 1]])
    sorting = load(tiny)
    np.testing.assert_array_equal(sorting.units.metrics["firing_rate"], expected)
    assert sorting.units.good.tolist() == [True, False, False, True]
    assert "not in order of cluster_id" in sorting.notes[0]


def test_units_without_metrics_have_nan(tiny):
    tiny.save("clusters.metrics.pqt", tiny.metrics().iloc[[0, 3]])
    sorting = load(tiny)
    np.testing.assert_array_equal(sorting.units.label, [1, np.nan, np.nan, 1])
    np.testing.assert_array_equal(sorting.units.metrics["firing_rate"], [1.5, np.nan, np.nan, 1.7])
    assert sorting.notes == ("2 of 4 units have no row in clusters.metrics; their metrics are NaN",)


def test_no_metrics_at_all(tiny):
    (tiny.sorting / "clusters.metrics.pqt").unlink()
    sorting = load(tiny)
    assert np.isnan(sorting.units.label).all()
    assert not sorting.units.good.any()
    assert sorting.notes == ("no clusters.metrics: all metrics are missing, no unit counts as good",)


def test_duplicate_cluster_ids(tiny):
    tiny.save("clusters.metrics.pqt", tiny.metrics().assign(cluster_id=[0, 1, 1, 3]))
    with pytest.raises(InconsistentData, match=r"cluster ids occur more than once: \[1\]"):
        load(tiny)


def test_metrics_of_clusters_that_do_not_exist(tiny):
    tiny.save("clusters.metrics.pqt", tiny.metrics().assign(cluster_id=[0, 1, 2, 7]))
    with pytest.raises(InconsistentData, match=r"clusters\.metrics cluster_id: expected ids from 0 to 3"):
        load(tiny)


def test_metrics_without_cluster_id_are_never_joined_by_position(tiny):
    tiny.save("clusters.metrics.pqt", tiny.metrics().drop(columns="cluster_id"))
    with pytest.raises(InconsistentData, match="expected a column 'cluster_id'"):
        load(tiny)


def test_duplicate_uuids(tiny):
    tiny.save("clusters.uuids.csv", pd.DataFrame({"uuids": ["ua", "ub", "ub", "ud"]}))
    with pytest.raises(InconsistentData, match="expected 4 different ids, got 3"):
        load(tiny)


def test_spikes_without_a_time_are_left_out_with_a_note(tiny):
    times = tiny.times.copy()
    times[[2, 5]] = np.nan, np.inf
    tiny.save("spikes.times.npy", times)
    sorting = load(tiny)
    keep = np.isfinite(times)
    np.testing.assert_array_equal(sorting.spikes.times, tiny.times[keep])
    np.testing.assert_array_equal(sorting.spikes.clusters, tiny.clusters[keep])
    assert sorting.notes == ("2 of 9 spikes have no finite time and were left out",)


def test_unsorted_times_are_sorted_with_everything_that_belongs_to_them(tiny):
    order = np.array([8, 5, 6, 0, 3, 2, 1, 4, 7])
    depths = np.arange(9.0)
    tiny.save("spikes.times.npy", tiny.times[order])
    tiny.save("spikes.clusters.npy", np.arange(9, dtype=np.uint32)[order] % 4)
    tiny.save("spikes.depths.npy", depths[order])
    sorting = load(tiny)
    np.testing.assert_array_equal(sorting.spikes.times, tiny.times)
    np.testing.assert_array_equal(sorting.spikes.depths, depths)
    np.testing.assert_array_equal(sorting.spikes.clusters, np.arange(9) % 4)
    assert "not in order" in sorting.notes[0]


def test_negative_times_are_kept_with_a_note(tiny):
    tiny.save("spikes.times.npy", tiny.times - 0.15)
    sorting = load(tiny)
    assert sorting.spikes.times[0] == -0.15
    assert sorting.notes == ("2 spikes lie before session time 0; kept",)


def test_no_spikes_at_all(tiny):
    for name, dtype in (("times", float), ("clusters", np.uint32), ("amps", float), ("depths", float)):
        tiny.save(f"spikes.{name}.npy", np.zeros(0, dtype=dtype))
    sorting = load(tiny)
    assert len(sorting.spikes) == 0
    assert len(sorting.units) == 4
    assert sorting.notes == ("this sorting has no spikes",)


def test_missing_amplitudes_are_nan_with_a_note(tiny):
    (tiny.sorting / "spikes.amps.npy").unlink()
    sorting = load(tiny)
    assert np.isnan(sorting.spikes.amps).all()
    assert sorting.notes == ("no spikes.amps: all are NaN",)


def test_missing_histology_has_the_same_schema(tiny):
    for name in ("mlapdv", "brainLocationIds_ccf_2017"):
        (tiny.sorting / f"channels.{name}.npy").unlink()
    channels = load(tiny).channels
    assert channels.histology == "none"
    assert channels.locations.acronym_beryl.tolist() == ["void"] * 3
    assert channels.locations.hemisphere.tolist() == ["unknown"] * 3
    assert np.isnan(channels.locations.ccf_ap).all()
    np.testing.assert_array_equal(channels.axial_um, [20, 40, 60])


def test_no_channel_files_at_all(tiny):
    for path in tiny.sorting.glob("channels.*"):
        path.unlink()
    sorting = load(tiny)
    assert len(sorting.channels) == 3  # the largest channel that a unit names is 2
    assert np.isnan(sorting.channels.axial_um).all()


def test_an_unknown_atlas_id_keeps_its_number_and_shifts_nothing(tiny):
    tiny.save("channels.brainLocationIds_ccf_2017.npy", np.array([382, 123456789, 385]))
    sorting = load(tiny)
    assert sorting.channels.locations.acronym_allen.tolist() == ["CA1", "void", "VISp"]
    assert sorting.channels.locations.atlas_id.tolist() == [382, 123456789, 385]
    assert sorting.notes == ("atlas ids that the region table does not have are labelled void: [123456789]",)


def test_electrode_sites_prevail_over_channels(tiny):
    np.save(tiny.folder / "alf/probe00/electrodeSites.brainLocationIds_ccf_2017.npy", np.array([313, 313, 313]))
    assert load(tiny).channels.locations.acronym_cosmos.tolist() == ["MB"] * 3


def test_electrode_sites_of_another_length_are_used_alone(tiny):
    for name, width in (("localCoordinates", 2), ("mlapdv", 3)):
        np.save(tiny.folder / f"alf/probe00/electrodeSites.{name}.npy", np.ones((5, width)))
    np.save(tiny.folder / "alf/probe00/electrodeSites.brainLocationIds_ccf_2017.npy", np.full(5, 382))
    sorting = load(tiny)
    assert len(sorting.channels) == 5
    assert "electrodeSites.* are used alone" in sorting.notes[0]


def test_a_pid_that_does_not_exist(tiny):
    with pytest.raises(NotFound, match=r"pid 'x': unknown to .*session, which has session_probe00"):
        FolderCatalog(tiny.folder).insertion("x")


def test_a_folder_that_is_no_session(tmp_path):
    with pytest.raises(NotFound, match="expected alf/probe00"):
        FolderCatalog(tmp_path)
    with pytest.raises(NotFound, match="does not exist"):
        FolderCatalog(tmp_path / "none")


def test_a_folder_takes_the_real_pids(tiny):
    catalog = FolderCatalog(tiny.folder, pids={"probe00": "da8dfec1-d265-44e8-84ce-6ae9c109b8bd"})
    assert catalog.insertions()[0].pid == "da8dfec1-d265-44e8-84ce-6ae9c109b8bd"
    with pytest.raises(BadArgument, match="has no probe07"):
        FolderCatalog(tiny.folder, pids={"probe07": "x"})


def test_a_folder_takes_all_that_is_known_of_a_probe(tiny):
    known = Insertion("da8dfec1", "4b7fbad4", "probe00", "alab", "mouse", "2020-01-02", 3)
    assert FolderCatalog(tiny.folder, pids={"probe00": known}).insertions() == [known]
    with pytest.raises(BadArgument, match="expected an insertion of probe00, got da8dfec1, which is of 'probe01'"):
        FolderCatalog(tiny.folder, pids={"probe00": replace(known, probe="probe01")})


@pytest.mark.parametrize("dtype", [">i4", "<i4", ">u8", "u8", "u2", "i8"])
def test_every_integer_type_and_byte_order_of_clusters(tiny, dtype):
    from chunking.products import parse_product

    tiny.save("spikes.clusters.npy", tiny.clusters.astype(dtype))
    tiny.save("clusters.channels.npy", np.array([0, 2, 1, 2]).astype(dtype))
    tiny.save("spikes.times.npy", tiny.times.astype(">f8"))
    sorting = load(tiny)
    np.testing.assert_array_equal(sorting.spikes.times, tiny.times)
    product = parse_product("counts_100ms")
    inputs = Inputs(FolderCatalog(tiny.folder), tiny.pid)
    arrays, regions = product.arrays(inputs)
    counts = product.blocks(inputs, arrays, regions[0])["counts"]
    np.testing.assert_array_equal(counts.sum(1), np.bincount(tiny.clusters, minlength=4))


def test_half_floats_are_refused(tiny):
    tiny.save("spikes.times.npy", tiny.times.astype(np.float16))
    with pytest.raises(CorruptData, match="got float16"):
        load(tiny)


@pytest.mark.parametrize("ids", [[0, 1, 2.5, 3], [0, 1, np.nan, 3], ["a", "b", "c", "d"]])
def test_cluster_ids_that_are_no_whole_numbers(tiny, ids):
    tiny.save("clusters.metrics.pqt", tiny.metrics().assign(cluster_id=ids))
    with pytest.raises(InconsistentData, match="cluster_id: expected whole numbers"):
        load(tiny)


def test_types_of_metrics(tiny):
    table = tiny.metrics().assign(
        flag=[True, False, True, True], count=pd.array([1, None, 3, 4], dtype="Int64"), word=["a", None, "c", "d"]
    )
    tiny.save("clusters.metrics.pqt", table.iloc[[0, 1, 3]])
    metrics = load(tiny).units.metrics
    np.testing.assert_array_equal(metrics["flag"], [1, 0, np.nan, 1])
    np.testing.assert_array_equal(metrics["count"], [1, np.nan, np.nan, 4])
    assert metrics["word"].tolist() == ["a", "", "", "d"]
    tiny.save("clusters.metrics.pqt", table)
    assert load(tiny).units.metrics["flag"].dtype == bool
    tiny.save("clusters.metrics.pqt", table.assign(label=["good"] * 4))
    with pytest.raises(InconsistentData, match="label: expected numbers"):
        load(tiny)


def test_metrics_whose_names_are_taken_get_another(tiny):
    from chunking.schema import metric_name, unit_coordinates

    tiny.save("clusters.metrics.pqt", tiny.metrics().assign(x=1.0, time=2.0, **{"a/b": 3.0, "": 4.0}))
    sorting = load(tiny)
    coordinates = unit_coordinates(sorting.insertion, sorting.units, sorting.channels)
    values = {name: float(v[0]) for name, v in coordinates.items() if v.dtype.kind == "f"}
    assert (values["metric_x"], values["metric_time"], values["a_b"], values["metric_"]) == (1, 2, 3, 4)
    assert values["x"] == -0.002
    assert metric_name("firing_rate") == "firing_rate"


def test_atlas_ids_as_floats(tiny):
    tiny.save("channels.brainLocationIds_ccf_2017.npy", np.array([382.0, np.nan, 385.0]))
    sorting = load(tiny)
    assert sorting.channels.locations.atlas_id.tolist() == [382, 0, 385]
    assert sorting.notes == ("1 sites have no atlas id; labelled void",)
    tiny.save("channels.brainLocationIds_ccf_2017.npy", np.array([382.0, 1.5, 385.0]))
    with pytest.raises(InconsistentData, match="expected whole numbers"):
        load(tiny)


def test_electrode_sites_split_over_revisions_are_noted(tiny):
    probe = tiny.folder / "alf/probe00"
    np.save(probe / "electrodeSites.localCoordinates.npy", np.ones((3, 2)))
    (probe / "#2024-01-01#").mkdir()
    np.save(probe / "#2024-01-01#/electrodeSites.mlapdv.npy", np.ones((3, 3)))
    sorting = load(tiny)
    assert sorting.notes[0].startswith(
        "electrodeSites.localCoordinates exist only in another revision than '2024-01-01'"
    )
    np.testing.assert_array_equal(sorting.channels.axial_um, [20, 40, 60])


def test_uuids_stay_text(tiny):
    tiny.save("clusters.uuids.csv", pd.DataFrame({"uuids": ["001", "1e5", "NA", "x"]}))
    assert load(tiny).units.uuid.tolist()[:2] == ["001", "1e5"]
    (tiny.sorting / "clusters.uuids.csv").write_text("ua\nub\nuc\nud\n")
    with pytest.raises(CorruptData, match="expected one column named uuids, got columns"):
        load(tiny)


def test_a_folder_needs_one_pid_for_each_probe(tiny):
    shutil.copytree(tiny.folder / "alf/probe00", tiny.folder / "alf/probe01")
    with pytest.raises(BadArgument, match="'x' stands for two probes"):
        FolderCatalog(tiny.folder, pids={"probe00": "x", "probe01": "x"})
