"""Which files hold the raw voltage of one band of one probe: a pure function of the file records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from loaders.errors import BadArgument, InconsistentData, NotFound
from loaders.records import DatasetRecord

BANDS = ("ap", "lf")

_UUID = r"(?:\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?"  # the bucket has the id of the dataset in the name
_NAME = re.compile(
    r"(?P<run>.+)_(?P<segment>g[0-9]+_t(?:[0-9]+|cat)(?:\.exported)?)\.imec(?P<imec>[0-9]{0,4})\."
    rf"(?:(?P<band>ap|lf){_UUID}\.(?P<kind>cbin|bin|ch|meta)|(?P<clock>timestamps|sync){_UUID}\.npy)"
)
_VOLTAGE = ("cbin", "bin")


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The files of one band of one probe, all of one segment and, the clock apart, of one revision.

    Attributes
    ----------
    probe, band, segment : str
        Such as ``probe00``, ``ap`` and ``g0_t0``.
    voltage : DatasetRecord
        The ``.cbin`` or, uncompressed, the ``.bin``.
    ch : DatasetRecord or None
        Index of the chunks; None of a ``.bin``.
    meta : DatasetRecord
    timestamps, sync : DatasetRecord or None
        Clock of the probe: AP sample and session s; probe s and session s. None if there is no such file.
    """

    probe: str
    band: str
    segment: str
    voltage: DatasetRecord
    ch: DatasetRecord | None
    meta: DatasetRecord
    timestamps: DatasetRecord | None
    sync: DatasetRecord | None

    @property
    def compressed(self) -> bool:
        """Whether the voltage is compressed by mtscomp."""
        return self.ch is not None


@dataclass(frozen=True, slots=True)
class _File:
    """One raw file and what its name says; `imec` is -1 where the name has no number, as of phase 3A."""

    record: DatasetRecord
    run: str
    segment: str
    imec: int
    band: str
    kind: str

    @property
    def recording(self) -> tuple[str, int, str]:
        return self.run, self.imec, self.segment


def resolve_raw(records: Iterable[DatasetRecord], probe: str, band: str, segment: str | None = None) -> RawFiles:
    """Choose the files of one band of one probe, strictly.

    Parameters
    ----------
    records : iterable of DatasetRecord
        All files of the session.
    probe : str
        Name of the probe, such as ``probe00``: only files in ``raw_ephys_data/<probe>`` are looked at.
    band : str
        ``ap`` or ``lf``.
    segment : str, optional
        Which one, such as ``g0_t1``, if the band was recorded in several.

    Raises
    ------
    BadArgument
        If there is no such band on any probe.
    NotFound
        If the probe has no raw data, not this band, or not this segment; the message lists what exists.
    InconsistentData
        If there are several segments and none was chosen, or the ``.meta`` or ``.ch`` is missing.
    """
    if band not in BANDS:
        raise BadArgument(f"band: expected one of {', '.join(BANDS)}, got {band!r}")
    records = list(records)
    files = [file for record in records if (file := _raw_file(record, probe))]
    voltage = _one_segment(_of_band(files, records, probe, band), f"{probe}, band {band}", segment)
    ch = _companion(files, voltage, "ch") if voltage.kind == "cbin" else None
    meta = _companion(files, voltage, "meta")
    timestamps, sync = (_clock(files, voltage, kind) for kind in ("timestamps", "sync"))
    return RawFiles(probe, band, voltage.segment, voltage.record, ch, meta, timestamps, sync)


def band_of(name: str) -> str:
    """``ap`` or ``lf``, from the name of a voltage file; raises BadArgument for any other name."""
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in _VOLTAGE:
        raise BadArgument(f"{name}: expected the voltage of one band, named like run_g0_t0.imec0.ap.cbin (or .bin)")
    return match["band"]


def raw_parts(records: Iterable[DatasetRecord], probe: str) -> dict[str, list[DatasetRecord]]:
    """All raw files of a probe by what they are: ``ap.cbin``, ``lf.meta``, ``timestamps`` ...; none is chosen."""
    parts: dict[str, list[DatasetRecord]] = {}
    for record in records:
        if file := _raw_file(record, probe):
            parts.setdefault(f"{file.band}.{file.kind}".lstrip("."), []).append(record)
    return parts


def _raw_file(record: DatasetRecord, probe: str) -> _File | None:
    match = _NAME.fullmatch(record.name) if record.collection == f"raw_ephys_data/{probe}" else None
    if match is None:
        return None
    imec = int(match["imec"] or -1)
    return _File(record, match["run"], match["segment"], imec, match["band"] or "", match["kind"] or match["clock"])


def _of_band(files: list[_File], records: list[DatasetRecord], probe: str, band: str) -> list[_File]:
    """The voltage files of a band."""
    found = [file for file in files if file.band == band and file.kind in _VOLTAGE]
    if found:
        return found
    bands = sorted({file.band for file in files if file.kind in _VOLTAGE})
    if bands:
        left = ", ".join(file.record.name for file in files if file.band == band)
        also = f" (without its voltage there is only {left})" if left else ""
        raise NotFound(f"{probe}: no {band} band; bands that exist: {', '.join(bands)}{also}")
    probes = {match[1] for r in records if (match := re.fullmatch(r"raw_ephys_data/([^/]+)", r.collection))}
    raise NotFound(
        f"{probe}: no raw voltage in this session (looked for *.{band}.cbin and *.{band}.bin in "
        f"raw_ephys_data/{probe}); probes with raw files: {', '.join(sorted(probes)) or 'none'}"
    )


def _one_segment(files: list[_File], what: str, segment: str | None) -> _File:
    segments = sorted({file.segment for file in files})
    if segment is not None:
        if segment not in segments:
            raise NotFound(f"{what}: segment {segment!r} does not exist; segments that exist: {', '.join(segments)}")
        files = [file for file in files if file.segment == segment]
    elif len(segments) > 1:
        raise InconsistentData(f"{what}: recorded in several segments; choose one of {', '.join(segments)} (segment=)")
    if len({file.recording for file in files}) > 1 or len({file.record.name for file in _newest(files)}) > 1:
        raise InconsistentData(f"{what}: several recordings in one folder: {_names(files)}; expected one")
    return _newest(files)[0]


def _newest(files: list[_File]) -> list[_File]:
    """The compressed files of the default revision, or else of the latest."""
    files = [file for file in files if file.kind == "cbin"] or files
    revision = _revision(files)
    return [file for file in files if file.record.revision == revision]


def _revision(files: list[_File]) -> str:
    default = {file.record.revision for file in files if file.record.default}
    return default.pop() if len(default) == 1 else max(file.record.revision for file in files)


def _companion(files: list[_File], voltage: _File, kind: str) -> DatasetRecord:
    """The ``.ch`` or ``.meta`` of a voltage file, of the same revision."""
    alike = [file for file in files if (file.recording, file.band) == (voltage.recording, voltage.band)]
    found = [f.record for f in alike if f.kind == kind and f.record.revision == voltage.record.revision]
    name = voltage.record.name
    if not found:
        raise InconsistentData(f"{name}: its .{kind} is missing from {voltage.record.collection}; fetch it as well")
    if len(found) > 1:
        raise InconsistentData(f"{name}: expected one .{kind}, got {', '.join(record.name for record in found)}")
    return found[0]


def _clock(files: list[_File], voltage: _File, kind: str) -> DatasetRecord | None:
    """A clock file of the recording; it is made later than the voltage, and so has revisions of its own."""
    found = [file for file in files if file.kind == kind and file.recording == voltage.recording]
    if not found:
        return None
    revision = _revision(found)
    chosen = [file for file in found if file.record.revision == revision]
    if len(chosen) > 1:
        raise InconsistentData(f"{voltage.record.name}: expected one {kind} file, got {_names(chosen)}")
    return chosen[0].record


def _names(files: Iterable[_File]) -> str:
    return ", ".join(sorted(file.record.name for file in files))
