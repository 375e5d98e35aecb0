"""Which cells a chunk holds, in words: what a damaged file means to whoever wants the data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from chunking.manifest import Files, Problem, compare_files, read_manifest
from loaders.clock import Clock
from loaders.errors import StoreError
from loaders.records import Floats


def name_cells(store: Path, problems: Sequence[Problem]) -> list[Problem]:
    """The same problems, those of chunks with their cells in words.

    Only metadata and times that are as the manifest has them are used; without it no cells are named.
    """
    if not problems:
        return []
    try:
        cells = Cells(store, read_manifest(store)["files"])
    except StoreError:
        return list(problems)
    return [problem if problem.cells else replace(problem, cells=cells.of(problem.key)) for problem in problems]


class Cells:
    """The cells of the chunks of one store.

    Parameters
    ----------
    store : Path
    files : Files
        What its manifest lists.
    """

    def __init__(self, store: Path, files: Files) -> None:
        self._store, self._files = store, files

    def of(self, key: str) -> str:
        """``channel 96..191, time 30000..59999 (1.000 .. 2.000 s)``; empty if the file is no chunk of a known array."""
        name, _, index = key.partition("/c/")
        array = self._metadata(name)
        if key not in self._files or not index or array is None:
            return ""
        steps = array["chunk_grid"]["configuration"]["chunk_shape"]
        parts = []
        for dim, i, step, size in zip(array["dimension_names"], index.split("/"), steps, array["shape"], strict=True):
            first, last = int(i) * step, min((int(i) + 1) * step, size) - 1
            parts.append(self.span(dim, first, last))
        return ", ".join(parts)

    def span(self, dim: str, first: int, last: int) -> str:
        """The cells `first` to `last` of a dimension."""
        seconds = self._seconds(first, last) if dim == "time" else None
        return f"{dim} {first}..{last}" + (f" ({seconds[0]:.3f} .. {seconds[1]:.3f} s)" if seconds is not None else "")

    def _metadata(self, name: str) -> Any:
        """The metadata of an array, from its own file or from that of the store."""
        if self._intact(f"{name}/zarr.json"):
            return json.loads((self._store / name / "zarr.json").read_text())
        if self._intact("zarr.json"):
            root = json.loads((self._store / "zarr.json").read_text())
            return root["consolidated_metadata"]["metadata"].get(name)
        return None

    def _intact(self, *keys: str) -> bool:
        files = {key: self._files[key] for key in keys if key in self._files}
        there = bool(files) and len(files) == len(keys) and all((self._store / key).is_file() for key in keys)
        return there and not compare_files(self._store, files)

    def _values(self, name: str) -> Any:
        """The values of an intact small array."""
        keys = [key for key in self._files if key.startswith(f"{name}/")]
        return zarr.open_array(self._store / name, mode="r") if self._intact(*keys) else None

    @cached_property
    def _times(self) -> Floats | None:
        times = self._values("time")
        return None if times is None else np.asarray(times[:], np.float64)

    @cached_property
    def _clock(self) -> tuple[Clock, int] | None:
        samples, times = self._values("knot_sample"), self._values("knot_time")
        if samples is None or times is None:
            return None
        return Clock(np.asarray(samples[:]), np.asarray(times[:])), int(samples.attrs.get("first_sample", 0))

    def _seconds(self, first: int, last: int) -> Floats | None:
        if self._times is not None:
            return self._times[[first, last]]
        if self._clock is None:
            return None
        clock, offset = self._clock
        return clock.seconds(np.array([first, last]) + offset, outside="extrapolate")
