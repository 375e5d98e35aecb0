"""The five tables of an Allen release -> typed rows: no column is guessed, no row is hidden, no text is evaluated."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loaders.errors import CorruptData, InconsistentData, NotFound
from loaders.table_filters import Names, Sieve
from loaders.table_schema import REAL, TEXT, TRUTH, WHOLE

if TYPE_CHECKING:
    import pandas as pd

TEXTS, WHOLES = "list of text", "list of whole numbers"
_LISTS = {TEXTS: str, WHOLES: int}
_LONGEST_LIST = 100_000  # characters; the longest of release 0.5.0 has less than 1000

UNIT_METRICS = (
    *("amplitude", "amplitude_cutoff", "cumulative_drift", "d_prime", "firing_rate", "isi_violations"),
    *("isolation_distance", "l_ratio", "max_drift", "nn_hit_rate", "nn_miss_rate", "presence_ratio", "PT_ratio"),
    *("recovery_slope", "repolarization_slope", "silhouette_score", "snr", "spread", "velocity_above"),
    *("velocity_below", "waveform_duration", "waveform_halfwidth"),
)
CCF = ("anterior_posterior_ccf_coordinate", "dorsal_ventral_ccf_coordinate", "left_right_ccf_coordinate")
_RECORDED = {
    "date_of_acquisition": TEXT,  # of ecephys_sessions the local time in Seattle, although it says +00:00
    "equipment_name": TEXT,
    "session_type": TEXT,
    "mouse_id": TEXT,  # digits, but a name
    "genotype": TEXT,
    "sex": TEXT,
    "age_in_days": WHOLE,
    "image_set": TEXT,
    "prior_exposures_to_image_set": WHOLE,
    "prior_exposures_to_omissions": WHOLE,
    "session_number": WHOLE,
}
_COUNTED = {"unit_count": WHOLE, "channel_count": WHOLE, "structure_acronyms": TEXTS}


@dataclass(frozen=True, slots=True)
class AllenTable:
    """One table: its key, the ids that it must have, and the types of the columns that it may have.

    `renamed` has our name of a column by the one in the file.
    """

    name: str
    key: str
    ids: tuple[str, ...]
    others: dict[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)

    @property
    def types(self) -> dict[str, str]:
        """Types of all columns that are known."""
        return {self.key: WHOLE, **dict.fromkeys(self.ids, WHOLE)} | self.others


SESSIONS = AllenTable(
    "ecephys_sessions",
    "ecephys_session_id",
    ("behavior_session_id", "file_id"),
    {
        **_RECORDED,
        **_COUNTED,
        "project_code": TEXT,
        "probe_count": WHOLE,
        "experience_level": TEXT,
        "abnormal_histology": TEXTS,
        "abnormal_activity": WHOLES,
    },
)
BEHAVIOR = AllenTable(
    "behavior_sessions",
    "behavior_session_id",
    ("ecephys_session_id", "file_id"),
    {**_RECORDED, "prior_exposures_to_session_type": WHOLE},
)
PROBES = AllenTable(
    "probes",
    "ecephys_probe_id",
    ("ecephys_session_id", "file_id"),
    {
        **_COUNTED,
        "name": TEXT,
        "sampling_rate": REAL,
        "lfp_sampling_rate": REAL,  # of the hardware: the LFP in the files has about half of it
        "phase": TEXT,
        "has_lfp_data": TRUTH,
    },
)
CHANNELS = AllenTable(
    "channels",
    "ecephys_channel_id",
    ("ecephys_probe_id", "ecephys_session_id"),
    {
        "probe_channel_number": WHOLE,
        "probe_vertical_position": REAL,
        "probe_horizontal_position": REAL,
        **dict.fromkeys(CCF, REAL),
        "structure_acronym": TEXT,  # without substructure: DG, while the sessions have DG-mo
        "structure_id": WHOLE,
        "unit_count": WHOLE,
        "valid_data": TRUTH,
    },
)
UNITS = AllenTable(
    "units",
    "unit_id",
    ("ecephys_channel_id", "ecephys_probe_id", "ecephys_session_id"),
    {
        "local_index": WHOLE,
        "quality": TEXT,
        "valid_data": TRUTH,
        "probe_vertical_position": REAL,
        "probe_horizontal_position": REAL,
        **dict.fromkeys(CCF, REAL),
        "structure_acronym": TEXT,
        "structure_id": WHOLE,
        **dict.fromkeys(UNIT_METRICS, REAL),
    },
)
ALL = {table.name: table for table in (SESSIONS, BEHAVIOR, PROBES, CHANNELS, UNITS)}


def read_table(path: Path, table: AllenTable) -> pd.DataFrame:
    """Read one table.

    Text, whole numbers and truth values may be missing (``<NA>``); lists become tuples, empty where there is nothing.
    ``attrs["missing"]`` names the columns that this release does not have, ``attrs["unknown"]`` those that are not
    known here; they are kept as pandas reads them.

    Parameters
    ----------
    path : Path
        A csv.
    table : AllenTable
        One of `ALL`.

    Raises
    ------
    CorruptData
        If it is no csv, an id is missing or stands twice, or a value does not have the type of its column.
    """
    import pandas as pd

    rows = _texts(path, table)
    if absent := [name for name in (table.key, *table.ids) if name not in rows]:
        raise CorruptData(f"{path}: expected the columns {', '.join(absent)} of the table {table.name}, it lacks them")
    typed = {
        name: _typed(rows[name], table.types[name], f"{path}, column {name}") if name in table.types else rows[name]
        for name in map(str, rows)
    }
    rows = pd.DataFrame(typed, copy=False)
    if rows[table.key].isna().any() or rows[table.key].duplicated().any():
        raise CorruptData(f"{path}: expected every {table.key} once, got some twice or rows without; fetch it again")
    rows.attrs = {
        "missing": [name for name in table.types if name not in rows],
        "unknown": [str(name) for name in rows if name not in table.types],
    }
    return rows


def _texts(path: Path, table: AllenTable) -> pd.DataFrame:
    """The rows of a csv under our names: text in all columns that are known, others as they look."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.csv

    known = dict.fromkeys((*table.types, *table.renamed), pa.string())
    how = pyarrow.csv.ConvertOptions(column_types=known, strings_can_be_null=True)
    try:
        read = pyarrow.csv.read_csv(path, convert_options=how)
        names = [table.renamed.get(name, name) for name in read.column_names]
        if len(set(names)) < len(names):
            raise CorruptData(f"{path}: expected different names of columns, got {', '.join(names)}")
        rows: pd.DataFrame = read.rename_columns(names).to_pandas(
            types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get
        )
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise CorruptData(f"{path}: not a readable csv ({error}); fetch it again") from error
    return rows


def _typed(texts: pd.Series, kind: str, where: str) -> pd.Series:
    """Texts as a type. Numbers are exact to the last bit, which those of ``pandas.read_csv`` are not."""
    import pandas as pd
    import pyarrow as pa

    if kind in _LISTS:
        return pd.Series([_list(text, kind, where) for text in texts], index=texts.index, dtype="object")
    try:
        if kind != TEXT:  # counts are written as 24.0
            values = pa.array(texts, pa.string()).cast(pa.bool_() if kind == TRUTH else pa.float64())
            texts = values.to_pandas().astype(kind)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise CorruptData(f"{where}: expected {kind}, got other values ({error}); fetch it again") from error
    return texts


def _list(text: Any, kind: str, where: str) -> tuple[Any, ...]:
    """The items of a list that is written as Python writes it."""
    if not isinstance(text, str):  # an empty cell
        return ()
    try:
        values = ast.literal_eval(text) if len(text) <= _LONGEST_LIST else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        values = None
    if not isinstance(values, list) or any(type(value) is not _LISTS[kind] for value in values):
        raise CorruptData(f"{where}: expected a {kind} such as Python writes it, got {text[:60]!r}; fetch it again")
    return tuple(values)


def without_substructure(acronym: str) -> str:
    """An acronym as units, probes and channels have it: the sessions have ``DG-mo``, these have ``DG``.

    Examples
    --------
    >>> without_substructure("DG-mo"), without_substructure("VISp")
    ('DG', 'VISp')
    """
    return acronym.partition("-")[0]


def has_structure(acronyms: tuple[str, ...], wanted: str) -> bool:
    """Whether a structure is among those of a list, whichever of the two forms each has."""
    return wanted in acronyms or wanted in {without_substructure(name) for name in acronyms}


def need(rows: pd.DataFrame, table: AllenTable, *columns: str) -> None:
    """Raise NotFound if a release does not have some optional columns."""
    if missing := sorted(set(columns) - set(rows)):
        raise NotFound(f"this release: its table {table.name} has no {', '.join(missing)}")


def filter_sessions(
    rows: pd.DataFrame, *, normal: bool = False, structure: Names = None, query: str | None = None
) -> pd.DataFrame:
    """Sessions that fit; what each filter hid is in ``attrs["hidden"]``.

    Parameters
    ----------
    rows : DataFrame
        The table of sessions.
    normal : bool
        Without abnormal histology and without abnormal activity.
    structure : str or iterable of str, optional
        Only those with one of these acronyms, with substructure (``DG-mo``) or without (``DG``).
    query : str, optional
        An expression over the columns.

    Raises
    ------
    NotFound
        If the release does not have a column that a filter needs.
    """
    sieve = Sieve(rows, "sessions")
    for name in ("abnormal_histology", "abnormal_activity") if normal else ():
        need(rows, SESSIONS, name)
        sieve.keep_if(name, lambda items: not items, name.replace("_", " "))
    if structure is not None:
        need(rows, SESSIONS, "structure_acronyms")
        wanted = [structure] if isinstance(structure, str) else list(structure)
        sieve.keep_if(
            "structure_acronyms",
            lambda names: any(has_structure(names, one) for one in wanted),
            f"no {' or '.join(wanted)}",
        )
    sieve.query(query)
    return sieve.result()


def joined(rows: pd.DataFrame, parents: pd.DataFrame, key: str, prefix: str) -> pd.DataFrame:
    """The rows with the columns of the rows of another table that they belong to.

    A place that both have is taken once where they agree. Any other column of the parents whose name is taken, or that
    would not tell whose it is, is called ``<prefix>_<name>``.

    Raises
    ------
    InconsistentData
        If a row has no parent, or another parent than its parent has.
    """
    import pandas as pd

    at = pd.Index(parents[key].to_numpy(dtype="int64")).get_indexer(rows[key].to_numpy(dtype="int64", na_value=-1))
    if n_lost := int((at < 0).sum()):
        raise InconsistentData(
            f"{n_lost} rows have a {key} that its table does not have, such as {rows[key].to_numpy()[at < 0][0]}; "
            "take all tables of one release"
        )
    of_row = parents.drop(columns=key).take(at).set_axis(rows.index)
    added: dict[str, Any] = {}
    for name in map(str, of_row):
        same = name in rows and _equal(rows[name], of_row[name])
        if name in _IDS and name in rows and not same:
            raise InconsistentData(f"rows and their {prefix} differ in {name}; take all tables of one release")
        if not (same and name in (*_IDS, *_PLACE)):
            added[f"{prefix}_{name}" if name in rows or name in _AMBIGUOUS else name] = of_row[name]
    return rows.assign(**added)


def _equal(ours: pd.Series, theirs: pd.Series) -> bool:
    return bool(((ours == theirs).fillna(False) | (ours.isna() & theirs.isna())).all())


_IDS = ("ecephys_session_id", "ecephys_probe_id")
_PLACE = ("structure_acronym", "structure_id", "probe_vertical_position", "probe_horizontal_position", *CCF)
_AMBIGUOUS = ("name", "file_id", "unit_count", "channel_count", "structure_acronyms", "valid_data")
