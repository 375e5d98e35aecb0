"""Writes the task, wheel, video and passive files of a session of the sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loaders.sample_records import Floats, SampleProbe, random_stream
from loaders.sample_truth import stim_on_times

CAMERA_HZ = {"left": 60.0, "right": 150.0, "body": 30.0}
EXTRA_LEFT_TIMES = 5
_PUPIL = {
    "pupil_top_r": (0.0, -1.0),
    "pupil_bottom_r": (0.0, 1.0),
    "pupil_left_r": (-1.0, 0.0),
    "pupil_right_r": (1.0, 0.0),
}
_POINTS = {
    "left": (*_PUPIL, "nose_tip", "paw_l", "paw_r", "tongue_end_l", "tongue_end_r"),
    "right": (*_PUPIL, "nose_tip", "paw_l", "paw_r"),
    "body": ("tail_start",),
}


def write_behaviour(session: Path, probes: Sequence[SampleProbe]) -> None:
    """Write everything in ``alf`` that belongs to the session and not to one probe."""
    alf = session / "alf"
    rng = random_stream(probes[0].eid, "behaviour")
    duration_s = probes[0].duration_s
    described = [{"label": p.probe, "model": p.model, "serial": p.serial, "raw_file_name": ""} for p in probes]
    (alf / "probes.description.json").write_text(json.dumps(described) + "\n", encoding="ascii", newline="\n")
    stim_on = stim_on_times(duration_s)
    _write_trials(alf, stim_on, rng)
    _write_wheel(alf, stim_on, duration_s, rng)
    licks = (stim_on[:, None] + 0.8 + 0.15 * np.arange(6) + rng.uniform(0.0, 0.05, (len(stim_on), 6))).ravel()
    np.save(alf / "licks.times.npy", licks)
    for camera in CAMERA_HZ:
        if camera != "body" or len(probes) > 1:  # the second session has no body camera
            _write_camera(alf, camera, duration_s, rng)
    _write_pupil(alf, duration_s, random_stream(probes[0].eid, "pupil"))
    if len(probes) > 1:  # nor a passive protocol
        _write_passive(session, duration_s, random_stream(probes[0].eid, "passive"))


def _write_trials(alf: Path, stim_on: Floats, rng: np.random.Generator) -> None:
    """The table of trials, with a missing stimulus, movement and response time."""
    import pandas as pd

    n = len(stim_on)
    left, contrast = rng.random(n) < 0.5, rng.choice([0.0, 0.0625, 0.125, 0.25, 1.0], n)
    correct = rng.random(n) < 0.8
    response = stim_on + rng.uniform(0.4, 0.9, n)
    trials = pd.DataFrame({
        "goCueTrigger_times": stim_on + 0.001, "stimOff_times": response + 1.1, "stimOffTrigger_times": response + 1.05,
        "stimOnTrigger_times": stim_on - 0.03, "stimOn_times": stim_on, "goCue_times": stim_on + 0.002,
        "response_times": response, "choice": np.where(left == correct, 1.0, -1.0),
        "contrastLeft": np.where(left, contrast, np.nan), "contrastRight": np.where(left, np.nan, contrast),
        "probabilityLeft": np.repeat([0.5, 0.2, 0.8], [n - 2 * (n // 3), n // 3, n // 3]),
        "feedback_times": response + 0.003, "feedbackType": np.where(correct, 1.0, -1.0),
        "rewardVolume": np.where(correct, 1.5, 0.0), "firstMovement_times": stim_on + rng.uniform(0.1, 0.35, n),
        "intervals_0": stim_on - 0.6, "intervals_1": response + 1.3, "quiescencePeriod": rng.uniform(0.4, 0.6, n),
    })  # fmt: skip
    trials.loc[3, "firstMovement_times"] = np.nan
    trials.loc[5, ["stimOn_times", "goCue_times"]] = np.nan
    trials.loc[7, "choice"] = 0.0
    trials.to_parquet(alf / "_ibl_trials.table.pqt")


def _write_wheel(alf: Path, stim_on: Floats, duration_s: float, rng: np.random.Generator) -> None:
    """Wheel position, rad, at uneven times, and the one movement of each trial, 0.3 s long."""
    times = np.sort(rng.uniform(0.0, duration_s, int(40 * duration_s)))
    start, size = stim_on + 0.2, rng.choice([-0.4, 0.4], len(stim_on))
    progress = np.clip((times[:, None] - start) / 0.3, 0.0, 1.0)
    position = (size * (3 - 2 * progress) * progress**2).sum(axis=1)
    np.save(alf / "_ibl_wheel.timestamps.npy", times)
    np.save(alf / "_ibl_wheel.position.npy", position)
    np.save(alf / "_ibl_wheelMoves.intervals.npy", np.stack([start, start + 0.3], axis=1))
    np.save(alf / "_ibl_wheelMoves.peakAmplitude.npy", size)


def _write_camera(alf: Path, camera: str, duration_s: float, rng: np.random.Generator) -> None:
    """Frame times, two trackers and motion energy of one camera; the left one has five times too many, as real ones."""
    n_frames = int(duration_s * CAMERA_HZ[camera])
    extra = EXTRA_LEFT_TIMES if camera == "left" else 0
    np.save(alf / f"_ibl_{camera}Camera.times.npy", (np.arange(n_frames + extra) - extra) / CAMERA_HZ[camera] + 0.1)
    for tracker in ("dlc", "lightningPose"):
        _write_pose(alf / f"_ibl_{camera}Camera.{tracker}.pqt", camera, n_frames, rng)
    np.save(alf / f"{camera}Camera.ROIMotionEnergy.npy", np.round(rng.gamma(2.0, 1.5, n_frames), 3))
    np.save(alf / f"{camera}ROIMotionEnergy.position.npy", np.array([140, 120, 200, 250]))


def _write_pupil(alf: Path, duration_s: float, rng: np.random.Generator) -> None:
    """Diameter of the pupil by the left camera, as IBL computes it: raw with gaps, and smooth."""
    import pandas as pd

    n_frames = int(duration_s * CAMERA_HZ["left"])
    smooth = 24.0 + 6.0 * np.sin(2 * np.pi * np.arange(n_frames) / CAMERA_HZ["left"] / 7.0)
    raw = np.where(rng.random(n_frames) < 0.02, np.nan, np.round(smooth + rng.normal(0.0, 0.5, n_frames), 2))
    table = pd.DataFrame({"pupilDiameter_raw": raw, "pupilDiameter_smooth": smooth})
    table.to_parquet(alf / "_ibl_leftCamera.features.pqt")


def _write_passive(session: Path, duration_s: float, rng: np.random.Generator) -> None:
    """A passive protocol of 7 s that begins 2 s before the session ends; its last stimulus is after the recording."""
    import pandas as pd

    begin = duration_s - 2.0
    edges = begin + np.array([0.0, 1.0, 3.0, 7.0])
    periods = {"spontaneousActivity": edges[:2], "RFM": edges[1:3], "taskReplay": edges[2:]}
    table = pd.DataFrame({"passiveProtocol": edges[[0, 3]]} | periods, index=["start", "stop"])
    table.to_csv(session / "alf/_ibl_passivePeriods.intervalsTable.csv")
    n_frames = 119
    np.save(session / "alf/_ibl_passiveRFM.times.npy", edges[1] + np.arange(n_frames) / 60.0)
    (session / "raw_passive_data").mkdir()
    frames = rng.choice(np.array([0, 128, 255], np.uint8), (n_frames, 15, 15), p=[0.05, 0.9, 0.05])
    (session / "raw_passive_data/_iblrig_RFMapStim.raw.bin").write_bytes(frames.tobytes())
    start = edges[2] + 0.2 * np.arange(18)
    gabor = {"start": start, "stop": start + 0.1, "position": rng.choice([-35.0, 35.0], 18)}
    gabor |= {"contrast": rng.choice([0.0, 0.0625, 0.125, 0.25, 1.0], 18), "phase": rng.uniform(0, 2 * np.pi, 18)}
    pd.DataFrame(gabor).to_csv(session / "alf/_ibl_passiveGabor.table.csv", index=False)
    on = edges[2] + 0.05 + 0.4 * np.arange(10)
    stims = {"valveOn": on, "valveOff": on + 0.02, "toneOn": on + 0.05, "toneOff": on + 0.08}
    stims |= {"noiseOn": on + 0.1, "noiseOff": on + 0.14}
    table = pd.DataFrame(stims)
    table.loc[9, ["noiseOn", "noiseOff"]] = np.nan  # one noise fewer
    table.to_csv(session / "alf/_ibl_passiveStims.table.csv", index=False)


def _write_pose(path: Path, camera: str, n_frames: int, rng: np.random.Generator) -> None:
    """Tracked points: slow movement and jitter (pixels, tenths), and a likelihood that is low one frame in fifty."""
    import pandas as pd

    slow = np.sin(2 * np.pi * np.arange(n_frames) / CAMERA_HZ[camera] / 7.0)
    columns: dict[str, Floats] = {}
    for index, point in enumerate(_POINTS[camera]):
        aside = np.array(_PUPIL.get(point, (0.0, 0.0))) * (12.0 + 3.0 * slow)[:, None]
        centre = np.array([200.0, 150.0]) + (0.0 if point in _PUPIL else 30.0 * index)
        place = np.round(centre + aside + rng.normal(0.0, 0.2, (n_frames, 2)), 1)
        columns[f"{point}_x"], columns[f"{point}_y"] = place.T
        doubtful = rng.random(n_frames) < 0.02
        columns[f"{point}_likelihood"] = np.where(doubtful, 0.5, 0.999)
    pd.DataFrame(columns).to_parquet(path)
