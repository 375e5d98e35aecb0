"""The spikes of some units of an NWB file, found with HDF5 and read by ranges."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loaders.byte_source import ByteSource
from loaders.errors import CorruptData, InconsistentData
from loaders.hdf5_index import Hdf5Array, index_dataset
from loaders.records import Floats, Ints, Spikes
from loaders.validate import clean_spikes

if TYPE_CHECKING:
    import h5py

_GAP = 1 << 16  # spikes of other units that are read rather than asked around
_AT_ONCE = 8


class SpikeTrains:
    """Where in a file the spikes of some units lie.

    Parameters
    ----------
    nwb : h5py.File
    source : ByteSource
        The bytes of the same file.
    rows : (unit,) int64
        Rows of the units in the table of the file.
    """

    def __init__(self, nwb: h5py.File, source: ByteSource, rows: Ints) -> None:
        table = nwb["units"]
        ends = _ends(table, "spike_times")
        self._times = index_dataset(nwb, "units/spike_times", source)
        self._amplitudes: Hdf5Array | None = None
        if "spike_amplitudes" in table:
            self._amplitudes = index_dataset(nwb, "units/spike_amplitudes", source)
            if not np.array_equal(_ends(table, "spike_amplitudes"), ends):
                raise InconsistentData("units: spike_amplitudes_index differs from spike_times_index")
        starts = np.concatenate([[0], ends[:-1]])
        self._spans = list(zip(starts[rows].tolist(), ends[rows].tolist(), strict=True))

    def read(self) -> tuple[Spikes, list[str]]:
        """All spikes in order of time, those of units of a smaller number first where times are equal."""
        sizes = np.array([stop - start for start, stop in self._spans], dtype=np.int64)
        times = self._gather(self._times)
        units = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        arrays: dict[str, NDArray[Any]] = {"times": times, "clusters": units}
        if self._amplitudes is not None:
            arrays["amps"] = self._gather(self._amplitudes)
        notes = _unsorted(times, sizes)
        if negative := int(np.count_nonzero(times < 0)):
            notes.append(f"{negative} spikes had negative times, which mark invalid ones, and were left out")
            arrays = {name: values[~(times < 0)] for name, values in arrays.items()}
        order = np.argsort(arrays["times"], kind="stable")
        spikes, more = clean_spikes({name: values[order] for name, values in arrays.items()}, len(sizes))
        return spikes, notes + more

    def _gather(self, array: Hdf5Array) -> Floats:
        """The values of all units one after another. Stretches that are close to each other are one read."""
        out = np.empty(sum(stop - start for start, stop in self._spans))
        places = np.cumsum([0, *(stop - start for start, stop in self._spans)])
        runs = _runs(self._spans)

        def fill(run: Sequence[int]) -> None:
            first = min(self._spans[i][0] for i in run)
            values = array.read(first, max(self._spans[i][1] for i in run))
            for i in run:
                start, stop = self._spans[i]
                out[places[i] : places[i + 1]] = values[start - first : stop - first]

        with ThreadPoolExecutor(_AT_ONCE) as threads:
            list(threads.map(fill, runs))  # raises what one of them raised
        return out


def _runs(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Spans, by their place in the list, that are read together, in order of their begin."""
    runs: list[list[int]] = []
    end = -_GAP - 1
    for i in sorted(range(len(spans)), key=spans.__getitem__):
        start, stop = spans[i]
        if start == stop:
            continue
        if start - end <= _GAP:
            runs[-1].append(i)
        else:
            runs.append([i])
        end = stop
    return runs


def _unsorted(times: Floats, sizes: Ints) -> list[str]:
    """A note if spikes of a unit are not in order of time."""
    falls = np.flatnonzero(times[1:] < times[:-1]) + 1
    within = falls[~np.isin(falls, np.cumsum(sizes))]  # the next unit begins anew
    if not len(within):
        return []
    units = len(np.unique(np.searchsorted(np.cumsum(sizes), within, side="right")))
    return [f"spike times of {units} units were not in order; sorted"]


def _ends(table: Any, name: str) -> Ints:
    """Ends of the units in a ragged column; their own type is the smallest that holds them, and would wrap."""
    ends: Ints = table[f"{name}_index"][:].astype(np.int64)
    n = table[name].shape[0]
    if len(ends) != table["id"].shape[0] or (np.diff(ends, prepend=0) < 0).any() or (len(ends) and ends[-1] != n):
        raise CorruptData(f"units/{name}_index: expected increasing ends of {table['id'].shape[0]} units up to {n}")
    return ends
