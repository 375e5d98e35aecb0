"""Writes a small, format-true release of the Allen Visual Behavior recordings, as the public bucket holds it.

Two versions, 0.4.0 and 0.5.0, share one tree: the newest objects lie under their keys, replaced ones under
``replaced/<version id>/<key>``. What `write_release` gives tells where the bytes of every (key, version id) are, for a
server with versions, and all that is true, `allen_truth.sessions`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from allen_nwb_files import write_lfp, write_session
from allen_truth import HARDWARE_LFP_HZ, METRICS, Probe, Session, Unit, coding_session, sessions

BUCKET = "visual-behavior-neuropixels-data"
PROJECT = "visual-behavior-neuropixels"
CODING_BUCKET, CODING_PREFIX = "allen-brain-observatory", "visual-coding-neuropixels/ecephys-cache"
OLD, NEW = "0.4.0", "0.5.0"
NO_FILE = -999
TABLES = ("ecephys_sessions", "behavior_sessions", "probes", "channels", "units")


@dataclass(frozen=True, eq=False, repr=False)
class Release:
    """What was written.

    `folder` is what a file server serves: its only child is the bucket. `objects` maps (key, version id) to the file
    with these bytes; `manifests` maps a version to its manifest, as parsed JSON.
    """

    folder: Path
    sessions: list[Session]
    objects: dict[tuple[str, str], Path]
    manifests: dict[str, dict[str, Any]]

    @property
    def bucket(self) -> Path:
        """The bucket as it is mounted: the newest objects."""
        return self.folder / BUCKET

    @property
    def unit_truth(self) -> dict[int, Unit]:
        """All units by id."""
        return {unit.unit_id: unit for session in self.sessions for unit in session.units}

    def table(self, name: str) -> pd.DataFrame:
        """A table of version 0.5.0, as pandas reads it without being told anything."""
        return pd.read_csv(self.bucket / PROJECT / "project_metadata" / f"{name}.csv")

    def session_key(self, session: Session) -> str:
        """The key of a session file in the bucket."""
        return f"{PROJECT}/{_session_path(session)}"

    def lfp_key(self, session: Session, probe: Probe) -> str:
        """The key of an LFP file in the bucket."""
        return f"{PROJECT}/{_lfp_path(session, probe)}"

    def server_versions(self) -> dict[str, dict[str, Path]]:
        """For `FileServer.versions`: by path below `folder`, the file of each version id."""
        found: dict[str, dict[str, Path]] = {}
        for (key, version_id), path in self.objects.items():
            found.setdefault(f"{BUCKET}/{key}", {})[version_id] = path
        return found

    def sdk_cache(self, folder: Path, version: str = NEW, only: Iterable[str] | None = None) -> Path:
        """Lay the files of a version out as a cache folder of the SDK; `only` are parts of the keys wanted."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{PROJECT}_project_manifest_v{version}.json"
        shutil.copyfile(self.bucket / PROJECT / "manifests" / name, folder / name)
        (folder / "_manifest_last_used.txt").write_text(name)
        downloaded = {}
        manifest = self.manifests[version]
        for entry in (*manifest["metadata_files"].values(), *manifest["data_files"].values()):
            key = _key(entry["url"])
            if only is None or any(part in key for part in only):
                path = folder / f"{PROJECT}-{version}" / key.removeprefix(f"{PROJECT}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.objects[key, entry["version_id"]], path)
                downloaded[str(path)] = entry["file_hash"]
        (folder / "_downloaded_data.json").write_text(json.dumps(downloaded))
        return folder


def write_release(folder: Path) -> Release:
    """Write the bucket below `folder` (seconds, a few MB).

    Between the versions: the session files of all but the first are unchanged; the LFP of the first probe had the wrong
    scale; the LFP of the last probe is new; ``units.csv`` had no `quality`; all tables with a `file_id` differ, as the
    files are numbered anew. The first probe of the last session has no LFP, and for that of its second the manifest has
    a wrong hash.
    """
    writer = _Writer(folder)
    truth = sessions()
    manifests = {version: writer.release(version, truth) for version in (OLD, NEW)}
    return Release(folder, truth, writer.objects, manifests)


def write_coding_release(folder: Path) -> Session:
    """Write the bucket of Visual Coding below `folder`, with one session: four tables, no manifest, no hashes."""
    session = coding_session()
    root = folder / CODING_BUCKET / CODING_PREFIX
    name = f"session_{session.session_id}"
    write_session(root / name / f"{name}.nwb", session)
    for probe in session.probes:
        if probe.lfp is not None:
            write_lfp(root / name / f"probe_{probe.probe_id}_lfp.nwb", session, probe, probe.lfp)
    for table, rows in _coding_tables(session).items():
        rows.to_csv(root / f"{table}.csv", index=False)
    return session


class _Writer:
    """Puts objects into the bucket; one whose bytes are there already is not put again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects: dict[tuple[str, str], Path] = {}
        self._current: dict[str, tuple[str, str]] = {}  # key -> version id, hash
        self._scratch = folder / "scratch"

    def release(self, version: str, truth: list[Session]) -> dict[str, Any]:
        ids, data = self._data_files(version, truth)
        metadata = {}
        for name, rows in _tables(version, truth, ids).items():
            path = self._scratch / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows.to_csv(path, index=False)
            metadata[name] = self._put(f"project_metadata/{name}.csv", path)
        manifest = {
            "project_name": PROJECT,
            "manifest_version": version,
            "metadata_file_id_column_name": "file_id",
            "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
            "metadata_files": metadata,
            "data_files": data,
        }
        name = f"{PROJECT}_project_manifest_v{version}.json"
        path = self._scratch / name
        path.write_text(json.dumps(manifest, indent=4))
        self._put(f"manifests/{name}", path)
        shutil.rmtree(self._scratch)
        return manifest

    def _data_files(self, version: str, truth: list[Session]) -> tuple[dict[str, int], dict[str, Any]]:
        """File ids by path, numbered from 0 as the writer of releases does: LFP, sessions, behaviour."""
        ids: dict[str, int] = {}
        files: dict[str, Any] = {}

        def add(rel_path: str) -> None:
            ids[rel_path] = len(ids)
            files[str(ids[rel_path])] = self._put(rel_path, path)

        path = self._scratch / "file.nwb"
        for session in truth:
            for probe in session.probes:
                if probe.lfp is not None and not (version == OLD and _is_last(session, probe)):
                    first = session is truth[0] and probe is session.probes[0]
                    write_lfp(path, session, probe, _misscaled(probe) if version == OLD and first else probe.lfp)
                    add(_lfp_path(session, probe))
                    if _is_last(session, probe):
                        files[str(len(ids) - 1)]["file_hash"] = _hash(b"another file")
        for session in truth:
            older = version == OLD and session is truth[0]
            write_session(path, replace(session, experience_level="Novel", strings="fixed") if older else session)
            add(_session_path(session))
        for session in truth:
            path.write_bytes(f"a training session of mouse {session.mouse_id}".encode())
            add(_behavior_path(_training_id(session)))
        return ids, files

    def _put(self, rel_path: str, path: Path) -> dict[str, str]:
        key, body = f"{PROJECT}/{rel_path}", path.read_bytes()
        file_hash = _hash(body)
        version_id, current_hash = self._current.get(key, ("", ""))
        if current_hash != file_hash:
            place = self.folder / BUCKET / key
            if version_id:
                aside = self.folder / "replaced" / version_id / key
                aside.parent.mkdir(parents=True)
                place.replace(aside)
                self.objects[key, version_id] = aside
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
            version_id = hashlib.md5(f"{key} {file_hash}".encode()).hexdigest()  # as opaque as those of S3
            self._current[key] = version_id, file_hash
            self.objects[key, version_id] = place
        url = f"https://{BUCKET}.s3.us-west-2.amazonaws.com/{key}"
        return {"url": url, "version_id": version_id, "file_hash": file_hash}


def _hash(body: bytes) -> str:
    return hashlib.blake2b(body).hexdigest()


def _key(url: str) -> str:
    return url.split(".amazonaws.com/", 1)[1]


def _is_last(session: Session, probe: Probe) -> bool:
    return bool(session.abnormal_histology) and probe is session.probes[-1]


def _misscaled(probe: Probe) -> Any:
    assert probe.lfp is not None
    return replace(probe.lfp, gain_v=2 * probe.lfp.gain_v, values=2 * probe.lfp.values)


def _session_path(session: Session) -> str:
    return f"behavior_ecephys_sessions/{session.session_id}/ecephys_session_{session.session_id}.nwb"


def _lfp_path(session: Session, probe: Probe) -> str:
    return f"behavior_ecephys_sessions/{session.session_id}/probe_{probe.name}_lfp.nwb"


def _behavior_path(session_id: int) -> str:
    return f"behavior_only_sessions/{session_id}/behavior_session_{session_id}.nwb"


def _training_id(session: Session) -> int:
    return session.behavior_session_id - 1_000_000


def _tables(version: str, truth: list[Session], ids: Mapping[str, int]) -> dict[str, pd.DataFrame]:
    units = _unit_rows(truth)
    if version == OLD:
        units = units.drop(columns="quality")
    return {
        "ecephys_sessions": pd.DataFrame([_session_row(session, ids) for session in truth]),
        "behavior_sessions": pd.DataFrame([row for session in truth for row in _behavior_rows(session, ids)]),
        "probes": pd.DataFrame([_probe_row(s, probe, ids) for s in truth for probe in s.probes]),
        "channels": pd.concat([_channel_rows(s, probe) for s in truth for probe in s.probes], ignore_index=True),
        "units": units,
    }


def _session_row(session: Session, ids: Mapping[str, int]) -> dict[str, Any]:
    named = {name for probe in session.probes for name in probe.acronyms} - {"", "None"}
    local = session.start.replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds")
    return {
        "ecephys_session_id": session.session_id,
        "behavior_session_id": session.behavior_session_id,
        "date_of_acquisition": f"{local}+00:00",  # the local time in Seattle, under a wrong name
        "equipment_name": "NP.1",
        "session_type": f"EPHYS_1_images_{session.image_set}_5uL_reward",
        "mouse_id": session.mouse_id,
        "genotype": session.genotype,
        "sex": session.sex,
        "project_code": "NeuropixelVisualBehavior",
        "age_in_days": 150 + session.session_number,
        "unit_count": float(len(session.units)),
        "probe_count": float(len(session.probes)),
        "channel_count": float(sum(len(probe.channel_ids) for probe in session.probes)),
        "structure_acronyms": repr(sorted(named)),  # not stripped: DG-mo
        "image_set": session.image_set,
        "prior_exposures_to_image_set": None if session.experience_level == "Novel" else 14,
        "session_number": session.session_number,
        "experience_level": session.experience_level,
        "prior_exposures_to_omissions": session.session_number - 1,
        "file_id": ids[_session_path(session)],
        "abnormal_histology": session.abnormal_histology,
        "abnormal_activity": session.abnormal_activity,
    }


def _behavior_rows(session: Session, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """A day of training, whose file is its own, and the day of the recording, whose data are in the ecephys file."""
    training = _training_id(session)
    common = {"genotype": session.genotype, "mouse_id": session.mouse_id, "sex": session.sex}
    rows = []
    for number, (behavior_id, ecephys_id, file_id) in enumerate(
        (
            (training, None, ids[_behavior_path(training)]),
            (session.behavior_session_id, session.session_id, NO_FILE),
        )
    ):
        recorded = ecephys_id is not None
        rows.append(
            {
                "behavior_session_id": behavior_id,
                "equipment_name": "NP.1" if recorded else "BEH.G-Box1",
                **common,
                "age_in_days": 150 + session.session_number - (0 if recorded else 40),
                "session_number": 20 + number,
                "prior_exposures_to_session_type": number,
                "prior_exposures_to_image_set": None if session.experience_level == "Novel" else 13 + number,
                "prior_exposures_to_omissions": 0,
                "ecephys_session_id": ecephys_id,
                "date_of_acquisition": session.start.isoformat(sep=" "),
                "session_type": f"EPHYS_1_images_{session.image_set}_5uL_reward" if recorded else "TRAINING_2_gratings",
                "image_set": session.image_set if recorded else None,
                "file_id": file_id,
            }
        )
    return rows


def _probe_row(session: Session, probe: Probe, ids: Mapping[str, int]) -> dict[str, Any]:
    return {
        "ecephys_probe_id": probe.probe_id,
        "ecephys_session_id": session.session_id,
        "name": probe.name,
        "sampling_rate": probe.sampling_rate,
        "lfp_sampling_rate": HARDWARE_LFP_HZ,  # the LFP of the files has half of it
        "phase": 1.0,
        "has_lfp_data": probe.lfp is not None,
        "unit_count": sum(unit.probe is probe for unit in session.units),
        "channel_count": len(probe.channel_ids),
        "structure_acronyms": repr(sorted({_stripped(name) for name in probe.acronyms} - {None})),
        "file_id": ids.get(_lfp_path(session, probe), NO_FILE),
    }


def _stripped(acronym: str) -> str | None:
    """As in all tables but that of sessions: without substructure; null where there is none."""
    return acronym.split("-")[0] if acronym not in ("", "None") else None


def _ccf(probe: Probe) -> dict[str, Any]:
    names = ("anterior_posterior", "dorsal_ventral", "left_right")
    return {f"{name}_ccf_coordinate": probe.ccf[:, k] for k, name in enumerate(names)}


def _channel_rows(session: Session, probe: Probe) -> pd.DataFrame:
    rows = np.arange(len(probe.channel_ids))
    at = [unit.row for unit in session.units if unit.probe is probe]
    return pd.DataFrame(
        {
            "ecephys_channel_id": probe.channel_ids,
            "ecephys_probe_id": probe.probe_id,
            "ecephys_session_id": session.session_id,
            "probe_channel_number": rows,
            "probe_vertical_position": probe.vertical_um,
            "probe_horizontal_position": probe.horizontal_um,
            **_ccf(probe),
            "structure_acronym": [_stripped(acronym) for acronym in probe.acronyms],
            "unit_count": np.bincount(at, minlength=len(rows)),
            "valid_data": probe.valid,
        }
    )


_STRUCTURE_IDS = {"TH": 549, "LP": 218, "DG": 726, "CA1": 382, "root": 997, "VISp": 385, "MB": 313, "APN": 215}
_STRUCTURE_IDS |= {"LGd": 170, "CA3": 463, "SCig": 10, "VISl": 409, "grey": 8}


def _unit_rows(truth: list[Session]) -> pd.DataFrame:
    rows = []
    for session in truth:
        for unit in sorted(session.units, key=lambda unit: unit.unit_id):
            probe, row = unit.probe, unit.row
            acronym = _stripped(probe.acronyms[row])
            rows.append(
                {
                    "unit_id": unit.unit_id,
                    "ecephys_channel_id": probe.channel_ids[row],
                    "ecephys_probe_id": probe.probe_id,
                    "ecephys_session_id": session.session_id,
                    **{name: value[row] for name, value in _ccf(probe).items()},
                    "structure_acronym": acronym,
                    "structure_id": _STRUCTURE_IDS.get(acronym or ""),
                    "local_index": unit.local_index,
                    "probe_vertical_position": probe.vertical_um[row],
                    "probe_horizontal_position": probe.horizontal_um[row],
                    **{name: unit.metrics[name] for name in METRICS},
                    "waveform_halfwidth": 0.1 + unit.local_index / 100,  # stands in the table alone
                    "quality": unit.quality,
                    "valid_data": True,
                }
            )
    return pd.DataFrame(rows)


def _coding_tables(session: Session) -> dict[str, pd.DataFrame]:
    start = session.start.astimezone().isoformat()
    sessions_row = {
        "id": session.session_id,
        "date_of_acquisition": start,
        "isi_experiment_id": 705968051,
        "published_at": "2019-10-03T00:00:00Z",
        "specimen_id": session.mouse_id,
        "session_type": "brain_observatory_1.1",
        "age_in_days": 118.0,
        "sex": session.sex,
        "genotype": session.genotype,
        "has_nwb": True,
    }
    probes = [
        {
            "id": probe.probe_id,
            "air_channel_index": 370,
            "ecephys_session_id": session.session_id,
            "lfp_sampling_rate": HARDWARE_LFP_HZ,
            "lfp_temporal_subsampling_factor": None if probe.lfp is None else 2.0,
            "name": probe.name,
            "phase": "3a",
            "sampling_rate": probe.sampling_rate,
            "surface_channel_index": 360,
            "has_lfp_data": probe.lfp is not None,
        }
        for probe in session.probes
    ]
    channels = pd.concat([_channel_rows(session, probe) for probe in session.probes], ignore_index=True)
    channels["ecephys_structure_id"] = channels["structure_acronym"].map(_STRUCTURE_IDS)
    channels = channels.rename(
        columns={
            "ecephys_channel_id": "id",
            "probe_channel_number": "local_index",
            "structure_acronym": "ecephys_structure_acronym",
        }
    ).drop(columns=["unit_count", "valid_data", "ecephys_session_id"])
    units = _unit_rows([session]).rename(
        columns={
            "unit_id": "id",
            "l_ratio": "L_ratio",
            "amplitude": "waveform_amplitude",
            **{name: f"waveform_{name}" for name in ("PT_ratio", "recovery_slope", "repolarization_slope", "spread")},
            **{f"velocity_{side}": f"waveform_velocity_{side}" for side in ("above", "below")},
        }
    )
    places = [name for name in units if name.startswith(("probe_", "structure_")) or name.endswith("_coordinate")]
    units = units.drop(columns=[*places, "ecephys_probe_id", "ecephys_session_id", "valid_data"])
    return {
        "sessions": pd.DataFrame([sessions_row]),
        "probes": pd.DataFrame(probes),
        "channels": channels,
        "units": units,
    }
