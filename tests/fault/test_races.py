"""Builders of one store, begun at one moment: one of them builds it, and no store is a mixture."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

import cubes

RACERS = """
import json, os, sys
import numba, xarray, zarr
import chunking.planner, chunking.sorting_products, cubes
from chunking.build import StoreTask
original, wrote = StoreTask._write, []

def write(self, region):
    wrote.append([self.product.name, str(region)])
    return original(self, region)

StoreTask._write = write

def race():
    for line in sys.stdin:
        folder, pid, root, products, layout, existing = json.loads(line)
        plan = cubes.plan(cubes.source("folder", folder), [pid], products, root=root, counts_layout=layout)
        wrote.clear()
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            result = len(cubes.build(plan, existing=existing, executor="serial"))
        except cubes.StoreError as error:
            result = str(error)
        print(json.dumps([os.getpid(), result, wrote]), flush=True)

ends = json.loads(sys.argv[1])
for orders, answers in ends:
    if not os.fork():  # a new interpreter takes longer than a race
        os.dup2(orders, 0)
        os.dup2(answers, 1)
        race()
        os._exit(0)
for _ in ends:
    os.wait()
"""
PRODUCTS = ("counts_20ms", "spikes")


@pytest.fixture
def racers():
    """Four processes that take orders."""
    orders, answers = [os.pipe() for _ in range(4)], [os.pipe() for _ in range(4)]
    theirs = [(order[0], answer[1]) for order, answer in zip(orders, answers, strict=True)]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", RACERS, json.dumps(theirs)]
    with ExitStack() as running:
        running.enter_context(subprocess.Popen(command, pass_fds=[end for pair in theirs for end in pair]))
        for end in [end for pair in theirs for end in pair]:
            os.close(end)
        yield [
            SimpleNamespace(
                stdin=running.enter_context(os.fdopen(order[1], "w")),
                stdout=running.enter_context(os.fdopen(answer[0])),
            )
            for order, answer in zip(orders, answers, strict=True)
        ]


def race(racers, orders):
    """Let each racer plan, and then all build; gives what each says."""
    for racer, order in zip(racers, orders, strict=True):
        print(json.dumps(order), file=racer.stdin, flush=True)
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        print("go", file=racer.stdin, flush=True)
    return [json.loads(racer.stdout.readline()) for racer in racers]


def run_races(racers, tiny, plan_tiny, contents, folder, n):
    """`n` races of two and four: of one version, of one with skipping, and of two versions of a store."""
    expected = {}
    for layout in ("balanced", "by-unit"):
        cubes.build(plan_tiny(folder / layout, layout, PRODUCTS))
        expected[layout] = contents(folder / layout)
    refused = 0
    for i in range(n):
        some, root = racers[: 2 + i % 2 * 2], folder / f"race{i}"
        existing = "skip" if i % 3 == 1 else "error"
        layouts = ["balanced", "by-unit" if i % 3 == 2 else "balanced"] * (len(some) // 2)
        orders = [(str(tiny.folder), tiny.pid, str(root), PRODUCTS, layout, existing) for layout in layouts]
        said = race(some, orders)
        pids = {pid for pid, _, _ in said}
        for pid, result, _ in said:
            if isinstance(result, str):
                refused += 1
                holders = [holder for holder in pids - {pid} if f"process {holder} on " in result]
                assert holders or "exist" in result or "another process is building it" in result, result
        wrote = [tuple(region) for _, _, regions in said for region in regions]
        assert len(wrote) == len(set(wrote)), "two builders wrote one region"
        assert len(list(root.glob("insertions/*/*.zarr"))) == len(PRODUCTS)
        found = contents(root)
        for product in PRODUCTS:
            part = of(found, product)
            assert any(part == of(version, product) for version in expected.values()), "a mixture"
        assert not any(cubes.verify(root).values())
    return refused


def of(files, product):
    return {key: data for key, data in files.items() if f"/{product}.zarr/" in key}


def test_a_late_builder_replaces_nothing_unasked(plan_tiny, contents, tmp_path, monkeypatch):
    """Another one published between its first look and its lock."""
    cubes.build(plan_tiny(tmp_path, "balanced", PRODUCTS))
    before = contents(tmp_path)
    monkeypatch.setattr("chunking.build.refuse_existing", lambda root, paths: None)
    with pytest.raises(cubes.StoreError, match="exists, but was built from other"):
        cubes.build(plan_tiny(tmp_path, "by-unit", PRODUCTS))
    assert contents(tmp_path) == before


def test_races(racers, tiny, plan_tiny, contents, tmp_path):
    run_races(racers, tiny, plan_tiny, contents, tmp_path, 3)


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_100_races(racers, tiny, plan_tiny, contents, tmp_path):
    assert run_races(racers, tiny, plan_tiny, contents, tmp_path, 100) > 50
