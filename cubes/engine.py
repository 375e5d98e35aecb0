"""Voltage in place: a labelled dataset over the raw file itself, without a copy.

An engine of xarray: ``xr.open_dataset("….ap.cbin", engine="cubes")`` gives what the stored product would. Nothing is
decoded until values are asked for, and then exactly the chunks of the file that hold some of them.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core.indexing import ExplicitIndexer, IndexingSupport, LazilyIndexedArray, explicit_indexing_adapter

from chunking import schema
from chunking.provenance import attributes
from chunking.voltage_product import voltage_attrs, voltage_coordinates, voltage_origin, voltage_title
from cubes.index import attach_clock
from loaders.blocks import Block
from loaders.byte_source import LocalFile
from loaders.errors import BadArgument
from loaders.folder import FileCatalog
from loaders.inputs import Inputs
from loaders.raw_files import band_of
from loaders.recording import Recording
from loaders.records import Catalog

Rows = int | slice | NDArray[np.integer[Any]]

_MAX_THREADS = 4  # of one window: dask may read several at once, and every thread holds two chunks, 46 MB of AP


class CbinBackend(BackendEntrypoint):
    """The xarray engine ``cubes``."""

    description: ClassVar[str] = "Neuropixels voltage in place: SpikeGLX recordings as .cbin of mtscomp, or .bin"
    open_dataset_parameters: ClassVar[tuple[str, ...] | None] = ("filename_or_obj", "drop_variables")

    def open_dataset(  # type: ignore[override]  # xarray also allows open files and stores
        self, filename_or_obj: str | os.PathLike[str], *, drop_variables: str | Iterable[str] | None = None
    ) -> xr.Dataset:
        """Open one band of one recording; see `open_voltage`."""
        ds = open_voltage(filename_or_obj)
        dropped = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return ds.drop_vars(dropped, errors="ignore") if dropped else ds

    def guess_can_open(self, filename_or_obj: object) -> bool:
        """Whether it is the path of a ``.cbin``."""
        return isinstance(filename_or_obj, str | os.PathLike) and Path(filename_or_obj).suffix == ".cbin"


def open_voltage(path: str | os.PathLike[str]) -> xr.Dataset:
    """The voltage of one file as a lazy, labelled dataset.

    Parameters
    ----------
    path : path or url
        A ``.cbin``, with its ``.ch`` and ``.meta`` beside it, or a ``.bin`` with its ``.meta``; or the url of a
        ``.cbin`` in the public bucket, of which exactly the chunks are requested that hold what is asked for.

    Returns
    -------
    Dataset
        ``ap(channel, time)`` or ``lf(channel, time)``, int16 without the sync channels, with the coordinates and
        attributes of the stored product. There is a session time only if ``timestamps`` or ``sync`` lie beside the
        file. Regions are ``void`` unless the file lies in ``<session>/raw_ephys_data/<probe>`` and the session has a
        spike sorting of that probe.

    Raises
    ------
    NotFound
        If there is no such file.
    BadArgument
        If it is not the path of a voltage file.
    InconsistentData
        If its ``.ch`` or ``.meta`` is missing, or they contradict each other.
    CorruptData
        If one of the files is damaged. Chunks are checked when they are decoded.
    """
    if not isinstance(path, str | os.PathLike):
        raise BadArgument(f"path: expected the path of a voltage file, got {type(path).__name__}")
    if isinstance(path, str) and "://" in path:
        from cubes.sources import cache_folder
        from loaders.bucket_url import session_of_url

        session, insertion, band = session_of_url(path, cache_folder())
        return voltage_in_place(session, insertion.pid, band)
    band = band_of(Path(path).name)
    catalog = FileCatalog(Path(path))
    return voltage_in_place(catalog, catalog.insertions()[0].pid, band)


def open_remote(pid: str, band: str = "ap", *, source: Catalog | str = "bucket") -> xr.Dataset:
    """The voltage of an insertion where it is, as a lazy, labelled dataset: a window costs the chunks that hold it.

    Parameters
    ----------
    pid : str
        Probe insertion.
    band : {"ap", "lf"}
    source : Catalog or str
        From `cubes.source`, or the name of one that needs no folder.

    Returns
    -------
    Dataset
        As of `xr.open_dataset` with the engine ``cubes``. The small files that label it are fetched and kept.

    Raises
    ------
    NotFound
        If the source does not have the insertion, or the insertion not the band.
    SourceUnavailable
        If the source cannot be reached.

    Examples
    --------
    >>> import cubes
    >>> cubes.open_remote(pid, "lf", source=cubes.source("one", "sample")).lf.dims
    ('channel', 'time')
    """
    if isinstance(source, str):
        from cubes.sources import source as open_source

        source = open_source(source)
    return voltage_in_place(source, pid, band)


def voltage_in_place(catalog: Catalog, pid: str, band: str) -> xr.Dataset:
    """The voltage of one band of an insertion, without a copy."""
    inputs = Inputs(catalog, pid)
    voltage, sites = inputs.format.voltage(catalog, pid, band, need_clock=False), inputs.sites_if_any
    variable = voltage_variable(voltage.recording, voltage.meta.n_channels, voltage_attrs(voltage))
    coordinates = voltage_coordinates(voltage, sites)
    if voltage.clock_if_any is not None:
        coordinates |= schema.clock_knots(voltage.clock_if_any, 0, variable.shape[1])
    attrs = attributes(voltage_origin(voltage, sites), band, voltage_title(band), {})
    ds = xr.Dataset({band: variable}, coordinates, attrs)
    if voltage.clock_if_any is not None:
        ds = attach_clock(ds)
    if isinstance(voltage.recording.source, LocalFile):
        ds.set_close(voltage.recording.source.close)
    return ds


def voltage_variable(
    recording: Recording, n_channels: int, attrs: Mapping[str, Any], window: tuple[int, int] | None = None
) -> xr.Variable:
    """The first channels of a recording as a lazy variable (channel, time); its encoding has the chunks of the file.

    `window` is the first sample and the one after the last, by default of all.
    """
    start, stop = window or (0, recording.n_samples)
    data = LazilyIndexedArray(VoltageArray(recording, n_channels))
    variable = xr.Variable(("channel", "time"), data, attrs).isel(time=slice(start, stop))
    variable.encoding = {"preferred_chunks": {"channel": n_channels, "time": _chunk_lengths(recording, start, stop)}}
    return variable


class VoltageArray(BackendArray):
    """The channels of a recording that come before its sync channels, as xarray reads them. Picklable, thread-safe.

    Parameters
    ----------
    recording : Recording
    n_channels : int
        Number of channels without those of synchronisation.
    """

    def __init__(self, recording: Recording, n_channels: int) -> None:
        self.recording = recording
        self.shape = (n_channels, recording.n_samples)
        self.dtype = np.dtype(np.int16)

    def __getitem__(self, key: ExplicitIndexer) -> Any:
        """The values at a key of xarray."""
        return explicit_indexing_adapter(key, self.shape, IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Rows, Rows]) -> NDArray[np.int16]:
        """Values at integers, slices with positive steps and increasing arrays: what xarray makes of any other key."""
        (rows, pick_row), (samples, pick_sample) = _positions(key[0], self.shape[0]), _positions(key[1], self.shape[1])
        block = read_samples(self.recording, samples, rows)
        values: NDArray[np.int16] = block[pick_row][..., pick_sample]
        return values


def read_samples(recording: Recording, samples: Sequence[int], rows: Sequence[int]) -> Block:
    """Any samples of any channels; decodes exactly the chunks that hold some of them.

    Parameters
    ----------
    recording : Recording
    samples, rows : range or array, increasing
        Positions along time and among the channels.

    Returns
    -------
    (channel, time) int16
    """
    if len(samples) == 0 or len(rows) == 0:
        return np.empty((len(rows), len(samples)), np.int16)
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    if isinstance(samples, range) and samples.step == 1:
        block = _read_window(recording, samples.start, samples.stop, span)
        return block if len(rows) == len(block) else block[_within(rows)]
    result = np.empty((len(rows), len(samples)), np.int16)
    done = 0
    while done < len(samples):
        end = bisect_left(samples, _chunk_end(recording, samples[done]), done)
        part = samples[done:end]
        block = recording.read(int(part[0]), int(part[-1]) + 1, span)
        result[:, done:end] = block[_within(rows)][:, _within(part)]
        done = end
    return result


def _read_window(recording: Recording, start: int, stop: int, rows: slice) -> Block:
    """A window, its chunks decoded on several cores: someone waits for it, and one second of AP lies in two of them."""
    parts = []
    while start < stop:
        parts.append((start, min(_chunk_end(recording, start), stop)))
        start = parts[-1][1]
    if len(parts) == 1:
        return recording.read(*parts[0], rows)
    first = parts[0][0]
    window = np.empty((rows.stop - rows.start, stop - first), np.int16)

    def fill(part: tuple[int, int]) -> None:
        window[:, part[0] - first : part[1] - first] = recording.read(*part, rows)

    with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1, _MAX_THREADS)) as pool:
        list(pool.map(fill, parts))  # raises what one of them raised
    return window


def _chunk_end(recording: Recording, sample: int) -> int:
    """End of the chunk that holds a sample."""
    i = bisect_right(range(recording.n_chunks), sample, key=lambda i: recording.span(i)[0]) - 1
    return recording.span(i)[1]


def _positions(key: Rows, size: int) -> tuple[Any, Any]:
    """Increasing positions along one dimension, and what takes the result out of them."""
    if isinstance(key, slice):
        return range(size)[key], slice(None)
    if isinstance(key, np.ndarray):
        return key, slice(None)
    position = range(size)[int(key)]
    return range(position, position + 1), 0


def _within(positions: Any) -> Any:
    """The index of positions in a block that begins at the first of them."""
    return slice(None, None, positions.step) if isinstance(positions, range) else positions - positions[0]


def _chunk_lengths(recording: Recording, start: int, stop: int) -> int | tuple[int, ...]:
    """Samples of the chunks within a window: one number, unless others than the last differ."""
    spans = map(recording.span, range(recording.n_chunks))
    lengths = tuple(min(end, stop) - max(begin, start) for begin, end in spans if begin < stop and end > start)
    return lengths[0] if len(set(lengths[:-1])) < 2 and lengths[-1] <= lengths[0] else lengths
