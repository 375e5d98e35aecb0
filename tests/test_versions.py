"""Stores that are replaced while others read them, and chunks that are compared when they are read."""

import pickle
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import xarray as xr

import cubes
from chunking.manifest import read_manifest, verify_store
from chunking.versions import READERS, Lease, archive_of, collect, replace
from cubes.pinned_store import PinnedStore
from loaders.errors import StoreError
from loaders.sample import SAMPLE

PID = SAMPLE[2].pid


@pytest.fixture(scope="module")
def source(sample_root):
    return cubes.source("one", sample_root)


def plan(source, root, layout="balanced"):
    return cubes.plan(source, [PID], ["counts_20ms"], root=root, counts_layout=layout)


@pytest.fixture
def store(source, tmp_path):
    (path,) = cubes.build(plan(source, tmp_path))
    return path


def counts(root, chunks=None):
    return cubes.open(root, PID, chunks=chunks)["counts_20ms"].counts


def archives(root):
    return sorted(root.glob("insertions/*/.versions/*"))


def test_a_reader_keeps_the_version_that_it_opened(source, store, tmp_path):
    old, key = counts(tmp_path), read_manifest(store)["build_key"]
    expected = np.asarray(counts(tmp_path))
    cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    assert read_manifest(store)["build_key"] != key
    assert archives(tmp_path) == [archive_of(store, key)]
    again = pickle.loads(pickle.dumps(old))
    assert np.array_equal(old, expected)
    assert np.array_equal(again, expected)
    assert np.array_equal(counts(tmp_path), expected)  # of another layout, with the same counts
    assert np.array_equal(xr.open_zarr(store, chunks=None).counts, expected)
    assert [row for row in cubes.verify(tmp_path).values() if row] == []


@pytest.mark.parametrize("existing", ["skip", "replace"])
@pytest.mark.parametrize("key", ["counts/c/0/0", "unit/c/0", "manifest.json"])
def test_a_damaged_store_does_not_pass_for_built(source, store, tmp_path, existing, key):
    (store / key).unlink()
    with pytest.raises(StoreError, match=rf"counts_20ms.zarr.*{key}") as told:
        cubes.build(plan(source, tmp_path), existing=existing)
    assert "remove it and build it again" in str(told.value) or key == "manifest.json"
    shutil.rmtree(store)
    assert cubes.build(plan(source, tmp_path), existing=existing) == [store]
    assert verify_store(store) == []


def test_what_is_up_to_date_is_not_built_again(source, store, tmp_path):
    assert cubes.build(plan(source, tmp_path), existing="replace") == []
    assert archives(tmp_path) == []


def test_back_and_forth(source, store, tmp_path):
    for layout in ("by-unit", "balanced", "by-unit", "balanced"):
        assert len(cubes.build(plan(source, tmp_path, layout), existing="replace")) == 1
        assert verify_store(store) == []
    assert np.asarray(counts(tmp_path)).sum() > 0


def test_a_replacement_that_a_crash_cut_goes_on(source, store, tmp_path, monkeypatch):
    def crash(a, b):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("chunking.versions._exchange", crash)
        with pytest.raises(KeyboardInterrupt):
            cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    assert verify_store(store) == []
    other = plan(source, tmp_path, "by-unit")
    monkeypatch.setattr("chunking.build.StoreTask._write", None)  # nothing is built again
    cubes.build(other, existing="replace")
    assert read_manifest(store)["build_key"] == other.stores[0].build_key
    assert [read_manifest(path)["build_key"] for path in archives(tmp_path)] != [other.stores[0].build_key]


def test_without_a_call_that_exchanges(source, store, tmp_path, monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda *args, **options: object())
    old = counts(tmp_path)
    cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    assert np.array_equal(old, counts(tmp_path))
    assert verify_store(store) == []


def age(path, seconds):
    import os

    then = time.time() - seconds
    os.utime(path, (then, then))


def test_collect_keeps_what_a_reader_may_use(source, store, tmp_path):
    reader = Lease(tmp_path)
    cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    (archive,) = archives(tmp_path)
    assert collect(tmp_path, 0) == ([], [archive])
    reader.release()
    assert collect(tmp_path, 1000) == ([], [archive])  # too recent
    assert collect(tmp_path, 0) == ([archive], [])
    assert archives(tmp_path) == []
    assert list((tmp_path / READERS).iterdir()) == []


def test_a_reader_who_began_later_does_not_keep_it(source, store, tmp_path):
    cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    (archive,) = archives(tmp_path)
    age(archive, 10)
    reader = Lease(tmp_path)
    assert collect(tmp_path, 0) == ([archive], [])
    reader.release()


def test_the_lease_of_a_dead_process_keeps_nothing(source, store, tmp_path):
    script = "import cubes, os, sys; cubes.open(sys.argv[1], sys.argv[2]); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), PID], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"open\n"
        cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
        (archive,) = archives(tmp_path)
        assert collect(tmp_path, 0) == ([], [archive])
        process.kill()
        process.wait()
    assert collect(tmp_path, 0) == ([archive], [])


def test_a_reader_that_ends_leaves_no_file(store, tmp_path):
    script = "import cubes, os, sys; cubes.open(sys.argv[1], sys.argv[2]); print(os.listdir(sys.argv[1] + '/.readers'))"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), PID], capture_output=True, text=True, check=True
    )
    assert done.stdout.count(".lock") == 1
    assert list((tmp_path / READERS).iterdir()) == []


def test_reading_a_version_that_was_collected_is_an_error(source, store, tmp_path):
    old = PinnedStore(store)
    cubes.build(plan(source, tmp_path, "by-unit"), existing="replace")
    (archive,) = archives(tmp_path)
    assert old.get_sync("counts/c/0/0") is not None
    collect(tmp_path, 0)
    if archive.exists():  # a lease of another test in this process
        pytest.skip("this process reads the root")
    with pytest.raises(StoreError, match="was replaced and removed since it was opened; open it again"):
        old.get_sync("counts/c/0/0")


@pytest.mark.parametrize("damage", ["flip", "delete", "swap", "empty"])
def test_damage_is_found_when_a_chunk_is_read(source, tmp_path, damage):
    (store,) = cubes.build(plan(source, tmp_path, "by-unit"))
    first, second = store / "counts/c/0/0", store / "counts/c/1/0"
    data = first.read_bytes()
    if damage == "flip":
        first.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    elif damage == "delete":
        first.unlink()
    elif damage == "swap":
        first.write_bytes(second.read_bytes())
    else:
        first.write_bytes(b"")
    with pytest.raises(StoreError, match=r"counts/c/0/0: expected crc32"):
        counts(tmp_path).load()


def test_a_pinned_store_is_for_reading_and_small(store):
    pinned = PinnedStore(store)
    assert pinned.read_only
    assert pinned == pickle.loads(pickle.dumps(pinned))
    assert len(pickle.dumps(pinned)) < 500
    assert pinned.get_sync("nothing/here") is None


def test_opens_during_replacements_are_never_mixed(source, tmp_path):
    mixed, opened = race(source, tmp_path, 40)
    assert (mixed, opened) == (0, 40)


@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_1000_opens_during_replacements(source, tmp_path):
    assert race(source, tmp_path, 1000) == (0, 1000)


def race(source, tmp_path, n):
    """Open and read `n` times, one chunk after another, while two versions of different values replace each other."""
    (store,) = cubes.build(plan(source, tmp_path))
    expected = np.asarray(counts(tmp_path))
    versions = {}
    for name, scale in (("one", 1), ("two", 3)):
        versions[name] = scaled(store, tmp_path / name, scale)
    stop = threading.Event()

    def keep_replacing():
        import shutil

        while not stop.is_set():
            for name, folder in versions.items():
                copy = tmp_path / f"copy-{name}"
                shutil.copytree(folder, copy)
                if read_manifest(store)["build_key"] != read_manifest(copy)["build_key"]:
                    replace(copy, store)
                else:
                    shutil.rmtree(copy)

    writer = threading.Thread(target=keep_replacing)
    writer.start()
    try:
        mixed = opened = 0
        for _ in range(n):
            lazy = counts(tmp_path)
            pieces = [np.asarray(lazy[i : i + 100]) for i in range(0, lazy.shape[0], 100)]
            values = np.concatenate(pieces)
            mixed += not any(np.array_equal(values, expected * scale) for scale in (1, 3))
            opened += 1
    finally:
        stop.set()
        writer.join()
    return mixed, opened


def scaled(store, folder, scale):
    """A copy of a store with other values in every chunk, and a manifest for them."""
    import json
    import shutil

    import zarr

    from chunking.manifest import MANIFEST, entry, make_manifest, store_files

    shutil.copytree(store, folder)
    array = zarr.open_array(folder / "counts", mode="r+", config={"write_empty_chunks": True})
    array[...] = array[...] * scale
    files = {key: entry(path) for key, path in store_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps(make_manifest(files, {"build_key": f"{scale:032x}"})))
    return folder
