"""The trials of a session: every column that IBL extracted, as float64, and labels that follow from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import InconsistentData
from loaders.fetcher import fetch
from loaders.recording_span import flag_outside, recording_span
from loaders.records import DatasetRecord, Floats, Strings
from loaders.session_files import NotRecorded, SessionData, SessionFiles

_NOT_PER_TRIAL = ("itiDuration", "laserIntervals")  # may be longer or shorter; IBL's own loader leaves out the first
_TABLE = "trials.table.pqt"

BWM_EVENTS = (
    "stimOn_times", "choice", "feedback_times", "probabilityLeft", "firstMovement_times", "feedbackType",
)  # fmt: skip
BWM_REACTION_S = (0.08, 2.0)
BWM_RULE = (
    "0.08 <= firstMovement_times - stimOn_times <= 2.0 s, and none of stimOn_times, choice, feedback_times, "
    "probabilityLeft, firstMovement_times, feedbackType is NaN: the defaults of load_trials_and_mask in "
    "int-brain-lab/paper-brain-wide-map, brainwidemap/bwm_loading.py"
)


def load_trials(files: SessionFiles) -> SessionData:
    """All columns of the trials, and their labels.

    Columns come from ``_ibl_trials.table.pqt``, and from files of one column, ``_ibl_trials.<name>.npy``, which older
    sessions have instead and newer ones beside it. A file of two columns such as ``intervals`` becomes ``intervals_0``
    and ``intervals_1``. Where both exist, the table counts, as for the ONE client.

    Returns
    -------
    SessionData
        Arrays (trial,): ``trial``, every column under its name, and the labels of `trial_labels`.

    Raises
    ------
    NotRecorded
        If the session has no trials.
    InconsistentData
        If there are trials of several tasks, or columns of different length.
    """
    columns = read_columns(files)
    n = len(next(iter(columns.values())))
    times = [v for name, v in columns.items() if name.endswith("_times") or name in ("intervals_0", "intervals_1")]
    span = recording_span(files)
    labels = trial_labels(columns, files.notes)
    outside = flag_outside(files, span, "trials", *times) if times else {}
    facts = {} if span is None else span.facts
    return files.data({"trial": np.arange(n), **columns, **labels, **outside}, facts)


def read_columns(files: SessionFiles) -> dict[str, Floats]:
    """Every column of the trials, (trial,) float64, NaN where it is NaN; see `load_trials`."""
    table = files.find(_TABLE)
    loose = {_attribute(record): record for record in files.find_all(r"trials\.(?!table)\w+\.npy")}
    records = [*loose.values(), *([] if table is None else [table])]
    if not records:
        raise NotRecorded(
            f"no trials: expected _ibl_{_TABLE} or _ibl_trials.<name>.npy in alf or alf/task_<number>, "
            "which this session lacks"
        )
    if len(tasks := sorted({record.collection for record in records})) > 1:
        raise InconsistentData(f"trials: expected those of one task, got files in {', '.join(tasks)}")
    fetch(records)
    columns = {} if table is None else _table_columns(files, table)
    for name, record in loose.items():
        _add(files, columns, name, record)
    if not columns:
        raise InconsistentData(f"trials: {', '.join(r.rel_path for r in records)} have no column of numbers")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InconsistentData(f"trials: expected columns of one length, got {lengths}; fetch the files again")
    return columns


def trial_labels(columns: Mapping[str, Floats], notes: list[str]) -> dict[str, NDArray[Any]]:
    """What follows from the columns, each (trial,); what lacks a column is left out, with a note.

    Returns
    -------
    dict of str to array
        ``contrast`` (0 to 1), ``signed_contrast`` (negative on the left) and ``side`` (left, right, none) of the
        stimulus; ``block_index``, from 0, and ``block_type`` (unbiased, left_block, right_block), by
        ``probabilityLeft``; ``bwm_include``, by `BWM_RULE`. Sides, contrasts and blocks are those of the tidy style of
        ``brainbox.io.one.SessionLoader``.
    """
    labels: dict[str, NDArray[Any]] = {}
    rules: dict[str, tuple[tuple[str, ...], Callable[..., dict[str, NDArray[Any]]]]] = {
        "contrast, signed_contrast, side": (("contrastLeft", "contrastRight"), _stimulus),
        "block_index, block_type": (("probabilityLeft",), _blocks),
        "bwm_include": (BWM_EVENTS, _bwm_include),
    }
    for made, (needed, rule) in rules.items():
        if missing := [name for name in needed if name not in columns]:
            notes.append(f"{made}: left out, because there is no {', '.join(missing)}")
        else:
            labels |= rule(*(columns[name] for name in needed))
    if "contrastLeft" in columns and "contrastRight" in columns:
        both = np.isfinite(columns["contrastLeft"]) & np.isfinite(columns["contrastRight"])
        if both.any():
            notes.append(f"{int(both.sum())} trials have a contrast on both sides; their side is that of the larger")
    return labels


def _stimulus(left: Floats, right: Floats) -> dict[str, NDArray[Any]]:
    none = np.isnan(left) & np.isnan(right)
    on_left = ~none & ~(np.nan_to_num(right, nan=-1.0) > np.nan_to_num(left, nan=-1.0))
    contrast = np.where(on_left, left, right)
    side: Strings = np.select([none, on_left], ["none", "left"], "right").astype(object)
    return {"contrast": contrast, "signed_contrast": np.where(on_left, 0.0 - left, right), "side": side}


def _blocks(probability_left: Floats) -> dict[str, NDArray[Any]]:
    changes = ~np.isclose(probability_left[1:], probability_left[:-1], equal_nan=True)
    known = {0.5: "unbiased", 0.8: "left_block", 0.2: "right_block"}
    kind = np.array(["unknown" if np.isnan(p) else f"p={p}" for p in probability_left], dtype=object)
    for probability, name in known.items():
        kind[np.isclose(probability_left, probability)] = name
    index = np.zeros(len(probability_left), np.int64)
    index[1:] = np.cumsum(changes)
    return {"block_index": index, "block_type": kind}


def _bwm_include(*events: Floats) -> dict[str, NDArray[np.bool_]]:
    of = dict(zip(BWM_EVENTS, events, strict=True))
    reaction_s = of["firstMovement_times"] - of["stimOn_times"]
    shortest, longest = BWM_REACTION_S
    return {"bwm_include": ~np.isnan(events).any(axis=0) & (reaction_s >= shortest) & (reaction_s <= longest)}


def _attribute(record: DatasetRecord) -> str:
    match = re.search(r"trials\.(\w+)\.npy$", record.name)
    return match[1] if match else record.name


def _table_columns(files: SessionFiles, record: DatasetRecord) -> dict[str, Floats]:
    table = files.table(record)
    numbers = table.select_dtypes(["number", "bool", "boolean"])
    if left := [str(name) for name in table.columns if name not in numbers.columns]:
        files.notes.append(f"{record.name}: columns that are no numbers are left out: {', '.join(left)}")
    return {str(name): numbers[name].to_numpy(np.float64, na_value=np.nan) for name in numbers.columns}


def _add(files: SessionFiles, columns: dict[str, Floats], name: str, record: DatasetRecord) -> None:
    """Add the columns of one file, unless the table has them or they are not of single trials."""
    two = name.lower().startswith("intervals") or name.endswith("Intervals")
    parts = [f"{name}_0", f"{name}_1"] if two else [name]
    if taken := [part for part in parts if part in columns]:
        files.notes.append(f"{record.name}: left out, because the table has {', '.join(taken)}")
        return
    values = np.asarray(files.array(record, "fiub", ndim=len(parts)), np.float64).reshape(-1, len(parts))
    n = next((len(column) for column in columns.values()), len(values))
    if name in _NOT_PER_TRIAL and len(values) != n:
        files.notes.append(f"{record.name}: left out, because it has {len(values)} rows for {n} trials")
        return
    columns |= {part: values[:, i] for i, part in enumerate(parts)}
