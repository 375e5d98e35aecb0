"""Which data are there: every combination of raw and derived files, and the recorded answers of the database."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cubes
from cubes.cli import run
from loaders.alf_paths import record_of
from loaders.presence import COMPLETE, ERROR, MISSING, STATES, UNKNOWN, presence_of
from loaders.sample import SAMPLE

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "realdata"
real_tables = pytest.mark.skipif(not REAL.is_dir(), reason="the real tables are not on this machine")
RAW = "raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.imec0"
SORTING = [f"alf/probe00/pykilosort/{name}.npy" for name in ("spikes.times", "spikes.clusters", "clusters.channels")]
BOMBCELL = "spike_sorters/pykilosort/probe00/bombcell/templates._bc_qMetrics.parquet"
VIDEO, POSE = "raw_video_data/_iblrig_leftCamera.raw.mp4", "alf/_ibl_leftCamera.lightningPose.pqt"
INTERVALS = "_ibl_passivePeriods.intervalsTable.csv"


def items(*paths, **facts):
    return presence_of([record_of(Path("session"), path) for path in paths], "probe00", **facts)


RULES = {
    "passive.intervals": ("raw_passive_data/_iblrig_RFMapStim.raw.bin", f"alf/{INTERVALS}"),
    "passive_01.intervals": ("raw_task_data_01/_iblrig_RFMapStim.raw.bin", f"alf/task_01/{INTERVALS}"),
    "ap.ch": (f"{RAW}.ap.cbin", f"{RAW}.ap.ch"),
    "lf.meta": (f"{RAW}.lf.cbin", f"{RAW}.lf.meta"),
    "clock.sync": (f"{RAW}.ap.cbin", f"{RAW}.sync.npy"),
    "clock.timestamps": (f"{RAW}.ap.cbin", f"{RAW}.timestamps.npy"),
    "sorting": (f"{RAW}.ap.cbin", SORTING),
    "bombcell": (SORTING, BOMBCELL),
    "leftCamera.pose": (VIDEO, POSE),
}


@pytest.mark.parametrize("item", RULES)
@pytest.mark.parametrize(("raw", "derived"), list(itertools.product((False, True), repeat=2)))
def test_the_rule_of_three(item, raw, derived):
    sources, results = ([paths] if isinstance(paths, str) else paths for paths in RULES[item])
    slot = ["raw_task_data_01/_iblrig_taskSettings.raw.json"] if item.startswith("passive_01") else []
    found = items(*(sources if raw else ()), *(results if derived else ()), *slot)[item]
    assert found.state == (COMPLETE if derived else ERROR if raw else MISSING)
    assert bool(found.reason) == (found.state != COMPLETE)
    assert set(found.files) == (set(results) if derived else set())


@pytest.mark.parametrize("kinds", list(itertools.product((False, True), repeat=3)))
def test_a_band_is_complete_with_all_of_its_files(kinds):
    names = [kind for kind, there in zip(("cbin", "ch", "meta"), kinds, strict=True) if there]
    band = items(*(f"{RAW}.lf.{name}" for name in names), f"{RAW}.ap.cbin")["lf"]
    expected = MISSING if "cbin" not in names else COMPLETE if len(names) == 3 else ERROR
    assert band.state == expected
    if expected == ERROR:
        assert [name in band.reason for name in (".ch", ".meta")] == [not there for there in kinds[1:]]
    if names in (["ch"], ["meta"], ["ch", "meta"]):
        assert band.reason.endswith(f"of its files only .{', .'.join(names)}")


@pytest.mark.parametrize("imec", ["imec0", "imec00", "imec", "imec1"])
def test_a_probe_is_found_however_its_number_is_written(imec):
    stem = f"raw_ephys_data/probe00/_spikeglx_ephysData_g0_t0.{imec}"
    kinds = ("ap.cbin", "ap.ch", "ap.meta", "sync.npy", "timestamps.npy")
    found = items(*(f"{stem}.{kind}" for kind in kinds))
    for name in ("ap", "ap.cbin", "ap.ch", "ap.meta", "clock.sync", "clock.timestamps"):
        assert found[name].state == COMPLETE, name
    assert items(f"raw_ephys_data/probe01/x_g0_t0.{imec}.ap.cbin")["ap"].state == MISSING  # another probe


def test_uncompressed_voltage_needs_no_index():
    found = items(f"{RAW}.ap.bin", f"{RAW}.ap.meta")
    assert (found["ap"].state, found["ap.ch"].state, found["ap"].detail) == (COMPLETE, COMPLETE, "uncompressed")


def test_a_task_that_is_not_passive_has_no_passive_data():
    found = items("raw_task_data_00/_iblrig_taskSettings.raw.json", f"alf/task_01/{INTERVALS}")
    assert [found[f"passive_{slot}.{name}"].state for slot in ("00", "01") for name in ("intervals", "stims")] == [
        MISSING, MISSING, COMPLETE, ERROR,
    ]  # fmt: skip
    assert "passive.intervals" not in found
    assert items("alf/other.a.npy")["passive.gabor"].state == MISSING


def test_which_sorting_it_is_with_the_version_of_its_software():
    revised = [path.replace("pykilosort/", "pykilosort/#2024-05-06#/") for path in SORTING]
    found = items(*SORTING, *revised, versions={revised[0]: "2.35.0", SORTING[0]: "1.2"})["sorting"]
    assert found.detail == "pykilosort/2024-05-06/2.35.0"
    broken = items(*SORTING[1:])["sorting"]
    assert broken.state == ERROR
    assert "spikes.times is missing" in broken.reason


def test_lightning_pose_is_preferred_and_dlc_counts():
    dlc = POSE.replace("lightningPose", "dlc")
    assert items(dlc)["leftCamera.pose"].detail == "dlc"
    assert items(dlc, POSE)["leftCamera.pose"].detail == "lightningPose"
    assert items("raw_video_data/_iblrig_leftCamera.raw.avi.txt")["leftCamera.video"].state == MISSING


@pytest.mark.parametrize(
    ("qc", "video", "state", "detail"),
    [
        ({"_videoLeft_dropped_frames": ["NOT SET", 1], "_videoLeft_timestamps": False, "_videoLeft_pin_state": "PASS"},
         False, COMPLETE, "dropped_frames NOT_SET, timestamps FAIL, pin_state PASS"),
        ({"_videoLeft_timestamps": True, "_videoLeft_pin_state": None}, True, ERROR, "timestamps PASS"),
        ({}, False, MISSING, ""),
    ],
)  # fmt: skip
def test_outcomes_of_video_quality(qc, video, state, detail):
    found = items(*([VIDEO] if video else []), video_qc=qc)["leftCamera.qc"]
    assert (found.state, found.detail) == (state, detail)
    assert "leftCamera.qc" not in items(VIDEO)


@pytest.mark.parametrize(
    ("histology", "tracing", "alignment"),
    [
        ("none", MISSING, MISSING),
        ("traced", COMPLETE, ERROR),
        ("aligned", COMPLETE, ERROR),
        ("resolved", COMPLETE, COMPLETE),
        (None, MISSING, MISSING),
    ],
)
def test_tracing_and_alignment(histology, tracing, alignment):
    found = items(histology=histology)
    assert [found[f"histology.{name}"].state for name in ("tracing", "alignment")] == [tracing, alignment]


def test_without_the_database_the_files_of_the_alignment_tell():
    found = items("alf/probe00/electrodeSites.mlapdv.npy", "alf/probe01/electrodeSites.mlapdv.npy")
    assert found["histology.alignment"].files == ("alf/probe00/electrodeSites.mlapdv.npy",)
    assert found["histology.alignment"].state == found["histology.tracing"].state == COMPLETE


def test_the_sample_as_a_dataset_with_flags(sample_root_with_voltage, tmp_path, capsys):
    source = cubes.source("one", sample_root_with_voltage)
    table = cubes.presence(source)
    assert table.state.dtype == np.int8
    assert table.state.dims == ("insertion", "dataset")
    assert (
        dict(zip(table.state.attrs["flag_meanings"].split(), table.state.attrs["flag_values"], strict=True)) == STATES
    )
    assert table.pid.values.tolist() == [insertion.pid for insertion in source.insertions()]
    assert (table.state.sel(dataset=["ap", "ap.cbin", "clock.sync", "sorting"]) == COMPLETE).all()
    assert (table.local.sel(dataset=["ap", "sorting"]) == 1).all()
    assert (table.local.sel(dataset="bombcell") == -1).all()
    assert table.detail.sel(dataset="sorting").values[0].startswith("pykilosort/2024-05-06/")
    one = cubes.presence(source, [SAMPLE[2].pid])
    assert one.sizes["insertion"] == 1
    assert one.isel(insertion=0).equals(
        table.isel(insertion=table.pid.values.tolist().index(SAMPLE[2].pid)).sel(dataset=one.dataset)
    )
    table.to_zarr(tmp_path / "presence.zarr", zarr_format=3, consolidated=False)
    assert run(["presence", str(sample_root_with_voltage), SAMPLE[0].pid, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["dataset"]: row["state"] for row in rows}["sorting"] == "complete"


def test_a_file_that_is_elsewhere_is_there_and_not_local(sample_root, tmp_path):
    source = cubes.source("one", sample_root)
    insertion = source.insertions()[0]

    class Moved:
        """The sample, as if the spikes were not on this machine."""

        def insertions(self):
            return [insertion]

        def datasets(self, insertion):
            return [
                record_of(
                    tmp_path if "spikes.times" in r.name else Path(r.path).parents[r.rel_path.count("/")], r.rel_path
                )
                for r in source.datasets(insertion)
            ]

    table = cubes.presence(Moved()).sel(dataset="sorting")
    assert (table.state.item(), table.local.item()) == (COMPLETE, 0)


def test_tables_that_do_not_have_all_files_say_unknown(sample_root, tmp_path):
    catalog = cubes.catalog(tmp_path)
    catalog.add_release("2023_12_bwm_release")
    catalog.add_source(sample_root, units=False)
    table = cubes.presence(catalog)
    by_pid = table.state.assign_coords(insertion=table.pid)
    unlisted = cubes.release("2023_12_bwm_release")["pid"]
    assert (by_pid.sel(insertion=unlisted.tolist()) == UNKNOWN).all()
    listed = [probe.pid for probe in SAMPLE]
    direct = cubes.presence(cubes.source("one", sample_root))
    direct = direct.state.assign_coords(insertion=direct.pid).sel(insertion=listed)
    assert by_pid.sel(insertion=listed, dataset=direct.dataset.values).equals(direct)
    with pytest.raises(cubes.NotFound, match="pid 'nobody': not in the catalog"):
        cubes.presence(catalog, ["nobody"])


@real_tables
def test_the_recorded_answers_equal_brute_force(tmp_path):
    folder = REAL / "paper-reproducible-ephys" / "one_cache" / ".rest"
    answers = [json.loads(path.read_text())[0] for path in sorted(folder.iterdir())]
    insertions = [answer for answer in answers if "session_info" in answer]
    qc = json.loads((REAL / "IBL-to-nwb" / "bwm_qc.json").read_text())
    catalog = cubes.catalog(tmp_path)
    catalog.add_alyx(insertions)
    table = cubes.presence(catalog, video_qc=qc)
    state = pd.DataFrame(table.state.values, index=table.pid.values, columns=table.dataset.values)
    detail = pd.DataFrame(table.detail.values, index=table.pid.values, columns=table.dataset.values)
    assert len(state) == 20
    for answer in insertions:
        names = {record["name"] for record in answer["datasets"] if record["collection"].startswith("raw_ephys_data")}
        for item, suffix in [("ap.cbin", ".ap.cbin"), ("lf.ch", ".lf.ch"), ("ap.meta", ".ap.meta")]:
            assert (state.loc[answer["id"], item] == COMPLETE) == any(name.endswith(suffix) for name in names)
        for item in ("clock.sync", "clock.timestamps"):
            ending = f".{item.split('.')[1]}.npy"
            there = any(name.startswith("_spikeglx_ephysData") and name.endswith(ending) for name in names)
            assert (state.loc[answer["id"], item] == COMPLETE) == there
        times = [record for record in answer["datasets"] if record["name"] == "spikes.times.npy"]
        newest = max(times, key=lambda record: record["data_url"].partition("#")[2])
        sorter, revision, version = detail.loc[answer["id"], "sorting"].split("/")
        assert sorter == "pykilosort"
        assert f"#{revision}#" in newest["data_url"] if revision else "#" not in newest["data_url"]
        assert version == newest["version"]
        outcomes = [
            qc.get(answer["session"], {}).get(f"_videoLeft_{key}")
            for key in ("dropped_frames", "timestamps", "pin_state")
        ]
        outcomes = [outcome[0] if isinstance(outcome, list) else outcome for outcome in outcomes]
        complete = all(outcome is not None for outcome in outcomes)
        assert state.loc[answer["id"], "leftCamera.qc"] == (COMPLETE if complete else UNKNOWN)
    assert (state["histology.alignment"] == COMPLETE).all()
    assert (state["passive.intervals"] == UNKNOWN).all()  # an insertion lists the files of its probe alone
