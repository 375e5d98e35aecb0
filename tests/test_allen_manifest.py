"""The manifest of an Allen release: parsed strictly, versions in order, what changed between two."""

import copy
import json
from dataclasses import replace

import pytest
from allen_files import NEW, OLD, PROJECT

from loaders.allen_manifest import (
    check_version,
    compare,
    manifest_name,
    parse_manifest,
    parse_version,
    versions_of,
)
from loaders.errors import BadArgument, CorruptData, NotFound


@pytest.fixture
def said(allen_release):
    return copy.deepcopy(allen_release.manifests[NEW])


def parsed(said):
    return parse_manifest(json.dumps(said), "the manifest")


def test_a_manifest_names_tables_and_files(said, allen_release):
    manifest = parsed(said)
    assert manifest.version == NEW
    assert set(manifest.tables) == {"ecephys_sessions", "behavior_sessions", "units", "probes", "channels"}
    assert sorted(manifest.files) == list(range(11))
    file = manifest.file(0, "LFP")
    assert file.rel_path == "behavior_ecephys_sessions/1044385384/probe_probeA_lfp.nwb"
    assert (file.bucket, file.key) == ("visual-behavior-neuropixels-data", f"{PROJECT}/{file.rel_path}")
    assert (file.key, file.version_id) in allen_release.objects


def test_what_is_no_file_is_not_found(said):
    manifest = parsed(said)
    with pytest.raises(NotFound, match=r"LFP of probeA: the release 0\.5\.0 has no such file \(its file_id is -999\)"):
        manifest.file(-999, "LFP of probeA")
    with pytest.raises(NotFound, match="has no file 99; files are numbered anew"):
        manifest.file(99, "LFP of probeA")
    with pytest.raises(NotFound, match="no table 'sessions'; its tables are"):
        manifest.table("sessions")


DAMAGE = {
    "no JSON": lambda said: "{",
    "a list": lambda said: [],
    "another project": lambda said: said | {"project_name": "visual-behavior-ophys"},
    "another key": lambda said: said | {"metadata_file_id_column_name": "id"},
    "no version": lambda said: {name: value for name, value in said.items() if name != "manifest_version"},
    "half a version": lambda said: said | {"manifest_version": "0.5"},
    "a number that is none": lambda said: said | {"data_files": {"1.0": said["data_files"]["1"]}},
    "no files": lambda said: said | {"data_files": None},
}
ENTRIES = {
    "no hash": {"file_hash": ""},
    "md5": {"file_hash": "0" * 32},
    "no version": {"version_id": ""},
    "no text": {"version_id": 3},
    "a query": {"version_id": "a&b=c"},
    "plain http": {"url": f"http://b.s3.us-west-2.amazonaws.com/{PROJECT}/x.csv"},
    "another host": {"url": f"https://example.org/{PROJECT}/x.csv"},
    "another folder": {"url": "https://b.s3.us-west-2.amazonaws.com/elsewhere/x.csv"},
    "out of the folder": {"url": f"https://b.s3.us-west-2.amazonaws.com/{PROJECT}/../../x.csv"},
}


@pytest.mark.parametrize("row", DAMAGE)
def test_what_is_no_manifest_is_refused(row, said):
    bad = DAMAGE[row](said)
    with pytest.raises(CorruptData, match="the manifest: not a manifest of an Allen release"):
        parse_manifest(bad if isinstance(bad, str) else json.dumps(bad), "the manifest")


@pytest.mark.parametrize("row", ENTRIES)
@pytest.mark.parametrize("part", ["metadata_files", "data_files"])
def test_an_entry_that_is_not_whole_is_refused(row, part, said):
    said[part][next(iter(said[part]))] |= ENTRIES[row]
    with pytest.raises(CorruptData, match="not a manifest of an Allen release"):
        parsed(said)


def test_versions_are_numbers_not_text():
    names = [manifest_name(version) for version in ("0.5.0", "0.10.0", "0.4.0", "0.9.12")]
    assert versions_of([*names, "notes.txt", f"{PROJECT}_project_manifest_v1.json"]) == [
        *("0.4.0", "0.5.0", "0.9.12", "0.10.0"),
    ]
    for text in ("", "0.5", "v0.5.0", "0.5.0rc1", "latest"):
        with pytest.raises(BadArgument, match="expected one such as"):
            parse_version(text)


def test_releases_with_wrong_lfp_are_refused_unless_asked_for():
    check_version("0.5.0")
    check_version("0.10.0")
    check_version("0.4.0", old=True)
    with pytest.raises(BadArgument, match=r"got 0\.4\.0: before 0\.5\.0 the LFP of most sessions has a wrong scale"):
        check_version("0.4.0")


def test_what_changed_between_two_releases(allen_release):
    old, new = (parsed(allen_release.manifests[version]) for version in (OLD, NEW))
    changes = compare(old, new)
    session = "behavior_ecephys_sessions/1044385384"
    names = ("behavior_sessions", "ecephys_sessions", "probes", "units")
    assert changes.changed == (
        f"{session}/ecephys_session_1044385384.nwb",
        f"{session}/probe_probeA_lfp.nwb",
        *(f"project_metadata/{name}.csv" for name in names),
    )
    assert changes.created == ("behavior_ecephys_sessions/1065437523/probe_probeB_lfp.nwb",)
    assert (changes.renamed, changes.deleted) == ((), ())
    assert compare(new, old).deleted == changes.created
    moved = replace(new.file(3, ""), rel_path="elsewhere.nwb")
    assert compare(new, replace(new, files=new.files | {3: moved})).renamed == (
        (new.files[3].rel_path, "elsewhere.nwb"),
    )
    assert not any(getattr(compare(new, new), name) for name in ("changed", "renamed", "deleted", "created"))
