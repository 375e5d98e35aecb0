"""The tables of an Allen release: types, lists, joins; and the real table of sessions against the known pivots."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from allen_files import TABLES

from loaders.allen_tables import (
    ALL,
    SESSIONS,
    UNITS,
    filter_sessions,
    has_structure,
    joined,
    read_table,
    without_substructure,
)
from loaders.errors import CorruptData, InconsistentData

REAL = Path(__file__).parents[2] / "shared/realdata/neural-pile-rodent-v2/ecephys_sessions.csv"


@pytest.fixture(scope="module")
def real():
    if not REAL.is_file():
        pytest.skip("the real table of sessions is not there")
    return read_table(REAL, SESSIONS)


@pytest.fixture
def path_of(allen_release):
    return lambda name: next(allen_release.bucket.rglob(f"{name}.csv"))


@pytest.fixture
def normal(real):
    """Those without abnormal histology or activity."""
    return filter_sessions(real, normal=True)


def test_the_real_table_of_sessions_is_read_whole(real):
    assert len(real) == 153
    assert real.attrs == {"missing": [], "unknown": []}
    assert real.unit_count.sum() == 319013
    assert real.probe_count.value_counts().to_dict() == {6: 142, 5: 10, 3: 1}
    assert real.probe_count.sum() == 905
    assert (real.channel_count.max(), real.channel_count.min()) == (2304, 1152)
    assert [int((real[f"abnormal_{name}"].str.len() > 0).sum()) for name in ("histology", "activity")] == [49, 12]
    assert ("Right Cortex",) in set(real.abnormal_histology)
    assert (4817, 5767, 6371) in set(real.abnormal_activity)


def test_the_103_normal_ones_have_the_known_pivots(normal):
    assert len(normal) == 103
    assert [hidden["rows"] for hidden in normal.attrs["hidden"]] == [49, 1]
    assert normal.attrs["of"] == 153
    assert normal.groupby(["session_number", "experience_level", "image_set"]).size().to_dict() == {
        **{(1, "Familiar", "G"): 38, (1, "Familiar", "H"): 10, (1, "Novel", "H"): 3},
        **{(2, "Familiar", "G"): 3, (2, "Novel", "G"): 10, (2, "Novel", "H"): 39},
    }
    genotype = normal.genotype.str.extract("^(Sst|Vip|wt)")[0]
    assert normal.groupby([genotype, "sex"]).size().to_dict() == {
        **{("Sst", "F"): 24, ("Sst", "M"): 19, ("Vip", "F"): 4, ("Vip", "M"): 18, ("wt", "F"): 15, ("wt", "M"): 23}
    }
    assert normal.groupby([genotype, "sex"]).mouse_id.nunique().to_dict() == {
        **{("Sst", "F"): 12, ("Sst", "M"): 11, ("Vip", "F"): 2, ("Vip", "M"): 9, ("wt", "F"): 8, ("wt", "M"): 12}
    }


def test_acronyms_of_real_sessions_are_compared_in_both_forms(real):
    named = {name for names in real.structure_acronyms for name in names}
    assert len(named) == 67
    assert len({without_substructure(name) for name in named}) == 63
    assert {"DG-mo", "DG-po", "DG-sg"} <= named
    hippocampal = filter_sessions(real, structure="DG")
    assert len(hippocampal) == sum(any(name.startswith("DG-") for name in names) for names in real.structure_acronyms)
    assert "DG" not in named
    assert [has_structure(("DG-mo", "VISp"), name) for name in ("DG", "DG-mo", "VISp", "DG-sg", "VIS")] == [
        *(True, True, True, False, False),
    ]


def test_every_column_has_its_type(path_of):
    for name in TABLES:
        rows = read_table(path_of(name), ALL[name])
        plain = pd.read_csv(path_of(name))
        assert len(rows) == len(plain)
        assert rows.attrs["unknown"] == []
        for column in rows:
            assert rows[column].isna().sum() in (plain[column].isna().sum(), 0), column
    sessions = read_table(path_of("ecephys_sessions"), SESSIONS)
    assert sessions.mouse_id.to_list() == ["524761", "506940", "544358"]
    assert sessions.unit_count.to_list() == [24, 24, 24]  # written as 24.0
    assert sessions.prior_exposures_to_image_set.to_list() == [14, pd.NA, 14]
    assert sessions.abnormal_histology.to_list() == [(), (), ("Right Cortex", "Hippocampus")]
    assert sessions.abnormal_activity.to_list() == [(), (), (12, 30)]


def test_columns_that_come_and_go_are_listed(path_of, tmp_path):
    rows = pd.read_csv(path_of("units")).drop(columns=["quality", "snr"]).assign(new=1)
    rows.to_csv(tmp_path / "units.csv", index=False)
    read = read_table(tmp_path / "units.csv", UNITS)
    assert (read.attrs["missing"], read.attrs["unknown"]) == (["quality", "snr"], ["new"])
    assert read.new.sum() == len(rows)


WRONG = {
    "no csv": (b"\x89HDF\r\n\x1a\n" * 9, "column|csv|lacks"),
    "empty": (b"", "not a readable csv"),
    "a column twice": (b"unit_id,unit_id\n1,1\n", "expected different names of columns"),
    "no ids": (b"unit_id\n1\n", "expected the columns ecephys_channel_id, ecephys_probe_id, ecephys_session_id"),
    "no key": (b"ecephys_channel_id,ecephys_probe_id,ecephys_session_id\n1,1,1\n", "expected the columns unit_id"),
    "text for a number": ("snr", "many", "column snr: expected float64"),
    "half an id": ("unit_id", "1.5", "column unit_id: expected Int64"),
    "a truth that is none": ("valid_data", "perhaps", "column valid_data: expected boolean"),
    "an id twice": ("unit_id", "1049385390", "expected every unit_id once"),
    "no id": ("unit_id", "", "expected every unit_id once"),
}


@pytest.mark.parametrize("row", WRONG)
def test_a_table_that_is_not_whole_is_refused(row, path_of, tmp_path):
    *what, words = WRONG[row]
    path = tmp_path / "units.csv"
    if len(what) == 1:
        path.write_bytes(what[0])
    else:
        rows = pd.read_csv(path_of("units"), dtype=str)
        rows.loc[:1, what[0]] = what[1]
        rows.to_csv(path, index=False)
    with pytest.raises(CorruptData, match=words):
        read_table(path, UNITS)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "['a', 1]", "{'a'}", "a", "[1.5]", "[[1]]", "[True]", "(1,)", "[" * 9999],
)
def test_lists_are_parsed_and_never_evaluated(text, path_of, tmp_path):
    rows = pd.read_csv(path_of("ecephys_sessions"), dtype=str)
    rows.loc[2, "abnormal_activity"] = text
    rows.to_csv(tmp_path / "sessions.csv", index=False)
    with pytest.raises(CorruptData, match="column abnormal_activity: expected a list of whole numbers"):
        read_table(tmp_path / "sessions.csv", SESSIONS)


def test_a_join_keeps_every_row_once_and_no_suffix(path_of):
    tables = {name: read_table(path_of(name), ALL[name]) for name in TABLES}
    units = joined(tables["units"], tables["channels"], "ecephys_channel_id", "channel")
    units = joined(units, tables["probes"], "ecephys_probe_id", "probe")
    units = joined(units, tables["ecephys_sessions"], "ecephys_session_id", "session")
    assert units.unit_id.to_list() == tables["units"].unit_id.to_list()
    assert not [name for name in units if name.endswith(("_x", "_y"))]
    assert units.columns.is_unique
    assert {"probe_name", "channel_valid_data", "probe_unit_count", "session_unit_count", "mouse_id"} <= set(units)
    by_hand = tables["channels"].set_index("ecephys_channel_id").probe_channel_number
    np.testing.assert_array_equal(units.probe_channel_number, by_hand[units.ecephys_channel_id])
    assert "channel_structure_acronym" not in units  # equal, so once


def test_a_join_refuses_rows_of_another_release(path_of):
    units, channels = (read_table(path_of(name), ALL[name]) for name in ("units", "channels"))
    with pytest.raises(InconsistentData, match="72 rows have a ecephys_channel_id that its table does not have"):
        joined(
            units, channels.assign(ecephys_channel_id=channels.ecephys_channel_id + 1), "ecephys_channel_id", "channel"
        )
    with pytest.raises(InconsistentData, match="rows and their channel differ in ecephys_probe_id"):
        joined(units, channels.assign(ecephys_probe_id=7), "ecephys_channel_id", "channel")
    moved = joined(units, channels.assign(structure_acronym="TH"), "ecephys_channel_id", "channel")
    assert moved.channel_structure_acronym.eq("TH").all()  # told apart, as they differ
    assert moved.structure_acronym.equals(units.structure_acronym)
