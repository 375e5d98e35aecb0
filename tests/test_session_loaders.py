"""Trials, wheel, cameras and passive protocol: files -> arrays, against pandas, brainbox and real data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from loaders import cameras, passive, trials, wheel
from loaders.alf_paths import record_of
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound
from loaders.session_files import NotRecorded, SessionFiles

REAL = Path(__file__).parents[2] / "shared/realdata"
real = pytest.mark.skipif(not REAL.is_dir(), reason="no real recordings beside the repository")


class Session:
    """A session folder without a probe; `save` adds a file."""

    def __init__(self, folder):
        self.folder = folder

    def save(self, name, data):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, data)
        elif path.suffix == ".pqt":
            data.to_parquet(path)
        elif path.suffix == ".csv":
            data.to_csv(path)
        else:
            path.write_bytes(data)
        return path

    def files(self, default=()):
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        return SessionFiles(record_of(self.folder, name, default=name in default) for name in names)


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def table(n=6):
    rng = np.random.default_rng(0)
    on = 10.0 * np.arange(n) + 1
    return pd.DataFrame({
        "intervals_0": on - 0.5, "intervals_1": on + 5, "stimOn_times": on, "firstMovement_times": on + 0.2,
        "feedback_times": on + 1, "choice": rng.choice([-1, 0, 1], n), "feedbackType": rng.choice([-1, 1], n),
        "contrastLeft": [0.25, np.nan, 0.0, np.nan, np.nan, 1.0][:n],
        "contrastRight": [np.nan, 0.125, np.nan, 0.0, np.nan, np.nan][:n],
        "probabilityLeft": [0.5, 0.5, 0.8, 0.8, 0.2, 0.2][:n],
    })  # fmt: skip


def load(session, loader, **options):
    return loader(session.files(), **options)


# Trials


def bwm_mask(rows):
    """The mask of load_trials_and_mask of the paper, in its own words: a query for the trials to leave out."""
    query = "(firstMovement_times - stimOn_times < 0.08) | (firstMovement_times - stimOn_times > 2.0)"
    for event in trials.BWM_EVENTS:
        query += f" | {event}.isnull()"
    return ~rows.eval(query)


def test_a_table_and_single_columns_give_the_same(tmp_path):
    rows = table()
    whole, loose = Session(tmp_path / "whole"), Session(tmp_path / "loose")
    whole.save("alf/_ibl_trials.table.pqt", rows)
    for name in rows.columns:
        if not name.startswith("intervals"):
            loose.save(f"alf/_ibl_trials.{name}.npy", rows[name].to_numpy())
    loose.save("alf/_ibl_trials.intervals.npy", rows[["intervals_0", "intervals_1"]].to_numpy())
    loose.save("alf/_ibl_trials.itiDuration.npy", np.ones(len(rows) - 1))
    one, other = load(whole, trials.load_trials), load(loose, trials.load_trials)
    assert set(one.arrays) == set(other.arrays) >= {*rows.columns, "trial", "bwm_include", "side"}
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name], err_msg=name)
    for name in rows.columns:
        assert one.arrays[name].dtype == other.arrays[name].dtype == np.float64
        np.testing.assert_array_equal(one.arrays[name], rows[name])
    assert any("itiDuration" in note and "left out" in note for note in other.notes)


def test_the_table_counts_and_other_files_complete_it(session):
    rows = table()
    session.save("alf/#2025-03-03#/_ibl_trials.table.pqt", rows.assign(name="text"))
    session.save("alf/_ibl_trials.table.pqt", rows[:3])
    session.save("alf/_ibl_trials.choice.npy", np.full(len(rows), 7.0))
    session.save("alf/_ibl_trials.quiescencePeriod.npy", np.linspace(0.4, 0.5, len(rows)))
    data = load(session, trials.load_trials)
    np.testing.assert_array_equal(data.arrays["choice"], rows["choice"])
    np.testing.assert_array_equal(data.arrays["quiescencePeriod"], np.linspace(0.4, 0.5, len(rows)))
    assert any("choice" in note and "the table has" in note for note in data.notes)
    assert any("no numbers" in note and "name" in note for note in data.notes)
    assert [file.rel_path for file in data.sources][-1] == "alf/_ibl_trials.quiescencePeriod.npy"
    files = session.files(default={"alf/_ibl_trials.table.pqt", "alf/_ibl_trials.quiescencePeriod.npy"})
    with pytest.raises(InconsistentData, match="one length"):  # the older table, because the catalog says so
        trials.load_trials(files)


def test_columns_of_another_length_and_trials_of_two_tasks_are_refused(session):
    with pytest.raises(NotRecorded, match=r"_ibl_trials\.table\.pqt"):
        load(session, trials.load_trials)
    session.save("alf/task_00/_ibl_trials.table.pqt", table())
    path = session.save("alf/task_00/_ibl_trials.goCue_times.npy", np.arange(5.0))
    with pytest.raises(InconsistentData, match="'goCue_times': 5"):
        load(session, trials.load_trials)
    path.unlink()
    session.save("alf/task_01/_ibl_trials.choice.npy", np.arange(6.0))
    with pytest.raises(InconsistentData, match=r"alf/task_00, alf/task_01"):
        load(session, trials.load_trials)


def test_labels_of_trials(session):
    session.save("alf/_ibl_trials.table.pqt", table())
    found = load(session, trials.load_trials).arrays
    assert found["side"].tolist() == ["left", "right", "left", "right", "none", "left"]
    np.testing.assert_array_equal(found["contrast"], [0.25, 0.125, 0, 0, np.nan, 1])
    np.testing.assert_array_equal(found["signed_contrast"], [-0.25, 0.125, 0, 0, np.nan, -1])
    assert found["block_index"].tolist() == [0, 0, 1, 1, 2, 2]
    assert found["block_type"].tolist() == [*["unbiased"] * 2, *["left_block"] * 2, *["right_block"] * 2]


def test_labels_without_their_columns_are_left_out(session):
    session.save("alf/_ibl_trials.table.pqt", table().drop(columns=["firstMovement_times", "contrastLeft"]))
    data = load(session, trials.load_trials)
    assert not {"bwm_include", "side", "contrast"} & set(data.arrays)
    assert any("bwm_include" in note and "firstMovement_times" in note for note in data.notes)


def test_odd_probabilities_and_contrasts_on_both_sides(session):
    odd = table().assign(probabilityLeft=[np.nan, np.nan, 0.35, 0.5, 0.5, 0.8], contrastRight=[0.5, *[0.125] * 5])
    session.save("alf/_ibl_trials.table.pqt", odd)
    data = load(session, trials.load_trials)
    assert data.arrays["block_index"].tolist() == [0, 0, 1, 2, 2, 3]
    assert data.arrays["block_type"].tolist()[:4] == ["unknown", "unknown", "p=0.35", "unbiased"]
    assert data.arrays["side"].tolist()[0] == "right"
    assert any("3 trials have a contrast on both sides" in note for note in data.notes)


@pytest.mark.parametrize("reaction", [0.07, 0.08, 2.0, 2.01, np.nan])
def test_trials_that_the_map_includes(session, reaction):
    rows = table()
    rows["stimOn_times"] = 0.0  # differences are exact
    rows["firstMovement_times"] = reaction
    for row, event in enumerate(trials.BWM_EVENTS):
        if event not in ("stimOn_times", "firstMovement_times"):
            rows[event] = rows[event].astype(float)
            rows.loc[row, event] = np.nan
    session.save("alf/_ibl_trials.table.pqt", rows)
    found = load(session, trials.load_trials).arrays["bwm_include"]
    np.testing.assert_array_equal(found, bwm_mask(rows))
    assert found.any() == (0.08 <= reaction <= 2.0)


@real
def test_a_real_table_of_trials(session):
    rows = pd.read_parquet(REAL / "ibl-photometry/_ibl_trials.table.pqt")
    session.save("alf/_ibl_trials.table.pqt", rows)
    found = load(session, trials.load_trials).arrays
    assert len(found["trial"]) == 617
    for name in rows.columns:
        np.testing.assert_array_equal(found[name], rows[name].to_numpy(np.float64), err_msg=name)
        assert found[name].dtype == np.float64
    np.testing.assert_array_equal(found["bwm_include"], bwm_mask(rows))
    assert 0 < found["bwm_include"].sum() < len(rows)


@real
def test_labels_of_a_real_list_of_trials(session):
    rows = pd.read_csv(REAL / "ibllib-brainbox/trials_df_test.csv", index_col=0)
    labels = ["signed_contrast", "correct", "right_choice", "stim_side"]
    session.save("alf/_ibl_trials.table.pqt", rows.drop(columns=labels))
    found = load(session, trials.load_trials).arrays
    np.testing.assert_array_equal(found["signed_contrast"], rows["signed_contrast"])
    sides = rows["stim_side"].map({-1: "left", 1: "right"})
    assert found["side"].tolist() == sides.tolist()
    blocks = (rows["probabilityLeft"] != rows["probabilityLeft"].shift()).cumsum() - 1
    np.testing.assert_array_equal(found["block_index"], blocks)


# Outside the recording


def knots(session, stop_s=100.0, probe="probe00"):
    name = f"raw_ephys_data/{probe}/_spikeglx_ephysData_g0_t0.imec0.timestamps.npy"
    session.save(name, np.array([[0.0, 0.5], [stop_s * 30_000, stop_s + 0.5]]))


def test_trials_an_hour_late_are_flagged(session):
    rows = table()
    rows.loc[[2, 4], ["stimOn_times", "feedback_times"]] += 3600
    rows.loc[3, "feedback_times"] = np.nan  # of which nothing is known
    session.save("alf/_ibl_trials.table.pqt", rows)
    session.save("alf/_ibl_trials.intervals_bpod.npy", np.full((6, 2), 9000.0))  # on a clock of its own
    knots(session)
    data = load(session, trials.load_trials)
    assert data.arrays["intervals_bpod_1"].tolist() == [9000.0] * 6
    assert np.flatnonzero(data.arrays["outside_recording"]).tolist() == [2, 4]
    assert any("2 of 6 trials have a time outside the recording (0.500 to 100.500 s" in note for note in data.notes)
    assert data.facts["recording_span_from"] == "clock of probe00"
    knots(session, 4000, "probe01")
    later = load(session, trials.load_trials)
    assert not later.arrays["outside_recording"].any()
    assert later.facts["recording_stop_s"] == 4000.5


def test_the_length_of_a_reference_probe_is_in_its_meta(session):
    """Its knots are two, in the first second."""
    session.save("alf/_ibl_trials.table.pqt", table())
    knots(session, 1.0)
    assert "outside_recording" not in load(session, trials.load_trials).arrays
    meta = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0.ap.meta"
    session.save(meta, b"fileTimeSecs=52.0\nimSampRate=30000\n")
    data = load(session, trials.load_trials)
    assert data.facts["recording_stop_s"] == pytest.approx(52.5, abs=1e-4)
    assert data.arrays["outside_recording"].tolist() == [False] * 5 + [True]
    session.save(meta, b"fileTimeSecs=a while\n")
    assert any("not in its meta" in note for note in load(session, trials.load_trials).notes)


def test_without_a_probe_wheel_and_cameras_tell(session):
    session.save("alf/_ibl_trials.table.pqt", table())
    data = load(session, trials.load_trials)
    assert "outside_recording" not in data.arrays
    assert any("began and ended" in note for note in data.notes)
    session.save("alf/_ibl_wheel.timestamps.npy", np.linspace(0, 40.0, 50))
    session.save("alf/_ibl_leftCamera.times.npy", np.linspace(-1, 50.0, 50))
    data = load(session, trials.load_trials)
    assert (data.facts["recording_start_s"], data.facts["recording_stop_s"]) == (-1.0, 50.0)
    assert data.arrays["outside_recording"].tolist() == [False] * 5 + [True]


# Wheel


@real
def test_wheel_equals_brainbox(session):
    from brainbox.behavior.wheel import interpolate_position, movements, samples_to_cm, velocity_filtered

    folder = REAL / "ibllib-brainbox/wheel_test"
    times, position = np.load(folder / "wheel.timestamps.npy"), np.load(folder / "wheel.position.npy")
    even, time = interpolate_position(times, position)
    velocity, acceleration = velocity_filtered(even, 1000)
    session.save("alf/_ibl_wheel.timestamps.npy", times)
    session.save("alf/_ibl_wheel.position.npy", position)
    intervals = np.load(folder / "wheelMoves.intervals.npy")
    session.save("alf/_ibl_wheelMoves.intervals.npy", intervals)
    found = load(session, wheel.load_wheel).arrays
    oracle = {
        "raw_timestamps": times, "raw_position": position, "time": time, "position": even, "velocity": velocity,
        "acceleration": acceleration,
    }  # fmt: skip
    assert set(found) == set(oracle)
    for name, values in oracle.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert found[name].dtype == np.float64
    moves = load(session, wheel.load_wheel_moves)
    thresholds = dict(zip(("pos_thresh", "pos_thresh_onset"), samples_to_cm(np.array([8, 1.5])), strict=True))
    onsets, offsets, *_ = movements(found["time"], found["position"], **thresholds)  # of brainbox, on our grid
    np.testing.assert_allclose(np.stack([onsets, offsets], 1), intervals, atol=1e-5)
    np.testing.assert_array_equal(np.stack([moves.arrays["intervals_0"], moves.arrays["intervals_1"]], 1), intervals)
    assert "peakAmplitude" not in moves.arrays
    assert any("peakAmplitude" in note for note in moves.notes)


def test_times_of_the_wheel_stay_even_late_in_a_session():
    """D9: float32 times, as SessionLoader has them, are 0.24 ms apart after 2048 s, so steps of 1 ms are uneven."""
    times = 4096 + np.arange(0, 20, 0.01)
    time, *_ = wheel.even_wheel(times, np.sin(times))
    assert np.ptp(np.diff(time)) < 1e-9
    assert np.ptp(np.diff(time.astype(np.float32))) > 1e-4


def test_wheels_that_cannot_be_right(session):
    with pytest.raises(NotRecorded, match=r"wheel\.timestamps\.npy"):
        load(session, wheel.load_wheel)
    with pytest.raises(NotRecorded, match=r"wheelMoves\.intervals\.npy"):
        load(session, wheel.load_wheel_moves)
    session.save("alf/_ibl_wheel.timestamps.npy", np.arange(10.0))
    session.save("alf/_ibl_wheel.position.npy", np.arange(9.0))
    with pytest.raises(InconsistentData, match="got 10 and 9"):
        load(session, wheel.load_wheel)
    session.save("alf/_ibl_wheel.position.npy", np.arange(10.0))
    session.save("alf/_ibl_wheel.timestamps.npy", np.array([0.0, 2.0, 1.0, *range(3, 10)]))
    with pytest.raises(InconsistentData, match="in order"):
        load(session, wheel.load_wheel)
    session.save("alf/_ibl_wheel.timestamps.npy", np.arange(10.0))
    session.save("alf/_ibl_wheel.position.npy", np.where(np.arange(10) == 4, np.nan, 0.0))
    with pytest.raises(InconsistentData, match="finite positions"):
        load(session, wheel.load_wheel)
    session.save("alf/_ibl_wheel.position.npy", np.zeros(10))
    session.save("alf/_ibl_wheel.timestamps.npy", np.arange(10) / 1000)
    with pytest.raises(InconsistentData, match="too few"):
        load(session, wheel.load_wheel)
    session.save("alf/_ibl_wheelMoves.intervals.npy", np.zeros((4, 2)))
    session.save("alf/_ibl_wheelMoves.peakAmplitude.npy", np.zeros(3))
    with pytest.raises(InconsistentData, match="got 3 and 4"):
        load(session, wheel.load_wheel_moves)


# Cameras


@real
@pytest.mark.parametrize("camera", ["left", "right"])
def test_a_real_paw(session, camera):
    """A tracked paw of the International Brain Laboratory (three header rows), as their files have it."""
    name = "3f859b5c-e73a-4044-b49e-34bb81e96715"
    tracked = pd.read_csv(REAL / f"eks/ibl-paw/{name}.{camera}.rng=0.csv", header=[1, 2], index_col=0)
    times = np.load(REAL / f"eks/ibl-paw/{name}.timestamps.{camera}.npy")
    flat = tracked.set_axis([f"{point}_{part}" for point, part in tracked.columns], axis=1).reset_index(drop=True)
    session.save(f"alf/_ibl_{camera}Camera.lightningPose.pqt", flat.assign(paw_l_x_ens_median=0.0))
    session.save(f"alf/_ibl_{camera}Camera.times.npy", times)
    data = load(session, cameras.load_pose, camera=camera)
    points = list(dict.fromkeys(point for point, _ in tracked.columns))
    assert data.arrays["keypoint"].tolist() == points
    assert (data.facts["tracker"], data.facts["source_software"]) == ("lightningPose", "LightningPose")
    for i, point in enumerate(points):
        np.testing.assert_array_equal(data.arrays["position"][:, 0, i], tracked[point]["x"])
        np.testing.assert_array_equal(data.arrays["position"][:, 1, i], tracked[point]["y"])
        np.testing.assert_array_equal(data.arrays["confidence"][:, i], tracked[point]["likelihood"])
    np.testing.assert_array_equal(data.arrays["time"], times)
    assert any("no points are left out: paw_l_x_ens_median" in note for note in data.notes)
    assert data.facts["fps"] == pytest.approx({"left": 60, "right": 150}[camera], rel=0.02)


def save_pose(session, tracker, n=20, camera="left", extra_times=0):
    rng = np.random.default_rng(1)
    parts = ("x", "y", "likelihood")
    session.save(
        f"alf/_ibl_{camera}Camera.{tracker}.pqt", pd.DataFrame({f"nose_tip_{part}": rng.random(n) for part in parts})
    )
    session.save(f"alf/_ibl_{camera}Camera.times.npy", np.arange(n + extra_times) / 60)


def test_trackers(session):
    save_pose(session, "dlc")
    assert load(session, cameras.load_pose, camera="left").facts["tracker"] == "dlc"
    with pytest.raises(NotRecorded, match="trackers that exist: dlc"):
        load(session, cameras.load_pose, camera="left", tracker="lightningPose")
    save_pose(session, "lightningPose")
    assert load(session, cameras.load_pose, camera="left").facts["tracker"] == "lightningPose"
    assert load(session, cameras.load_pose, camera="left", tracker="dlc").facts["source_software"] == "DeepLabCut"
    with pytest.raises(BadArgument, match="sleap"):
        load(session, cameras.load_pose, camera="left", tracker="sleap")
    with pytest.raises(NotRecorded, match=r"_ibl_rightCamera\.lightningPose\.pqt or _ibl_rightCamera\.dlc\.pqt"):
        load(session, cameras.load_pose, camera="right")


def test_more_times_than_frames_and_fewer(session):
    save_pose(session, "dlc", extra_times=3)
    data = load(session, cameras.load_pose, camera="left")
    np.testing.assert_array_equal(data.arrays["time"], np.arange(3, 23) / 60)
    assert any("3 times more" in note and "first were dropped" in note for note in data.notes)
    assert len(load(session, cameras.load_camera_times, camera="left").arrays["times"]) == 23
    save_pose(session, "dlc", extra_times=-1)
    with pytest.raises(InconsistentData, match="each of the 20 frames"):
        load(session, cameras.load_pose, camera="left")
    (session.folder / "alf/_ibl_leftCamera.times.npy").unlink()
    with pytest.raises(NotRecorded, match=r"leftCamera\.times\.npy"):
        load(session, cameras.load_pose, camera="left")


def test_tables_that_hold_no_points(session):
    save_pose(session, "dlc")
    session.save("alf/_ibl_leftCamera.dlc.pqt", pd.DataFrame({"nose_tip_x": np.zeros(20), "nose_tip_likelihood": 1.0}))
    with pytest.raises(CorruptData, match="nose_tip_y"):
        load(session, cameras.load_pose, camera="left")
    session.save("alf/_ibl_leftCamera.dlc.pqt", pd.DataFrame({"frame": np.zeros(20)}))
    with pytest.raises(CorruptData, match="<point>_likelihood"):
        load(session, cameras.load_pose, camera="left")


def test_a_noisy_pupil_is_kept_and_noted(session):
    rng = np.random.default_rng(2)
    smooth = rng.normal(20, 1, 300)
    raw = smooth + rng.normal(0, 1, 300)
    raw[::7] = np.nan
    pupil = pd.DataFrame({"pupilDiameter_raw": raw, "pupilDiameter_smooth": smooth})
    session.save("alf/_ibl_leftCamera.features.pqt", pupil)
    session.save("alf/_ibl_leftCamera.times.npy", np.arange(300) / 60)
    data = load(session, cameras.load_pupil, camera="left")
    np.testing.assert_array_equal(data.arrays["pupilDiameter_raw"], raw)
    ok = np.isfinite(raw)
    assert data.facts["snr"] == pytest.approx(np.var(smooth[ok]) / np.var(smooth[ok] - raw[ok]))
    assert any("does not use it below 5" in note for note in data.notes)
    session.save("alf/_ibl_leftCamera.features.pqt", pupil[["pupilDiameter_raw"]])
    data = load(session, cameras.load_pupil, camera="left")
    assert set(data.arrays) == {"time", "pupilDiameter_raw"}
    assert any("pupilDiameter_smooth: left out" in note for note in data.notes)
    session.save("alf/_ibl_leftCamera.features.pqt", pd.DataFrame({"other": smooth}))
    with pytest.raises(NotRecorded, match="no column pupilDiameter_raw, pupilDiameter_smooth"):
        load(session, cameras.load_pupil, camera="left")


# Passive protocol and epochs


def save_passive(session, task="", shift=0.0):
    alf, raw = (f"alf/task_{task}", f"raw_task_data_{task}") if task else ("alf", "raw_passive_data")
    periods = {"passiveProtocol": [60, 90], "spontaneousActivity": [60, 70], "RFM": [70, 80], "taskReplay": [80, 90]}
    table = pd.DataFrame(periods, index=["start", "stop"]).astype(float) + shift
    session.save(f"{alf}/_ibl_passivePeriods.intervalsTable.csv", table)
    session.save(f"{alf}/_ibl_passiveRFM.times.npy", 70.0 + shift + np.arange(4) / 60)
    session.save(f"{raw}/_iblrig_RFMapStim.raw.bin", np.arange(900).astype(np.uint8).tobytes())


def test_passive_protocols_of_two_tasks(session):
    save_passive(session, "00")
    save_passive(session, "02", shift=3600)
    knots(session)
    found = load(session, passive.load_passive).arrays
    assert found["rfm_task"].tolist() == ["alf/task_00"] * 4 + ["alf/task_02"] * 4
    assert found["rfm_frames"].shape == (8, 15, 15)
    assert found["rfm_frames"][1, 2, 3] == found["rfm_frames"][5, 2, 3] == (225 + 2 * 15 + 3) % 256
    assert found["rfm_outside_recording"].tolist() == [False] * 4 + [True] * 4
    epochs = load(session, passive.load_epochs)
    assert epochs.arrays["epoch"].tolist() == ["spontaneous", "rfm", "replay"] * 2
    assert epochs.arrays["outside_recording"].tolist() == [False] * 3 + [True] * 3
    assert any("3 of 6 epochs" in note for note in epochs.notes)


def test_frames_that_do_not_fit_their_times_are_left_out(session):
    save_passive(session)
    session.save("alf/_ibl_passiveRFM.times.npy", np.arange(5.0))
    data = load(session, passive.load_passive)
    assert "rfm_frames" not in data.arrays
    assert any("has 4 frames of 15 x 15 pixels for 5 times" in note for note in data.notes)
    (session.folder / "raw_passive_data/_iblrig_RFMapStim.raw.bin").unlink()
    assert any("no _iblrig_RFMapStim" in note for note in load(session, passive.load_passive).notes)


def test_the_task_is_an_epoch(session):
    with pytest.raises(NotRecorded, match="neither trials nor"):
        load(session, passive.load_epochs)
    with pytest.raises(NotRecorded, match="no passive protocol"):
        load(session, passive.load_passive)
    session.save("alf/_ibl_trials.table.pqt", table())
    save_passive(session)
    found = load(session, passive.load_epochs).arrays
    assert found["epoch"].tolist() == ["task", "spontaneous", "rfm", "replay"]
    assert (found["start"].tolist(), found["stop"].tolist()) == ([0.5, 60, 70, 80], [56, 70, 80, 90])


def test_a_table_without_start_or_without_a_column(session):
    session.save("alf/_ibl_passivePeriods.intervalsTable.csv", pd.DataFrame({"RFM": [1.0]}, index=["begin"]))
    with pytest.raises(CorruptData, match="rows start and stop"):
        load(session, passive.load_epochs)
    session.save("alf/_ibl_passiveGabor.table.csv", pd.DataFrame({"start": [1.0]}))
    (session.folder / "alf/_ibl_passivePeriods.intervalsTable.csv").unlink()
    with pytest.raises(CorruptData, match="stop, position"):
        load(session, passive.load_passive)


# Files


def test_files_are_those_of_the_default_revision_or_the_latest_and_their_hash_is_checked(session):
    for revision, n in (("", 1), ("#2024-01-01#/", 2), ("#2025-01-01#/", 3)):
        session.save(f"alf/{revision}licks.times.npy", np.arange(float(n)))
    assert len(load(session, passive.load_licks).arrays["times"]) == 3
    chosen = passive.load_licks(session.files(default={"alf/#2024-01-01#/licks.times.npy"}))
    assert [(file.rel_path, file.revision) for file in chosen.sources] == [
        ("alf/#2024-01-01#/licks.times.npy", "2024-01-01")
    ]
    wrong = record_of(session.folder, "alf/licks.times.npy", md5="0" * 32)
    with pytest.raises(CorruptData, match="md5"):
        passive.load_licks(SessionFiles([wrong]))
    gone = record_of(session.folder, "alf/#2026-01-01#/licks.times.npy")
    with pytest.raises(NotFound, match="not on disk") as error:
        passive.load_licks(SessionFiles([gone]))
    assert not isinstance(error.value, NotRecorded)  # it exists, so a group of products does not go on without it
    session.save("alf/task_00/licks.times.npy", np.arange(2.0))
    with pytest.raises(InconsistentData, match="expected one in this session"):
        load(session, passive.load_licks)
