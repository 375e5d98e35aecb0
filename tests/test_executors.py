"""The same tasks on every executor: the same bytes, the same errors."""

import os
import pickle
import subprocess
import sys
import threading
import time
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

import cubes
from chunking.executors import open_executor
from chunking.manifest import store_files
from chunking.on_dask import dask_client
from loaders.errors import BadArgument, CorruptData, SourceUnavailable, StoreError
from loaders.inputs import Inputs

PRODUCTS = ["spikes", "counts_20ms", "ap", "lf", "lfp_250hz", "sync"]


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


def contents(root):
    return {
        f"{store.name}/{key}": path.read_bytes()
        for store in sorted(root.rglob("*.zarr"))
        for key, path in store_files(store).items()
    }


@pytest.fixture(scope="module")
def serial(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("serial")
    pid = source.insertions()[0].pid
    cubes.build(cubes.plan(source, [pid], PRODUCTS, root=root), executor="serial")
    return pid, contents(root)


def test_threads_give_the_bytes_of_one_thread(source, serial, tmp_path):
    pid, expected = serial
    cubes.build(cubes.plan(source, [pid], PRODUCTS, root=tmp_path), workers=3)
    assert contents(tmp_path) == expected


def test_processes_give_the_bytes_of_one_thread(source, serial, tmp_path, monkeypatch):
    pid, expected = serial
    monkeypatch.chdir(tmp_path)
    cubes.build(cubes.plan(source, [pid], PRODUCTS, root="here"), executor="processes")
    assert contents(tmp_path / "here") == expected


def test_a_dask_cluster_gives_the_bytes_of_one_thread(source, serial, tmp_path, cluster, monkeypatch):
    pid, expected = serial
    monkeypatch.chdir(tmp_path)  # the workers are elsewhere: a relative root must not be taken as theirs
    events = []
    plan = cubes.plan(source, [pid], PRODUCTS, root="here")
    cubes.build(plan, executor=cluster.scheduler_address, progress=events.append)
    assert contents(tmp_path / "here") == expected
    assert {e.product for e in events if e.done == e.total} == set(PRODUCTS)


def test_dask_starts_a_cluster_of_its_own(source, serial, tmp_path):
    pid, expected = serial
    cubes.build(cubes.plan(source, [pid], ["spikes"], root=tmp_path), executor="dask", workers=1)
    assert contents(tmp_path).items() <= expected.items()


def test_what_goes_to_a_worker_is_small_and_needs_no_catalog(source):
    inputs = Inputs(source, source.insertions()[0].pid)
    assert len(inputs.sorting.spikes)  # loaded here, and not sent
    text = pickle.dumps(inputs)
    assert len(text) < 30_000
    assert b"one.api" not in text
    again = pickle.loads(text)
    assert again.insertion == inputs.insertion
    assert again.sorting.sources == inputs.sorting.sources


@pytest.mark.parametrize("name", ["serial", "threads", "cluster"])
def test_an_error_of_a_task_arrives_and_nothing_is_published(source, tmp_path, cluster, name, monkeypatch):
    from loaders.voltage import Voltage

    pid = source.insertions()[0].pid
    plan = cubes.plan(source, [pid], ["lf"], root=tmp_path)
    if name == "cluster":
        with Client(cluster) as client:
            client.run(_break_check)
    monkeypatch.setattr(Voltage, "check_source", _fail)
    with pytest.raises(CorruptData, match="broken on purpose"):
        cubes.build(plan, executor=cluster.scheduler_address if name == "cluster" else name)
    assert not list(tmp_path.rglob("*.zarr"))
    if name == "cluster":
        with Client(cluster) as client:
            client.restart()


def _fail(self):
    raise CorruptData("broken on purpose")


def _break_check():
    from loaders.errors import CorruptData
    from loaders.voltage import Voltage

    def fail(self):
        raise CorruptData("broken on purpose")

    Voltage.check_source = fail


@pytest.mark.parametrize("name", ["serial", "threads", "processes", "cluster"])
def test_every_item_is_done_once(cluster, name, tmp_path):
    with open_executor(cluster.scheduler_address if name == "cluster" else name, 2) as execute:
        assert sorted(execute(partial(_append, tmp_path), range(50))) == list(range(0, 100, 2))
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(50))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"x"}


def _append(folder, item):
    with (folder / str(item)).open("a") as file:
        file.write("x")
    return item * 2


class Counted:
    """A task that says, in a folder, how often it was unpickled and by whom."""

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        self.__dict__ = state
        (self.folder / f"{os.getpid()}.{uuid.uuid4().hex}").touch()

    def __call__(self, item):
        return item


@pytest.mark.parametrize("name", ["processes", "cluster"])
def test_a_task_goes_to_each_worker_once(tmp_path, cluster, name):
    with open_executor(cluster.scheduler_address if name == "cluster" else name, 2) as execute:
        assert sorted(execute(Counted(tmp_path), range(40))) == list(range(40))
    readers = [path.name.split(".")[0] for path in tmp_path.iterdir()]
    readers = [reader for reader in readers if reader != str(os.getpid())]  # the scheduler of the fixture is in here
    assert len(readers) <= (2 if name == "processes" else 3)  # the first worker of a cluster gets it, and hands it on


def test_the_processes_serve_one_store_after_another(tmp_path):
    with open_executor("processes", 1) as execute:
        first = list(execute(whose, [1]))
        assert list(execute(whose, [2, 3])) == first * 2
    assert first != [os.getpid()]


def whose(item):
    return os.getpid()


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_nothing_is_written_after_an_error(tmp_path, name):
    """Once the results are closed, the store may be anybody's."""
    with open_executor(name, 2) as execute:
        with pytest.raises(CorruptData), closing(execute(partial(slow, tmp_path), range(20))) as results:
            list(results)
        after = len(list(tmp_path.iterdir()))
        time.sleep(0.5)
        assert len(list(tmp_path.iterdir())) == after < 10


def slow(folder, item):
    if item == 0:
        raise CorruptData("first")
    time.sleep(0.2)
    (folder / str(item)).touch()


def test_a_process_that_dies_is_an_error_that_says_so():
    with (
        open_executor("processes", 1) as execute,
        pytest.raises(StoreError, match=r"a worker ended .* memory.*goes on with what is complete"),
    ):
        list(execute(die, [None]))


def die(item):
    os.kill(os.getpid(), 9)


def test_processes_end_with_the_one_that_began_them(tmp_path):
    script = (
        "import sys, time; from chunking.executors import open_executor; sys.path.insert(0, sys.argv[1])\n"
        "from functools import partial; from test_executors import tell\n"
        "with open_executor('processes', 1) as execute: list(execute(partial(tell, sys.argv[2]), [0]))"
    )
    told = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent), str(told)]) as parent:
        until(told.exists)
        parent.kill()
    worker = Path("/proc", told.read_text())
    until(lambda: not worker.exists())


def tell(path, item):
    partial_path = Path(path).with_suffix(".partial")
    partial_path.write_text(str(os.getpid()))
    partial_path.rename(path)
    time.sleep(100)


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_error_drops_the_tasks_that_have_not_begun():
    begun, gate = [], threading.Event()

    def task(item):
        begun.append(item)
        if item == 0:
            raise CorruptData("first")
        gate.wait(5)

    with open_executor("threads", 1) as execute, pytest.raises(CorruptData, match="first"):
        list(execute(task, range(100)))
    gate.set()
    assert len(begun) <= 2


def test_unknown_executors_are_refused(source, tmp_path):
    plan = cubes.plan(source, [source.insertions()[0].pid], ["channels"], root=tmp_path)
    with pytest.raises(
        BadArgument, match=r"executor: expected one of serial, threads, processes, dask, or the address.*got 'gpu'"
    ):
        cubes.build(plan, executor="gpu")
    with pytest.raises(BadArgument, match="workers: expected at least 1, got 0"):
        cubes.build(plan, workers=0)


def test_a_scheduler_that_does_not_answer_is_named(source, tmp_path, monkeypatch):
    monkeypatch.setattr("chunking.on_dask._WORKERS_TIMEOUT_S", 1)
    plan = cubes.plan(source, [source.insertions()[0].pid], ["channels"], root=tmp_path)
    with pytest.raises(SourceUnavailable, match=r"executor tcp://127\.0\.0\.1:9: no dask scheduler"):
        cubes.build(plan, executor="tcp://127.0.0.1:9")


def test_workers_of_our_cluster_keep_no_profile():
    """Which grows by 0.3 MB a second for a quarter of an hour."""
    with dask_client("dask", 1) as client:
        client.submit(sum, [1]).result()
        time.sleep(1.5)  # the profiler has cycles of a second
        assert client.run(lambda dask_worker: len(dask_worker.profile_history)) == dict.fromkeys(client.nthreads(), 0)
