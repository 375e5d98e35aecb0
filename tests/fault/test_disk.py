"""Disks that are full, broken or read-only: the error names the store, nothing is published, the same build goes on."""

import errno
import os
import resource
import signal
from pathlib import Path

import pytest

import cubes
from chunking.journal import Journal
from loaders.errors import StoreError

ERRORS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT]


class Disk:
    """Fails the `n`-th call of one of the operations of the os that the protocol uses."""

    def __init__(self, monkeypatch, n, code):
        self.calls, self.n, self.code = 0, n, code
        for owner, name in [
            (Path, "write_bytes"), (Path, "write_text"), (Path, "replace"), (Path, "rename"), (Path, "mkdir"),
            (os, "fsync"), (os, "open"), (Journal, "add"),
        ]:  # fmt: skip
            monkeypatch.setattr(owner, name, self.failing(getattr(owner, name)))

    def failing(self, original):
        def call(*args, **options):
            if ".staging" in str(args[0]) or isinstance(args[0], int):
                self.calls += 1
                if self.calls == self.n:
                    raise OSError(self.code, os.strerror(self.code), str(args[0]))
            return original(*args, **options)

        return call


@pytest.fixture
def expected(plan_tiny, contents, tmp_path):
    cubes.build(plan_tiny(tmp_path / "expected"))
    return contents(tmp_path / "expected")


def fail_at(n, code, plan, root, contents, expected, monkeypatch):
    """A build whose `n`-th operation fails, and then one that goes on; whether it came to that operation."""
    with monkeypatch.context() as patched:
        disk, said = Disk(patched, n, code), None
        try:
            cubes.build(plan, executor="serial")
        except StoreError as error:
            said = str(error)
    if said is not None:
        assert str(root / "insertions") in said or f"root {root}" in said
        assert os.strerror(code) in said
    assert not any(cubes.verify(root).values() if list(root.glob("insertions/*/*.zarr")) else [])
    cubes.build(plan, existing="skip", executor="serial")
    assert contents(root) == expected
    assert not list(root.glob(".staging/*/store"))
    return disk.calls >= n


def test_any_operation_may_fail(plan_tiny, contents, expected, tmp_path, monkeypatch):
    for i, n in enumerate(range(1, 400, 37)):
        root, code = tmp_path / str(n), ERRORS[i % len(ERRORS)]
        if not fail_at(n, code, plan_tiny(root), root, contents, expected, monkeypatch):
            break
    assert i > 3


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_every_operation_may_fail(plan_tiny, contents, expected, tmp_path, monkeypatch):
    n = -4
    while True:
        n += 5
        root = tmp_path / str(n)
        if not fail_at(n, ERRORS[n % len(ERRORS)], plan_tiny(root), root, contents, expected, monkeypatch):
            break
    print(f"every fifth of {n} operations failed")
    assert n > 100


def test_a_limit_on_files(plan_tiny, contents, expected, tmp_path):
    """What the system itself does: the write fails half-way."""
    plan = plan_tiny(tmp_path / "root")
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
        with pytest.raises(StoreError, match=r"store .*/insertions/.*\.zarr: writing failed .*File too large"):
            cubes.build(plan, executor="serial")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    cubes.build(plan, existing="skip")
    assert contents(tmp_path / "root") == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_root_that_is_read_only(plan_tiny, contents, expected, tmp_path):
    root = tmp_path / "root"
    root.mkdir(mode=0o500)
    with pytest.raises(StoreError, match=rf"root {root}: cannot be written to .*Permission denied"):
        cubes.build(plan_tiny(root))
    root.chmod(0o700)
    cubes.build(plan_tiny(root))
    assert contents(root) == expected
