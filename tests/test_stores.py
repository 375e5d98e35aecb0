"""What lies on disk: against brute force, opened without our packages, complete or absent."""

import json
import re
import shutil
import subprocess
import sys
import zlib
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from iblatlas.regions import BrainRegions

import cubes
from chunking import encode
from chunking.manifest import verify_store
from chunking.plan import ArrayPlan
from chunking.schema import validate
from chunking.sorting_products import CountsProduct
from loaders.errors import CorruptData, NotFound, PlanRefused, StoreError
from loaders.sample import SAMPLE
from loaders.sorting import load_sorting

PIDS = [probe.pid for probe in SAMPLE]
WIDTHS = {"1ms": "1/1000", "10ms": "1/100", "20ms": "1/50", "100ms": "1/10", "1_3s": "1/3"}


def brute_force(times, clusters, n_units, width, n_bins):
    """Counts by searchsorted on edges that Python rounds, unit by unit."""
    width = Fraction(width)
    edges = np.array([k * width.numerator / width.denominator for k in range(n_bins + 1)])
    return np.stack([np.diff(np.searchsorted(times[clusters == unit], edges)) for unit in range(n_units)])


@pytest.mark.parametrize("pid", PIDS)
@pytest.mark.parametrize("name", WIDTHS)
def test_counts_equal_brute_force(sample_source, sample_cubes, pid, name):
    spikes = load_sorting(sample_source, pid).spikes
    with xr.open_zarr(sample_cubes / f"insertions/{pid}/counts_{name}.zarr", chunks=None) as ds:
        counts = ds["counts"].values
        expected = brute_force(spikes.times, spikes.clusters, *counts.shape[:1], WIDTHS[name], counts.shape[1])
        np.testing.assert_array_equal(counts, expected)
        np.testing.assert_array_equal(counts.sum(1), np.bincount(spikes.clusters, minlength=len(counts)))
        assert counts.sum() == len(spikes.times) == ds.attrs["n_spikes"]
        assert counts[:, -1].sum() > 0  # the grid ends with the last spike


@pytest.mark.parametrize("pid", PIDS)
def test_ragged_spikes_are_all_spikes_by_unit_then_time(sample_source, sample_cubes, pid):
    spikes = load_sorting(sample_source, pid).spikes
    with xr.open_zarr(sample_cubes / f"insertions/{pid}/spikes.zarr", chunks=None) as ds:
        order = np.lexsort((np.arange(len(spikes)), spikes.times, spikes.clusters))
        for name in ("times", "amps", "depths"):
            np.testing.assert_array_equal(ds[f"spike_{name[:-1]}"], getattr(spikes, name)[order])
        ends = ds["row_start"] + ds["row_size"]
        for unit in (0, 7, ds.sizes["unit"] - 1):
            mine = ds["spike_time"].values[int(ds["row_start"][unit]) : int(ends[unit])]
            np.testing.assert_array_equal(mine, spikes.times[spikes.clusters == unit])
        assert int(ends[-1]) == len(spikes)


def test_ragged_spikes_in_many_chunks(sample_source, tmp_path, monkeypatch):
    monkeypatch.setattr("chunking.sorting_products.SPIKES_PER_CHUNK", 1000)
    cubes.build(cubes.plan(sample_source, PIDS[2:], ["spikes"], root=tmp_path))
    spikes = load_sorting(sample_source, PIDS[2]).spikes
    with xr.open_zarr(tmp_path / f"insertions/{PIDS[2]}/spikes.zarr") as ds:
        assert ds["spike_time"].chunks[0][0] == 1000
        np.testing.assert_array_equal(ds["spike_time"], spikes.times[np.lexsort((spikes.times, spikes.clusters))])


PLAIN = """
import sys, warnings
warnings.simplefilter("error")
import xarray as xr
ds = xr.open_zarr(sys.argv[1])
assert not {"cubes", "chunking", "loaders"} & set(sys.modules)
assert ds["counts"].dims == ("unit", "time") and ds["counts"].dtype == "uint8", ds["counts"]
assert ds["counts"].attrs["units"] == "1" and ds["time"].attrs["units"] == "s" and ds["time"].dtype == "float64"
assert ds["time"].attrs["bin_width"] == 0.02 and ds["time"].attrs["t0"] == 0.0
labels = ("uuid pid acronym_allen acronym_beryl acronym_cosmos acronym_swanson atlas_id x y z ccf_ap ccf_dv ccf_ml "
    "hemisphere depth_um channel label good firing_rate amp_median").split()
assert set(labels) <= set(ds.coords), set(labels) - set(ds.coords)
assert all(ds[name].attrs["long_name"] for name in labels)
assert [ds[name].attrs["units"] for name in ("x", "ccf_ap", "depth_um", "amp_median")] == ["m", "um", "um", "V"]
loaded = ds.load()
ca1 = loaded.sel(unit=(loaded["acronym_allen"] == "CA1") & loaded["good"])
print(ds.sizes["unit"], ca1.sizes["unit"], float(ds["time"][0]))
"""


def test_plain_xarray_opens_a_store_with_all_labels_and_no_warning(sample_cubes, tmp_path):
    store = sample_cubes / f"insertions/{PIDS[0]}/counts_20ms.zarr"
    command = [sys.executable, "-P", "-c", PLAIN, str(store)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    units, ca1, first = result.stdout.split()
    assert (units, first) == ("500", "0.01")
    assert 0 < int(ca1) < 100


@pytest.mark.parametrize("product", ["spikes", "channels", "counts_1ms"])
def test_metadata_are_strict_json_with_no_path_of_this_machine(sample_cubes, sample_root, product):
    store = sample_cubes / f"insertions/{PIDS[0]}/{product}.zarr"

    def refuse(constant):
        pytest.fail(f"{constant} is not strict JSON")

    for path in [*store.rglob("zarr.json"), store / "manifest.json"]:
        text = path.read_text()
        json.loads(text, parse_constant=refuse)
        assert str(sample_cubes) not in text
        assert str(sample_root) not in text


def files_of(store):
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_the_same_inputs_give_the_same_bytes(sample_source, sample_root, sample_cubes, tmp_path):
    cubes.build(cubes.plan(sample_source, PIDS[:1], ["spikes", "counts_20ms"], root=tmp_path), workers=1)
    for product in ("spikes", "counts_20ms"):
        path = f"insertions/{PIDS[0]}/{product}.zarr"
        first, second = files_of(sample_cubes / path), files_of(tmp_path / path)
        del first["manifest.json"], second["manifest.json"]  # it says when the store was built
        assert first == second


def test_a_bare_folder_gives_the_same_numbers_as_the_cache(sample_root, sample_cubes, tmp_path):
    session = next(sample_root.glob("*/Subjects/*/*/*"))
    probe = next(probe for probe in SAMPLE if probe.subject == session.parts[-3] and probe.probe == "probe00")
    source = cubes.source("folder", session, pids={"probe00": probe.pid})
    cubes.build(cubes.plan(source, [probe.pid], ["counts_20ms"], root=tmp_path))
    ours = cubes.open(tmp_path, probe.pid)["counts_20ms"].to_dataset()
    xr.testing.assert_equal(ours.load(), cubes.open(sample_cubes, probe.pid)["counts_20ms"].to_dataset().load())


@pytest.mark.parametrize("layout", ["by-unit", "by-time"])
def test_layouts_change_chunks_and_nothing_else(sample_source, sample_cubes, tmp_path, layout):
    cubes.build(cubes.plan(sample_source, PIDS[2:], ["counts_10ms"], root=tmp_path, counts_layout=layout))
    ours = cubes.open(tmp_path, PIDS[2])["counts_10ms"].to_dataset()
    reference = cubes.open(sample_cubes, PIDS[2])["counts_10ms"].to_dataset()
    assert ours.counts.chunks != reference.counts.chunks
    xr.testing.assert_equal(ours.load(), reference.load())


def test_two_bytes_where_one_does_not_hold_the_counts(tiny, tmp_path):
    tiny.save("spikes.times.npy", np.sort(np.r_[np.full(300, 0.5), tiny.times]))
    tiny.save("spikes.clusters.npy", np.r_[np.zeros(309)].astype(np.uint32))
    for name in ("amps", "depths"):
        tiny.save(f"spikes.{name}.npy", np.zeros(309))
    source = cubes.source("folder", tiny.folder)
    cubes.build(cubes.plan(source, [tiny.pid], ["counts_100ms"], root=tmp_path / "root"))
    counts = cubes.open(tmp_path / "root", tiny.pid)["counts_100ms"].counts
    assert counts.dtype == "uint16"
    assert int(counts.max()) == 300


def test_notes_of_the_loader_are_in_the_cube(tiny, tmp_path):
    tiny.save("spikes.times.npy", np.r_[np.nan, tiny.times[1:] - 0.15])
    source = cubes.source("folder", tiny.folder)
    cubes.build(cubes.plan(source, [tiny.pid], ["counts_100ms"], root=tmp_path / "root"))
    ds = cubes.open(tmp_path / "root", tiny.pid)["counts_100ms"]
    assert ds.attrs["notes"].split("\n") == [
        "1 of 9 spikes have no finite time and were left out",
        "1 spikes lie before session time 0; kept",
    ]
    assert float(ds.time[0]) == -0.05
    assert ds.time.attrs["t0"] == -0.1
    assert int(ds.counts.sum()) == 8


def test_a_sorting_without_spikes_has_units_and_no_time(tiny, tmp_path):
    for name, dtype in (("times", float), ("clusters", np.uint32), ("amps", float), ("depths", float)):
        tiny.save(f"spikes.{name}.npy", np.zeros(0, dtype=dtype))
    source = cubes.source("folder", tiny.folder)
    cubes.build(cubes.plan(source, [tiny.pid], ["spikes", "counts_20ms"], root=tmp_path / "root"))
    tree = cubes.open(tmp_path / "root", tiny.pid)
    assert dict(tree["counts_20ms"].sizes) == {"unit": 4, "time": 0}
    assert cubes.bin(tree["spikes"].to_dataset(), 0.02).shape == (4, 0)
    assert tree["counts_20ms"].attrs["notes"] == "this sorting has no spikes"


def left_in(root):
    """Files that a build left, but for the locks."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(root).as_posix() for path in files)


def test_an_existing_store_is_never_overwritten(sample_source, tmp_path):
    plan = cubes.plan(sample_source, PIDS[2:], ["counts_100ms", "channels"], root=tmp_path)
    cubes.build(plan)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(StoreError, match="2 of 2 stores exist already and are never overwritten: insertions/"):
        cubes.build(plan)
    assert cubes.build(plan, existing="skip") == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    again = cubes.plan(sample_source, PIDS[2:], ["counts_100ms", "spikes"], root=tmp_path)
    assert [store.exists for store in again.stores] == [True, False]
    assert "counts_100ms (exists)" in str(again)
    assert [path.name for path in cubes.build(again, existing="skip")] == ["spikes.zarr"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, CorruptData])
def test_a_build_that_fails_publishes_nothing(sample_source, tmp_path, monkeypatch, error):
    original = CountsProduct.blocks
    calls = []

    def failing(self, inputs, arrays, region):
        calls.append(region)
        if len(calls) == 2:
            raise error("in the middle")
        return original(self, inputs, arrays, region)

    plan = cubes.plan(sample_source, PIDS[:1], ["counts_1ms"], root=tmp_path)
    assert len(plan.stores[0].regions) >= 2
    monkeypatch.setattr(CountsProduct, "blocks", failing)
    with pytest.raises(error):
        cubes.build(plan)
    assert {path.split("/")[0] for path in left_in(tmp_path)} <= {".staging"}
    monkeypatch.undo()
    cubes.build(plan)
    assert verify_store(tmp_path / plan.stores[0].path) == []
    assert {path.split("/")[0] for path in left_in(tmp_path)} == {"insertions"}


def test_a_full_disk_is_told_and_leaves_nothing(sample_root_with_voltage, tmp_path):
    """The limit on the size of a file fails a write half-way, as a full disk does."""
    script = """
import resource, sys
from cubes.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
main(sys.argv[1:])
"""
    arguments = ["build", PIDS[0], "--source", str(sample_root_with_voltage), "--to", str(tmp_path), "--products", "ap"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"cubes: error: store \S*ap\.zarr: writing failed \(\[Errno \d+\] File too large.*\); nothing was published; "
        r"make room or choose another root, and build again: what is complete was kept\n",
        done.stderr,
    )
    assert left_in(tmp_path) == []


def test_a_chunk_that_was_not_written_stops_the_publication(sample_source, tmp_path, monkeypatch):
    def lose_one_chunk(folder):
        (folder / "counts/c/0/0").unlink()

    plan = cubes.plan(sample_source, PIDS[2:], ["counts_20ms"], root=tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("chunking.build.check_store", lose_one_chunk)
        with pytest.raises(StoreError, match=r"counts/c/0/0: missing.*nothing was published"):
            cubes.build(plan)
    assert not (tmp_path / "insertions").exists()
    assert verify_store(cubes.build(plan)[0]) == []


def test_a_chunk_that_is_not_on_disk_as_it_was_in_memory_stops_the_publication(sample_source, tmp_path, monkeypatch):
    original = encode.write_chunks

    def flip_one_bit(store, array, region, block):
        written = original(store, array, region, block)
        flip(store / next(iter(written)))
        return written

    monkeypatch.setattr(encode, "write_chunks", flip_one_bit)
    with pytest.raises(StoreError, match=r"counts_20ms\.zarr: .*counts/c/\d+/\d+: crc32 .*nothing was published"):
        cubes.build(cubes.plan(sample_source, PIDS[2:], ["counts_20ms"], root=tmp_path))
    assert left_in(tmp_path) == []


def test_a_source_that_changes_after_the_plan_is_noticed(tiny, tmp_path):
    plan = cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], ["counts_100ms"], root=tmp_path / "root")
    depths = np.load(tiny.sorting / "spikes.depths.npy")
    tiny.save("spikes.depths.npy", depths + 1)  # the same shape
    with pytest.raises(cubes.InconsistentData, match="the source has changed since the plan"):
        cubes.build(plan)


@pytest.fixture
def store(sample_source, tmp_path):
    (path,) = cubes.build(cubes.plan(sample_source, PIDS[2:], ["counts_20ms"], root=tmp_path))
    return path


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def blank(path):
    path.write_bytes(b"")


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [flip, cut, blank, delete])
@pytest.mark.parametrize("key", ["counts/c/0/0", "good/c/0", "zarr.json", "counts/zarr.json", "uuid/c/0"])
def test_verify_names_what_is_damaged(store, damage, key):
    assert verify_store(store) == []
    damage(store / key)
    assert key in {problem.key for problem in verify_store(store)}
    assert (key in {problem.key for problem in verify_store(store, quick=True)}) == (damage is not flip)


def test_verify_finds_swapped_chunks_and_extra_files(sample_source, tmp_path):
    plan = cubes.plan(sample_source, PIDS[2:], ["counts_20ms"], root=tmp_path, counts_layout="by-unit")
    (store,) = cubes.build(plan)
    a, b = store / "counts/c/0/0", store / "counts/c/1/0"
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    (store / "counts/c/99").mkdir()
    (store / "counts/c/99/9").write_bytes(b"x")
    assert {p.key for p in verify_store(store)} == {"counts/c/0/0", "counts/c/1/0", "counts/c/99/9"}


def test_the_manifest_tells_two_intact_chunks_of_one_size_apart(tmp_path):
    """A CRC-32C would not: it is the same number for everything that ends in its own CRC-32C, as chunks do."""
    plan = ArrayPlan("a", ("x",), (8,), "uint8", (4,))
    encode.create_arrays(tmp_path, (plan,))
    written = encode.write_chunks(tmp_path, plan, ((0, 8),), np.array([1, 2, 3, 4, 4, 3, 2, 1], np.uint8))
    first, second = written.values()
    assert first["bytes"] == second["bytes"]
    assert first["crc32"] != second["crc32"]
    for key, facts in written.items():
        assert facts["crc32"] == f"{zlib.crc32((tmp_path / key).read_bytes()):08x}"


def test_every_chunk_carries_a_checksum_that_plain_readers_check(store):
    path = store / "counts/c/0/0"
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    with xr.open_zarr(store, chunks=None) as ds, pytest.raises(ValueError, match="checksum"):
        ds["counts"].load()
    for metadata in store.glob("*/zarr.json"):
        assert json.loads(metadata.read_text())["codecs"][-1]["name"] == "crc32c"


def test_a_store_without_manifest_does_not_open(store):
    (store / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"has no manifest\.json"):
        cubes.open(store.parents[2], PIDS[2])
    assert cubes.verify(store.parents[2])[str(store)][0].key == "manifest.json"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ds: ds.drop_vars("good"), "variable good is missing"),
        (lambda ds: ds.assign_coords(x=ds.x.astype(str)), "x has dtype"),
        (lambda ds: ds.assign_coords(good=("time", np.zeros(ds.sizes["time"], bool))), "good has dimensions"),
        (
            lambda ds: ds.assign_coords(depth_um=ds.depth_um.assign_attrs(units="m")),
            "depth_um has units 'm', expected 'um'",
        ),
        (lambda ds: ds.assign_attrs(product="cake"), "got 'cake'"),
    ],
)
def test_validate_says_what_is_wrong(store, change, message):
    with xr.open_zarr(store, chunks=None) as ds:
        validate(ds)
        with pytest.raises(StoreError, match=message):
            validate(change(ds))


@pytest.mark.parametrize(
    ("products", "message"),
    [
        (["counts_0ms"], "'0ms': expected a positive number"),
        (["counts_-20ms"], "'-20ms': expected a positive number"),
        (["counts_nanms"], "expected a positive number and a unit"),
        (["counts_1000s"], "longer than the recording"),
        (["counts"], "does not exist; expected spikes"),
        (["cake"], "does not exist; expected spikes"),
        ([], "expected at least one"),
        ("spikes", r"write \['spikes'\]"),
    ],
)
def test_products_that_cannot_be_built_are_refused(sample_source, tmp_path, products, message):
    with pytest.raises(PlanRefused, match=message):
        cubes.plan(sample_source, PIDS[:1], products, root=tmp_path)
    assert left_in(tmp_path) == []


def test_unknown_layouts_pids_and_sources(sample_source, tmp_path):
    with pytest.raises(PlanRefused, match="layout 'x': does not exist; layouts that exist: balanced"):
        cubes.plan(sample_source, PIDS[:1], ["counts_20ms"], root=tmp_path, counts_layout="x")
    with pytest.raises(NotFound, match=f"pid 'x': unknown to this source, which has .*{PIDS[0]}"):
        cubes.plan(sample_source, ["x"], root=tmp_path)
    with pytest.raises(NotFound, match=r"expected a ONE cache with a table sessions\.pqt"):
        cubes.source("one", tmp_path)
    with pytest.raises(cubes.BadArgument, match="expected one of one, folder, sample, auto, bucket"):
        cubes.source("two", tmp_path)


def test_a_root_that_cannot_be_written_to(sample_source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    plan = cubes.plan(sample_source, PIDS[2:], ["channels"], root=tmp_path / "file")
    with pytest.raises(StoreError, match=r"root .*file: cannot be written to"):
        cubes.build(plan)


def test_the_plan_is_what_is_built(sample_source, sample_cubes):
    plan = cubes.plan(sample_source, PIDS, ["spikes", "counts_1ms"], root=sample_cubes)
    for store in plan.stores:
        with xr.open_zarr(sample_cubes / store.path) as ds:
            for array in store.arrays:
                assert ds[array.name].shape == array.shape
                assert ds[array.name].dtype == array.dtype
                chunks = sum(1 for p in (sample_cubes / store.path / array.name / "c").rglob("*") if p.is_file())
                assert chunks == array.n_chunks
    assert json.loads(json.dumps(plan.to_dict()))["stores"][0]["pid"] == PIDS[0]


def test_generated_data_say_so(sample_cubes):
    comments = {pid: cubes.open(sample_cubes, pid)["spikes"].attrs["comment"] for pid in PIDS}
    assert "spike times and clusters of pykilosort, revision 2024-05-06, are a real recording" in comments[PIDS[0]]
    assert "MIT licence" in comments[PIDS[0]]
    assert comments[PIDS[1]] == comments[PIDS[2]] == "Sample data of ibl-cubes: everything is generated."


@pytest.mark.parametrize("pid", PIDS)
def test_places_in_the_store_are_those_of_the_files(sample_root, sample_source, sample_cubes, pid):
    """Read the npy files ourselves and look every label up in iblatlas, by other means than ours."""
    probe = next(probe for probe in SAMPLE if probe.pid == pid)
    alf = sample_root / probe.session / "alf" / probe.probe
    sorting = alf / probe.sorter / "#2024-05-06#"
    sites = alf if (alf / "electrodeSites.mlapdv.npy").exists() else sorting
    owner = "electrodeSites" if sites == alf else "channels"
    ml, ap, dv = np.load(sites / f"{owner}.mlapdv.npy").astype(float).T
    ids = np.load(sites / f"{owner}.brainLocationIds_ccf_2017.npy")
    channel = np.load(sorting / "clusters.channels.npy")
    table = BrainRegions()
    for product, rows in (("counts_20ms", channel), ("channels", np.arange(len(ids)))):
        with xr.open_zarr(sample_cubes / f"insertions/{pid}/{product}.zarr", chunks=None) as ds:
            np.testing.assert_allclose(ds["ccf_ml"], 5739 + ml[rows], rtol=0, atol=1e-6)
            np.testing.assert_allclose(ds["ccf_ap"], 5400 - ap[rows], rtol=0, atol=1e-6)
            np.testing.assert_allclose(ds["ccf_dv"], 332 - dv[rows], rtol=0, atol=1e-6)
            for level in ("Allen", "Beryl", "Cosmos", "Swanson"):
                expected = [table.id2acronym(i, mapping=level)[0] for i in ids[rows]]
                assert ds[f"acronym_{level.lower()}"].values.tolist() == expected
    with xr.open_zarr(sample_cubes / f"insertions/{pid}/counts_20ms.zarr", chunks=None) as ds:
        np.testing.assert_array_equal(ds["depth_um"], np.load(sorting / "clusters.depths.npy"))


def test_skipping_another_sorting_is_refused(sample_source, tmp_path):
    cubes.build(cubes.plan(sample_source, PIDS[:1], ["counts_100ms"], root=tmp_path, revision=""))
    other = cubes.plan(sample_source, PIDS[:1], ["counts_100ms"], root=tmp_path, revision="2024-05-06")
    with pytest.raises(StoreError, match=r"built from other files.*revision '2024-05-06'"):
        cubes.build(other, existing="skip")


def test_the_build_key_depends_on_sources_parameters_and_insertion(sample_source, tiny, tmp_path):
    def key(pid="a", products=("counts_100ms",), **choice):
        source = cubes.source("folder", tiny.folder, pids={"probe00": pid})
        return cubes.plan(source, [pid], products, root=tmp_path, **choice).stores[0].build_key

    keys = [key(), key("b"), key(products=["counts_50ms"]), key(products=["spikes"]), key(counts_layout="by-unit")]
    assert key() == keys[0]
    tiny.save("spikes.depths.npy", np.arange(9.0))
    assert len({*keys, key()}) == 6


@pytest.mark.parametrize("pid", ["../../x", "..", "a/b", "", ".hidden", "x" * 200])
def test_a_pid_that_leads_elsewhere_is_refused(tiny, pid):
    with pytest.raises(cubes.BadArgument, match="expected letters, digits") if pid else nullcontext():
        cubes.source("folder", tiny.folder, pids={"probe00": pid})


@pytest.mark.parametrize(
    ("times", "width", "shape"),
    [([0.05], "counts_50ms", (4, 2)), ([-5.0, -3.0], "counts_1s", (4, 3)), ([-3.0, 0.01], "counts_1s", (4, 4))],
)
def test_very_short_recordings(tiny, tmp_path, times, width, shape):
    tiny.save("spikes.times.npy", np.array(times))
    tiny.save("spikes.clusters.npy", np.zeros(len(times), dtype=np.uint32))
    for name in ("amps", "depths"):
        tiny.save(f"spikes.{name}.npy", np.zeros(len(times)))
    cubes.build(cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], [width], root=tmp_path / "root"))
    counts = cubes.open(tmp_path / "root", tiny.pid)[width].counts
    assert counts.shape == shape
    assert int(counts[0, -1]) == 1
    assert int(counts.sum()) == len(times)


def test_a_spike_at_a_nonsensical_time_is_refused_by_name(tiny, tmp_path):
    tiny.save("spikes.times.npy", np.r_[tiny.times[:-1], 3e9])
    with pytest.raises(PlanRefused, match=f"pid {tiny.pid}.*is the last spike really at 3e"):
        cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], ["counts_100ms"], root=tmp_path / "root")


def test_a_sorting_without_units(tiny, tmp_path):
    for path in tiny.sorting.glob("*"):
        if path.name.startswith(("spikes.", "clusters.")) and path.suffix == ".npy":
            np.save(path, np.load(path)[:0])
    tiny.save("clusters.uuids.csv", pd.DataFrame({"uuids": []}))
    tiny.save("clusters.metrics.pqt", tiny.metrics().iloc[:0])
    cubes.build(cubes.plan(cubes.source("folder", tiny.folder), [tiny.pid], root=tmp_path / "root"))
    assert cubes.open(tmp_path / "root", tiny.pid)["counts_20ms"].sizes["unit"] == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float64"])
@pytest.mark.parametrize(
    ("shape", "chunks"), [((7, 1000), (3, 400)), ((4, 100), (4, 100)), ((5,), (2,)), ((3, 70_000), (2, 65_536))]
)
def test_chunks_are_byte_for_byte_those_of_zarr(tmp_path, dtype, shape, chunks):
    plan = ArrayPlan("a", ("x", "y")[: len(shape)], shape, dtype, chunks)
    data = np.random.default_rng(0).poisson(0.3, shape).astype(dtype)
    for name in ("ours", "theirs"):
        encode.create_arrays(tmp_path / name, (plan,))
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(tmp_path / "theirs/a", mode="r+")[...] = data
    encode.write_chunks(tmp_path / "ours", plan, tuple((0, size) for size in shape), data)
    assert files_of(tmp_path / "ours") == files_of(tmp_path / "theirs")
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "ours/a")[...], data)


def test_the_build_key_leaves_out_what_only_some_catalogs_know(sample_source, sample_root, tmp_path):
    ours = sample_source.insertion(PIDS[2])
    session = sample_root / "samplelab/Subjects" / ours.subject / ours.date / f"{ours.number:03d}"

    def key(insertion):
        source = cubes.source("folder", session, pids={insertion.probe: insertion})
        return cubes.plan(source, [insertion.pid], ["channels"], root=tmp_path).stores[0].build_key

    assert key(replace(ours, model="")) == key(ours)
    assert len({key(ours), key(replace(ours, eid="")), key(replace(ours, comment=""))}) == 3


def test_consolidated_metadata_are_those_of_zarr(store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "copy.zarr")
    for file in ("zarr.json", "manifest.json"):
        (copy / file).unlink()
    attrs = json.loads((store / "zarr.json").read_text())["attributes"]
    zarr.open_group(copy, mode="a", zarr_format=3, attributes=attrs)
    with pytest.warns(UserWarning, match="Consolidated metadata"):
        zarr.consolidate_metadata(copy)
    assert (copy / "zarr.json").read_text() == (store / "zarr.json").read_text()
