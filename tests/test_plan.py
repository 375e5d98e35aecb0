"""Plans: what they say of bytes, memory and time is compared with what a build really reads, writes and holds."""

import json
import time
import tracemalloc
from dataclasses import replace

import pandas as pd
import pytest

import cubes
from chunking import encode
from chunking.build import LABELS, StoreTask
from chunking.on_dask import refuse_small_workers
from chunking.plan import Plan, human_seconds
from chunking.products import parse_product
from chunking.provenance import attributes
from loaders.errors import BadArgument, InconsistentData, PlanRefused
from loaders.inputs import Inputs
from loaders.sample import SAMPLE

PID = SAMPLE[0].pid
SORTED = ["counts_1ms", "counts_100ms", "spikes", "channels"]
RECORDED = ["ap", "lf", "lfp_250hz", "lfp_250hz_car", "sync"]


@pytest.fixture(scope="module")
def recorded(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


def largest_hold(plan, store):
    """The most that numpy and Python hold during any task of a store, as tracemalloc sees it."""
    inputs, product = Inputs(plan.catalog, store.pid), parse_product(store.product, plan.options)
    origin = product.origin(inputs)
    folder = plan.root / store.product
    encode.create_arrays(folder, store.arrays)
    attrs = attributes(origin, product.name, product.title, product.parameters)
    task = StoreTask(folder, product, inputs, store.arrays, attrs)
    parts = [LABELS, *store.regions[:2], *store.regions[-1:]]
    largest = 0
    for part in parts:
        tracemalloc.start()
        task(part)
        largest = max(largest, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return largest


@pytest.mark.parametrize("product", [*SORTED, *RECORDED])
def test_no_task_holds_more_than_the_plan_says(recorded, tmp_path, product):
    plan = cubes.plan(recorded, [PID], [product], root=tmp_path)
    (store,) = plan.stores
    held = largest_hold(plan, store)
    assert store.nbytes * 0.1 < held <= store.task_bytes
    assert store.task_bytes < 8 * held + 150e6  # a bound, not a guess


@pytest.mark.parametrize("layout", ["by-time", "by-channel"])
def test_no_task_of_another_layout_holds_more(recorded, tmp_path, layout):
    plan = cubes.plan(
        recorded, [PID], ["ap", "counts_1ms"], root=tmp_path, voltage_layout=layout, counts_layout="by-unit"
    )
    for store in plan.stores:
        assert largest_hold(plan, store) <= store.task_bytes


def test_rounding_to_int16_and_a_window_are_in_the_plan(recorded, tmp_path):
    options = {"lfp_dtype": "int16", "window_s": (1.0, 3.0)}
    plan = cubes.plan(recorded, [PID], ["lfp_250hz"], root=tmp_path, **options)
    assert largest_hold(plan, plan.stores[0]) <= plan.stores[0].task_bytes


def test_destriping_is_known_to_take_most(recorded, tmp_path):
    products = ["lfp_250hz_car", "lfp_250hz_destriped", "lfp_1hz_destriped"]
    car, destriped, slow = cubes.plan(recorded, [PID], products, root=tmp_path).stores
    assert car.task_bytes < 733e6 < destriped.task_bytes < slow.task_bytes  # 732 MB were measured


def test_bytes_to_read_are_those_of_the_files(recorded, tmp_path):
    plan = cubes.plan(recorded, [PID], ["counts_20ms", "ap", "sync"], root=tmp_path)
    sizes = {record.rel_path: record.path.stat().st_size for record in recorded.datasets(recorded.insertion(PID))}
    counts, ap, sync = plan.stores
    origin = parse_product("counts_20ms").origin(Inputs(recorded, PID))
    assert counts.read_bytes == sum(sizes[file.rel_path] for file in origin.sources)
    (cbin,) = (size for path, size in sizes.items() if path.endswith("ap.cbin") and "probe00" in path)
    assert cbin < ap.read_bytes < cbin + 1e6
    assert cbin < sync.read_bytes < cbin + 1e6
    (part,) = cubes.plan(recorded, [PID], ["ap"], root=tmp_path, window_s=(0.0, 0.9)).stores
    assert part.read_bytes < 0.6 * ap.read_bytes  # one chunk of two
    (linked,) = cubes.plan(recorded, [PID], link=["ap"], root=tmp_path).stores
    assert linked.read_bytes == ap.read_bytes
    assert (linked.nbytes, linked.disk_bytes) == (0, 0)


def test_size_on_disk_is_about_that_of_the_store(sample_source, sample_cubes):
    plan = cubes.plan(sample_source, [PID], ["counts_1ms", "counts_20ms", "counts_100ms", "spikes"], root=sample_cubes)
    for store in plan.stores:
        folders = (sample_cubes / store.path / array.name for array in store.arrays)
        size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
        assert 0.6 * size < store.disk_bytes < 1.8 * size, store.product


def test_calibration_tells_the_time_of_a_build(recorded, tmp_path):
    root = tmp_path / "root"
    plan = cubes.plan(recorded, [PID], ["counts_1ms", "channels", "ap", "sync"], root=root)
    assert plan.expected_s is None
    assert plan.to_dict()["expected_s"] is None
    calibrated = plan.calibrate()
    assert list(tmp_path.iterdir()) == []  # nothing is left
    assert calibrated.stores == plan.stores
    begin = time.perf_counter()
    cubes.build(calibrated)
    took = time.perf_counter() - begin
    assert took / 5 < calibrated.expected_s < took * 5  # the machine is shared
    assert f"about {human_seconds(calibrated.expected_s)} with 2 workers (threads)" in str(calibrated)
    assert PID in str(calibrated).splitlines()[-1]
    counts, channels, ap, sync = calibrated.calibration.speeds
    assert counts.ratio > 100
    assert 2 < ap.ratio < 5
    assert (channels.write_s_per_byte, channels.read_s_per_byte, sync.write_s_per_byte) == (0, 0, 0)
    assert min(counts.write_s_per_byte, ap.write_s_per_byte, ap.read_s_per_byte, sync.read_s_per_byte) > 0
    array = root / calibrated.stores[2].path / "ap"
    on_disk = sum(path.stat().st_size for path in array.rglob("*") if path.is_file())
    assert calibrated.disk_bytes(calibrated.stores[2]) == pytest.approx(on_disk, rel=0.01)
    built = replace(calibrated, stores=tuple(replace(store, exists=True) for store in plan.stores))
    assert built.expected_s == 0
    assert "4 exist already and take none of it" in str(built)


def test_expected_time_grows_with_the_bytes(sample_source, tmp_path):
    plan = cubes.plan(sample_source, [probe.pid for probe in SAMPLE], ["counts_20ms"], root=tmp_path)
    calibrated = plan.calibrate(executor="serial")
    speed = calibrated.calibration.speeds[0]
    sizes = sorted(store.nbytes for store in plan.stores)
    assert {store.pid for store in plan.stores if store.nbytes == sizes[1]} == {speed.pid}  # that of middle size
    expected = 3 * speed.store_s + sum(sizes) * speed.write_s_per_byte
    assert calibrated.expected_s == pytest.approx(expected)
    larger = tuple(replace(store, arrays=store.arrays * 100) for store in plan.stores)
    grown = replace(calibrated, stores=larger).expected_s
    assert grown == pytest.approx(expected + 99 * sum(sizes) * speed.write_s_per_byte)


def test_a_plan_comes_back_from_json(recorded, tmp_path):
    products = ["spikes", "lf", "ap"]
    plan = cubes.plan(recorded, [PID, SAMPLE[1].pid], products, root=tmp_path / "a", window_s=(0.0, 1.0), link=["ap"])
    plan = replace(plan.calibrate(executor="serial"), refused={"other": "a reason"})
    text = json.dumps(plan.to_dict(), allow_nan=False)
    again = Plan.from_json(text, recorded)
    assert again == plan
    assert again.to_dict() == plan.to_dict()
    assert again.expected_s == plan.expected_s
    elsewhere = Plan.from_json(text, recorded, tmp_path / "b")
    assert elsewhere.root == tmp_path / "b"
    assert {store.build_key for store in elsewhere.stores} == {store.build_key for store in plan.stores}


def test_a_plan_of_changed_files_is_refused(tiny, tmp_path):
    source = cubes.source("folder", tiny.folder)
    plan = cubes.plan(source, [tiny.pid], ["counts_100ms"], root=tmp_path / "root")
    text = json.dumps(plan.to_dict())
    assert Plan.from_json(text, source) == plan
    tiny.save("spikes.times.npy", tiny.times + 0.01)
    with pytest.raises(InconsistentData, match=r"counts_100ms: its files.*not those of the plan; plan again"):
        Plan.from_json(text, cubes.source("folder", tiny.folder))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"plan_version": 2}', '{"plan_version": 2, "options": {"x": 1}}'])
def test_what_is_no_plan_is_refused(sample_source, text):
    with pytest.raises(BadArgument, match="expected the JSON of `cubes plan --json`"):
        Plan.from_json(text, sample_source)


def test_a_plan_of_another_version_is_refused(sample_source):
    with pytest.raises(BadArgument, match="expected version 2, got 1"):
        Plan.from_json('{"plan_version": 1}', sample_source)


def test_pids_may_be_a_column_but_not_a_table(sample_source, tmp_path):
    table = pd.DataFrame({"pid": [PID, PID], "lab": ["a", "b"]})
    assert len(cubes.plan(sample_source, table["pid"], ["channels"], root=tmp_path).stores) == 1
    assert len(cubes.plan(sample_source, table["pid"].to_numpy(), ["channels"], root=tmp_path).stores) == 1
    with pytest.raises(PlanRefused, match=r"pids: expected a list, got a table; name the column"):
        cubes.plan(sample_source, table, ["channels"], root=tmp_path)


class Cluster:
    """A client of workers with some memory."""

    def __init__(self, **workers):
        self.workers = {
            name: {"memory_limit": limit, "nthreads": threads} for name, (limit, threads) in workers.items()
        }

    def scheduler_info(self, n_workers):
        assert n_workers == -1
        return {"workers": self.workers}


def test_workers_of_a_cluster_must_hold_their_tasks():
    refuse_small_workers(Cluster(a=(0, 4), b=(400, 4)), 100)
    with pytest.raises(PlanRefused, match=r"its worker b may use 399 B, and its 4 threads hold up to 100 B each"):
        refuse_small_workers(Cluster(a=(0, 4), b=(399, 4)), 100)


def test_a_cluster_that_is_too_small_is_refused_before_any_work(sample_source, tmp_path):
    from distributed import LocalCluster

    plan = cubes.plan(sample_source, [PID], ["counts_20ms"], root=tmp_path / "root")
    local = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with (
        LocalCluster(memory_limit=plan.stores[0].task_bytes, **local) as cluster,
        pytest.raises(PlanRefused, match=r"executor dask: its worker .* may use .* 2 threads"),
    ):
        cubes.build(plan, executor=cluster.scheduler_address)
    assert not (tmp_path / "root").exists()


def test_planning_many_insertions_is_fast(tiny_sessions, tmp_path):
    sources = {session.pid: cubes.source("folder", session.folder) for session in tiny_sessions}
    for pid, source in sources.items():  # warm
        cubes.plan(source, [pid], ["spikes", "counts_100ms"], root=tmp_path / "root")
    begin = time.perf_counter()
    for pid, source in sources.items():
        cubes.plan(source, [pid], ["spikes", "counts_100ms"], root=tmp_path / "root")
    assert (time.perf_counter() - begin) / len(sources) < 0.5  # measured: some ms


def test_times_are_told_as_one_says_them():
    assert [human_seconds(s) for s in (0.2, 99, 100, 5999, 6001)] == ["1 s", "99 s", "2 min", "100 min", "1.7 h"]
