"""The cameras of a session: frame times, tracked points, motion energy, pupil. Each camera by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import BadArgument, CorruptData, InconsistentData
from loaders.recording_span import note_outside, recording_span
from loaders.records import DatasetRecord, Floats
from loaders.session_files import NotRecorded, SessionData, SessionFiles

CAMERAS = ("left", "right", "body")
TRACKERS = {"lightningPose": "LightningPose", "dlc": "DeepLabCut"}
"""Trackers, the better one first, and what the package ``movement`` calls them."""
BEST = "best"
_PUPIL = ("pupilDiameter_raw", "pupilDiameter_smooth")
SNR_OF_IBL = 5.0  # below, brainbox's SessionLoader throws the pupil away


def load_camera_times(files: SessionFiles, *, camera: str) -> SessionData:
    """``times`` (frame,) of every frame of one camera, session seconds, as they are in the file."""
    times, facts = _times(files, camera)
    return files.data({"times": times}, facts)


def load_pose(files: SessionFiles, *, camera: str, tracker: str = BEST) -> SessionData:
    """Tracked points of one camera, as the tracker gave them: nothing is thresholded.

    Parameters
    ----------
    files : SessionFiles
    camera : str
        One of `CAMERAS`.
    tracker : str
        One of `TRACKERS`, or ``best``: the first of them that the session has.

    Returns
    -------
    SessionData
        ``time`` (time,), s; ``space`` and ``keypoint``, names; ``position`` (time, space, keypoint), pixels;
        ``confidence`` (time, keypoint), from 0 to 1.

    Raises
    ------
    BadArgument
        If there is no such tracker.
    NotRecorded
        If the session lacks the pose or the frame times of this camera.
    InconsistentData
        If there are more frames than frame times.
    CorruptData
        If the table holds no points.
    """
    chosen, record = _choose_tracker(files, camera, tracker)
    table = files.table(record)
    points = [str(name).removesuffix("_likelihood") for name in table.columns if str(name).endswith("_likelihood")]
    wanted = [f"{point}_{part}" for point in points for part in ("x", "y", "likelihood")]
    if not points or (missing := [name for name in wanted if name not in table.columns]):
        lacking = ", ".join(missing) if points else "columns <point>_x, <point>_y, <point>_likelihood"
        raise CorruptData(f"{record.rel_path}: expected the place of every point, got no {lacking}")
    if left := [str(name) for name in table.columns if name not in wanted]:
        files.notes.append(f"{record.name}: {len(left)} columns that are no points are left out: {', '.join(left)}")
    values = table[wanted].to_numpy().reshape(len(table), len(points), 3)
    if values.dtype.kind != "f":
        raise CorruptData(f"{record.rel_path}: expected floats, got {values.dtype}")
    times, facts = _times(files, camera, len(table), record.name)
    arrays = {
        "time": times,
        "space": np.array(["x", "y"], dtype=object),
        "keypoint": np.array(points, dtype=object),
        "position": values[:, :, :2].swapaxes(1, 2),
        "confidence": values[:, :, 2],
    }
    tracked = {"tracker": chosen, "source_software": TRACKERS[chosen], "ds_type": "poses", "time_unit": "seconds"}
    return files.data(arrays, facts | tracked)


def load_motion_energy(files: SessionFiles, *, camera: str) -> SessionData:
    """``time`` and ``motion_energy``, both (time,): change between frames in a square of one camera."""
    record = files.need(f"{camera}Camera.ROIMotionEnergy.npy", f"motion energy of the {camera} camera")
    energy = np.asarray(files.array(record), np.float64)
    times, facts = _times(files, camera, len(energy), record.name)
    facts["region"] = "body" if camera == "body" else "whisker pad"
    if square := files.find(f"{camera}ROIMotionEnergy.position.npy"):
        facts["square_px"] = files.array(square, "fiu").tolist()  # width, height, x and y of a corner
    return files.data({"time": times, "motion_energy": energy}, facts)


def load_pupil(files: SessionFiles, *, camera: str) -> SessionData:
    """``time``, ``pupilDiameter_raw`` and ``pupilDiameter_smooth``, each (time,), pixels, those that IBL computed.

    The ratio by which ``brainbox.io.one.SessionLoader`` throws a pupil away is the fact ``snr``; nothing is thrown away
    here, and nothing is computed where the file is absent.
    """
    record = files.need(f"{camera}Camera.features.pqt", f"pupil of the {camera} camera")
    table = files.table(record)
    pupil = {name: table[name].to_numpy(np.float64) for name in _PUPIL if name in table.columns}
    missing = [name for name in _PUPIL if name not in pupil]
    if not pupil:
        raise NotRecorded(f"no pupil of the {camera} camera: {record.rel_path} has no column {', '.join(missing)}")
    times, facts = _times(files, camera, len(table), record.name)
    if missing:
        files.notes.append(f"{missing[0]}: left out, because {record.name} lacks it")
    elif (snr := _snr(*pupil.values())) is not None:
        facts["snr"] = snr
        if snr < SNR_OF_IBL:
            files.notes.append(f"the pupil has a signal to noise of {snr:.2f}; IBL does not use it below {SNR_OF_IBL}")
    return files.data({"time": times, **pupil}, facts)


def _snr(raw: Floats, smooth: Floats) -> float | None:
    """Variance of the smooth pupil over that of what was smoothed away; None where that is nothing."""
    both = np.isfinite(raw) & np.isfinite(smooth)
    noise = float(np.var(smooth[both] - raw[both])) if both.any() else 0.0
    return float(np.var(smooth[both])) / noise if noise else None


def _choose_tracker(files: SessionFiles, camera: str, tracker: str) -> tuple[str, DatasetRecord]:
    if tracker != BEST and tracker not in TRACKERS:
        raise BadArgument(f"tracker: expected one of {', '.join((*TRACKERS, BEST))}, got {tracker!r}")
    found = {name: record for name in TRACKERS if (record := files.find(f"{camera}Camera.{name}.pqt"))}
    wanted = next(iter(found), BEST) if tracker == BEST else tracker
    if wanted not in found:
        names = " or ".join(f"_ibl_{camera}Camera.{name}.pqt" for name in (TRACKERS if tracker == BEST else [tracker]))
        raise NotRecorded(
            f"no pose of the {camera} camera by tracker {tracker!r}: expected {names} in alf, which this session "
            f"lacks; trackers that exist: {', '.join(found) or 'none'}"
        )
    return wanted, found[wanted]


def _times(
    files: SessionFiles, camera: str, n_frames: int | None = None, of: str = ""
) -> tuple[Floats, dict[str, Any]]:
    """Times (frame,) of the frames of some data, and what they tell of the camera.

    Cameras without a counter lost their first frames: where there are more times than frames, the first times are
    dropped, as ``SessionLoader`` does; the other way round, no time is known for certain.
    """
    record = files.need(f"{camera}Camera.times.npy", f"frame times of the {camera} camera")
    times: NDArray[np.float64] = np.asarray(files.array(record), np.float64)
    n = len(times) if n_frames is None else n_frames
    if len(times) < n:
        raise InconsistentData(
            f"{record.name}: expected a time for each of the {n} frames of {of}, got {len(times)}; which frames they "
            "belong to is not known"
        )
    if surplus := len(times) - n:
        files.notes.append(f"{record.name} has {surplus} times more than {of} has frames: the first were dropped")
    times = times[surplus:]
    steps = np.diff(times)
    if not (steps > 0).all():
        files.notes.append(f"{record.name}: not all times are finite and later than the one before")
    span = recording_span(files)
    note_outside(files, span, f"frames of the {camera} camera", times)
    facts: dict[str, Any] = {"camera": camera} | ({} if span is None else span.facts)
    known = steps[np.isfinite(steps)]
    if len(known) and (step := float(np.median(known))) > 0:
        facts["fps"] = round(1 / step, 3)
    return times, facts
