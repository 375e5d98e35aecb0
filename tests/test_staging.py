"""Builds that are killed, and go on; two builders of one store; the order in which things reach the disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cubes
from chunking.build import StoreTask
from chunking.journal import Journal
from chunking.manifest import read_manifest, store_files, verify_store
from chunking.staging import staging
from loaders.errors import StoreError

PRODUCTS = ["spikes", "counts_1ms", "ap", "lf"]


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def pid(source):
    return source.insertions()[0].pid


@pytest.fixture(scope="module")
def expected(source, pid, tmp_path_factory):
    """The bytes of an undisturbed build."""
    root = tmp_path_factory.mktemp("undisturbed")
    cubes.build(cubes.plan(source, [pid], PRODUCTS, root=root))
    return contents(root)


def contents(root):
    return {
        f"{store.name}/{key}": path.read_bytes()
        for store in sorted(root.glob("insertions/*/*.zarr"))
        for key, path in store_files(store).items()
    }


def stores(root):
    return list(root.glob("insertions/*/*.zarr"))


def stop_after(monkeypatch, n, error=KeyboardInterrupt):
    """Let the next builds write `n` regions, and then fail."""
    original, written = StoreTask._write, []

    def write(self, region):
        if len(written) == n:
            raise error("stopped on purpose")
        written.append(region)
        return original(self, region)

    monkeypatch.setattr(StoreTask, "_write", write)
    return written


@pytest.mark.parametrize("n", [0, 1])
def test_goes_on_where_it_stopped(source, pid, expected, tmp_path, monkeypatch, n):
    plan = cubes.plan(source, [pid], ["ap"], root=tmp_path)
    n_regions = len(plan.stores[0].regions)
    assert n_regions >= 2
    with monkeypatch.context() as patched:
        stop_after(patched, n)
        with pytest.raises(KeyboardInterrupt):
            cubes.build(plan, executor="serial")
    assert not stores(tmp_path)
    events = []
    written = stop_after(monkeypatch, 100)
    cubes.build(plan, executor="serial", progress=events.append)
    assert len(written) == n_regions - n
    assert events[0].done == n
    assert contents(tmp_path).items() == {k: v for k, v in expected.items() if k.startswith("ap.zarr")}.items()
    assert [path.suffix for path in (tmp_path / ".staging").iterdir()] == [".lock"]


def damage_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [damage_flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_what_changed_in_staging_is_done_again(source, pid, expected, tmp_path, monkeypatch, damage):
    plan = cubes.plan(source, [pid], ["ap"], root=tmp_path)
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            cubes.build(plan, executor="serial")
    damage(next(tmp_path.glob(".staging/*/store/ap/c/0/0")))
    cubes.build(plan)
    assert contents(tmp_path).items() == {k: v for k, v in expected.items() if k.startswith("ap.zarr")}.items()


def test_work_of_another_plan_is_not_taken(source, pid, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            cubes.build(cubes.plan(source, [pid], ["ap"], root=tmp_path), executor="serial")
    other = cubes.plan(source, [pid], ["ap"], root=tmp_path, voltage_layout="by-channel")
    cubes.build(other)
    assert verify_store(stores(tmp_path)[0]) == []
    assert [path.suffix for path in (tmp_path / ".staging").iterdir()] == [".lock"]


@pytest.mark.parametrize("tail", [b"", b"12345678 ", b"{}", b'deadbeef {"part": "x", "files": {}}\n', b"\xff\n\n"])
def test_a_journal_ends_before_what_a_crash_cut(tmp_path, tail):
    journal = Journal(tmp_path / "journal")
    assert journal.read() == {}
    journal.add({"a": {"k": {"bytes": 1, "crc32": "0"}}})
    journal.add({"b": {}})
    with journal.path.open("ab") as file:
        file.write(tail)
    assert journal.read() == {"a": {"k": {"bytes": 1, "crc32": "0"}}, "b": {}}
    journal.add({"c": {}})
    assert list(journal.read()) == ["a", "b", "c"]


def test_every_prefix_of_a_journal_is_a_journal(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.add({"a": {}})
    journal.add({"b": {}, "c": {}})
    data = journal.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for n in range(len(data) + 1):
        journal.path.write_bytes(data[:n])
        assert list(journal.read()) == list("abc")[: sum(end <= n for end in ends)]


def test_one_builder_at_a_time(source, pid, tmp_path):
    plan = cubes.plan(source, [pid], ["channels"], root=tmp_path)
    (store,) = plan.stores
    with (
        staging(tmp_path, store.path, store.build_key),
        pytest.raises(StoreError, match=rf"channels\.zarr: process {os.getpid()} on .* has been building it since 20"),
    ):
        cubes.build(plan)
    cubes.build(plan)
    assert verify_store(tmp_path / store.path) == []


class Recorder:
    """What reaches the disk, in order: syncs when they are done, and renames to a final path.

    `forget` names what is not synced, however it is asked for.
    """

    def __init__(self, monkeypatch, forget=lambda name: False):
        self.events = []
        fsync, rename, original = os.fsync, Path.rename, Journal.add

        def record_fsync(descriptor):
            name = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            if forget(name):
                return
            fsync(descriptor)
            self.events.append(("sync", name))

        def record_rename(path, target):
            self.events.append(("rename", str(target)))
            return rename(path, target)

        def record_journal(journal, parts):
            self.events.append(("journal begins", tuple(key for files in parts.values() for key in files)))
            original(journal, parts)
            self.events.append(("journal ends", self.events[-1]))

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(Path, "rename", record_rename)
        monkeypatch.setattr(Journal, "add", record_journal)

    def problems(self, store):
        """Where the order differs from data, journal, manifest, rename."""
        never = len(self.events)
        synced, journalled, found = {}, set(), []
        for i, (what, name) in enumerate(self.events):
            if what == "sync":
                synced.setdefault(name.split("/store/")[-1], i)
            elif what == "journal begins":
                found += [f"{key} was in the journal before it was on disk" for key in name if key not in synced]
                journalled |= set(name)
            elif what == "journal ends" and not (name[0] == "sync" and name[1].endswith("journal.jsonl")):
                found.append("the journal was not on disk when its parts were taken for committed")
        (renamed,) = [i for i, event in enumerate(self.events) if event[0] == "rename"]
        manifest = synced.get("manifest.json", never)
        if not manifest < renamed:
            found.append("the manifest was not on disk before the rename")
        if any(what.startswith("journal") for what, _ in self.events[min(manifest, renamed) :]):
            found.append("the journal went on after the manifest")
        for key in store_files(store):
            if not synced.get(key, never) < manifest:
                found.append(f"{key} was not on disk before the manifest")
            if is_chunk(key, store) and key not in journalled:
                found.append(f"{key} is not in the journal")
            if "/" in key and not manifest < synced.get(str(Path(key).parent), never) < renamed:
                found.append(f"the folder of {key} was not on disk before the rename")
        for folder in (store.parent, store.parent.parent, store.parent.parent.parent):  # all three are new
            if ("sync", str(folder)) not in self.events[renamed:]:
                found.append(f"what is new in {folder} was not on disk at the end")
        return found


def is_chunk(key, store):
    """Whether a file is one of the arrays that tasks write: those, and no others, have sums of their cells."""
    return "decoded_crc32" in read_manifest(store)["files"][key]


ALL_PRODUCTS = [*PRODUCTS, "channels", "sync", "lfp_250hz", "lfp_250hz_car", "lfp_250hz_destriped"]


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_data_then_journal_then_manifest_then_rename(source, pid, tmp_path, monkeypatch, product):
    plan = cubes.plan(source, [pid], [product], root=tmp_path / "root")
    recorder = Recorder(monkeypatch)
    (store,) = cubes.build(plan)
    assert recorder.problems(store) == []
    assert sum(is_chunk(key, store) for key in store_files(store)) == plan.stores[0].n_chunks


FORGOTTEN = {
    "lf/c/0/0 was in the journal before it was on disk": lambda name: name.endswith("/store/lf/c/0/0"),
    "x_um/c/0 was not on disk before the manifest": lambda name: name.endswith("/store/x_um/c/0"),
    "the journal was not on disk": lambda name: name.endswith("/journal.jsonl"),
    "the manifest was not on disk": lambda name: name.endswith("/manifest.json"),
    "the folder of lf/c/0/0": lambda name: name.endswith("/store/lf/c/0"),
    "what is new in ": lambda name: name.endswith("/root"),
}


@pytest.mark.parametrize("said", FORGOTTEN)
def test_without_one_sync_the_recorder_complains(source, pid, tmp_path, monkeypatch, said):
    recorder = Recorder(monkeypatch, FORGOTTEN[said])
    (store,) = cubes.build(cubes.plan(source, [pid], ["lf"], root=tmp_path / "root"))
    assert any(problem.startswith(said) for problem in recorder.problems(store))


@pytest.mark.parametrize("product", ALL_PRODUCTS)
def test_without_syncs_the_recorder_complains(source, pid, tmp_path, monkeypatch, product):
    recorder = Recorder(monkeypatch)
    monkeypatch.setattr("chunking.publish.fsync_all", lambda paths: None)
    (store,) = cubes.build(cubes.plan(source, [pid], [product], root=tmp_path / "root"))
    problems = recorder.problems(store)
    for key in store_files(store):
        assert any(problem.startswith(f"{key} was") for problem in problems)


BUILDER = """
import json, os, signal, sys, time
import numba, xarray, zarr
import chunking.build, chunking.planner, chunking.sorting_products, chunking.voltage_product, cubes
os.fsync = lambda descriptor: None  # what a process wrote outlives it, and a busy disk takes seconds

def build(source, root, pid, products):
    cubes.build(cubes.plan(cubes.source("one", source), [pid], products, root=root), existing="skip")

for line in sys.stdin:
    order, seconds = json.loads(line)
    child = os.fork()  # a new interpreter takes longer than the build
    if not child:
        build(*order)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def builder():
    """``builder(order, seconds)`` lets a child of a process build, and kills it then; gives its exit code."""
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-W", "ignore::DeprecationWarning", "-c", BUILDER], **options) as process:

        def build(order, seconds=None):
            print(json.dumps([order, seconds]), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield build
        process.stdin.close()


def kill_builds(builder, order, root, kills, counts):
    """Start builds and kill them at random moments, `kills` times; after each look at what is there, and count."""
    rng, started = random.Random(kills), time.monotonic()
    assert builder(order) == 0
    usual_s = time.monotonic() - started
    yield
    while counts["killed"] < kills:
        before = journalled(root)
        code = builder(order, rng.uniform(0.05, 0.9) * usual_s)
        assert code in (0, -signal.SIGKILL)
        counts["killed" if code else "finished"] += 1
        counts["wrong"] += sum(bool(verify_store(store)) for store in stores(root))
        counts["lost or redone"] += sum(identity not in map(identify, paths) for paths, identity in before.items())
        if len(stores(root)) == len(PRODUCTS):
            yield


def journalled(root):
    """The files that a journal lists, where they are and where they will be, and what tells that they are the same."""
    found = {}
    for journal in root.glob(".staging/*/journal.jsonl"):
        _, pid, product, *_ = journal.parent.name.split(".")
        staged, final = journal.parent / "store", root / "insertions" / pid / f"{product}.zarr"
        for files in Journal(journal).read().values():
            found |= {(staged / key, final / key): identify(staged / key) for key in files}
    return found


def identify(path):
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def run_kills(builder, sample_root_with_voltage, pid, expected, tmp_path, kills):
    """Kill builds, and go on with each until all stores are there; gives what happened."""
    root, counts = tmp_path / "root", dict.fromkeys(("killed", "finished", "wrong", "lost or redone", "complete"), 0)
    root.mkdir()
    order = (str(sample_root_with_voltage), str(root), pid, PRODUCTS)
    for _ in kill_builds(builder, order, root, kills, counts):
        assert contents(root) == expected
        counts["complete"] += 1
        shutil.rmtree(root)
        root.mkdir()
    assert builder(order) == 0
    assert contents(root) == expected
    assert (counts["wrong"], counts["lost or redone"]) == (0, 0)
    return counts


def test_kill_9_and_resume(builder, sample_root_with_voltage, pid, expected, tmp_path):
    run_kills(builder, sample_root_with_voltage, pid, expected, tmp_path, 4)


@pytest.mark.fault
@pytest.mark.timeout(3000)
def test_200_kills(builder, sample_root_with_voltage, pid, expected, tmp_path):
    print(run_kills(builder, sample_root_with_voltage, pid, expected, tmp_path, 200))


def test_the_manifest_has_the_sums_of_the_cells(source, pid, tmp_path):
    import zlib

    import zarr

    (store,) = cubes.build(cubes.plan(source, [pid], ["lf"], root=tmp_path))
    array, files = zarr.open_array(store / "lf"), read_manifest(store)["files"]
    rows, columns = array.chunks
    assert array.shape[1] % columns == 0
    for i in range(array.shape[0] // rows):
        cells = array[i * rows : (i + 1) * rows, :columns]
        assert files[f"lf/c/{i}/0"]["decoded_crc32"] == f"{zlib.crc32(cells.tobytes()):08x}"
