"""Writes the tables by which the ONE client finds the sample: sessions, datasets, insertions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loaders.readers import md5
from loaders.sample_records import SampleProbe, identifier

if TYPE_CHECKING:
    import pandas as pd

QC_LEVELS = ("NOT_SET", "PASS", "WARNING", "FAIL", "CRITICAL")
CREATED = "2024-05-06 12:00"


def write_tables(root: Path, probes: Sequence[SampleProbe]) -> None:
    """Write ``sessions.pqt``, ``datasets.pqt`` and ``insertions.pqt`` for all files below `root`."""
    _save(_sessions(probes), root / "sessions.pqt")
    _save(_datasets(root, probes), root / "datasets.pqt")
    _save(_insertions(probes), root / "insertions.pqt")


def _sessions(probes: Sequence[SampleProbe]) -> pd.DataFrame:
    import datetime

    import numpy as np
    import pandas as pd

    rows = {
        p.eid: {
            "lab": p.lab, "subject": p.subject, "date": datetime.date.fromisoformat(p.date),
            "number": np.uint16(p.number), "task_protocol": "_iblrig_tasks_ephysChoiceWorld6.4.2",
            "projects": "ibl_neuropixel_brainwide_01",
        }
        for p in probes
    }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("id").astype({"number": np.uint16}).sort_index()


def _datasets(root: Path, probes: Sequence[SampleProbe]) -> pd.DataFrame:
    """One row a file. A file is the default revision unless its sorting is not."""
    import pandas as pd

    superseded = {(p.eid, f"alf/{p.probe}/{s.folder}") for p in probes for s in p.sortings if not s.default}
    rows = []
    for eid, session in sorted({(p.eid, p.session) for p in probes}):
        for path in sorted(q for q in (root / session).rglob("*") if q.is_file()):
            name = path.relative_to(root / session).as_posix()
            default = (eid, name.rpartition("/")[0]) not in superseded
            rows.append((eid, identifier("dataset", eid, name), name, path.stat().st_size, md5(path), True, default))
    columns = ["eid", "id", "rel_path", "file_size", "hash", "exists", "default_revision"]
    table = pd.DataFrame(rows, columns=columns).astype({"file_size": "UInt64"})
    table["qc"] = pd.Categorical(["NOT_SET"] * len(table), categories=list(QC_LEVELS), ordered=True)
    return table.set_index(["eid", "id"]).sort_index()


def _insertions(probes: Sequence[SampleProbe]) -> pd.DataFrame:
    import pandas as pd

    rows = [(p.eid, p.pid, p.probe, p.model, str(p.serial), p.comment) for p in probes]
    table = pd.DataFrame(rows, columns=["eid", "id", "name", "model", "serial", "comment"])
    return table.set_index(["eid", "id"]).sort_index()


def _save(table: pd.DataFrame, path: Path) -> None:
    """Write a table with the metadata that ONE looks for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table)
    origin = json.dumps({"date_created": CREATED, "origin": "alyx"}).encode()
    pq.write_table(arrow.replace_schema_metadata({"one_metadata": origin, **arrow.schema.metadata}), path)
