"""Trials and stimuli of an Allen session, from its NWB file, under the names of the columns there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.allen_files import need_group, open_session, start_facts
from loaders.errors import InconsistentData
from loaders.nwb_table import NwbTable, as_numbers, as_text, read_nwb_table
from loaders.records import Floats, Ints
from loaders.session_files import NotRecorded, SessionData, SessionFiles

TEXT = ("stimulus_name", "image_name", "color", "initial_image_name", "change_image_name")
"""Columns that are text in whatever form a table has them: names, and a colour that may be a number or a triplet."""
_PRESENTATIONS = "_presentations"


def load_trials(files: SessionFiles) -> SessionData:
    """The trials of the change detection task.

    Returns
    -------
    SessionData
        Arrays (trial,): ``trial``, ``trials_id`` and every column under its name: float64 (truth values are 0, 1 or
        NaN), or text, empty where there is none. ``lick_times`` (lick,) are those of all trials, one after the other:
        ``lick_row_size`` and ``lick_row_start`` (trial,) say which belong to which.

    Raises
    ------
    NotRecorded
        If the session has no trials.
    InconsistentData
        If columns have different lengths.
    """
    with open_session(files) as file:
        table = read_nwb_table(need_group(file, "intervals/trials", "trials"), files.notes)
        facts = start_facts(file)
    _need(table, "/intervals/trials", "start_time", "stop_time")
    columns = {name: values for name, values in table.columns.items() if name != "lick_times"}
    arrays = {"trial": np.arange(len(table)), "trials_id": table.ids, **_typed(columns)}
    for name in set(table.ragged) - {"lick_times"}:
        files.notes.append(f"/intervals/trials: the column {name} is left out, because it is not one value a row")
    return files.data(arrays | _licks(table, files.notes), facts)


def load_stimuli(files: SessionFiles) -> SessionData:
    """All presentations of stimuli, those of all tables joined, in order of their start.

    Returns
    -------
    SessionData
        Arrays (presentation,): ``presentation``, and every column of any table, NaN or empty where a table has none;
        float64 (truth values are 0, 1 or NaN) or text. ``trials_id`` is that of the trial; NaN outside of the task.

    Raises
    ------
    NotRecorded
        If the session has no stimuli.
    InconsistentData
        If columns of a table have different lengths.
    """
    with open_session(files) as file:
        names = [name for name in file.get("intervals", {}) if name.endswith(_PRESENTATIONS)]
        if not names:
            raise NotRecorded(f"no stimuli: the session file has no /intervals/<name>{_PRESENTATIONS}")
        tables = {name: read_nwb_table(file["intervals"][name], files.notes) for name in names}
        facts = start_facts(file)
    for name, table in tables.items():
        _need(table, f"/intervals/{name}", "start_time", "stop_time")
        named = np.full(len(table), name.removesuffix(_PRESENTATIONS), dtype=object)
        table.columns.setdefault("stimulus_name", named)
        for column in set(table.ragged) - {"timeseries"}:
            files.notes.append(f"/intervals/{name}: the column {column} is left out, as it is not one value a row")
    joined = _joined(list(tables.values()))
    order = np.argsort(joined["start_time"], kind="stable")
    arrays = {"presentation": np.arange(len(order))} | {name: values[order] for name, values in joined.items()}
    return files.data(arrays, facts)


def _need(table: NwbTable, name: str, *columns: str) -> None:
    for column in columns:
        if column not in table.columns or table.columns[column].dtype.kind != "f":
            raise InconsistentData(f"{name}: expected a column {column} of times, got {', '.join(table.columns)}")


def _typed(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: as_text(values) if name in TEXT else as_numbers(values) for name, values in columns.items()}


def _joined(tables: list[NwbTable]) -> dict[str, NDArray[Any]]:
    """The columns of all tables, one table below the other; text where one of them has text."""
    made: dict[str, NDArray[Any]] = {}
    for name in dict.fromkeys(name for table in tables for name in table.columns):
        parts = [table.columns.get(name, np.full(len(table), np.nan)) for table in tables]
        if any(part.dtype.kind == "O" for part in parts):
            parts = [as_text(part) for part in parts]
        made[name] = np.concatenate(parts)
    return _typed(made)


def _licks(table: NwbTable, notes: list[str]) -> dict[str, NDArray[Any]]:
    """The licks of all trials.

    Without an index, which a writer forgets if there are as many licks as trials, each is of the trial it lies in.
    """
    ends: Ints | None = None
    if "lick_times" in table.ragged:
        times, ends = table.ragged["lick_times"]
    elif "lick_times" in table.columns:
        times = table.columns["lick_times"]
        times = np.sort(times[np.isfinite(times)])
        ends = _ends_by_time(times, table.columns["start_time"], table.columns["stop_time"], notes)
    if ends is None:
        return {}
    size = np.diff(ends, prepend=0)
    return {"lick_times": times, "lick_row_size": size, "lick_row_start": ends - size}


def _ends_by_time(times: Floats, start: Floats, stop: Floats, notes: list[str]) -> Ints | None:
    """Where the licks of each trial end; None, with a note, if some lie in no trial, or trials are not in order."""
    trial = np.searchsorted(start, times, side="right") - 1
    ordered = bool((np.diff(start) >= 0).all())
    if not ordered or (trial < 0).any() or (times > stop[trial]).any():
        notes.append("lick_times: left out, because the file does not say which lick is of which trial")
        return None
    notes.append("lick_times: the file has no index of them; each is given to the trial in which it lies")
    return np.cumsum(np.bincount(trial, minlength=len(start)))
