"""Tasks that need more memory than they may have: an error that says so, and the same build goes on with more."""

import subprocess
import sys

import dask
import numpy as np
import pytest
from distributed import LocalCluster

import cubes
from loaders.errors import StoreError

BUILD = """
import resource, sys
import cubes, chunking.planner, chunking.build, chunking.counting, chunking.sorting_products

def limit(spare_bytes):
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + spare_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, size))

folder, pid, root, executor = sys.argv[1:]
if __name__ == "__mp_main__":  # a worker
    limit(200_000_000)
elif __name__ == "__main__":
    plan = cubes.plan(cubes.source("folder", folder), [pid], ["counts_1ms"], root=root, counts_layout="by-unit")
    if executor == "serial":
        limit(200_000_000)
    try:
        cubes.build(plan, executor=executor, workers=1)
    except cubes.StoreError as error:
        print(error)
"""


@pytest.fixture
def long(tiny):
    """A session of which one task counts 400 MB."""
    tiny.save("spikes.times.npy", np.append(tiny.times[:-1], 100_000.0))
    return tiny


def plan(session, root):
    source = cubes.source("folder", session.folder)
    return cubes.plan(source, [session.pid], ["counts_1ms"], root=root, counts_layout="by-unit")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep to such a limit")
@pytest.mark.parametrize("executor", [pytest.param("serial", marks=pytest.mark.fault), "processes"])
def test_a_limit_on_memory(long, tmp_path, executor):
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    root = tmp_path / "root"
    order = [sys.executable, script, long.folder, long.pid, root, executor]
    said = subprocess.run(order, capture_output=True, text=True, check=True).stdout
    assert f"store {root / plan(long, root).stores[0].path}: a task ran out of memory" in said
    assert "Unable to allocate" in said
    assert not list(root.glob("insertions/*/*"))


@pytest.mark.fault
def test_a_nanny_that_limits_memory(long, tmp_path):
    order = plan(long, tmp_path / "root")
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": "450MB"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=1, threads_per_worker=1, **local) as cluster,
        pytest.raises(StoreError, match=r"1 workers died of one task; most often for want of memory"),
    ):
        cubes.build(order, executor=cluster.scheduler_address)
    assert not list(order.root.glob("insertions/*/*"))
    cubes.build(order, executor="serial")
    assert not any(cubes.verify(order.root).values())
