"""Allen NWB files as cubes, against the truth of the generated release and against brute force."""

import hashlib
import json
import pickle
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr
from allen_files import write_coding_release
from allen_nwb_files import write_lfp, write_session
from allen_truth import LFP_HZ, METRICS, Lfp

import cubes
from chunking.build import StoreTask
from chunking.encode import create_arrays
from chunking.manifest import store_files
from chunking.products import parse_product
from loaders.errors import CorruptData, InconsistentData, NotFound, PlanRefused, StoreError
from loaders.inputs import Inputs
from loaders.records import DatasetRecord, Insertion


class Files:
    """A catalog of the files of one session in a folder; they may be changed, and have no hashes."""

    def __init__(self, session, folder, dataset="allen-vbn"):
        self.folder, self._session, self._dataset = folder, session, dataset
        self.probes = {f"{dataset}-{probe.probe_id}": (session, probe) for probe in session.probes}

    def insertions(self):
        return [self.insertion(pid) for pid in self.probes]

    def insertion(self, pid):
        session, probe = self.probes[pid]
        eid = f"{self._dataset}-{session.session_id}"
        return Insertion(pid, eid, probe.name, subject=str(session.mouse_id), dataset=self._dataset)

    def datasets(self, insertion):
        of = {name: probe.name for probe in self._session.probes for name in (f"probe_{probe.name}_lfp.nwb",)}
        paths = sorted(self.folder.iterdir())
        return [DatasetRecord(path.name, of.get(path.name, ""), "0.5.0", path.name, path) for path in paths]


@pytest.fixture(scope="module")
def source(allen_release, tmp_path_factory):
    return cubes.source("allen-vbn", allen_release.bucket, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def probes(allen_release):
    """Sessions and probes by pid."""
    return {f"allen-vbn-{probe.probe_id}": (s, probe) for s in allen_release.sessions for probe in s.probes}


@pytest.fixture(scope="module")
def coding(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coding")
    session = write_coding_release(folder)
    (place,) = (path.parent for path in folder.rglob(f"session_{session.session_id}.nwb"))
    for path in place.glob("probe_*_lfp.nwb"):
        path.unlink()
    return Files(session, place, "allen-vc")


SORTING = ["spikes", "channels", "counts_10ms"]


@pytest.fixture(scope="module")
def root(source, probes, tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    cubes.build(cubes.plan(source, probes, SORTING, root=root))
    return root


def truth_of(probes, pid):
    """The units of a probe by id."""
    session, probe = probes[pid]
    return sorted((unit for unit in session.units if unit.probe is probe), key=lambda unit: unit.unit_id)


def pids(n=6):
    """Places in the list of probes, for parametrization."""
    return pytest.mark.parametrize("k", range(n))


@pids()
def test_units_keep_their_spikes_and_labels(source, probes, root, k):
    pid = list(probes)[k]
    _, probe = probes[pid]
    ds = cubes.open(root, pid)["spikes"].to_dataset()
    units = truth_of(probes, pid)
    assert ds.uuid.values.tolist() == [f"allen-vbn-{unit.unit_id}" for unit in units]
    assert ds.row_size.values.tolist() == [len(unit.times) for unit in units]
    np.testing.assert_array_equal(ds.spike_time, np.concatenate([unit.times for unit in units]))
    np.testing.assert_array_equal(ds.spike_amp, np.concatenate([unit.amplitudes_v for unit in units]))
    assert (ds.spike_amp.attrs["units"], ds.spike_time.attrs["units"]) == ("V", "s")
    assert np.isnan(ds.spike_depth).all()
    assert ds.channel.values.tolist() == [unit.row for unit in units]
    assert ds.depth_um.values.tolist() == [probe.vertical_um[unit.row] for unit in units]
    assert set(ds.hemisphere.values) == {"unknown"}
    expected = [probe.acronyms[unit.row] for unit in units]
    assert ds.acronym_allen.values.tolist() == ["void" if a in ("", "None") else a for a in expected]
    assert np.isnan(ds.label).all()
    assert ds.attrs["sorter"] == "kilosort2"


def test_units_without_spikes_stay(source, probes, root):
    counts = [cubes.open(root, pid)["counts_10ms"].counts for pid in probes]
    assert sum(int((each.sum("time") == 0).sum()) for each in counts) == 9  # three of each session
    assert {each.sizes["unit"] for each in counts} == {12}


def test_metrics_keep_the_names_of_allen(source, probes, root):
    pid = next(iter(probes))
    ds = cubes.open(root, pid)["spikes"].to_dataset()
    for name in METRICS:
        expected = [unit.metrics[name] for unit in truth_of(probes, pid)]
        np.testing.assert_array_equal(ds[name], expected)
        assert ds[name].attrs["source"] == f"units {name}"
    assert np.isnan(ds.isi_violations).any()
    assert (ds.amplitude.attrs["units"], ds.waveform_duration.attrs["units"]) == ("uV", "ms")
    assert ds.quality.values.tolist() == [unit.quality for unit in truth_of(probes, pid)]
    assert ds.local_index.dtype.kind == "i"
    assert ds.cluster_id.values.tolist() == [unit.local_index + 5 for unit in truth_of(probes, pid)]
    assert ds.unit.values.tolist() == list(range(12))  # which are no cluster ids
    assert ds.unit.attrs["long_name"].startswith("place of the unit among those of its probe, by unit_id")


@pids()
def test_good_is_a_named_rule_and_hides_no_unit(source, probes, root, k):
    pid = list(probes)[k]
    ds = cubes.open(root, pid)["spikes"].to_dataset()
    good = []
    for unit in truth_of(probes, pid):
        m = unit.metrics
        limits = m["amplitude_cutoff"] <= 0.1 and m["presence_ratio"] >= 0.95 and m["isi_violations"] <= 0.5
        good.append(unit.quality == "good" and bool(unit.probe.valid[unit.row]) and limits)
    assert ds.good.values.tolist() == good
    assert any(good)
    assert not all(good)
    assert ds.good.attrs["criteria"].startswith("allen_default: quality == good and valid_data and")
    assert "3 of 12 units lack a metric of allen_default" in ds.attrs["notes"]
    assert ds.sizes["unit"] == 12  # those whose metrics are NaN are there


@pids()
def test_places(source, probes, root, k):
    pid = list(probes)[k]
    session, probe = probes[pid]
    ds = cubes.open(root, pid)["channels"].to_dataset()
    np.testing.assert_array_equal(ds.raw_ind, np.arange(384))
    np.testing.assert_array_equal(ds.ecephys_channel_id, probe.channel_ids)
    assert ds.ecephys_channel_id.dtype == "int64"
    np.testing.assert_array_equal(ds.axial_um, probe.vertical_um)
    np.testing.assert_array_equal(ds.lateral_um, probe.horizontal_um)
    places = np.column_stack([ds.ccf_ap, ds.ccf_dv, ds.ccf_ml])
    if session.registered:
        np.testing.assert_array_equal(places, probe.ccf)
        np.testing.assert_allclose(ds.x, (probe.ccf[:, 2] - 5739) * 1e-6, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ds.y, (5400 - probe.ccf[:, 0]) * 1e-6, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ds.z, (332 - probe.ccf[:, 1]) * 1e-6, rtol=0, atol=1e-12)
        assert ds.attrs["histology"] == "nwb"
    else:
        assert np.isnan(places).all()
        assert np.isnan(ds.x).all()
        assert ds.attrs["histology"] == "nwb, not registered to the CCF"
        assert "384 of 384 places are not registered" in ds.attrs["notes"]
        assert "grey" in ds.acronym_allen.values  # the regions are kept


def test_regions_at_all_levels_and_those_that_are_too_coarse(source, probes, root):
    ds = cubes.open(root, next(iter(probes)))["channels"].to_dataset()
    at = {
        str(a): (str(b), str(c), int(i))
        for a, b, c, i in zip(
            ds.acronym_allen.values, ds.acronym_beryl.values, ds.acronym_cosmos.values, ds.atlas_id.values, strict=True
        )
    }
    assert at["TH"] == ("root", "TH", 549)
    assert at["DG-mo"] == ("DG", "HPF", 10703)  # the substructure is not cut off
    assert at["VISp"] == ("VISp", "Isocortex", 385)
    assert at["void"] == ("void", "void", 0)
    assert "TH" in next(note for note in ds.attrs["notes"].split("\n") if "root" in note)


def closed_counts(times, edges):
    """As Allen's own counting has it: both edges of a bin belong to it."""
    return np.searchsorted(times, edges[1:], side="right") - np.searchsorted(times, edges[:-1], side="left")


@pids(2)
def test_counts_are_half_open_and_differ_from_closed_bins_by_spikes_on_right_edges_alone(source, probes, root, k):
    pid = list(probes)[k]
    ds = cubes.open(root, pid)["counts_10ms"].to_dataset()
    edges = np.arange(ds.sizes["time"] + 1) / 100
    on_edges = 0
    for row, unit in zip(ds.counts.values.astype(np.int64), truth_of(probes, pid), strict=True):
        half_open = np.searchsorted(unit.times, edges[1:]) - np.searchsorted(unit.times, edges[:-1])
        np.testing.assert_array_equal(row, half_open)
        on_right = np.isin(edges[1:], unit.times).astype(int)
        np.testing.assert_array_equal(closed_counts(unit.times, edges) - row, on_right)
        on_edges += on_right.sum()
    assert on_edges > 20


def test_stores_verify_and_compare_with_the_files(source, probes, root, tmp_path):
    pid = next(iter(probes))
    report = cubes.verify(root / "insertions" / pid / "spikes.zarr", level="full", source=source)
    assert not report.unchecked
    assert not any(report.values())
    again = cubes.plan(source, [pid], SORTING, root=root)
    assert all(store.exists for store in again.stores)
    for ds in (xr.open_zarr(root / f"insertions/{pid}/{name}.zarr", chunks=None) for name in SORTING):
        sources = json.loads(ds.attrs["sources"])
        assert [file["path"] for file in sources] == [f"ecephys_session_{probes[pid][0].session_id}.nwb"]


def test_stores_know_the_manifest_of_their_release_and_another_one_is_told(allen_release, tmp_path):
    pid = f"allen-vbn-{allen_release.sessions[0].probes[0].probe_id}"
    folder = allen_release.sdk_cache(tmp_path / "sdk", only=["project_metadata", "1044385384"])
    (manifest,) = folder.glob("*_project_manifest_*.json")
    text = manifest.read_bytes()
    root = tmp_path / "stores"
    cubes.build(cubes.plan(cubes.source("allen-vbn", folder), [pid], ["channels", LFP], root=root))
    said = f"{manifest.name}, blake2b {hashlib.blake2b(text).hexdigest()}"
    for name in ("channels", LFP):
        (file,) = json.loads(xr.open_zarr(root / f"insertions/{pid}/{name}.zarr", chunks=None).attrs["sources"])
        assert (file["listed_in"], file["revision"]) == (said, "0.5.0")
    manifest.write_bytes(text.replace(b"2.16.2", b"2.16.3"))  # the same files, listed anew
    again = cubes.source("allen-vbn", folder)
    report = cubes.verify(root, level="full", source=again)
    changes = "; ".join(problem.what for problems in report.values() for problem in problems)
    for path in ("ecephys_session_1044385384.nwb", "probe_probeA_lfp.nwb"):
        assert f"the source has changed since the build: {path} has listed_in {manifest.name}" in changes
    chunk = next(path for path in (root / f"insertions/{pid}/{LFP}.zarr/lfp/c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:-5])
    with pytest.raises(StoreError, match="listed_in"):
        cubes.repair(root, again)


# -- Visual Coding


def test_files_of_visual_coding(coding, tmp_path):
    first, second = coding.probes
    cubes.build(cubes.plan(coding, [first, second], ["spikes", "channels"], root=tmp_path))
    notes, dropped = [], 0
    for pid in coding.probes:
        tree = cubes.open(tmp_path, pid)
        ds, units = tree["spikes"].to_dataset(), truth_of(coding.probes, pid)
        kept = [np.sort(unit.times[unit.times >= 0]) for unit in units]
        dropped += sum(int((unit.times < 0).sum()) for unit in units)
        np.testing.assert_array_equal(ds.spike_time, np.concatenate(kept))
        assert ds.row_size.values.tolist() == [len(times) for times in kept]
        notes += ds.attrs["notes"].split("\n")
        channels = tree["channels"].to_dataset()
        assert np.isnan(channels.ccf_ml).all()  # z is a copy of y
        assert np.isfinite(channels.ccf_dv[:300]).all()
        assert np.isnan(channels.x).all()
        assert ds.uuid.values[0].startswith("allen-vc-")
    assert dropped == 2
    assert "2 spikes had negative times, which mark invalid ones, and were left out" in notes
    assert "spike times of 1 units were not in order; sorted" in notes
    assert any("left-right" in note and "NaN" in note for note in notes)


# -- files that contradict themselves


@pytest.fixture
def one(allen_release, tmp_path):
    """A source of one session whose files may be changed."""
    session = allen_release.sessions[0]
    write_session(tmp_path / "files" / f"ecephys_session_{session.session_id}.nwb", session)
    for probe in session.probes:
        write_lfp(tmp_path / "files" / f"probe_{probe.name}_lfp.nwb", session, probe, probe.lfp)
    return Files(session, tmp_path / "files")


def changed(source, change, name="ecephys_session_*.nwb"):
    pid = next(iter(source.probes))
    (path,) = source.folder.glob(name)
    with h5py.File(path, "r+") as file:
        change(file)
    return Inputs(source, pid)


def put(path, value):
    def change(file):
        file[path][...] = value(file[path][...])

    return change


def rename(old, new):
    def change(file):
        file.move(old, new)

    return change


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (put("units/peak_channel_id", lambda v: v + 1), InconsistentData, "no electrode of the file"),
        (put("units/id", lambda v: v * 0), InconsistentData, "24 different ids, got 1"),
        (put("units/spike_times_index", lambda v: v[::-1]), CorruptData, "spike_times_index: expected increasing"),
        (
            put("units/spike_times_index", lambda v: np.concatenate([v[:3], v[[4, 3]], v[5:]])),
            CorruptData,
            "spike_times_index: expected increasing",
        ),
        (put("units/spike_amplitudes_index", lambda v: np.minimum(v, v[-1] - 1)), CorruptData, "ends of 24 units"),
        (rename("units", "cells"), CorruptData, "units"),
        (put("general/extracellular_ephys/electrodes/probe_id", lambda v: v * 0 + 7), NotFound, "which has those of 7"),
        (
            put("general/extracellular_ephys/electrodes/probe_channel_number", lambda v: v * 0),
            InconsistentData,
            "some occur twice",
        ),
    ],
)
def test_files_that_contradict_themselves(one, change, error, says):
    inputs = changed(one, change)
    with pytest.raises(error, match=rf"pid allen-vbn-\d+: .*{says}"):
        _ = inputs.sorting


def test_without_quality_none_is_good_and_that_is_told(one):
    sorting = changed(one, lambda file: file.__delitem__("units/quality")).sorting
    assert not sorting.units.good.any()
    assert "units have no quality: none counts as good" in sorting.notes


def test_acronyms_that_the_atlas_does_not_have_are_told(one):
    def change(file):
        location = file["general/extracellular_ephys/electrodes/location"]
        location[5] = "XYZ"

    sorting = changed(one, change).sorting
    assert sorting.channels.locations.acronym_allen[5] == "void"
    assert any("XYZ" in note for note in sorting.notes)


def test_spikes_that_are_nan_are_left_out_and_told(one):
    def change(file):
        file["units/spike_times"][-3:] = np.nan

    inputs = changed(one, change)
    both = [inputs.sorting, Inputs(one, list(one.probes)[1]).sorting]
    assert sum("spikes have no finite time" in " ".join(sorting.notes) for sorting in both) == 1


def test_another_sorter_is_refused(source, probes):
    pid = next(iter(probes))
    with pytest.raises(NotFound, match=r"expected the only one there is, 'kilosort2', '0\.5\.0'"):
        _ = Inputs(source, pid, sorter="pykilosort").sorting
    assert len(Inputs(source, pid, sorter="kilosort2", revision="0.5.0").sorting.units) == 12


def test_there_is_no_raw_voltage(source, probes, tmp_path):
    with pytest.raises(NotFound, match="no raw ap voltage in this data set; its LFP is the product lfp_1250hz"):
        cubes.plan(source, [next(iter(probes))], ["ap"], root=tmp_path)


# -- LFP


LFP = "lfp_1250hz"
ROWS = {0: "contiguous", 1: "chunked", 2: "with a gap"}


def sorted_lfp(probe):
    order = np.argsort(probe.lfp.rows)
    return order, probe.lfp.rows[order]


@pytest.mark.parametrize("k", ROWS, ids=ROWS.values())
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_lfp(source, probes, tmp_path, k, dtype):
    pid = list(probes)[k]
    probe = probes[pid][1]
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path, lfp_dtype=dtype))
    ds = cubes.open(tmp_path, pid)[LFP].to_dataset()
    order, rows = sorted_lfp(probe)
    assert (ds.lfp.dims, ds.lfp.dtype) == (("channel", "time"), dtype)
    assert ds.channel.values.tolist() == rows.tolist()
    assert ds.ecephys_channel_id.values.tolist() == probe.channel_ids[rows].tolist()
    np.testing.assert_array_equal(ds.y_um, probe.vertical_um[rows])
    assert ds.acronym_allen.values.tolist() == [probe.acronyms[row] for row in rows]
    if dtype == "int16":
        np.testing.assert_array_equal(ds.lfp, probe.lfp.samples.T[order])
        assert ds.lfp.attrs["gain_to_uV"] == pytest.approx(1e6 * probe.lfp.gain_v, rel=1e-12)
        np.testing.assert_allclose(cubes.to_uv(ds.lfp), 1e6 * probe.lfp.values.T[order], rtol=1e-6)
    else:
        np.testing.assert_array_equal(ds.lfp, probe.lfp.values.T[order] * np.float32(1e6))
        assert ds.lfp.attrs["units"] == "uV"
    np.testing.assert_allclose(ds.time, probe.lfp.timestamps, rtol=0, atol=1e-6)
    assert ds.attrs["sampling_rate_hz"] == pytest.approx(LFP_HZ, rel=1e-9)  # not the 2500 Hz of the tables
    assert "high-pass 0.1 Hz" in ds.attrs["processing"]
    assert "saturated" not in ds


def test_time_of_lfp_is_a_clock_that_knows_the_gap_and_where_it_ends(source, probes, tmp_path):
    pid = list(probes)[2]
    stamps = probes[pid][1].lfp.timestamps
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path))
    ds = cubes.open(tmp_path, pid)[LFP].to_dataset()
    assert ds.sizes["knot"] == 4
    before, after = stamps[5999], stamps[6000]
    assert ds.sel(time=slice(before - 0.1, after + 0.1)).sizes["time"] == np.count_nonzero(
        (stamps >= before - 0.1) & (stamps <= after + 0.1)
    )
    assert ds.sel(time=slice(before + 0.01, after - 0.01)).sizes["time"] == 0
    assert f"acquisition was interrupted 1 times (s): {before:.3f} to {after:.3f}" in ds.attrs["notes"]
    for outside in (stamps[0] - 1, stamps[-1] + 1):
        with pytest.raises(KeyError):
            ds.sel(time=outside, method="nearest")


def test_alignment_does_not_reach_across_the_gap(source, probes, tmp_path):
    pid = list(probes)[2]
    lfp = probes[pid][1].lfp
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path))
    signal = cubes.open(tmp_path, pid)[LFP].lfp
    before, after = lfp.timestamps[5999], lfp.timestamps[6000]
    around = cubes.align(signal, np.array([before - 0.1, (before + after) / 2, after + 0.1]), window=(-0.2, 0.2))
    assert around["time"].attrs["sample_interval"] == pytest.approx(1 / LFP_HZ, rel=1e-9)
    steps = np.rint(around["time"].values * LFP_HZ).astype(int)
    volts = lfp.values.T[sorted_lfp(probes[pid][1])[0]]
    for i, known in enumerate((steps <= 125, steps > 10**6, steps >= -125)):
        middle = int(np.argmin(np.abs(lfp.timestamps - around.event_time.values[i])))
        expected = np.full((len(volts), len(steps)), np.nan, np.float32)
        expected[:, known] = volts[:, middle + steps[known]] * np.float32(1e6)
        np.testing.assert_array_equal(around.lfp.isel(trial=i), expected)
        np.testing.assert_array_equal(around.coverage[i] > 0, known)


def test_bins_that_reach_into_the_gap_are_nan_and_not_covered(source, probes, tmp_path):
    pid = list(probes)[2]
    lfp = probes[pid][1].lfp
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path))
    before, after = lfp.timestamps[5999], lfp.timestamps[6000]
    events = np.array([before - 0.35, before - 0.05, (before + after) / 2, after - 0.025, after + 0.2])
    around = cubes.align(cubes.open(tmp_path, pid)[LFP].lfp, events, window=(0, 0.1), width=0.1)
    np.testing.assert_allclose(around.coverage[:, 0], [1, 0.5, 0, 0.75, 1], rtol=0, atol=1e-6)
    assert np.isnan(around.lfp).all("channel")[:, 0].values.tolist() == [False, True, True, True, False]
    inside = (lfp.timestamps >= events[0]) & (lfp.timestamps < events[0] + 0.1)
    expected = lfp.values[inside].T[sorted_lfp(probes[pid][1])[0]].mean(1) * np.float32(1e6)
    np.testing.assert_allclose(around.lfp[:, 0, 0], expected, rtol=1e-4, atol=0.01)


def test_samples_that_are_no_steps_of_a_gain_stay_float(source, probes, tmp_path):
    pid = list(probes)[3]
    lfp = probes[pid][1].lfp
    with pytest.raises(PlanRefused, match=r"whole steps of 0.0975, 0.195, 0.39 uV .* build it with lfp_dtype float32"):
        cubes.plan(source, [pid], [LFP], root=tmp_path, lfp_dtype="int16")
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path))
    order, _ = sorted_lfp(probes[pid][1])
    stored = cubes.open(tmp_path, pid)[LFP].lfp
    np.testing.assert_array_equal(stored, lfp.values.T[order] * np.float32(1e6))


def test_every_chunk_is_proven_and_not_a_sample_of_them(one, tmp_path):
    def change(file):
        (data,) = (group["data"] for name, group in file["acquisition"].items() if name.endswith("_data"))
        data[9000, 3] *= np.float32(1 + 2**-22)  # far from what the plan looks at

    pid = changed(one, change, "probe_probeA_lfp.nwb").insertion.pid
    plan = cubes.plan(one, [pid], [LFP], root=tmp_path, lfp_dtype="int16")
    with pytest.raises(InconsistentData, match=r"no whole steps of 0.195 uV, as others are; build it with lfp_dtype"):
        cubes.build(plan)
    assert not (tmp_path / "insertions" / pid / f"{LFP}.zarr").exists()


@pytest.mark.parametrize("layout", ["contiguous", "chunked"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_no_task_of_lfp_holds_more_than_the_plan_says(allen_release, tmp_path, layout, dtype):
    session, n = allen_release.sessions[0], 60_000
    probe = session.probes[0]
    rows, stamps = 4 * np.arange(96) + 2, np.arange(n) / LFP_HZ
    samples = np.random.default_rng(0).normal(0, 300, (n, len(rows))).astype(np.int16)
    values = samples.astype(np.float32) * np.float32(probe.lfp.gain_v)
    lfp = Lfp(samples, probe.lfp.gain_v, values, stamps, probe.channel_ids[rows], rows, layout)
    write_lfp(tmp_path / "files/probe_probeA_lfp.nwb", session, probe, lfp)
    source = Files(session, tmp_path / "files")
    plan = cubes.plan(source, [next(iter(source.probes))], [LFP], root=tmp_path, lfp_dtype=dtype)
    (store,) = plan.stores
    inputs, product = Inputs(source, store.pid), parse_product(LFP, plan.options, "allen-vbn")
    create_arrays(tmp_path / "store", store.arrays)
    task = StoreTask(tmp_path / "store", product, inputs, store.arrays, {})
    _ = inputs.lfp
    tracemalloc.start()
    try:
        task(store.regions[0])
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1.5 * values.nbytes < held <= store.task_bytes < 2.5 * held


def test_other_rates_and_suffixes_are_refused(source, probes, tmp_path):
    pid = next(iter(probes))
    with pytest.raises(PlanRefused, match=r"expected lfp_1250hz, the rate at which this LFP was published \(1250 Hz\)"):
        cubes.plan(source, [pid], ["lfp_250hz"], root=tmp_path)
    with pytest.raises(PlanRefused, match="has processed its LFP itself"):
        cubes.plan(source, [pid], ["lfp_1250hz_car"], root=tmp_path)


def test_a_probe_without_lfp_is_refused(source, probes, tmp_path):
    pid = list(probes)[4]
    with pytest.raises(NotFound, match=f"pid {pid}: no LFP of probeA: none was released"):
        cubes.plan(source, [pid], [LFP], root=tmp_path)


def test_a_window_of_lfp(source, probes, tmp_path):
    pid = next(iter(probes))
    lfp = probes[pid][1].lfp
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path, window_s=(7, 8)))
    ds = cubes.open(tmp_path, pid)[LFP].to_dataset()
    inside = (lfp.timestamps >= 7) & (lfp.timestamps < 8)
    order, _ = sorted_lfp(probes[pid][1])
    np.testing.assert_array_equal(ds.lfp, lfp.values[inside].T[order] * np.float32(1e6))
    np.testing.assert_allclose(ds.time, lfp.timestamps[inside], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda t: t[::-1].copy(), CorruptData, "expected finite, increasing timestamps"),
        (lambda t: np.where(t > 10, np.nan, t), CorruptData, "expected finite, increasing timestamps"),
    ],
)
def test_timestamps_that_are_no_clock(one, change, error, says):
    def of_file(file):
        (stamps,) = (group["timestamps"] for name, group in file["acquisition"].items() if name.endswith("_data"))
        stamps[...] = change(stamps[...])

    with pytest.raises(error, match=rf"pid allen-vbn-\d+: .*{says}"):
        _ = changed(one, of_file, "probe_probeA_lfp.nwb").lfp


def test_a_damaged_chunk_of_lfp_ends_the_build(source, probes, one, tmp_path):
    pid = list(one.probes)[1]
    array = Inputs(one, pid).lfp.samples
    path = Path(array.source.name)
    content = bytearray(path.read_bytes())
    content[int(array.offset[2, 1]) + 100] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptData, match=r"the chunk at \(4096, 8\) is damaged"):
        cubes.build(cubes.plan(one, [pid], [LFP], root=tmp_path / "stores"))


# -- servers and workers


def contents(root):
    """All files of all stores but their manifests, which say when they were built."""
    return {
        f"{store.parent.name}/{store.name}/{key}": path.read_bytes()
        for store in sorted(root.glob("insertions/*/*.zarr"))
        for key, path in store_files(store).items()
    }


def test_a_session_from_a_server_has_the_bytes_of_the_folder(source, probes, root, allen_endpoint, tmp_path):
    first, second = list(probes)[:2]
    cubes.build(cubes.plan(source, [first, second], [LFP], root=tmp_path / "local"))
    remote = cubes.source("allen-vbn", endpoint=allen_endpoint, cache=tmp_path / "cache")
    cubes.build(cubes.plan(remote, [first, second], [*SORTING, LFP], root=tmp_path / "remote"))
    there = contents(tmp_path / "remote")
    expected = contents(tmp_path / "local") | {
        key: content for key, content in contents(root).items() if key.split("/")[0] in (first, second)
    }
    assert there.keys() == expected.keys()
    assert [key for key in there if there[key] != expected[key]] == []
    assert not list((tmp_path / "cache").rglob("*.nwb"))  # nothing was downloaded as a whole


def test_what_is_read_of_remote_files(probes, allen_server, tmp_path):
    pid = next(iter(probes))
    remote = cubes.source("allen-vbn", endpoint=allen_server.url, cache=tmp_path)
    inputs = Inputs(remote, pid)
    lfp = inputs.lfp
    asked = len(allen_server.gets())
    window = lfp.read_volts(1250, 1250 * 5)
    (only,) = allen_server.gets()[asked:]
    assert only.range == "bytes={}-{}".format(*_span(lfp.samples, 1250, 1250 * 5))
    order, _ = sorted_lfp(probes[pid][1])
    np.testing.assert_array_equal(window, probes[pid][1].lfp.values[1250 : 1250 * 5].T[order])


def _span(array, start, stop):
    row = array.shape[1] * array.dtype.itemsize
    first = int(array.offset.item())
    return first + start * row, first + stop * row - 1


def test_tasks_are_small_and_workers_need_no_hdf5(source, probes, tmp_path, monkeypatch):
    pid = next(iter(probes))
    inputs = Inputs(source, pid)
    product = parse_product(LFP, dataset="allen-vbn")
    arrays, regions = product.arrays(inputs)
    task = StoreTask(tmp_path, product, inputs, arrays, {})
    pickled = pickle.dumps(task)
    assert len(pickled) < 25_000
    monkeypatch.setitem(sys.modules, "h5py", None)
    again = pickle.loads(pickled)
    expected = probes[pid][1].lfp.values.T[sorted_lfp(probes[pid][1])[0]] * np.float32(1e6)
    np.testing.assert_array_equal(again.product.blocks(again.inputs, arrays, regions[0])["lfp"], expected)


def test_a_dask_cluster_gives_the_same_bytes(source, probes, root, tmp_path):
    pid = next(iter(probes))
    products = ["counts_10ms", LFP]
    cubes.build(cubes.plan(source, [pid], products, root=tmp_path / "dask"), executor="dask", workers=1)
    cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path / "here"), executor="serial")
    expected = contents(root) | contents(tmp_path / "here")
    there = contents(tmp_path / "dask")
    assert {key.split("/")[1] for key in there} == {"counts_10ms.zarr", f"{LFP}.zarr"}
    assert [key for key in there if there[key] != expected[key]] == []


def test_status_verify_and_repair(source, probes, tmp_path):
    pid = next(iter(probes))
    cubes.build(cubes.plan(source, [pid], ["counts_10ms", LFP], root=tmp_path, lfp_dtype="int16"))
    store = tmp_path / f"insertions/{pid}/{LFP}.zarr"
    report = cubes.verify(tmp_path, level="full", source=source)
    assert (report.unchecked, any(report.values())) == ({}, False)
    before = contents(tmp_path)
    chunk = next(path for path in (store / "lfp").rglob("*") if path.is_file() and path.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:-5])
    (problem,) = cubes.verify(store)[str(store)]
    assert "channel" in problem.cells
    assert "s)" in problem.cells  # times, by the clock of the store
    assert len(cubes.repair(tmp_path, source)) == 1
    assert contents(tmp_path) == before
    assert cubes.status(tmp_path, cubes.plan(source, [pid], ["counts_10ms"], root=tmp_path)).state.tolist() == [
        "built",
        "built",
    ]


def test_a_file_that_is_not_the_one_of_the_manifest_is_refused(source, probes, tmp_path):
    """For the LFP of one probe, the manifest of the fixture has a wrong hash."""
    pid = list(probes)[5]
    with pytest.raises(CorruptData, match="expected blake2b"):
        cubes.build(cubes.plan(source, [pid], [LFP], root=tmp_path))
    assert not (tmp_path / "insertions" / pid / f"{LFP}.zarr").exists()


def test_the_same_lines_draw_both_worlds(source, probes, root, tmp_path):
    tree = cubes.open(root, next(iter(probes)))
    events = np.arange(5.0, 20.0, 0.75)
    aligned = cubes.align(tree["spikes"], events, window=(-0.2, 0.5), width=0.1)
    unit = truth_of(probes, next(iter(probes)))[3]
    edges = np.arange(-2, 6) / 10
    expected = [np.histogram(unit.times, np.round(t + edges, 12))[0] for t in events]
    assert aligned.counts.isel(unit=3).values.sum() == pytest.approx(np.sum(expected), abs=5)
