"""Which data of an insertion and its session are there: a pure function of the file records.

A derived file is *complete* if it is there, an *error* if only the raw data it is made from are, and *missing* if
those are not there either.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loaders.errors import CubesError, NotFound
from loaders.raw_files import BANDS, raw_parts
from loaders.records import DatasetRecord
from loaders.resolve import resolve_sorting

UNKNOWN, MISSING, ERROR, COMPLETE = -1, 0, 1, 2
STATES = {"unknown": UNKNOWN, "missing": MISSING, "error": ERROR, "complete": COMPLETE}
CAMERAS = ("left", "right", "body")
VIDEO_QC = ("dropped_frames", "timestamps", "pin_state")

_PASSIVE = {
    "intervals": "_ibl_passivePeriods.intervalsTable",
    "stims": "_ibl_passiveStims.table",
    "gabor": "_ibl_passiveGabor.table",
}
_POSES = ("lightningPose", "dlc")

Records = list[DatasetRecord]


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known about one item.

    Attributes
    ----------
    state : int
        One of `STATES`; unknown only if not all files were listed.
    reason : str
        Why it is not complete; else empty.
    detail : str
        Which one it is, such as the sorter, revision and version of a sorting.
    files : tuple of str
        Relative paths of its files.
    """

    state: int
    reason: str = ""
    detail: str = ""
    files: tuple[str, ...] = ()

    def is_local(self, local: Collection[str] | None) -> bool | None:
        """Whether all its files are among those on this machine; None if that is not known or there are none."""
        return None if local is None or not self.files else all(path in local for path in self.files)

    def unless_unlisted(self, listed: bool) -> Presence:
        """The same, but unknown if it is not complete and files may exist that were not listed."""
        if listed or self.state == COMPLETE:
            return self
        return Presence(UNKNOWN, "not among the files that are known, and not all are", self.detail)


def presence_of(
    records: Iterable[DatasetRecord],
    probe: str,
    *,
    histology: str | None = None,
    video_qc: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    dataset: str = "ibl",
) -> dict[str, Presence]:
    """All items of one insertion and its session.

    Parameters
    ----------
    records : iterable of DatasetRecord
        All files of the session.
    probe : str
        Name of the probe, such as ``probe00``.
    histology : {"none", "traced", "aligned", "resolved"}, optional
        How far the place of the probe is known, if the database was asked.
    video_qc : mapping, optional
        ``extended_qc`` of the session, if the database was asked; without it there are no items of video quality.
    versions : mapping of str to str, optional
        Software that made a file, by its relative path.
    dataset : str
        The data set that it is of, `Insertion.dataset`: Allen's have ``sorting`` and ``lfp`` alone.

    Returns
    -------
    dict of str to Presence
        Names are ``passive.intervals`` (``passive_01.intervals`` of the task of that number), ``ap``, ``ap.cbin``,
        ``clock.sync``, ``sorting``, ``bombcell``, ``leftCamera.video``, ``leftCamera.pose``, ``histology.alignment``
        and so on.
    """
    records = list(records)
    if dataset.startswith("allen"):
        return _allen(records, probe)
    raw = _raw(records, probe)
    sorting = _sorting(records, probe, raw, versions or {})
    items = {**_passive(records), **raw, "sorting": sorting, "bombcell": _bombcell(records, probe, sorting)}
    for camera in CAMERAS:
        items |= _camera(records, camera, video_qc)
    return items | _histology(records, probe, histology)


def of_probe(item: str) -> bool:
    """Whether an item belongs to the probe; the others belong to the session."""
    return not item.startswith(("passive", *(f"{camera}Camera" for camera in CAMERAS)))


def derived(files: Records, raw: bool, what: str, source: str, detail: str = "") -> Presence:
    """The rule of three: complete, error or missing."""
    if files:
        return Presence(COMPLETE, "", detail, tuple(record.rel_path for record in files))
    if raw:
        return Presence(ERROR, f"{source} is there, but no {what}")
    return Presence(MISSING, f"no {source}")


def _allen(records: Records, probe: str) -> dict[str, Presence]:
    """The file of the session, which has the sortings of all probes, and the LFP file of the probe."""
    session = [record for record in records if not record.collection]
    lfp = [record for record in records if record.collection == probe]
    return {
        "sorting": derived(session, False, "", "NWB file of the session"),
        "lfp": derived(lfp, False, "", f"LFP of {probe} in the release"),
    }


def _passive(records: Records) -> dict[str, Presence]:
    """Tables of the passive protocol, of every task slot; a session without numbered slots has one, unnumbered."""
    numbers = {m[1] for r in records if (m := re.fullmatch(r"(?:raw_task_data|alf/task)_(\d\d)", r.collection))}
    slots = {f"passive_{number}": (f"alf/task_{number}", f"raw_task_data_{number}") for number in sorted(numbers)}
    unnumbered = any(r.collection == "raw_passive_data" or _is_passive_table(r, "alf") for r in records)
    if unnumbered or not slots:
        slots["passive"] = ("alf", "raw_passive_data")
    items = {}
    for slot, (alf, source) in slots.items():
        # Every task has settings in its folder; only the passive one has the stimulus of the receptive field mapping.
        raw = any(
            r.collection == source and (slot == "passive" or r.name.startswith("_iblrig_RFMapStim.raw"))
            for r in records
        ) or any(_is_passive_table(r, alf) for r in records)
        for name, stem in _PASSIVE.items():
            files = [r for r in records if r.collection == alf and r.name.startswith(f"{stem}.")]
            items[f"{slot}.{name}"] = derived(files, raw, f"{stem} in {alf}", f"passive data in {source}")
    return items


def _is_passive_table(record: DatasetRecord, collection: str) -> bool:
    return record.collection == collection and record.name.startswith(tuple(_PASSIVE.values()))


def _raw(records: Records, probe: str) -> dict[str, Presence]:
    """The raw files of both bands, each by itself and together, and the clock that they share."""
    parts = raw_parts(records, probe)
    items: dict[str, Presence] = {}
    for band in BANDS:
        compressed, plain = parts.get(f"{band}.cbin", []), parts.get(f"{band}.bin", [])
        voltage = compressed or plain
        source = f"{band} voltage in raw_ephys_data/{probe}"
        files = {"cbin": derived(voltage, False, "", source, "" if compressed or not plain else "uncompressed")}
        files["ch"] = derived(parts.get(f"{band}.ch", []), bool(voltage), "index of its chunks (.ch)", source)
        if plain and not compressed:
            files["ch"] = Presence(COMPLETE, "", "not needed: uncompressed")
        files["meta"] = derived(parts.get(f"{band}.meta", []), bool(voltage), ".meta", source)
        items[band] = _together(files)
        items |= {f"{band}.{kind}": presence for kind, presence in files.items()}
    anything = any(items[f"{band}.cbin"].state == COMPLETE for band in BANDS)
    source = f"voltage in raw_ephys_data/{probe}"
    for clock in ("timestamps", "sync"):
        items[f"clock.{clock}"] = derived(parts.get(clock, []), anything, f"{clock}.npy", source)
    return items


def _together(files: Mapping[str, Presence]) -> Presence:
    """A set of files: complete if all are, missing if the first, the voltage, is."""
    voltage = files["cbin"]
    lacking = [presence.reason for presence in files.values() if presence.state != COMPLETE]
    if voltage.state != COMPLETE:
        left = [kind for kind, presence in files.items() if presence.files]
        return Presence(MISSING, voltage.reason + (f"; of its files only .{', .'.join(left)}" if left else ""))
    paths = tuple(path for presence in files.values() for path in presence.files)
    return Presence(ERROR if lacking else COMPLETE, "; ".join(lacking), voltage.detail, paths)


def _sorting(records: Records, probe: str, raw: Mapping[str, Presence], versions: Mapping[str, str]) -> Presence:
    try:
        found = resolve_sorting(records, probe)
    except NotFound as error:
        has_raw = raw["ap"].state != MISSING
        return Presence(ERROR if has_raw else MISSING, f"{'ap is there, but ' if has_raw else ''}{error}")
    except CubesError as error:
        return Presence(ERROR, str(error))
    times = found.files["spikes.times"].rel_path
    detail = "/".join((found.sorter, found.revision, versions.get(times, "")))
    return Presence(COMPLETE, "", detail, tuple(record.rel_path for record in found.files.values()))


def _bombcell(records: Records, probe: str, sorting: Presence) -> Presence:
    files = [
        record
        for record in records
        if {probe, "bombcell"} <= set(record.collection.split("/")) and "_bc_qMetrics." in record.name
    ]
    return derived(files, sorting.state == COMPLETE, "table of bombcell (_bc_qMetrics)", "spike sorting")


def _camera(records: Records, camera: str, video_qc: Mapping[str, Any] | None) -> dict[str, Presence]:
    """Video, pose and, if the database was asked, the quality of one camera."""
    name = f"{camera}Camera"
    raw = [r for r in records if r.collection == "raw_video_data" and r.name.startswith(f"_iblrig_{name}.raw.")]
    video = derived([r for r in raw if r.name.endswith(".mp4")], False, "", "video in raw_video_data")
    poses = {
        tracker: [r for r in records if r.collection == "alf" and r.name.startswith(f"_ibl_{name}.{tracker}.")]
        for tracker in _POSES
    }
    tracker = next((tracker for tracker, files in poses.items() if files), "")
    has_video = video.state == COMPLETE
    pose = derived(poses.get(tracker, []), has_video, "pose (lightningPose or dlc) in alf", "video", tracker)
    items = {f"{name}.video": video, f"{name}.pose": pose}
    if video_qc is not None:
        outcomes = {key: _outcome(video_qc.get(f"_video{camera.capitalize()}_{key}")) for key in VIDEO_QC}
        items[f"{name}.qc"] = _quality(outcomes, has_video)
    return items


def _outcome(value: Any) -> str:
    """An outcome as the database has it: text, true or false, or a list that begins with it."""
    first = value[0] if isinstance(value, list) and value else value
    words = {True: "PASS", False: "FAIL", None: ""}
    return words[first] if first is None or isinstance(first, bool) else str(first).replace(" ", "_")


def _quality(outcomes: Mapping[str, str], has_video: bool) -> Presence:
    lacking = [key for key, outcome in outcomes.items() if not outcome]
    detail = ", ".join(f"{key} {outcome}" for key, outcome in outcomes.items() if outcome)
    if not lacking:
        return Presence(COMPLETE, "", detail)
    if has_video:
        return Presence(ERROR, f"video is there, but no outcome of {', '.join(lacking)}", detail)
    return Presence(MISSING, "no video", detail)


def _histology(records: Records, probe: str, histology: str | None) -> dict[str, Presence]:
    """Tracing and alignment, as the database tells or, without it, as the files of the final alignment do."""
    sites = [r for r in records if r.collection == f"alf/{probe}" and r.name.startswith("electrodeSites.")]
    files = tuple(record.rel_path for record in sites)
    if histology is None:
        if sites:
            known = Presence(COMPLETE, "", "electrodeSites", files)
        else:
            known = Presence(MISSING, "no electrodeSites; the database was not asked")
        return {"histology.tracing": known, "histology.alignment": known}
    if histology == "none":
        return {
            "histology.tracing": Presence(MISSING, "the track was not traced", histology),
            "histology.alignment": Presence(MISSING, "the track was not traced", histology),
        }
    resolved = Presence(COMPLETE, "", histology, files)
    unresolved = Presence(ERROR, f"the track is {histology}, but its alignment is not resolved", histology)
    return {
        "histology.tracing": Presence(COMPLETE, "", histology),
        "histology.alignment": resolved if histology == "resolved" else unresolved,
    }
