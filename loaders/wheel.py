"""The wheel of a session: as recorded, on an even grid with velocity and acceleration, and its movements.

The grid and the filter are those of ``brainbox.behavior.wheel`` (``interpolate_position``, ``velocity_filtered``), in
float64 throughout: in float32, as ``SessionLoader`` returns them, times an hour into a session are 0.2 ms apart.
"""

from __future__ import annotations

import numpy as np

from loaders.errors import InconsistentData
from loaders.recording_span import flag_outside, note_outside, recording_span
from loaders.records import Floats
from loaders.session_files import SessionData, SessionFiles

RATE_HZ = 1000
CORNER_HZ = 20
ORDER = 8


def load_wheel(files: SessionFiles) -> SessionData:
    """The wheel.

    Returns
    -------
    SessionData
        ``raw_timestamps`` (s) and ``raw_position`` (rad), (wheel_sample,), as they are in the files; ``time`` (s),
        ``position`` (rad), ``velocity`` (rad/s) and ``acceleration`` (rad/s2), (time,), of `even_wheel`.

    Raises
    ------
    NotRecorded
        If the session has no wheel.
    InconsistentData
        If its files are of different length, too short, or their times are not in order.
    """
    records = [files.need(f"wheel.{name}.npy", "wheel") for name in ("timestamps", "position")]
    times, position = (np.asarray(files.array(record), np.float64) for record in records)
    if len(times) != len(position):
        raise InconsistentData(f"wheel: expected as many times as positions, got {len(times)} and {len(position)}")
    if not (np.isfinite(times).all() and np.isfinite(position).all() and (np.diff(times) >= 0).all()):
        raise InconsistentData("wheel: expected finite times in order and finite positions; fetch the files again")
    span = recording_span(files)
    note_outside(files, span, "samples of the wheel", times)
    grid = dict(zip(("time", "position", "velocity", "acceleration"), even_wheel(times, position), strict=True))
    facts = {"sampling_rate_hz": float(RATE_HZ)} | ({} if span is None else span.facts)
    return files.data({"raw_timestamps": times, "raw_position": position, **grid}, facts)


def even_wheel(
    times: Floats, position: Floats, rate_hz: float = RATE_HZ, corner_hz: float = CORNER_HZ, order: int = ORDER
) -> tuple[Floats, Floats, Floats, Floats]:
    """Position on an even grid by straight lines; velocity and acceleration after a zero-phase Butterworth low-pass.

    Parameters
    ----------
    times : (sample,) float64, seconds
        In order.
    position : (sample,) float64, rad
    rate_hz, corner_hz : float
        Of the grid; of the filter.
    order : int
        Of the filter.

    Returns
    -------
    time, position, velocity, acceleration : (time,) float64
        Seconds, and the unit of `position`, a second, a second squared.

    Raises
    ------
    InconsistentData
        If there are too few samples for the filter.

    Examples
    --------
    >>> import numpy as np
    >>> time, position, velocity, _ = even_wheel(np.array([0.0, 0.4, 2.0]), np.array([0.0, 0.8, 4.0]))
    >>> len(time), round(float(velocity[1000]), 6)
    (2000, 2.0)
    """
    from scipy.signal import butter, sosfiltfilt

    time = np.arange(times[0], times[-1], 1 / rate_hz) if len(times) else np.empty(0)
    time = time[time <= times[-1]] if len(time) else time  # the last may lie beyond by rounding
    sections = butter(order, corner_hz / rate_hz * 2, "lowpass", output="sos")
    if len(time) <= 3 * (2 * len(sections) + 1):
        raise InconsistentData(f"wheel: {len(times)} samples in {len(time) / rate_hz:g} s are too few for its velocity")
    even = np.interp(time, times, position)
    velocity = np.insert(np.diff(sosfiltfilt(sections, even)), 0, 0) * rate_hz
    acceleration = np.insert(np.diff(velocity), 0, 0) * rate_hz
    return time, even, velocity, acceleration


def load_wheel_moves(files: SessionFiles) -> SessionData:
    """Movements of the wheel that IBL detected.

    Returns
    -------
    SessionData
        Arrays (move,): ``intervals_0``, ``intervals_1`` (s) and, where the session has them, ``peakAmplitude`` (rad).

    Raises
    ------
    NotRecorded
        If the session has none.
    InconsistentData
        If the files are of different length.
    """
    record = files.need("wheelMoves.intervals.npy", "movements of the wheel")
    intervals = np.asarray(files.array(record, ndim=2), np.float64)
    if intervals.shape[1] != 2:
        raise InconsistentData(f"{record.name}: expected (move, 2), got shape {intervals.shape}")
    arrays = {"intervals_0": intervals[:, 0], "intervals_1": intervals[:, 1]}
    if (amplitude := files.find("wheelMoves.peakAmplitude.npy")) is None:
        files.notes.append("peakAmplitude: left out, because the session has no wheelMoves.peakAmplitude.npy")
    else:
        arrays["peakAmplitude"] = np.asarray(files.array(amplitude), np.float64)
        if len(arrays["peakAmplitude"]) != len(intervals):
            raise InconsistentData(
                f"wheelMoves: expected as many amplitudes as movements, got {len(arrays['peakAmplitude'])} and "
                f"{len(intervals)}; fetch the files again"
            )
    span = recording_span(files)
    flags = flag_outside(files, span, "movements", arrays["intervals_0"], arrays["intervals_1"])
    return files.data(arrays | flags, {} if span is None else span.facts)
