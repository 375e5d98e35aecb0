"""What an Allen session has beside trials and stimuli: running, licks, rewards, eyes, optotagging, invalid times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.allen_files import need_group, open_session, read_series, start_facts
from loaders.errors import InconsistentData
from loaders.nwb_table import as_numbers, as_text, read_nwb_table
from loaders.session_files import NotRecorded, SessionData, SessionFiles

if TYPE_CHECKING:
    import h5py

PARTS = ("eye", "pupil", "corneal_reflection")
_ELLIPSE = ("area", "area_raw", "width", "height", "angle")


def load_running(files: SessionFiles) -> SessionData:
    """How fast the mouse runs, about 60 times a second.

    Returns
    -------
    SessionData
        Arrays (time,): ``time`` (s), ``speed`` (cm/s). Of Visual Behavior also ``speed_unfiltered`` (cm/s) and ``dx``
        (cm); of Visual Coding, whose `time` is the begin of a sample, ``end_time`` (s) and ``wheel_rotation`` (rad).

    Raises
    ------
    NotRecorded
        If the session has no running speed.
    InconsistentData
        If its parts do not have the same times.
    """
    with open_session(files) as file:
        group = need_group(file, "processing/running", "running")
        behavior = "speed" in group
        if not behavior and "running_speed" not in group:
            raise NotRecorded("no running: /processing/running has neither speed nor running_speed")
        time, speed = read_series(group["speed" if behavior else "running_speed"])
        others = (
            {"speed_unfiltered": "speed_unfiltered", "dx": "dx"}
            if behavior
            else {"end_time": "running_speed_end_times", "wheel_rotation": "running_wheel_rotation"}
        )
        arrays = {"time": time, "speed": speed}
        for name, path in others.items():
            if path in group:
                times, arrays[name] = read_series(group[path])
                _refuse_other_times(group[path], times, time)
        return files.data(arrays, start_facts(file))


def load_licks(files: SessionFiles) -> SessionData:
    """``times`` (lick,), session seconds, and ``frame`` (lick,), that of the stimulus."""
    with open_session(files) as file:
        times, frame = read_series(need_group(file, "processing/licking/licks", "licks"))
        return files.data({"times": times, "frame": frame}, start_facts(file))


def load_rewards(files: SessionFiles) -> SessionData:
    """``times`` (s), ``volume`` (mL) and ``autorewarded`` (0 or 1), each (reward,)."""
    with open_session(files) as file:
        group = need_group(file, "processing/rewards", "rewards")
        times, volume = read_series(need_group(file, "processing/rewards/volume", "rewards"))
        arrays = {"times": times, "volume": volume}
        if "autorewarded" in group:
            others, arrays["autorewarded"] = read_series(group["autorewarded"])
            _refuse_other_times(group["autorewarded"], others, times)
        return files.data(arrays, start_facts(file))


def load_eye_tracking(files: SessionFiles) -> SessionData:
    """Ellipses fitted to the eye, the pupil and the reflection of the cornea, as they are in the file.

    Returns
    -------
    SessionData
        ``time`` (s); ``space`` (x, y); ``part`` (eye, pupil, corneal_reflection); ``position`` (time, space, part), the
        centres, pixels of the camera whatever the file says; ``area``, ``area_raw`` (px2), ``width``, ``height`` (px,
        half axes) and ``angle``, each (time, part); ``likely_blink`` (time,), 0, 1 or NaN. Nothing is masked.

    Raises
    ------
    NotRecorded
        If the session has no eye tracking.
    InconsistentData
        If its parts do not have the same times, or one has another length.
    """
    with open_session(files) as file:
        group = need_group(file, "acquisition/EyeTracking", "eye tracking")
        parts = [part for part in PARTS if f"{part}_tracking" in group]
        if not parts:
            raise NotRecorded("no eye tracking: /acquisition/EyeTracking has none of its parts")
        series = [group[f"{part}_tracking"] for part in parts]
        time, _ = read_series(series[0])
        centres = []
        for one in series:
            times, centre = read_series(one)
            _refuse_other_times(one, times, time)
            centres.append(_of_shape(one, "data", centre, (len(time), 2)))
        arrays: dict[str, NDArray[Any]] = {
            "time": time,
            "space": np.array(["x", "y"], object),
            "part": np.array(parts, object),
            "position": np.stack(centres, axis=-1),
        }
        for name in _ELLIPSE:
            if all(name in one for one in series):
                columns = [_of_shape(one, name, np.asarray(one[name][:], np.float64), (len(time),)) for one in series]
                arrays[name] = np.stack(columns, axis=-1)
        if "likely_blink" in group:
            times, arrays["likely_blink"] = read_series(group["likely_blink"])
            _refuse_other_times(group["likely_blink"], times, time)
        return files.data(arrays, start_facts(file))


def load_optotagging(files: SessionFiles) -> SessionData:
    """The columns of the table of light pulses (pulse,): ``start_time``, ``stop_time`` (s), ``level`` and so on."""
    with open_session(files) as file:
        path = "processing/optotagging/optogenetic_stimulation"
        table = read_nwb_table(need_group(file, path, "optotagging"), files.notes)
        text = ("condition", "stimulus_name")
        columns = {name: as_text(v) if name in text else as_numbers(v) for name, v in table.columns.items()}
        return files.data({"pulse": np.arange(len(table)), **columns}, start_facts(file))


def load_invalid_times(files: SessionFiles) -> SessionData:
    """When something was wrong, and with what.

    Returns
    -------
    SessionData
        ``start_time``, ``stop_time`` (s) and the three tags of the file, ``scope`` (EcephysSession, EcephysProbe),
        ``id`` and ``label`` (all_probes, stimulus, optotagging, or the name of a probe), each (interval,).

    Raises
    ------
    NotRecorded
        If the file has no such table, as those of Visual Behavior.
    InconsistentData
        If an interval has other than three tags.
    """
    with open_session(files) as file:
        table = read_nwb_table(need_group(file, "intervals/invalid_times", "invalid times"), files.notes)
        facts = start_facts(file)
    tags, ends = table.ragged.get("tags", (np.empty(0, object), np.zeros(len(table), np.int64)))
    if (np.diff(ends, prepend=0) != 3).any():
        raise InconsistentData(
            f"/intervals/invalid_times: expected three tags an interval, got {np.diff(ends, prepend=0).tolist()}"
        )
    named = dict(zip(("scope", "id", "label"), tags.reshape(-1, 3).T, strict=True))
    times = {name: table.columns[name] for name in ("start_time", "stop_time")}
    return files.data({"interval": np.arange(len(table)), **times, **named}, facts)


def _refuse_other_times(group: h5py.Group, times: NDArray[Any], expected: NDArray[Any]) -> None:
    if not np.array_equal(times, expected):
        raise InconsistentData(f"{group.name}: expected the times of the series beside it, got others")


def _of_shape(group: h5py.Group, name: str, data: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if data.shape != shape:
        raise InconsistentData(f"{group.name}/{name}: expected the shape {shape}, got {data.shape}")
    return data
