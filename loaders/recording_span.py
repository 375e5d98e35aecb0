"""From when to when a session was recorded, and which events lie outside: a clock may be off by an hour (3600 s).

The span is that of the clocks of the probes: their knots, and the length that the AP ``.meta`` tells, because the knots
of a reference probe are two in the first second. A session without such files is as long as its wheel and cameras.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.clock import Clock
from loaders.errors import CorruptData
from loaders.meta_text import Tags, parse_tags, read_meta_text
from loaders.raw_files import raw_parts
from loaders.records import DatasetRecord, Floats
from loaders.session_files import SessionFiles, current

_WELL_SPREAD_S = 10.0  # knots that are nearer say how fast a clock runs, not how long


@dataclass(frozen=True, slots=True)
class Span:
    """First and last second of a recording on the session clock, and what says so."""

    start_s: float
    stop_s: float
    source: str

    @property
    def facts(self) -> dict[str, Any]:
        """As attributes of a store."""
        return {
            "recording_start_s": self.start_s,
            "recording_stop_s": self.stop_s,
            "recording_span_from": self.source,
        }


def recording_span(files: SessionFiles) -> Span | None:
    """The span of a session; None, with a note, if no file tells."""
    probes = {m[1] for r in files.records if (m := re.fullmatch(r"raw_ephys_data/([^/]+)", r.collection))}
    extents = {probe: extent for probe in sorted(probes) if (extent := _extent(files, probe))}
    if not extents and (times := _behaviour(files)):
        extents = {"wheel and cameras": times}
    if not extents:
        files.notes.append("no clock of a probe, wheel or camera tells when the recording began and ended")
        return None
    starts, stops = zip(*extents.values(), strict=True)
    source = ", ".join(f"clock of {name}" if name in probes else name for name in extents)
    return Span(min(starts), max(stops), source)


def flag_outside(
    files: SessionFiles, span: Span | None, what: str, *times: NDArray[Any], name: str = "outside_recording"
) -> dict[str, NDArray[Any]]:
    """Which events have a time outside the recording, by the name of the flag; a note tells how many.

    Parameters
    ----------
    files : SessionFiles
        Gets the note.
    span : Span or None
        None, where it is not known, gives no flag.
    what : str
        What the events are called, in the plural.
    *times : (event,) float64, seconds
        NaN lies nowhere, and so not outside.
    name : str
    """
    if span is None:
        return {}
    flag = np.any([(t < span.start_s) | (t > span.stop_s) for t in times], axis=0)
    if flag.any():
        files.notes.append(
            f"{int(flag.sum())} of {len(flag)} {what} have a time outside the recording ({span.start_s:.3f} to "
            f"{span.stop_s:.3f} s by the {span.source}); see {name}"
        )
    return {name: flag}


def note_outside(files: SessionFiles, span: Span | None, what: str, times: Floats) -> None:
    """A note if samples lie outside the recording, such as those of a camera that was started first."""
    if span is not None and (n := int(((times < span.start_s) | (times > span.stop_s)).sum())):
        files.notes.append(
            f"{n} of {len(times)} {what} lie outside the recording ({span.start_s:.3f} to {span.stop_s:.3f} s by the "
            f"{span.source})"
        )


def _extent(files: SessionFiles, probe: str) -> tuple[float, float] | None:
    """First and last second of one probe; None if its files do not tell."""
    parts = raw_parts(files.records, probe)
    clocks, metas = (_by_name(parts.get(kind, [])) for kind in ("timestamps", "ap.meta"))
    meta = _meta(files, next(iter(metas.values()))) if len(metas) == len(clocks) == 1 else None
    extents = []
    for record in clocks.values():
        knots = files.array(record, "fiu", ndim=2)
        n_samples = None if meta is None else round(meta.real("fileTimeSecs") * meta.real("imSampRate"))
        clock = Clock.from_timestamps(knots, n_samples, name=record.rel_path)
        if clock.extent[1] - clock.extent[0] > _WELL_SPREAD_S:
            extents.append(clock.extent)
    return (min(e[0] for e in extents), max(e[1] for e in extents)) if extents else None


def _meta(files: SessionFiles, record: DatasetRecord) -> Tags | None:
    """The meta of the AP band; one that cannot be read, as a few of the release, leaves the knots."""
    path = files.path(record)
    try:
        tags = parse_tags(read_meta_text(path), record.rel_path)
        tags.real("fileTimeSecs"), tags.real("imSampRate")
    except CorruptData as error:
        files.notes.append(f"the length of the recording is not in its meta: {error}")
        return None
    return tags


def _by_name(records: list[DatasetRecord]) -> dict[str, DatasetRecord]:
    """One revision of every file."""
    names = sorted({record.name for record in records})
    return {name: current([record for record in records if record.name == name]) for name in names}


def _behaviour(files: SessionFiles) -> tuple[float, float] | None:
    times = [
        files.array(record) for record in files.find_all(r"(?:wheel\.timestamps|(?:left|right|body)Camera\.times)\.npy")
    ]
    finite = [t[np.isfinite(t)] for t in times]
    ends = [(float(t.min()), float(t.max())) for t in finite if len(t)]
    return (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else None
