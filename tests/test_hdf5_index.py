"""HDF5 as an index: what is read by ranges of bytes, against h5py; and files that are damaged or of another kind."""

import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from file_server import Fault
from hypothesis import given
from hypothesis import strategies as st

from loaders.byte_source import LocalFile
from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.hdf5_file import BLOCK_BYTES, FIRST_BYTES, open_hdf5
from loaders.hdf5_filters import DEFLATE, FLETCHER32, SHUFFLE, undo_filters
from loaders.hdf5_index import index_dataset
from loaders.remote_file import RemoteFile
from loaders.retry import Retry

DTYPES = ("?", "u1", "<i2", ">i2", "<u4", ">i8", "<f2", "<f4", ">f4", "<f8")
FILTERS = ({}, {"compression": "gzip"}, {"shuffle": True}, {"fletcher32": True})


@st.composite
def datasets(draw):
    """Data, how it is stored, which part of it was written, and which rows are read."""
    shape = tuple(draw(st.lists(st.integers(0, 11), min_size=1, max_size=3)))
    options = {}
    for each in draw(st.sets(st.sampled_from(range(len(FILTERS))))):
        options |= FILTERS[each]
    if 0 in shape:
        options = {}
    if options or (0 not in shape and draw(st.booleans())):
        options["chunks"] = tuple(draw(st.integers(1, n)) for n in shape)
        options["maxshape"] = (None, *shape[1:])
    start = draw(st.integers(0, shape[0]))
    written = draw(st.integers(0, shape[0])) if draw(st.booleans()) else shape[0]
    rows = (start, draw(st.integers(start, shape[0])))
    return shape, draw(st.sampled_from(DTYPES)), options, written, rows, draw(st.integers(0, 2**32 - 1))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("hdf5")


def random(shape, dtype, seed):
    values = np.random.default_rng(seed).integers(0, 100, shape)
    return (values % 2 if dtype == "?" else values).astype(dtype)


def index_of(path, name="data"):
    source = LocalFile(path)
    with open_hdf5(source) as file:
        return index_dataset(file, name, source)


@given(datasets())
def test_equals_h5py(scratch, drawn):
    shape, dtype, options, written, (start, stop), seed = drawn
    path = scratch / "any.h5"
    with h5py.File(path, "w", libver=["earliest", "latest"][seed % 2]) as file:
        file["before"] = np.arange(seed % 50)
        data = file.create_dataset("data", shape, dtype, fillvalue=1, **options)
        if written:
            data[:written] = random((written, *shape[1:]), dtype, seed)
    with h5py.File(path) as file:
        expected = file["data"][start:stop]
    array = pickle.loads(pickle.dumps(index_of(path)))
    found = array.read(start, stop)
    assert (found.shape, found.dtype) == (expected.shape, np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(found, expected)
    assert array.stored_bytes(0, shape[0]) <= path.stat().st_size


def test_filters_that_a_chunk_went_without(tmp_path):
    path, plain = tmp_path / "skipped.h5", np.arange(20, dtype="<f4")
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (20,), "<f4", chunks=(10,), compression="gzip", shuffle=True)
        data[:10] = plain[:10]
        data.id.write_direct_chunk((10,), plain[10:].tobytes(), filter_mask=0b11)
    array = index_of(path)
    assert array.skipped.tolist() == [0, 3]
    np.testing.assert_array_equal(array.read(3, 18), plain[3:18])


def test_filters_in_any_order():
    import imagecodecs

    plain = np.arange(50, dtype="<u2").tobytes()
    summed = plain + imagecodecs.h5checksum_fletcher32(plain).to_bytes(4, "little")
    stored = imagecodecs.zlib_encode(summed)
    assert bytes(undo_filters(stored, (FLETCHER32, DEFLATE), 0, 100, 2)) == plain
    with pytest.raises(ValueError, match="expected 100 bytes, got 99"):
        undo_filters(plain[:99], (SHUFFLE,), 0, 100, 2)


@pytest.fixture
def chunked(tmp_path):
    path = tmp_path / "chunked.h5"
    values = np.random.default_rng(3).normal(0, 1, (4000, 12)).astype("<f4")
    with h5py.File(path, "w") as file:
        file.create_dataset("gzip", data=values, chunks=(500, 6), compression="gzip", shuffle=True)
        file.create_dataset("summed", data=values, chunks=(500, 6), fletcher32=True)
        file.create_dataset("plain", data=values)
    return path, values


@pytest.mark.parametrize("name", ["gzip", "summed"])
def test_a_flipped_bit_of_a_chunk_is_corrupt_and_the_others_are_not(chunked, name):
    path, values = chunked
    array = index_of(path, name)
    at = int(array.offset[3, 1]) + int(array.n_bytes[3, 1]) // 2
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    damaged = index_of(path, name)
    with pytest.raises(CorruptData, match=rf"{name}: the chunk at \(1500, 6\) is damaged"):
        damaged.read(1900, 2100)
    np.testing.assert_array_equal(damaged.read(2000, 4000), values[2000:])


def test_a_chunk_whose_size_is_wrong_is_corrupt(chunked):
    array = index_of(chunked[0], "gzip")
    array.n_bytes[0, 0] -= 1
    with pytest.raises(CorruptData, match=r"the chunk at \(0, 0\) is damaged"):
        array.read(0, 1)


def test_a_truncated_file_is_corrupt(chunked):
    path, _ = chunked
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptData, match="not a sound HDF5 file"):
        index_of(path, "plain")
    path.write_bytes(b"no such thing" * 100)
    with pytest.raises(CorruptData, match="not a sound HDF5 file"):
        index_of(path, "plain")


def test_data_beyond_the_end_of_the_file_are_corrupt(chunked):
    path, _ = chunked

    class Shorter(LocalFile):
        size = property(lambda self: super().size - 10)

    with open_hdf5(LocalFile(path)) as file, pytest.raises(CorruptData, match="truncated"):
        index_dataset(file, "plain", Shorter(path))


def test_a_file_that_changes_is_refused(chunked):
    path, _ = chunked
    array = pickle.loads(pickle.dumps(index_of(path, "plain")))
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(CorruptData, match="has changed"):
        array.read(0, 1)


def test_what_is_stored_otherwise_is_refused_by_name(tmp_path):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["text"] = ["a", "bc"]
        file.create_dataset("fixed", data=np.array([b"a"]))
        file["compound"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
        file["complex"] = np.zeros(3, "c8")
        file["single"] = 3
        file["nothing"] = h5py.Empty("f4")
        file.create_dataset("ragged", (2,), h5py.vlen_dtype("i4"))
        file.create_dataset("lzf", data=np.zeros(9), chunks=(3,), compression="lzf")
        file.create_dataset("offset", data=np.zeros(9, "i4"), chunks=(3,), scaleoffset=0)
        file.create_dataset("elsewhere", (4,), "f4", external=[(str(tmp_path / "raw"), 0, 16)])
        layout = h5py.VirtualLayout((9,), "f8")
        layout[:] = h5py.VirtualSource(file["lzf"])
        file.create_virtual_dataset("virtual", layout)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((4,))
        h5py.h5d.create(file.id, b"compact", h5py.h5t.NATIVE_INT32, space, properties)
        odd = h5py.h5t.NATIVE_INT16.copy()
        odd.set_precision(12)
        h5py.h5d.create(file.id, b"twelve", odd, space)
        file.create_group("group")
    refused = {
        **dict.fromkeys(("text", "ragged"), "variable length"),
        "fixed": "text",
        "compound": "compound",
        "complex": "plain numbers",
        "twelve": "plain numbers",
        **dict.fromkeys(("single", "nothing"), "a single value or none"),
        "lzf": "gzip, shuffle, fletcher32 or none, got lzf",
        "offset": "got scaleoffset",
        "elsewhere": "external",
        "virtual": "a virtual one",
        "compact": "a compact one",
    }
    for name, why in refused.items():
        with pytest.raises(BadArgument, match=rf"odd.h5 {name}: expected .*{why}"):
            index_of(path, name)
    for name in ("group", "absent"):
        with pytest.raises(NotFound, match=f"no dataset {name}"):
            index_of(path, name)
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        file["data"] = np.arange(3)
    with pytest.raises(BadArgument, match="user block"):
        index_of(tmp_path / "block.h5")


@pytest.mark.parametrize("chunks", [None, (2048, 8), (7000, 96), (90_000, 3)], ids=str)
def test_a_read_holds_no_more_than_it_says(tmp_path, chunks):
    values = np.random.default_rng(0).random((100_000, 96), np.float32)  # more than one run of chunks, incompressible
    packed = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True} if chunks else {}
    with h5py.File(tmp_path / "big.h5", "w") as file:
        file.create_dataset("data", data=values, **packed)
    array = index_of(tmp_path / "big.h5")
    array.read(0, 1)  # opens the file
    tracemalloc.start()
    try:
        read = array.read(10_000, 90_000)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(read, values[10_000:90_000])
    assert read.nbytes <= held <= array.read_holds(10_000, 90_000) + 100_000


def test_rows_outside_are_refused(chunked):
    array = index_of(chunked[0], "plain")
    for start, stop in ((-1, 3), (3, 2), (0, 4001)):
        with pytest.raises(BadArgument, match="not within its 4000 rows"):
            array.read(start, stop)


@pytest.fixture
def lfp_file(tmp_path):
    """40 s of 24 channels in one piece, behind other data, as the LFP of a probe lies in its file."""
    path = tmp_path / "files/lfp.nwb"
    path.parent.mkdir()
    values = np.random.default_rng(1).normal(0, 1e-4, (50_000, 24)).astype("<f4")
    with h5py.File(path, "w") as file:
        for i in range(50):
            file[f"general/g{i}/table"] = np.arange(100)
        file["acquisition/lfp/data"] = values
        file["acquisition/lfp/timestamps"] = np.arange(50_000) / 1250
        file.create_dataset("acquisition/packed", data=values, chunks=(2048, 8), compression="gzip", shuffle=True)
    return path, values


def remote_index(server, name, **retry):
    source = RemoteFile.open(server.url_of("lfp.nwb"), retry=Retry(first_s=0.01, **retry))
    with open_hdf5(source) as file:
        return index_dataset(file, name, source)


def test_a_window_of_ten_seconds_is_one_request(serve, lfp_file):
    path, values = lfp_file
    server = serve(path.parent)
    array = remote_index(server, "acquisition/lfp/data")
    asked = len(server.gets())
    np.testing.assert_array_equal(array.read(12_500, 25_000), values[12_500:25_000])
    assert len(server.gets()) == asked + 1
    assert len(pickle.dumps(array)) < 1000


def test_finding_a_dataset_takes_few_requests(serve, lfp_file):
    server = serve(lfp_file[0].parent)
    remote_index(server, "acquisition/packed")
    ranges = [request.range for request in server.gets()]
    assert len(ranges) <= 6, ranges
    assert f"bytes=0-{FIRST_BYTES - 1}" in ranges
    beyond = [tuple(map(int, each.removeprefix("bytes=").split("-"))) for each in ranges[2:]]
    assert all(start % BLOCK_BYTES == 0 and stop - start < BLOCK_BYTES for start, stop in beyond)


def test_neighbouring_chunks_come_together(serve, lfp_file):
    path, values = lfp_file
    server = serve(path.parent)
    array = remote_index(server, "acquisition/packed")
    asked = len(server.gets())
    np.testing.assert_array_equal(array.read(3000, 20_000), values[3000:20_000])
    assert len(server.gets()) - asked <= 3  # of 27 chunks
    with ThreadPoolExecutor(8) as threads:
        parts = threads.map(lambda start: array.read(start, start + 1000), range(0, 50_000, 1000))
    np.testing.assert_array_equal(np.concatenate(list(parts)), values)


def test_servers_that_fail_are_asked_again_and_are_what_the_error_names(serve, lfp_file):
    path, values = lfp_file
    server = serve(path.parent)
    server.faults = [Fault("status", code=503, times=2), Fault("cut", times=1)]
    array = remote_index(server, "acquisition/lfp/data")
    server.faults = [Fault("reset", times=2)]
    np.testing.assert_array_equal(array.read(0, 10), values[:10])
    server.faults = [Fault("status", match="", times=100)]
    with pytest.raises(SourceUnavailable, match="500"), open_hdf5(array.source):
        pass
    with pytest.raises(SourceUnavailable, match="500"):
        remote_index(server, "acquisition/lfp/data", attempts=1)


def test_a_remote_file_that_is_replaced_is_refused(serve, lfp_file):
    path, _ = lfp_file
    server = serve(path.parent)
    array = remote_index(server, "acquisition/lfp/data")
    with path.open("r+b") as file:
        file.write(b"\x89HDF\r\n\x1a\n\x09")
    with pytest.raises(CorruptData, match="has changed"):
        array.read(0, 10)


def test_reading_needs_no_hdf5(lfp_file, monkeypatch):
    path, values = lfp_file
    pickled = pickle.dumps(index_of(path, "acquisition/packed"))
    monkeypatch.setitem(sys.modules, "h5py", None)
    np.testing.assert_array_equal(pickle.loads(pickled).read(10, 20), values[10:20])
    with pytest.raises(NotFound, match=r"ibl-cubes\[hdf5\]"):
        index_of(path, "acquisition/packed")


def test_a_failure_that_ends_the_process_ends_it_in_good_order(serve, lfp_file):
    server = serve(lfp_file[0].parent)
    script = (
        "from loaders.hdf5_file import open_hdf5\n"
        "from loaders.remote_file import RemoteFile\n"
        "from loaders.retry import Retry\n"
        f"source = RemoteFile.open({server.url_of('lfp.nwb')!r}, retry=Retry(attempts=1))\n"
        "input('ready')\n"
        "with open_hdf5(source):\n"
        "    pass\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.read(5) == "ready"
    server.faults = [Fault("status", times=9)]
    _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said.splitlines()[-1].split(":")[0]) == (1, "loaders.errors.SourceUnavailable")
