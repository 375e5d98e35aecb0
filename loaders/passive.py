"""What was shown to a passive mouse, when it licked, and the epochs of a session."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import CorruptData
from loaders.recording_span import Span, flag_outside, recording_span
from loaders.records import DatasetRecord, Floats, Strings
from loaders.session_files import NotRecorded, SessionData, SessionFiles
from loaders.trials import read_columns

RFM_PIXELS = 15
STIMS = ("valveOn", "valveOff", "toneOn", "toneOff", "noiseOn", "noiseOff")
GABOR = ("start", "stop", "position", "contrast", "phase")
EPOCHS = {"spontaneousActivity": "spontaneous", "RFM": "rfm", "taskReplay": "replay"}
"""Epochs of the passive protocol, as the files and as we call them."""
_PERIODS, _GABOR = r"passivePeriods\.intervalsTable\.csv", r"passiveGabor\.table\.csv"
_STIMS, _RFM = r"passiveStims\.table\.csv", r"passiveRFM\.times\.npy"


def load_licks(files: SessionFiles) -> SessionData:
    """``times`` (lick,), session seconds."""
    times = np.asarray(files.array(files.need("licks.times.npy", "licks")), np.float64)
    span = recording_span(files)
    return files.data({"times": times} | flag_outside(files, span, "licks", times), {} if span is None else span.facts)


def load_passive(files: SessionFiles) -> SessionData:
    """The passive protocol; several tasks of a session follow each other, and ``*_task`` tells which row is of which.

    Returns
    -------
    SessionData
        What the session has of: ``gabor_start``, ``gabor_stop`` (s), ``gabor_position``, ``gabor_contrast``,
        ``gabor_phase`` (gabor,); ``valveOn`` ... ``noiseOff`` (stim,), s, NaN where a kind has fewer; ``rfm_times``
        (rfm_frame,), s, with ``rfm_frames`` (rfm_frame, y, x); ``period_name``, ``period_start``, ``period_stop``
        (period,), as in the files.

    Raises
    ------
    NotRecorded
        If the session has nothing of it.
    """
    span = recording_span(files)
    arrays = _periods(files, span) | _tables(files, span, "gabor", _GABOR, GABOR) | _rfm(files, span)
    arrays |= _tables(files, span, "stim", _STIMS, STIMS)
    if not arrays:
        raise NotRecorded(
            "no passive protocol: expected _ibl_passivePeriods.intervalsTable.csv, _ibl_passiveGabor.table.csv, "
            "_ibl_passiveStims.table.csv or _ibl_passiveRFM.times.npy in alf or alf/task_<number>, which this session "
            "lacks"
        )
    return files.data(arrays, {} if span is None else span.facts)


def load_epochs(files: SessionFiles) -> SessionData:
    """From when to when the mouse worked, and what the passive protocol was made of.

    Returns
    -------
    SessionData
        ``epoch`` (task, spontaneous, rfm, replay), ``start``, ``stop`` (s) and ``task``, the collection, each (epoch,),
        in order of their start.

    Raises
    ------
    NotRecorded
        If the session has neither trials nor a passive protocol.
    """
    rows = _task_epoch(files)
    for record in files.find_all(_PERIODS):
        periods = _read_periods(files, record)
        rows += [(EPOCHS[name], *ends, record.collection) for name, ends in periods.items() if name in EPOCHS]
    if not rows:
        raise NotRecorded("no epochs: the session has neither trials nor _ibl_passivePeriods.intervalsTable.csv in alf")
    rows.sort(key=lambda row: (np.isnan(row[1]), row[1]))
    names, starts, stops, tasks = zip(*rows, strict=True)
    start, stop = np.array(starts, np.float64), np.array(stops, np.float64)
    span = recording_span(files)
    flag = flag_outside(files, span, "epochs", start, stop)
    labels = {"epoch": np.array(names, object), "task": np.array(tasks, object)}
    return files.data(labels | {"start": start, "stop": stop} | flag, {} if span is None else span.facts)


def _task_epoch(files: SessionFiles) -> list[tuple[str, float, float, str]]:
    """The task, from the begin of the first trial to the end of the last."""
    try:
        trials = read_columns(files)
    except NotRecorded:
        return []
    if not {"intervals_0", "intervals_1"} <= set(trials):
        files.notes.append("the epoch of the task is left out, because the trials have no intervals")
        return []
    ends = np.concatenate([trials["intervals_0"], trials["intervals_1"]])
    if not np.isfinite(ends).any():
        files.notes.append("the epoch of the task is left out, because no trial has an interval")
        return []
    collection = next(r.collection for r in files.find_all(r"trials\.\w+\.(?:pqt|npy)"))
    return [("task", float(np.nanmin(ends)), float(np.nanmax(ends)), collection)]


def _read_periods(files: SessionFiles, record: DatasetRecord) -> dict[str, tuple[float, float]]:
    """Start and stop of every period of one table, whose rows are named ``start`` and ``stop``."""
    table = files.table(record)
    table = table.set_index(table.columns[0])
    if not {"start", "stop"} <= set(table.index):
        raise CorruptData(f"{record.rel_path}: expected rows start and stop, got {list(table.index)}")
    return {str(name): (float(table[name]["start"]), float(table[name]["stop"])) for name in table.columns}


def _periods(files: SessionFiles, span: Span | None) -> dict[str, NDArray[Any]]:
    found = {record.collection: _read_periods(files, record) for record in files.find_all(_PERIODS)}
    rows = [(name, *ends, task) for task, periods in found.items() for name, ends in periods.items()]
    if not rows:
        return {}
    names, starts, stops, tasks = zip(*rows, strict=True)
    times = {"period_start": np.array(starts, np.float64), "period_stop": np.array(stops, np.float64)}
    labels = {"period_name": np.array(names, object), "period_task": np.array(tasks, object)}
    flag = flag_outside(files, span, "passive periods", *times.values(), name="period_outside_recording")
    return labels | times | flag


def _tables(
    files: SessionFiles, span: Span | None, kind: str, pattern: str, columns: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """The known columns of a table of every task, one below the other."""
    parts: dict[str, list[Floats]] = {name: [] for name in columns}
    tasks: list[str] = []
    for record in files.find_all(pattern):
        table = files.table(record)
        if missing := [name for name in columns if name not in table.columns]:
            raise CorruptData(f"{record.rel_path}: expected columns {', '.join(columns)}, got no {', '.join(missing)}")
        for name in columns:
            parts[name].append(table[name].to_numpy(np.float64))
        tasks += [record.collection] * len(table)
    if not tasks:
        return {}
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    times = [values for name, values in joined.items() if name in ("start", "stop") or kind == "stim"]
    flag = flag_outside(files, span, f"{kind} stimuli", *times, name=f"{kind}_outside_recording")
    prefix = "" if kind == "stim" else f"{kind}_"
    named = {f"{prefix}{name}": values for name, values in joined.items()}
    return {f"{kind}_task": np.array(tasks, object), **named, **flag}


def _rfm(files: SessionFiles, span: Span | None) -> dict[str, NDArray[Any]]:
    """Receptive field mapping: the time of every frame, and the frames where the file of the stimulus fits."""
    times: list[Floats] = []
    frames: list[NDArray[np.uint8]] = []
    tasks: list[str] = []
    for record in files.find_all(_RFM):
        times.append(np.asarray(files.array(record), np.float64))
        tasks += [record.collection] * len(times[-1])
        if (shown := _frames(files, record, len(times[-1]))) is not None:
            frames.append(shown)
    if not tasks:
        return {}
    joined = np.concatenate(times)
    flag = flag_outside(files, span, "frames of the mapping", joined, name="rfm_outside_recording")
    all_frames = {"rfm_frames": np.concatenate(frames)} if len(frames) == len(times) else {}
    task: Strings = np.array(tasks, object)
    return {"rfm_task": task, "rfm_times": joined, **all_frames, **flag}


def _frames(files: SessionFiles, times: DatasetRecord, n: int) -> NDArray[np.uint8] | None:
    """Frames (frame, 15, 15) of one task; None, with a note, if they cannot be told to be those of the times."""
    task = re.search("task_([0-9]{2})", times.collection)
    raw = "raw_passive_data" if task is None else f"raw_task_data_{task[1]}"
    found = files.find_all(r"RFMapStim\.raw\.bin", raw)
    if not found:
        files.notes.append(f"rfm_frames: left out, because there is no _iblrig_RFMapStim.raw.bin in {raw}")
        return None
    pixels = files.raw_bytes(found[0])
    if len(pixels) != n * RFM_PIXELS**2:
        files.notes.append(
            f"rfm_frames: left out, because {found[0].rel_path} has {len(pixels) / RFM_PIXELS**2:g} frames of "
            f"{RFM_PIXELS} x {RFM_PIXELS} pixels for {n} times"
        )
        return None
    return pixels.reshape(n, RFM_PIXELS, RFM_PIXELS)
