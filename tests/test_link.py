"""Voltage that is shown from the files of the source, without a copy."""

import json
import pickle
import shutil

import numpy as np
import pytest
import xarray as xr

import cubes
from chunking.link import LINK, read_link
from loaders.byte_source import LocalFile
from loaders.cbin import Cbin
from loaders.checked_source import CheckedSource, hash_ranges
from loaders.chunk_index import ChunkIndex
from loaders.errors import BadArgument, CorruptData, NotFound, PlanRefused, StoreError


@pytest.fixture(scope="module")
def pid(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage).insertions()[0].pid


@pytest.fixture(scope="module")
def copied(sample_root_with_voltage, tmp_path_factory, pid):
    root = tmp_path_factory.mktemp("copied")
    cubes.build(cubes.plan(cubes.source("one", sample_root_with_voltage), [pid], ["ap", "lf"], root=root))
    return cubes.open(root, pid, chunks=None)


@pytest.fixture
def home(sample_root_with_voltage, tmp_path, pid):
    """A folder with the source and a root beside it, which is built with links."""
    shutil.copytree(sample_root_with_voltage, tmp_path / "one")
    plan = cubes.plan(cubes.source("one", tmp_path / "one"), [pid], root=tmp_path / "root", link=["ap", "lf"])
    cubes.build(plan)
    return tmp_path


def recording(home, pid, band):
    insertion = cubes.source("one", home / "one").insertion(pid)
    pattern = f"{insertion.subject}/*/*/raw_ephys_data/{insertion.probe}/*.{band}.cbin"
    (path,) = (home / "one").rglob(pattern)
    return path


def store(home, pid, band="ap"):
    return home / "root" / "insertions" / pid / f"{band}.zarr"


@pytest.mark.parametrize("band", ["ap", "lf"])
@pytest.mark.parametrize("chunks", ["native", None, {"time": 7000}])
def test_shows_what_a_copy_has(home, pid, copied, band, chunks):
    linked, copy = cubes.open(home / "root", pid, chunks=chunks)[band].to_dataset(), copied[band].to_dataset()
    xr.testing.assert_equal(linked.drop_attrs().compute(), copy.drop_attrs().compute())
    assert linked[band].attrs == copy[band].attrs
    assert linked[band].dtype == np.int16
    a, b = 0.5, 1.5
    assert np.array_equal(linked[band].sel(time=slice(a, b)), copy[band].sel(time=slice(a, b)))


def test_nothing_is_copied(home, pid):
    size = sum(path.stat().st_size for path in store(home, pid).rglob("*") if path.is_file())
    assert size < recording(home, pid, "ap").stat().st_size / 20
    assert "ap" not in xr.open_zarr(store(home, pid)).variables  # plain xarray shows the labels


def test_a_window_of_the_recording(home, pid, copied):
    source, root = cubes.source("one", home / "one"), home / "part"
    cubes.build(cubes.plan(source, [pid], ["ap"], root=root, link=["ap"], window_s=(0.7, 1.9)))
    linked = cubes.open(root, pid)["ap"].ap
    expected = copied["ap"].ap.sel(time=slice(0.7, np.nextafter(1.9, 0)))
    assert np.array_equal(linked, expected)
    assert np.array_equal(linked.time.values, expected.time.values)


def test_source_and_root_move_together(home, pid, copied, tmp_path_factory):
    there = tmp_path_factory.mktemp("elsewhere") / "both"
    home.rename(there)
    assert np.array_equal(cubes.open(there / "root", pid)["lf"].lf, copied["lf"].lf)


def test_a_source_that_moved_is_refused_by_name(home, pid):
    path = recording(home, pid, "ap")
    path.rename(path.with_suffix(".away"))
    with pytest.raises(NotFound, match=r"ap\.zarr: the recording that it links to was moved or removed: .*\.ap\.cbin"):
        cubes.open(home / "root", pid)


def test_a_source_of_another_size_is_refused(home, pid):
    path = recording(home, pid, "ap")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptData, match=r"expected \d+ bytes, got \d+"):
        cubes.open(home / "root", pid)


def test_other_bytes_of_the_same_size_are_refused_when_they_are_read(home, pid, copied):
    path = recording(home, pid, "ap")
    index = ChunkIndex.parse(path.with_suffix(".ch").read_bytes(), "", path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[index.offsets[1] + 100] ^= 1
    path.write_bytes(data)
    ap = cubes.open(home / "root", pid, chunks=None)["ap"].ap
    first = index.bounds[1]
    assert np.array_equal(ap.isel(time=slice(0, first)), copied["ap"].ap.isel(time=slice(0, first)))
    with pytest.raises(
        CorruptData, match=rf"bytes {index.offsets[1]}:{index.offsets[2]} are not those that were hashed"
    ):
        ap.isel(time=slice(first, first + 1)).load()
    assert cubes.verify(store(home, pid), level="quick")[str(store(home, pid))] == []
    (problem,) = cubes.verify(store(home, pid))[str(store(home, pid))]
    assert (problem.key, f"bytes {index.offsets[1]}:" in problem.what) == (LINK, True)


def test_a_recording_whose_header_belongs_to_another_is_not_linked(sample_root_with_voltage, tmp_path, pid):
    shutil.copytree(sample_root_with_voltage, tmp_path / "one")
    header = recording(tmp_path, pid, "ap").with_suffix(".ch")
    keys = json.loads(header.read_text())
    text = json.dumps(keys | {"sha1_compressed": "0" * 40})
    header.write_text(text)
    source = cubes.source("folder", header.parent.parent.parent)
    (one,) = (i.pid for i in source.insertions() if i.probe == header.parent.name)
    with pytest.raises(CorruptData, match="expected sha1 0000000000"):
        cubes.build(cubes.plan(source, [one], root=tmp_path / "root", link=["ap"]))
    assert not list((tmp_path / "root").rglob("ap.zarr"))


def test_an_uncompressed_recording_is_linked(home, pid, copied):
    path = recording(home, pid, "lf")
    samples = Cbin.open(path).read(0, Cbin.open(path).n_samples)
    path.with_suffix(".bin").write_bytes(np.ascontiguousarray(samples.T).tobytes())
    path.unlink()
    path.with_suffix(".ch").unlink()
    source = cubes.source("folder", path.parent.parent.parent)
    (one,) = (i.pid for i in source.insertions() if i.probe == path.parent.name)
    cubes.build(cubes.plan(source, [one], root=home / "flat", link=["lf"]))
    assert np.array_equal(cubes.open(home / "flat", one)["lf"].lf, copied["lf"].lf)


def test_the_plan_and_the_listing_say_what_a_link_holds(sample_root_with_voltage, tmp_path, pid):
    source = cubes.source("one", sample_root_with_voltage)
    plan = cubes.plan(source, [pid], ["lf", "channels"], root=tmp_path, link=["lf"])
    lines = [line.split() for line in str(plan).splitlines()[2:4]]
    assert lines == [["lf", "linked,", "not", "copied"], ["channels", "labels", "only"]]
    cubes.build(plan)
    n_samples = cubes.open(tmp_path, pid)["lf"].sizes["time"]
    shapes = cubes.ls(tmp_path).set_index("product")["shape"]
    assert shapes.to_dict() == {"lf": f"384 x {n_samples}", "channels": "384"}


@pytest.mark.parametrize("link", [["spikes"], ["ap", "nidq"]])
def test_only_voltage_is_linked(sample_root_with_voltage, tmp_path, pid, link):
    source = cubes.source("one", sample_root_with_voltage)
    with pytest.raises(PlanRefused, match=f"link: expected ap or lf, got {link[-1]}"):
        cubes.plan(source, [pid], ["ap", "spikes"], root=tmp_path, link=link)
    with pytest.raises(PlanRefused, match="link: lf is not among the products ap, spikes; add it"):
        cubes.plan(source, [pid], ["ap", "spikes"], root=tmp_path, link=["ap", "lf"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"link_version": 2}', '{"link_version": 1, "bounds": [0, 1]}'])
def test_a_damaged_link_is_named(home, pid, text):
    (store(home, pid) / LINK).write_text(text)
    with pytest.raises(StoreError, match=r"ap\.zarr: .*link"):
        cubes.open(home / "root", pid)


def test_pickles_small_and_works_elsewhere(home, pid, copied):
    ap = cubes.open(home / "root", pid, chunks=None)["ap"].ap
    assert len(pickle.dumps(ap.variable._data)) < 8000
    assert np.array_equal(pickle.loads(pickle.dumps(ap))[:3], copied["ap"].ap[:3])


@pytest.mark.parametrize("bounds", [(0, 10), (0, 3, 10), tuple(range(11))])
def test_any_range_of_a_checked_source(tmp_path, bounds):
    data = bytes(range(10))
    (tmp_path / "file").write_bytes(data)
    source = LocalFile(tmp_path / "file")
    checked = CheckedSource(source, hash_ranges(source, bounds))
    for start in range(11):
        for stop in range(start, 11):
            assert checked.read(start, stop) == data[start:stop]
    with pytest.raises(BadArgument, match="bytes 3:11 are not within"):
        checked.read(3, 11)


def test_an_index_survives_its_header(sample_root_with_voltage, pid):
    path = next(sample_root_with_voltage.rglob("*.ap.ch"))
    size = path.with_suffix(".cbin").stat().st_size
    index = ChunkIndex.parse(path.read_bytes(), "", size)
    assert ChunkIndex.parse(json.dumps(index.to_header()), "", size) == index


def test_chunks_of_a_window_are_those_of_the_file(home, pid):
    source, root = cubes.source("one", home / "one"), home / "part"
    cubes.build(cubes.plan(source, [pid], ["ap"], root=root, link=["ap"], window_s=(0.7, 1.9)))
    native, other = (cubes.open(root, pid, chunks=c)["ap"].ap for c in ("native", {"time": 10_000}))
    bounds = ChunkIndex.parse(
        (path := recording(home, pid, "ap")).with_suffix(".ch").read_bytes(), "", path.stat().st_size
    ).bounds
    start = read_link(root / "insertions" / pid / "ap.zarr").window[0]
    assert {start + end for end in np.cumsum(native.chunks[1])[:-1]} <= set(bounds)
    assert other.chunks[1][0] == 10_000
    assert np.array_equal(native + 0 * other, native)  # two cuts of one array in one graph
