"""Ranges over http and s3, against a server that fails on demand."""

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from file_server import Fault, FileServer

from loaders.cbin import Cbin
from loaders.chunk_index import ChunkIndex
from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.fetcher import fetch_files
from loaders.http_get import PER_HOST, address_of
from loaders.readers import md5
from loaders.records import DatasetRecord
from loaders.remote_file import RemoteFile
from loaders.retry import Retry

RETRY = Retry(attempts=3, first_s=0.002, connect_s=2, stall_s=0.3)
PATH = "bucket/data/alf/#2024-05-06#/run g0_t0.imec0.ap.cbin"
DATA = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy of the machine that runs the tests, and no endpoint."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path, serve):
    path = tmp_path / PATH
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    return serve(tmp_path)


@pytest.fixture(params=["http", "s3"])
def url(request, server, monkeypatch):
    """The same file over http and, with the server as its endpoint, over s3."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    return server.url_of(PATH) if request.param == "http" else f"s3://{PATH}"


def test_every_range_is_that_of_the_file_and_one_request(server, url):
    source = RemoteFile.open(url, len(DATA), retry=RETRY)
    assert source.size == len(DATA)
    assert [r.range for r in server.gets()] == ["bytes=0-0"]
    for start, stop in [(0, 1), (0, len(DATA)), (1000, 2000), (len(DATA) - 1, len(DATA)), (5, 200_000)]:
        server.log.clear()
        assert source.read(start, stop) == DATA[start:stop]
        assert [(r.method, r.range, r.status) for r in server.log] == [("GET", f"bytes={start}-{stop - 1}", 206)]
    server.log.clear()
    assert source.read(7, 7) == b""
    for start, stop in [(-1, 5), (5, 4), (0, len(DATA) + 1)]:
        with pytest.raises(BadArgument, match="not within"):
            source.read(start, stop)
    assert server.log == []


HEALED = [
    Fault("cut"),
    Fault("cut", at=0.0),
    Fault("reset"),
    Fault("reset", at=None),
    Fault("stall"),
    Fault("stall", at=None),
    Fault("html"),
    *(Fault("status", code=code) for code in (408, 429, 500, 502, 503, 504)),
    Fault("status", code=503, retry_after=0),
]
REFUSED = [
    (Fault("status", code=404), NotFound, "404"),
    (Fault("status", code=401), SourceUnavailable, "needs a login"),
    (Fault("status", code=403), SourceUnavailable, "needs a login"),
    (Fault("status", code=400), SourceUnavailable, "400"),
    (Fault("no-range"), SourceUnavailable, "ignores ranges"),
    (Fault("wrong-range"), CorruptData, "got bytes 1001:2001"),
    (Fault("new-version"), CorruptData, "has changed since"),
]


def name_of(fault):
    return f"{fault.kind}-{fault.code}-{fault.at}" if isinstance(fault, Fault) else ""


@pytest.mark.parametrize("fault", HEALED, ids=name_of)
def test_what_heals_is_tried_again_until_it_lasts_too_long(server, url, fault):
    source = RemoteFile.open(url, retry=RETRY)
    server.log.clear()
    server.faults = [replace(fault, times=2)]
    assert source.read(1000, 2000) == DATA[1000:2000]
    server.faults = [replace(fault, times=1000)]
    with pytest.raises(SourceUnavailable, match=r"tried 3 times\); try again"):
        source.read(1000, 2000)
    assert 1000 - server.faults[0].times == RETRY.attempts


@pytest.mark.parametrize(("fault", "error", "words"), REFUSED, ids=name_of)
def test_what_does_not_heal_is_refused_after_one_request(server, url, fault, error, words):
    source = RemoteFile.open(url, retry=RETRY)
    server.log.clear()
    server.faults = [replace(fault)]
    with pytest.raises(error, match=words) as caught:
        source.read(1000, 2000)
    assert len(server.log) == 1
    assert url in str(caught.value)


def test_an_answer_without_length_and_a_slow_one_are_fine(server, url):
    source = RemoteFile.open(url, retry=RETRY)
    for fault in (Fault("no-length"), Fault("slow", pieces=4, seconds=0.1)):  # slower in all than the patience
        server.faults = [fault]
        assert source.read(1000, 2000) == DATA[1000:2000]


def test_a_file_that_is_replaced_while_it_is_read_is_refused(server, url):
    source = RemoteFile.open(url, retry=RETRY)
    server.faults = [Fault("forget-condition")]  # a server that knows no If-Match
    assert source.read(0, 9) == DATA[:9]
    path = server.root / PATH
    path.write_bytes(DATA[::-1])
    for fault in ([], [Fault("forget-condition")]):
        server.faults = fault
        with pytest.raises(CorruptData, match="has changed since it was opened"):
            source.read(0, 9)
    assert RemoteFile.open(url, retry=RETRY).read(0, 9) == DATA[::-1][:9]
    path.write_bytes(b"")
    with pytest.raises(CorruptData, match="fewer bytes"):
        RemoteFile.open(url, retry=RETRY)
    path.unlink()
    with pytest.raises(NotFound, match="404"):
        source.read(0, 9)


def test_opening_compares_the_size_with_the_catalog(url):
    with pytest.raises(CorruptData, match="expected 299999 bytes as in the catalog, the server has 300000"):
        RemoteFile.open(url, len(DATA) - 1, retry=RETRY)


def test_opening_a_server_without_ranges_is_refused(server, url):
    server.faults = [Fault("no-range")]
    with pytest.raises(SourceUnavailable, match="ignores ranges"):
        RemoteFile.open(url, retry=RETRY)


def test_a_server_that_is_down(tmp_path):
    with FileServer(tmp_path).running() as server:
        url = server.url_of("a/b.npy")
    with pytest.raises(SourceUnavailable, match=r"no answer from 127\.0\.0\.1:\d+ .*Connection refused.*tried 3 times"):
        RemoteFile.open(url, retry=RETRY)


def test_the_pause_that_a_server_asks_for_is_kept(server, url):
    pauses = []
    retry = Retry(attempts=4, first_s=1, longest_s=3, longest_asked_s=60)
    source = RemoteFile.open(url, retry=retry)
    server.faults = [Fault("status", code=503, retry_after=7), Fault("status", code=429), Fault("status", code=500)]
    assert retry.run(lambda: source._read_once(0, 9), sleep=pauses.append) == DATA[:9]
    for pause, low, high in zip(pauses, (7, 0, 0), (8, 2, 3), strict=True):
        assert low <= pause <= high
    server.faults = [Fault("status", code=503, retry_after=61)]
    with pytest.raises(SourceUnavailable, match=r"tried once\); try again in 61 s"):
        source.read(0, 9)


def test_pauses_grow_twofold_have_a_limit_and_are_drawn_at_random():
    retry = Retry(first_s=1, longest_s=5)
    assert [retry.pause_s(k, draw=lambda: 1.0) for k in (1, 2, 3, 4, 9)] == [1, 2, 4, 5, 5]
    assert retry.pause_s(3, draw=lambda: 0.25) == 1
    assert retry.pause_s(3, 10, draw=lambda: 0.25) == 11
    assert len({retry.pause_s(3) for _ in range(20)}) == 20


def test_a_retry_after_may_be_a_date():
    from datetime import UTC, datetime, timedelta
    from email.utils import format_datetime

    from loaders.http_get import _asked_s

    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < _asked_s(soon) < 101
    assert [_asked_s(text) for text in ("12", "", "soon", "Wed, 21 Oct 2015 07:28:00 GMT")] == [12, 0, 0, 0]


def test_a_pickle_is_small_holds_no_credentials_and_works_elsewhere(server, url, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "canary-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-key")
    source = RemoteFile.open(url, retry=RETRY)
    pickled = pickle.dumps(source)
    assert len(pickled) < 1000
    assert b"canary" not in pickled
    assert pickle.loads(pickled) == source
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.loads(sys.stdin.buffer.read()).read(1000, 2000))"
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, input=pickled, capture_output=True, check=True, env=env)
    assert result.stdout == DATA[1000:2000]
    assert not [r for r in server.log if "canary" in str(r.headers) or "Authorization" in r.headers]


def test_threads_share_one_source_within_the_limit_of_connections(server, url):
    source = RemoteFile.open(url, retry=RETRY)
    server.latency_s = 0.01
    server.most_at_once = 0
    spans = [(k * 1000, k * 1000 + 1500) for k in range(200)]
    with ThreadPoolExecutor(40) as threads:
        blocks = list(threads.map(lambda span: source.read(*span), spans))
    assert blocks == [DATA[a:b] for a, b in spans]
    assert PER_HOST // 2 < server.most_at_once <= PER_HOST


def test_failures_do_not_use_up_connections(server, url):
    patient = RemoteFile.open(url)
    source = replace(patient, retry=Retry(attempts=1, stall_s=0.05))
    server.faults = [Fault(kind, times=PER_HOST) for kind in ("cut", "reset", "stall", "no-range", "html")]
    for _ in range(5 * PER_HOST):
        with pytest.raises(SourceUnavailable):
            source.read(0, 1000)
    done = threading.Event()
    thread = threading.Thread(target=lambda: patient.read(0, 1000) and done.set(), daemon=True)
    thread.start()
    assert done.wait(20), "no connection came free"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://h.org/a/#2024-05-06#/b c.npy", "https://h.org/a/%232024-05-06%23/b%20c.npy"),
        ("https://h.org/a/%232024-05-06%23/b.npy", "https://h.org/a/%232024-05-06%23/b.npy"),
        ("https://h.org/a.npy?signature=x%2By", "https://h.org/a.npy?signature=x%2By"),
        ("s3://my-bucket/a/#r#/b%20c.npy", "https://my-bucket.s3.amazonaws.com/a/%23r%23/b%2520c.npy"),
        ("s3://my.bucket/a.npy", "https://s3.amazonaws.com/my.bucket/a.npy"),
    ],
)
def test_addresses(url, address):
    assert address_of(url) == address


@pytest.mark.parametrize("url", ["", "ftp://h/a", "https://h", "s3://bucket", "/data/a.npy", "file:///etc/passwd"])
def test_addresses_that_are_none(url):
    with pytest.raises(BadArgument, match="expected https"):
        address_of(url)


def test_a_move_is_followed_but_never_off_encryption(server, monkeypatch):
    import loaders.http_get as http_get

    class Moved:
        status, headers = 302, {"Location": server.url_of(PATH)}
        close = release_conn = lambda self: None

    pool = http_get._pool

    class First:
        def request(self, method, address, **options):
            return Moved() if "elsewhere" in address else pool(0, None).request(method, address, **options)

    monkeypatch.setattr(http_get, "_pool", lambda process, proxy: First())
    assert RemoteFile.open("http://elsewhere/x", retry=RETRY).size == len(DATA)
    with pytest.raises(SourceUnavailable, match="not encrypted"):
        RemoteFile.open("https://elsewhere/x", retry=RETRY)


def test_the_proxy_of_the_machine_is_used(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    assert RemoteFile.open(f"http://nowhere.invalid/{PATH.replace('#', '%23')}", retry=RETRY).size == len(DATA)


def test_a_public_bucket_of_s3(tmp_path, monkeypatch):
    from s3_server import BUCKET, public_bucket

    path = tmp_path / "data/#2024-05-06#/a b.cbin"
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    with public_bucket(tmp_path) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        url = f"s3://{BUCKET}/data/#2024-05-06#/a b.cbin"
        source = RemoteFile.open(url, len(DATA), retry=RETRY)
        assert source.version.startswith('"')
        assert source.read(1000, 2000) == DATA[1000:2000]
        with pytest.raises(NotFound):
            RemoteFile.open(f"s3://{BUCKET}/data/other.cbin", retry=RETRY)
        copy = tmp_path / "cache/a.cbin"
        fetch_files([DatasetRecord("a.cbin", "", "", "a.cbin", copy, len(DATA), md5(path), url=url)], copy.parent)
        assert copy.read_bytes() == DATA


@pytest.fixture
def recording(tmp_path, serve):
    """An mtscomp recording of four seconds on a server, and its samples."""
    import mtscomp

    samples = np.random.default_rng(1).integers(-50, 50, (4000, 8), dtype=np.int16)
    samples.tofile(tmp_path / "a.bin")
    paths = tmp_path / "a.bin", tmp_path / "a.cbin", tmp_path / "a.ch"
    settings = {"check_after_compress": False, "quiet": True, "n_threads": 1}
    mtscomp.compress(*paths, sample_rate=1000.0, n_channels=8, dtype="int16", **settings)
    server = serve(tmp_path)
    source = RemoteFile.open(server.url_of("a.cbin"), retry=RETRY)
    server.log.clear()
    return server, Cbin(source, ChunkIndex.parse(paths[2].read_bytes(), "a.ch", source.size)), samples.T


def test_an_aligned_second_is_one_range(recording):
    server, cbin, samples = recording
    assert np.array_equal(cbin.read(1000, 2000), samples[:, 1000:2000])
    first, last = cbin.index.offsets[1:3]
    assert [r.range for r in server.log] == [f"bytes={first}-{last - 1}"]
    assert np.array_equal(cbin.read(999, 2001), samples[:, 999:2001])
    assert len(server.log) == 4


def test_a_bit_turned_over_on_the_way_heals(recording):
    server, cbin, samples = recording
    server.faults = [Fault("flip")]
    assert np.array_equal(cbin.read(1000, 2000), samples[:, 1000:2000])
    assert len(server.log) == 2
    server.faults = [Fault("flip")]
    assert [start for start, _ in cbin.chunks(check=True)] == [0, 1000, 2000, 3000]
    server.faults = [Fault("flip", times=9)]
    with pytest.raises(CorruptData, match="chunk 1"):
        cbin.read(1000, 2000)


def test_the_provenance_says_which_files_a_hash_confirmed(tiny):
    from loaders.folder import FolderCatalog
    from loaders.sorting import load_sorting

    class Hashed(FolderCatalog):
        def datasets(self, insertion):
            records = super().datasets(insertion)
            return [r if r.name.startswith("spikes") else replace(r, md5=md5(r.path)) for r in records]

    sources = load_sorting(Hashed(tiny.folder), tiny.pid).sources
    assert {source.confirmed for source in sources} == {True, False}
    assert all(source.confirmed != source.rel_path.split("/")[-1].startswith("spikes") for source in sources)
    assert not any(source.confirmed for source in load_sorting(FolderCatalog(tiny.folder), tiny.pid).sources)
