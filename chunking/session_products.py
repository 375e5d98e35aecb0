"""The products of a session: trials, wheel, pose and so on, stored once for all its probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import xarray as xr

from chunking import schema, session_schema
from chunking.cost import Cost, label_bytes, on_disk, task_bytes, write_bytes
from chunking.plan import ArrayPlan, Region
from chunking.products import Blocks, steps
from chunking.provenance import Origin
from loaders import allen_behaviour, allen_trials, cameras, passive, trials, wheel
from loaders.errors import BadArgument
from loaders.formats import ALLEN_VBN, ALLEN_VC, IBL
from loaders.inputs import Inputs
from loaders.records import Insertion
from loaders.session_files import SessionData, SessionFiles

GROUP = "session"
"""The name that stands for every product that a session has."""

_WHEEL_ROWS, _FRAME_ROWS = 200_000, 20_000  # 200 s of the wheel, 133 to 667 s of a camera: 0.3 to 4 MB a chunk

_RATIO = 1.5  # size without compression over that on disk: of an hour of wheel 1.5, of tracked points 1.8


@dataclass(frozen=True)
class SessionProduct:
    """What `load` makes of the files of a session, labelled. What grows with the frames is cut along time."""

    name: str
    title: str
    load: Callable[[SessionFiles], SessionData]
    parameters: Mapping[str, str] = field(default_factory=dict)

    def origin(self, inputs: Inputs) -> Origin:
        data = self._data(inputs)
        return Origin(session_of(inputs.insertion), data.facts, data.sources, data.notes)

    def arrays(self, inputs: Inputs) -> tuple[tuple[ArrayPlan, ...], tuple[Region, ...]]:
        if not session_schema.is_long(self.name):
            return (), ()
        data = self._data(inputs).arrays
        rows = min(_WHEEL_ROWS if self.name == "wheel" else _FRAME_ROWS, max(len(data["time"]), 1))
        names = [name for name in session_schema.LARGE[self.name] if name in data]
        arrays = tuple(self._plan(name, data[name].shape, data[name].dtype, rows) for name in names)
        first = arrays[0]
        whole = tuple((0, size) for size in first.shape[1:])
        return arrays, tuple((step, *whole) for step in steps(first.shape[0], rows))

    def cost(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], regions: tuple[Region, ...]) -> Cost:
        data = self._data(inputs)
        held = sum(values.nbytes for values in data.arrays.values())
        longest = max((len(values) for values in data.arrays.values()), default=0)
        loading = 3 * held  # the table, its numbers, and what is made of them
        return Cost(
            sum(file.size for file in data.sources),
            on_disk(arrays, _RATIO),
            task_bytes(loading, label_bytes(longest), held + write_bytes(arrays)),
        )

    def labels(self, inputs: Inputs) -> xr.Dataset:
        large = session_schema.LARGE.get(self.name, ())
        data = {name: values for name, values in self._data(inputs).arrays.items() if name not in large}
        variables = {
            name: schema.to_variable(session_schema.variable(self.name, name), np.asarray(values))
            for name, values in data.items()
        }
        return xr.Dataset(variables).set_coords([name for name in data if name in session_schema.COORDINATES])

    def blocks(self, inputs: Inputs, arrays: tuple[ArrayPlan, ...], region: Region) -> Blocks:
        (start, stop), data = region[0], self._data(inputs).arrays
        return {array.name: data[array.name][start:stop] for array in arrays}

    def read_some(self, inputs: Inputs) -> int:
        return 0

    def check_source(self, inputs: Inputs) -> None:
        """Every file was hashed when it was loaded."""

    def _data(self, inputs: Inputs) -> SessionData:
        return inputs.session(self.name, self.load)

    def _plan(self, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int) -> ArrayPlan:
        known = session_schema.variable(self.name, name)
        return ArrayPlan(name, known.dims, shape, dtype.name, (rows, *shape[1:]), known.attrs)


def session_of(insertion: Insertion) -> Insertion:
    """What an insertion says of its session: the same for all probes."""
    return replace(insertion, pid="", probe="", model="", comment=insertion.session_comment)


def session_products(tracker: str, dataset: str = IBL) -> dict[str, SessionProduct]:
    """Every product of a session of a data set, by name. A new data set is a list of its products here.

    Raises
    ------
    BadArgument
        If there is no such tracker.
    """
    if tracker not in (*cameras.TRACKERS, cameras.BEST):
        raise BadArgument(f"tracker: expected one of {', '.join((*cameras.TRACKERS, cameras.BEST))}, got {tracker!r}")
    of_dataset = {IBL: lambda: _ibl(tracker), ALLEN_VBN: _allen, ALLEN_VC: _allen}
    return {product.name: product for product in of_dataset.get(dataset, list)()}


def _allen() -> list[SessionProduct]:
    return [
        SessionProduct("trials", "Trials", allen_trials.load_trials),
        SessionProduct("stimuli", "Presentations of stimuli", allen_trials.load_stimuli),
        SessionProduct("running", "Running speed", allen_behaviour.load_running),
        SessionProduct("licks", "Licks", allen_behaviour.load_licks),
        SessionProduct("rewards", "Rewards", allen_behaviour.load_rewards),
        SessionProduct(
            "eye_tracking", "Ellipses of eye, pupil and corneal reflection", allen_behaviour.load_eye_tracking
        ),
        SessionProduct("optotagging", "Light pulses", allen_behaviour.load_optotagging),
        SessionProduct("invalid_times", "Times at which data are invalid", allen_behaviour.load_invalid_times),
    ]


def _ibl(tracker: str) -> list[SessionProduct]:
    filtered = {"rate_hz": str(wheel.RATE_HZ), "corner_hz": str(wheel.CORNER_HZ), "order": str(wheel.ORDER)}
    made = [
        SessionProduct("trials", "Trials", trials.load_trials, {"bwm_include": trials.BWM_RULE}),
        SessionProduct("wheel", "Wheel, as recorded and at 1 kHz", wheel.load_wheel, filtered),
        SessionProduct("wheel_moves", "Movements of the wheel", wheel.load_wheel_moves),
        SessionProduct("licks", "Licks", passive.load_licks),
        SessionProduct("passive", "Passive protocol", passive.load_passive),
        SessionProduct("epochs", "Epochs of the session", passive.load_epochs),
    ]
    for camera in cameras.CAMERAS:
        of = f"of the {camera} camera"
        kinds: dict[str, tuple[str, Callable[..., SessionData], dict[str, str]]] = {
            "pose": (f"Tracked points {of}", partial(cameras.load_pose, tracker=tracker), {"tracker": tracker}),
            "motion_energy": (f"Motion energy {of}", cameras.load_motion_energy, {}),
            "pupil": (f"Pupil {of}", cameras.load_pupil, {}),
            "camera_times": (f"Frame times {of}", cameras.load_camera_times, {}),
        }
        if camera == "body":
            del kinds["pupil"]
        made += [
            SessionProduct(f"{kind}_{camera}", title, partial(load, camera=camera), parameters)
            for kind, (title, load, parameters) in kinds.items()
        ]
    return made
