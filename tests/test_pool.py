"""Pools: equal to brute force, labelled right at every border, resumable, and clear about what they leave out."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import cubes
from chunking.build import StoreTask
from chunking.manifest import read_manifest, store_files
from chunking.staging import staged
from cubes import pooled_product
from cubes.cli import run
from cubes.pool_recipe import read_recipe
from loaders.errors import BadArgument, CubesError, InconsistentData, NotFound, StoreError
from loaders.records import Insertion

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from pool_root import REGIONS, random_trials, write_spikes, write_trials  # noqa: E402

STOP_S = 60.0
RECIPE = {
    "name": "small",
    "units": "good",
    "trials": "bwm_include",
    "alignments": {
        "on_stim": {
            "on": "stimOn_times",
            "window": [-0.1, "0.5"],
            "width": "1/10",
            "stride": 0.05,
            "conditions": {
                "left": "contrastLeft == contrastLeft",
                "strong": "contrastLeft == 1 or contrastRight == 1",
                "early": "stimOn_times < 5",
                "none": "contrastLeft > 2",
            },
        },
        "moved": {
            "on": "firstMovement_times",
            "window": [0, 2],
            "width": 0.5,
            "conditions": {"all": "bwm_include"},
        },
    },
}
LABELS = (
    "acronym_allen", "acronym_beryl", "acronym_cosmos", "acronym_swanson", "atlas_id", "hemisphere", "x", "y", "z",
    "ccf_ap", "ccf_dv", "ccf_ml", "depth_um", "channel", "label", "good", "firing_rate", "ks2_label",
)  # fmt: skip
CONDITIONS = {  # the same, in Python, of one trial
    "left": lambda t: not np.isnan(t["contrastLeft"]),
    "strong": lambda t: t["contrastLeft"] == 1 or t["contrastRight"] == 1,
    "early": lambda t: t["stimOn_times"] < 5,
    "none": lambda t: False,
    "all": lambda t: True,
}


class Recorded:
    """What went into a root, by uuid."""

    def __init__(self, root):
        self.root = root
        self.trains, self.spans, self.eids, self.trials, self.pids = {}, {}, {}, {}, {}

    def add_session(self, eid, seed):
        trials = random_trials(np.random.default_rng(seed), 30, STOP_S)
        trials["stimOn_times"] = np.round(trials["stimOn_times"] * 480) / 480  # so that edges fall on spikes
        trials["stimOn_times"][[0, 3, 5]] = 4.5, np.nan, STOP_S + 3600
        trials["firstMovement_times"][0], trials["bwm_include"][0] = 4.8, True
        write_trials(self.root, eid, trials)
        self.trials[eid] = trials

    def add(self, pid, eid, seed, n=9, probe="probe00", metrics=None):
        rng = np.random.default_rng(seed)
        on_grid = [rng.integers(0, int(STOP_S * 480), rng.integers(1, 2000)) / 480 for _ in range(n)]
        trains = [np.sort(np.r_[train, rng.uniform(0, STOP_S, 50)]) for train in on_grid]
        trains[1] = np.zeros(0)
        label = rng.choice([1.0, 2 / 3, np.nan], n)
        label[[0, 1, n - 1]] = 1.0
        ids = ["" if i == 0 else str(uuid.UUID(int=1000 * seed + int(i))) for i in rng.permutation(n)]
        regions = rng.choice(list(REGIONS.values()), n)
        insertion = Insertion(pid, eid, probe, "lab", f"mouse-{eid}", "2021-02-03", 1)
        shared = {"firing_rate": rng.random(n), "ks2_label": np.array(["good", "mua", ""] * n, object)[:n]}
        write_spikes(self.root, insertion, trains, label, regions, ids, shared | (metrics or {}))
        last = max(train[-1] for train in trains if len(train))
        for i, name in enumerate(ids):
            key = name or f"{pid}:{i}"
            self.trains[key], self.spans[key], self.eids[key], self.pids[key] = trains[i], last, eid, pid


def make_root(folder):
    recorded = Recorded(folder)
    for number, eid in enumerate(("eid0", "eid1", "eid2")):
        recorded.add_session(eid, number)
    recorded.add("pid0", "eid0", 1)
    recorded.add("pid1", "eid0", 2, probe="probe01", metrics={"drift": np.arange(9.0)})
    recorded.add("pid2", "eid1", 3)
    recorded.add("pid3", "eid2", 4)
    return recorded


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A root that tests read only, each under a name of its own."""
    return make_root(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def recorded(shared, tmp_path):
    """A root of one's own."""
    copy = Recorded(tmp_path / "root")
    shutil.copytree(shared.root, copy.root, ignore=shutil.ignore_patterns("pooled", ".staging", ".readers"))
    copy.__dict__.update({name: value for name, value in shared.__dict__.items() if name != "root"})
    return copy


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """So small that insertions reach into several."""
    monkeypatch.setattr(pooled_product, "UNITS_PER_CHUNK", 4)


def brute_force(recorded, unit, alignment, condition):
    """The counts of every trial that goes in, (trial, bin)."""
    start, stop = Fraction(str(alignment["window"][0])), Fraction(str(alignment["window"][1]))
    width = Fraction(str(alignment["width"]))
    stride = Fraction(str(alignment.get("stride", alignment["width"])))
    n_bins = (stop - start - width) // stride + 1
    edges = [(float(start + j * stride), float(start + j * stride + width)) for j in range(n_bins)]
    trials, train, rows = recorded.trials[recorded.eids[unit]], recorded.trains[unit], []
    for i in range(len(trials["stimOn_times"])):
        trial = {name: values[i] for name, values in trials.items()}
        event = trial[alignment["on"]]
        if not trial["bwm_include"] or not CONDITIONS[condition](trial):
            continue
        if np.isnan(event) or event + edges[0][0] < 0 or event + edges[-1][1] > recorded.spans[unit]:
            continue
        rows.append([sum(1 for t in train if event + low <= t < event + high) for low, high in edges])
    return np.array(rows, float).reshape(len(rows), n_bins), float(width)


def test_every_cell_equals_brute_force(shared):
    ds = cubes.pool(shared.root, recipe=RECIPE)
    assert ds.on_stim.dims == ("unit", "condition_on_stim", "time_on_stim")
    assert ds.on_stim.chunks[0] == (4, 4, 4, 4, 4, ds.sizes["unit"] % 4)[: len(ds.on_stim.chunks[0])]
    assert ds.on_stim.attrs["units"] == ds.on_stim_sem.attrs["units"] == "Hz"
    ds, cells = ds.load(), 0
    for name, alignment in RECIPE["alignments"].items():
        assert ds[f"condition_{name}"].values.tolist() == list(alignment["conditions"])
        for condition in alignment["conditions"]:
            for unit in ds.unit.values.tolist():
                counts, width = brute_force(shared, unit, alignment, condition)
                found = ds.sel({"unit": unit, f"condition_{name}": condition})
                n = len(counts)
                assert found[f"{name}_n"] == n
                mean = counts.mean(0) / width if n else np.full(counts.shape[1], np.nan)
                sem = counts.std(0, ddof=1) / np.sqrt(n) / width if n > 1 else np.full(counts.shape[1], np.nan)
                np.testing.assert_allclose(found[name], mean, rtol=1e-6)
                np.testing.assert_allclose(found[f"{name}_sem"], sem, rtol=1e-6, atol=1e-6)
                cells += counts.sum()
    assert cells > 1000
    assert {0, 1} <= set(np.unique(ds.on_stim_n))  # conditions without trials, and with one
    assert np.isnan(ds.on_stim.sel(condition_on_stim="none")).all()


def test_times_say_where_the_bins_are(shared):
    ds = cubes.pool(shared.root, recipe=RECIPE)
    np.testing.assert_allclose(ds.time_on_stim, [-0.05, 0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
    attrs = ds.time_on_stim.attrs
    assert (attrs["bin_width_s"], attrs["stride_s"], attrs["t0"], attrs["units"]) == ("1/10", "1/20", -0.1, "s")
    assert attrs["event"] == "stimOn_times"
    assert ds.condition_moved.attrs["expressions"] == ["bwm_include"]


def test_the_recipe_of_the_brain_wide_map(shared):
    ds = cubes.pool(shared.root)
    text = read_recipe("bwm").text
    assert json.loads(ds.attrs["parameters"])["recipe"] == text
    assert "cecac2295f2dd61fad5f5b51326702b566591baa" in text["about"]
    expected = {
        "block": (
            "stimOn_times",
            -0.4,
            -0.1,
            139,
            {"left": ("probabilityLeft", 0.8), "right": ("probabilityLeft", 0.2)},
        ),
        "stim": ("stimOn_times", 0, 0.15, 67, {"left": ("contrastLeft", None), "right": ("contrastRight", None)}),
        "choice": ("firstMovement_times", -0.15, 0, 67, {"left": ("choice", 1), "right": ("choice", -1)}),
        "fback": ("feedback_times", 0, 0.7, 331, {"correct": ("feedbackType", 1), "false": ("feedbackType", -1)}),
    }
    assert ds.attrs["alignments"] == list(expected)
    rng, compared = np.random.default_rng(0), 0.0
    for name, (on, start, stop, n_bins, conditions) in expected.items():
        time = ds[f"time_{name}"]
        assert (time.size, time.attrs["stride_s"], time.attrs["bin_width_s"]) == (n_bins, "1/480", "1/80")
        np.testing.assert_allclose([time[0] - 1 / 160, time[-1] + 1 / 160], [start, stop], atol=1 / 480)
        for condition, (column, value) in conditions.items():
            for unit in rng.choice(ds.unit.values.astype(object), 5):
                trials = shared.trials[shared.eids[unit]]
                wanted = ~np.isnan(trials[column]) if value is None else trials[column] == value
                events = trials[on][wanted & trials["bwm_include"]]
                events = events[(events + start >= 0) & (events + stop <= shared.spans[unit])]
                j = int(rng.integers(n_bins))
                low, high = (float(Fraction(str(start)) + Fraction(j, 480) + w) for w in (0, Fraction(1, 80)))
                train = shared.trains[unit]
                counts = [np.count_nonzero((train >= event + low) & (train < event + high)) for event in events]
                cell = ds.sel({"unit": unit, f"condition_{name}": condition}).isel({f"time_{name}": j})
                assert cell[f"{name}_n"] == len(counts)
                np.testing.assert_allclose(cell[name], np.mean(counts) * 80, rtol=1e-6)
                compared += np.sum(counts)
    assert compared > 50


def test_labels_are_those_of_each_unit_in_its_own_store(shared):
    ds = cubes.pool(shared.root).load()
    rows = dict(zip(ds.unit.values.astype(object).tolist(), range(ds.sizes["unit"]), strict=True))
    seen = set()
    for pid in ("pid0", "pid1", "pid2", "pid3"):
        store = xr.open_zarr(shared.root / f"insertions/{pid}/spikes.zarr", chunks=None)
        for i in np.flatnonzero(store.good.values):
            name = str(store.uuid.values[i]) or f"{pid}:{i}"
            unit = ds.isel(unit=rows[name])
            assert (unit.cluster_id, unit.pid, unit.eid) == (i, pid, store.attrs["eid"])
            assert (unit.subject, unit.lab, unit.date) == (store.attrs["subject"], "lab", "2021-02-03")
            assert unit.probe == store.attrs["probe"]
            for label in LABELS:
                assert unit[label].values == store[label].values[i], (name, label)
                assert ds[label].attrs["long_name"] == store[label].attrs["long_name"]
            seen.add(name)
    assert seen == set(rows)
    assert any(":" in name for name in rows)
    assert "drift" not in ds.variables
    assert "uuid" not in ds.variables
    assert ds.attrs["notes"] == "metrics left out, as not all insertions have them: drift"


def test_regions_are_means_over_units(shared):
    ds = cubes.pool(shared.root, recipe=RECIPE).load()
    acronyms = ds.acronym_beryl.values.astype(object)
    assert ds.region.values.tolist() == sorted(set(acronyms))
    assert ds.region.attrs["level"] == "beryl"
    for i, region in enumerate(ds.region.values.astype(object)):
        inside = acronyms == region
        assert ds.n_units[i] == inside.sum()
        for name in RECIPE["alignments"]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of slices that are NaN
                expected = np.nanmean(ds[name].values[inside].astype(float), axis=0)
            np.testing.assert_allclose(ds[f"{name}_region"][i], expected, rtol=1e-6)
            np.testing.assert_array_equal(ds[f"{name}_region_n"][i], (ds[f"{name}_n"].values[inside] > 0).sum(0))
    assert np.isnan(ds.on_stim_region.sel(condition_on_stim="none")).all()
    other = cubes.pool(shared.root, recipe=RECIPE | {"regions": "cosmos"}, name="cosmos")
    assert other.region.values.tolist() == sorted(set(ds.acronym_cosmos.values.astype(object)))


def test_plain_xarray_shows_everything(shared):
    pooled = cubes.pool(shared.root, recipe=RECIPE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xr.open_zarr(shared.root / "pooled/small.zarr")
    xr.testing.assert_identical(plain.load(), pooled.load())
    assert plain.sel(unit=(plain.subject == "mouse-eid1").values).pid.values.tolist() == ["pid2"] * int(
        (plain.pid == "pid2").sum()
    )
    assert not any(cubes.verify(shared.root).values())
    attrs = json.dumps(dict(plain.attrs), allow_nan=False)
    assert str(shared.root) not in attrs


@pytest.mark.parametrize("units", ["all", "label > 0.5", "acronym_cosmos == 'TH' or firing_rate < 0.5"])
def test_units_by_an_expression(shared, units):
    ds = cubes.pool(shared.root, recipe=RECIPE | {"units": units}, name="units", existing="replace")
    expected = []
    for pid in ("pid0", "pid1", "pid2", "pid3"):
        store = xr.open_zarr(shared.root / f"insertions/{pid}/spikes.zarr", chunks=None)
        mask = {
            "all": np.ones(store.sizes["unit"], bool),
            "label > 0.5": store.label.values > 0.5,
        }.get(units, (store.acronym_cosmos.values == "TH") | (store.firing_rate.values < 0.5))
        expected += [(pid, int(i)) for i in np.flatnonzero(mask)]
    assert list(zip(ds.pid.values.tolist(), ds.cluster_id.values.tolist(), strict=True)) == expected


def contents(store):
    return {key: path.read_bytes() for key, path in store_files(store).items()}


@pytest.fixture(scope="module")
def expected(shared, tmp_path_factory):
    """The bytes of an undisturbed pool."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pooled_product, "UNITS_PER_CHUNK", 4)
    cubes.pool(shared.root, recipe=RECIPE, name="undisturbed", executor="serial")
    patch.undo()
    return contents(shared.root / "pooled/undisturbed.zarr")


def same_but_name(found, expected):
    """Whether bytes are equal; the name is in the metadata of the root alone."""
    assert found.keys() == expected.keys()
    return [key for key in found if found[key] != expected[key]] in ([], ["zarr.json"])


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_bytes_are_the_same_on_threads_and_processes(shared, expected, executor):
    cubes.pool(shared.root, recipe=RECIPE, name=executor, executor=executor)
    assert same_but_name(contents(shared.root / f"pooled/{executor}.zarr"), expected)


@pytest.mark.slow
def test_bytes_are_the_same_on_a_cluster(shared, expected):
    cubes.pool(shared.root, recipe=RECIPE, name="dask", executor="dask")
    assert same_but_name(contents(shared.root / "pooled/dask.zarr"), expected)


def stop_after(monkeypatch, n):
    original, written = StoreTask._write, []

    def write(self, region):
        if len(written) == n:
            raise KeyboardInterrupt
        written.append(region)
        return original(self, region)

    monkeypatch.setattr(StoreTask, "_write", write)
    return written


def test_goes_on_where_it_was_interrupted(recorded, expected, monkeypatch):
    with monkeypatch.context() as patch:
        first = stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            cubes.pool(recorded.root, recipe=RECIPE, executor="serial")
    assert not (recorded.root / "pooled").exists()
    table = cubes.status(recorded.root).set_index("product")
    assert table.loc["small", ["state", "parts_staged", "path"]].tolist() == ["staging", 3, "pooled/small.zarr"]
    with monkeypatch.context() as patch:
        second = stop_after(patch, 99)
        cubes.pool(recorded.root, recipe=RECIPE, executor="serial")
    assert len(second) > 0
    assert not set(first) & set(second)
    assert same_but_name(contents(recorded.root / "pooled/small.zarr"), expected)


KILLED = """
import json, os, signal, sys
import cubes
from chunking import group_commit
from chunking.journal import Journal
from cubes import pooled_product
pooled_product.UNITS_PER_CHUNK, group_commit._GATHER_S = 4, 0
add, kept = Journal.add, []
def killing(self, *args):
    result = add(self, *args)
    kept.append(args)
    if len(kept) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Journal.add = killing
cubes.pool(sys.argv[1], recipe=json.loads(sys.argv[2]))
"""


def test_goes_on_after_kill_9(recorded, expected):
    command = [sys.executable, "-c", KILLED, str(recorded.root), json.dumps(RECIPE)]
    killed = subprocess.run(command, check=False, capture_output=True, env={**os.environ})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (recorded.root / "pooled").exists()
    events = []
    kept = staged(recorded.root)["pooled/small.zarr"].parts
    cubes.pool(recorded.root, recipe=RECIPE, progress=events.append)
    assert events[0].done == kept >= 2  # parts may have been committed together
    assert same_but_name(contents(recorded.root / "pooled/small.zarr"), expected)


def test_a_rerun_does_nothing_and_changed_sources_are_stale(recorded):
    root, store = recorded.root, recorded.root / "pooled/small.zarr"
    cubes.pool(root, recipe=RECIPE)
    before, events = (store / "manifest.json").stat(), []
    cubes.pool(root, recipe=dict(reversed(RECIPE.items())), progress=events.append)
    assert ((store / "manifest.json").stat(), events) == (before, [])
    assert set(cubes.status(root)["state"]) == {"built"}
    with pytest.raises(StoreError, match="exist already"):
        cubes.pool(root, recipe=RECIPE, existing="error")
    listed = {source["rel_path"]: source["build_key"] for source in read_manifest(store)["sources"]}
    assert listed["insertions/pid2/spikes.zarr"] == read_manifest(root / "insertions/pid2/spikes.zarr")["build_key"]
    assert set(listed) == {f"insertions/pid{i}/spikes.zarr" for i in range(4)} | {
        f"sessions/eid{i}/trials.zarr" for i in range(3)
    }

    recorded.add("pid2", "eid1", 33)
    row = cubes.status(root).set_index("product").loc["small"]
    assert (row["state"], row["pid"]) == ("stale", "pooled")
    assert "insertions/pid2/spikes.zarr" in row["why"]
    with pytest.raises(StoreError, match=r"built from other files, parameters or versions than planned now; replace"):
        cubes.pool(root, recipe=RECIPE)
    old = cubes.pool(root, recipe=RECIPE, pids=["pid0"], name="other").load()
    assert set(old.pid.values) == {"pid0"}
    ds = cubes.pool(root, recipe=RECIPE, existing="replace").load()
    assert {str(unit) for unit in ds.unit.values} <= set(recorded.trains)
    row = cubes.status(root).set_index("product").loc["small"]
    assert (row["state"], row["versions_kept"]) == ("built", 1)
    assert len(list(root.glob("pooled/.versions/small.*"))) == 1


def test_verified_in_full_and_made_again_instead_of_repaired(recorded):
    cubes.pool(recorded.root, recipe=RECIPE)
    store = recorded.root / "pooled/small.zarr"
    files = read_manifest(store)["files"]
    assert all("decoded_crc32" in files[f"{name}/c/0/0"] for name in ("moved_n", "moved_region_n"))
    assert cubes.verify(store, level="full") == {str(store): []}
    (store / "moved_region/c/0/0/0").write_bytes(b"")
    assert [problem.key for problem in cubes.verify(store)[str(store)]] == ["moved_region/c/0/0/0"]
    with pytest.raises(StoreError, match=r"small.zarr: exists, but is damaged"):
        cubes.pool(recorded.root, recipe=RECIPE)
    with pytest.raises(
        StoreError, match=r"small.zarr: is made of other stores, so it is neither compared with a source"
    ):
        cubes.repair(store, None)
    shutil.rmtree(store)
    assert "moved_region" in cubes.pool(recorded.root, recipe=RECIPE).variables


def test_a_query_and_names_of_insertions_choose(shared):
    ds = cubes.pool(shared.root, "probe == 'probe00' and eid != 'eid2'", RECIPE, name="query")
    assert set(ds.pid.values) == {"pid0", "pid2"}
    ds = cubes.pool(shared.root, None, RECIPE, ["pid3", "pid0"], name="named")
    assert ds.pid.values.tolist() == sorted(ds.pid.values, reverse=True)
    with pytest.raises(BadArgument, match="query 'nope == 1'"):
        cubes.pool(shared.root, "nope == 1", RECIPE)
    with pytest.raises(NotFound, match="the query leaves none"):
        cubes.pool(shared.root, "pid == ''", RECIPE)
    with pytest.raises(NotFound, match="pid9"):
        cubes.pool(shared.root, recipe=RECIPE, pids=["pid9"])


def test_insertions_that_cannot_be_pooled_are_named_or_left_out(recorded):
    root = recorded.root
    recorded.add("lonely", "none", 50)
    recorded.add("no-session", "", 51)
    (root / "insertions/empty").mkdir()
    next((root / "insertions/pid3/spikes.zarr/spike_time/c").iterdir()).unlink()
    poor = RECIPE | {"units": "good and pid != 'pid0'"}
    with pytest.raises(StoreError) as raised:
        cubes.pool(root, recipe=poor)
    message = str(raised.value)
    reasons = dict.fromkeys(("lonely", "no-session"), "trials.zarr: does not exist")
    reasons |= {"empty": "spikes is not built", "pid3": "is damaged", "pid0": "none of its 9 units is wanted"}
    for pid, why in reasons.items():
        assert re.search(f"{pid}: [^;]*{why}", message), (pid, message)
    ds = cubes.pool(root, recipe=poor, errors="skip")
    assert set(ds.pid.values) == {"pid1", "pid2"}
    assert (ds.attrs["n_insertions"], ds.attrs["n_left_out"]) == (2, 5)
    assert json.loads(ds.attrs["parameters"])["left_out"] == {
        "no spikes": ["empty"],
        "no trials": ["lonely", "no-session"],
        "no units that are wanted": ["pid0"],
        "spikes damaged": ["pid3"],
    }
    with pytest.raises(NotFound, match=r"no insertion can be pooled; lonely: store"):
        cubes.pool(root, recipe=poor, pids=["lonely"], errors="skip")
    with pytest.raises(BadArgument, match="errors: expected one of raise, skip"):
        cubes.pool(root, recipe=poor, errors="ignore")


def test_a_session_without_an_eid_is_found_as_where_it_was_built(tiny, tmp_path):
    root = tmp_path / "root"
    cubes.build(cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], ["spikes"], root=root))
    write_trials(root, tiny.pid.removesuffix("_probe00"), random_trials(np.random.default_rng(0), 9, STOP_S))
    ds = cubes.pool(root, recipe=RECIPE)
    assert ds.pid.values.tolist() == [tiny.pid] * int((tiny.metrics().label == 1).sum())


def test_trials_as_they_are_built_from_their_files(sample_source, tmp_path):
    """Equal to aligning and averaging one insertion by hand."""
    pid = sample_source.insertions()[0].pid
    cubes.build(cubes.plan(sample_source, [pid], ["spikes", "trials"], root=tmp_path))
    pooled = cubes.pool(tmp_path)
    tree = cubes.open(tmp_path, pid)
    trials = tree["trials"].to_dataset()
    chosen = trials.isel(trial=np.flatnonzero(trials.bwm_include.values & (trials.feedbackType.values == 1)))
    good = cubes.select(tree["spikes"], good=True)
    aligned = cubes.align(good, chosen, (0, 0.7), "12.5ms", "1/480", on="feedback_times")
    by_hand = cubes.psth(aligned).load()
    ours = pooled.sel(condition_fback="correct").load()
    assert ours.unit.values.tolist() == by_hand.uuid.values.tolist()
    np.testing.assert_allclose(ours.fback, by_hand["mean"], rtol=1e-5)
    np.testing.assert_allclose(ours.fback_sem, by_hand["sem"], rtol=1e-4, atol=1e-5)
    assert set(ours.fback_n.values) == set(np.unique(by_hand["n"])) == {chosen.sizes["trial"]}


def test_damage_that_only_reading_shows_ends_the_build(recorded):
    chunk = next((recorded.root / "insertions/pid3/spikes.zarr/spike_time/c").iterdir())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreError, match=r"pid3/spikes.zarr: spike_time/c/0: expected crc32"):
        cubes.pool(recorded.root, recipe=RECIPE, errors="skip")
    assert not (recorded.root / "pooled").exists()


def test_a_source_that_is_replaced_meanwhile_is_refused(recorded, monkeypatch):
    original = pooled_product.unit_labels

    def replacing(*args):
        recorded.add("pid2", "eid1", 33)
        return original(*args)

    monkeypatch.setattr(pooled_product, "unit_labels", replacing)
    with pytest.raises(InconsistentData, match=r"pid2/spikes.zarr: was replaced since the pool was planned"):
        cubes.pool(recorded.root, recipe=RECIPE, executor="serial")


def test_the_same_unit_under_two_pids_is_refused(recorded):
    recorded.add("twin", "eid1", 3)
    with pytest.raises(InconsistentData, match="expected every uuid once"):
        cubes.pool(recorded.root, recipe=RECIPE)


def changed(**changes):
    """The recipe with one alignment, changed; None takes a key away."""
    alignment = {**RECIPE["alignments"]["moved"], **changes}
    return RECIPE | {"alignments": {"moved": {k: v for k, v in alignment.items() if v is not None}}}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("nope", r"recipe 'nope': expected bwm, or a .toml file"),
        (RECIPE | {"unit": "good"}, r"recipe: expected name, .* got also unit"),
        ({"name": "x", "units": "good"}, r"recipe: alignments is missing"),
        (RECIPE | {"name": "a/b"}, r"recipe: name: expected a name of letters, digits and _, got 'a/b'"),
        (RECIPE | {"units": True}, r"recipe.units: expected str, got True"),
        (RECIPE | {"regions": "Dorsal"}, r"regions: expected one of allen, beryl, cosmos, swanson, got 'Dorsal'"),
        (RECIPE | {"alignments": {}}, r"alignments: expected at least one"),
        (RECIPE | {"alignments": {"a b": {}}}, r"recipe: alignments: expected a name"),
        (RECIPE | {"alignments": {"depth_um": changed()["alignments"]["moved"]}}, r"variable depth_um has the name"),
        (RECIPE | {"alignments": {"a": changed()["alignments"]["moved"], "a_n": changed()["alignments"]["moved"]}},
         r"alignments.a_n: its variable a_n has the name of another"),
        (changed(on=None), r"alignments.moved: on is missing"),
        (changed(width=None), r"alignments.moved: width is missing"),
        (changed(bins=3), r"alignments.moved: expected on, .* got also bins"),
        (changed(width="wide"), r"alignments.moved: bin width"),
        (changed(stride=-1), r"alignments.moved: stride"),
        (changed(window=[1, 0]), r"alignments.moved: window: expected stop after start"),
        (changed(window=[0, 0.1]), r"alignments.moved: window: .* is shorter than a bin"),
        (changed(window=5), r"alignments.moved.window: expected list, got 5"),
        (changed(conditions={}), r"conditions: expected at least one"),
        (changed(conditions={"a": 1}), r"conditions.a: expected an expression"),
        (changed(on="stim_on"), r"moved.on: expected one of the times .*feedback_times, firstM.*, got 'stim_on'"),
        (changed(conditions={"a": "contrast == 1"}), r"'contrast == 1': .*columns of trials are .*contrastLeft"),
        (changed(conditions={"a": "contrastLeft"}), r"expected something true or false of every row"),
        (changed(conditions={"a": "__import__('os')"}), r"query"),
        (RECIPE | {"trials": "bwm"}, r"'bwm': .*columns of trials are bwm_include"),
        (RECIPE | {"units": "quality > 1"}, r"'quality > 1': .*columns of units are acronym_allen"),
    ],
)  # fmt: skip
def test_recipes_that_cannot_be_used(shared, recipe, message):
    with pytest.raises(CubesError, match=message) as raised:
        cubes.pool(shared.root, recipe=recipe, name="wrong")
    assert isinstance(raised.value, BadArgument | NotFound)


def test_recipes_from_files(shared, tmp_path):
    path = tmp_path / "mine.toml"
    included = Path(pooled_product.__file__).parent / "recipes/bwm.toml"
    path.write_text(included.read_text())
    assert read_recipe(path) == read_recipe(str(path)) == read_recipe("bwm")
    path.write_text("name = ")
    with pytest.raises(BadArgument, match="expected TOML, got"):
        read_recipe(path)
    with pytest.raises(NotFound, match=r"there is no none.toml"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["../x", "", "a.b", ".hidden"])
def test_names_that_cannot_be_folders(shared, name):
    with pytest.raises(BadArgument, match="name: expected letters"):
        cubes.pool(shared.root, recipe=RECIPE, name=name)


def test_command_line(recorded, tmp_path, capsys):
    root, pids = str(recorded.root), tmp_path / "pids.txt"
    pids.write_text("pid0\npid2\nlonely\n")
    recorded.add("lonely", "none", 50)
    assert run(["pool", root]) == 1
    assert "1 insertions cannot be pooled: lonely: store" in capsys.readouterr().err
    assert run(["pool", root, "--pids", str(pids), "--skip-failing", "--name", "few"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(recorded.root / "pooled/few.zarr")
    assert "left out: lonely: store" in err
    assert run(["pool", root, "--where", "eid == 'eid0'"]) == 0
    assert run(["pool", root, "--where", "eid == 'eid1'"]) == 1
    assert "replace it" in capsys.readouterr().err
    assert run(["pool", root, "--where", "eid == 'eid1'", "--replace"]) == 0
    assert set(xr.open_zarr(recorded.root / "pooled/bwm.zarr").pid.values) == {"pid2"}
    capsys.readouterr()
    assert run(["ls", root, "--json"]) == 0
    listed = {row["path"]: row for row in json.loads(capsys.readouterr().out)}
    n_units = xr.open_zarr(recorded.root / "pooled/bwm.zarr").sizes
    assert listed["pooled/bwm.zarr"]["product"] == "pooled_bwm"
    assert listed["pooled/bwm.zarr"]["shape"] == f"{n_units['unit']} x {n_units['region']}"
    assert run(["info", str(recorded.root / "pooled/bwm.zarr")]) == 0
    assert run(["verify", root]) == 0
    assert run(["status", root]) == 0
    assert "pooled/few.zarr" in capsys.readouterr().out
