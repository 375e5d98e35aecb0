"""The lists of released insertions: against the files they come from, and against counting by hand."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import cubes
from cubes.cli import run
from loaders.releases import release, releases

REPOSITORY = Path(__file__).resolve().parent.parent
REAL = REPOSITORY.parent / "shared" / "realdata"
NAMES = ("2022_10_bwm_release", "2023_12_bwm_release", "2023_12_repeated_site")
real_tables = pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "count"), list(zip(NAMES, (547, 699, 106), strict=True)))
def test_a_list_has_its_insertions_once_with_strict_types(name, count):
    table = release(name)
    assert len(table) == count == table["pid"].nunique()
    text = ["pid", "eid", "probe", "lab", "subject", "date", "revision", "note", "also_in"]
    expected = dict.fromkeys(text, "string") | {"number": "Int64", "level": "Int64"}
    assert {column: str(kind) for column, kind in table.dtypes.items()} == expected
    assert table["pid"].str.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").all()
    assert table["date"].dropna().str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    assert table["revision"].unique().tolist() == ["2024-03-22" if "site" in name else "2024-05-06"]


def test_the_first_brain_wide_list_is_part_of_the_second():
    first, second = (set(release(name)["pid"]) for name in NAMES[:2])
    assert first < second
    assert (release(NAMES[1]).set_index("pid").loc[sorted(first), "also_in"].str.contains(NAMES[0])).all()


def test_where_else_a_pid_stands_is_told():
    pids = {name: set(release(name)["pid"]) for name in NAMES}
    for name in NAMES:
        for row in release(name).itertuples():
            assert row.also_in.split(", ") == ([n for n in NAMES if n != name and row.pid in pids[n]] or [""])


def test_known_exceptions_are_noted():
    table = release(NAMES[1])
    noted = table[table["note"] != ""]
    assert noted["subject"].tolist() == ["NR_0029"] * 4 + ["ibl_witten_13"]
    assert noted["eid"].str[:8].tolist() == ["4e560423", "de905562", "d85c454e", "3a3ea015", "ebe090af"]


def test_an_unknown_list_gets_a_hint():
    with pytest.raises(cubes.NotFound, match=r"'2023_12_bwm': unknown; did you mean '2023_12_bwm_release'\? releases"):
        cubes.release("2023_12_bwm")


def test_the_overview_counts():
    table = releases().set_index("name")
    assert table.index.tolist() == list(NAMES)
    assert table.loc[NAMES[0], ["insertions", "sessions", "subjects"]].tolist() == [547, 354, 115]
    assert table.loc[NAMES[1], ["insertions", "sessions", "subjects", "labs"]].tolist() == [699, 459, 139, 12]
    assert table.loc[NAMES[1], ["first", "last"]].tolist() == ["2019-11-26", "2023-10-19"]


@real_tables
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_brain_wide_list_equals_its_origin(name):
    expected = rows(REAL / "paper-brain-wide-map" / f"{name}.csv")
    table = release(name)
    columns = {"pid": "pid", "eid": "eid", "probe": "probe_name", "date": "date", "subject": "subject", "lab": "lab"}
    for ours, theirs in columns.items():
        assert table[ours].tolist() == [row[theirs] for row in expected]
    assert table["number"].tolist() == [int(row["session_number"]) for row in expected]


@real_tables
def test_the_repeated_site_equals_its_origin_and_what_it_was_completed_from():
    folder = REAL / "paper-reproducible-ephys" / "data_releases"
    table = release(NAMES[2])
    expected = rows(folder / "release_2023_12.csv")
    assert table["pid"].tolist() == [row["pid"] for row in expected]
    assert table["level"].tolist() == [int(row["level"]) for row in expected]
    known = {row["pid"]: row for row in rows(folder / "metrics_freeze_2024_03.csv")}
    known |= {row["pid"]: row | {"probe": row["probe"]} for row in release(NAMES[1]).astype(str).to_dict("records")}
    for row in table.itertuples():
        facts = known.get(row.pid)
        if facts is None:
            assert row.level == -1
            assert table.isna().loc[row.Index, ["eid", "probe", "lab", "subject", "date", "number"]].all()
        else:
            assert (row.eid, row.probe, row.subject, row.date) == tuple(
                facts[name] for name in ("eid", "probe", "subject", "date")
            )


def test_the_wheel_carries_the_lists_and_their_licences(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("loaders/release_data/")}
    on_disk = {path.name for path in (REPOSITORY / "loaders" / "release_data").iterdir()}
    assert packed == {f"loaders/release_data/{name}" for name in on_disk}
    assert {"LICENSE-paper-brain-wide-map.txt", "README.md", *(f"{name}.csv" for name in NAMES)} <= on_disk


def test_the_command_lists_releases_and_insertions(capsys):
    assert run(["releases", "--json"]) == 0
    assert [row["insertions"] for row in json.loads(capsys.readouterr().out)] == [547, 699, 106]
    assert run(["releases", NAMES[2]]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 107
    assert not any("NA" in line.split() for line in printed)
    assert run(["releases", NAMES[2], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["eid"] is None
    assert run(["releases", "bwm"]) == 1
    assert "releases that exist: 2022_10_bwm_release" in capsys.readouterr().err
