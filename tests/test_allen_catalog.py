"""The Allen Visual Behavior recordings as a source: from a folder, a cache of the SDK, a file server, a bucket."""

import json
import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import h5py
import numpy as np
import pandas as pd
import pytest
from allen_files import BUCKET, NEW, OLD, PROJECT

import cubes
from loaders.allen_manifest import manifest_name
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound, SourceUnavailable
from loaders.fetcher import fetch
from loaders.inputs import Inputs
from loaders.readers import check_file

FIRST, UNREGISTERED, ABNORMAL = 1044385384, 1044016459, 1065437523


@pytest.fixture
def local(allen_release, tmp_path):
    return cubes.source("allen-vbn", allen_release.bucket, cache=tmp_path / "cache")


def pid_of(session, name="probeA"):
    return f"allen-vbn-{session.probe[name].probe_id}"


def test_insertions_are_named_in_a_namespace_of_their_own(local, allen_release):
    found = {insertion.pid: insertion for insertion in local.insertions()}
    truth = [(session, probe) for session in allen_release.sessions for probe in session.probes]
    assert set(found) == {f"allen-vbn-{probe.probe_id}" for _, probe in truth}
    for session, probe in truth:
        insertion = found[f"allen-vbn-{probe.probe_id}"]
        assert insertion.eid == f"allen-vbn-{session.session_id}"
        assert (insertion.probe, insertion.subject) == (probe.name, str(session.mouse_id))
        assert insertion.dataset == "allen-vbn"
        assert insertion.date == session.start.date().isoformat()
    with pytest.raises(NotFound, match=r"allen-vbn-7': not in allen-vbn 0\.5\.0, which has"):
        local.insertion("allen-vbn-7")


def test_the_date_is_the_day_in_seattle_as_in_the_file(local, allen_release):
    """The table has the local time under the name of UTC; the start time in the file has its true offset."""
    evening = allen_release.sessions[2]
    with h5py.File(allen_release.bucket / allen_release.session_key(evening)) as file:
        start = datetime.fromisoformat(file["session_start_time"].asstr()[()])
    assert start.astimezone(UTC).date() > start.date() == start.astimezone(ZoneInfo("America/Los_Angeles")).date()
    table = local.table("ecephys_sessions").set_index("ecephys_session_id")
    assert table.date_of_acquisition[ABNORMAL] == f"{start:%Y-%m-%d %H:%M:%S.%f}+00:00"
    assert local.insertion(pid_of(evening)).date == start.date().isoformat() == "2020-11-25"


def test_the_date_is_not_moved_from_utc_to_seattle(local, allen_release):
    sessions = local.table("ecephys_sessions")
    sessions.loc[0, "date_of_acquisition"] = "2020-08-19 00:30:00.000000+00:00"
    assert local.insertion(pid_of(allen_release.sessions[0])).date == "2020-08-19"


def test_what_is_abnormal_goes_into_the_comment(local, allen_release):
    comments = {insertion.eid: insertion.comment for insertion in local.insertions()}
    assert comments[f"allen-vbn-{ABNORMAL}"] == (
        "abnormal histology: Right Cortex, Hippocampus; abnormal activity at 12, 30 s"
    )
    assert comments[f"allen-vbn-{FIRST}"] == ""


@pytest.mark.parametrize("where", ["mounted", "sdk", "http", "s3"])
def test_every_origin_gives_the_same_files(where, allen_release, tmp_path, request):
    cache = tmp_path / "cache"
    if where in ("mounted", "sdk"):
        folder = allen_release.bucket if where == "mounted" else allen_release.sdk_cache(tmp_path / "sdk")
        source = cubes.source("allen-vbn", folder, cache=cache)
    else:
        server = {"http": "allen_server", "s3": "allen_s3"}[where]
        endpoint = request.getfixturevalue(server)
        source = cubes.source("allen-vbn", endpoint=getattr(endpoint, "url", endpoint), cache=cache)
    assert [insertion.pid for insertion in source.insertions()] == [
        f"allen-vbn-{number}" for number in (1044017459, 1044018459, 1044386384, 1044387384, 1065438523, 1065439523)
    ]
    session = allen_release.sessions[0]
    records = source.datasets(source.insertion(pid_of(session)))
    assert [(record.collection, record.rel_path) for record in records] == [
        ("", f"ecephys_session_{FIRST}.nwb"),
        ("probeA", "probe_probeA_lfp.nwb"),
        ("probeB", "probe_probeB_lfp.nwb"),
    ]
    assert all(record.revision == "0.5.0" for record in records)
    assert bool(records[0].url) == (where in ("http", "s3"))
    fetch(records)
    for record in records:
        key = f"{PROJECT}/behavior_ecephys_sessions/{FIRST}/{record.rel_path}"
        body = allen_release.objects[key, record.id].read_bytes()
        assert record.path.read_bytes() == body
        read = check_file(record)
        assert (read.confirmed, read.blake2b, read.md5, read.size) == (True, record.blake2b, "", len(body))
    assert (where in ("mounted", "sdk")) == (not cache.exists())


def test_files_and_tables_are_those_of_one_release(allen_server, allen_release, tmp_path):
    """Files are numbered anew in every release: number 4 is a session in one and LFP in the other."""
    session = allen_release.sessions[0]
    for version in (OLD, NEW):
        source = cubes.source(
            "allen-vbn", version=version, old=True, endpoint=allen_server.url, cache=tmp_path / "cache"
        )
        records = source.datasets(source.insertion(pid_of(session)))
        fetch(records)
        for record in records:
            assert check_file(record).confirmed
            assert f"/{PROJECT}-{version}/" in record.path.as_posix()
        last = source.datasets(source.insertion(pid_of(allen_release.sessions[2])))
        assert [record.collection for record in last] == ["", *(["probeB"] if version == NEW else [])]
    number_4 = [Path(allen_release.manifests[version]["data_files"]["4"]["url"]).name for version in (OLD, NEW)]
    assert number_4 == [f"ecephys_session_{FIRST}.nwb", "probe_probeB_lfp.nwb"]


def test_tables_of_another_release_are_refused(allen_release, tmp_path):
    folder = allen_release.sdk_cache(tmp_path / "sdk")
    tables = folder / f"{PROJECT}-{NEW}" / "project_metadata"
    old = allen_release.manifests[OLD]["metadata_files"]["probes"]
    shutil.copyfile(
        allen_release.objects[f"{PROJECT}/project_metadata/probes.csv", old["version_id"]], tables / "probes.csv"
    )
    source = cubes.source("allen-vbn", folder, cache=tmp_path / "cache")
    with pytest.raises(CorruptData, match=r"probes\.csv: expected blake2b"):
        source.insertions()
    source.release.manifest.tables["probes"] = source.release.manifest.tables["channels"]
    with pytest.raises(CorruptData):
        source.insertions()


def test_a_file_of_another_session_is_refused(local, allen_release):
    files = local.release.manifest.files
    files[5], files[6] = files[6], files[5]
    with pytest.raises(
        InconsistentData, match=f"session {FIRST}: expected a file of that session.*of different releases"
    ):
        local.datasets(local.insertion(pid_of(allen_release.sessions[0])))


def test_releases_before_0_5_0_are_refused_naming_the_lfp(allen_release, tmp_path):
    with pytest.raises(BadArgument, match=r"got 0\.4\.0: before 0\.5\.0 the LFP of most sessions has a wrong scale"):
        cubes.source("allen-vbn", allen_release.bucket, version="0.4.0", cache=tmp_path)
    with pytest.raises(BadArgument, match="expected one such as"):
        cubes.source("allen-vbn", allen_release.bucket, version="latest", cache=tmp_path)


def test_a_newer_release_is_told_and_not_taken(allen_release, tmp_path, caplog):
    folder = allen_release.sdk_cache(tmp_path / "sdk", only=["project_metadata"])
    for version in ("0.6.0", "0.10.0"):
        said = allen_release.manifests[NEW] | {"manifest_version": version}
        (folder / manifest_name(version)).write_text(json.dumps(said))
    with caplog.at_level(logging.WARNING):
        source = cubes.source("allen-vbn", folder, cache=tmp_path / "cache")
    assert source.version == "0.5.0"
    assert "has the releases 0.6.0, 0.10.0 too; this is 0.5.0" in caplog.text
    notes = cubes.catalog(tmp_path / "root").add_source(source)
    assert notes[-1] == "there is a newer release, 0.6.0, 0.10.0; this is 0.5.0"
    with pytest.raises(NotFound, match=r"no manifest of release 0\.7\.0; it has 0\.5\.0, 0\.6\.0, 0\.10\.0"):
        cubes.source("allen-vbn", folder, version="0.7.0", cache=tmp_path / "cache")


def test_the_releases_of_the_bucket_are_listed(allen_s3, allen_server, tmp_path):
    source = cubes.source("allen-vbn", endpoint=allen_s3, cache=tmp_path / "a", version="0.4.0", old=True)
    assert source.release.versions() == ["0.4.0", "0.5.0"]
    assert source.release.newer() == ["0.5.0"]
    silent = cubes.source("allen-vbn", endpoint=allen_server.url, cache=tmp_path / "b")
    with pytest.raises(SourceUnavailable, match="cannot be listed"):
        silent.release.versions()
    assert "whether there is a release after 0.5.0 is not known" in cubes.catalog(tmp_path).add_source(silent)[-1]


def test_a_manifest_may_be_given(allen_release, allen_server, tmp_path):
    path = next(allen_release.bucket.rglob(manifest_name(NEW)))
    source = cubes.source("allen-vbn", manifest=path, endpoint=allen_server.url, cache=tmp_path / "cache")
    assert len(source.insertions()) == 6
    assert not [request for request in allen_server.gets() if "manifest" in request.path]
    with pytest.raises(InconsistentData, match=r"expected that of release 0\.5\.0, got 0\.4\.0"):
        cubes.source("allen-vbn", manifest=path.with_name(manifest_name(OLD)), cache=tmp_path / "cache")
    with pytest.raises(NotFound, match="cannot be read"):
        cubes.source("allen-vbn", manifest=tmp_path / "none.json", cache=tmp_path / "cache")


def test_the_cache_of_the_sdk_is_used_after_its_hashes_are_checked(allen_release, allen_server, tmp_path):
    session = allen_release.sessions[0]
    folder = allen_release.sdk_cache(tmp_path / "sdk", only=["project_metadata", f"{FIRST}.nwb"])
    before = sorted(folder.rglob("*"))
    source = cubes.source("allen-vbn", folder, endpoint=allen_server.url, cache=tmp_path / "cache")
    records = source.datasets(source.insertion(pid_of(session)))
    fetch(records)
    assert [bool(record.url) for record in records] == [False, True, True]
    asked = {Path(request.path).name for request in allen_server.gets()}
    assert asked == {"probe_probeA_lfp.nwb", "probe_probeB_lfp.nwb"}
    assert all(check_file(record).confirmed for record in records)
    assert sorted(folder.rglob("*")) == before  # nothing is written there
    body = bytearray(records[0].path.read_bytes())
    body[1000] ^= 1
    records[0].path.write_bytes(body)
    with pytest.raises(CorruptData, match=r"expected blake2b .* fetch it again"):
        check_file(records[0])


def test_a_file_that_differs_from_the_manifest_is_never_used(allen_server, allen_release, tmp_path):
    source = cubes.source("allen-vbn", endpoint=allen_server.url, cache=tmp_path / "cache")
    session = allen_release.sessions[2]
    wrong = [r for r in source.datasets(source.insertion(pid_of(session))) if r.collection == "probeB"]
    with pytest.raises(CorruptData, match=r"expected blake2b .* as in the catalog, got .*, twice"):
        fetch(wrong)
    assert not wrong[0].path.exists()


def test_a_version_that_is_gone_is_told(allen_server, allen_release, tmp_path):
    key = f"{BUCKET}/{PROJECT}/project_metadata/probes.csv"
    allen_server.versions[key] = {
        version: path for version, path in allen_server.versions[key].items() if "replaced" in path.parts
    }
    source = cubes.source("allen-vbn", endpoint=allen_server.url, cache=tmp_path / "cache")
    with pytest.raises(NotFound, match=r"probes\.csv\?versionId=.*404"):
        source.insertions()


def test_a_missing_file_is_not_listed_and_a_missing_session_is_told(local, allen_release):
    session = allen_release.sessions[2]  # probeA: file_id -999
    insertion = local.insertion(pid_of(session))
    assert [record.collection for record in local.datasets(insertion)] == ["", "probeB"]
    local.table("ecephys_sessions").loc[1, "file_id"] = -999
    with pytest.raises(NotFound, match=rf"session {UNREGISTERED}: the release 0\.5\.0 has no such file .*-999"):
        local.datasets(local.insertion(pid_of(allen_release.sessions[1])))


def test_sessions_are_hidden_only_when_asked_and_counted(local):
    assert len(local.sessions()) == 3
    assert local.sessions().attrs["hidden"] == []
    normal = local.sessions(normal=True)
    assert normal.ecephys_session_id.to_list() == [FIRST, UNREGISTERED]
    assert normal.attrs["hidden"] == [
        {"why": "abnormal histology", "rows": 1, "unknown": 0},
        {"why": "abnormal activity", "rows": 0, "unknown": 0},
    ]
    assert local.sessions(structure="DG").equals(local.sessions(structure="DG-mo"))
    assert set(local.sessions(structure="DG").ecephys_session_id) == {FIRST, ABNORMAL}
    assert len(local.sessions(query="sex == 'M'")) == 2


def test_units_are_hidden_only_by_filters_and_nan_is_told_apart(local, allen_release):
    truth = list(allen_release.unit_truth.values())
    everything = local.units()
    assert len(everything) == len(truth) == 72
    assert everything.isi_violations.isna().sum() == sum(np.isnan(u.metrics["isi_violations"]) for u in truth) > 0
    few = local.units(quality="good", isi_violations_at_most=0.5)
    expected = {u.unit_id for u in truth if u.quality == "good" and u.metrics["isi_violations"] <= 0.5}
    assert set(few.unit_id) == expected
    noise = sum(unit.quality != "good" for unit in truth)
    unknown = sum(u.quality == "good" and np.isnan(u.metrics["isi_violations"]) for u in truth)
    assert few.attrs["hidden"] == [
        {"why": "quality is not good", "rows": noise, "unknown": 0},
        {"why": "isi_violations is more than 0.5", "rows": 72 - noise - len(expected), "unknown": unknown},
    ]
    assert set(local.units(amplitude_cutoff_at_most=0).amplitude_cutoff) == {0}  # 0 is a limit
    assert len(local.units(presence_ratio_at_least=0.99)) < 72
    assert len(local.channels(query="not valid_data")) == 6
    assert len(local.units(valid_channels=True)) == 72


def test_a_filter_on_a_column_that_a_release_lacks_is_refused(allen_server, tmp_path):
    source = cubes.source("allen-vbn", version="0.4.0", old=True, endpoint=allen_server.url, cache=tmp_path / "cache")
    assert source.table("units").attrs["missing"] == ["quality"]
    with pytest.raises(NotFound, match="its table units has no quality"):
        source.units(quality="good")


def test_which_channels_are_valid_is_told_by_the_channels_whatever_the_units_have(local):
    """A release need not have `valid_data` of units."""
    units = local.table("units")
    del units["valid_data"]
    peak = units.ecephys_channel_id.iloc[0]
    channels = local.table("channels")
    channels.loc[channels.ecephys_channel_id == peak, "valid_data"] = False
    n_there = int((units.ecephys_channel_id == peak).sum())
    assert len(local.units(valid_channels=True)) == len(units) - n_there < len(units)


def test_every_unit_has_its_channel_probe_and_session(local, allen_release):
    units = local.units().set_index("unit_id")
    for session in allen_release.sessions:
        for unit in session.units:
            row = units.loc[unit.unit_id]
            assert (row.probe_name, row.mouse_id) == (unit.probe.name, str(session.mouse_id))
            assert (row.probe_channel_number, row.ecephys_session_id) == (unit.row, session.session_id)
            assert row.amplitude == unit.metrics["amplitude"]  # to the last bit
    assert list(local.probes().name) == ["probeA", "probeB"] * 3
    assert not [name for name in units if name.endswith(("_x", "_y"))]


def test_the_catalog_knows_units_and_regions_without_opening_a_file(allen_server, allen_release, tmp_path):
    source = cubes.source("allen-vbn", endpoint=allen_server.url, cache=tmp_path / "cache")
    catalog = cubes.catalog(tmp_path / "root")
    catalog.add_source(source)
    assert not [request for request in allen_server.gets() if ".nwb" in request.path]
    units = catalog.units()
    truth = allen_release.unit_truth
    assert set(units.uuid) == {f"allen-vbn-{number}" for number in truth}
    for row in units.itertuples():
        unit = truth[int(row.uuid.removeprefix("allen-vbn-"))]
        assert row.pid == f"allen-vbn-{unit.probe.probe_id}"
        assert (row.channel, row.depth_um) == (unit.row, unit.probe.vertical_um[unit.row])
        acronym = unit.probe.acronyms[unit.row].split("-")[0]
        assert row.acronym_allen == (acronym if acronym not in ("", "None") else "void")
        ccf = unit.probe.ccf[unit.row]
        np.testing.assert_array_equal([row.ccf_ap, row.ccf_dv, row.ccf_ml], ccf if ccf.any() else [np.nan] * 3)
        bound = unit.metrics["isi_violations"] <= 0.5 and unit.metrics["amplitude_cutoff"] <= 0.1
        known = not np.isnan(unit.metrics["isi_violations"])
        assert (row.good is pd.NA) == (not known)
        assert not known or bool(row.good) == (bound and unit.quality == "good")
        assert np.isnan(row.label)
    assert units.hemisphere.isna().all()
    of_probe = units[units.pid == pid_of(allen_release.sessions[0])]
    assert of_probe.uuid.to_list() == sorted(of_probe.uuid)
    assert of_probe.unit.to_list() == list(range(12))
    channels = catalog.channels()
    assert len(channels) == 6 * 384
    assert channels.groupby("pid").channel.max().eq(383).all()
    assert set(catalog.sessions().projects) == {"NeuropixelVisualBehavior"}
    assert catalog.datasets().blake2b.str.len().eq(128).all()


def test_the_tables_and_the_files_name_the_same_units(local, tmp_path):
    """The tables of the catalog come from csv, the stores from NWB; both must mean the same by a unit and by good."""
    catalog = cubes.catalog(tmp_path)
    catalog.add_source(local)
    for insertion in local.insertions():
        rows = catalog.units(pid=insertion.pid)
        sorting = Inputs(local, insertion.pid).sorting
        assert rows.unit.to_list() == list(range(len(sorting.units)))
        assert rows.uuid.to_list() == sorting.units.uuid.tolist()
        assert rows.channel.to_list() == sorting.units.channel.tolist()
        assert rows.good.fillna(False).to_list() == sorting.units.good.tolist()
        assert set(rows.sorter) | set(rows.revision) == {sorting.sorter, sorting.revision}
        np.testing.assert_array_equal(rows.snr, sorting.units.metrics["snr"])
        np.testing.assert_array_equal(rows.ccf_ml, sorting.channels.locations.ccf_ml[sorting.units.channel])


def test_region_queries_are_those_of_ibl(local, allen_release, tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_source(local)
    registered = [s for s in allen_release.sessions if s.registered]
    assert set(catalog.insertions(region="HPF").pid) == {pid_of(s, n) for s in registered for n in ("probeA", "probeB")}
    assert set(catalog.insertions(region="DG").pid) == {pid_of(s) for s in registered}
    visual = catalog.insertions(region="VIS")
    assert len(visual) == 6  # cortical labels of the unregistered session come from imaging
    inside = catalog.units(region="CA1")
    assert set(inside.acronym_allen) == {"CA1"}
    assert inside.attrs["hidden"][0]["unknown"] == catalog.units().acronym_allen.eq("void").sum()
    assert len(catalog.insertions(min_good_units=3)) == 6
    assert len(catalog.insertions(query="dataset == 'allen-vbn'")) == 6
    only = cubes.catalog(tmp_path / "one")
    only.add_source(local, [pid_of(allen_release.sessions[0])])
    assert set(only.units().pid) == {pid_of(allen_release.sessions[0])}
    with pytest.raises(NotFound, match=r"the release has 'kilosort2', '0\.5\.0'"):
        only.add_source(local, sorter="pykilosort")


def test_both_data_sets_lie_in_one_catalog(local, sample_source, tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_source(local)
    catalog.add_source(sample_source)
    assert catalog.insertions().dataset.value_counts().to_dict() == {"allen-vbn": 6, "ibl": 3}
    assert {name.split("-")[0] for name in catalog.insertions(region="CA1").pid} > {"allen"}


def test_presence_tells_which_probes_have_lfp(local, sample_source, allen_release, tmp_path):
    without = pid_of(allen_release.sessions[2])
    catalog = cubes.catalog(tmp_path)
    catalog.add_source(local)
    for known in (local, catalog):
        found = cubes.presence(known)
        assert found.dataset.values.tolist() == ["sorting", "lfp"]
        assert found.state.sel(dataset="sorting").values.tolist() == [2] * 6
        lfp = found.state.sel(dataset="lfp")
        assert found.insertion[lfp.values == 0].pid.values.tolist() == [without]
        assert str(found.reason.sel(dataset="lfp")[lfp.values == 0].values[0]) == "no LFP of probeA in the release"
    catalog.add_source(sample_source)
    assert set(cubes.presence(catalog).state.sel(dataset="lfp").values.tolist()) == {0, 2}


def test_the_command_line_finds_regions_and_takes_the_folder(allen_release, tmp_path, capsys, monkeypatch):
    from cubes.cli import run

    monkeypatch.setenv("IBL_CUBES_CACHE", str(tmp_path / "cache"))
    assert run(["catalog", str(tmp_path), "--source", str(allen_release.bucket)]) == 0
    capsys.readouterr()
    assert run(["find", "--catalog", str(tmp_path), "--region", "CA1", "--min-good-units", "0"]) == 0
    found = capsys.readouterr().out.split()
    assert found == sorted(pid_of(s) for s in allen_release.sessions if s.registered)


def test_the_command_line_takes_the_bucket(allen_server, tmp_path, capsys, monkeypatch):
    from cubes.cli import run

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", allen_server.url)
    assert run(["catalog", str(tmp_path), "--source", "allen-vbn", "--cache", str(tmp_path / "cache")]) == 0
    assert "6 insertions, 72 units, 2,304 channels" in capsys.readouterr().out


def test_what_is_no_release_is_refused(tmp_path):
    with pytest.raises(NotFound, match="does not exist"):
        cubes.source("allen-vbn", tmp_path / "none", cache=tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="file: is a file"):
        cubes.source("allen-vbn", tmp_path / "file", cache=tmp_path / "cache")
    name = r"visual-behavior-neuropixels_project_manifest_v0\.5\.0\.json"
    with pytest.raises(NotFound, match=rf"no manifest of release 0\.5\.0; it has none; name the one with {name} or"):
        cubes.source("allen-vbn", tmp_path, cache=tmp_path / "cache")
    with pytest.raises(BadArgument, match=r"version: expected one such as 0\.5\.0, got 0\.5"):
        cubes.source("allen-vbn", tmp_path, version=0.5)
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(
            NotFound, match=r"has no sessions\.csv, probes\.csv, channels\.csv, units\.csv; name the one"
        ):
            cubes.source("allen-vc", folder)
    with pytest.raises(BadArgument, match=r"source 'allen-vbn'.*it takes folder, version"):
        cubes.source("allen-vbn", tmp_path, revision="0.5.0")
