"""The NWB file of an Allen session, as the loaders of its products read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from loaders.errors import InconsistentData
from loaders.nwb_files import open_nwb, session_record
from loaders.records import Floats
from loaders.session_files import NotRecorded, SessionFiles

if TYPE_CHECKING:
    import h5py


@contextmanager
def open_session(files: SessionFiles) -> Iterator[h5py.File]:
    """Open the file of a session; see `loaders.nwb_files.open_nwb`."""
    with open_nwb(session_record(files.records)) as (nwb, _, source):
        files.add_source(source)
        yield nwb


def need_group(file: h5py.File, path: str, what: str) -> h5py.Group:
    """A group of a session file; raises NotRecorded if it is not there."""
    if path not in file:
        raise NotRecorded(f"no {what}: the session file has no /{path}")
    return file[path]


def read_series(group: h5py.Group) -> tuple[Floats, Any]:
    """Times (sample,), seconds, and data (sample, ...) of a time series, as float64.

    Raises
    ------
    InconsistentData
        If there are not as many times as data, or times are not finite and in order.
    """
    times = np.asarray(group["timestamps"][:], np.float64)
    data = np.asarray(group["data"][:], np.float64)
    if len(times) != len(data):
        raise InconsistentData(f"{group.name}: expected as many times as data, got {len(times)} and {len(data)}")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise InconsistentData(f"{group.name}: expected finite times in order; fetch the file again")
    return times, data


def start_facts(file: h5py.File) -> dict[str, Any]:
    """From when the clock of the session counts, as the file says; that of Visual Coding is the day of packaging."""
    text = file["session_start_time"].asstr()[()]
    return {"nwb_session_start_time": str(text)}
