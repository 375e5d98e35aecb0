"""The raw voltage of one band of one insertion: data, gains, geometry, clock and the places of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loaders.byte_source import LocalFile
from loaders.cbin import Cbin
from loaders.checked_source import hash_ranges
from loaders.clock import Clock
from loaders.errors import CorruptData, CubesError, NotFound
from loaders.fetcher import fetch
from loaders.flat_binary import FlatBinary
from loaders.geometry import Geometry, geometry_from_meta
from loaders.raw_files import RawFiles, resolve_raw
from loaders.readers import check_file, read_npy
from loaders.recording import Recording
from loaders.records import Catalog, Channels, DatasetRecord, Insertion, Locations, SourceFile
from loaders.regions import VOID_ID, locate
from loaders.remote_file import RemoteFile, open_file
from loaders.spikeglx_meta import RecordingMeta, check_channels, read_meta


@dataclass(frozen=True)
class Voltage:
    """One band of one insertion. Channels are in the order of the raw file, sync channels excluded.

    Attributes
    ----------
    insertion : Insertion
    band : str
        ``ap`` or ``lf``.
    recording : Recording
        The samples, with the sync channels at the end.
    meta : RecordingMeta
        Rate, gains, probe.
    geometry : Geometry
        Where the sites lie on the probe.
    clock_if_any : Clock or None
        Session time of the samples of this band; None only where it was opened without needing one.
    sources : sequence of SourceFile
    notes : sequence of str
    """

    insertion: Insertion
    band: str
    recording: Recording
    meta: RecordingMeta
    geometry: Geometry
    clock_if_any: Clock | None
    sources: Sequence[SourceFile]
    notes: Sequence[str]

    @property
    def clock(self) -> Clock:
        """Session time of the samples; raises NotFound if it is not known."""
        if self.clock_if_any is None:
            raise NotFound(
                f"{self.recording.source.name}: no clock, neither timestamps.npy nor sync.npy; the voltage would have "
                "no time"
            )
        return self.clock_if_any

    def check_source(self) -> None:
        """Compare a compressed file of this machine with the hash in its header; one read of the file.

        A remote one would have to be downloaded twice. There the checksum of every chunk, the size of the whole and
        the version that the server names in every answer have to do.

        Raises
        ------
        CorruptData
            If they differ.
        """
        source = self.recording.source
        if isinstance(source, RemoteFile):
            return
        if isinstance(self.recording, Cbin) and self.recording.index.sha1_compressed:
            bounds = (*range(0, source.size, _BLOCK_BYTES), source.size)
            self.refuse_other_sha1(hash_ranges(source, bounds).sha1)

    def refuse_other_sha1(self, sha1: str) -> None:
        """Raise CorruptData unless `sha1` is that in the header of a compressed file, if it has one."""
        expected = self.recording.index.sha1_compressed if isinstance(self.recording, Cbin) else None
        if expected not in (None, sha1):
            raise CorruptData(
                f"{self.recording.source.name}: expected sha1 {expected} as in its header, got {sha1}; fetch it again"
            )


_BLOCK_BYTES = 1 << 20


def load_voltage(
    catalog: Catalog, pid: str, band: str, *, segment: str | None = None, need_clock: bool = True
) -> Voltage:
    """Open the raw voltage of one band.

    Parameters
    ----------
    catalog : Catalog
    pid : str
    band : {"ap", "lf"}
    segment : str, optional
        Such as ``g0_t1``, if the band was recorded in several.
    need_clock : bool
        Refuse voltage whose session time is not known.

    Raises
    ------
    NotFound
        If the probe has no such band, or no clock though one is needed.
    CorruptData, InconsistentData
        If a file is damaged, or files contradict each other. Each message names the pid.
    """
    insertion = catalog.insertion(pid)
    try:
        voltage = _load(insertion, resolve_raw(catalog.datasets(insertion), insertion.probe, band, segment))
        if need_clock:
            _ = voltage.clock
        return voltage
    except CubesError as error:
        raise type(error)(f"pid {pid}: {error}") from error


def place_channels(voltage: Voltage, channels: Channels | None) -> Locations:
    """Places of the channels of the raw file, from the sites of a sorting; unknown where those say nothing.

    Parameters
    ----------
    voltage : Voltage
    channels : Channels or None
        Joined on their row in the raw file, never by position.
    """
    n = voltage.meta.n_channels
    xyz, atlas_id = np.full((3, n), np.nan), np.full(n, VOID_ID)
    if channels is not None:
        known = (channels.raw_ind >= 0) & (channels.raw_ind < n)
        rows = channels.raw_ind[known]
        places = channels.locations
        xyz[:, rows] = np.stack([places.x, places.y, places.z])[:, known]
        atlas_id[rows] = places.atlas_id[known]
    return locate(xyz[0], xyz[1], xyz[2], atlas_id)


def _load(insertion: Insertion, files: RawFiles) -> Voltage:
    small = [record for record in (files.meta, files.ch, files.timestamps or files.sync) if record is not None]
    fetch(small)
    meta, source = read_meta(files.meta.path), open_file(files.voltage)
    if files.ch is not None:
        recording: Recording = Cbin.over(source, LocalFile(files.ch.path))
    else:
        recording = FlatBinary(source, meta.n_saved_channels, meta.sampling_rate_hz)
    check_channels(meta, recording.n_channels, files.voltage.name)
    notes = [*meta.notes, *_length_note(meta, recording)]
    return Voltage(
        insertion=insertion,
        band=files.band,
        recording=recording,
        meta=meta,
        geometry=geometry_from_meta(meta),
        clock_if_any=_clock(files, meta, recording),
        sources=(_voltage_source(files.voltage, recording), *(check_file(record) for record in small)),
        notes=tuple(notes),
    )


def _clock(files: RawFiles, meta: RecordingMeta, recording: Recording) -> Clock | None:
    """Knots count AP samples; those of LF come from them, or from probe seconds where there are only these."""
    n = recording.n_samples
    if files.timestamps is not None:
        path = _present(files.timestamps)
        knots = read_npy(path, kinds="fiu", ndim=2)
        if files.band == "lf":
            return Clock.from_timestamps(knots, name=str(path)).for_lf(n)
        return Clock.from_timestamps(knots, n, rate_hz=meta.sampling_rate_hz, name=str(path))
    if files.sync is not None:
        path = _present(files.sync)
        return Clock.from_sync(read_npy(path, kinds="f", ndim=2), meta.sampling_rate_hz, n, name=str(path))
    return None


def _present(record: DatasetRecord) -> Path:
    check_file(record)
    return record.path


def _voltage_source(record: DatasetRecord, recording: Recording) -> SourceFile:
    """What the provenance says of a file too large to hash at every plan: the hashes of catalog and header."""
    sha1 = recording.index.sha1_compressed if isinstance(recording, Cbin) else None
    if record.size is not None and record.size != recording.source.size:
        raise CorruptData(f"{record.path}: expected {record.size} bytes as in the catalog, got {recording.source.size}")
    return SourceFile(record.rel_path, record.revision, recording.source.size, record.md5 or "", record.id, sha1 or "")


def _length_note(meta: RecordingMeta, recording: Recording) -> list[str]:
    if meta.n_samples in (None, recording.n_samples):
        return []
    return [f"the meta announces {meta.n_samples} samples, the file has {recording.n_samples}"]
