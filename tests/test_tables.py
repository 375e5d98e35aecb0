"""The tables of a catalog: against walks through the recorded answers and tables they are made from."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from iblatlas.regions import BrainRegions

import cubes
from chunking import schema
from cubes.cli import run
from loaders import table_files
from loaders.alyx_rows import rel_path_of, rows_of_alyx
from loaders.sample import SAMPLE
from loaders.table_filters import hidden_lines
from loaders.table_schema import METRIC_UNITS, TABLES, conform

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "realdata" / "paper-reproducible-ephys"
real_tables = pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
PIDS = [probe.pid for probe in SAMPLE]
PID, EID, OTHER = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000001", "another"


@pytest.fixture(scope="module")
def answers():
    return [json.loads(path.read_text())[0] for path in sorted((REAL / "one_cache" / ".rest").iterdir())]


@pytest.fixture(scope="module")
def real(tmp_path_factory, answers):
    catalog = cubes.catalog(tmp_path_factory.mktemp("real"))
    catalog.add_release("2023_12_bwm_release")
    half = len(answers) // 2
    for part in (answers[:half], answers[half:]):
        catalog.add_alyx([record for answer in part for record in answer.get("results", [answer])])
    catalog.add_units(REAL / "tables" / "clusters_re_147.pqt")
    catalog.add_channels(REAL / "tables" / "channels_re.pqt")
    catalog.add_sessions(REAL / "one_cache" / "sessions.pqt")
    return catalog


def known(table):
    """The rows with None for what is missing, which compares like any value."""
    return table.astype(object).where(table.notna(), None)


def descendants(acronym, mapping):
    """Brute force with iblatlas: ids whose name at a level lies in the region."""
    table = BrainRegions()
    inside = set(np.abs(table.descendants(table.acronym2id(acronym))["id"]).tolist())
    names = table.id[table.mappings[mapping]]
    return {int(i) for i, mapped in zip(table.id, names, strict=True) if abs(mapped) in inside}


@real_tables
def test_linked_pids_have_insertions_units_and_channels_with_regions(real, answers):
    pids = {answer["id"] for answer in answers if "session_info" in answer}
    clusters = pd.read_parquet(REAL / "tables" / "clusters_re_147.pqt")
    sites = pd.read_parquet(REAL / "tables" / "channels_re.pqt")
    released = set(cubes.release("2023_12_bwm_release")["pid"])
    linked = pids & released & set(clusters.index.get_level_values(0)) & set(sites.index.get_level_values(0))
    assert len(linked) == 17
    insertions = real.insertions().set_index("pid")
    all_units, all_channels = dict(iter(real.units().groupby("pid"))), dict(iter(real.channels().groupby("pid")))
    for pid in linked:
        units, channels = all_units[pid], all_channels[pid]
        assert units["acronym_allen"].tolist() == clusters.loc[pid, "acronym"].tolist()
        assert units["acronym_cosmos"].tolist() == clusters.loc[pid, "cosmos_acronym"].tolist()
        assert channels["acronym_allen"].tolist() == sites.loc[pid, "acronym"].tolist()
        np.testing.assert_array_equal(channels[["x", "y", "z"]], sites.loc[pid, ["x", "y", "z"]])
        row = insertions.loc[pid]
        assert row["n_units"] == len(clusters.loc[pid])
        assert row["n_good_units"] == (clusters.loc[pid, "label"] == 1).sum()
        assert row[["counted_in", "histology"]].tolist() == ["units", "resolved"]


@real_tables
def test_insertions_equal_the_answers_of_the_database(real, answers):
    insertions = known(real.insertions()).set_index("pid")
    for answer in answers:
        if "session_info" not in answer:
            continue
        row, session, facts = insertions.loc[answer["id"]], answer["session_info"], answer["json"]
        assert row[["eid", "probe", "model", "serial"]].tolist() == [
            answer["session"], answer["name"], answer["model"], answer["serial"] or None,
        ]  # fmt: skip
        assert row[["lab", "subject", "number"]].tolist() == [session["lab"], session["subject"], session["number"]]
        assert session["start_time"].startswith(row["date"])
        assert json.loads(row["xyz_picks"]) == facts["xyz_picks"]
        assert row["alignment_count"] == facts["extended_qc"]["alignment_count"]
        assert row["alignment_resolved"] == facts["extended_qc"]["alignment_resolved"]
        assert row["qc"] == facts["qc"]


@real_tables
def test_files_equal_the_records_of_the_database(real, answers):
    table = known(real.datasets()).set_index(["eid", "rel_path"]).sort_index()
    checked = 0
    for answer in answers:
        for record in answer.get("results", ()) if "session_info" not in answer else ():
            if "file_records" not in record:
                continue
            for copy in record["file_records"]:
                rel_path = copy["relative_path"].split("/", 3)[3]
                assert rel_path_of(copy["data_url"]) == rel_path
            row = table.loc[(record["session"].rpartition("/")[2], rel_path)]
            assert row["size"] == record["file_size"]
            assert row[["md5", "collection", "revision", "name", "version", "id"]].tolist() == [
                record["hash"], record["collection"], record["revision"], record["name"], record["version"] or None,
                record["url"].rpartition("/")[2],
            ]  # fmt: skip
            assert row["default"] == record["default_dataset"]
            checked += 1
    assert checked == 614
    of_insertions = {dataset["id"] for answer in answers if "session_info" in answer for dataset in answer["datasets"]}
    assert of_insertions <= set(table["id"])


@real_tables
@pytest.mark.parametrize(
    ("region", "mapping"),
    [("LGD", "Allen"), ("TH", "Allen"), ("CA1", "Beryl"), ("HPF", "Cosmos"), ("VISa", "Swanson"), ("CTX", "Cosmos")],
)
def test_region_queries_equal_brute_force(real, region, mapping):
    ids = descendants({"LGD": "LGd"}.get(region, region), mapping)
    clusters = pd.read_parquet(REAL / "tables" / "clusters_re_147.pqt")
    sites = pd.read_parquet(REAL / "tables" / "channels_re.pqt")
    units, good, channels = {}, {}, {}
    for (pid, _), atlas_id, label in zip(clusters.index, clusters["atlas_id"], clusters["label"], strict=True):
        units[pid] = units.get(pid, 0) + (atlas_id in ids)
        good[pid] = good.get(pid, 0) + (atlas_id in ids and label == 1)
    for (pid, _), atlas_id in zip(sites.index, sites["atlas_id"], strict=True):
        channels[pid] = channels.get(pid, 0) + (atlas_id in ids)
    found = real.insertions(region=region, mapping=mapping)
    assert set(found["pid"]) == {pid for pid in {*units, *channels} if units.get(pid) or channels.get(pid)}
    for row in known(found).itertuples():
        counted = [row.units_in_region, row.good_units_in_region, row.channels_in_region]
        assert counted == [units.get(row.pid), good.get(row.pid), channels.get(row.pid)]
    assert len(real.units(region=region, mapping=mapping)) == sum(units.values())
    assert len(real.units(region=region, mapping=mapping, label=1)) == sum(good.values())
    assert len(real.channels(region=region, mapping=mapping)) == sum(channels.values())
    rich = real.insertions(region=region, mapping=mapping, min_good_units=5)
    assert set(rich["pid"]) == {pid for pid, count in good.items() if count >= 5}


@real_tables
def test_every_filter_says_what_it_hid(real):
    everything = real.insertions()
    found = real.insertions(release="2023_12_bwm_release", region="TH", lab="mainenlab", date=("2021-04-01", None))
    hidden = found.attrs["hidden"]
    assert [row["why"] for row in hidden] == [
        "not in release 2023_12_bwm_release", "no unit and no site in TH", "lab is not mainenlab",
        "date is not from 2021-04-01 to the last",
    ]  # fmt: skip
    assert found.attrs["of"] == len(everything) == len(found) + sum(row["rows"] for row in hidden)
    assert hidden[0]["rows"] == len(everything) - 699
    without_place = set(everything["pid"]) & set(cubes.release("2023_12_bwm_release")["pid"])
    without_place -= set(real.units()["pid"]) | set(real.channels()["pid"])
    assert hidden[1]["unknown"] == len(without_place)
    assert hidden_lines(found)[-1] == f"{len(found)} of {len(everything)} insertions"


@real_tables
def test_the_order_of_adding_does_not_matter_and_adding_twice_changes_no_byte(real, tmp_path, answers):
    other = cubes.catalog(tmp_path)
    other.add_sessions(pd.read_parquet(REAL / "one_cache" / "sessions.pqt"))
    other.add_channels(pd.read_parquet(REAL / "tables" / "channels_re.pqt"))
    other.add_units(pd.read_parquet(REAL / "tables" / "clusters_re_147.pqt").reset_index(names=["pid", "cluster_id"]))
    other.add_alyx([record for answer in answers[::-1] for record in answer.get("results", [answer])])
    other.add_release("2023_12_bwm_release")
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(other, name)(), getattr(real, name)())
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in other.folder.glob("*.parquet")}
    other.add_units(REAL / "tables" / "clusters_re_147.pqt")
    other.add_release("2023_12_bwm_release")
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in other.folder.glob("*.parquet")} == before
    assert len(before) == 5


def insertion(pid=PID, probe="probe00", datasets=(), **facts):
    session = {"id": EID, "lab": "a lab", "subject": "A", "start_time": "2021-06-23T10:46:45", "number": 1}
    return {"id": pid, "name": probe, "session_info": session, "datasets": list(datasets), "json": facts or None}


def dataset(path, **facts):
    stem, _, suffix = path.rpartition(".")
    url = f"https://host/public/lab/Subjects/A/2021-06-23/001/{stem}.33333333-0000-4000-8000-000000000001.{suffix}"
    return {"id": path, "name": path.rpartition("/")[2], "data_url": url, "hash": "f" * 32, "file_size": 3, **facts}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "none"),
        ({"extended_qc": None}, "none"),
        ({"xyz_picks": []}, "none"),
        ({"xyz_picks": [[1, 2, 3]]}, "traced"),
        ({"extended_qc": {"tracing_exists": True}}, "traced"),
        ({"xyz_picks": [[1, 2, 3]], "extended_qc": {"alignment_count": 2}}, "aligned"),
        ({"extended_qc": {"alignment_count": 2, "alignment_resolved": True}}, "resolved"),
    ],
)
def test_histology_of_an_insertion(tmp_path, facts, expected):
    catalog = cubes.catalog(tmp_path)
    catalog.add_alyx(insertion(**facts))
    assert catalog.insertions()["histology"].tolist() == [expected]


def test_a_session_answer_lists_all_its_files(tmp_path):
    catalog = cubes.catalog(tmp_path)
    session = {
        "url": f"https://host/sessions/{EID}", "lab": "a lab", "subject": "A", "start_time": "2021-06-23T10:46:45",
        "number": 1, "projects": ["b", "a"],
        "data_dataset_session_related": [
            dataset("alf/#2024#/a.b.npy", default_revision="True"), dataset("alf/a.b.npy", default_revision="False"),
            dataset("alf/gone.b.npy", default_revision="True") | {"data_url": None},
        ],
    }  # fmt: skip
    catalog.add_alyx({"count": 1, "results": [session]})
    table = catalog.datasets(eid=EID)
    assert table["rel_path"].tolist() == ["alf/#2024#/a.b.npy", "alf/a.b.npy"]
    assert table["default"].tolist() == [True, False]
    assert table["revision"].tolist() == ["2024", ""]
    assert catalog.sessions()[["projects", "files_listed"]].values.tolist() == [["a,b", True]]
    session["data_dataset_session_related"].pop(0)
    catalog.add_alyx(session)
    assert catalog.datasets()["rel_path"].tolist() == ["alf/a.b.npy"]  # what is gone from the session is gone here


def test_single_files_complete_the_list_of_an_insertion_and_never_shorten_it(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_alyx(insertion(datasets=[dataset("alf/probe00/a.b.npy"), dataset("alf/probe00/c.d.npy")]))
    single = dataset("alf/probe00/a.b.npy", session=f"https://host/sessions/{EID}", default_dataset=True)
    catalog.add_alyx([single | {"file_records": [{"exists": True, "data_url": single["data_url"]}]}])
    assert catalog.datasets()["default"].tolist() == [True, pd.NA]
    catalog.add_alyx(insertion(datasets=[dataset("alf/probe00/a.b.npy")]))
    assert catalog.datasets()["rel_path"].tolist() == ["alf/probe00/a.b.npy"]
    assert catalog.datasets()["default"].tolist() == [True]


def test_an_insertion_of_a_list_has_only_the_ids_of_its_files(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_alyx([insertion(datasets=["44444444-0000-4000-8000-000000000001"])])
    assert catalog.insertions()["files_listed"].isna().all()
    with pytest.raises(cubes.NotFound, match="has no table of datasets yet"):
        catalog.datasets()


def test_answers_of_another_kind_are_refused():
    with pytest.raises(
        cubes.CorruptData, match=r"expected insertions, sessions or datasets, got the keys \['detail'\]"
    ):
        rows_of_alyx({"detail": "Not found."})
    with pytest.raises(cubes.CorruptData, match="expected JSON objects, got 'text'"):
        rows_of_alyx("text")


def units(pid=PID, n=3, **columns):
    rows = {"pid": pid, "cluster_id": range(n), "atlas_id": [382, -382, 385][:n], "label": [1.0, 1 / 3, np.nan][:n]}
    return pd.DataFrame({**rows, **columns})


@pytest.mark.parametrize(
    "levels", [["pid", "cluster_id"], ["eid", "pid", "cluster_id"], ["eid", "pid"], ["cluster_id"]]
)
def test_rows_are_named_by_levels_or_columns_of_any_order(tmp_path, levels):
    plain, indexed = cubes.catalog(tmp_path / "plain"), cubes.catalog(tmp_path / "indexed")
    table = units().assign(eid=EID)
    plain.add_units(table)
    indexed.add_units(table.set_index(levels))
    pd.testing.assert_frame_equal(plain.units(), indexed.units())


def test_units_of_one_insertion_are_replaced_together(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units(), sorter="old", revision="")
    catalog.add_units(units(OTHER), sorter="old", revision="")
    catalog.add_units(units(n=2), sorter="new", revision="2024")
    table = catalog.units()
    assert list(zip(table["pid"], table["unit"], table["sorter"], strict=True)) == [
        (PID, 0, "new"), (PID, 1, "new"), (OTHER, 0, "old"), (OTHER, 1, "old"), (OTHER, 2, "old"),
    ]  # fmt: skip
    counts = catalog.insertions().set_index("pid")
    assert counts["n_units"].to_dict() == {PID: 2, OTHER: 3}
    assert counts["n_good_units"].to_dict() == {PID: 1, OTHER: 1}


def test_what_the_database_counted_gives_way_to_the_table_of_units(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units())
    catalog.add_alyx(insertion(n_units=700, n_units_qc_pass=70))
    catalog.add_alyx(insertion(OTHER, n_units=700, n_units_qc_pass=70))
    columns = ["n_units", "n_good_units", "counted_in"]
    assert catalog.insertions().set_index("pid").loc[PID, columns].tolist() == [3, 1, "units"]
    assert catalog.insertions().set_index("pid").loc[OTHER, columns].tolist() == [700, 70, "database"]


def test_both_hemispheres_of_a_region_and_units_of_unknown_place(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units(x=[0.001, -0.001, np.nan], atlas_id=[382, -382, 0]))
    assert catalog.units(region="CA1")["unit"].tolist() == [0, 1]
    assert catalog.units(region="CA1").attrs["hidden"] == [{"why": "not in CA1", "rows": 1, "unknown": 1}]
    assert catalog.units(region="CA1", hemisphere="left")["unit"].tolist() == [1]
    assert catalog.units(label=1).attrs["hidden"] == [{"why": "label is less than 1", "rows": 2, "unknown": 1}]
    with pytest.raises(cubes.BadArgument, match="hemisphere: expected 'left' or 'right'"):
        catalog.units(hemisphere="both")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"acronym": ["CA1", "CA1", "CA3"]}, "1 rows are called otherwise .* 385: expected VISp, got CA3"),
        ({"cluster_id": [0, 1, 1]}, r"table units: \{'pid': .*, 'unit': 1\} stands twice"),
        ({"pid": [PID, None, PID]}, "table units: expected pid, unit in every row"),
        ({"channels": [1, 2, "three"]}, r"table units, column channel: expected row of the site .*\(Int64\), got"),
        ({"channels": [1, 2, 2.5]}, "column channel: .*got"),
    ],
)
def test_tables_that_contradict_themselves_are_refused(tmp_path, change, message):
    catalog = cubes.catalog(tmp_path)
    with pytest.raises(cubes.InconsistentData, match=message):
        catalog.add_units(units().assign(**change))
    assert not list(catalog.folder.glob("*.parquet"))


def test_a_table_without_names_of_rows_is_refused(tmp_path):
    with pytest.raises(cubes.InconsistentData, match="expected pid and cluster_id as levels of the index or as"):
        cubes.catalog(tmp_path).add_units(units().drop(columns="pid"))
    swapped = units().assign(eid=EID).set_index(["eid", "pid"])
    with pytest.raises(cubes.InconsistentData, match="got eid, pid, atlas_id, label"):
        cubes.catalog(tmp_path).add_units(swapped.drop(columns="cluster_id"))
    assert cubes.catalog(tmp_path).add_units(units(colour="red")) == [
        "units: columns that the table does not keep: colour"
    ]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory, sample_root):
    catalog = cubes.catalog(tmp_path_factory.mktemp("sampled"))
    assert catalog.add_source(sample_root) == []
    return catalog


def test_a_source_fills_all_tables_without_its_spikes(sample_root, sampled, tmp_path):
    copy = tmp_path / "one"
    shutil.copytree(sample_root, copy)
    for path in copy.rglob("spikes.*"):
        path.write_bytes(b"not read")
    catalog = cubes.catalog(tmp_path / "cubes")
    catalog.add_source(copy)
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(catalog, name)(), getattr(sampled, name)())


def test_units_and_sites_equal_the_files(sampled, sample_source):
    for pid in PIDS:
        sorting = sampled.units(pid=pid)[["sorter", "revision"]].drop_duplicates().iloc[0]
        files = {
            record.name: record.path
            for record in sample_source.datasets(sample_source.insertion(pid))
            if record.collection == f"alf/{sample_source.insertion(pid).probe}/{sorting.sorter}"
            and record.revision == sorting.revision
        }
        found = sampled.units(pid=pid)
        metrics = pd.read_parquet(files["clusters.metrics.pqt"]).set_index("cluster_id").reindex(found["unit"])
        np.testing.assert_array_equal(found["label"], metrics["label"])
        np.testing.assert_array_equal(found["firing_rate"], metrics["firing_rate"])
        np.testing.assert_array_equal(found["channel"], np.load(files["clusters.channels.npy"]))
        assert found["uuid"].tolist() == pd.read_csv(files["clusters.uuids.csv"])["uuids"].tolist()
        channels = sampled.channels(pid=pid)
        np.testing.assert_array_equal(
            found["atlas_id"], channels["atlas_id"].to_numpy()[found["channel"].to_numpy(int)]
        )
        assert len(channels) == len(np.load(files["channels.localCoordinates.npy"]))


def test_the_files_of_a_source_are_listed(sampled, sample_source):
    table = sampled.datasets()
    for insertion in sample_source.insertions():
        records = {record.rel_path: record for record in sample_source.datasets(insertion)}
        rows = table[table["eid"] == insertion.eid].set_index("rel_path")
        assert set(rows.index) == set(records)
        for path, record in records.items():
            assert (rows.loc[path, "size"], rows.loc[path, "md5"]) == (record.size, record.md5)


def test_an_insertion_without_a_sorting_is_told(sample_root, tmp_path):
    catalog = cubes.catalog(tmp_path)
    notes = catalog.add_source(sample_root, PIDS[:2], sorter="kilosort9")
    assert [note.split(": ")[1] for note in notes] == [f"pid {pid}" for pid in PIDS[:2]]
    assert all("sorter 'kilosort9' does not exist" in note for note in notes)
    assert set(catalog.insertions()["pid"]) == set(PIDS[:2])


def test_a_folder_without_a_database_has_its_session_as_eid(tiny, tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_source(tiny.folder)
    (row,) = catalog.insertions().itertuples()
    assert (row.pid, row.eid, row.n_units, row.n_good_units) == ("session_probe00", "session", 4, 2)


def test_filters_know_what_is_not_known(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units(OTHER))
    catalog.add_alyx(insertion(n_units=700, n_units_qc_pass=70))
    for arguments in ({"lab": "a lab"}, {"date": (None, "2021-06-23")}, {"query": "number >= 1"}):
        found = catalog.insertions(**arguments)
        assert found["pid"].tolist() == [PID]
        assert found.attrs["hidden"][0]["rows"] == found.attrs["hidden"][0]["unknown"] == 1
    assert catalog.insertions(date=("2021-06-24", None)).empty
    assert catalog.insertions(date=("2021-06-23", "2021-06-23"))["pid"].tolist() == [PID]
    assert catalog.insertions(min_good_units=2)["pid"].tolist() == [PID]
    assert catalog.insertions(subject=["A"], query="number == 1 and n_units > 5")["pid"].tolist() == [PID]
    with pytest.raises(cubes.NotFound, match="lab 'lab': no insertions with it; did you mean a lab"):
        catalog.insertions(lab="lab")
    assert catalog.insertions(date=("2022-01-01", None), lab="a lab").empty  # there is such a lab


@pytest.mark.parametrize(
    "query", ["nope > 3", "n_units + 1", "n_units = 3", "@catalog", "n_units >", "__import__('os')"]
)
def test_queries_that_are_none(sampled, query):
    with pytest.raises(cubes.BadArgument, match="query"):
        sampled.insertions(query=query)


@pytest.mark.parametrize(
    "days", [("2021-13-40", None), (None, "2021"), ("20210101", None), ("2022-01-01", "2021-01-01"), ("", None)]
)
def test_days_that_are_none(sampled, days):
    with pytest.raises(cubes.BadArgument, match="date: expected the first and the last day as YYYY-MM-DD"):
        sampled.insertions(date=days)


def test_a_query_needs_its_table(tmp_path):
    catalog = cubes.catalog(tmp_path / "new")
    with pytest.raises(cubes.NotFound, match="has no table of insertions yet; add a source, a release or tables"):
        catalog.insertions()
    assert not catalog.folder.exists()


def test_tables_on_disk_have_strict_types_and_units(sampled):
    for name, table in TABLES.items():
        arrow = pq.read_schema(sampled.folder / f"{name}.parquet")
        assert arrow.names == table.names
        for column in table.columns:
            assert arrow.field(column.name).metadata[b"units"].decode() == column.unit
        plain = pd.read_parquet(sampled.folder / f"{name}.parquet")
        assert len(plain) == len(getattr(sampled, name)())
    assert METRIC_UNITS == schema.METRIC_UNITS
    assert cubes.catalog(sampled.folder).folder == cubes.catalog(sampled.folder.parent).folder == sampled.folder


def test_a_damaged_or_foreign_table_is_told(tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units())
    path = catalog.folder / "units.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(cubes.CorruptData, match=r"units\.parquet: not a readable parquet table"):
        catalog.units()
    units().to_parquet(path)
    with pytest.raises(cubes.CorruptData, match="has not the columns of the table units"):
        catalog.units()


def test_a_table_that_cannot_be_written_is_as_it_was(tmp_path, monkeypatch):
    catalog = cubes.catalog(tmp_path)
    catalog.add_units(units())
    before = (catalog.folder / "units.parquet").read_bytes()

    def full(table, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(cubes.StoreError, match=r"writing failed .*No space left.* as it was"):
        catalog.add_units(units(OTHER))
    assert (catalog.folder / "units.parquet").read_bytes() == before
    assert not [path for path in catalog.folder.iterdir() if path.name.startswith(".units")]


def test_many_writers_lose_nothing(tmp_path):
    names = [f"pid-{i}" for i in range(6)]
    writers = [threading.Thread(target=cubes.catalog(tmp_path).add_units, args=(units(name),)) for name in names]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(cubes.catalog(tmp_path).insertions()["pid"]) == names
    assert len(cubes.catalog(tmp_path).units()) == 3 * len(names)


def test_conform_keeps_what_text_and_numbers_are():
    rows = pd.DataFrame({"eid": ["b", "a"], "number": [2.0, None], "lab": ["", None], "other": [1, 2]})
    table = conform(rows, TABLES["sessions"])
    assert table["eid"].tolist() == ["a", "b"]
    assert table["number"].tolist() == [pd.NA, 2]
    assert table["lab"].tolist() == [pd.NA, ""]
    assert {name: str(kind) for name, kind in table.dtypes.items()}["number"] == "Int64"
    assert table_files.merge(table, table, TABLES["sessions"], ["eid"]).equals(table)


def test_find_prints_pids_that_plan_takes(sample_root, tmp_path, capsys):
    root = str(tmp_path / "my cubes")
    assert run(["catalog", root, "--source", str(sample_root)]) == 0
    assert "3 insertions" in capsys.readouterr().out
    assert run(["find", "--catalog", root, "--region", "ca1", "--min-good-units", "1"]) == 0
    printed = capsys.readouterr()
    pids = printed.out.split()
    assert pids
    assert set(pids) <= set(PIDS)
    assert "hidden: no unit and no site in ca1" in printed.err
    assert f"{len(pids)} of 3 insertions" in printed.err
    assert run(["plan", *pids, "--source", str(sample_root), "--to", root, "--json"]) == 0
    assert {store["pid"] for store in json.loads(capsys.readouterr().out)["stores"]} == set(pids)
    assert run(["find", "--catalog", root, "--subject", "nobody"]) == 1
    assert "subject 'nobody': no insertions with it" in capsys.readouterr().err
    assert run(["find", "--catalog", root, "--query", "n_units > 100000"]) == 0
    assert capsys.readouterr().out == ""
    assert run(["find", "--catalog", root, "--table"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run(["find", "--catalog", root, "--json"]) == 0
    assert {row["pid"] for row in json.loads(capsys.readouterr().out)} == set(PIDS)
    assert run(["find", "--catalog", root, "--date", "yesterday"]) == 1
    assert "expected the first and the last day as YYYY-MM-DD" in capsys.readouterr().err


def test_the_command_fills_tables_from_files(tmp_path, capsys):
    answer, clusters = tmp_path / "insertion.json", tmp_path / "clusters.pqt"
    answer.write_text(json.dumps([insertion(), "2024-12-01T00:00:00"]))
    units(colour="red").to_parquet(clusters)
    options = ["--release", "2022_10_bwm_release", "--alyx", str(answer), "--clusters", str(clusters), "--sorter", "s"]
    assert run(["catalog", str(tmp_path / "root"), *options]) == 0
    printed = capsys.readouterr()
    assert "548 insertions, 3 units, 0 channels" in printed.out
    assert printed.err == "units: columns that the table does not keep: colour\n"
    answer.write_text("no json")
    assert run(["catalog", str(tmp_path / "root"), "--alyx", str(answer)]) == 1
    assert "not JSON" in capsys.readouterr().err
