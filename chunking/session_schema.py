"""The names on disk of the stores of a session: every variable with its dimensions, units and meaning.

Names of the IBL and of Allen (`chunking.allen_schema`) are kept verbatim. What a session need not have, such as a
column of the trials, is optional: so one product, such as ``trials``, has the columns of the data set that it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from chunking import allen_schema
from chunking.schema import SAMPLE_TIME, Variable
from chunking.schema import event_time as _at
from chunking.schema import name as _name
from loaders.cameras import CAMERAS
from loaders.trials import BWM_RULE

_TRIAL, _MOVE, _FRAME, _TIME = ("trial",), ("move",), ("frame",), ("time",)
_CHOICE = {"flag_values": [-1.0, 0.0, 1.0], "flag_meanings": "CCW no-go CW"}
_FEEDBACK = {"flag_values": [-1.0, 0.0, 1.0], "flag_meanings": "negative none positive"}


def _flag(dim: str, what: str) -> Variable:
    span = "the span of the recording is in the attributes of the store"
    return Variable((dim,), "b", f"{what} has a time outside the recording", extra={"comment": span})


TRIAL_COLUMNS = {
    "intervals_0": _at(_TRIAL, "start of the trial"),
    "intervals_1": _at(_TRIAL, "end of the trial"),
    "intervals_bpod_0": Variable(_TRIAL, "f", "start of the trial on the clock of Bpod", "s"),
    "intervals_bpod_1": Variable(_TRIAL, "f", "end of the trial on the clock of Bpod", "s"),
    "stimOn_times": _at(_TRIAL, "stimulus appears"),
    "stimOff_times": _at(_TRIAL, "stimulus disappears"),
    "stimOnTrigger_times": _at(_TRIAL, "command to show the stimulus"),
    "stimOffTrigger_times": _at(_TRIAL, "command to hide the stimulus"),
    "goCue_times": _at(_TRIAL, "go tone"),
    "goCueTrigger_times": _at(_TRIAL, "command to play the go tone"),
    "response_times": _at(_TRIAL, "response is registered"),
    "feedback_times": _at(_TRIAL, "reward or noise"),
    "firstMovement_times": _at(_TRIAL, "first movement of the wheel"),
    "choice": Variable(_TRIAL, "f", "turn of the wheel: counter-clockwise, none, clockwise", "1", _CHOICE),
    "feedbackType": Variable(_TRIAL, "f", "feedback", "1", _FEEDBACK),
    "contrastLeft": Variable(_TRIAL, "f", "contrast of a stimulus on the left, 0 to 1; NaN if on the right", "1"),
    "contrastRight": Variable(_TRIAL, "f", "contrast of a stimulus on the right, 0 to 1; NaN if on the left", "1"),
    "probabilityLeft": Variable(_TRIAL, "f", "probability that the stimulus is on the left", "1"),
    "rewardVolume": Variable(_TRIAL, "f", "volume of the reward", "uL"),
    "quiescencePeriod": Variable(_TRIAL, "f", "how long the wheel had to rest before the stimulus", "s"),
}
TRIAL_LABELS = {
    "contrast": Variable(_TRIAL, "f", "contrast of the stimulus, 0 to 1", "1"),
    "signed_contrast": Variable(_TRIAL, "f", "contrast of the stimulus, negative on the left", "1"),
    "side": _name(_TRIAL, "side of the stimulus: left, right, none"),
    "block_index": Variable(_TRIAL, "i", "block of trials of one probabilityLeft, from 0"),
    "block_type": _name(_TRIAL, "block by probabilityLeft: unbiased (0.5), left_block (0.8), right_block (0.2)"),
    "bwm_include": Variable(
        _TRIAL, "b", "the analyses of the brain-wide map include the trial", extra={"rule": BWM_RULE}
    ),
    "outside_recording": _flag("trial", "the trial"),
}

_WHEEL = {
    "time": SAMPLE_TIME,
    "position": Variable(_TIME, "f", "position of the wheel, interpolated", "rad"),
    "velocity": Variable(_TIME, "f", "velocity of the wheel, low-passed", "rad/s"),
    "acceleration": Variable(_TIME, "f", "acceleration of the wheel, low-passed", "rad/s2"),
    "raw_timestamps": _at(("wheel_sample",), "time of the sample, as recorded"),
    "raw_position": Variable(("wheel_sample",), "f", "position of the wheel, as recorded", "rad"),
}
_WHEEL_MOVES = {
    "intervals_0": _at(_MOVE, "onset of the movement"),
    "intervals_1": _at(_MOVE, "end of the movement"),
    "peakAmplitude": Variable(_MOVE, "f", "largest distance from the onset", "rad"),
    "outside_recording": _flag("move", "the movement"),
}
_POSE = {
    "time": SAMPLE_TIME,
    "space": _name(("space",), "axis of the image; y points down"),
    "keypoint": _name(("keypoint",), "tracked point"),
    "position": Variable(("time", "space", "keypoint"), "f", "place of the point in the image, not thresholded", "px"),
    "confidence": Variable(("time", "keypoint"), "f", "likelihood that the tracker gives the point", "1"),
}
_MOTION_ENERGY = {
    "time": SAMPLE_TIME,
    "motion_energy": Variable(_TIME, "f", "mean absolute difference to the frame before, in a square", "1"),
}
_PUPIL = {
    "time": SAMPLE_TIME,
    "pupilDiameter_raw": Variable(_TIME, "f", "diameter of the pupil", "px"),
    "pupilDiameter_smooth": Variable(_TIME, "f", "diameter of the pupil, outliers removed and smoothed", "px"),
}
_LICKS = {"times": _at(("lick",), "lick"), "outside_recording": _flag("lick", "the lick")}
_EPOCHS = {
    "epoch": _name(("epoch",), "what the mouse did or saw: task, spontaneous, rfm, replay"),
    "task": _name(("epoch",), "collection of the files that tell"),
    "start": _at(("epoch",), "start of the epoch"),
    "stop": _at(("epoch",), "end of the epoch"),
    "outside_recording": _flag("epoch", "the epoch"),
}
_GABOR, _STIM, _RFM, _PERIOD = ("gabor",), ("stim",), ("rfm_frame",), ("period",)
_PASSIVE = {
    "gabor_task": _name(_GABOR, "collection of the files that tell"),
    "gabor_start": _at(_GABOR, "Gabor patch appears"),
    "gabor_stop": _at(_GABOR, "Gabor patch disappears"),
    "gabor_position": Variable(_GABOR, "f", "azimuth of the Gabor patch; negative on the left", "degree"),
    "gabor_contrast": Variable(_GABOR, "f", "contrast of the Gabor patch, 0 to 1", "1"),
    "gabor_phase": Variable(_GABOR, "f", "phase of the Gabor patch", "rad"),
    "gabor_outside_recording": _flag("gabor", "the Gabor patch"),
    "stim_task": _name(_STIM, "collection of the files that tell"),
    "valveOn": _at(_STIM, "valve opens"),
    "valveOff": _at(_STIM, "valve closes"),
    "toneOn": _at(_STIM, "tone begins"),
    "toneOff": _at(_STIM, "tone ends"),
    "noiseOn": _at(_STIM, "noise begins"),
    "noiseOff": _at(_STIM, "noise ends"),
    "stim_outside_recording": _flag("stim", "one of the stimuli of the row"),
    "rfm_task": _name(_RFM, "collection of the files that tell"),
    "rfm_times": _at(_RFM, "frame of the receptive field mapping is shown"),
    "rfm_frames": Variable(
        ("rfm_frame", "y", "x"),
        "u",
        "frame of the receptive field mapping: 0 black, 128 grey, 255 white",
        extra={"comment": "as in the file, x fastest; brainbox.task.passive calls y x and x y"},
    ),
    "rfm_outside_recording": _flag("rfm_frame", "the frame"),
    "period_name": _name(_PERIOD, "period of the passive protocol"),
    "period_task": _name(_PERIOD, "collection of the files that tell"),
    "period_start": _at(_PERIOD, "start of the period"),
    "period_stop": _at(_PERIOD, "end of the period"),
    "period_outside_recording": _flag("period", "the period"),
}

VARIABLES: Mapping[str, Mapping[str, Variable]] = {
    **allen_schema.VARIABLES,
    "trials": {
        "trial": Variable(_TRIAL, "i", "row of the trial, from 0"),
        **TRIAL_COLUMNS,
        **TRIAL_LABELS,
        **allen_schema.TRIALS,
    },
    "wheel": _WHEEL,
    "wheel_moves": _WHEEL_MOVES,
    "licks": _LICKS | allen_schema.LICKS,
    "passive": _PASSIVE,
    "epochs": _EPOCHS,
    **{f"pose_{camera}": _POSE for camera in CAMERAS},
    **{f"motion_energy_{camera}": _MOTION_ENERGY for camera in CAMERAS},
    **{f"pupil_{camera}": _PUPIL for camera in ("left", "right")},
    **{f"camera_times_{camera}": {"times": _at(_FRAME, "frame of the video")} for camera in CAMERAS},
}
"""Every variable of every product of a session, by product and name."""

_OPTIONAL = {
    **allen_schema.OPTIONAL,
    "trials": {*TRIAL_COLUMNS, *TRIAL_LABELS, *allen_schema.TRIALS},
    "licks": set(allen_schema.LICKS),
    "passive": set(_PASSIVE),
    "wheel_moves": {"peakAmplitude"},
    **{f"pupil_{camera}": {"pupilDiameter_raw", "pupilDiameter_smooth"} for camera in ("left", "right")},
}
_CONDITIONS = {"choice", "feedbackType", "contrastLeft", "contrastRight", "probabilityLeft"}
COORDINATES = {
    *("trial", "time", "space", "keypoint", "epoch"),
    *_CONDITIONS,
    *TRIAL_LABELS,
    *allen_schema.COORDINATES,
}
"""Variables that are coordinates: what one selects and groups by."""


_ROWS = {"trials": "trial", **allen_schema.ROWS}
"""Products that are tables, whose columns need not be listed here, each with its dimension."""

LARGE = {
    **allen_schema.LARGE,
    "wheel": ("position", "velocity", "acceleration"),
    **{f"pose_{camera}": ("position", "confidence") for camera in CAMERAS},
}
"""Variables that are cut into chunks along time where there are any, by product; all others are one chunk each."""


def is_long(product: str) -> bool:
    """Whether a product has variables that are cut into chunks."""
    return product in LARGE


def variable(product: str, name: str) -> Variable:
    """A variable of a product; a column of a table that is not listed is described by its name."""
    known = VARIABLES[product]
    if name in known or product not in _ROWS:
        return known[name]
    described = (_ROWS[product],), "fT", f"column {name} of the {product}"
    is_time = name.endswith(("_times", "_time", "_0", "_1"))
    return Variable(*described, "s", {"clock": "session"}) if is_time else Variable(*described)


def required(product: str, present: Iterable[object] = ()) -> dict[str, Variable]:
    """The variables that a product must have, and the optional ones among those that are present."""
    there = {str(name) for name in present}
    optional = _OPTIONAL.get(product, set()) | {"outside_recording"}
    return {name: v for name, v in VARIABLES[product].items() if name not in optional or name in there}
