"""Stores in another layout: what a build with that layout would have made, byte for byte, however they come to it."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import cubes
from chunking import encode
from chunking.build import LABELS, StoreTask
from chunking.layouts import COUNTS_LAYOUTS, LFP_CHUNK, LFP_LAYOUTS, VOLTAGE_LAYOUTS
from chunking.manifest import MANIFEST, entry, make_manifest, read_manifest, store_files
from chunking.on_dask import ClusterLost
from chunking.rechunk import rechunk_regions
from chunking.staging import staging
from chunking.versions import VERSIONS
from cubes import rechunking
from cubes.cli import run
from cubes.rechunking import plan_rechunk
from loaders.errors import BadArgument, InconsistentData, NotFound, PlanRefused, StoreError

PRODUCTS = ["counts_20ms", "ap", "lf", "lfp_250hz"]
LAYOUTS = [
    ("counts_20ms", "by-unit"),
    ("counts_20ms", "by-time"),
    ("ap", "by-time"),
    ("ap", "by-channel"),
    ("lf", "by-time"),
    ("lf", "by-channel"),
    ("lfp_250hz", "by-time"),
    ("lfp_250hz", "by-channel"),
]


@pytest.fixture(scope="module")
def source(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def pid(source):
    return source.insertions()[0].pid


@pytest.fixture(scope="module")
def built(source, pid, tmp_path_factory):
    """``built(layout)``: a root whose stores are built with a layout; nothing changes it."""
    roots = {}

    def build(layout):
        if layout not in roots:
            roots[layout] = tmp_path_factory.mktemp(layout)
            names = [product for product, other in LAYOUTS if layout in ("balanced", other)]
            layouts = {"counts_layout": layout} if layout in COUNTS_LAYOUTS else {}
            layouts |= {"voltage_layout": layout} if layout in VOLTAGE_LAYOUTS else {}
            cubes.build(cubes.plan(source, [pid], list(dict.fromkeys(names)), root=roots[layout], **layouts))
        return roots[layout]

    return build


@pytest.fixture
def root(built, tmp_path):
    ignored = shutil.ignore_patterns(".staging", ".readers")
    return shutil.copytree(built("balanced"), tmp_path / "root", ignore=ignored)


def store_of(root, product="counts_20ms"):
    (store,) = root.glob(f"insertions/*/{product}.zarr")
    return store


def contents(store):
    """All that a store says, but when it was built."""
    manifest = json.loads((store / MANIFEST).read_text())
    said = {name: value for name, value in manifest.items() if name not in ("built", "crc32")}
    return {key: path.read_bytes() for key, path in store_files(store).items()} | {MANIFEST: said}


@pytest.mark.parametrize(("product", "layout"), LAYOUTS)
def test_a_copy_equals_a_build_with_the_layout_and_comes_back(built, root, source, product, layout):
    store = store_of(root, product)
    before, old = contents(store), xr.open_zarr(store, chunks=None).load()
    assert cubes.rechunk(store, layout) == [store]
    assert contents(store) == contents(store_of(built(layout), product))
    new = xr.open_zarr(store, chunks=None).load()
    assert new.drop_attrs().identical(old.drop_attrs())
    assert json.loads(new.parameters)["layout"] == layout
    labels = [key for key in before if "/c" in key and "decoded_crc32" not in before[MANIFEST]["files"][key]]
    assert labels
    assert all((store / key).read_bytes() == before[key] for key in labels)
    assert cubes.rechunk(store, "balanced") == [store]
    assert contents(store) == before


def test_what_is_known_of_a_store_is_known_of_its_copy(root, source, pid):
    store = store_of(root)
    reader = cubes.open(root, pid)["counts_20ms"].to_dataset()
    cubes.rechunk(store, "by-time")
    assert cubes.info(store)["variables"]["counts"]["chunks"] == [500, 5000]
    status = cubes.status(root).set_index("product")
    assert set(status.state) == {"built"}
    assert status.versions_kept["counts_20ms"] == 1
    planned = cubes.plan(source, [pid], ["counts_20ms"], root=root, counts_layout="by-time")
    assert set(cubes.status(root, planned)[:1].state) == {"built"}
    report = cubes.verify(store, level="full", source=source)
    assert (report[str(store)], report.unchecked) == ([], {})
    np.testing.assert_array_equal(reader.counts.values, cubes.open(root, pid)["counts_20ms"].counts.values)
    (store / "counts/c/0/1").write_bytes(b"")
    assert [one.redone for one in cubes.repair(store, source)] == [1]
    assert not cubes.verify(store)[str(store)]
    removed, _ = cubes.gc(root, older_than_s=-1)
    assert removed == []  # this process reads


def test_what_has_the_layout_is_left_alone(root):
    store = store_of(root)
    done = cubes.rechunk(store, "balanced")
    assert (done, done.unchanged) == ([], [store])
    assert not (store.parent / VERSIONS).exists()
    next(store.glob("counts/c/*/*")).unlink()
    with pytest.raises(StoreError, match=r"is damaged \(counts/c/.*run cubes repair"):
        cubes.rechunk(store, "balanced")


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_bytes_are_the_same_wherever_it_runs(built, root, executor):
    store = store_of(root, "ap")
    cubes.rechunk(store, "by-channel", executor=executor)
    assert contents(store) == contents(store_of(built("by-channel"), "ap"))


def test_a_task_carries_little(root):
    _, product = plan_rechunk(store_of(root, "ap"), "by-channel")
    assert len(pickle.dumps(product)) < 20_000


@pytest.mark.parametrize("damage", ["byte", "cut", "lost", "label"])
def test_damage_is_noticed_and_nothing_replaced(root, damage):
    store = store_of(root)
    manifest = (store / MANIFEST).read_bytes()
    chunk = store / ("depth_um/c/0" if damage == "label" else "counts/c/1/0")
    data = bytearray(chunk.read_bytes())
    if damage == "lost":
        chunk.unlink()
    else:
        data[len(data) // 2] ^= 4
        chunk.write_bytes(data[:-9] if damage == "cut" else data)
    with pytest.raises(StoreError, match=r"(counts/c/1/0|depth_um/c/0): expected crc32 .*run cubes verify"):
        cubes.rechunk(store, "by-unit")
    assert (store / MANIFEST).read_bytes() == manifest
    assert not (store.parent / VERSIONS).exists()


def test_cells_that_are_not_those_of_the_manifest_are_noticed(root):
    """The bytes are as the manifest has them, the sum of the cells is another: a codec that lies."""
    store = store_of(root)
    manifest = read_manifest(store)
    files, facts = manifest.pop("files"), {k: v for k, v in manifest.items() if k not in ("crc32", "manifest_version")}
    files["counts/c/1/0"]["decoded_crc32"] = "00000000"
    (store / MANIFEST).write_text(json.dumps(make_manifest(files, facts), sort_keys=True, indent=1))
    with pytest.raises(StoreError, match=r"counts/c/1/0: decodes to cells of crc32 .*, expected 00000000"):
        cubes.rechunk(store, "by-unit")


def test_what_cannot_be_rechunked_is_refused(root, source, pid):
    linked, repository = root.parent / "linked", root.parent / "other/insertions" / pid / "counts_20ms.icechunk"
    repository.mkdir(parents=True)
    cubes.build(cubes.plan(source, [pid], ["spikes", "trials"], root=root))
    cubes.build(cubes.plan(source, [pid], root=linked, link=["ap"]))
    cases = [
        (store_of(root, "spikes"), "by-unit", PlanRefused, "'spikes': has no layouts; expected counts_<width>, ap"),
        (next(root.glob("sessions/*/trials.zarr")), "by-time", PlanRefused, "'trials': has no layouts"),
        (store_of(root, "lf"), "by-unit", PlanRefused, "layout 'by-unit': does not exist; layouts that exist: bal"),
        (store_of(linked, "ap"), "by-time", PlanRefused, "links to the recording"),
        (root / "insertions" / pid / "counts_1ms.zarr", "by-unit", NotFound, "no such folder"),
        (
            root,
            "diagonal",
            PlanRefused,
            "layout 'diagonal': does not exist; layouts that exist: balanced, by-",
        ),
        (repository, "by-unit", BadArgument, "is an icechunk repository; only Zarr stores"),
        (repository.parents[2], "by-unit", BadArgument, "is an icechunk repository; only Zarr stores"),
        (linked, "by-unit", NotFound, "holds no store of a product with the layout 'by-unit'; cubes ls"),
        ("s3://bucket/prefix", "by-unit", BadArgument, "local folder"),
    ]
    for path, layout, error, message in cases:
        with pytest.raises(error, match=message):
            cubes.rechunk(path, layout)
    with pytest.raises(PlanRefused, match="'spikes': has no layouts"):
        cubes.rechunk(root, "by-unit", products=["spikes"])
    with pytest.raises(NotFound, match="no store of the products counts_1ms; cubes ls"):
        cubes.rechunk(root, "by-unit", products=["counts_1ms"])
    moved = shutil.copytree(store_of(root), root.parent / "a/b/c/counts_20ms.zarr")
    with pytest.raises(StoreError, match=f"expected <root>/insertions/{pid}/counts_20ms.zarr; move it"):
        cubes.rechunk(moved, "by-unit")


def test_a_store_of_another_version_is_refused(root):
    """A copy would say that this version had made its labels."""
    store = store_of(root)
    text = (store / "zarr.json").read_text()
    version = cubes.info(store)["attrs"]["ibl_cubes_version"]
    (store / "zarr.json").write_text(text.replace(f'"ibl_cubes_version": "{version}"', '"ibl_cubes_version": "0.0.1"'))
    manifest = read_manifest(store)
    files, facts = manifest.pop("files"), {k: v for k, v in manifest.items() if k not in ("crc32", "manifest_version")}
    files["zarr.json"] = entry(store / "zarr.json")
    (store / MANIFEST).write_text(json.dumps(make_manifest(files, facts), sort_keys=True, indent=1))
    with pytest.raises(StoreError, match=r"made by another version of ibl-cubes or iblatlas .*build --replace"):
        cubes.rechunk(store, "by-unit")


def test_a_store_without_cells(tiny, tmp_path):
    """A sorting without spikes: labels alone, and nothing to copy."""
    for name in ("times", "clusters", "amps", "depths"):
        tiny.save(f"spikes.{name}.npy", tiny_column(tiny, name)[:0])
    source = cubes.source("folder", tiny.folder)
    for root, layout in ((tmp_path / "a", "balanced"), (tmp_path / "b", "by-unit")):
        cubes.build(cubes.plan(source, [tiny.pid], ["counts_20ms"], root=root, counts_layout=layout))
    cubes.rechunk(tmp_path / "a", "by-unit")
    assert contents(store_of(tmp_path / "a")) == contents(store_of(tmp_path / "b"))
    with pytest.raises(PlanRefused, match="holds no cells"):
        cubes.advise(store=store_of(tmp_path / "a"), measure=False)


def tiny_column(tiny, name):
    (path,) = tiny.folder.rglob(f"spikes.{name}.npy")
    return np.load(path)


def test_a_version_that_came_meanwhile_is_not_undone(root, built, monkeypatch):
    """Another process replaces the store after it was looked at, and before it is held."""
    store, room = store_of(root), rechunking.refuse_full_disk

    def replaced(*args):
        monkeypatch.setattr(rechunking, "refuse_full_disk", room)
        cubes.rechunk(store, "by-time")

    monkeypatch.setattr(rechunking, "refuse_full_disk", replaced)
    with pytest.raises(InconsistentData, match="was replaced meanwhile; rechunk it again"):
        cubes.rechunk(store, "by-unit")
    assert contents(store) == contents(store_of(built("by-time")))


def test_of_two_at_once_the_second_is_told_who_is_first(root):
    store = store_of(root)
    plan, _ = plan_rechunk(store, "by-time")
    with staging(root, plan.path, plan.build_key):
        done = cubes.rechunk(store, "by-unit", errors="report")
    assert f"process {os.getpid()} on " in done.failed[str(store)]
    assert not (store.parent / VERSIONS).exists()
    assert cubes.rechunk(store, "by-unit") == [store]


def test_roots_products_and_pids(source, tmp_path):
    pids = [insertion.pid for insertion in source.insertions()]
    names = ["counts_20ms", "counts_100ms", "lf", "channels"]
    cubes.build(cubes.plan(source, pids[:2], names, root=tmp_path))

    def rechunked(layout, **chosen):
        done = cubes.rechunk(tmp_path, layout, **chosen)
        return sorted((path.parent.name == pids[1], path.stem) for path in done), len(done.unchanged)

    assert rechunked("by-unit", products=["counts_20ms"], pids=pids[:1]) == ([(False, "counts_20ms")], 0)
    both = [(False, "counts_100ms"), (True, "counts_100ms"), (True, "counts_20ms")]
    assert rechunked("by-unit") == (both, 1)
    assert rechunked("by-channel") == ([(False, "lf"), (True, "lf")], 0)
    with pytest.raises(NotFound, match="and the pids 11111111-1"):
        cubes.rechunk(tmp_path, "by-unit", pids=["11111111-1111-4111-8111-111111111111"])


def test_a_cluster_that_is_lost_is_lost_for_all(root, monkeypatch):
    asked = []

    def lost(*args, **_):
        asked.append(args)
        raise ClusterLost("the scheduler is gone")

    monkeypatch.setattr("cubes.rechunking.build_one", lost)
    with pytest.raises(ClusterLost):
        cubes.rechunk(root, "by-time", errors="report")
    assert len(asked) == 1


def test_one_store_that_fails_does_not_stop_the_others(root):
    store = store_of(root)
    next(store.glob("counts/c/*/*")).write_bytes(b"x")
    done = cubes.rechunk(root, "by-time", errors="report")
    assert {path.stem for path in done} == {"ap", "lf", "lfp_250hz"}
    assert list(done.failed) == [str(store)]
    with pytest.raises(BadArgument, match="errors: expected one of raise, report"):
        cubes.rechunk(root, "by-time", errors="ignore")


def test_the_command(root, capsys):
    store = store_of(root)
    assert run(["rechunk", str(store), "--layout", "by-unit"]) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(store)]
    assert "stores rechunked: 1, unchanged: 0" in said.err
    assert run(["rechunk", str(root), "--layout", "by-time", "--product", "ap", "counts_20ms", "--json"]) == 0
    assert {Path(path).stem for path in json.loads(capsys.readouterr().out)["rechunked"]} == {"ap", "counts_20ms"}
    assert run(["rechunk", str(root), "--layout", "by-time", "--json"]) == 0
    assert {Path(path).stem for path in json.loads(capsys.readouterr().out)["unchanged"]} == {"ap", "counts_20ms"}
    (store / MANIFEST).write_text("{}")
    assert run(["rechunk", str(store), "--layout", "by-unit"]) == 1
    assert "manifest.json" in capsys.readouterr().err
    assert run(["rechunk", "--layout", "by-unit"]) == 2
    assert run(["rechunk", str(store), "--layout", "diagonal"]) == 1
    capsys.readouterr()
    assert run(["rechunk", "s3://bucket/prefix", "--layout", "by-unit"]) == 1
    assert "root s3://bucket/prefix: rechunk works on a local folder only" in capsys.readouterr().err


KILLED = """
import os, sys
import cubes
from chunking.journal import Journal
add, left = Journal.add, int(sys.argv[3])
def dying(self, parts):
    global left
    for part, files in parts.items():
        if not left:
            os._exit(9)
        add(self, {part: files})
        left -= 1
Journal.add = dying
cubes.rechunk(sys.argv[1], sys.argv[2], executor="serial")
"""


@pytest.mark.parametrize("parts", [0, 1, 5])
def test_a_copy_that_was_killed_goes_on(built, root, parts, monkeypatch):
    """Small regions, so that there are several of them."""
    store = store_of(root, "ap")
    code = f"import chunking.rechunk as r; r.rechunk_regions.__kwdefaults__['nbytes'] = 1\n{KILLED}"
    killed = subprocess.run([sys.executable, "-c", code, str(store), "by-channel", str(parts)], capture_output=True)
    assert killed.returncode == 9, killed.stderr
    assert contents(store) == contents(store_of(built("balanced"), "ap"))
    staged = cubes.status(root).set_index("product").parts_staged["ap"]
    assert staged == parts
    monkeypatch.setitem(rechunk_regions.__kwdefaults__, "nbytes", 1)
    seen = []
    cubes.rechunk(store, "by-channel", progress=seen.append)
    assert seen[0].done == staged
    assert contents(store) == contents(store_of(built("by-channel"), "ap"))


def test_what_was_made_in_other_regions_is_no_progress(built, root):
    """Those of a build that was killed, or of a copy of another version: `done` tells when a store is published."""
    store = store_of(root, "ap")
    code = f"import chunking.rechunk as r; r.rechunk_regions.__kwdefaults__['nbytes'] = 1\n{KILLED}"
    assert subprocess.run([sys.executable, "-c", code, str(store), "by-channel", "5"]).returncode == 9
    seen = []
    cubes.rechunk(store, "by-channel", progress=seen.append)
    assert [one.done for one in seen] == list(range(seen[0].total + 1))
    assert contents(store) == contents(store_of(built("by-channel"), "ap"))


def test_an_interrupted_copy_says_so(root, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cubes.rechunked_product.RechunkedProduct.blocks", interrupted)
    assert run(["rechunk", str(root), "--layout", "by-unit"]) == 130
    assert "interrupted; nothing half-written was published. The same command goes on" in capsys.readouterr().err


def test_a_disk_that_is_too_small_is_refused(root, monkeypatch):
    monkeypatch.setattr("chunking.room.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 9))
    with pytest.raises(PlanRefused, match="9 B are free on its disk"):
        cubes.rechunk(store_of(root, "ap"), "by-time")


sizes = st.integers(1, 60)


@given(shape=st.tuples(sizes, sizes), old=st.tuples(sizes, sizes), new=st.tuples(sizes, sizes), nbytes=sizes)
def test_regions_are_whole_chunks_that_cover_the_array_once(shape, old, new, nbytes):
    old, new = (tuple(min(c, s) for c, s in zip(chunks, shape, strict=True)) for chunks in (old, new))
    regions = rechunk_regions(shape, old, new, 1, nbytes=nbytes)
    seen = np.zeros(shape, int)
    for (r0, r1), (t0, t1) in regions:
        seen[r0:r1, t0:t1] += 1
        assert r0 % new[0] == t0 % new[1] == 0
        assert r1 % new[0] == 0 or r1 == shape[0]
        assert t1 % new[1] == 0 or t1 == shape[1]
        assert (r1 - r0) * (t1 - t0) <= max(nbytes, new[0] * new[1])
    assert (seen == 1).all()


@given(shape=st.tuples(sizes, sizes), old=st.tuples(sizes, sizes), new=st.tuples(sizes, sizes))
def test_with_room_no_chunk_is_read_twice(shape, old, new):
    old, new = (tuple(min(c, s) for c, s in zip(chunks, shape, strict=True)) for chunks in (old, new))
    regions = rechunk_regions(shape, old, new, 1, nbytes=10_000)
    touched = [
        (i, j)
        for (r0, r1), (t0, t1) in regions
        for i in range(r0 // old[0], -(-r1 // old[0]))
        for j in range(t0 // old[1], -(-t1 // old[1]))
    ]
    assert len(touched) == len(set(touched)) == -(-shape[0] // old[0]) * -(-shape[1] // old[1])


@pytest.mark.parametrize("hours", [1, 8])
@pytest.mark.parametrize("kind", ["counts_1ms", "ap", "lf", "lfp_250hz"])
def test_memory_does_not_grow_with_the_length_and_little_is_read_twice(kind, hours):
    rate, rows, itemsize, layouts = {
        "counts_1ms": (1000.0, 1200, 1, COUNTS_LAYOUTS),
        "ap": (30_000.39, 384, 2, VOLTAGE_LAYOUTS),
        "lf": (2500.03, 384, 2, VOLTAGE_LAYOUTS),
        "lfp_250hz": (250.0, 384, 4, LFP_LAYOUTS),
    }[kind]
    shape = (rows, int(hours * 3600 * rate))
    for old in layouts.values():
        for new in layouts.values():
            old_chunk, new_chunk = (layout.chunks(kind, shape, rate) for layout in (old, new))
            regions = rechunk_regions(shape, old_chunk, new_chunk, itemsize)
            assert max((b - a) * (d - c) for (a, b), (c, d) in regions) * itemsize <= 1 << 28
            read = sum(
                (-(-b // old_chunk[0]) - a // old_chunk[0]) * (-(-d // old_chunk[1]) - c // old_chunk[1])
                for (a, b), (c, d) in regions
            )
            n_chunks = -(-shape[0] // old_chunk[0]) * -(-shape[1] // old_chunk[1])
            long = kind == "counts_1ms" and "by-unit" in (old.name, new.name)  # in all units too large for a task
            assert read <= n_chunks * (1 if not long else 20 if "by-time" in (old.name, new.name) else 6)


def test_chunks_of_lfp_divide_what_a_task_makes():
    assert all(LFP_CHUNK[1] % layout.samples == 0 for layout in LFP_LAYOUTS.values())


@pytest.mark.parametrize(("product", "layout"), LAYOUTS)
def test_no_task_holds_more_than_the_plan_says(root, product, layout):
    plan, copied = plan_rechunk(store_of(root, product), layout)
    folder = root / "made"
    encode.create_arrays(folder, plan.arrays)
    task = StoreTask(folder, copied, None, plan.arrays, {})
    for part in (LABELS, *plan.regions[:2], plan.regions[-1]):
        tracemalloc.start()
        task(part)
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held <= plan.task_bytes


@pytest.mark.fault
def test_killed_at_any_time_the_same_command_goes_on(built, root):
    """kill -9 again and again: what readers find is the old version or the new one, and whole."""
    store, rng = store_of(root, "ap"), random.Random(5)
    whole = [contents(store_of(built(layout), "ap")) for layout in ("balanced", "by-channel")]
    code = "import chunking.rechunk as r, sys, cubes; r.rechunk_regions.__kwdefaults__['nbytes'] = 1; print(flush=True)"
    code += "; cubes.rechunk(sys.argv[1], 'by-channel'); print('done', flush=True)"
    kills = 0
    for _ in range(25):
        process = subprocess.Popen([sys.executable, "-c", code, str(store)], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(rng.uniform(0.2, 2.5))
        process.kill()
        said, _ = process.communicate()
        found = contents(store)
        assert found in whole
        kills += "done" not in said
        if "done" in said:
            assert found == whole[1]
            cubes.rechunk(store, "balanced")
            cubes.gc(root, older_than_s=-1)
    assert kills > 5


def test_stores_of_another_data_set(allen_release, tmp_path):
    """LFP that was published as it is, in another class; ids that say whose it is."""
    source = cubes.source("allen-vbn", allen_release.bucket, cache=tmp_path / "cache")
    pids = [source.insertions()[0].pid]
    layouts = {"counts_layout": "by-unit", "voltage_layout": "by-channel"}
    for root, chosen in ((tmp_path / "a", {}), (tmp_path / "b", layouts)):
        cubes.build(cubes.plan(source, pids, ["counts_10ms", "lfp_1250hz"], root=root, **chosen))
    for product, layout in (("counts_10ms", "by-unit"), ("lfp_1250hz", "by-channel")):
        store, expected = (store_of(tmp_path / root, product) for root in ("a", "b"))
        assert cubes.rechunk(store, layout) == [store]
        assert contents(store) == contents(expected)
        report = cubes.verify(store, source=source)
        assert (report[str(store)], report.unchecked) == ([], {})
