"""Builds on a dask cluster whose workers are killed, or that loses all of them."""

import os
import random
import signal
import time
from contextlib import suppress

import pytest
from distributed import Client, LocalCluster

import cubes
from chunking import build
from chunking.executors import open_executor
from loaders.errors import SourceUnavailable, StoreError

PRODUCTS = ("spikes", "counts_1ms", "lf", "ap")


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def expected_root(source, tmp_path_factory):
    root = tmp_path_factory.mktemp("expected")
    cubes.build(plan(source, root))
    return root


@pytest.fixture
def expected(expected_root, contents):
    return contents(expected_root)


def plan(source, root):
    return cubes.plan(source, [source.insertions()[0].pid], PRODUCTS, root=root)


class Killer:
    """Kills a worker at some of the steps of a build."""

    def __init__(self, rng, n_steps, kills):
        self.rng, self.at = rng, set(rng.sample(range(n_steps), kills))
        self.steps = self.killed = 0

    def __call__(self, event):
        if self.steps in self.at:
            pids = [pid for pid in Client.current().run(os.getpid, on_error="ignore").values() if isinstance(pid, int)]
            if pids:
                time.sleep(self.rng.uniform(0, 0.05))
                with suppress(ProcessLookupError):
                    os.kill(self.rng.choice(pids), signal.SIGKILL)
                    self.killed += 1
        self.steps += 1


def build_with_kills(source, expected, contents, folder, n):
    killed = 0
    for i in range(n):
        order = plan(source, folder / str(i))
        steps = sum(len(store.regions) + 3 for store in order.stores)
        killer = Killer(random.Random(i), steps, kills=2)
        cubes.build(order, executor="dask", progress=killer)
        assert contents(folder / str(i)) == expected
        killed += killer.killed
    return killed


def test_workers_are_killed(source, expected, contents, tmp_path):
    assert build_with_kills(source, expected, contents, tmp_path, 1) == 2


@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_workers_are_killed_in_20_builds(source, expected, contents, tmp_path):
    assert build_with_kills(source, expected, contents, tmp_path, 20) == 40


def test_all_workers_are_lost_and_another_cluster_goes_on(source, expected, contents, tmp_path, monkeypatch):
    monkeypatch.setattr("chunking.on_dask._WORKERS_TIMEOUT_S", 2.0)
    monkeypatch.setattr("chunking.on_dask._LOOK_EVERY_S", 0.2)
    order, done = plan(source, tmp_path / "root"), []
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:

        def lose(event):
            done.append(event)
            if len(done) == 6:
                cluster.scale(0)

        with pytest.raises(SourceUnavailable, match=r"the cluster has had no workers for 2 s.*it goes on"):
            cubes.build(order, executor=cluster.scheduler_address, progress=lose)
    assert contents(tmp_path / "root").items() < expected.items()
    cubes.build(order, executor="dask", workers=1, existing="skip")
    assert contents(tmp_path / "root") == expected


def test_the_loss_of_a_cluster_is_no_failure_of_each_insertion(source, tmp_path, monkeypatch):
    """Which would take a minute each."""
    monkeypatch.setattr("chunking.on_dask._WORKERS_TIMEOUT_S", 1.0)
    monkeypatch.setattr("chunking.on_dask._LOOK_EVERY_S", 0.2)
    pids = [insertion.pid for insertion in source.insertions()]
    order = cubes.plan(source, pids, ["channels"], root=tmp_path)
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        lost = []

        def lose(event):
            if not lost:
                lost.append(event)
                cluster.scale(0)

        with pytest.raises(SourceUnavailable, match="has had no workers"):
            cubes.build(order, executor=cluster.scheduler_address, progress=lose, errors="report")


def test_a_task_that_kills_its_workers(monkeypatch):
    monkeypatch.setattr("chunking.on_dask._DEATHS", 0)
    with (
        open_executor("dask", 1) as execute,
        pytest.raises(StoreError, match=r"1 workers died of one task.*memory"),
    ):
        list(execute(die, [None]))


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("product", PRODUCTS)
def test_every_task_may_run_twice(source, contents, expected, tmp_path, product, monkeypatch):
    """As after the death of a worker that had done all but say so."""
    once = build.StoreTask.__call__

    def twice(task, part):
        once(task, part)
        return once(task, part)

    monkeypatch.setattr(build.StoreTask, "__call__", twice)
    cubes.build(cubes.plan(source, [source.insertions()[0].pid], [product], root=tmp_path / "root"))
    assert contents(tmp_path / "root").items() <= expected.items()


def test_the_dashboard_is_for_this_machine_only():
    with open_executor("dask", 1):
        address = Client.current().dashboard_link
    assert "//127.0.0.1:" in address
