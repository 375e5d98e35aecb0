"""What the tables of a catalog are: their columns, types, units, and which columns name a row.

Text is text, whole numbers and truth values may be missing (``<NA>``), other numbers are float64 with NaN. What is
not known is missing, never zero or empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loaders.errors import InconsistentData

if TYPE_CHECKING:
    import pandas as pd

TEXT, WHOLE, REAL, TRUTH = "string[pyarrow]", "Int64", "float64", "boolean"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its pandas type, its unit, and what it means."""

    name: str
    dtype: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `key` names a row; `fills` says that a row may be known in parts, from several sources."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    fills: bool = False

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order."""
        return [column.name for column in self.columns]

    @property
    def dtypes(self) -> dict[str, str]:
        """Pandas type of every column."""
        return {column.name: column.dtype for column in self.columns}


def _columns(*lines: str) -> tuple[Column, ...]:
    """Columns from lines ``name | type | unit | meaning``."""
    kinds = {"text": TEXT, "whole": WHOLE, "real": REAL, "truth": TRUTH}
    parts = ([part.strip() for part in line.split("|")] for line in lines)
    return tuple(Column(name, kinds[kind], unit, meaning) for name, kind, unit, meaning in parts)


_RECORDING = _columns(
    "lab | text | | name of the lab",
    "subject | text | | name of the animal",
    "date | text | | YYYY-MM-DD",
    "number | whole | 1 | number of the session on that day",
)
_PLACE = _columns(
    "atlas_id | whole | | Allen structure id as recorded; 0 (void) where there is none",
    "acronym_allen | text | | region, Allen",
    "acronym_beryl | text | | region, Beryl",
    "acronym_cosmos | text | | region, Cosmos",
    "acronym_swanson | text | | region, Swanson",
    "hemisphere | text | | left or right, by x",
    "x | real | m | from bregma, right is positive",
    "y | real | m | from bregma, anterior is positive",
    "z | real | m | from bregma, dorsal is positive",
    "ccf_ap | real | um | Allen CCF, from the anterior end",
    "ccf_dv | real | um | Allen CCF, from the dorsal end",
    "ccf_ml | real | um | Allen CCF, from the left end",
)
METRIC_UNITS = {
    "amp_max": "V", "amp_min": "V", "amp_median": "V", "amp_std_dB": "dB", "drift": "um", "firing_rate": "Hz",
    "spike_count": "1", "contamination": "1", "contamination_alt": "1", "missed_spikes_est": "1", "noise_cutoff": "1",
    "presence_ratio": "1", "presence_ratio_std": "1", "slidingRP_viol": "1",
    # Of Allen, under other names.
    "amplitude": "uV", "spread": "um", "waveform_duration": "ms", "waveform_halfwidth": "ms", "amplitude_cutoff": "1",
    "isi_violations": "1", "isolation_distance": "1", "l_ratio": "1", "d_prime": "1", "nn_hit_rate": "1",
    "nn_miss_rate": "1", "silhouette_score": "1", "PT_ratio": "1", "snr": "1",
}  # fmt: skip
"""Quality metrics of units, under the names that their data set has for them."""

SESSIONS = Table(
    "sessions",
    ("eid",),
    (
        *_columns("eid | text | | identifier of the session"),
        *_RECORDING,
        *_columns(
            "task_protocol | text | | what was run",
            "projects | text | | names, with commas",
            "files_listed | truth | | whether the table of datasets has all files of the session",
        ),
    ),
    fills=True,
)
INSERTIONS = Table(
    "insertions",
    ("pid",),
    (
        *_columns(
            "pid | text | | identifier of the insertion",
            "eid | text | | identifier of the session",
            "probe | text | | name of the probe in the session",
            "dataset | text | | the data set that it is of",
        ),
        *_RECORDING,
        *_columns(
            "model | text | | probe model, such as 3B2 or NP2.4",
            "serial | text | | serial number of the probe",
            "comment | text | | what a user must know",
            "qc | text | | quality of the insertion, by the experimenters",
            "histology | text | | none, traced, aligned or resolved: how far the place of the probe is known",
            "xyz_picks | text | um | points traced along the track, [ml, ap, dv] from bregma, as JSON",
            "alignment_count | whole | 1 | how many people aligned the track to the recording",
            "alignment_resolved | truth | | whether the alignment is settled",
            "n_units | whole | 1 | units of the spike sorting",
            "n_good_units | whole | 1 | units that pass all quality criteria",
            "counted_in | text | | where these two come from: the table of units, or the database",
            "files_listed | truth | | whether the table of datasets has all files of the probe",
        ),
    ),
    fills=True,
)
UNITS = Table(
    "units",
    ("pid", "unit"),
    (
        *_columns(
            "pid | text | | identifier of the insertion",
            "unit | whole | | cluster id",
            "uuid | text | | universal id of the unit",
            "sorter | text | | spike sorter",
            "revision | text | | revision of the sorting",
            "channel | whole | | row of the site with the largest waveform",
            "depth_um | real | um | from the tip of the probe",
            "label | real | 1 | fraction of the quality criteria that pass",
            "good | truth | | passes all quality criteria of its data set",
            "quality | text | | good or noise, by the shape of the waveform; of Allen",
        ),
        *_PLACE,
        *_columns(*(f"{name} | real | {unit} | {name.replace('_', ' ')}" for name, unit in METRIC_UNITS.items())),
    ),
)
CHANNELS = Table(
    "channels",
    ("pid", "channel"),
    (
        *_columns(
            "pid | text | | identifier of the insertion",
            "channel | whole | | row of the site",
            "lateral_um | real | um | across the probe",
            "axial_um | real | um | along the probe, from the tip",
        ),
        *_PLACE,
    ),
)
DATASETS = Table(
    "datasets",
    ("eid", "rel_path"),
    _columns(
        "eid | text | | identifier of the session",
        "rel_path | text | | path in the session folder",
        "collection | text | | folder, without its revision",
        "revision | text | | empty if the file has none",
        "name | text | | name of the file",
        "size | whole | byte | size",
        "md5 | text | | hash",
        "blake2b | text | | another hash, where there is that one",
        "default | truth | | whether the catalog calls this revision the default",
        "version | text | | software that made it",
        "id | text | | identifier of the dataset",
        "url | text | | where its bytes can be fetched",
    ),
    fills=True,
)
TABLES = {table.name: table for table in (SESSIONS, INSERTIONS, UNITS, CHANNELS, DATASETS)}


def conform(rows: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Give rows the columns and types of a table, in the order of its key.

    Columns that the rows lack become missing; columns that the table lacks are left out.

    Raises
    ------
    InconsistentData
        If a value does not have the type of its column, or a key is missing or stands twice.
    """
    import pandas as pd

    columns = {}
    for column in table.columns:
        values = rows[column.name] if column.name in rows else pd.Series(pd.NA, index=rows.index, dtype="object")
        try:
            columns[column.name] = _cast(values, column.dtype)
        except (TypeError, ValueError) as error:
            raise InconsistentData(
                f"table {table.name}, column {column.name}: expected {column.meaning} ({column.dtype}), got {error}"
            ) from error
    typed = pd.DataFrame(columns, index=rows.index)
    key = list(table.key)
    if typed[key].isna().any(axis=None):
        raise InconsistentData(f"table {table.name}: expected {', '.join(key)} in every row, got rows without")
    if (twice := typed.duplicated(key)).any():
        raise InconsistentData(f"table {table.name}: {typed.loc[twice, key].iloc[0].to_dict()} stands twice")
    return typed.sort_values(key, ignore_index=True)


def _cast(values: Any, dtype: str) -> pd.Series:
    """The values as a type; numbers go through the nullable type, which knows both NaN and NA."""
    if values.dtype == dtype:
        cast: pd.Series = values
        return cast
    between = {TEXT: "string", REAL: "Float64"}.get(dtype, dtype)
    cast = values.astype(between).astype(dtype)
    return cast
