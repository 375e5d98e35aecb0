"""Writes the task, wheel and video files of a session of the sample."""

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
        _write_camera(alf, camera, duration_s, rng)


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
