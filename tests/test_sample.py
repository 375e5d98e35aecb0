"""The sample source is what it says, and the unmodified IBL tools read it."""

import hashlib
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from loaders import sample
from loaders.errors import NotFound, StoreError
from loaders.sample_sites import places, regions, sites

A, B, C = sample.SAMPLE

# of the arrays in brainbox/tests/fixtures/ephys_test.p of ibllib
REAL_SHA256 = [
    "36454618381de815b1d9190a86dd0f92fe9d2e309269516c15d8b9e39744e9d4",
    "642b5ea58cc72eade08ea9b62d3d402ef79180e2eba37f27299591d7ceed2325",
]


class Atlas:
    """The one part of an atlas that loading needs; the whole one is a download."""

    def __init__(self) -> None:
        from iblatlas.regions import BrainRegions

        self.regions = BrainRegions()


def loader(one: Any, probe: sample.SampleProbe) -> Any:
    from brainbox.io.one import SpikeSortingLoader

    return SpikeSortingLoader(one=one, pid=probe.pid, atlas=Atlas())


def load(one: Any, probe: sample.SampleProbe, **options: Any) -> Any:
    """Spikes, clusters and channels of the default sorting, as IBL's own loader has them."""
    options = {"spike_sorter": probe.sorter, "revision": "2024-05-06", "enforce_version": True} | options
    return loader(one, probe).load_spike_sorting(check_hash=False, **options)


def hashes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_real_spikes_are_those_of_the_origin() -> None:
    times, clusters = sample.real_spikes()
    assert (times.dtype, clusters.dtype) == (np.float64, np.uint32)
    found = [hashlib.sha256(array.tobytes()).hexdigest() for array in (times, clusters)]
    assert found == REAL_SHA256


def test_import_is_cheap_and_light() -> None:
    heavy = ["pandas", "pyarrow", "scipy", "one", "spikeglx", "mtscomp", "xarray", "zarr", "dask", "iblatlas"]
    code = f"import sys, loaders.sample; print([name for name in {heavy} if name in sys.modules])"
    root = Path(sample.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_pids_resolve_and_revisions_are_listed(one_local: Any) -> None:
    for probe in sample.SAMPLE:
        eid, name = one_local.pid2eid(probe.pid)
        assert (str(eid), name) == (probe.eid, probe.probe)
        found = one_local.list_revisions(probe.eid, collection=f"alf/{probe.probe}/{probe.sorter}")
        assert set(found) == set(probe.revisions)
        path = one_local.eid2path(probe.eid)
        assert path.relative_to(one_local.cache_dir).as_posix() == probe.session
    assert {str(eid) for eid in one_local.search(lab="samplelab")} == {A.eid, C.eid}


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_spike_sorting_loader_reads_and_merges(one_local: Any, probe: sample.SampleProbe) -> None:
    from brainbox.io.one import SpikeSortingLoader

    spikes, clusters, channels = load(one_local, probe)
    n_units = probe.sortings[0].n_units
    assert len(clusters["channels"]) == len(clusters["uuids"]) == len(clusters["metrics"]) == n_units
    assert len(channels["x"]) == len(channels["acronym"]) == 384
    assert spikes["clusters"].max() < n_units
    assert np.all(np.diff(spikes["times"]) >= 0)
    assert 0 < np.isnan(spikes["depths"]).mean() < 0.01
    assert 50e-6 < np.median(spikes["amps"]) < 200e-6
    metrics = clusters["metrics"]
    merged = SpikeSortingLoader.merge_clusters(spikes, clusters, channels)
    np.testing.assert_array_equal(merged["cluster_id"], np.arange(n_units))
    np.testing.assert_array_equal(merged["spike_count"], np.bincount(spikes["clusters"], minlength=n_units))
    np.testing.assert_array_equal(merged["acronym"], channels["acronym"][merged["channels"]])
    active = metrics["spike_count"] > 0
    assert 0.15 < (metrics["label"][active] == 1).mean() < 0.4


def test_probe_a_is_the_real_recording(one_local: Any) -> None:
    spikes, clusters, _ = load(one_local, A)
    times, numbers = sample.real_spikes()
    assert spikes["times"].tobytes() == times.tobytes()
    assert spikes["clusters"].tobytes() == numbers.tobytes()
    assert (clusters["metrics"]["spike_count"] == 0).sum() == 211


def test_revisions_of_probe_a_have_nothing_in_common(one_local: Any) -> None:
    _, new, _ = load(one_local, A, revision=None)
    old_spikes, old, _ = load(one_local, A, revision="2020-01-01", enforce_version=False)
    assert (len(new["uuids"]), len(old["uuids"])) == (500, 300)
    assert not set(new["uuids"]) & set(old["uuids"])
    assert not np.isin(old_spikes["times"], sample.real_spikes()[0]).any()


def test_older_sorter_of_probe_b_is_another_sorting(one_local: Any) -> None:
    old_spikes, old, _ = load(one_local, B, spike_sorter="pykilosort", revision=None)
    new_spikes, new, _ = load(one_local, B)
    assert (len(new["uuids"]), len(old["uuids"])) == (200, 160)
    assert len(old_spikes["times"]) < len(new_spikes["times"])


def test_spikes_of_probe_b_lie_on_ticks_and_often_on_edges(sample_root: Path) -> None:
    folder = sample_root / B.session / "alf/probe01/iblsorter/#2024-05-06#"
    times = np.load(folder / "spikes.times.npy")
    tick = np.rint(times * 30000).astype(np.int64)
    np.testing.assert_array_equal(times, tick / 30000)
    assert 0.09 < (tick % 300 == 0).mean() < 0.12
    assert len(times) > 145_000


def test_electrode_sites_prevail_and_differ(one_local: Any, sample_root: Path) -> None:
    ssl = loader(one_local, A)
    *_, channels = ssl.load_spike_sorting(revision="2024-05-06", check_hash=False)
    assert ssl.histology == "alf"
    xyz = np.stack([channels[axis] for axis in "xyz"], axis=1) * 1e6
    np.testing.assert_allclose(xyz, places(A, 100.0), atol=1e-6)
    folder = sample_root / A.session / "alf/probe00/pykilosort/#2024-05-06#"
    shift = np.linalg.norm(xyz - np.load(folder / "channels.mlapdv.npy"), axis=1)
    np.testing.assert_allclose(shift, 100.0, atol=1.0)
    recorded = np.load(folder / "channels.brainLocationIds_ccf_2017.npy")
    assert 30 < (recorded != channels["atlas_id"]).sum() < 150


def test_regions_are_known_and_include_void_and_root() -> None:
    from iblatlas.regions import BrainRegions

    known = BrainRegions().id
    for probe in sample.SAMPLE:
        assert np.isin(regions(probe)[0], known).all()
    assert {0, 997} <= set(regions(C)[0].tolist())


@pytest.mark.parametrize("probe", [A, C], ids=["NP1", "NP2.4"])
def test_geometry_is_that_of_spikeglx_in_raw_order(sample_root: Path, probe: sample.SampleProbe) -> None:
    import spikeglx

    meta = next((sample_root / probe.session / "raw_ephys_data" / probe.probe).glob("*.ap.meta"))
    truth = spikeglx.geometry_from_meta(spikeglx.read_meta_data(meta), sort=False)
    ours = sites(probe.model)
    np.testing.assert_array_equal(ours.shank, truth["shank"])
    folder = sample_root / probe.session / "alf" / probe.probe / probe.sortings[0].folder
    local = np.load(folder / "channels.localCoordinates.npy")
    np.testing.assert_array_equal(local, np.stack([truth["x"], truth["y"]], axis=1))
    np.testing.assert_array_equal(np.load(folder / "channels.rawInd.npy"), np.arange(384))


def test_four_shanks_are_reordered_by_spikeglx(sample_root: Path) -> None:
    import spikeglx

    meta = next((sample_root / C.session / "raw_ephys_data/probe00").glob("*.ap.meta"))
    order = spikeglx.geometry_from_meta(spikeglx.read_meta_data(meta), sort=True)["ind"]
    assert (order != np.arange(384)).any()  # or the raw order of the sample would prove nothing


def test_metrics_follow_the_ibl_formulas(sample_root: Path) -> None:
    from brainbox.metrics.single_units import compute_labels, quick_unit_metrics

    folder = sample_root / C.session / "alf" / C.probe / C.sortings[0].folder
    ours = pd.read_parquet(folder / "clusters.metrics.pqt")
    spikes = {name: np.load(folder / f"spikes.{name}.npy") for name in ("clusters", "times", "amps", "depths")}
    theirs = quick_unit_metrics(**{f"spike_{k}": v for k, v in spikes.items()}, cluster_ids=np.arange(len(ours)))
    assert list(ours.columns) == list(theirs)
    for name in (
        "cluster_id", "amp_max", "amp_min", "amp_median", "amp_std_dB", "drift", "presence_ratio",
        "presence_ratio_std", "spike_count", "firing_rate",
    ):  # fmt: skip
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, err_msg=name)
    for probe in sample.SAMPLE:
        table = pd.read_parquet(next((sample_root / probe.session / "alf" / probe.probe).rglob("#*/*.metrics.pqt")))
        label, fails = compute_labels(table, return_bitwise=True)
        np.testing.assert_allclose(table["label"], label, rtol=1e-12)
        np.testing.assert_array_equal(table["bitwise_fail"], fails)


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_clock_is_the_closed_form(one_local: Any, probe: sample.SampleProbe) -> None:
    clock, ssl = probe.clock, loader(one_local, probe)
    knots = clock.knots()
    assert (knots[0], knots[-1]) == (0, clock.n_samples - 1)
    early, late = knots[knots <= clock.bend_sample] / clock.fs_hz, knots[-1] / clock.fs_hz
    np.testing.assert_allclose(
        ssl.samples2times(knots)[: len(early)], clock.offset_s + early * (1 + clock.drift_ppm * 1e-6), rtol=0, atol=1e-9
    )
    end = early[-1] * (1 + clock.drift_ppm * 1e-6) + (late - early[-1]) * (1 + clock.late_drift_ppm * 1e-6)
    np.testing.assert_allclose(ssl.samples2times(knots[-1]), clock.offset_s + end, rtol=0, atol=1e-9)
    samples = np.linspace(0, knots[-1], 1001)
    np.testing.assert_allclose(ssl.samples2times(samples), clock.session_s(samples), rtol=0, atol=1e-9)
    np.testing.assert_allclose(clock.samples(clock.session_s(samples)), samples, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ssl.timesprobe2times(samples / clock.fs_hz), clock.session_s(samples), rtol=0, atol=1e-9)


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_spike_samples_agree_with_spike_times(one_local: Any, probe: sample.SampleProbe) -> None:
    ssl = loader(one_local, probe)
    spikes, *_ = ssl.load_spike_sorting(
        spike_sorter=probe.sorter, revision="2024-05-06", dataset_types=["spikes.samples"], check_hash=False
    )
    error_s = np.abs(ssl.samples2times(spikes["samples"]) - spikes["times"]).max()
    assert error_s <= (1e-9 if probe is C else 0.5001 / 30000 * 1.001)
    assert spikes["samples"].max() < probe.clock.n_samples


@pytest.mark.parametrize("probe", [A, C], ids=["first", "second"])
def test_session_loader_reads_behaviour(one_local: Any, probe: sample.SampleProbe) -> None:
    from brainbox.io.one import SessionLoader

    session = SessionLoader(one=one_local, eid=probe.eid)
    session.load_trials()
    onsets = session.trials["stimOn_times"]
    np.testing.assert_array_equal(np.flatnonzero(onsets.isna()), [5])
    assert session.trials["firstMovement_times"].isna().sum() == 1
    assert (session.trials["intervals_0"] < onsets.fillna(np.inf)).all()
    session.load_wheel()
    assert np.abs(session.wheel["velocity"]).max() > 0.5
    session.load_licks()
    assert len(session.licks) == 6 * len(onsets)
    views = ["left", "right", "body"] if probe is A else ["left", "right"]  # the second session has no body camera
    for tracker in ("dlc", "lightningPose"):
        session.load_pose(tracker=tracker, views=views)
        rates = {name: 1 / np.diff(table["times"]).mean() for name, table in session.pose.items()}
        assert rates == pytest.approx({f"{view}Camera": {"left": 60, "right": 150, "body": 30}[view] for view in views})
        assert 0.01 < session.pose["leftCamera"]["nose_tip_x"].isna().mean() < 0.03
    session.load_motion_energy(views=views)
    frames = {name: len(table) for name, table in session.motion_energy.items()}
    seconds = int(probe.duration_s)
    of_all = {"leftCamera": 60 * seconds, "rightCamera": 150 * seconds, "bodyCamera": 30 * seconds}
    assert frames == {name: n for name, n in of_all.items() if name.removesuffix("Camera") in views}
    session.load_pupil()
    assert session.pupil.columns.tolist() == ["times", "pupilDiameter_raw", "pupilDiameter_smooth"]
    assert len(session.pupil) == 60 * seconds


def test_left_camera_has_too_many_times(sample_root: Path) -> None:
    alf = sample_root / A.session / "alf"
    times, energy = np.load(alf / "_ibl_leftCamera.times.npy"), np.load(alf / "leftCamera.ROIMotionEnergy.npy")
    assert len(times) == len(energy) + 5


BANDS = [(A, "ap"), (A, "lf"), (B, "ap"), (B, "lf"), (C, "ap")]


@pytest.mark.parametrize(("probe", "band"), BANDS)
def test_spikeglx_opens_the_voltage_without_a_warning(
    sample_root_with_voltage: Path, probe: sample.SampleProbe, band: str, caplog: pytest.LogCaptureFixture
) -> None:
    import spikeglx

    folder = sample_root_with_voltage / probe.session / "raw_ephys_data" / probe.probe
    assert {path.suffix for path in folder.glob(f"*.{band}.*")} == {".cbin", ".ch", ".meta"}
    with caplog.at_level(logging.WARNING), spikeglx.Reader(next(folder.glob(f"*.{band}.cbin"))) as reader:
        n_samples = probe.ap_samples if band == "ap" else probe.lf_samples
        assert reader.shape == (n_samples, 385)
        rate = {"3B2": 30000.390639481, "NP2.4": 29999.757983}[probe.model]
        assert reader.fs == pytest.approx(rate / (12 if band == "lf" else 1), rel=1e-12)
        assert (reader.version, reader.type) == (probe.model, band)
        raw = reader._raw[:]
        assert hashlib.sha1(raw.tobytes()).hexdigest().upper() == reader.meta["fileSHA1"]
        assert reader._raw.chunk_bounds[1] == round(reader.fs)
        rises = np.flatnonzero(np.diff(reader.read_sync_digital(slice(0, n_samples))[:, 6].astype(int)) > 0) + 1
    half, second = round(reader.fs / 2), round(reader.fs)
    np.testing.assert_array_equal(rises, np.arange(half, n_samples, second))
    assert caplog.records == []


@pytest.mark.parametrize("probe", sample.SAMPLE, ids=["A", "B", "C"])
def test_planted_spikes_are_in_the_voltage(sample_root_with_voltage: Path, probe: sample.SampleProbe) -> None:
    import spikeglx

    path = next((sample_root_with_voltage / probe.session).glob(f"raw_ephys_data/{probe.probe}/*.ap.cbin"))
    planted = sample.planted_spikes(probe)
    with spikeglx.Reader(path, sort=False) as reader:
        volts_uv = reader[:, :-1] * 1e6
        lsb_uv = reader.sample2volts[0] * 1e6
    quiet = volts_uv[:, np.setdiff1d(np.arange(384), planted.channels)]
    noise_uv = np.median(np.abs(quiet)) * 1.4826
    assert 4.5 < noise_uv / lsb_uv < 6.5
    units = np.unique(planted.clusters)
    assert len(units) >= 6
    for unit in units:
        mine = planted.clusters == unit
        channel = planted.channels[mine][0]
        pieces = volts_uv[planted.samples[mine][:, None] + np.arange(-10, 11)][:, :, channel]
        trough = pieces[:, 10]
        expected = planted.amps_uv[mine]
        close = np.sort(np.abs(trough + expected))[: max(1, int(0.8 * mine.sum()))]  # spikes may overlap
        assert close.max() < 3.5 * noise_uv
        assert np.abs(np.argmin(np.median(pieces, axis=0)) - 10) <= 1
    inside = sample.spike_trains(probe, probe.sortings[0])
    assert np.isin(planted.samples, inside.samples).all()
    np.testing.assert_array_equal(planted.channels, inside.channels[planted.clusters])


@pytest.mark.parametrize("root", ["sample_root", "sample_root_with_voltage"])
def test_tables_list_every_file_and_nothing_else(root: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(root)
    table = pd.read_parquet(folder / "datasets.pqt").reset_index()
    session = {probe.eid: probe.session for probe in sample.SAMPLE}
    names = [f"{session[eid]}/{name}" for eid, name in zip(table["eid"], table["rel_path"], strict=True)]
    listed = dict(zip(names, table["hash"], strict=True))
    found = hashes(folder)
    tables = {"sessions.pqt", "datasets.pqt", "insertions.pqt"}
    assert tables <= set(found)
    assert listed == {name: md5 for name, md5 in found.items() if name not in tables}
    assert len(listed) == len(table)
    assert table["file_size"].tolist() == [(folder / name).stat().st_size for name in names]
    assert (table["qc"].dtype.categories[0], str(table["file_size"].dtype)) == ("NOT_SET", "UInt64")
    old = table["rel_path"].str.match(r"alf/probe00/pykilosort/[^#]") & (table["eid"] == A.eid)
    np.testing.assert_array_equal(table["default_revision"], ~old)


def test_the_client_finds_the_table_of_qc_levels_right() -> None:
    from one.alf.cache import QC_TYPE

    from loaders.sample_tables import QC_LEVELS

    assert list(QC_TYPE.categories) == list(QC_LEVELS)


def test_an_unknown_pid_is_answered_with_those_that_exist() -> None:
    assert sample.by_pid(B.pid) is B
    with pytest.raises(NotFound, match=C.pid):
        sample.by_pid("nothing")


def test_writing_twice_gives_the_same_bytes(sample_root: Path, tmp_path: Path) -> None:
    assert hashes(sample.write_sample(tmp_path / "again", voltage=False)) == hashes(sample_root)


def test_voltage_is_less_than_60_mb(sample_root_with_voltage: Path) -> None:
    total = sum(path.stat().st_size for path in sample_root_with_voltage.rglob("*") if path.is_file())
    assert 40e6 < total < 60e6


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(StoreError, match="not an empty folder"):
        sample.write_sample(tmp_path, voltage=False)
    with pytest.raises(StoreError, match="not an empty folder"):
        sample.write_sample(tmp_path / "mine.txt", voltage=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    root = sample.write_sample(tmp_path / "empty", voltage=False)
    assert (root / "sessions.pqt").exists()


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=str(tmp_path / "file")):
        sample.write_sample(tmp_path / "file" / "one", voltage=False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_nothing(tmp_path: Path, stop: type[BaseException] | OSError) -> None:
    told: list[str] = []

    def progress(message: str) -> None:
        told.append(message)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]  # and nothing under the final name
        if len(told) == 4:
            raise stop

    expected = StoreError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        sample.write_sample(tmp_path / "one", voltage=False, progress=progress)
    assert len(told) == 4
    assert list(tmp_path.iterdir()) == []
