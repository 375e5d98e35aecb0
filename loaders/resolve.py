"""Which files make up one sorting: a pure function of the file records, without any input or output.

One sorting is one collection and one revision. ONE resolves each *file* on its own ("last on or before"), which
mixes the times of one sorting with the clusters of another without an error; here that cannot happen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from loaders.errors import InconsistentData, NotFound
from loaders.records import DatasetRecord

SORTER_PREFERENCE = ("iblsorter", "pykilosort")
"""Sorters in the order in which one is taken where none is asked for, as IBL's own loader does."""

REQUIRED = ("spikes.times", "spikes.clusters", "clusters.channels")
_SUFFIX_PREFERENCE = (".npy", ".pqt", ".csv")

Files = dict[str, DatasetRecord]
"""File records by ALF ``object.attribute``."""


@dataclass(frozen=True, slots=True)
class ResolvedSorting:
    """The files of one sorting: `files` by ``object.attribute``, `sites` the electrode sites of the probe.

    `notes` says in words what was odd.
    """

    sorter: str
    revision: str
    collection: str
    files: Mapping[str, DatasetRecord]
    sites: Mapping[str, DatasetRecord]
    notes: tuple[str, ...] = ()


def resolve_sorting(
    records: Iterable[DatasetRecord], probe: str, sorter: str | None = None, revision: str | None = None
) -> ResolvedSorting:
    """Choose one collection and one revision, strictly.

    Parameters
    ----------
    records : iterable of DatasetRecord
        All files of the session.
    probe : str
        Name of the probe, such as ``probe00``.
    sorter : str, optional
        Name of the sorter; ``""`` means files directly in ``alf/<probe>``. Without it the first of
        `SORTER_PREFERENCE` that exists, or else the only one that exists.
    revision : str, optional
        Exact revision; ``""`` means files without one. Without it the one that the catalog calls default,
        or else the latest.

    Raises
    ------
    NotFound
        If the probe has no sorting, or not the one that was asked for; the message lists what exists.
    InconsistentData
        If the chosen revision lacks a required file. Files of another revision are never taken instead.
    """
    records = list(records)
    available = _sortings(records, probe)
    if not available:
        raise NotFound(f"{probe}: no spike sorting in this session (looked for spikes.* and clusters.* in alf/{probe})")
    chosen = _choose_sorter(available, probe, sorter)
    revisions = available[chosen]
    wanted = _choose_revision(revisions, f"{probe}, sorter {chosen!r}", revision)
    files = revisions[wanted]
    missing = [name for name in REQUIRED if name not in files]
    if missing:
        raise InconsistentData(
            f"{probe}, sorter {chosen!r}, revision {wanted!r}: expected {', '.join(REQUIRED)}, but "
            f"{', '.join(missing)} is missing; files of another revision are not mixed in. "
            f"Revisions that exist: {_quoted(revisions)}"
        )
    collection = f"alf/{probe}/{chosen}".rstrip("/")
    sites, notes = _electrode_sites(records, probe)
    return ResolvedSorting(chosen, wanted, collection, files, sites, notes)


def _sortings(records: list[DatasetRecord], probe: str) -> dict[str, dict[str, Files]]:
    """All sortings of a probe: sorter -> revision -> files. Only sortings that have spikes count."""
    found: dict[str, dict[str, Files]] = {}
    collection = re.compile(rf"alf/{re.escape(probe)}(?:/([^/]+))?")
    for record in records:
        if match := collection.fullmatch(record.collection):
            name = _object_attribute(record.name)
            if name.startswith(("spikes.", "clusters.", "channels.")):
                files = found.setdefault(match[1] or "", {}).setdefault(record.revision, {})
                _add(files, name, record)
    spiking = {
        sorter: {
            revision: files for revision, files in revisions.items() if any(n.startswith("spikes.") for n in files)
        }
        for sorter, revisions in found.items()
    }
    return {sorter: revisions for sorter, revisions in spiking.items() if revisions}


def _choose_sorter(available: Mapping[str, object], probe: str, sorter: str | None) -> str:
    if sorter is not None:
        if sorter not in available:
            raise NotFound(f"{probe}: sorter {sorter!r} does not exist; sorters that exist: {_quoted(available)}")
        return sorter
    for name in SORTER_PREFERENCE:
        if name in available:
            return name
    if len(available) > 1:
        raise NotFound(f"{probe}: several sorters exist and none was asked for; name one of {_quoted(available)}")
    return next(iter(available))


def _choose_revision(revisions: Mapping[str, Files], what: str, revision: str | None) -> str:
    if revision is not None:
        if revision not in revisions:
            raise NotFound(f"{what}: revision {revision!r} does not exist; revisions that exist: {_quoted(revisions)}")
        return revision
    default = [name for name, files in revisions.items() if all(record.default for record in files.values())]
    return default[0] if len(default) == 1 else max(revisions)


def _electrode_sites(records: list[DatasetRecord], probe: str) -> tuple[Files, tuple[str, ...]]:
    """Files of the electrode sites: they belong to the probe, not to a sorting, and have revisions of their own."""
    revisions: dict[str, Files] = {}
    for record in records:
        if record.collection == f"alf/{probe}" and record.name.startswith("electrodeSites."):
            _add(revisions.setdefault(record.revision, {}), _object_attribute(record.name), record)
    if not revisions:
        return {}, ()
    chosen = _choose_revision(revisions, probe, None)
    elsewhere = sorted(set().union(*revisions.values()) - set(revisions[chosen]))
    note = f"{', '.join(elsewhere)} exist only in another revision than {chosen!r} of electrodeSites and are not used"
    return revisions[chosen], (note,) if elsewhere else ()


def _object_attribute(name: str) -> str:
    """``spikes.times.npy`` -> ``spikes.times``; names with a namespace keep it and so match nothing here."""
    return ".".join(name.split(".")[:2])


def _add(files: Files, name: str, record: DatasetRecord) -> None:
    """Keep one file a name; where the same table exists as parquet and csv, the parquet file."""

    def rank(candidate: DatasetRecord) -> int:
        suffix = candidate.path.suffix
        return _SUFFIX_PREFERENCE.index(suffix) if suffix in _SUFFIX_PREFERENCE else len(_SUFFIX_PREFERENCE)

    if name not in files or rank(record) < rank(files[name]):
        files[name] = record


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
