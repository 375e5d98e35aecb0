"""The suite of layouts: every case once, small, equal to the truth; its tables and figures; what its store counts."""

import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

from chunking.patterns import patterns_of

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    """Import modules of the benchmarks."""
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The suite in a process of its own; its JSON and its folder of data."""
    folder = tmp_path_factory.mktemp("suite")
    options = ["--quick", "--data", folder / "data", "--benchmark-json", folder / "ran.json", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *options, BENCHMARKS]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # no xdist within
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BENCHMARKS.parent, env=alone)
    assert result.returncode == 0, result.stdout[-3000:]
    return json.loads((folder / "ran.json").read_text()), folder


def test_every_layout_of_every_data_set_is_compared_and_tables_and_figures_come_of_it(ran, modules, tmp_path):
    bench, datasets, layouts = (modules(name) for name in ("bench_layouts", "datasets", "layouts_compared"))
    runs = bench.frame(ran[0])
    of = {
        name: len(layouts.LAYOUTS[dataset.product]) for name, dataset in datasets.DATASETS.items() if not dataset.long
    }
    seen = runs.groupby("dataset").layout.nunique()
    assert dict(seen) == of
    cases = bench.relative(runs)
    assert len(cases) == len(runs)
    assert (cases.groupby(["dataset", "pattern", "place"])["times"].min() == 1).all()
    assert (cases.requests > 0).all()
    sections = bench.sections(runs, 1.0)
    (table,) = sections["defaults"].tables
    assert [row[0] for row in table.rows] == list(of)
    assert {row[-1][:2] for row in table.rows} <= {"ye", "NO"}
    assert len(sections["layouts"].tables) == 4 * len(of)
    assert (tmp_path / bench.figure_of("lf_600s", cases, tmp_path)).stat().st_size > 10_000


def test_a_wrong_cell_is_noticed(ran, modules):
    cases, layouts = modules("cases"), modules("layouts_compared")
    bench = cases.Bench(ran[1] / "data", 0.0, quick=True)
    case = cases.Case("counts_20ms", 0, "scan", "local", layouts.LAYOUTS["counts_20ms"][0])
    bench.check(case, bench.run(case, bench.open(case)))
    wrong = np.array(bench.array("counts_20ms"))
    wrong[7, 9] += 1
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        bench.check(case, bench.run(case, wrong))


def test_the_score_is_a_geometric_mean_of_times_over_the_best(modules):
    pd, bench = modules("pandas"), modules("bench_layouts")
    cases = [("d", "one", "local", "a", 1.0), ("d", "two", "local", "a", 4.0), ("d", "one", "far", "a", 9.0)]
    found = bench.scores(pd.DataFrame(cases, columns=["dataset", "pattern", "place", "layout", "times"]))
    np.testing.assert_allclose(found.loc["d", "a"][["local", "far", "both"]], [2, 9, 18**0.5])


def test_what_is_advised_is_looked_up_in_the_table(modules):
    pd, advice = modules("pandas"), modules("advice_compared")
    seconds = {"unit": (3.0, 1.0, 9.0), "window-1s": (1.1, 4.0, 1.0), "scan": (2.0, 2.0, 1.0)}
    rows = [
        ("counts_20ms", pattern, place, layout, taken)
        for pattern, three in seconds.items()
        for layout, taken in zip(("balanced", "by-unit", "by-time", "other"), (*three, 0.1), strict=True)
        for place in ("local", "far")
    ]
    cases = pd.DataFrame(rows, columns=["dataset", "pattern", "place", "layout", "median"])
    said = {"all together": "balanced", "unit": "by-unit", "window-1s": "balanced", "scan": "by-unit"}
    table = advice.advice_table(cases, {"counts_20ms": said})
    assert "in 3 of 4 rows" in table.caption
    assert table.rows == [
        ["counts_20ms", "all together", "balanced", "balanced", "1.00"],
        ["counts_20ms", "unit", "by-unit", "by-unit", "1.00"],
        ["counts_20ms", "window-1s", "balanced", "by-time", "1.10"],
        ["counts_20ms", "scan", "by-unit", "by-time", "2.00"],
    ]


def test_the_advisor_is_asked_about_every_pattern(modules, monkeypatch):
    datasets, advice = modules("datasets"), modules("advice_compared")
    monkeypatch.setattr(advice, "LIMIT_S", 0)
    short = dataclasses.replace(datasets.DATASETS["lfp_250hz"], shape=(384, 2500))
    said = advice.advice_of(short)
    assert list(said) == ["all together", *(one.name for one in patterns_of("lf"))]
    assert set(said.values()) <= {"balanced", "by-time", "by-channel"}


def test_a_shard_holds_whole_chunks_and_is_no_larger_than_needed(modules):
    layouts = modules("layouts_compared")
    sharded = layouts.Layout("x", "", (100, 30), (384, 300))
    assert layouts.fitted(sharded, (384, 1000)) == ((100, 30), (400, 300))
    assert layouts.fitted(sharded, (40, 100)) == ((40, 30), (40, 120))
    assert layouts.fitted(layouts.Layout("x", "", (100, 10**9)), (384, 70)) == ((100, 70), None)


@pytest.mark.parametrize("shards", [None, (40, 60)])
def test_requests_and_bytes_are_counted_and_take_their_time(modules, tmp_path, shards):
    store = modules("metered_store")
    path = tmp_path / "array"
    data = np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)
    zarr.create_array(path, data=data, chunks=(10, 60), shards=shards, compressors=None)
    meter = store.Meter()
    local = zarr.storage.LocalStore(path, read_only=True)
    far = store.MeteredStore(local, meter=meter, get_latency=0.05, bytes_per_s=1e4)
    array = zarr.open_array(far, mode="r")
    start = time.perf_counter()
    np.testing.assert_array_equal(array[10:20], data[10:20])
    seconds = time.perf_counter() - start
    index = 0 if shards is None else 4 * 16 + 4
    assert (meter.requests, meter.bytes) == (1 if shards is None else 2, 600 + index)
    assert len(meter.files) == 1
    assert seconds >= meter.requests * 0.05 + meter.bytes / 1e4


@pytest.mark.parametrize(("name", "low", "high"), [("ap_30s", 2.5, 3.0), ("lf_600s", 3.0, 3.6)])
def test_voltage_compresses_as_real_voltage_does(ran, modules, tmp_path, name, low, high):
    import mtscomp

    array, folder = modules("datasets").load(name, ran[1] / "data", quick=True), tmp_path
    (folder / "x.bin").write_bytes(np.ascontiguousarray(array.T).tobytes())
    options = {"sample_rate": 1e4, "n_channels": len(array), "dtype": np.int16, "check_after_compress": False}
    mtscomp.compress(folder / "x.bin", folder / "x.cbin", folder / "x.ch", quiet=True, **options)
    assert low < (folder / "x.bin").stat().st_size / (folder / "x.cbin").stat().st_size < high


def test_data_are_the_same_every_time(modules, ran, tmp_path):
    datasets = modules("datasets")
    for name in ("counts_1ms", "spikes", "pooled", "lfp_250hz"):
        first = datasets.load(name, ran[1] / "data", quick=True)
        np.testing.assert_array_equal(datasets.load(name, tmp_path, quick=True), first)
    shutil.rmtree(tmp_path / "quick")
