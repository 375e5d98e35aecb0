"""The names on disk of a pooled store: units of many insertions, and what they do around events."""

from __future__ import annotations

from collections.abc import Iterable

from chunking.schema import UNIT, Variable

_UNIT = ("unit",)
NOT_POOLED = ("unit", "uuid", "row_size", "row_start")
"""Coordinates of the units of one insertion that mean nothing among those of others, or are the dimension there."""

SOURCE = Variable(_UNIT, "T", "data set that the unit is of: ibl, allen-vbn ...; its clock, names and criteria differ")

INSERTION = {
    "pid": Variable(_UNIT, "T", "id of the probe insertion"),
    "eid": Variable(_UNIT, "T", "id of the session"),
    "subject": Variable(_UNIT, "T", "animal"),
    "lab": Variable(_UNIT, "T", "lab"),
    "date": Variable(_UNIT, "T", "day of the session"),
    "probe": Variable(_UNIT, "T", "name of the probe in its session"),
}
"""What all units of an insertion share."""

POOLED = {
    "unit": Variable(_UNIT, "T", "universal id of the unit; <pid>:<cluster_id> if there is none"),
    "cluster_id": Variable(_UNIT, "i", "number of the unit in the stores of its insertion, of ibl its cluster id"),
    "source": SOURCE,
    **INSERTION,
    **{name: variable for name, variable in UNIT.items() if name not in (*NOT_POOLED, *INSERTION)},
    "region": Variable(("region",), "T", "brain region; the attribute level says at which level of the atlas"),
    "n_units": Variable(("region",), "i", "number of units of the region", "1"),
}


def of_alignment(name: str) -> dict[str, Variable]:
    """The variables of one alignment."""
    condition, time = f"condition_{name}", f"time_{name}"
    by_trials = {"comment": "over the trials of the condition whose whole window lies in the recording"}
    by_units = {"comment": "over the units of the region that have trials of the condition"}
    return {
        condition: Variable((condition,), "T", f"condition of the trials of {name}"),
        time: Variable((time,), "f", "time after the event", "s"),
        name: Variable(("unit", condition, time), "f", "mean rate over trials; NaN without trials", "Hz", by_trials),
        f"{name}_sem": Variable(
            ("unit", condition, time), "f", "standard error of the mean; NaN below two trials", "Hz", by_trials
        ),
        f"{name}_n": Variable(("unit", condition), "i", "number of trials", "1", by_trials),
        f"{name}_region": Variable(("region", condition, time), "f", "mean of the rates of units", "Hz", by_units),
        f"{name}_region_n": Variable(("region", condition), "i", "number of units", "1", by_units),
    }


def of_alignments(names: Iterable[str]) -> dict[str, Variable]:
    """The variables of some alignments."""
    return {key: variable for name in names for key, variable in of_alignment(name).items()}
