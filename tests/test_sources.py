"""Every source gives the same facts, files and bytes of an insertion; what goes wrong is told with what to do."""

import hashlib
import json
import pickle
import shutil
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import cloudpickle
import numpy as np
import pandas as pd
import pytest
from alyx_stub import LOGIN, AlyxStub, remote_client
from brainbox.io.one import SpikeSortingLoader
from iblatlas.regions import BrainRegions
from one.api import One

import cubes
from cubes.cli import run
from cubes.sources import cache_folder
from loaders.bucket import BucketCatalog
from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.fetcher import fetch_files
from loaders.inputs import Inputs
from loaders.one_cache import OneCatalog
from loaders.resolve import resolve_sorting
from loaders.sample import SAMPLE
from loaders.sorting import load_sorting

PIDS = [probe.pid for probe in SAMPLE]
NOBODY = "11111111-1111-4111-8111-111111111111"
REALDATA = Path(__file__).parents[2] / "shared/realdata"
REMOTE = ("openalyx", "client", "bucket", "http")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder in which ONE knows nothing."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ALYX_LOGIN", "ALYX_PWD", "ALYX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def openalyx(stub, cache, **options):
    return cubes.source("openalyx", base_url=stub.url, cache=cache, **(options or LOGIN))


@pytest.fixture
def remote(request, home, alyx_stub, sample_bucket, sample_root, sample_source, tmp_path):
    """A function that opens a remote source of the sample by its name, with its files in `tmp_path`/cache."""
    cache = tmp_path / "cache"
    listed = sample_source.insertions()
    return lambda kind: {
        "openalyx": lambda: openalyx(alyx_stub, cache),
        "client": lambda: cubes.source("one", one=remote_client(alyx_stub, cache)),
        "bucket": lambda: cubes.source("bucket", insertions=listed, endpoint=sample_bucket, cache=cache),
        "http": lambda: cubes.source("http", tables=sample_root, base_url=f"{alyx_stub.url}/public", cache=cache),
    }[kind]()


@pytest.mark.parametrize("kind", REMOTE)
def test_every_source_gives_the_same_insertions_and_files(kind, remote, sample_source, sample_root, tmp_path):
    def told(insertion):
        return replace(insertion, model="", comment="")

    def facts(record):
        return record.rel_path, record.collection, record.revision, record.name, record.size, record.md5, record.id

    catalog = remote(kind)
    assert [told(i) for i in catalog.insertions()] == [told(i) for i in sample_source.insertions()]
    for pid in PIDS:
        insertion = catalog.insertion(pid)
        theirs, ours = catalog.datasets(insertion), sample_source.datasets(insertion)
        assert len(ours) == (111 if insertion.subject == "SAMPLE_001" else 39)
        assert [facts(record) for record in theirs] == [facts(record) for record in ours]
        places = [record.path.relative_to(tmp_path / "cache") for record in theirs]
        assert places == [record.path.relative_to(sample_root) for record in ours]
        default = [record.revision == "2024-05-06" if kind == "bucket" else record.default for record in ours]
        assert [record.default for record in theirs] == default
        chosen = [resolve_sorting(records, insertion.probe) for records in (theirs, ours)]
        assert chosen[0].collection == chosen[1].collection
        assert [(key, file.rel_path) for key, file in chosen[0].files.items()] == [
            (key, file.rel_path) for key, file in chosen[1].files.items()
        ]


@pytest.mark.parametrize("kind", REMOTE)
def test_urls_are_where_the_bytes_are(kind, remote):
    catalog = remote(kind)
    records = catalog.datasets(catalog.insertion(PIDS[0]))
    some = [record for record in records if record.name in ("spikes.times.npy", "licks.times.npy")]
    assert {record.revision for record in some} == {"", "2024-05-06"}  # a # in the path
    for record in some:
        with urllib.request.urlopen(record.url) as response:
            assert hashlib.md5(response.read()).hexdigest() == record.md5


@pytest.mark.parametrize("kind", REMOTE)
def test_the_files_of_every_source_can_be_fetched(kind, remote, sample_source, tmp_path):
    catalog = remote(kind)
    fetch_files(catalog.datasets(catalog.insertion(PIDS[2])), tmp_path / "cache")
    ours, theirs = load_sorting(sample_source, PIDS[2]), load_sorting(catalog, PIDS[2])
    np.testing.assert_array_equal(theirs.spikes.times, ours.spikes.times)
    assert theirs.units.uuid.tolist() == ours.units.uuid.tolist()
    assert theirs.sources == ours.sources


def test_cubes_are_equal_byte_for_byte_whatever_the_source(remote, sample_source, sample_root, alyx_stub, tmp_path):
    shutil.copytree(sample_root, tmp_path / "cache")  # the files were fetched
    pid, known = PIDS[2], {i.pid: replace(i, model="") for i in sample_source.insertions()}
    session = sample_root / "samplelab/Subjects" / known[pid].subject / known[pid].date / "001"
    sources = {
        "one": sample_source,
        "folder": cubes.source("folder", session, pids={"probe00": known[pid]}),
        "openalyx": openalyx(alyx_stub, tmp_path / "cache", **LOGIN, insertions=known.values()),
        "bucket": remote("bucket"),
        "http": remote("http"),
    }
    bytes_of = {}
    for name, source in sources.items():
        root = tmp_path / name
        cubes.build(cubes.plan(source, [pid], ["channels", "spikes", "counts_100ms", "trials", "licks"], root=root))
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "manifest.json")
        bytes_of[name] = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    assert len(bytes_of["one"]) > 100
    for name in sources:
        assert bytes_of[name] == bytes_of["one"], name


def test_voltage_is_equal_byte_for_byte_whatever_the_source(sample_root_with_voltage, tmp_path):
    source = cubes.source("one", sample_root_with_voltage)
    known = source.insertion(PIDS[2])
    session = sample_root_with_voltage / "samplelab/Subjects" / known.subject / known.date / "001"
    folder = cubes.source("folder", session, pids={"probe00": replace(known, model="")})
    attrs = []
    for catalog in (source, folder):
        plan = cubes.plan(catalog, [PIDS[2]], ["sync"], root=tmp_path / str(len(attrs)))
        (path,) = cubes.build(plan)
        attrs.append(json.loads((path / "zarr.json").read_text()))
    assert attrs[0] == attrs[1]


# ---- the ONE client


def test_what_we_load_is_what_the_unmodified_loader_downloads(home, alyx_stub, tmp_path):
    class Atlas:
        regions = BrainRegions()

    client = remote_client(alyx_stub, tmp_path / "cache")
    theirs = SpikeSortingLoader(pid=PIDS[2], one=client, atlas=Atlas())
    spikes, clusters, channels = theirs.load_spike_sorting(revision="2024-05-06")
    assert alyx_stub.asked(r"^/public/.*spikes\.times")
    ours = load_sorting(cubes.source("one", one=client), PIDS[2])  # the files lie where the client put them
    for name in ("times", "clusters", "amps", "depths"):
        np.testing.assert_array_equal(getattr(ours.spikes, name), spikes[name])
    assert ours.units.uuid.tolist() == clusters["uuids"].squeeze().tolist()
    assert ours.channels.locations.acronym_allen.tolist() == channels["acronym"].tolist()


@pytest.mark.parametrize("make", ["One", "OneAlyx"])
def test_a_local_client_is_like_its_folder(make, one_local, sample_root, sample_source):
    client = one_local if make == "OneAlyx" else One(cache_dir=sample_root, mode="local")
    catalog = cubes.source("one", one=client)
    assert catalog.insertions() == sample_source.insertions()
    assert catalog.datasets(catalog.insertion(PIDS[0])) == sample_source.datasets(sample_source.insertion(PIDS[0]))


def test_a_local_client_without_insertions_is_refused(sample_root, tmp_path):
    for name in ("sessions.pqt", "datasets.pqt"):
        shutil.copy(sample_root / name, tmp_path)
    with pytest.raises(BadArgument, match=r"expected a client with a table insertions\.pqt"):
        OneCatalog(One(cache_dir=tmp_path, mode="local"))


# ---- what the database is asked


def test_the_database_is_asked_once_an_insertion_and_once_a_session(home, alyx_stub, tmp_path):
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    catalog._one.alyx.cache_mode = None  # ONE's own cache of answers, which ends after five minutes
    eids = [SAMPLE[0].eid, SAMPLE[2].eid]
    for _ in range(2):
        for pid in PIDS:
            catalog.datasets(catalog.insertion(pid))
            Inputs(catalog, pid)
    questions = ["/auth-token", "/api/schema", f"/insertions/{PIDS[0]}", f"/sessions/{eids[0]}"]
    assert alyx_stub.asked() == [*questions, f"/insertions/{PIDS[1]}", f"/insertions/{PIDS[2]}", f"/sessions/{eids[1]}"]
    assert not list((tmp_path / "cache").rglob("*"))
    assert {path.name for path in home.iterdir()} <= {".one", "Downloads"}  # ONE's own


def test_all_insertions_come_page_by_page_and_a_list_costs_nothing(
    home, sample_root, server_files, sample_source, tmp_path
):
    with AlyxStub(sample_root, server_files, page=2).running() as stub:
        catalog = openalyx(stub, tmp_path / "cache")
        assert [i.pid for i in catalog.insertions()] == [i.pid for i in sample_source.insertions()]
        assert [i.pid for i in catalog.insertions()] == [catalog.insertion(pid).pid for pid in PIDS]
        assert stub.asked("insertions") == ["/insertions", "/insertions?limit=2&offset=2"]
        listed = openalyx(stub, tmp_path / "cache", **LOGIN, insertions=sample_source.insertions()[:1])
        assert [i.pid for i in listed.insertions()] == PIDS[:1]
        assert len(stub.asked("insertions")) == 2


def test_what_alyx_does_not_know_of_a_file(home, alyx_stub, tmp_path):
    alyx_stub.changes = {
        "alf/licks.times.npy": {"file_size": None, "hash": None},
        "alf/_ibl_trials.table.pqt": {"data_url": None},
        "alf/_ibl_wheel.position.npy": {"qc": "CRITICAL"},
    }
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    records = {record.rel_path: record for record in catalog.datasets(catalog.insertion(PIDS[2]))}
    assert len(records) == 37
    assert (records["alf/licks.times.npy"].size, records["alf/licks.times.npy"].md5) == (None, None)
    assert not {"alf/_ibl_trials.table.pqt", "alf/_ibl_wheel.position.npy"} & set(records)


@pytest.mark.parametrize("place", ["somewhere/else/a.npy", "samplelab/Subjects/SAMPLE_002/2024-03-01/001/../../a.npy"])
def test_a_file_outside_its_session_is_refused(home, alyx_stub, tmp_path, place):
    alyx_stub.changes = {"alf/licks.times.npy": {"data_url": f"http://host/public/{place}"}}
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    with pytest.raises(CorruptData, match=r"leads out of the session|expected it in samplelab"):
        catalog.datasets(catalog.insertion(PIDS[2]))


# ---- logging in


def test_no_pickle_holds_the_login(home, alyx_stub, tmp_path):
    canary = "c4naryc4naryc4naryc4naryc4naryc4naryc4na"
    alyx_stub.token = canary
    for login in ({"token": canary}, LOGIN):
        catalog = openalyx(alyx_stub, tmp_path / "cache", **login)
        insertion = catalog.insertion(PIDS[0])
        for dumps in (pickle.dumps, cloudpickle.dumps):
            for value in (insertion, catalog.datasets(insertion), Inputs(catalog, PIDS[0])):
                data = dumps(value)
                assert not [secret for secret in (canary, LOGIN["password"]) if secret.encode() in data]
                assert pickle.loads(data)
            with pytest.raises(TypeError, match="carries a login and is never pickled"):
                dumps(catalog)


@pytest.mark.parametrize("given", ["arguments", "environment", "token", "saved"])
def test_ways_to_log_in(given, home, alyx_stub, tmp_path, monkeypatch):
    login = {}
    if given == "arguments":
        login = LOGIN
    elif given == "token":
        login = {"token": alyx_stub.token}
    elif given == "environment":
        monkeypatch.setenv("ALYX_LOGIN", LOGIN["username"])
        monkeypatch.setenv("ALYX_PWD", LOGIN["password"])
    else:
        remote_client(alyx_stub, tmp_path / "cache")
    catalog = cubes.source("openalyx", base_url=alyx_stub.url, cache=tmp_path / "cache", **login)
    assert catalog.insertion(PIDS[0]).probe == "probe00"


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({}, "no login is known"),
        ({"password": "secret"}, "no login is known"),
        ({"username": "tester"}, "the login was refused"),
        ({"username": "tester", "password": "wrong"}, r"the login was refused \(HTTP 400\)"),
        ({"token": "0" * 40}, r"the login was refused \(HTTP 403\)"),
    ],
)
def test_a_missing_or_wrong_login_is_told_with_what_to_do(login, words, home, alyx_stub, tmp_path):
    with pytest.raises(SourceUnavailable, match=rf"{words}.*username= and password=.*ALYX_TOKEN.*source 'bucket'") as e:
        cubes.source("openalyx", base_url=alyx_stub.url, cache=tmp_path / "cache", **login)
    assert not [secret for secret in ("wrong", "0" * 40) if secret in str(e.value).replace("wrong, or expired", "")]


def test_an_expired_token_is_told_with_what_to_do(home, alyx_stub, tmp_path):
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    alyx_stub.token = "0" * 40
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match=r"the login was refused.*wrong, or expired; give username="):
            catalog.insertion(PIDS[0])


def test_a_database_that_does_not_answer(home, alyx_stub, sample_root, server_files, tmp_path):
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    alyx_stub.status = 500
    with pytest.raises(SourceUnavailable, match="got HTTP 500; try again later"):
        catalog.insertion(PIDS[0])
    with pytest.raises(SourceUnavailable, match="expected an answer to the login, got HTTP 500"):
        openalyx(alyx_stub, tmp_path / "cache")
    with AlyxStub(sample_root, server_files).running() as other:
        catalog = openalyx(other, tmp_path / "other")
    for ask in (lambda: catalog.insertion(PIDS[0]), catalog.insertions, lambda: openalyx(other, tmp_path / "other")):
        with pytest.raises(SourceUnavailable, match=r"does not answer \(ConnectionError\); check the network"):
            ask()


# ---- what does not exist


@pytest.mark.parametrize("kind", REMOTE)
@pytest.mark.parametrize("pid", [NOBODY, "x", "../" + NOBODY])
def test_an_unknown_pid_is_told(kind, pid, remote):
    with pytest.raises(NotFound, match=f"pid '{pid}': (unknown to|not in the list of this source)"):
        remote(kind).insertion(pid)


def test_the_nearest_pids_are_named(release):
    catalog = BucketCatalog(release, cache="unused")
    with pytest.raises(NotFound, match=r"which has .*000000000017.* and 27 more"):
        catalog.insertion("00000000-0000-4000-8000-0000000000l7")


# ---- the bucket


@pytest.fixture
def release():
    n = 30
    return pd.DataFrame(
        {
            "pid": [f"00000000-0000-4000-8000-{i:012d}" for i in range(n)],
            "eid": [f"00000000-0000-4000-9000-{i:012d}" for i in range(n)],
            "probe": "probe00",
            "lab": "alab",
            "subject": [f"mouse_{i:02d}" for i in range(n)],
            "date": "2020-01-02",
            "number": 1,
        }
    )


@pytest.fixture
def s3(sample_bucket):
    """A function that stores an object in the bucket; all are gone after the test."""
    import boto3

    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=sample_bucket, **keys)
    stored = []

    def store(session, name, body=b"x"):
        stored.append(f"data/alab/Subjects/{session}/2020-01-02/001/{name}")
        client.put_object(Bucket="ibl-brain-wide-map-public", Key=stored[-1], Body=body)
        return stored[-1]

    store.client = client
    yield store
    for key in stored:
        client.delete_object(Bucket="ibl-brain-wide-map-public", Key=key)
    client.close()


def test_long_listings_come_in_pages_and_once_a_session(release, sample_bucket, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "20")
    names = [f"alf/probe00/a.b{i:04d}.{NOBODY[:-4]}{i:04d}.npy" for i in range(105)]
    for name in names:
        s3("mouse_00", name)
    pages, listing = [], BucketCatalog._objects

    def counted(self, prefix):
        pages.append(prefix)
        return listing(self, prefix)

    monkeypatch.setattr(BucketCatalog, "_objects", counted)
    catalog = BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket)
    insertion = catalog.insertions()[0]
    records = catalog.datasets(insertion)
    prefix = "data/alab/Subjects/mouse_00/"
    page = s3.client.list_objects_v2(Bucket="ibl-brain-wide-map-public", Prefix=prefix)
    assert (page["IsTruncated"], page["KeyCount"]) == (True, 20)
    assert [(r.name, r.id) for r in records] == [(f"a.b{i:04d}.npy", f"{NOBODY[:-4]}{i:04d}") for i in range(105)]
    assert catalog.datasets(insertion) == records
    assert len(pages) == 1


def test_names_hashes_and_default_of_objects(release, sample_bucket, s3, tmp_path):
    key = s3("mouse_01", f"alf/probe00/iblsorter/#2024-05-06#/spikes.times.{NOBODY}.npy")
    s3("mouse_01", f"alf/probe00/pykilosort/#2030-01-01#/a b%.c.{NOBODY}.npy", b"yy")
    s3("mouse_01", "notes.txt")
    body = np.zeros(6 << 20, dtype=np.uint8).tobytes()
    large = s3("mouse_01", f"raw/x.ap.{NOBODY}.cbin")
    where = {"Bucket": "ibl-brain-wide-map-public", "Key": large}
    upload = s3.client.create_multipart_upload(**where)["UploadId"]
    part = s3.client.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    s3.client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    catalog = BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket)
    records = {record.name: record for record in catalog.datasets(catalog.insertions()[1])}
    assert set(records) == {"spikes.times.npy", "a b%.c.npy", "notes.txt", "x.ap.cbin"}
    times, odd, plain, large = (records[name] for name in ("spikes.times.npy", "a b%.c.npy", "notes.txt", "x.ap.cbin"))
    assert (times.collection, times.revision, times.default, times.id) == (
        "alf/probe00/iblsorter",
        "2024-05-06",
        True,
        NOBODY,
    )
    assert times.url == f"{sample_bucket}/ibl-brain-wide-map-public/{key.replace('#', '%23')}"
    assert (times.md5, times.size) == (hashlib.md5(b"x").hexdigest(), 1)
    assert (large.md5, large.size) == (None, 6 << 20)  # the ETag of an upload in parts is no md5
    assert (odd.default, plain.id) == (False, "")
    with urllib.request.urlopen(odd.url) as response:
        assert response.read() == b"yy"
    asked = BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket, revision="2030-01-01")
    assert {r.name for r in asked.datasets(asked.insertions()[1]) if r.default} == {"a b%.c.npy"}


def test_two_different_objects_of_one_name_are_refused(release, sample_bucket, s3, tmp_path):
    s3("mouse_02", f"alf/a.b.{NOBODY}.npy")
    s3("mouse_02", f"alf/a.b.{NOBODY[:-1]}2.npy")
    catalog = BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket)
    assert [record.id for record in catalog.datasets(catalog.insertions()[2])] == [NOBODY]  # two copies of one file
    s3("mouse_02", f"alf/a.b.{NOBODY[:-1]}3.npy", b"other")
    with pytest.raises(cubes.InconsistentData, match=r"two different files of one name.*use the source openalyx"):
        BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket).datasets(catalog.insertions()[2])


def test_a_session_that_the_bucket_lacks_and_a_bucket_that_does_not_answer(release, sample_bucket, tmp_path):
    catalog = BucketCatalog(release, cache=tmp_path, endpoint=sample_bucket)
    with pytest.raises(NotFound, match=r"s3://.*/alab/Subjects/mouse_09/2020-01-02/001/: the bucket holds nothing"):
        catalog.datasets(catalog.insertions()[9])
    catalog = BucketCatalog(release, cache=tmp_path, endpoint="http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match=r"cannot be listed at http://127.0.0.1:9 .*check the network"):
        catalog.datasets(catalog.insertions()[9])


def test_the_endpoint_comes_from_the_environment(release, monkeypatch, sample_bucket, s3, tmp_path):
    s3("mouse_03", f"alf/a.b.{NOBODY}.npy")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", sample_bucket)
    catalog = BucketCatalog(release, cache=tmp_path)
    (record,) = catalog.datasets(catalog.insertions()[3])
    assert record.url.startswith(sample_bucket)


def test_the_bucket_is_asked_without_the_credentials_of_the_user(release, monkeypatch, tmp_path):
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers)
            self.send_error(403)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        catalog = BucketCatalog(release, cache=tmp_path, endpoint=f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(SourceUnavailable, match=r"cannot be listed .*403"):
            catalog.datasets(catalog.insertions()[0])
        server.shutdown()
    assert seen
    assert not any("Authorization" in headers for headers in seen)


# ---- lists of insertions


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns=["eid", "lab"]), "eid, lab are missing"),
        (lambda table: table.assign(subject=None), "some that are missing"),
        (lambda table: pd.concat([table, table[:1]]), "got 31 rows with 30 pids"),
        (lambda table: table.assign(pid="../x"), r"pid '\.\./x': expected letters"),
    ],
)
def test_lists_that_cannot_be_used(change, words, release):
    with pytest.raises(BadArgument, match=words):
        BucketCatalog(change(release), cache="unused")


@pytest.mark.parametrize("lab", ["..", "a/b", ""])
def test_names_that_lead_elsewhere(lab, release):
    catalog = BucketCatalog(release.assign(lab=lab), cache="unused")
    with pytest.raises(CorruptData, match="do not name a folder"):
        catalog.datasets(catalog.insertions()[0])


def test_a_release_is_known_by_its_name(release, monkeypatch, tmp_path, home, alyx_stub):
    monkeypatch.setattr("cubes.sources._release", {"2023_12_bwm_release": release, "a": release[:2]}.__getitem__)
    assert len(cubes.source("bucket").insertions()) == 30
    assert len(cubes.source("bucket", release="a").insertions()) == 2
    assert len(openalyx(alyx_stub, tmp_path, **LOGIN, release="a").insertions()) == 2
    with pytest.raises(BadArgument, match="expected one of the two, got both"):
        cubes.source("bucket", release="a", insertions=release)


# ---- the facade and the command line


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("bucket", {"token": "x"}, "unexpected keyword argument 'token'; it takes release, insertions, cache"),
        ("http", {}, "missing a required argument: 'tables'"),
        ("one", {}, "expected a folder or one=, exactly one of the two"),
        ("folder", {}, "missing a required argument: 'folder'"),
    ],
)
def test_options_that_a_source_does_not_take(kind, options, words):
    with pytest.raises(BadArgument, match=words):
        cubes.source(kind, **options)


def test_where_files_of_remote_sources_go(monkeypatch, tmp_path):
    for name in ("IBL_CUBES_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/h")
    assert cache_folder() == Path("/h/.cache/ibl-cubes")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/ibl-cubes")
    monkeypatch.setenv("IBL_CUBES_CACHE", "/c")
    assert cache_folder() == Path("/c")


@pytest.mark.parametrize("kind", ["bucket", "openalyx", "http"])
def test_remote_sources_are_never_taken_whole_by_accident(kind, capsys, tmp_path):
    assert run(["plan", "--source", kind, "--to", str(tmp_path)]) == 1
    assert f"source {kind}: expected pids or --release, got neither" in capsys.readouterr().err


def test_the_command_line_names_remote_sources(alyx_stub, sample_root, tmp_path, capsys, monkeypatch, release):
    shutil.copytree(sample_root, tmp_path / "cache")
    options = ["--to", str(tmp_path / "root"), "--cache", str(tmp_path / "cache"), "--products", "channels"]
    assert run(["plan", PIDS[2], "--source", "http", "--tables", str(sample_root), *options]) == 0
    assert PIDS[2] in capsys.readouterr().out
    monkeypatch.setattr("cubes.sources._release", lambda _: release)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert run(["plan", PIDS[2], "--source", "bucket", "--release", "a", *options]) == 1
    assert "not in the list of this source" in capsys.readouterr().err
    assert run(["plan", "--source", str(sample_root), "--release", "a", *options]) == 1
    assert "release 'a': unknown; releases that exist: 2022_10_bwm_release" in capsys.readouterr().err


# ---- real records


def recorded(kind):
    folder = REALDATA / "paper-reproducible-ephys/one_cache"
    if not folder.is_dir():
        pytest.skip("the recorded responses of OpenAlyx are not here")
    index = pd.read_csv(folder / "rest_index.csv")
    return [json.loads((folder / ".rest" / name).read_text())[0] for name in index[index.kind == kind].file]


def test_real_insertions_are_those_of_the_release():
    from loaders.alyx import _insertion

    rows = recorded("insertion read")
    csv = pd.read_csv(REALDATA / "paper-brain-wide-map/2023_12_bwm_release.csv").set_index("pid")
    linked = [_insertion(row) for row in rows if row["id"] in csv.index]
    assert len(linked) >= 10
    for ours in linked:
        row = csv.loc[ours.pid]
        assert (ours.eid, ours.probe, ours.subject, ours.lab) == (row.eid, row.probe_name, row.subject, row.lab)
        assert (ours.date, ours.number) == (str(row.date)[:10], row.session_number)


def test_urls_of_the_bucket_are_those_that_the_database_has(release):
    catalog = BucketCatalog(release, cache="unused")
    urls = {
        file["data_url"]
        for page in recorded("dataset list")
        for dataset in page["results"]
        for file in dataset["file_records"]
        if file["data_url"] and "ibl-brain-wide-map-public" in file["data_url"]
    }
    assert len(urls) > 100
    for url in urls:
        assert catalog._url(url.partition(".amazonaws.com/")[2]) == url.replace("#", "%23")


# ---- a database that fails


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_database_is_asked_again(status, home, alyx_stub, tmp_path, monkeypatch):
    monkeypatch.setattr("one.webclient.sleep", lambda _: None)  # ONE waits a minute between its last attempts
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    catalog._one.alyx.cache_mode = None
    assert catalog.insertion(PIDS[0]).probe == "probe00"
    alyx_stub.status, alyx_stub.times = status, 2
    assert catalog.insertion(PIDS[1]).probe == "probe01"
    assert len(alyx_stub.asked(PIDS[1])) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_database_that_stays_busy_is_told(status, home, alyx_stub, tmp_path, monkeypatch):
    monkeypatch.setattr("one.webclient.sleep", lambda _: None)
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    catalog._one.alyx.cache_mode = None
    catalog.insertion(PIDS[0])
    alyx_stub.status = status
    with pytest.raises(SourceUnavailable, match=alyx_stub.url):
        catalog.insertion(PIDS[1])


def test_eight_threads_share_one_client(home, alyx_stub, sample_source, tmp_path):
    catalog = openalyx(alyx_stub, tmp_path / "cache")
    catalog._one.alyx.cache_mode = None
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: catalog.datasets(catalog.insertion(PIDS[i % 3])), range(24)))
    for i, records in enumerate(found):
        expected = sample_source.datasets(sample_source.insertion(PIDS[i % 3]))
        assert [record.rel_path for record in records] == [record.rel_path for record in expected]


def test_a_database_that_is_down_loses_nothing_that_is_known(home, sample_root, server_files, tmp_path):
    with AlyxStub(sample_root, server_files).running() as stub:
        catalog = openalyx(stub, tmp_path / "cache")
        known = catalog.datasets(catalog.insertion(PIDS[0]))
    assert catalog.datasets(catalog.insertion(PIDS[0])) == known
    with pytest.raises(SourceUnavailable, match="does not answer"):
        catalog.insertion(PIDS[2])


def test_a_cache_may_lie_above_the_working_directory(sample_root, monkeypatch):
    here = sample_root / "samplelab"
    monkeypatch.chdir(here)
    above = cubes.source("one", Path("../../") / sample_root.name)
    plain = cubes.source("one", sample_root)
    assert above.insertions() == plain.insertions()
    records = above.datasets(above.insertions()[0])
    assert [record.path.resolve() for record in records] == [r.path for r in plain.datasets(plain.insertions()[0])]
