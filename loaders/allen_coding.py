"""The Allen Visual Coding recordings: four tables and the files of each session, listed; no manifest and no hashes.

Only the size of a file, and the ETag of the bucket, tell one from another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loaders import allen_tables as tables
from loaders.allen_release import list_in, url_in
from loaders.allen_tables import AllenTable
from loaders.errors import NotFound
from loaders.fetcher import fetch
from loaders.readers import check_file
from loaders.records import DatasetRecord
from loaders.table_schema import REAL, TEXT, TRUTH

if TYPE_CHECKING:
    import pandas as pd

BUCKET, PREFIX = "allen-brain-observatory", "visual-coding-neuropixels/ecephys-cache"

_SESSIONS = AllenTable(
    "sessions",
    "ecephys_session_id",
    (),
    {
        **dict.fromkeys(("date_of_acquisition", "published_at", "mouse_id", "session_type", "sex", "genotype"), TEXT),
        "age_in_days": REAL,
        "has_nwb": TRUTH,
    },
    {"id": "ecephys_session_id", "specimen_id": "mouse_id"},
)
_PROBES = replace(
    tables.PROBES,
    ids=("ecephys_session_id",),
    others={**dict.fromkeys(("sampling_rate", "lfp_sampling_rate"), REAL), "name": TEXT, "phase": TEXT}
    | {"has_lfp_data": TRUTH},
    renamed={"id": "ecephys_probe_id"},
)
_CHANNELS = replace(
    tables.CHANNELS,
    ids=("ecephys_probe_id",),
    renamed={
        "id": "ecephys_channel_id",
        "local_index": "probe_channel_number",  # that of units is another
        "ecephys_structure_acronym": "structure_acronym",
        "ecephys_structure_id": "structure_id",
    },
)
_UNITS = replace(
    tables.UNITS,
    ids=("ecephys_channel_id",),
    renamed={"id": "unit_id", "L_ratio": "l_ratio", "waveform_amplitude": "amplitude"}
    | {f"waveform_{name}": name for name in ("PT_ratio", "recovery_slope", "repolarization_slope", "spread")}
    | {f"waveform_velocity_{side}": f"velocity_{side}" for side in ("above", "below")},
)
_TABLES = {"ecephys_sessions": _SESSIONS, "probes": _PROBES, "channels": _CHANNELS, "units": _UNITS}


class CodingRelease:
    """The tables and files of Visual Coding: in the bucket, or in a folder that is laid out as the bucket is.

    Parameters
    ----------
    folder : path, optional
        A folder with ``sessions.csv``, ``probes.csv``, ``channels.csv``, ``units.csv`` and ``session_<id>``, as the
        bucket has them; or the bucket as it is mounted. Nothing is fetched then.
    cache : path
        Where files of the bucket would lie on this machine.
    endpoint : str, optional
        Another S3 server.

    Raises
    ------
    NotFound
        If the folder does not exist, or has not all tables.
    """

    dataset = "allen-vc"
    version = ""
    date_column = ""
    """`date_of_acquisition` is when a session was packaged, months after its recording, and so is the start time in its
    file: an insertion has no date rather than a wrong one."""

    def __init__(self, folder: str | Path | None = None, *, cache: str | Path, endpoint: str | None = None) -> None:
        self._folder = None if folder is None else Path(folder).absolute()
        if self._folder is not None:
            mounted = self._folder / PREFIX
            self._folder = place = mounted if mounted.is_dir() else self._folder
            names = [f"{table.name}.csv" for table in _TABLES.values()]
            if lost := [name for name in names if not (place / name).is_file()]:
                raise NotFound(
                    f"folder {place}: has no {', '.join(lost)}; name the one with the tables of Visual Coding, or the "
                    f"one with {PREFIX} in it"
                )
        self._cache = Path(cache).absolute()
        self._endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or None

    def read(self, name: str) -> pd.DataFrame:
        """A table under the names of Visual Behavior; channels and units know their probe and their session."""
        if name not in _TABLES:
            raise NotFound(f"table {name!r}: Visual Coding has {', '.join(_TABLES)}")
        table = _TABLES[name]
        record = self._record(f"{table.name}.csv")
        fetch([record])
        check_file(record)
        rows = tables.read_table(record.path, table)
        facts = rows.attrs
        if name == "channels":
            rows = tables.joined(rows, self.read("probes")[["ecephys_probe_id", "ecephys_session_id"]], *_OF_PROBE)
        if name == "units":
            sites = self.read("channels")[["ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id"]]
            rows = tables.joined(rows, sites, "ecephys_channel_id", "channel")
        rows.attrs = facts
        return rows

    def files(self, sessions: pd.DataFrame, probes: pd.DataFrame) -> list[DatasetRecord]:
        """The file of a session, and the LFP files of its probes, each in the collection of its probe's name."""
        (key,) = sessions["ecephys_session_id"]
        names = {str(row["ecephys_probe_id"]): str(row["name"]) for _, row in probes.iterrows()}
        found = []
        for record in self._listed(f"session_{key}"):
            lfp = re.fullmatch(r"probe_(\d+)_lfp\.nwb", record.name)
            if record.name == f"session_{key}.nwb":
                found.append(record)
            elif lfp and lfp[1] in names:
                found.append(replace(record, collection=names[lfp[1]]))
        return found

    def news(self) -> list[str]:
        """Nothing: there is one release."""
        return []

    def _listed(self, name: str) -> Iterator[DatasetRecord]:
        if self._folder is not None:
            for path in sorted((self._folder / name).glob("*.nwb")):
                yield self._record(f"{name}/{path.name}", size=path.stat().st_size)
            return
        for item in list_in(BUCKET, f"{PREFIX}/{name}/", self._endpoint):
            key = str(item["path"]).removeprefix(f"{PREFIX}/")
            yield self._record(key, size=int(item["size"]), version=item["e_tag"] or "")

    def _record(self, key: str, size: int | None = None, version: str = "") -> DatasetRecord:
        name = key.rpartition("/")[2]
        if self._folder is not None:
            return DatasetRecord(name, "", "", name, self._folder / key, size=size, default=True)
        place, url = self._cache / PREFIX / key, url_in(BUCKET, f"{PREFIX}/{key}", self._endpoint)
        return DatasetRecord(
            name, "", "", name, place, size=size, default=True, url=url, version=version, cache=self._cache
        )


_OF_PROBE = ("ecephys_probe_id", "probe")
