"""A pid -> one validated `Sorting`: the thin sum of catalog, resolver, readers and validation."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.errors import CorruptData, CubesError
from loaders.fetcher import fetch
from loaders.readers import check_file, read_npy, read_table
from loaders.records import Catalog, Channels, DatasetRecord, Insertion, Sites, Sorting, SourceFile, Strings, Units
from loaders.resolve import ResolvedSorting, resolve_sorting
from loaders.validate import clean_channels, clean_spikes, clean_units

_SPIKES = {"times": "f", "clusters": "iu", "amps": "f", "depths": "f"}
_CLUSTERS = {"channels": "iu", "depths": "f"}
_SITES = {"localCoordinates": "fiu", "rawInd": "iuf", "mlapdv": "fiu", "brainLocationIds_ccf_2017": "iuf"}
_SITE_FILES = frozenset({"clusters.channels", *(f"channels.{name}" for name in _SITES)})
_UNIT_FILES = _SITE_FILES | {"clusters.uuids", "clusters.metrics", *(f"clusters.{name}" for name in _CLUSTERS)}
_SORTING_FILES = _UNIT_FILES | {f"spikes.{name}" for name in _SPIKES}
_TWO_DIMENSIONAL = ("localCoordinates", "mlapdv")
_LARGE_BYTES = 1 << 24  # together: threads cost time and address space


def load_sorting(catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sorting:
    """Load one spike sorting of one insertion, checked and labelled.

    Parameters
    ----------
    catalog : Catalog
        Where to look, such as ``OneCatalog.from_folder(path)``.
    pid : str
        Identifier of the insertion.
    sorter, revision : str, optional
        Exact choice; see `loaders.resolve.resolve_sorting` for what is taken without.

    Returns
    -------
    Sorting
        Large arrays are mapped from the files, so that memory is used only for what is touched.

    Raises
    ------
    NotFound, CorruptData, InconsistentData
        Each message names the pid and the file.

    Examples
    --------
    >>> from loaders.one_cache import OneCatalog
    >>> sorting = load_sorting(OneCatalog.from_folder("sample"), pid, revision="2024-05-06")
    >>> len(sorting.spikes), len(sorting.units), sorting.sorter
    (124905, 500, 'pykilosort')
    """
    insertion = catalog.insertion(pid)
    try:
        return _read(insertion, _resolve(catalog, insertion, sorter, revision, _SORTING_FILES))
    except CubesError as error:
        raise type(error)(f"pid {pid}: {error}") from error


def load_sites(catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None) -> Sites:
    """Load only the recording sites of one spike sorting: exactly those of `load_sorting`, without its spikes.

    Parameters and errors are those of `load_sorting`.
    """
    insertion = catalog.insertion(pid)
    try:
        resolved = _resolve(catalog, insertion, sorter, revision, _SITE_FILES)
        reader = _FileReader()
        clusters = reader.arrays(resolved.files, "clusters", {"channels": _CLUSTERS["channels"]})
        channels, _ = _channels(reader, resolved, clusters)
    except CubesError as error:
        raise type(error)(f"pid {pid}: {error}") from error
    return Sites(resolved.sorter, resolved.revision, resolved.collection, channels, tuple(reader.sources))


def load_units(
    catalog: Catalog, pid: str, *, sorter: str | None = None, revision: str | None = None
) -> tuple[Sites, Units]:
    """Load the recording sites and the units of one spike sorting, with their metrics: no file of spikes is read.

    Parameters and errors are those of `load_sorting`.
    """
    insertion = catalog.insertion(pid)
    try:
        resolved = _resolve(catalog, insertion, sorter, revision, _UNIT_FILES)
        reader = _FileReader()
        clusters = reader.arrays(resolved.files, "clusters", _CLUSTERS)
        channels, _ = _channels(reader, resolved, clusters)
        units, _ = clean_units(clusters, reader.uuids(resolved.files), reader.metrics(resolved.files), len(channels))
    except CubesError as error:
        raise type(error)(f"pid {pid}: {error}") from error
    return Sites(resolved.sorter, resolved.revision, resolved.collection, channels, tuple(reader.sources)), units


def _resolve(
    catalog: Catalog, insertion: Insertion, sorter: str | None, revision: str | None, names: frozenset[str]
) -> ResolvedSorting:
    """The files of one sorting; those of `names`, and the sites of the probe, are on this machine when it returns."""
    resolved = resolve_sorting(catalog.datasets(insertion), insertion.probe, sorter, revision)
    fetch([*(file for name, file in resolved.files.items() if name in names), *resolved.sites.values()])
    return resolved


def _channels(
    reader: _FileReader, resolved: ResolvedSorting, clusters: Mapping[str, NDArray[Any]]
) -> tuple[Channels, list[str]]:
    used = max(clusters["channels"].tolist(), default=-1) + 1
    return clean_channels(
        reader.arrays(resolved.files, "channels", _SITES), reader.arrays(resolved.sites, "electrodeSites", _SITES), used
    )


def _read(insertion: Insertion, resolved: ResolvedSorting) -> Sorting:
    reader = _FileReader()
    clusters = reader.arrays(resolved.files, "clusters", _CLUSTERS)
    channels, channel_notes = _channels(reader, resolved, clusters)
    units, unit_notes = clean_units(
        clusters, reader.uuids(resolved.files), reader.metrics(resolved.files), len(channels)
    )
    spikes, spike_notes = clean_spikes(reader.arrays(resolved.files, "spikes", _SPIKES), len(units))
    return Sorting(
        insertion=insertion,
        sorter=resolved.sorter,
        revision=resolved.revision,
        collection=resolved.collection,
        spikes=spikes,
        units=units,
        channels=channels,
        sources=tuple(reader.sources),
        notes=(*resolved.notes, *spike_notes, *unit_notes, *channel_notes),
    )


class _FileReader:
    """Reads the files of a sorting and remembers each for the provenance."""

    def __init__(self) -> None:
        self.sources: list[SourceFile] = []

    def _path(self, record: DatasetRecord) -> Path:
        self.sources.append(check_file(record))
        return record.path

    def arrays(
        self, files: Mapping[str, DatasetRecord], owner: str, attributes: Mapping[str, str]
    ) -> dict[str, NDArray[Any]]:
        """All of `attributes` (name -> accepted dtype kinds) that exist, by name."""
        found = {name: files[f"{owner}.{name}"] for name in attributes if f"{owner}.{name}" in files}
        self.sources += _check_files(list(found.values()))
        return {
            name: read_npy(record.path, kinds=attributes[name], ndim=2 if name in _TWO_DIMENSIONAL else 1)
            for name, record in found.items()
        }

    def uuids(self, files: Mapping[str, DatasetRecord]) -> Strings | None:
        if (record := files.get("clusters.uuids")) is None:
            return None
        table = read_table(self._path(record), text=True)
        if list(table.columns) != ["uuids"]:
            raise CorruptData(f"{record.path}: expected one column named uuids, got columns {list(table.columns)}")
        return np.asarray(table["uuids"].fillna("").astype(str), dtype=object)

    def metrics(self, files: Mapping[str, DatasetRecord]) -> Any:
        record = files.get("clusters.metrics")
        return None if record is None else read_table(self._path(record))


def _check_files(records: list[DatasetRecord]) -> list[SourceFile]:
    """`check_file` of each; large ones at the same time, because hashing is most of the time of reading spikes."""
    sizes = [record.path.stat().st_size for record in records if record.path.exists()]
    if sum(sizes) <= _LARGE_BYTES:
        return [check_file(record) for record in records]
    with ThreadPoolExecutor(len(records)) as pool:
        return list(pool.map(check_file, records))
