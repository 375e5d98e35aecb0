"""The names on disk of what Allen sessions have: every variable with its dimensions, units and meaning.

Names are those of the columns of the NWB files; the meanings are ours, as many of the files say "NOT IMPLEMENTED". A
truth value is 0, 1, or NaN where it is not known or makes no sense, such as ``rewarded`` outside of the task.
"""

from __future__ import annotations

from collections.abc import Mapping

from chunking.schema import SAMPLE_TIME, Variable, event_time, name

_TRIAL, _PRESENTATION, _LICK, _REWARD = ("trial",), ("presentation",), ("lick",), ("reward",)
_PULSE, _INTERVAL, _TIME, _ELLIPSE = ("pulse",), ("interval",), ("time",), ("time", "part")
_TRUTH = {"flag_values": [0.0, 1.0], "flag_meanings": "false true"}
_SHOWN = {"delay": "that of the monitor, 0.02 s, is in it: when the stimulus was seen"}
_SENT = {
    "delay": "that of the monitor is not in it: 0.02 s before the start_time of the presentation in the product stimuli"
}
_AS_RECORDED = {"comment": "unit and zero as in the file, which does not say"}


def _flag(dims: tuple[str, ...], long_name: str) -> Variable:
    return Variable(dims, "f", long_name, "1", _TRUTH)


def _number(dims: tuple[str, ...], long_name: str, units: str | None = "1") -> Variable:
    """A number; text where some tables have what is none, such as a pair of sizes."""
    return Variable(dims, "fT", long_name, units)


TRIALS = {
    "trials_id": Variable(_TRIAL, "i", "id of the trial, by which the product stimuli names it"),
    "start_time": event_time(_TRIAL, "start of the trial"),
    "stop_time": event_time(_TRIAL, "end of the trial"),
    "trial_length": Variable(_TRIAL, "f", "how long the trial took", "s"),
    "change_time_no_display_delay": Variable(
        _TRIAL, "f", "change of the image is sent to the monitor", "s", {"clock": "session", **_SENT}
    ),
    "change_frame": Variable(_TRIAL, "f", "frame of the stimulus in which the image changes", "1"),
    "response_time": event_time(_TRIAL, "the mouse responds"),
    "reward_time": event_time(_TRIAL, "reward"),
    "reward_volume": Variable(_TRIAL, "f", "volume of the reward", "mL"),
    "initial_image_name": name(_TRIAL, "image before the change; empty if there is none"),
    "change_image_name": name(_TRIAL, "image after the change; empty if there is none"),
    "stimulus_change": _flag(_TRIAL, "the image changes"),
    "go": _flag(_TRIAL, "a change is due, and comes"),
    "catch": _flag(_TRIAL, "a change is due, and does not come"),
    "hit": _flag(_TRIAL, "the mouse licks after a change"),
    "miss": _flag(_TRIAL, "the mouse does not lick after a change"),
    "false_alarm": _flag(_TRIAL, "the mouse licks in a catch trial"),
    "correct_reject": _flag(_TRIAL, "the mouse does not lick in a catch trial"),
    "aborted": _flag(_TRIAL, "the mouse licks before a change is due"),
    "auto_rewarded": _flag(_TRIAL, "the reward comes without a lick"),
    "lick_times": event_time(_LICK, "licks of all trials, one trial after the other"),
    "lick_row_size": Variable(_TRIAL, "i", "number of licks of the trial", "1", {"sample_dimension": "lick"}),
    "lick_row_start": Variable(_TRIAL, "i", "position of the first lick of the trial along the dimension lick", "1"),
}
"""Columns of the trials."""

LICKS = {"frame": Variable(_LICK, "f", "frame of the stimulus during which the mouse licks", "1")}
"""What licks have beside their times."""

_STIMULI = {
    "presentation": Variable(_PRESENTATION, "i", "row of the presentation, from 0, in order of time"),
    "start_time": Variable(_PRESENTATION, "f", "stimulus appears", "s", {"clock": "session", **_SHOWN}),
    "stop_time": Variable(_PRESENTATION, "f", "stimulus disappears", "s", {"clock": "session", **_SHOWN}),
    "duration": Variable(_PRESENTATION, "f", "how long the stimulus is there; of an omitted one, would be", "s"),
    "start_frame": Variable(_PRESENTATION, "f", "first frame of the stimulus", "1"),
    "end_frame": Variable(_PRESENTATION, "f", "frame after its last", "1"),
    "stimulus_name": name(_PRESENTATION, "kind of stimulus"),
    "stimulus_block": Variable(_PRESENTATION, "f", "block of presentations of one kind; a kind may have several", "1"),
    "trials_id": Variable(_PRESENTATION, "f", "trial, as in the product trials; NaN outside of the task", "1"),
    "image_name": name(_PRESENTATION, "image, omitted, or empty for another kind of stimulus"),
    "active": _flag(_PRESENTATION, "the mouse works: the lick spout is there"),
    "omitted": _flag(_PRESENTATION, "the image is left out"),
    "is_change": _flag(_PRESENTATION, "another image than before"),
    "is_sham_change": _flag(_PRESENTATION, "a change is due, and does not come"),
    "is_image_novel": _flag(_PRESENTATION, "the mouse has not seen the image before this session"),
    "rewarded": _flag(_PRESENTATION, "a reward comes with it"),
    "flashes_since_change": Variable(_PRESENTATION, "f", "number of images since the last change", "1"),
    "position_x": _number(_PRESENTATION, "horizontal position of the stimulus", "degree"),
    "position_y": _number(_PRESENTATION, "vertical position of the stimulus", "degree"),
    "orientation": _number(_PRESENTATION, "orientation of the stimulus", "degree"),
    "spatial_frequency": _number(_PRESENTATION, "spatial frequency", "1/degree"),
    "temporal_frequency": _number(_PRESENTATION, "temporal frequency", "Hz"),
    "contrast": _number(_PRESENTATION, "contrast, 0 to 1"),
    "color": name(
        _PRESENTATION, "colour, as the file has it: -1 is black, 1 white; empty for another kind of stimulus"
    ),
}
_RUNNING = {
    "time": SAMPLE_TIME,
    "speed": Variable(_TIME, "f", "running speed; negative backwards", "cm/s"),
    "speed_unfiltered": Variable(_TIME, "f", "running speed before it was filtered", "cm/s"),
    "dx": Variable(_TIME, "f", "distance since the sample before", "cm"),
    "end_time": event_time(_TIME, "end of the sample"),
    "wheel_rotation": Variable(_TIME, "f", "turn of the wheel during the sample", "rad"),
}
_REWARDS = {
    "times": event_time(_REWARD, "reward"),
    "volume": Variable(_REWARD, "f", "volume of the reward", "mL"),
    "autorewarded": _flag(_REWARD, "the reward comes without a lick"),
}
_PIXELS = {"comment": "pixels of the camera; the file says meters"}
_EYE_TRACKING = {
    "time": SAMPLE_TIME,
    "space": name(("space",), "axis of the image; y points down"),
    "part": name(("part",), "what the ellipse is fitted to"),
    "position": Variable(("time", "space", "part"), "f", "centre of the ellipse", "px", _PIXELS),
    "area": Variable(_ELLIPSE, "f", "area of the ellipse; NaN in blinks", "px2"),
    "area_raw": Variable(_ELLIPSE, "f", "area of the ellipse, blinks included", "px2"),
    "width": Variable(_ELLIPSE, "f", "half axis of the ellipse", "px"),
    "height": Variable(_ELLIPSE, "f", "other half axis of the ellipse", "px"),
    "angle": Variable(_ELLIPSE, "f", "angle of the ellipse", None, _AS_RECORDED),
    "likely_blink": _flag(_TIME, "the mouse probably blinks"),
}
_OPTOTAGGING = {
    "pulse": Variable(_PULSE, "i", "row of the pulse, from 0"),
    "start_time": event_time(_PULSE, "light goes on"),
    "stop_time": event_time(_PULSE, "light goes off"),
    "duration": Variable(_PULSE, "f", "how long the light is on", "s"),
    "level": Variable(_PULSE, "f", "command to the light", None, _AS_RECORDED),
    "condition": name(_PULSE, "shape of the pulse, in words"),
    "stimulus_name": name(_PULSE, "shape of the pulse"),
}
_INVALID_TIMES = {
    "interval": Variable(_INTERVAL, "i", "row of the interval, from 0"),
    "start_time": event_time(_INTERVAL, "from when on the data are invalid"),
    "stop_time": event_time(_INTERVAL, "until when the data are invalid"),
    "scope": name(_INTERVAL, "what is invalid: EcephysSession or EcephysProbe"),
    "id": name(_INTERVAL, "id of that session or probe"),
    "label": name(_INTERVAL, "what of it: all_probes, stimulus, optotagging, or the name of a probe"),
}

VARIABLES: Mapping[str, Mapping[str, Variable]] = {
    "stimuli": _STIMULI,
    "running": _RUNNING,
    "rewards": _REWARDS,
    "eye_tracking": _EYE_TRACKING,
    "optotagging": _OPTOTAGGING,
    "invalid_times": _INVALID_TIMES,
}
"""Every variable of the products that only Allen sessions have, by product and name."""

OPTIONAL = {
    "stimuli": set(_STIMULI) - {"presentation", "start_time", "stop_time", "stimulus_name"},
    "running": {"speed_unfiltered", "dx", "end_time", "wheel_rotation"},
    "rewards": {"autorewarded"},
    "eye_tracking": {"area", "area_raw", "width", "height", "angle", "likely_blink"},
    "optotagging": set(_OPTOTAGGING) - {"pulse"},
}
"""Variables that a product need not have."""

COORDINATES = {
    *("presentation", "part", "pulse", "interval", "condition", "scope", "id", "label"),
    *("go", "catch", "hit", "miss", "false_alarm", "correct_reject", "aborted", "auto_rewarded", "stimulus_change"),
    *(
        "trials_id",
        "initial_image_name",
        "change_image_name",
        "stimulus_name",
        "stimulus_block",
        "image_name",
        "active",
    ),
    *("omitted", "is_change", "is_sham_change", "is_image_novel", "rewarded", "flashes_since_change", "position_x"),
    *("position_y", "orientation", "spatial_frequency", "temporal_frequency", "color"),
}
"""What one selects and groups by."""

LARGE = {
    "running": ("speed", "speed_unfiltered", "dx", "end_time", "wheel_rotation"),
    "eye_tracking": ("position", "area", "area_raw", "width", "height", "angle", "likely_blink"),
}
"""Variables that are cut into chunks along time."""

ROWS = {"stimuli": "presentation", "optotagging": "pulse"}
"""Products that are tables, whose columns need not be listed here, each with its dimension."""
