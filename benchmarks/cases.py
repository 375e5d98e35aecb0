"""The cases of the suite: data set x pattern x place x layout, and how one of them is run."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from datasets import DATASETS, Array, load
from layouts_compared import LAYOUTS, Layout, fitted, write
from metered_store import Meter, MeteredStore
from patterns import Access, accesses
from zarr.storage import LocalStore

BYTES_PER_S = 90e6  # of one request to S3
LOCAL, FAR = "local", "far"
READS_AS = {"rms": "scan", "population-rate": "scan", "spectrogram": "unit"}
"""Patterns that read what another one reads: far away, where one mostly waits, they would tell nothing more."""


@dataclass(frozen=True)
class Case:
    """One layout under one pattern, read from this disk or from far away, in one of several turns."""

    dataset: str
    turn: int
    pattern: str
    place: str
    layout: Layout

    def __str__(self) -> str:
        return f"{self.dataset}-{self.pattern}-{self.place}-{self.layout.name}-{self.turn}"


def cases(datasets: Iterable[str], turns: int, *, quick: bool) -> Iterator[Case]:
    """All cases, so ordered that the layouts take turns; once from far away, where waiting is most of the time."""
    for name in datasets:
        dataset = DATASETS[name]
        patterns = [access.name for access in accesses(dataset, dataset.size(quick=quick))]
        for turn in range(turns):
            for pattern in patterns:
                same = READS_AS.get(pattern) in patterns
                for place in (LOCAL,) if turn or same else (LOCAL, FAR):
                    for layout in LAYOUTS[dataset.product]:
                        yield Case(name, turn, pattern, place, layout)


class Bench:
    """Data, stores and truth, made when they are first needed."""

    def __init__(self, data: Path, latency_s: float, *, quick: bool) -> None:
        self.data, self.latency_s, self.quick = data, latency_s, quick
        self.truth = cache(self._truth)
        self.accesses = cache(self._accesses)
        self.stored = cache(self._stored)
        self.facts = cache(self._facts)

    def array(self, dataset: str) -> Array:
        return load(dataset, self.data, quick=self.quick)

    def _accesses(self, dataset: str) -> dict[str, Access]:
        found = accesses(DATASETS[dataset], DATASETS[dataset].size(quick=self.quick))
        return {access.name: access for access in found}

    def _truth(self, dataset: str, pattern: str) -> Array:
        """The result from the array itself, in blocks of its own."""
        array = self.array(dataset)
        return self.accesses(dataset)[pattern].run(array, array.shape)

    def _stored(self, dataset: str, layout: Layout) -> dict[str, Any]:
        folder = self.data / ("quick" if self.quick else "full")
        return write(dataset, layout, self.array(dataset), folder)

    def open(self, case: Case, meter: Meter | None = None) -> Any:
        """The array of a case; with a meter, through a store that counts."""
        store: Any = LocalStore(self.stored(case.dataset, case.layout)["path"], read_only=True)
        if case.place == FAR:
            store = MeteredStore(store, meter=meter, get_latency=self.latency_s, bytes_per_s=BYTES_PER_S)
        elif meter is not None:
            store = MeteredStore(store, meter=meter)
        return zarr.open_array(store, path=DATASETS[case.dataset].variable, mode="r", zarr_format=3)

    def run(self, case: Case, array: Any) -> Array:
        chunk, _ = fitted(case.layout, array.shape)
        return self.accesses(case.dataset)[case.pattern].run(array, chunk)

    def check(self, case: Case, result: Array) -> None:
        """Sums of floats depend on the order of the blocks."""
        truth = self.truth(case.dataset, case.pattern)
        np.testing.assert_allclose(result, truth, rtol=1e-6, atol=1e-6)

    def rounds(self, case: Case) -> int:
        """More than one for what is fast and near; one in tests."""
        seconds = self.facts(case.dataset, case.pattern, case.layout)["first_seconds"]
        return 1 if self.quick or case.place == FAR else int(np.clip(0.1 / seconds, 1, 3))

    def _facts(self, dataset: str, pattern: str, layout: Layout) -> dict[str, Any]:
        """What a pattern reads and holds, and what its store is, from a run that does not count."""
        stored, access = self.stored(dataset, layout), self.accesses(dataset)[pattern]
        facts = {name: stored[name] for name in ("write_seconds", "disk_bytes", "files", "chunk", "shard")}
        case, meter = Case(dataset, 0, pattern, LOCAL, layout), Meter()
        array, start = self.open(case, meter), time.perf_counter()
        tracemalloc.start()
        try:
            self.run(case, array)
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        read = {"requests": meter.requests, "read_bytes": meter.bytes, "files_touched": len(meter.files)}
        read |= {"first_seconds": time.perf_counter() - start, "peak_bytes": peak_bytes}
        return facts | read | {"wanted_bytes": access.wanted_bytes}
