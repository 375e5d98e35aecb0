"""The Allen Visual Coding recordings: the same catalog over four tables and listed files."""

from pathlib import Path

import numpy as np
import pytest
from allen_files import CODING_BUCKET, CODING_PREFIX, write_coding_release
from s3_server import versioned_bucket

import cubes
from loaders import allen_coding
from loaders.allen_tables import read_table
from loaders.errors import NotFound
from loaders.fetcher import fetch
from loaders.readers import check_file

REAL = Path(__file__).parents[2] / "shared/realdata/AllenNeuropixels.jl"


@pytest.fixture(scope="module")
def coding(tmp_path_factory):
    """The bucket on this machine, and what is true of its session."""
    folder = tmp_path_factory.mktemp("coding")
    return folder / CODING_BUCKET, write_coding_release(folder)


@pytest.fixture(scope="module")
def endpoint(coding):
    bucket, _ = coding
    files = [path for path in bucket.rglob("*") if path.is_file()]
    with versioned_bucket(CODING_BUCKET, [(f.relative_to(bucket).as_posix(), "v1", f) for f in files]) as endpoint:
        yield endpoint


@pytest.fixture(params=["mounted", "folder", "s3"])
def source(request, coding, tmp_path):
    if request.param == "s3":
        return cubes.source("allen-vc", endpoint=request.getfixturevalue("endpoint"), cache=tmp_path / "cache")
    folder = coding[0] / (CODING_PREFIX if request.param == "folder" else "")
    return cubes.source("allen-vc", folder, cache=tmp_path / "cache")


def test_a_session_has_the_files_that_are_listed(source, coding):
    bucket, session = coding
    insertions = source.insertions()
    assert [insertion.pid for insertion in insertions] == [f"allen-vc-{probe.probe_id}" for probe in session.probes]
    assert {insertion.eid for insertion in insertions} == {f"allen-vc-{session.session_id}"}
    assert source.table("ecephys_sessions").date_of_acquisition.str[:4].tolist() == ["2019"]  # of packaging
    assert {insertion.date for insertion in insertions} == {""}
    records = source.datasets(insertions[0])
    assert [record.collection for record in records] == ["probeA", ""]  # probeB has no LFP, whatever a flag says
    fetch(records)
    for record in records:
        assert record.path.read_bytes() == next(bucket.rglob(record.name)).read_bytes()
        assert record.size == check_file(record).size
    with pytest.raises(NotFound, match="allen-vc-1': not in allen-vc, which has"):
        source.insertion("allen-vc-1")


def test_tables_have_the_names_of_visual_behavior(source, coding):
    _, session = coding
    units = source.units().set_index("unit_id")
    for unit in session.units:
        row = units.loc[unit.unit_id]
        # In the file of channels, local_index is that of the channel.
        assert (row.local_index, row.probe_channel_number) == (unit.local_index, unit.row)
        assert (row.probe_name, row.ecephys_session_id) == (unit.probe.name, session.session_id)
        assert (row.amplitude, row.PT_ratio) == (unit.metrics["amplitude"], unit.metrics["PT_ratio"])
    assert not [name for name in units if name.endswith(("_x", "_y"))]
    assert len(source.units(quality="good", isi_violations_at_most=0.5)) < len(units)
    with pytest.raises(NotFound, match="has no abnormal_histology"):
        source.sessions(normal=True)
    with pytest.raises(NotFound, match="Visual Coding has ecephys_sessions, probes, channels, units"):
        source.table("behavior_sessions")


def test_the_catalog_takes_left_right_from_the_table(coding, tmp_path):
    """In the files of Visual Coding, z is a copy of y; what was not registered is -1000 in the tables."""
    bucket, session = coding
    catalog = cubes.catalog(tmp_path)
    notes = catalog.add_source(cubes.source("allen-vc", bucket, cache=tmp_path / "cache"))
    assert "48 of 768 places are not registered to the CCF: no coordinates" in notes
    sites = catalog.channels(pid=f"allen-vc-{session.probes[1].probe_id}")
    truth = np.where(session.probes[1].ccf == -1000, np.nan, session.probes[1].ccf)
    np.testing.assert_array_equal(sites[["ccf_ap", "ccf_dv", "ccf_ml"]].to_numpy(), truth)
    assert len(catalog.insertions(region="CA1")) == 1
    assert catalog.units().uuid.str.startswith("allen-vc-").all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not there")
def test_the_real_tables_are_read():
    sessions = read_table(REAL / "sessions.csv", allen_coding._SESSIONS)
    probes = read_table(REAL / "probes.csv", allen_coding._PROBES)
    assert (len(sessions), len(probes)) == (58, 332)
    assert sessions.attrs["missing"] == probes.attrs["missing"] == []
    assert set(probes.ecephys_session_id) == set(sessions.ecephys_session_id)
    assert probes.lfp_temporal_subsampling_factor.isna().sum() == 5
