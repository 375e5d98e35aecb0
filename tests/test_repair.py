"""Stores that were damaged: verify names what is wrong, repair mends just that, and the bytes are the old ones."""

import json
import random
import shutil
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import zarr

import cubes
from chunking import encode, salvage
from chunking.build import StoreTask
from chunking.made_from import read_made_from
from chunking.manifest import MANIFEST, entry, make_manifest, read_manifest, store_files
from chunking.versions import VERSIONS
from cubes.pinned_store import PinnedStore
from loaders.errors import BadArgument, InconsistentData, StoreError

PRODUCTS = ["counts_20ms", "ap"]


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def pid(source):
    return source.insertions()[0].pid


@pytest.fixture(scope="module")
def pristine(source, pid, tmp_path_factory):
    """Stores as they were built; the tests damage copies."""
    root = tmp_path_factory.mktemp("pristine")
    cubes.build(cubes.plan(source, [pid], PRODUCTS, root=root, counts_layout="by-unit"))
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "root", ignore=shutil.ignore_patterns(".staging"))


@pytest.fixture
def writes(monkeypatch):
    """The regions that are written."""
    written, original = [], StoreTask._write
    monkeypatch.setattr(StoreTask, "_write", lambda self, region: (written.append(region), original(self, region))[1])
    return written


def contents(store):
    """All that a store says, but when it was built."""
    manifest = json.loads((store / MANIFEST).read_text())
    del manifest["built"], manifest["crc32"]
    return {key: path.read_bytes() for key, path in store_files(store).items()} | {MANIFEST: manifest}


def store_of(root, product):
    (store,) = root.glob(f"insertions/*/{product}.zarr")
    return store


def array_of(store):
    return store.stem.split("_")[0]


def flip_at(path, position):
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 16
    path.write_bytes(data)


def first_chunk(store):
    return f"{array_of(store)}/c/0/0"


def flip(store):
    flip_at(store / first_chunk(store), 100)
    return {first_chunk(store)}


def cut(store):
    path = store / first_chunk(store)
    path.write_bytes(path.read_bytes()[:-1])
    return {first_chunk(store)}


def empty(store):
    (store / first_chunk(store)).write_bytes(b"")
    return {first_chunk(store)}


def delete(store):
    (store / first_chunk(store)).unlink()
    return {first_chunk(store)}


def swap(store):
    """The first and the last chunk: of two parts."""
    first, last = (store / key for key in chunk_keys(store)[:: len(chunk_keys(store)) - 1])
    data = first.read_bytes()
    first.write_bytes(last.read_bytes())
    last.write_bytes(data)
    return {path.relative_to(store).as_posix() for path in (first, last)}


def chunk_keys(store):
    return [key for key in store_files(store) if key.startswith(f"{array_of(store)}/c/")]


def stale(store):
    """A chunk that decodes, of other cells."""
    array = zarr.open_array(store / array_of(store), mode="r+", config={"write_empty_chunks": True})
    array[:1, :1] = array[:1, :1] + 1
    return {first_chunk(store)}


def extra(store):
    (store / array_of(store) / "c/99").mkdir()
    (store / array_of(store) / "c/99/9").write_bytes(b"x")
    return {f"{array_of(store)}/c/99/9"}


def label(store):
    name = "uuid" if "counts" in store.name else "gain_to_uV"
    flip_at(store / name / "c/0", 20)
    return {f"{name}/c/0"}


def array_metadata(store):
    path = store / array_of(store) / "zarr.json"
    path.write_text(path.read_text().replace("crc32c", "crc32d"))
    return {f"{array_of(store)}/zarr.json"}


def metadata(store):
    path = store / "zarr.json"
    path.write_text(path.read_text().replace('"subject"', '"Subject"'))
    return {"zarr.json"}


def no_metadata(store):
    (store / "zarr.json").unlink()
    return {"zarr.json"}


def manifest(store):
    path = store / MANIFEST
    path.write_text(path.read_text().replace('"bytes": 1', '"bytes": 2', 1))
    return {MANIFEST}


def no_manifest(store):
    (store / MANIFEST).unlink()
    return {MANIFEST}


ONE, TWO, NONE = (flip, cut, empty, delete, stale), (swap,), (extra, label, array_metadata, metadata, no_metadata)
ALL = (manifest, no_manifest)
N_PARTS = {"counts_20ms": 50, "ap": 2}


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize(
    ("mutate", "redone"),
    [*((m, 1) for m in ONE), *((m, 2) for m in TWO), *((m, 0) for m in NONE), *((m, None) for m in ALL)],
)
def test_verify_names_it_and_repair_mends_just_that(source, root, pristine, writes, product, mutate, redone):
    store, whole, n = store_of(root, product), store_of(pristine, product), N_PARTS[product]
    keys = mutate(store)
    report = cubes.verify(root)
    assert [name for name, problems in report.items() if problems] == [str(store)]
    assert {problem.key for problem in report[str(store)]} == keys
    listed = read_manifest(whole)["files"]
    for problem in report[str(store)]:
        if problem.key in listed:
            assert problem.byte_range == (0, listed[problem.key]["bytes"])
    damaged = {key: path.read_bytes() for key, path in store_files(store).items()}

    (mended,) = repairs = cubes.repair(root, source)
    expected = n if redone is None else redone
    assert (mended.path, mended.redone, mended.kept) == (store, expected, n - expected)
    assert mended.from_nothing == (redone is None)
    assert len(writes) == expected
    assert (len(repairs.intact), repairs.failed) == (1, {})
    assert contents(store) == contents(whole)
    assert not any(cubes.verify(root, level="full").values())
    (archive,) = (store.parent / VERSIONS).iterdir()
    assert {key: path.read_bytes() for key, path in store_files(archive).items()} == damaged
    assert [path.suffix for path in (root / ".staging").iterdir()] == [".lock"]
    assert cubes.repair(root, source) == []


def test_what_was_kept_was_not_copied(source, root, pid):
    store = store_of(root, "ap")
    flip(store)
    before = {key: (store / key).stat().st_ino for key in chunk_keys(store)}
    cubes.repair(root, source)
    after = {key: (store / key).stat().st_ino for key in chunk_keys(store)}
    assert [after[key] == before[key] for key in sorted(before)] == [key.endswith("/1") for key in sorted(before)]


def test_where_there_are_no_hard_links_files_are_copied(source, root, pristine, monkeypatch):
    def refuse(self, target):
        raise OSError("not on this file system")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    flip(store_of(root, "ap"))
    assert cubes.repair(root, source)[0].kept == 1
    assert contents(store_of(root, "ap")) == contents(store_of(pristine, "ap"))


def test_the_cells_of_a_chunk_are_named(root, pid):
    counts, ap = store_of(root, "counts_20ms"), store_of(root, "ap")
    (counts / "counts/c/1/0").write_bytes(b"")
    (ap / "ap/c/2/1").unlink()
    (problem,) = cubes.verify(counts)[str(counts)]
    whole = cubes.open(root, pid)
    time = whole["counts_20ms"].time.values
    assert problem.cells == f"unit 10..19, time 0..{len(time) - 1} ({time[0]:.3f} .. {time[-1]:.3f} s)"
    (problem,) = cubes.verify(ap)[str(ap)]
    first, last = whole["ap"].time.values[[30000, 59999]]
    assert problem.cells == f"channel 192..287, time 30000..59999 ({first:.3f} .. {last:.3f} s)"
    flip_at(ap / "knot_time/c/0", 5)
    problems = {problem.key: problem.cells for problem in cubes.verify(ap)[str(ap)]}
    assert problems["ap/c/2/1"] == "channel 192..287, time 30000..59999"  # the clock is not to be trusted


def reseal(store, keys, forget=("bytes", "crc32")):
    """A manifest that agrees with the changed bytes of some files."""
    said = {name: value for name, value in read_manifest(store).items() if name != "crc32"}
    files = said.pop("files")
    for key in keys:
        found = entry(store / key)
        files[key] |= {name: found[name] for name in forget}
    (store / MANIFEST).write_text(json.dumps(make_manifest(files, said), sort_keys=True, indent=1))


@pytest.mark.parametrize("product", PRODUCTS)
def test_full_finds_chunks_whose_bytes_are_as_the_manifest_has_them(root, product):
    store = store_of(root, product)
    reseal(store, stale(store))
    assert cubes.verify(store)[str(store)] == []
    (problem,) = cubes.verify(store, level="full")[str(store)]
    assert (problem.key, problem.byte_range[0]) == (first_chunk(store), 0)
    assert "decodes to cells of crc32" in problem.what
    assert " 0..9," in problem.cells or " 0..95" in problem.cells
    reseal(store, flip(store))
    (problem,) = cubes.verify(store, level="full")[str(store)]
    assert "does not decode" in problem.what


def test_full_compares_with_the_schema(root):
    store = store_of(root, "counts_20ms")
    path = store / "zarr.json"
    path.write_text(path.read_text().replace('"units":"um"', '"units":"mm"').replace('"units": "um"', '"units": "mm"'))
    reseal(store, {"zarr.json"})
    assert cubes.verify(store)[str(store)] == []
    (problem,) = cubes.verify(store, level="full")[str(store)]
    assert "units 'mm', expected 'um'" in problem.what


def test_quick_sees_sizes_and_names_only(root):
    store = store_of(root, "ap")
    flip(store)
    assert cubes.verify(store, level="quick")[str(store)] == []
    (store / "ap/c/1/1").unlink()
    assert [problem.key for problem in cubes.verify(store, level="quick")[str(store)]] == ["ap/c/1/1"]
    with pytest.raises(BadArgument, match="level: expected one of quick, bytes, full, got 'slow'"):
        cubes.verify(store, level="slow")


ALL_PRODUCTS = ["spikes", "channels", "counts_20ms", "lf", "lfp_250hz", "lfp_250hz_car", "sync"]


@pytest.fixture(scope="module")
def everything(source, pid, tmp_path_factory):
    """All products, voltage in part and linked as well."""
    root = tmp_path_factory.mktemp("everything")
    cubes.build(cubes.plan(source, [pid], ALL_PRODUCTS, root=root, window_s=(0.4, 1.7), counts_layout="by-unit"))
    cubes.build(cubes.plan(source, [pid], ["ap"], root=root, link=["ap"], window_s=(0.25, 1.5)))
    return root


def test_a_store_says_how_it_was_made(everything, source, pid):
    for store in everything.glob("insertions/*/*.zarr"):
        (recipe,) = read_made_from(store)
        (store / MANIFEST).rename(store / "aside")
        (lost,) = read_made_from(store)
        (store / "aside").rename(store / MANIFEST)
        assert lost.files == {}
        for said in (recipe, lost):
            product, inputs = said.prepare(source)
            assert said.changes(product, inputs) == []
            assert product.parameters == said.parameters


def test_every_product_equals_its_source(everything, source):
    report = cubes.verify(everything, level="full", source=source)
    assert (len(report), report.unchecked, [p for p in report.values() if p]) == (8, {}, [])


def change_cell(store, name):
    array = zarr.open_array(store / name, mode="r+", config={"write_empty_chunks": True})
    last = tuple(size - 1 for size in array.shape)
    before = array[last]
    array[last] = not before if array.dtype == bool else -before if before else 1
    index = [str(i // step) for i, step in zip(last, array.chunks, strict=True)]
    return "/".join([name, "c", *index])


@pytest.mark.parametrize(
    ("product", "name"),
    [
        *(("spikes", name) for name in ("spike_time", "row_size", "depth_um")),
        *(("counts_20ms", name) for name in ("counts", "time", "good")),
        *(("lf", name) for name in ("lf", "gain_to_uV", "knot_time")),
        *(("lfp_250hz", name) for name in ("lfp", "saturated")),
        *(("sync", "edge_sample"), ("channels", "atlas_id")),
    ],
)
def test_one_cell_that_differs_from_the_source_is_named(everything, source, tmp_path, product, name):
    """Even when manifest, codecs and sums all agree with it: only the source knows."""
    store = shutil.copytree(store_of(everything, product), tmp_path / f"{product}.zarr")
    key = change_cell(store, name)
    array = zarr.open_array(store / name)
    part = tuple(
        slice(int(i) * n, (int(i) + 1) * n) for i, n in zip(key.split("/c/")[1].split("/"), array.chunks, strict=True)
    )
    reseal(store, {key})
    said = read_manifest(store)
    if "decoded_crc32" in said["files"][key]:
        cells = np.full(array.chunks, encode.fill_value(array.dtype), array.dtype)
        cells[tuple(slice(n) for n in array[part].shape)] = array[part]
        said["files"][key]["decoded_crc32"] = f"{zlib.crc32(cells.tobytes()):08x}"
        facts = {k: v for k, v in said.items() if k not in ("files", "crc32")}
        (store / MANIFEST).write_text(json.dumps(make_manifest(said["files"], facts)))
    assert cubes.verify(store, level="full")[str(store)] == []
    (problem,) = cubes.verify(store, source=source)[str(store)]
    assert (problem.key, "differs from what the source gives" in problem.what) == (key, True)
    assert problem.cells


def test_a_source_that_has_changed_is_told_and_refused(tiny, tmp_path):
    source = cubes.source("folder", tiny.folder)
    (store,) = cubes.build(cubes.plan(source, [tiny.pid], ["counts_100ms"], root=tmp_path / "root"))
    (store / "counts/c/0/0").write_bytes(b"")
    tiny.save("spikes.times.npy", tiny.times + 0.001)
    problems = cubes.verify(store, source=cubes.source("folder", tiny.folder))[str(store)]
    (told,) = [problem for problem in problems if "source has changed" in problem.what]
    assert "spikes.times.npy has md5" in told.what
    with pytest.raises(StoreError, match=r"spikes\.times\.npy has md5 .*cubes build --replace"):
        cubes.repair(store, cubes.source("folder", tiny.folder))
    failed = cubes.repair(store, cubes.source("folder", tiny.folder), errors="report").failed
    assert list(failed) == [str(store)]
    changed = cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], ["counts_100ms"], root=tmp_path / "root")
    assert cubes.build(changed, existing="replace") == [store]  # what the message says


def test_a_source_that_gives_other_cells_under_the_same_hash_is_refused(source, root, monkeypatch):
    flip(store_of(root, "ap"))
    original = StoreTask._write

    def write(self, region):
        written = original(self, region)
        key = next(iter(written))
        path = self.folder / key
        array = zarr.open_array(self.folder / "ap", mode="r+")
        array[0, 0] = array[0, 0] + 1
        return written | {key: entry(path) | {"decoded_crc32": "00000000"}}

    monkeypatch.setattr(StoreTask, "_write", write)
    with pytest.raises(InconsistentData, match=r"does not give what the store held \(ap/c/0/0\)"):
        cubes.repair(root, source)
    assert [p.key for p in cubes.verify(root)[str(store_of(root, "ap"))]] == ["ap/c/0/0"]


def test_with_nothing_that_says_how_it_was_made_it_is_refused(source, root):
    store = store_of(root, "ap")
    (store / MANIFEST).unlink()
    (store / "zarr.json").write_text("{}")
    with pytest.raises(StoreError, match=r"manifest\.json and its zarr\.json are both lost or damaged.*build it again"):
        cubes.repair(root, source)


def test_a_manifest_of_another_version_is_not_trusted(source, root, pristine, tmp_path, pid):
    store, whole = store_of(root, "counts_20ms"), store_of(pristine, "counts_20ms")
    (other,) = cubes.build(cubes.plan(source, [pid], ["counts_20ms"], root=tmp_path / "o", counts_layout="by-time"))
    shutil.copyfile(other / MANIFEST, store / MANIFEST)
    assert len(cubes.verify(store)[str(store)]) > 5
    (mended,) = cubes.repair(store, source)
    assert (mended.from_nothing, mended.redone) == (True, 50)
    assert contents(store) == contents(whole)
    shutil.copyfile(other / "zarr.json", store / "zarr.json")  # and here it is the manifest that is right
    (mended,) = cubes.repair(store, source)
    assert (mended.from_nothing, mended.kept) == (False, 50)
    assert contents(store) == contents(whole)


def test_a_reader_of_the_damaged_version_goes_on_with_the_whole_one(source, root, pid):
    store = store_of(root, "counts_20ms")
    reader = cubes.open(root, pid)["counts_20ms"].counts
    delete(store)
    with pytest.raises(StoreError, match="counts/c/0/0"):
        reader[:5].load()
    assert cubes.gc(root, older_than_s=0) == ([], [])
    cubes.repair(root, source)
    assert reader[:5].load().shape[0] == 5
    assert PinnedStore(store).get_sync("counts/c/0/0") is not None
    removed, kept = cubes.gc(root, older_than_s=0)
    assert (removed, len(kept)) == ([], 1)  # it may be in use


def test_damaged_twice(source, root, pristine):
    store = store_of(root, "counts_20ms")
    for damage in (flip, delete, no_manifest):
        damage(store)
        assert len(cubes.repair(root, source)) == 1
        assert contents(store) == contents(store_of(pristine, "counts_20ms"))
    assert len(list((store.parent / VERSIONS).iterdir())) == 3


def test_a_linked_store_is_mended_and_a_damaged_recording_named(sample_root_with_voltage, pid, tmp_path):
    shutil.copytree(sample_root_with_voltage, tmp_path / "one")
    source = cubes.source("one", tmp_path / "one")
    (store,) = cubes.build(cubes.plan(source, [pid], root=tmp_path / "root", link=["ap"]))
    before = contents(store)
    (store / "link.json").write_text("{}")
    assert {problem.key for problem in cubes.verify(store)[str(store)]} == {"link.json"}
    assert len(cubes.repair(store, source)) == 1
    assert contents(store) == before
    insertion = source.insertion(pid)
    (path,) = (tmp_path / "one").rglob(f"{insertion.subject}/*/*/raw_ephys_data/{insertion.probe}/*.ap.cbin")
    flip_at(path, path.stat().st_size - 9)
    (problem,) = cubes.verify(store)[str(store)]
    assert (problem.key, problem.byte_range[1], problem.cells) == (
        "link.json",
        path.stat().st_size,
        "time 30000..59999",
    )
    assert path.name in problem.what


def test_repair_that_is_interrupted_goes_on(source, root, pristine, monkeypatch):
    store = store_of(root, "counts_20ms")
    for unit in (0, 2, 4):
        (store / f"counts/c/{unit}/0").unlink()
    written, original = [], StoreTask._write

    def write(self, region):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(region)
        return original(self, region)

    with monkeypatch.context() as patched:
        patched.setattr(StoreTask, "_write", write)
        with pytest.raises(KeyboardInterrupt):
            cubes.repair(root, source, executor="serial")
    assert len(cubes.verify(store)[str(store)]) == 3  # nothing has happened to it
    written.clear()
    monkeypatch.setattr(StoreTask, "_write", lambda self, region: (written.append(region), original(self, region))[1])
    monkeypatch.setattr(salvage, "_take", None)  # nor is anything taken over again
    cubes.repair(root, source)
    assert len(written) == 1
    assert contents(store) == contents(store_of(pristine, "counts_20ms"))


@pytest.mark.parametrize("step", ["rename", "exchange"])
def test_a_crash_while_the_store_is_replaced(source, root, pristine, monkeypatch, step):
    store = store_of(root, "counts_20ms")
    delete(store)

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(
            *{"rename": ("chunking.build.replace", crash), "exchange": ("chunking.versions._exchange", crash)}[step]
        )
        with pytest.raises(KeyboardInterrupt):
            cubes.repair(root, source)
    assert [problem.key for problem in cubes.verify(store)[str(store)]] == ["counts/c/0/0"]
    assert len(cubes.repair(root, source)) == 1
    assert contents(store) == contents(store_of(pristine, "counts_20ms"))


REPAIR = "import sys, cubes; print(cubes.repair(sys.argv[2], cubes.source('one', sys.argv[1])))"


def test_kill_9_and_the_same_again(sample_root_with_voltage, root, pristine):
    rng, killed = random.Random(3), 0
    command = [sys.executable, "-c", REPAIR, str(sample_root_with_voltage), str(root)]
    for product in PRODUCTS:
        delete(store_of(root, product))
    while killed < 3:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None and not list(root.glob(".staging/*/journal.jsonl")):
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.2))
        process.kill()
        if process.wait() == 0:
            for product in PRODUCTS:
                assert contents(store_of(root, product)) == contents(store_of(pristine, product))
                delete(store_of(root, product))
        else:
            killed += 1
        for product in PRODUCTS:
            keys = {p.key for p in cubes.verify(store_of(root, product))[str(store_of(root, product))]}
            assert keys <= {first_chunk(store_of(root, product))}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for product in PRODUCTS:
        assert contents(store_of(root, product)) == contents(store_of(pristine, product))


def test_verify_goes_on_and_tells_what_it_could_not_compare(root, source, sample_root_with_voltage, tmp_path):
    no_manifest(store_of(root, "ap"))
    (store_of(root, "counts_20ms") / "counts/c/0/0").unlink()
    report = cubes.verify(root)
    assert {store.rpartition("/")[2]: len(problems) for store, problems in report.items()} == {
        "ap.zarr": 1,
        "counts_20ms.zarr": 1,
    }
    empty_source = tmp_path / "session"
    (empty_source / "alf/probe00/ks").mkdir(parents=True)
    np.save(empty_source / "alf/probe00/ks/spikes.times.npy", np.zeros(1))
    report = cubes.verify(root, source=cubes.source("folder", empty_source))
    assert list(report.unchecked) == [str(store_of(root, "counts_20ms"))]
    assert len(report[str(store_of(root, "counts_20ms"))]) == 1  # what could be compared was


def test_a_file_that_may_not_be_read_is_not_compared(root, source, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    store = store_of(root, "ap")
    monkeypatch.setattr("chunking.manifest.crc32_of_file", refuse)
    report = cubes.verify(store)
    assert (report[str(store)], "Permission denied" in report.unchecked[str(store)]) == ([], True)
    with pytest.raises(StoreError, match=r"ap\.zarr: cannot be read .*Permission denied"):
        cubes.repair(store, source)
