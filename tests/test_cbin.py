"""The decoder of mtscomp files and flat files: exact for what is sound, a clear refusal for everything else."""

import dataclasses
import hashlib
import json
import os
import pickle
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import mtscomp
import numpy as np
import pytest
import spikeglx
from hypothesis import given
from hypothesis import strategies as st

from loaders.byte_source import LocalFile
from loaders.cbin import Cbin
from loaders.chunk_index import MAX_HEADER_BYTES, ChunkIndex
from loaders.errors import BadArgument, CorruptData, NotFound
from loaders.flat_binary import FlatBinary
from loaders.recording import Recording

REAL_DATA = Path(__file__).parents[2] / "shared/realdata"
SPIKEGLX_FILES = sorted(REAL_DATA.glob("neuroconv-ephy_testing_data/spikeglx/**/*.bin"))
FLAT_FILES = [*SPIKEGLX_FILES, *sorted(REAL_DATA.glob("spikewrap/**/continuous.dat"))]


def noise(n_samples, n_channels, seed=0):
    """(time, channel) int16 over the full range, extremes included."""
    data = np.random.default_rng(seed).integers(-32768, 32768, (n_samples, n_channels), dtype=np.int16)
    data[: n_samples // 3, : n_channels // 2 + 1] //= 1000  # some of it compresses
    data.flat[:2] = 32767, -32768
    return data


def compress(binary, n_channels, rate_hz=1000.0, **options):
    """Compress a flat file by mtscomp itself; the path of the .cbin."""
    settings = {"chunk_duration": 0.3, "n_threads": 1, "check_after_compress": False, "quiet": True} | options
    out = binary.with_suffix(".cbin")
    header = binary.with_suffix(".ch")
    mtscomp.compress(binary, out, header, sample_rate=rate_hz, n_channels=n_channels, dtype="int16", **settings)
    return out


def write(folder, data, **options):
    folder.mkdir(exist_ok=True)
    binary = folder / "a.ap.bin"
    data.tofile(binary)
    return compress(binary, data.shape[1], **options)


def by_hand(folder, data, bounds, **changes):
    """A pair with any chunk bounds, written without mtscomp."""
    diff = np.diff(data, axis=0, prepend=np.int16(0))
    diff[list(bounds[:-1])] = data[list(bounds[:-1])]
    stored = [zlib.compress(diff[a:b].T.tobytes()) for a, b in pairwise(bounds)]
    header = {
        "version": "1.0",
        "algorithm": "zlib",
        "comp_level": -1,
        "do_time_diff": True,
        "do_spatial_diff": False,
        "dtype": "int16",
        "n_channels": data.shape[1],
        "sample_rate": 30000.390639,
        "chunk_bounds": list(bounds),
        "chunk_offsets": np.cumsum([0, *map(len, stored)]).tolist(),
        "chunk_order": "F",
        "sha1_compressed": hashlib.sha1(b"".join(stored)).hexdigest(),
        "sha1_uncompressed": hashlib.sha1(data.tobytes()).hexdigest(),
        "shape": list(data.shape),
    }
    path = folder / "hand.cbin"
    path.write_bytes(b"".join(stored))
    path.with_suffix(".ch").write_text(json.dumps(header | changes))
    return path


def mtscomp_samples(path):
    reader = mtscomp.Reader(n_threads=1, quiet=True)
    reader.open(path)
    try:
        return np.concatenate([reader.read_chunk(*chunk) for chunk in reader.iter_chunks()])
    finally:
        reader.close()


def edit(path, **changes):
    header = path.with_suffix(".ch")
    keys = json.loads(header.read_text())
    header.write_text(json.dumps(keys | changes))


class Counting:
    """A source that notes the ranges that were asked for."""

    def __init__(self, source):
        self.source, self.name, self.size, self.ranges = source, source.name, source.size, []

    def read(self, start, stop):
        self.ranges.append((start, stop))
        return self.source.read(start, stop)


@pytest.fixture(scope="module")
def truth():
    return noise(1000, 19)


@pytest.fixture(scope="module")
def cbin(truth, tmp_path_factory):
    """Chunks of 300, 300, 300 and 100 samples."""
    return Cbin.open(write(tmp_path_factory.mktemp("cbin"), truth))


@pytest.fixture
def pair(tmp_path):
    """Four chunks of 50 samples of 12 channels, the path to damage and the truth."""
    data = noise(200, 12)
    return by_hand(tmp_path, data, range(0, 201, 50)), data


@pytest.mark.parametrize("n_channels", [277, 302, 385, 388, 1540])
def test_every_channel_count_is_bit_for_bit_that_of_mtscomp_and_spikeglx(tmp_path, n_channels):
    data = noise(700, n_channels, seed=n_channels)
    path = write(tmp_path, data)
    recording = Cbin.open(path)
    assert (recording.n_channels, recording.n_samples, recording.n_chunks) == (n_channels, 700, 3)
    assert recording.sample_rate_hz == 1000.0
    got = recording.read(0, 700)
    assert got.dtype == np.int16
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, data.T)
    np.testing.assert_array_equal(got, mtscomp_samples(path).T)
    with spikeglx.Reader(path, nc=n_channels, ns=700, fs=1000, s2v=1.0) as reader:
        np.testing.assert_array_equal(got, reader[:].T)
    assert recording.verify() == ("sha1_compressed", "sha1_uncompressed")


@pytest.mark.parametrize("order", ["F", "C"])
@pytest.mark.parametrize("time_diff", [False, True])
@pytest.mark.parametrize("spatial_diff", [False, True])
def test_every_way_to_store_the_differences(tmp_path, order, time_diff, spatial_diff):
    data = noise(650, 23)
    path = write(tmp_path, data, chunk_order=order, do_time_diff=time_diff, do_spatial_diff=spatial_diff)
    recording = Cbin.open(path)
    np.testing.assert_array_equal(recording.read(0, 650), data.T)
    np.testing.assert_array_equal(recording.read(299, 601, slice(3, 20, 4)), data.T[3:20:4, 299:601])
    np.testing.assert_array_equal(mtscomp_samples(path), data)
    recording.verify()


def test_chunks_of_any_length(tmp_path):
    data = noise(1000, 7)
    recording = Cbin.open(by_hand(tmp_path, data, (0, 1, 2, 400, 999, 1000)))
    np.testing.assert_array_equal(recording.read(0, 1000), data.T)
    assert [start for start, _ in recording.chunks()] == [0, 1, 2, 400, 999]
    assert recording.verify() == ("sha1_compressed", "sha1_uncompressed")


def test_one_sample_of_one_channel(tmp_path):
    recording = Cbin.open(by_hand(tmp_path, np.array([[-32768]], np.int16), (0, 1)))
    assert recording.read(0, 1).tolist() == [[-32768]]


@given(st.data())
def test_a_read_is_a_slice_of_the_truth(cbin, truth, data):
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, 1000)] * 2)))
    channels = data.draw(st.none() | st.slices(19))
    expected = truth.T[:, start:stop] if channels is None else truth.T[channels, start:stop]
    np.testing.assert_array_equal(cbin.read(start, stop, channels), expected)


@pytest.mark.parametrize(
    ("start", "stop", "chunks"),
    [
        (0, 300, [0]),
        (300, 600, [1]),
        (299, 300, [0]),
        (300, 301, [1]),
        (299, 301, [0, 1]),
        (0, 1000, [0, 1, 2, 3]),
        (900, 1000, [3]),
        (999, 1000, [3]),
        (600, 600, []),
        (450, 450, []),
        (0, 0, []),
        (1000, 1000, []),
    ],
)
def test_a_read_takes_exactly_the_chunks_that_it_needs(cbin, start, stop, chunks):
    source = Counting(cbin.source)
    Cbin(source, cbin.index).read(start, stop, slice(2, 5))
    assert source.ranges == [(cbin.index.offsets[i], cbin.index.offsets[i + 1]) for i in chunks]
    assert list(cbin.touching(start, stop)) == chunks


def test_a_chunk_fills_a_given_array(cbin, truth):
    out = np.empty((19, 300), np.int16)
    assert cbin.chunk(1, out) is out
    np.testing.assert_array_equal(out, truth.T[:, 300:600])
    first, second = cbin.chunk(0), cbin.chunk(1)  # without `out` every chunk is an array of its own
    np.testing.assert_array_equal(first, truth.T[:, :300])
    np.testing.assert_array_equal(second, out)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((19, 299), np.int16),
        np.empty((300, 19), np.int16).T,
        np.empty((19, 300), np.uint16),
        np.empty((19, 600), np.int16)[:, ::2],
        np.frombuffer(bytes(19 * 600), np.int16).reshape(19, 300),
    ],
    ids=["shape", "transposed", "dtype", "strided", "readonly"],
)
def test_an_array_that_does_not_fit_is_refused(cbin, out):
    with pytest.raises(BadArgument, match="out: expected a contiguous, writeable int16"):
        cbin.chunk(0, out)


def test_windows_and_chunks_out_of_range_are_refused(cbin):
    for start, stop in [(-1, 5), (5, 4), (0, 1001)]:
        with pytest.raises(BadArgument, match="not within"):
            cbin.read(start, stop)
    for i in (-1, 4):
        with pytest.raises(BadArgument, match="has the chunks 0 to 3"):
            cbin.chunk(i)
    for channels in (3, [1, 2], slice(0, 3, 0), slice("a")):
        with pytest.raises(BadArgument, match="channels"):
            cbin.read(0, 5, channels)


def test_blocks_of_the_iterator_share_one_buffer(cbin, truth):
    starts, blocks = zip(*((start, block) for start, block in cbin.chunks(check=True)), strict=True)
    assert starts == (0, 300, 600, 900)
    assert np.shares_memory(blocks[0], blocks[1])
    copies = [block.copy() for _, block in cbin.chunks()]
    np.testing.assert_array_equal(np.concatenate(copies, axis=1), truth.T)


def test_eight_threads_share_one_recording(cbin, truth):
    rng = np.random.default_rng(5)
    windows = [sorted(rng.integers(0, 1001, 2).tolist()) for _ in range(400)]
    start = threading.Barrier(8)
    shared = pickle.loads(pickle.dumps(cbin))  # its file is not open yet: the threads race to do it

    def work(k):
        start.wait()
        return [(a, b, shared.read(a, b)) for a, b in windows[k::8]]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            for a, b, got in results:
                np.testing.assert_array_equal(got, truth.T[:, a:b])


def test_a_pickle_is_the_index_and_little_else(cbin):
    cbin.read(0, 1000)  # buffers and an open file stay behind
    text = pickle.dumps(cbin)
    assert len(text) - len(pickle.dumps(cbin.index)) < 500 + len(cbin.source.name)
    copy = pickle.loads(text)
    assert copy == cbin
    np.testing.assert_array_equal(copy.read(250, 950), cbin.read(250, 950))
    hour = dataclasses.replace(cbin.index, bounds=tuple(range(3601)), offsets=tuple(range(0, 3601 * 10**7, 10**7)))
    assert len(pickle.dumps(hour)) < 50_000


def test_a_file_that_changed_is_refused(pair):
    path, _ = pair
    recording = Cbin.open(path)
    recording.read(0, 200)
    text = pickle.dumps(recording)
    os.utime(path, ns=(1, 1))
    for one in (recording, pickle.loads(text)):
        with pytest.raises(CorruptData, match=r"hand\.cbin.*has changed since it was opened"):
            one.read(0, 200)
    os.truncate(path, 10)
    with pytest.raises(CorruptData, match="got 10 bytes"):
        recording.read(0, 200)
    path.unlink()
    with pytest.raises(NotFound, match="no longer there"):
        pickle.loads(text).read(0, 200)


def test_a_local_file_gives_exact_ranges_and_closes(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(100)))
    file = LocalFile(path)
    assert (file.size, file.name, file.read(3, 6), file.read(100, 100)) == (100, str(path), b"\3\4\5", b"")
    assert file == LocalFile(path)
    assert len({file, LocalFile(path)}) == 1
    for start, stop in [(-1, 3), (5, 4), (0, 101)]:
        with pytest.raises(BadArgument, match="not within its 100 bytes"):
            file.read(start, stop)
    number = file._opened.number
    os.fstat(number)
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert file.read(0, 1) == b"\0"
    number = file._opened.number
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    for missing in (tmp_path / "none", tmp_path, path / "below"):
        with pytest.raises(NotFound, match=missing.name):
            LocalFile(missing)


# --- bad input -----------------------------------------------------------------------------------------------------


def refused(path, match):
    """Opening or reading all of it raises CorruptData that names the file."""
    with pytest.raises(CorruptData, match=match) as caught:
        Cbin.open(path).read(0, Cbin.open(path).n_samples)
    assert "hand" in str(caught.value)


def test_a_truncated_file(pair):
    path, _ = pair
    size = path.stat().st_size
    os.truncate(path, size - 1)
    refused(path, rf"expected the {size - 1} bytes of the recording, got {size}\b")


def test_trailing_bytes_after_the_last_chunk(pair):
    path, _ = pair
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"x")
    refused(path, rf"expected the {size + 1} bytes of the recording, got {size}\b")


def test_an_empty_file_and_a_missing_one(pair):
    path, _ = pair
    os.truncate(path, 0)
    refused(path, "expected the 0 bytes")
    path.unlink()
    with pytest.raises(NotFound, match="hand"):
        Cbin.open(path)


def test_every_flipped_bit_of_a_chunk_is_found(pair):
    path, data = pair
    clean = path.read_bytes()
    offsets = Cbin.open(path).index.offsets
    for byte in [*range(offsets[1], offsets[1] + 40), *range(offsets[2] - 8, offsets[2]), offsets[1] + 300]:
        for bit in range(8):
            damaged = bytearray(clean)
            damaged[byte] ^= 1 << bit
            path.write_bytes(damaged)
            recording = Cbin.open(path)
            np.testing.assert_array_equal(recording.read(0, 50), data.T[:, :50])
            try:
                got = recording.chunk(1)  # a few bits of a zlib header mean nothing: then the samples must be right
            except CorruptData as error:
                assert f"hand.cbin: chunk 1 (bytes {offsets[1]}:{offsets[2]})" in str(error)  # noqa: PT017
            else:
                np.testing.assert_array_equal(got, data.T[:, 50:100])
            with pytest.raises(CorruptData, match=r"sha1_compressed|chunk 1"):
                recording.verify()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda stored, raw: stored + b"x", "other bytes follow"),
        (lambda stored, raw: stored + bytes(1000), "other bytes follow"),
        (lambda stored, raw: stored + stored[:100], "other bytes follow"),
        (lambda stored, raw: stored + zlib.compress(b"more"), "other bytes follow"),
        (lambda stored, raw: stored[:-1], "sound zlib stream"),
        (lambda stored, raw: stored[:-4], "sound zlib stream"),
        (lambda stored, raw: stored[: len(stored) // 2], "sound zlib stream"),
        (lambda stored, raw: stored[:-4] + bytes(4), "sound zlib stream"),
        (lambda stored, raw: zlib.compress(raw + b"x"), "sound zlib stream"),
        (lambda stored, raw: zlib.compress(raw * 2), "sound zlib stream"),
        (lambda stored, raw: zlib.compress(raw[:-1], 0), "got 1199"),
        (lambda stored, raw: zlib.compress(raw[:600], 0), "got 600"),
        (lambda stored, raw: zlib.compress(raw, wbits=31), "sound zlib stream"),
        (lambda stored, raw: zlib.compress(raw, wbits=-15), "sound zlib stream"),
        (lambda stored, raw: os.urandom(len(stored)), "sound zlib stream"),
    ],
    ids=[
        "one byte more",
        "zeros after",
        "start of itself after",
        "second stream after",
        "checksum cut by one",
        "checksum missing",
        "cut in half",
        "checksum wrong",
        "inflates to one more",
        "inflates to twice",
        "inflates to one fewer",
        "inflates to half",
        "gzip",
        "raw deflate",
        "noise",
    ],
)
def test_a_chunk_that_is_not_exactly_one_stream_of_its_size(pair, change, reason):
    path, _ = pair
    recording = Cbin.open(path)
    offsets = recording.index.offsets
    clean = path.read_bytes()
    stored = clean[offsets[1] : offsets[2]]
    damaged = change(stored, zlib.decompress(stored))
    path.write_bytes(clean[: offsets[1]] + damaged + clean[offsets[2] :])
    moved = [at if at <= offsets[1] else at + len(damaged) - len(stored) for at in offsets]
    edit(path, chunk_offsets=moved)
    refused(path, rf"chunk 1 \(bytes {moved[1]}:{moved[2]}\): .*{reason}")


def test_a_bomb_is_refused_before_it_inflates(tmp_path):
    path = by_hand(tmp_path, noise(4, 2), (0, 4))
    bomb = zlib.compress(bytes(1 << 26))
    path.write_bytes(bomb)
    edit(path, chunk_offsets=[0, len(bomb)])
    refused(path, "chunk 0 .*sound zlib stream of 16 bytes")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n_channels": 0}, "n_channels: expected an integer from 1 to 100000, got 0"),
        ({"n_channels": 100_001}, "n_channels"),
        ({"n_channels": 12.0}, "n_channels"),
        ({"n_channels": True}, "n_channels"),
        ({"n_channels": "12"}, "n_channels"),
        ({"n_channels": 6, "chunk_bounds": [0, 100, 200, 300, 400]}, "shape"),
        ({"n_channels": 13}, "shape"),
        ({"n_channels": 13, "shape": None}, "chunk 0"),
        ({"dtype": "uint16"}, "dtype: expected int16, got 'uint16'"),
        ({"dtype": ">i2"}, "dtype"),
        ({"dtype": 3}, "dtype"),
        ({"sample_rate": -5}, "sample_rate"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": 1e6}, "sample_rate"),
        ({"sample_rate": 10**400}, "sample_rate"),
        ({"sample_rate": None}, "sample_rate"),
        ({"sample_rate": float("nan")}, "NaN is not JSON"),
        ({"sample_rate": float("inf")}, "Infinity is not JSON"),
        ({"chunk_order": "K"}, "chunk_order"),
        ({"chunk_order": ["F"]}, "chunk_order"),
        ({"do_time_diff": 1}, "do_time_diff: expected true or false, got 1"),
        ({"do_spatial_diff": None}, "do_spatial_diff"),
        ({"do_spatial_diff": "false"}, "do_spatial_diff"),
        ({"chopped": "yes"}, "chopped"),
        ({"algorithm": "lzma"}, "algorithm"),
        ({"version": "2.0"}, "version"),
        ({"sha1_compressed": "abc"}, "sha1_compressed"),
        ({"sha1_uncompressed": "g" * 40}, "sha1_uncompressed"),
        ({"chunk_bounds": [0, 50, 100, 150]}, "shape"),
        ({"chunk_bounds": [0, 50, 100, 150], "shape": [150, 12]}, "chunk_offsets: expected 4 entries"),
        ({"chunk_bounds": [0, 100, 50, 150, 200]}, r"chunk_bounds\[2\]: expected more than 100, got 50"),
        ({"chunk_bounds": [0, 50, 50, 150, 200]}, r"chunk_bounds\[2\]"),
        ({"chunk_bounds": [1, 50, 100, 150, 200]}, r"chunk_bounds\[0\]: expected 0, got 1"),
        ({"chunk_bounds": [0, 50.0, 100, 150, 200]}, "chunk_bounds"),
        ({"chunk_bounds": [0]}, "chunk_bounds: expected a list of two or more"),
        ({"chunk_bounds": {}}, "chunk_bounds"),
        ({"chunk_bounds": [0, 49, 100, 150, 200]}, "chunk 0"),
        ({"chunk_offsets": [0, 1, 2, 3]}, "chunk_offsets: expected 5 entries"),
        ({"chunk_bounds": [0, 50, 100, 150, 10**10], "shape": [10**10, 12]}, "chunk 3: expected at most"),
        ({"chunk_bounds": [0, 50, 100, 150, 10**30], "shape": [10**30, 12]}, "chunk 3: expected at most"),
        ({"shape": [200]}, "shape"),
        ({"shape": [12, 200]}, r"shape: expected \[200, 12\]"),
    ],
)
def test_a_header_that_cannot_be(pair, changes, match):
    path, _ = pair
    edit(path, **changes)
    refused(path, rf"hand\.c(h|bin).*{match}")


@pytest.mark.parametrize(
    ("move", "match"),
    [
        (lambda o: [0, o[2], o[1], o[3], o[4]], r"chunk_offsets\[2\]: expected more than"),
        (lambda o: [0, o[1], o[1], o[3], o[4]], r"chunk_offsets\[2\]"),
        (lambda o: [0, -5, *o[2:]], r"chunk_offsets\[1\]: expected more than 0, got -5"),
        (lambda o: [1, *o[1:]], r"chunk_offsets\[0\]"),
        (lambda o: [*o[:4], 10**12], "of the recording, got 1000000000000"),
        (lambda o: [0, o[1] - 1, *o[2:]], "chunk 0"),
        (lambda o: [0, o[1] + 1, *o[2:]], "chunk 0 .*other bytes follow"),
    ],
)
def test_offsets_that_cannot_be(pair, move, match):
    path, _ = pair
    edit(path, chunk_offsets=move(Cbin.open(path).index.offsets))
    refused(path, match)


REQUIRED = [
    "chunk_bounds",
    "chunk_offsets",
    "chunk_order",
    "do_spatial_diff",
    "do_time_diff",
    "dtype",
    "n_channels",
    "sample_rate",
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_header_without_a_key(pair, key):
    path, _ = pair
    header = path.with_suffix(".ch")
    keys = json.loads(header.read_text())
    del keys[key]
    header.write_text(json.dumps(keys))
    refused(path, f"no key {key} ")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"3",
        b"null",
        b'{"name": "somebody else\'s file"}',
        b'{"n_channels": 12, "n_channels": 13}',
        b"[" * 100_000,
        b'{"n_channels": ' + b"9" * 5000 + b"}",
        b"{} {}",
    ],
)
def test_a_header_that_is_no_header(pair, text):
    path, _ = pair
    path.with_suffix(".ch").write_bytes(text)
    refused(path, r"hand\.ch")


def test_a_header_of_absurd_size_is_not_read(pair):
    path, _ = pair
    os.truncate(path.with_suffix(".ch"), 1 << 40)  # sparse
    refused(path, f"at most {MAX_HEADER_BYTES} bytes, got {1 << 40}")
    with pytest.raises(CorruptData, match="at most"):
        ChunkIndex.parse(b" " * (MAX_HEADER_BYTES + 1), "long", 5)
    path.with_suffix(".ch").unlink()
    with pytest.raises(NotFound, match=r"hand\.ch"):
        Cbin.open(path)


def test_a_cap_on_the_size_of_a_chunk(pair):
    path, _ = pair
    text, size = path.with_suffix(".ch").read_bytes(), path.stat().st_size
    assert ChunkIndex.parse(text, "x", size, max_chunk_bytes=1200).longest_chunk == 50
    with pytest.raises(CorruptData, match="chunk 0: expected at most 1199 bytes decoded from"):
        ChunkIndex.parse(text, "x", size, max_chunk_bytes=1199)


def test_header_and_file_of_different_recordings(pair):
    path, _ = pair
    index = Cbin.open(path).index
    with pytest.raises(CorruptData, match=r"hand\.ch: expected \d+ bytes as in its header"):
        Cbin(LocalFile(path.with_suffix(".ch")), index)


def swap(path, index):
    data = path.read_bytes()
    stored = [data[a:b] for a, b in pairwise(index.offsets)]
    stored[1], stored[2] = stored[2], stored[1]
    path.write_bytes(b"".join(stored))
    return {"chunk_offsets": np.cumsum([0, *map(len, stored)]).tolist()}


def drop_first(path, index):
    path.write_bytes(path.read_bytes()[index.offsets[1] :])
    offsets = [at - index.offsets[1] for at in index.offsets[1:]]
    return {"chunk_bounds": [0, 50, 100, 150], "chunk_offsets": offsets, "shape": [150, 12]}


def drop_last(path, index):
    os.truncate(path, index.offsets[-2])
    return {"chunk_bounds": [0, 50, 100, 150], "chunk_offsets": list(index.offsets[:-1]), "shape": [150, 12]}


@pytest.mark.parametrize(
    ("damage", "known"),
    [
        (swap, "compressed"),
        (drop_first, "compressed"),
        (drop_last, "compressed"),
        (lambda *_: {"do_time_diff": False}, "uncompressed"),
        (lambda *_: {"do_spatial_diff": True}, "uncompressed"),
        (lambda *_: {"chunk_order": "C"}, "uncompressed"),
        (
            lambda *_: {"n_channels": 6, "chunk_bounds": [0, 100, 200, 300, 400], "shape": [400, 6]},
            "uncompressed",
        ),
    ],
    ids=["swapped", "first dropped", "last dropped", "time diff", "spatial diff", "order", "channels halved"],
)
def test_what_only_the_hashes_can_tell(pair, damage, known):
    path, _ = pair
    edit(path, **damage(path, Cbin.open(path).index))
    recording = Cbin.open(path)
    recording.read(0, recording.n_samples)  # nothing odd about it
    with pytest.raises(CorruptData, match=rf"hand\.cbin: expected sha1_{known} "):
        recording.verify()
    edit(path, sha1_compressed=None)
    with pytest.raises(CorruptData, match="expected sha1_uncompressed"):
        Cbin.open(path).verify()


def test_a_chopped_recording_says_that_it_has_no_hashes(cbin, truth, tmp_path):
    reader = mtscomp.Reader(n_threads=1)
    reader.open(cbin.source.path)
    reader.chop(2, tmp_path / "chopped.cbin")
    reader.close()
    chopped = Cbin.open(tmp_path / "chopped.cbin")
    np.testing.assert_array_equal(chopped.read(0, 600), truth.T[:, :600])
    assert chopped.verify() == ()


# --- flat files and real recordings --------------------------------------------------------------------------------


@pytest.fixture
def flat(truth, tmp_path):
    truth.tofile(tmp_path / "a.bin")
    return FlatBinary(LocalFile(tmp_path / "a.bin"), 19, 2500.0, chunk_samples=300, piece_bytes=1000)


@given(st.data())
def test_a_flat_file_reads_like_a_compressed_one(cbin, data):
    flat = FlatBinary(LocalFile(cbin.source.path.with_suffix(".bin")), 19, 2500.0, chunk_samples=300, piece_bytes=1000)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, 1000)] * 2)))
    channels = data.draw(st.none() | st.slices(19))
    np.testing.assert_array_equal(flat.read(start, stop, channels), cbin.read(start, stop, channels))


def test_chunks_of_a_flat_file(flat, cbin):
    assert (flat.n_samples, flat.n_chunks, flat.sample_rate_hz) == (1000, 4, 2500.0)
    for i, (start, block) in enumerate(flat.chunks()):
        assert (start, start + block.shape[1]) == flat.span(i) == cbin.span(i)
        np.testing.assert_array_equal(block, cbin.chunk(i))
    out = np.empty((19, 100), np.int16)
    assert flat.chunk(3, out) is out
    assert len(pickle.dumps(flat)) < 700 + len(flat.source.name)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(flat)).chunk(3), out)
    with pytest.raises(BadArgument, match="chunks 0 to 3"):
        flat.chunk(4)
    with pytest.raises(BadArgument, match="not within"):
        flat.read(0, 1001)
    with pytest.raises(BadArgument, match="out: expected"):
        flat.chunk(0, out)


def test_a_flat_file_of_the_wrong_size(flat):
    path = flat.source.path
    with pytest.raises(CorruptData, match=r"multiple of 42 bytes \(21 channels"):
        FlatBinary.open(path, 21, 2500.0)
    os.truncate(path, 38_000 - 1)
    with pytest.raises(CorruptData, match="has changed"):
        flat.read(0, 5)
    with pytest.raises(CorruptData, match="multiple of 38 bytes"):
        FlatBinary.open(path, 19, 2500.0)
    os.truncate(path, 0)
    with pytest.raises(CorruptData, match="got 0"):
        FlatBinary.open(path, 19, 2500.0)


@pytest.mark.parametrize("numbers", [(0, 1.0), (100_001, 1.0), (19, 0.0), (19, float("nan")), (19, 1e6)])
def test_numbers_of_a_flat_file_that_cannot_be(flat, numbers):
    with pytest.raises(BadArgument, match="expected"):
        FlatBinary(flat.source, *numbers)
    with pytest.raises(BadArgument, match="chunk_samples"):
        FlatBinary(flat.source, 19, 1.0, chunk_samples=0)


def test_compressed_or_not_a_recording_is_read_alike(cbin, truth):
    path = cbin.source.path
    recordings: list[Recording] = [Cbin.open(path), FlatBinary.open(path.with_suffix(".bin"), 19, 1000.0)]
    for recording in recordings:
        assert (recording.n_channels, recording.n_samples, recording.sample_rate_hz) == (19, 1000, 1000.0)
        np.testing.assert_array_equal(recording.read(1, 999), truth.T[:, 1:999])
        assert recording.source.size > 0


def channels_of(path):
    meta = path.with_suffix(".meta")
    if not meta.exists():
        return 385  # Open Ephys of Neuropixels with its sync channel
    lines = dict(line.split("=", 1) for line in meta.read_text().splitlines() if "=" in line)
    return int(lines["nSavedChans"])


@pytest.mark.skipif(not FLAT_FILES, reason=f"no real recordings at {REAL_DATA}: their licence keeps them out of here")
@pytest.mark.parametrize("path", FLAT_FILES, ids=lambda path: f"{path.parts[-4]}-{path.name}")
def test_real_recordings(path, tmp_path):
    n_channels = channels_of(path)
    data = np.fromfile(path, np.int16).reshape(-1, n_channels)
    binary = tmp_path / path.with_suffix(".bin").name
    binary.write_bytes(path.read_bytes())
    flat = FlatBinary.open(binary, n_channels, 30_000.0)
    np.testing.assert_array_equal(flat.read(0, len(data)), data.T)
    recording = Cbin.open(compress(binary, n_channels, rate_hz=30_000.0, chunk_duration=0.01))
    assert (recording.n_samples, recording.n_chunks) == (len(data), -(-len(data) // 300))
    np.testing.assert_array_equal(recording.read(0, len(data)), data.T)
    np.testing.assert_array_equal(mtscomp_samples(recording.source.path), data)
    assert recording.verify() == ("sha1_compressed", "sha1_uncompressed")
    if path in SPIKEGLX_FILES:
        meta = path.with_suffix(".meta")
        with spikeglx.Reader(recording.source.path, meta_file=meta, sort=False, ignore_warnings=True) as reader:
            volts = recording.read(0, len(data)).astype(np.float32).T * reader.sample2volts
            np.testing.assert_array_equal(reader.read(slice(0, len(data)), sync=False), volts.astype(np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_descriptor_is_left_open(pair):
    path, _ = pair
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(20):
        Cbin.open(path).verify()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
