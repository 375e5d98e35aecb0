"""The stores of sessions: equal to SessionLoader where that is right, stored once, seen by every command."""

import json
import pickle
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr

import cubes
from chunking.products import parse_product
from chunking.session_products import session_products
from cubes.cli import run
from loaders.errors import NotFound, PlanRefused, StoreError
from loaders.inputs import Inputs
from loaders.sample import SAMPLE

A, B, C = SAMPLE
OF_A = sorted(set(session_products("best")) - {"pupil_right"})
OF_C = sorted(set(OF_A) - {"passive", "pose_body", "motion_energy_body", "camera_times_body"})


@pytest.fixture(scope="module")
def root(sample_source, tmp_path_factory):
    """All products of both sessions, and the channels of two probes of one."""
    root = tmp_path_factory.mktemp("sessions")
    cubes.build(cubes.plan(sample_source, [A.pid, B.pid, C.pid], ["channels", "session"], root=root))
    return root


@pytest.fixture
def first(root):
    return lambda product: xr.open_zarr(root / f"sessions/{A.eid}/{product}.zarr", chunks=None)


@pytest.fixture
def session_loader(one_local):
    from brainbox.io.one import SessionLoader

    return lambda probe: SessionLoader(one=one_local, eid=probe.eid)


def test_every_session_is_stored_once(root):
    stores = {path.relative_to(root).as_posix() for path in root.glob("sessions/*/*.zarr")}
    assert stores == {
        f"sessions/{probe.eid}/{product}.zarr" for probe, products in ((A, OF_A), (C, OF_C)) for product in products
    }
    assert {path.name for path in root.glob("insertions/*/*")} == {"channels.zarr"}


@pytest.mark.parametrize("product", OF_A)
def test_plain_xarray_opens_a_store_without_a_warning(root, product):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xr.open_zarr(root / f"sessions/{A.eid}/{product}.zarr", chunks=None)
    assert (ds.attrs["eid"], ds.attrs["pid"], ds.attrs["probe"]) == (A.eid, "", "")
    assert ds.attrs["subject"] == A.subject
    assert json.loads(ds.attrs["sources"])
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
        assert variable.dtype.kind != "f" or name == "position" or "units" in variable.attrs, name
        assert variable.attrs.get("units") != "seconds"


@pytest.mark.parametrize("probe", [A, C], ids=["first", "second"])
def test_trials_equal_those_of_session_loader(root, session_loader, probe):
    ds = xr.open_zarr(root / f"sessions/{probe.eid}/trials.zarr", chunks=None)
    oracle = session_loader(probe)
    oracle.load_trials()
    assert set(oracle.trials) <= set(ds.variables)
    for name, column in oracle.trials.items():
        np.testing.assert_array_equal(ds[name], column.to_numpy(np.float64), err_msg=name)
        assert ds[name].dtype == np.float64
    assert np.isnan(ds.stimOn_times[5])
    assert np.isnan(ds.firstMovement_times[3])
    assert not ds.bwm_include[[3, 5]].any()
    oracle.load_trials(style="tidy")
    tidy = oracle.trials
    assert ds.side.values.tolist() == tidy["gabor_stimulus_side"].tolist()
    np.testing.assert_array_equal((ds.contrast * 100).round(2), tidy["gabor_stimulus_contrast"])
    assert ds.block_index.values.tolist() == tidy["block_index"].tolist()
    assert ds.block_type.values.tolist() == tidy["block_type"].tolist()


def test_flags_of_trials(first):
    ds = first("trials")
    assert ds.choice.attrs["flag_values"] == [-1, 0, 1]
    assert ds.choice.attrs["flag_meanings"] == "CCW no-go CW"
    assert ds.feedbackType.attrs["flag_meanings"].split()[2] == "positive"
    assert "0.08" in ds.bwm_include.attrs["rule"]
    assert not ds.outside_recording.any()
    correct = ds.feedbackType.where(ds.bwm_include).groupby(ds.side).mean()
    assert set(correct.side.values) == {"left", "right"}


def test_wheel_equals_that_of_session_loader_in_float64(first, session_loader):
    """D9: theirs is float32, times too."""
    oracle = session_loader(A)
    oracle.load_wheel()
    ds = first("wheel")
    for name, column in oracle.wheel.items():
        ours = ds["time" if name == "times" else name].values
        assert (ours.dtype, column.dtype) == (np.float64, np.float32)
        np.testing.assert_array_equal(ours.astype(np.float32), column, err_msg=name)
    np.testing.assert_allclose(np.diff(ds.time), 1e-3, atol=1e-12)
    assert ds.sel(time=slice(10, 11)).sizes["time"] == 1000


@pytest.mark.parametrize("tracker", ["dlc", "lightningPose"])
def test_pose_equals_that_of_session_loader(sample_source, session_loader, tmp_path, tracker):
    products = [f"pose_{camera}" for camera in ("left", "right", "body")]
    built = cubes.build(cubes.plan(sample_source, [A.pid], products, root=tmp_path, tracker=tracker))
    oracle = session_loader(A)
    oracle.load_pose(tracker=tracker, likelihood_thr=0)
    for path, camera in zip(built, ("left", "right", "body"), strict=True):
        ds, table = xr.open_zarr(path, chunks=None), oracle.pose[f"{camera}Camera"]
        assert (ds.position.dims, ds.confidence.dims) == (("time", "space", "keypoint"), ("time", "keypoint"))
        assert (ds.attrs["tracker"], ds.attrs["ds_type"], ds.attrs["time_unit"]) == (tracker, "poses", "seconds")
        assert ds.attrs["fps"] == {"left": 60, "right": 150, "body": 30}[camera]
        np.testing.assert_array_equal(ds.time, table["times"])
        assert 3 * ds.sizes["keypoint"] + 1 == table.shape[1]
        for point in ds.keypoint.values:
            one = ds.sel(keypoint=point)
            np.testing.assert_array_equal(one.position.sel(space="x"), table[f"{point}_x"])
            np.testing.assert_array_equal(one.position.sel(space="y"), table[f"{point}_y"])
            np.testing.assert_array_equal(one.confidence, table[f"{point}_likelihood"])
        assert np.isfinite(ds.position).all()
        assert (ds.confidence < 0.9).any()
    oracle.load_pose(tracker=tracker, likelihood_thr=1)  # D10: "to skip thresholding", says its documentation
    assert oracle.pose["leftCamera"]["nose_tip_x"].isna().all()


def test_a_missing_camera_loses_only_itself(root, sample_source, session_loader):
    """D10: theirs loads none of the views."""
    with pytest.raises(Exception, match="Camera"):
        session_loader(C).load_pose()
    stores = {path.stem for path in (root / "sessions" / C.eid).glob("*.zarr")}
    assert {"pose_left", "pose_right"} <= stores
    assert "pose_body" not in stores
    with pytest.raises(NotFound, match=rf"session {C.eid}: no pose of the body camera.*_ibl_bodyCamera\.lightningPose"):
        cubes.plan(sample_source, [C.pid], ["pose_body"], root=root)


def test_motion_energy_pupil_and_licks_equal_those_of_session_loader(first, session_loader):
    oracle = session_loader(A)
    oracle.load_motion_energy()
    oracle.load_pupil()
    oracle.load_licks()
    for camera in ("left", "right", "body"):
        ds, table = first(f"motion_energy_{camera}"), oracle.motion_energy[f"{camera}Camera"]
        np.testing.assert_array_equal(ds.time, table["times"])
        np.testing.assert_array_equal(ds.motion_energy, table.iloc[:, 1])
        assert ds.attrs["square_px"] == [140, 120, 200, 250]
    pupil = first("pupil_left")
    for name, column in oracle.pupil.rename(columns={"times": "time"}).items():
        np.testing.assert_array_equal(pupil[name], column)
    assert "5 times more" in pupil.attrs["notes"]
    np.testing.assert_array_equal(first("licks").times, oracle.licks["times"])
    assert first("camera_times_left").sizes["frame"] == pupil.sizes["time"] + 5


def test_moves_and_passive_protocol(first, one_local):
    from brainbox.io.one import load_passive_rfmap

    moves = one_local.load_object(A.eid, "wheelMoves", collection="alf")
    ds = first("wheel_moves")
    np.testing.assert_array_equal(np.stack([ds.intervals_0, ds.intervals_1], 1), moves["intervals"])
    np.testing.assert_array_equal(ds.peakAmplitude, moves["peakAmplitude"])
    rfm, ds = load_passive_rfmap(A.eid, one=one_local), first("passive")
    np.testing.assert_array_equal(ds.rfm_frames, rfm["frames"])
    np.testing.assert_array_equal(ds.rfm_times, rfm["times"])
    gabor = one_local.load_dataset(A.eid, "_ibl_passiveGabor.table.csv")
    for name in ("start", "stop", "position", "contrast", "phase"):
        np.testing.assert_array_equal(ds[f"gabor_{name}"], gabor[name])
    stims = one_local.load_dataset(A.eid, "_ibl_passiveStims.table.csv")
    for name, column in stims.items():
        np.testing.assert_array_equal(ds[name], column)
    assert np.isnan(ds.noiseOn[-1])


def test_epochs_outside_the_recording_are_flagged(first):
    ds = first("epochs")
    assert ds.epoch.values.tolist() == ["task", "spontaneous", "rfm", "replay"]
    assert ds.outside_recording.values.tolist() == [False, False, False, True]
    assert float(ds.stop[3]) > ds.attrs["recording_stop_s"]
    assert "1 of 4 epochs have a time outside the recording" in ds.attrs["notes"]


# Planned and built as other products


def test_either_probe_gives_the_same_store(sample_source, root):
    one, other = (cubes.plan(sample_source, [pid], ["trials", "wheel"], root=root) for pid in (A.pid, B.pid))
    assert [(s.path, s.build_key) for s in one.stores] == [(s.path, s.build_key) for s in other.stores]
    assert all(store.exists for store in other.stores)
    assert cubes.build(other, existing="skip") == []
    with pytest.raises(StoreError, match="exists"):
        cubes.build(other)
    both = cubes.plan(sample_source, [B.pid, A.pid], ["spikes", "trials", "session"], root=root)
    assert [s.product for s in both.stores].count("trials") == 1
    assert [s.product for s in both.stores].count("spikes") == 2
    assert both.stores[1].pid == B.pid


def test_a_session_without_anything(tiny, tmp_path):
    source = cubes.source("folder", tiny.folder)
    with pytest.raises(NotFound, match=r"product 'session': .*no trials.*no pose of the body camera"):
        cubes.plan(source, [tiny.pid], ["spikes", "session"], root=tmp_path)
    np.save(tiny.folder / "alf/licks.times.npy", np.array([0.1, 0.2]))
    plan = cubes.plan(source, [tiny.pid], ["session"], root=tmp_path)
    assert [store.path for store in plan.stores] == ["sessions/session/licks.zarr"]
    cubes.build(plan)
    tree = cubes.open_session(tmp_path, "session")
    assert tree["licks"].times.values.tolist() == [0.1, 0.2]
    np.save(tiny.folder / "alf/licks.times.npy", np.empty(0))
    cubes.build(cubes.plan(source, [tiny.pid], ["session"], root=tmp_path), existing="replace")
    assert cubes.open_session(tmp_path, "session")["licks"].times.shape == (0,)


def test_a_file_that_is_lost_is_no_missing_product(sample_root, tmp_path):
    shutil.copytree(sample_root, tmp_path / "one")
    (tmp_path / "one" / A.session / "alf/licks.times.npy").unlink()
    with pytest.raises(NotFound, match="not on disk"):
        cubes.plan(cubes.source("one", tmp_path / "one"), [A.pid], ["session"], root=tmp_path / "root")


def test_names_and_trackers_that_do_not_exist(sample_source, tmp_path):
    with pytest.raises(PlanRefused, match=r"session \(all that follow\), trials, wheel"):
        cubes.plan(sample_source, [A.pid], ["pupil_body"], root=tmp_path)
    with pytest.raises(PlanRefused, match="tracker: expected one of lightningPose, dlc, best"):
        cubes.plan(sample_source, [A.pid], ["pose_left"], root=tmp_path, tracker="sleap")
    dlc, best = (cubes.plan(sample_source, [A.pid], ["pose_left"], root=tmp_path, tracker=t) for t in ("dlc", "best"))
    assert dlc.stores[0].build_key != best.stores[0].build_key


def test_long_products_are_cut_along_time_whatever_the_executor(sample_source, tmp_path, monkeypatch):
    monkeypatch.setattr("chunking.session_products._FRAME_ROWS", 5000)
    monkeypatch.setattr("chunking.session_products._WHEEL_ROWS", 50_000)
    roots = {executor: tmp_path / executor for executor in ("serial", "threads")}
    for executor, root in roots.items():
        plan = cubes.plan(sample_source, [A.pid], ["wheel", "pose_right"], root=root)
        assert [len(store.regions) for store in plan.stores] == [3, 4]
        cubes.build(plan, executor=executor)
    serial, threads = (
        {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != "manifest.json"}
        for root in roots.values()
    )
    stored = {path: data for path, data in serial.items() if ".zarr" in str(path) and ".staging" not in str(path)}
    assert len(stored) > 20
    assert all(threads[path] == data for path, data in stored.items())
    ds = xr.open_zarr(roots["serial"] / f"sessions/{A.eid}/pose_right.zarr", chunks=None)
    one = Inputs(sample_source, A.pid).session("p", session_products("best")["pose_right"].load).arrays
    np.testing.assert_array_equal(ds.position, one["position"])
    np.testing.assert_array_equal(ds.confidence, one["confidence"])


@pytest.mark.parametrize("name", OF_A)
def test_products_travel_to_workers(name):
    product = parse_product(name)
    assert pickle.loads(pickle.dumps(product)).name == name


# Seen by everything that looks at a root


def test_open_shows_the_products_of_the_session(root):
    for pid in (A.pid, B.pid):
        tree = cubes.open(root, pid)
        assert set(tree.children) == {"channels", *OF_A}
        assert tree.attrs["pid"] == pid
        assert tree["trials"].attrs["eid"] == tree.attrs["eid"] == A.eid
    assert tree["wheel"].velocity.chunks is not None
    assert tree["trials"].choice.chunks is None
    trials = tree["trials"].to_dataset()
    assert {"choice", "feedbackType", "probabilityLeft", "contrastLeft"} <= set(trials.coords)
    counts = trials.groupby("choice").count()
    assert int(counts.response_times.sum()) == trials.sizes["trial"]
    assert cubes.open_session(root, C.eid).attrs["subject"] == C.subject
    with pytest.raises(NotFound, match=A.eid):
        cubes.open_session(root, "nobody")
    with pytest.raises(NotFound, match="not in"):
        cubes.open_session(root, f"../insertions/{A.pid}")


def test_commands_see_sessions(root, capsys):
    listed = cubes.ls(root)
    assert set(listed["path"]) == {p.relative_to(root).as_posix() for p in root.glob("*/*/*.zarr")}
    trials = listed[listed["path"] == f"sessions/{A.eid}/trials.zarr"].iloc[0]
    assert (trials["pid"], trials["subject"], trials["shape"]) == ("", A.subject, "30")
    assert set(cubes.status(root)["state"]) == {"built"}
    assert set(cubes.status(root)["path"]) == set(listed["path"])
    assert set(cubes.verify(root)) == {str(root / path) for path in listed["path"]}
    assert not any(cubes.verify(root).values())
    for product in OF_A:
        assert run(["info", str(root / f"sessions/{A.eid}/{product}.zarr")]) == 0
    assert "bwm_include" in capsys.readouterr().out


def test_built_by_command_and_replaced(sample_root, tmp_path, capsys):
    """A change of a source makes a new version; the old one is kept for readers, and gc removes it."""
    one, to = tmp_path / "one", tmp_path / "root"
    shutil.copytree(sample_root, one)
    build = ["build", A.pid, B.pid, "--source", str(one), "--to", str(to), "--products", "session", "--tracker", "dlc"]
    assert run(build) == 0
    built = {path.stem for path in (to / "sessions" / A.eid).glob("*.zarr")}
    assert built == set(OF_A)
    assert xr.open_zarr(to / f"sessions/{A.eid}/pose_left.zarr", chunks=None).attrs["tracker"] == "dlc"
    assert run([*build, "--skip-existing"]) == 0
    assert f"{len(OF_A)} stores existed already" in capsys.readouterr().err
    plan = cubes.plan(cubes.source("one", one), [A.pid], ["pose_left"], root=to, tracker="lightningPose")
    assert cubes.status(to, plan).set_index("product").loc["pose_left", "state"] == "stale"
    before = cubes.open_session(to, A.eid)["pose_left"].position
    cubes.build(plan, existing="replace")
    assert cubes.open_session(to, A.eid)["pose_left"].attrs["tracker"] == "lightningPose"
    assert np.isfinite(before).all()
    assert cubes.status(to).set_index("product").loc["pose_left", "versions_kept"] == 1
    removed, kept = cubes.gc(to, older_than_s=-1)
    assert len(removed) + len(kept) == 1


def test_verified_against_the_source_and_repaired(sample_source, tmp_path):
    products = ["trials", "pose_left", "wheel"]
    cubes.build(cubes.plan(sample_source, [B.pid], products, root=tmp_path, tracker="dlc"))
    report = cubes.verify(tmp_path, source=sample_source)
    assert (len(report), any(report.values()), report.unchecked) == (3, False, {})
    folder = tmp_path / "sessions" / A.eid
    (folder / "pose_left.zarr/position/c/0/0/0").write_bytes(b"")
    (folder / "trials.zarr/manifest.json").unlink()
    repairs = cubes.repair(tmp_path, sample_source)
    assert (len(repairs), len(repairs.intact)) == (2, 1)
    assert not any(cubes.verify(tmp_path, source=sample_source).values())
    assert xr.open_zarr(folder / "pose_left.zarr", chunks=None).attrs["tracker"] == "dlc"


def test_a_session_in_staging_is_seen_and_goes_on(sample_source, tmp_path):
    plan = cubes.plan(sample_source, [A.pid], ["wheel"], root=tmp_path)

    def cut(progress):
        if progress.done == progress.total - 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cubes.build(plan, progress=cut)
    row = cubes.status(tmp_path).iloc[0]
    assert (row["path"], row["state"], row["parts_staged"]) == (f"sessions/{A.eid}/wheel.zarr", "staging", 1)
    assert [path.name for path in cubes.build(plan)] == ["wheel.zarr"]
    assert cubes.status(tmp_path)["state"].tolist() == ["built"]
