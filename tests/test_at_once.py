"""Several insertions in the making at once: the same stores, within bounds, and interrupted in good order."""

import os
import threading
import time
from contextlib import closing

import pytest
from distributed import LocalCluster

import cubes
from chunking import build
from chunking.at_once import map_at_once
from chunking.executors import open_executor
from chunking.manifest import store_files
from loaders.errors import CorruptData

PRODUCTS = ["counts_100ms", "channels"]


class Several:
    """Some tiny sessions as one source, which must not be asked by two threads at once."""

    def __init__(self, sessions):
        self.of = {session.pid: cubes.source("folder", session.folder) for session in sessions}
        self.asked = threading.Lock()

    def insertions(self):
        return [source.insertion(pid) for pid, source in self.of.items()]

    def insertion(self, pid):
        return self.of[pid].insertion(pid)

    def datasets(self, insertion):
        assert self.asked.acquire(blocking=False)
        time.sleep(0.01)
        self.asked.release()
        return self.of[insertion.pid].datasets(insertion)


@pytest.fixture
def source(tiny_sessions):
    return Several(tiny_sessions)


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield cluster


def plan(source, root):
    return cubes.plan(source, source.of, PRODUCTS, root=root)


def contents(root):
    stores = sorted(root.glob("insertions/*/*.zarr"))
    return {
        f"{store.parent.name}/{store.name}/{key}": path.read_bytes()
        for store in stores
        for key, path in store_files(store).items()
    }


class Watch:
    """Notes how many run at once."""

    def __init__(self):
        self.lock, self.running, self.most, self.begun = threading.Lock(), [], [], []

    def __call__(self, item):
        with self.lock:
            self.begun.append(item)
            self.running.append(item)
            self.most.append(list(self.running))
        time.sleep(0.05)
        with self.lock:
            self.running.remove(item)
        if item < 0:
            raise CorruptData(f"item {item}")
        return item


def at_once(function, items, sizes, most=3, most_bytes=100, stop=lambda: None):
    return map_at_once(function, items, sizes, most=most, most_bytes=most_bytes, stop=stop)


def test_results_are_in_order_and_what_runs_at_once_is_bounded():
    watch, sizes = Watch(), [40, 40, 40, 10, 500, 1, 1, 1, 1]
    assert at_once(watch, range(9), sizes) == sorted(watch.begun) == list(range(9))
    assert set(watch.begun[:3]) < {0, 1, 2, 3}
    assert max(map(len, watch.most)) == 3
    assert [4] in watch.most, "the large one runs"
    assert all(running == [4] for running in watch.most if 4 in running), "alone"
    assert all(sum(sizes[item] for item in running) <= 100 for running in watch.most if running != [4])


def test_one_at_once_runs_in_this_thread():
    here = threading.get_ident()
    assert at_once(lambda _: threading.get_ident(), [1, 2], [1, 1], most=1) == [here, here]
    assert at_once(lambda _: threading.get_ident(), [1], [1]) == [here]


def test_after_an_error_no_other_begins_and_those_that_have_begun_end():
    watch = Watch()
    with pytest.raises(CorruptData, match="item -1"):
        at_once(watch, [1, -1, 2, *range(3, 50)], [1] * 50)
    assert len(watch.begun) < 9
    assert watch.running == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_stops_those_that_run(error):
    stopped = threading.Event()

    def function(item):
        if item == 0:
            raise error
        assert stopped.wait(10), "nobody said stop"

    with pytest.raises(error):
        at_once(function, range(3), [1] * 3, stop=stopped.set)


@pytest.mark.parametrize("name", ["threads", "processes", "cluster"])
def test_stop_ends_every_call_soon(cluster, name):
    from concurrent.futures import CancelledError

    with open_executor(cluster.scheduler_address if name == "cluster" else name, 2) as execute:
        ended = []

        def call():
            try:
                with closing(execute(time.sleep, [0.2] * 200)) as results:
                    list(results)
            except CancelledError:
                ended.append(time.monotonic())

        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        stopped = time.monotonic()
        execute.stop()
        for thread in threads:
            thread.join()
    assert len(ended) == 3
    assert max(ended) - stopped < 5  # of 60 s


@pytest.mark.parametrize("name", ["threads", "processes", "cluster"])
def test_several_insertions_on_every_executor_give_the_bytes_of_one_thread(source, tmp_path, cluster, name):
    expected = plan(source, tmp_path / "serial")
    assert cubes.build(expected, executor="serial") == [expected.root / store.path for store in expected.stores]
    events, inside = [], threading.Lock()

    def progress(event):
        assert inside.acquire(blocking=False), "called by two threads at once"
        time.sleep(0.002)
        events.append(event)
        inside.release()

    wanted = plan(source, tmp_path / name)
    executor = cluster.scheduler_address if name == "cluster" else name
    assert cubes.build(wanted, executor=executor, progress=progress) == [
        wanted.root / store.path for store in wanted.stores
    ]
    assert contents(wanted.root) == contents(expected.root)
    first = {event.pid: i for i, event in reversed(list(enumerate(events)))}
    last = {event.pid: i for i, event in enumerate(events)}
    assert min(last.values()) > sorted(first.values())[1], "one after another"


def test_an_interrupted_build_of_several_goes_on(source, tmp_path):
    expected = plan(source, tmp_path / "serial")
    cubes.build(expected, executor="serial")
    order, events = plan(source, tmp_path / "root"), []

    def interrupt(event):
        events.append(event)
        if len(events) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cubes.build(order, progress=interrupt)
    before = contents(order.root)
    assert before.items() < contents(expected.root).items()
    time.sleep(0.2)
    assert contents(order.root) == before, "somebody went on"
    built = cubes.build(order, existing="skip")
    assert contents(order.root) == contents(expected.root)
    assert len(built) == len(order.stores) - len({key.rpartition(".zarr/")[0] for key in before})


def test_what_another_build_holds_is_refused(source, tmp_path):
    order = plan(source, tmp_path)
    first, refused = order.stores[0], pytest.raises(cubes.StoreError, match=f"process {os.getpid()} on .* has been")
    with build.staging(order.root, first.path, first.build_key), refused:
        cubes.build(order)


def test_what_another_build_holds_is_waited_for_last_if_what_exists_is_skipped(source, tmp_path, caplog):
    order, events = plan(source, tmp_path), []
    first, how = order.stores[0], {"existing": "skip", "progress": events.append}
    with build.staging(order.root, first.path, first.build_key) as held:
        other = threading.Thread(target=cubes.build, args=(order,), kwargs=how)
        other.start()
        end = time.monotonic() + 20
        while "waiting for it" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.02)
        done = {event.pid for event in events if event.done == event.total and event.product == PRODUCTS[-1]}
        assert done == set(source.of) - {first.pid}, "all others are there first"
        assert not held.final.exists()
    other.join(20)
    assert not other.is_alive()
    assert len(list(tmp_path.glob("insertions/*/*.zarr"))) == len(order.stores)
