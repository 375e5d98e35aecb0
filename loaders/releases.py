"""Lists of released insertions, which the package carries: no account, no network.

Where each list comes from, and why its revision is pinned, is told in ``release_data/README.md``.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from loaders.errors import NotFound

if TYPE_CHECKING:
    import pandas as pd

_FOLDER = Path(__file__).parent / "release_data"


@dataclass(frozen=True, slots=True)
class _List:
    """One list: its pinned revision of the spike sorting, what it is, and where it comes from."""

    revision: str
    what: str
    source: str
    licence: str = "MIT"


_LISTS = {
    "2022_10_bwm_release": _List("2024-05-06", "brain-wide map, first release", "int-brain-lab/paper-brain-wide-map"),
    "2023_12_bwm_release": _List("2024-05-06", "brain-wide map, the paper", "int-brain-lab/paper-brain-wide-map"),
    "2023_12_repeated_site": _List(
        "2024-03-22", "reproducible ephys, repeated site", "int-brain-lab/paper-reproducible-ephys"
    ),
}

_RENAMED = {"probe_name": "probe", "session_number": "number"}
_TEXT = ("pid", "eid", "probe", "lab", "subject", "date")


def releases() -> pd.DataFrame:
    """List the releases.

    Returns
    -------
    DataFrame
        One row a release: name, what it is, how many insertions, sessions, subjects and labs, first and last date,
        the pinned revision of its spike sorting, where the list comes from, and its licence.

    Raises
    ------
    OSError
        If the installed package lacks a list.

    Examples
    --------
    >>> import cubes
    >>> cubes.releases().set_index("name")["insertions"].to_dict()
    {'2022_10_bwm_release': 547, '2023_12_bwm_release': 699, '2023_12_repeated_site': 106}
    """
    import pandas as pd

    return pd.DataFrame([_summary(name) for name in _LISTS])


def release(name: str) -> pd.DataFrame:
    """List the insertions of one release.

    Parameters
    ----------
    name : str
        Such as ``2023_12_bwm_release``; see `releases`.

    Returns
    -------
    DataFrame
        One row an insertion, in the order of the list: ``pid``, ``eid``, ``probe``, ``lab``, ``subject``, ``date``
        (YYYY-MM-DD), ``number`` of the session that day, ``revision`` of the spike sorting that the release is
        pinned to, ``level`` (repeated site only: 2 passes all criteria of the paper, -1 none), ``note`` (what is
        known to be wrong with it) and ``also_in``: the other lists that hold the same pid, so that what one trains
        on and what one tests on can be kept apart. What no list tells is ``<NA>``.

    Raises
    ------
    NotFound
        If there is no such release; the message lists those that exist.

    Examples
    --------
    >>> import cubes
    >>> sites = cubes.release("2023_12_repeated_site")
    >>> int((sites.also_in != "").sum()), len(sites)
    (68, 106)
    """
    if name not in _LISTS:
        similar = difflib.get_close_matches(name, _LISTS, n=1)
        hint = f"did you mean {similar[0]!r}? " if similar else ""
        raise NotFound(f"release {name!r}: unknown; {hint}releases that exist: {', '.join(_LISTS)}")
    table = _read(name).copy()
    others = {other: frozenset(_read(other)["pid"]) for other in _LISTS if other != name}
    also_in = [", ".join(other for other, pids in others.items() if pid in pids) for pid in table["pid"]]
    table["revision"] = _LISTS[name].revision
    table["note"] = table["eid"].map(_exceptions()).fillna("")
    table["also_in"] = also_in
    text = dict.fromkeys(("revision", "note", "also_in"), "string")
    return table.astype(text)


@lru_cache
def _read(name: str) -> pd.DataFrame:
    """One list as it is, with our names and types of columns."""
    import pandas as pd

    types = {**dict.fromkeys((*_TEXT, "probe_name"), "string"), "session_number": "Int64", "level": "Int64"}
    table = pd.read_csv(_FOLDER / f"{name}.csv", index_col=0, dtype=types).rename(columns=_RENAMED)
    if "level" not in table:
        table["level"] = pd.array([pd.NA] * len(table), dtype="Int64")
    return table[[*_TEXT, "number", "level"]].reset_index(drop=True)


@lru_cache
def _exceptions() -> dict[str, str]:
    """What is known to be wrong with a session, by its eid."""
    import pandas as pd

    table = pd.read_csv(_FOLDER / "known_exceptions.csv", dtype="string")
    return dict(zip(table["eid"], table["note"], strict=True))


def _summary(name: str) -> dict[str, object]:
    table, facts = _read(name), _LISTS[name]
    counts = {"insertions": len(table)} | {
        plural: int(table[column].nunique())
        for plural, column in (("sessions", "eid"), ("subjects", "subject"), ("labs", "lab"))
    }
    dates = {"first": table["date"].min(), "last": table["date"].max()}
    pinned = {"revision": facts.revision, "source": facts.source, "licence": facts.licence}
    return {"name": name, "what": facts.what, **counts, **dates, **pinned}
