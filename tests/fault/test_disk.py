"""Disks that are full, broken or read-only: the error names the store, nothing is published, the same build goes on."""

import ctypes
import errno
import gc
import os
import resource
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from watched_disk import WatchedDisk

import cubes
from loaders.errors import CubesError, StoreError

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]
KINDS = ["open", "read", "write", "sync", "mkdir", "rename", "rmdir", "unlink"]
PRODUCTS = ("counts_100ms",)
pytestmark = [
    pytest.mark.usefixtures("no_waiting"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),  # of zarr, on an error
]


@pytest.fixture(scope="module")
def plan(plan_shared):
    """``plan(root, layout)``: the one store whose disk fails."""
    return lambda root, layout="balanced": plan_shared(root, layout, PRODUCTS)


@pytest.fixture(scope="module")
def watched(plan, contents, tmp_path_factory):
    """A first build, and one that replaces it: the kinds of their operations in order, and what the root holds then."""
    root, operations, expected = tmp_path_factory.mktemp("watched"), {}, {}
    for layout, existing in (("balanced", "error"), ("by-unit", "replace")):
        with pytest.MonkeyPatch.context() as patched:
            disk = WatchedDisk(patched, root)
            cubes.build(plan(root, layout), existing=existing, executor="serial")
        operations[layout], expected[layout] = [kind for kind, _ in disk.calls], contents(root)
    return operations, expected


@pytest.fixture(scope="module")
def operations(watched):
    return watched[0]


@pytest.fixture(scope="module")
def expected(watched, plan, contents, tmp_path_factory):
    """Of roots whose disk was not even watched."""
    roots = {layout: tmp_path_factory.mktemp(layout) for layout in watched[1]}
    for layout, root in roots.items():
        cubes.build(plan(root, layout))
    assert watched[1] == {layout: contents(root) for layout, root in roots.items()}
    return watched[1]


def fail_at(n, code, plan, root, contents, expected, before=None):
    """A build whose operation `n` and, as disks do, all later ones of its kind fail, and then one that goes on."""
    layout, existing = ("by-unit", "replace") if before else ("balanced", "skip")
    order, failed, said = plan(root, layout), [], ""

    def fails(kind, number):
        if number == n or kind in failed:
            failed.append(kind)
        return code if kind in failed else 0

    with pytest.MonkeyPatch.context() as patched:
        WatchedDisk(patched, root, fails)
        try:
            cubes.build(order, existing=existing, executor="serial")
        except StoreError as error:
            said = str(error)
    found = contents(root)
    assert failed
    if said:
        assert f"store {root / order.stores[0].path}" in said or f"root {root}" in said
        assert os.strerror(code) in said
        assert ("is published and complete" in said) == (found == expected[layout]), said
    else:
        assert found == expected[layout]
    assert found in ((before or {}), expected[layout])
    assert not found or not any(cubes.verify(root).values())
    cubes.build(order, existing=existing, executor="serial")
    assert contents(root) == expected[layout]
    return (
        f"{failed[0]}: {'published' if found == expected[layout] else 'not published'}, {'told' if said else 'quiet'}"
    )


def fail_each(numbers, plan, contents, expected, folder, *, replacing=False):
    outcomes = {}
    for i, n in enumerate(numbers):
        root, before = folder / f"{replacing}{n}", None
        if replacing:
            cubes.build(plan(root))
            before = contents(root)
        outcome = fail_at(n, ERRORS[i % len(ERRORS)], plan, root, contents, expected, before)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    gc.collect()  # of coroutines, here where their warning is expected
    return outcomes


def spread(kinds, each):
    """The numbers of some operations of every kind: the first, the last, and some between."""
    numbers = []
    for kind in KINDS:
        of_kind = [n for n, other in enumerate(kinds) if other == kind]
        numbers += {of_kind[i] for i in np.linspace(0, len(of_kind) - 1, each).astype(int)}
    return sorted(numbers)


def test_any_operation_may_fail(plan, operations, contents, expected, tmp_path):
    fail_each(spread(operations["balanced"], 2), plan, contents, expected, tmp_path)


def test_any_operation_of_a_replacement_may_fail(plan, operations, contents, expected, tmp_path):
    last = [len(operations["by-unit"]) - i for i in (4, 12)]
    fail_each(last, plan, contents, expected, tmp_path, replacing=True)


@pytest.mark.fault
@pytest.mark.timeout(3000)
def test_every_operation_may_fail(plan, operations, contents, expected, tmp_path):
    numbers = range(len(operations["balanced"]))
    print(len(numbers), fail_each(numbers, plan, contents, expected, tmp_path))


@pytest.mark.fault
@pytest.mark.timeout(3000)
def test_every_operation_of_a_replacement_may_fail(plan, operations, contents, expected, tmp_path):
    numbers = range(len(operations["by-unit"]))
    print(len(numbers), fail_each(numbers, plan, contents, expected, tmp_path, replacing=True))


def test_the_disk_fails_after_the_rename(plan, contents, expected, tmp_path, monkeypatch):
    """Then the store is there: "nothing was published" would be a lie."""
    order = plan(tmp_path / "root")
    final = tmp_path / "root" / order.stores[0].path
    with monkeypatch.context() as patched:
        WatchedDisk(patched, tmp_path / "root", lambda kind, n: errno.EIO * (kind == "sync" and final.exists()))
        with pytest.raises(StoreError, match=r"is published and complete, but then the disk failed .*Input/output"):
            cubes.build(order, executor="serial")
    assert contents(tmp_path / "root") == expected["balanced"]


def test_a_chunk_that_cannot_be_read_is_an_error(shared_tiny, plan, tmp_path, monkeypatch):
    """Zarr reads what is not there as zeros; what cannot be read must not be one of these."""
    root = tmp_path / "root"
    cubes.build(plan(root))
    lazy = cubes.open(root, shared_tiny.pid, chunks=None)["counts_100ms"].counts
    with monkeypatch.context() as patched:
        WatchedDisk(patched, root, lambda kind, number: errno.EIO * (kind in ("read", "open")))
        with pytest.raises((OSError, CubesError), match="Input/output error"):
            lazy.load()
    assert lazy.load().sum() == len(shared_tiny.times)


def test_a_limit_on_files(plan, contents, expected, tmp_path):
    """What the system itself does: the write fails half-way."""
    order = plan(tmp_path / "root")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
        with pytest.raises(StoreError, match=r"store .*/insertions/.*\.zarr: writing failed .*File too large"):
            cubes.build(order, executor="serial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    cubes.build(order, existing="skip")
    assert contents(tmp_path / "root") == expected["balanced"]


@contextmanager
def no_privileges():
    """Root without the right to write everywhere, in this thread."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, had = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3; of this thread
    if libc.capget(header, had):
        raise OSError(ctypes.get_errno(), "capget")
    less = (ctypes.c_uint32 * 6)(*had)
    less[0] &= ~0b110  # effective: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
    try:
        libc.capset(header, less)
        yield
    finally:
        libc.capset(header, had)


@pytest.mark.skipif(os.geteuid() == 0 and sys.platform != "linux", reason="root may write everywhere")
@pytest.mark.parametrize("folder", ["", ".staging", "insertions"])
def test_a_folder_that_is_read_only(plan, contents, expected, tmp_path, folder):
    root = tmp_path / "root"
    order, closed = plan(root), root / folder
    closed.mkdir(parents=True)
    closed.chmod(0o500)
    with no_privileges(), pytest.raises(StoreError, match=rf"{root}.*Permission denied"):
        cubes.build(order, executor="serial")
    assert not contents(root)
    closed.chmod(0o700)
    cubes.build(order, executor="serial")
    assert contents(root) == expected["balanced"]
