"""One sorter, one revision: never a mixture, never another one than asked for."""

from pathlib import Path

import pytest

from loaders.alf_paths import record_of, split_alf_path
from loaders.errors import InconsistentData, NotFound
from loaders.resolve import resolve_sorting

FILES = ("spikes.times.npy", "spikes.clusters.npy", "clusters.channels.npy", "clusters.metrics.pqt")


def records(*folders, files=FILES, default=()):
    return [
        record_of(Path("/session"), f"{folder}/{name}", default=folder in default)
        for folder in folders
        for name in files
    ]


OLD, NEW = "alf/probe00/pykilosort", "alf/probe00/pykilosort/#2024-05-06#"


def test_the_asked_revision_and_only_that():
    for folder, revision in ((OLD, ""), (NEW, "2024-05-06")):
        resolved = resolve_sorting(records(OLD, NEW), "probe00", "pykilosort", revision)
        assert (resolved.sorter, resolved.revision, resolved.collection) == ("pykilosort", revision, OLD)
        assert {record.rel_path for record in resolved.files.values()} == {f"{folder}/{name}" for name in FILES}


def test_without_a_wish_the_default_revision_else_the_latest():
    assert resolve_sorting(records(OLD, NEW, default=[OLD]), "probe00").revision == ""
    assert resolve_sorting(records(OLD, NEW, default=[NEW]), "probe00").revision == "2024-05-06"
    assert resolve_sorting(records(OLD, NEW), "probe00").revision == "2024-05-06"


def test_a_file_that_the_revision_lacks_is_not_taken_from_another():
    mixed = records(OLD) + records(NEW, files=[name for name in FILES if name != "spikes.times.npy"])
    with pytest.raises(InconsistentData, match=r"spikes\.times is missing"):
        resolve_sorting(mixed, "probe00", revision="2024-05-06")
    optional = records(OLD) + records(NEW, files=[name for name in FILES if "metrics" not in name])
    assert "clusters.metrics" not in resolve_sorting(optional, "probe00", revision="2024-05-06").files


@pytest.mark.parametrize("revision", ["2020-01-01", "2024-12-31", "banana"])
def test_a_revision_that_does_not_exist(revision):
    with pytest.raises(NotFound, match=f"{revision!r} does not exist; revisions that exist: '', '2024-05-06'"):
        resolve_sorting(records(OLD, NEW), "probe00", revision=revision)


def test_a_sorter_that_does_not_exist():
    with pytest.raises(NotFound, match="'iblsorter' does not exist; sorters that exist: 'pykilosort'"):
        resolve_sorting(records(OLD), "probe00", sorter="iblsorter")


def test_sorter_preference_and_ambiguity():
    ibl = "alf/probe00/iblsorter"
    assert resolve_sorting(records(OLD, ibl), "probe00").sorter == "iblsorter"
    assert resolve_sorting(records("alf/probe00"), "probe00").sorter == ""
    with pytest.raises(NotFound, match="several sorters exist"):
        resolve_sorting(records("alf/probe00/ks2", "alf/probe00/ks4"), "probe00")
    assert resolve_sorting(records("alf/probe00/ks2", "alf/probe00/ks4"), "probe00", "ks4").sorter == "ks4"


def test_probes_and_namespaces_are_told_apart():
    both = records(OLD, OLD.replace("probe00", "probe01"), OLD.replace("probe00", "probe00a"))
    assert {r.collection for r in resolve_sorting(both, "probe00").files.values()} == {OLD}
    curated = record_of(Path("/session"), f"{OLD}/_av_.clusters.channels.npy")
    assert resolve_sorting([*records(OLD), curated], "probe00").files["clusters.channels"].name == FILES[2]
    with pytest.raises(NotFound, match="probe02: no spike sorting"):
        resolve_sorting(both, "probe02")


def test_parquet_before_csv_whatever_the_order():
    csv = record_of(Path("/session"), f"{OLD}/clusters.metrics.csv")
    for listed in ([csv, *records(OLD)], [*records(OLD), csv]):
        assert resolve_sorting(listed, "probe00").files["clusters.metrics"].name == "clusters.metrics.pqt"


def test_electrode_sites_have_a_revision_of_their_own():
    sites = [record_of(Path("/s"), f"alf/probe00/{r}electrodeSites.mlapdv.npy") for r in ("", "#2023-01-01#/")]
    assert resolve_sorting(records(OLD) + sites, "probe00").sites["electrodeSites.mlapdv"].revision == "2023-01-01"


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/d/lab/Subjects/NYU-11/2020-02-18/001", ("lab", "NYU-11", "2020-02-18", 1)),
        ("/d/NYU-11/2020-02-18/1", ("", "NYU-11", "2020-02-18", 1)),
        ("/d/session", ("", "", "", 0)),
    ],
)
def test_alf_paths(path, parts):
    assert split_alf_path(Path(path)) == parts
