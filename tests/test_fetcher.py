"""Files fetched over http and s3 from a server that fails on demand: whole and right, or not there."""

import errno
import hashlib
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from file_server import Fault, FileServer
from filelock import FileLock

from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.fetcher import fetch_files
from loaders.readers import _hash_of, check_file, hash_of, md5
from loaders.records import DatasetRecord
from loaders.retry import Retry
from loaders.verified import VerifiedSums

RETRY = Retry(attempts=3, first_s=0.002, connect_s=2, stall_s=0.3)
FOLDER = "lab/Subjects/KS014/2019-12-07/001/alf/probe00/#2024-05-06#"
N_BYTES = 3_000_000  # some blocks


class Remote:
    """A server's folder, a cache, and the records of a catalog that knows both."""

    def __init__(self, server, scheme, cache):
        self.server, self.scheme, self.cache = server, scheme, cache

    def add(self, name="spikes.times.npy", n_bytes=N_BYTES, *, folder=FOLDER):
        data = np.random.default_rng(len(name)).bytes(n_bytes)
        path = self.server.root / "bucket" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        key = f"bucket/{folder}/{name}"
        url = f"s3://{key}" if self.scheme == "s3" else f"{self.server.url}/{key}"  # as ONE has them, '#' as it is
        rel_path = f"alf/probe00/#2024-05-06#/{name}"
        sums = {"size": n_bytes, "md5": hashlib.md5(data).hexdigest()}
        return DatasetRecord(rel_path, "alf/probe00", "2024-05-06", name, self.cache / folder / name, **sums, url=url)

    def data(self, record):
        return (self.server.root / "bucket" / record.path.relative_to(self.cache)).read_bytes()

    def fetch(self, *records, **options):
        fetch_files(records, self.cache, **{"retry": RETRY, **options})

    def left(self):
        """Names of all files below the cache but those of the fetcher's own folder."""
        files = (p for p in self.cache.rglob("*") if p.is_file() and ".cubes-verified" not in p.parts)
        return sorted(path.name for path in files)

    def ranges(self):
        return [request.range for request in self.server.gets()]


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("AWS_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["http", "s3"])
def remote(request, tmp_path, serve, monkeypatch):
    (tmp_path / "server").mkdir()
    server = serve(tmp_path / "server")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    return Remote(server, request.param, tmp_path / "cache")


def unhashed(record):
    return replace(record, md5=None)


def unknown(record):
    return replace(record, md5=None, size=None)


def sizeless(record):
    return replace(record, size=None)


def blake2b(record):
    """A catalog with another hash, which does not tell the size."""
    data = np.random.default_rng(len(record.name)).bytes(record.size)
    return replace(record, md5=None, size=None, blake2b=hashlib.blake2b(data).hexdigest())


# fault, what the catalog knows, GETs
HEALED = {
    "no fault": (None, None, 1),
    "null size": (None, sizeless, 1),
    "no hash": (None, unhashed, 1),
    "neither": (None, unknown, 1),
    "truncated": (Fault("cut"), None, 2),
    "truncated, null size": (Fault("cut"), sizeless, 2),
    "truncated, no hash": (Fault("cut"), unhashed, 2),
    "truncated, neither": (Fault("cut"), unknown, 2),
    "truncated at once": (Fault("cut", at=0.0), None, 2),
    "flipped byte": (Fault("flip"), None, 2),
    "flipped byte, null size": (Fault("flip"), sizeless, 2),
    "blake2b": (None, blake2b, 1),
    "flipped byte, blake2b": (Fault("flip"), blake2b, 2),
    "truncated, blake2b": (Fault("cut"), blake2b, 2),
    "no Content-Length, blake2b": (Fault("no-length"), blake2b, 1),
    "500": (Fault("status", code=500), None, 2),
    "503": (Fault("status", code=503, retry_after=0), None, 2),
    "429": (Fault("status", code=429), None, 2),
    "no Content-Length": (Fault("no-length"), None, 1),
    "no Content-Length, null size": (Fault("no-length"), sizeless, 1),
    "stall before headers": (Fault("stall", at=None), None, 1),  # the log has what was answered
    "stall mid-body": (Fault("stall"), None, 2),
    "reset before headers": (Fault("reset", at=None), None, 2),
    "reset": (Fault("reset"), None, 2),
    "page of HTML": (Fault("html"), None, 2),
    "page of HTML, neither": (Fault("html"), unknown, 2),
    "another version": (Fault("new-version"), None, 2),
    "slow": (Fault("slow", pieces=4, seconds=0.1), None, 1),
}


@pytest.mark.parametrize("row", HEALED)
def test_what_heals(remote, row):
    fault, knows, n_gets = HEALED[row]
    record = remote.add()
    record = knows(record) if knows else record
    remote.server.faults = [replace(fault)] if fault else []
    remote.fetch(record)
    assert record.path.read_bytes() == remote.data(record)
    assert remote.left() == [record.name]
    algorithm = record.checksum[0]
    read = check_file(record)
    assert getattr(read, algorithm) == hashlib.new(algorithm, remote.data(record)).hexdigest()
    assert [name for name in ("md5", "blake2b") if getattr(read, name)] == [algorithm]
    assert len(remote.server.gets()) == n_gets
    remote.server.log.clear()
    remote.fetch(record)
    assert remote.server.log == []  # warm: nothing is asked for


# fault, what the catalog knows, error, words, GETs, names that are left
REFUSED = {
    "404": (Fault("status", code=404), None, NotFound, "404", 1, []),
    "401": (Fault("status", code=401), None, SourceUnavailable, "needs a login", 1, []),
    "403": (Fault("status", code=403), None, SourceUnavailable, "needs a login", 1, []),
    "500 for ever": (Fault("status", code=500), None, SourceUnavailable, "500 .*tried 3 times", 3, []),
    "flipped for ever": (Fault("flip"), None, CorruptData, "expected md5 .*, twice", 2, ["quarantine"]),
    "HTML for ever": (Fault("html"), None, SourceUnavailable, "login page", 3, []),
    "reset for ever": (Fault("reset", at=0.0), None, SourceUnavailable, "tried 3 times", 3, []),
    "no length, neither": (Fault("no-length"), unknown, CorruptData, "says how long", 1, []),
    "another size": (None, lambda r: replace(r, size=r.size + 1), CorruptData, "the server has 3000000", 1, []),
    "another hash": (None, lambda r: replace(r, md5="0" * 32), CorruptData, "expected md5 000", 2, ["quarantine"]),
    "another blake2b": (
        *(None, lambda r: replace(r, md5=None, blake2b="0" * 128), CorruptData, "expected blake2b 000"),
        *(2, ["quarantine"]),
    ),
    "truncated, no length": (Fault("cut", at=0.0), None, SourceUnavailable, "tried 3 times", 3, []),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_does_not_heal(remote, row):
    fault, knows, error, words, n_gets, kinds = REFUSED[row]
    record = remote.add()
    record = knows(record) if knows else record
    remote.server.faults = [replace(fault, times=1000)] if fault else []
    with pytest.raises(error, match=words) as caught:
        remote.fetch(record)
    assert record.url in str(caught.value)
    assert len(remote.server.gets()) == n_gets
    assert not record.path.exists()
    assert [name.rpartition(".")[2] for name in remote.left() if not name.endswith(".part")] == kinds


def test_an_interrupted_download_goes_on_where_it_stopped(remote):
    record = remote.add()
    remote.server.faults = [Fault("cut", at=0.5), Fault("cut", at=0.5)]
    remote.fetch(record)
    assert record.path.read_bytes() == remote.data(record)
    assert remote.ranges() == [None, f"bytes={N_BYTES // 2}-", f"bytes={3 * N_BYTES // 4}-"]


def test_a_server_without_ranges_begins_again(remote):
    record = remote.add()
    remote.server.faults = [Fault("cut", at=0.5), Fault("no-range")]
    remote.fetch(record)
    assert record.path.read_bytes() == remote.data(record)
    assert remote.ranges() == [None, f"bytes={N_BYTES // 2}-", None]


@pytest.mark.parametrize("knows", [None, unhashed, unknown])
def test_a_part_of_another_version_is_thrown_away(remote, knows):
    record = remote.add()
    record = knows(record) if knows else record
    remote.server.faults = [Fault("cut", at=0.5), Fault("new-version")]
    remote.fetch(record)
    assert record.path.read_bytes() == remote.data(record)
    assert remote.ranges() == [None, f"bytes={N_BYTES // 2}-", None]


def test_a_part_of_another_process_is_only_used_if_the_md5_will_tell(remote):
    record = remote.add()
    for knows in (record, unhashed(record)):
        remote.server.faults = [Fault("cut", at=0.5, times=1), Fault("status", times=2)]
        remote.server.log.clear()
        with pytest.raises(SourceUnavailable):
            remote.fetch(knows, retry=replace(RETRY, attempts=1))
        remote.server.faults = []
        remote.fetch(knows)
        assert remote.ranges() == [None, f"bytes={N_BYTES // 2}-" if knows.md5 else None]
        assert record.path.read_bytes() == remote.data(record)
        record.path.unlink()


@pytest.mark.parametrize("knows", [None, sizeless, unhashed, unknown])
def test_a_part_that_is_wrong_or_too_long_is_thrown_away(remote, knows):
    record = remote.add()
    record = knows(record) if knows else record
    part = record.path.with_name(f".{record.name}.{record.md5 or 'unknown'}.part")
    part.parent.mkdir(parents=True)
    for content in (b"x" * 1000, b"x" * (N_BYTES + 5), b"x" * N_BYTES):
        part.write_bytes(content)
        remote.fetch(record)
        assert record.path.read_bytes() == remote.data(record)
        assert remote.left() == [record.name]
        record.path.unlink()


def test_a_corrupt_file_is_replaced_and_put_aside(remote):
    record = remote.add()
    good = remote.data(record)
    record.path.parent.mkdir(parents=True)
    aside = record.path.with_name(f".{record.name}.quarantine")
    for bad in (good[:1000], good[:-1] + b"x", b""):  # such as a killed download of another program leaves
        record.path.write_bytes(bad)
        remote.server.faults = [Fault("status", code=500, times=3)]
        with pytest.raises(SourceUnavailable):
            remote.fetch(record)
        assert record.path.read_bytes() == bad  # it goes when the right one is here, not before
        remote.fetch(record)
        assert record.path.read_bytes() == good
        assert aside.read_bytes() == bad


def test_a_file_that_is_there_is_verified_and_not_downloaded(remote):
    record = remote.add()
    record.path.parent.mkdir(parents=True)
    record.path.write_bytes(remote.data(record))
    remote.fetch(record, sizeless(record), unknown(record))
    assert remote.server.log == []


def test_the_md5_is_paid_once_for_all_processes(remote, monkeypatch):
    record = remote.add()
    remote.fetch(record)
    _hash_of.cache_clear()  # as in another process
    monkeypatch.setattr(hashlib, "file_digest", None)  # must not be called
    assert check_file(record).md5 == record.md5
    remote.fetch(record)
    monkeypatch.undo()
    changed = bytearray(remote.data(record))
    changed[1000] ^= 1
    record.path.write_bytes(changed)
    with pytest.raises(CorruptData, match="expected md5"):
        check_file(record)


def test_a_torn_note_of_a_sum_is_computed_again(remote):
    record = remote.add()
    remote.fetch(record)
    (note,) = (path for path in (remote.cache / ".cubes-verified/md5").rglob("*") if path.is_file())
    for torn in ("", "12", note.read_text()[:-40], "\x00" * 50):
        note.write_text(torn)
        _hash_of.cache_clear()
        assert md5(record.path) == record.md5
    assert hash_of(record.path, "blake2b") == hashlib.blake2b(remote.data(record)).hexdigest()


def test_folders_of_the_user_get_no_notes(tmp_path):
    path = tmp_path / "spikes.times.npy"
    path.write_bytes(b"123")
    check_file(DatasetRecord(path.name, "", "", path.name, path))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_records_without_a_url_are_left_alone(tmp_path):
    fetch_files([DatasetRecord("a.npy", "", "", "a.npy", Path("/elsewhere/a.npy"))], tmp_path)


@pytest.mark.parametrize("where", ["../a.npy", "x/../../a.npy", "/elsewhere/a.npy", "link/a.npy", "file-link.npy"])
def test_nothing_is_written_outside_the_cache(remote, tmp_path, where):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.npy").write_bytes(b"mine")
    remote.cache.mkdir()
    (remote.cache / "link").symlink_to(outside)
    (remote.cache / "file-link.npy").symlink_to(outside / "a.npy")
    record = replace(remote.add(), path=remote.cache / where)
    with pytest.raises(CorruptData, match="leads out of the cache"):
        remote.fetch(record)
    assert remote.server.log == []
    assert [path.read_bytes() for path in outside.iterdir()] == [b"mine"]


def test_a_hash_that_is_none_is_refused(remote):
    with pytest.raises(CorruptData, match="expected a hash md5 of 32 digits"):
        remote.fetch(replace(remote.add(), md5="../../x"))
    with pytest.raises(CorruptData, match="expected a hash blake2b of 128 digits"):
        remote.fetch(replace(remote.add(), blake2b="0" * 32))
    with pytest.raises(BadArgument, match="concurrency"):
        remote.fetch(concurrency=0)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EDQUOT])
def test_a_full_or_locked_disk_is_told_at_once(remote, monkeypatch, code):
    import loaders.partial_file as module

    record = remote.add()

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, block):
            raise OSError(code, os.strerror(code))

        def __getattr__(self, name):
            return getattr(self.file, name)

    init = module.PartialFile.__init__

    def opened(self, *args):
        init(self, *args)
        self._file = Full(self._file)

    monkeypatch.setattr(module.PartialFile, "__init__", opened)
    for _ in range(2):
        remote.server.log.clear()
        with pytest.raises(SourceUnavailable, match=os.strerror(code)):
            remote.fetch(record)
        assert len(remote.server.gets()) == 1
        assert remote.left() == []


def test_a_limit_of_the_system_on_file_size(remote):
    record = remote.add()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (N_BYTES // 2, hard))
    try:
        with pytest.raises(SourceUnavailable, match=r"cannot be written .*too large"):
            remote.fetch(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(remote.server.gets()) == 1
    assert remote.left() == []
    remote.fetch(record)
    assert record.path.read_bytes() == remote.data(record)


def test_a_read_only_cache(remote):
    there, absent = remote.add(), remote.add("spikes.clusters.npy")
    remote.fetch(there)
    command = [
        sys.executable,
        "-c",
        "import os, sys, pickle\n"
        "from loaders.fetcher import fetch_files\n"
        "records, root = pickle.loads(sys.stdin.buffer.read())\n"
        "os.geteuid() or (os.setgroups([]), os.setuid(65534))\n"  # root may write anywhere
        "fetch_files(records[:1], root)\n"
        "try: fetch_files(records, root)\n"
        "except OSError as error: print(type(error).__name__, error)\n",
    ]
    folders = [remote.cache, *(path for path in remote.cache.rglob("*") if path.is_dir())]
    above = [p for p in remote.cache.parents if p.owner() == folders[0].owner() and not p.stat().st_mode & 1]
    modes = {path: path.stat().st_mode for path in (*folders, *above)}
    try:
        for path in above:
            path.chmod(0o755)
        for path in folders:
            path.chmod(0o555)
        remote.server.log.clear()
        payload = pickle.dumps(([there, absent], remote.cache))
        result = subprocess.run(command, input=payload, capture_output=True, check=False)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.startswith(b"SourceUnavailable ")
    assert b"cannot be written (Permission denied)" in result.stdout
    assert remote.server.log == []
    assert remote.left() == [there.name]


def test_a_server_that_is_down(remote, tmp_path):
    there, absent = remote.add(), remote.add("spikes.clusters.npy")
    remote.fetch(there)
    with FileServer(tmp_path).running() as gone:
        url = gone.url_of("x.npy")
    remote.fetch(replace(there, url=url))
    with pytest.raises(SourceUnavailable, match="no answer"):
        remote.fetch(replace(absent, url=url))


def test_many_files_in_few_threads(remote):
    records = [remote.add(f"spikes.a{k}.npy", 1000 + k) for k in range(60)]
    remote.server.latency_s = 0.01
    seen = []
    remote.fetch(*records, *records, concurrency=8, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 60) for k in range(1, 61)]
    assert [record.path.read_bytes() for record in records] == [remote.data(record) for record in records]
    assert len(remote.server.gets()) == 60
    assert 4 < remote.server.most_at_once <= 8


def test_the_first_failure_stops_the_rest(remote):
    records = [remote.add(f"spikes.a{k}.npy", 100_000) for k in range(40)]
    remote.server.faults = [Fault("status", match="a0.npy", code=404), Fault("slow", times=99, seconds=0.02)]
    start = time.monotonic()
    with pytest.raises(NotFound, match=r"a0\.npy"):
        remote.fetch(*records, concurrency=4)
    assert len(remote.server.gets()) < 12
    assert time.monotonic() - start < 3
    remote.server.faults = []
    remote.fetch(*records)


FETCH = (
    "import pickle, sys\n"
    "from loaders.fetcher import fetch_files\n"
    "records, root = pickle.loads(sys.stdin.buffer.read())\n"
    "fetch_files(records, root)\n"
)


def start_fetching(remote, records):
    process = subprocess.Popen([sys.executable, "-c", FETCH], stdin=subprocess.PIPE)
    process.stdin.write(pickle.dumps((records, remote.cache)))
    process.stdin.close()
    return process


def test_three_processes_and_one_file(remote):
    records = [remote.add(), remote.add("spikes.clusters.npy", 1000)]
    remote.server.faults = [Fault("slow", pieces=10, seconds=0.1, times=99)]
    processes = [start_fetching(remote, records) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert [record.path.read_bytes() for record in records] == [remote.data(record) for record in records]
    assert len(remote.server.gets()) == 2
    assert remote.left() == sorted(record.name for record in records)


def kill_downloads(remote, n_kills, rng):
    """Kill so many downloads at random moments; a file that stands under its name must be the right one.

    Returns how many downloads went on where another had stopped.
    """
    records = [remote.add("spikes.times.npy", 2_000_000), remote.add("spikes.clusters.npy", 1_000_000)]
    remote.server.faults = [Fault("slow", pieces=10, seconds=0.03, times=10**6)]
    kills = 0
    while kills < n_kills:
        n_gets = len(remote.server.gets())
        process = start_fetching(remote, records)
        while len(remote.server.gets()) == n_gets and process.poll() is None:
            time.sleep(0.01)  # until it downloads
        time.sleep(rng.uniform(0, 0.4))
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        for record in records:
            assert not record.path.exists() or record.path.read_bytes() == remote.data(record)
        if all(record.path.exists() for record in records):
            for record in records:
                record.path.unlink()
    resumed = sum(range_ is not None for range_ in remote.ranges())
    remote.fetch(*records)
    assert [record.path.read_bytes() for record in records] == [remote.data(record) for record in records]
    assert remote.left() == sorted(record.name for record in records)
    return resumed


def test_three_kills(remote):
    assert kill_downloads(remote, 3, np.random.default_rng(0)) > 0


@pytest.mark.fault
def test_fifty_kills(remote):
    assert kill_downloads(remote, 50, np.random.default_rng(1)) > 10


def test_who_waits_for_another_process_can_be_stopped(remote):
    waited, first = remote.add("spikes.times.npy", 1000), remote.add("spikes.amps.npy", 1000)
    sums = VerifiedSums(remote.cache)
    lock = sums.lock_path(waited.path)
    lock.parent.mkdir(parents=True)

    def interrupt(done, total):
        raise KeyboardInterrupt

    def fetch():
        with pytest.raises(KeyboardInterrupt):
            remote.fetch(waited, first, progress=interrupt)

    with FileLock(lock):
        fetching = threading.Thread(target=fetch)
        fetching.start()
        fetching.join(10)
        assert not fetching.is_alive()
    fetching.join()
    assert not waited.path.exists()


def test_stopping_by_the_user_ends_soon(remote, monkeypatch):
    records = [remote.add(f"spikes.a{k}.npy", 100_000) for k in range(4)]
    remote.server.faults = [Fault("slow", match="a[123]", pieces=1000, seconds=0.02, times=99)]

    def interrupt(done, total):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        remote.fetch(*records, progress=interrupt)
    assert time.monotonic() - start < 5  # they would take 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]
