"""Cubes from remote sources: the bytes of a local build, no voltage on disk, and no request too many."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from file_server import Fault, FileServer

import cubes
from chunking.manifest import read_manifest, store_files
from loaders.cbin import Cbin
from loaders.errors import BadArgument, CorruptData, NotFound, SourceUnavailable
from loaders.sample import SAMPLE

PID = SAMPLE[0].pid
PRODUCTS = ["spikes", "counts_20ms", "ap", "lf", "sync", "lfp_250hz"]


@pytest.fixture(scope="module")
def local(sample_root_with_voltage):
    return cubes.source("one", sample_root_with_voltage)


@pytest.fixture(scope="module")
def expected(local, tmp_path_factory):
    """A build from local files."""
    root = tmp_path_factory.mktemp("local")
    cubes.build(cubes.plan(local, [PID], PRODUCTS, root=root))
    return root


@pytest.fixture(scope="module")
def tree(sample_root_with_voltage, tmp_path_factory):
    """The files as servers hold them, the id of the dataset in each name."""
    from alyx_stub import server_tree

    return server_tree(sample_root_with_voltage, tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def endpoint(tree):
    from s3_server import public_bucket

    with public_bucket(tree) as endpoint:
        yield endpoint


@pytest.fixture
def files(tree):
    """A file server with faults and a log of requests."""
    with FileServer(tree / "data").running() as server:
        yield server


@pytest.fixture
def bucket(endpoint, local, tmp_path):
    return cubes.source("bucket", insertions=local.insertions(), endpoint=endpoint, cache=tmp_path / "cache")


@pytest.fixture
def http(files, sample_root_with_voltage, tmp_path):
    return cubes.source("http", tables=sample_root_with_voltage, base_url=files.url_of(""), cache=tmp_path / "cache")


def contents(root):
    return {
        f"{store.name}/{key}": path.read_bytes()
        for store in sorted(root.glob("insertions/*/*.zarr"))
        for key, path in store_files(store).items()
    }


def voltage_on_disk(folder):
    return [path.name for path in folder.rglob("*") if path.suffix in (".cbin", ".bin")]


@pytest.mark.parametrize("executor", ["threads", "dask"])
def test_from_the_bucket_the_bytes_are_those_of_local_files(bucket, expected, tmp_path, executor):
    cubes.build(cubes.plan(bucket, [PID], PRODUCTS, root=tmp_path / "root"), executor=executor)
    built, known = contents(tmp_path / "root"), contents(expected)
    assert built.keys() == known.keys()
    assert {key: data for key, data in built.items() if data != known[key]} == {}
    assert voltage_on_disk(tmp_path) == []


def test_the_command_line_builds_from_the_bucket(endpoint, expected, tmp_path, monkeypatch, local):
    import pandas as pd

    from cubes.cli import run

    rows = [
        {name: getattr(i, name) for name in ("pid", "eid", "probe", "lab", "subject", "date", "number")}
        for i in local.insertions()
    ]
    monkeypatch.setattr("loaders.releases.release", lambda name: pd.DataFrame(rows))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    options = ["--source", "bucket", "--cache", str(tmp_path / "cache"), "--to", str(tmp_path / "root")]
    assert run(["build", PID, *options, "--products", "ap"]) == 0
    store = tmp_path / "root/insertions" / PID / "ap.zarr"
    assert (store / "ap/c/0/0").read_bytes() == (expected / "insertions" / PID / "ap.zarr/ap/c/0/0").read_bytes()


def test_over_http_every_chunk_is_asked_for_once(http, files, expected, tmp_path, local):
    cubes.build(cubes.plan(http, [PID], ["ap"], root=tmp_path / "root"))
    assert contents(tmp_path / "root").items() <= contents(expected).items()
    record = next(r for r in local.datasets(local.insertion(PID)) if r.name.endswith(".ap.cbin"))
    asked = [request.range for request in files.gets(r"\.ap\..*cbin")]
    offsets = Cbin.open(record.path).index.offsets
    chunks = [f"bytes={start}-{stop - 1}" for start, stop in pairwise(offsets)]
    assert sorted(asked) == sorted([*chunks, *["bytes=0-0"] * asked.count("bytes=0-0")])  # the first asks for the size
    assert asked.count("bytes=0-0") <= 2  # of the plan, and of the build
    assert voltage_on_disk(tmp_path) == []


def test_a_warm_rebuild_makes_no_data_requests(http, files, tmp_path, sample_root_with_voltage):
    products = ["spikes", "counts_20ms"]
    cubes.build(cubes.plan(http, [PID], products, root=tmp_path / "root"))
    asked = len(files.gets())
    assert asked == len({request.path for request in files.gets()}) > 5  # each file once
    again = cubes.source("http", tables=sample_root_with_voltage, base_url=files.url_of(""), cache=tmp_path / "cache")
    cubes.build(cubes.plan(again, [PID], products, root=tmp_path / "other"))
    assert len(files.gets()) == asked


def test_the_small_files_arrive_together(sample_root_with_voltage, tree, tmp_path):
    with FileServer(tree / "data", latency_s=0.05).running() as server:
        options = {"tables": sample_root_with_voltage, "base_url": server.url_of(""), "cache": tmp_path / "cache"}
        cubes.plan(cubes.source("http", **options), [PID], ["spikes"], root=tmp_path / "root")
        assert server.most_at_once >= 4


@pytest.mark.parametrize("band", ["ap", "lf"])
def test_open_remote_shows_the_cube_and_reads_what_is_asked_for(http, files, expected, band):
    ds = cubes.open_remote(PID, band, source=http)
    stored = cubes.open(expected, PID, chunks=None)[band].to_dataset()
    xr.testing.assert_identical(ds.drop_vars(band).drop_attrs(), stored.drop_vars(band).drop_attrs())
    files.log.clear()
    first, second = (int(ds.sizes["time"] * part) for part in (0, 0.5))
    chunk = ds[band].encoding["preferred_chunks"]["time"]
    assert np.array_equal(ds[band].isel(time=slice(0, chunk)), stored[band].isel(time=slice(0, chunk)))
    assert len(files.gets()) == 1  # an aligned second is one range
    assert np.array_equal(ds[band], stored[band])
    assert np.array_equal(pickle.loads(pickle.dumps(ds[band]))[:5, second:], stored[band][:5, second:])
    assert first == 0


def test_the_engine_opens_a_url_of_the_bucket(endpoint, bucket, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("IBL_CUBES_CACHE", str(tmp_path / "cache"))
    insertion = bucket.insertion(PID)
    records = [r for r in bucket.datasets(insertion) if r.collection == f"raw_ephys_data/{insertion.probe}"]
    (url,) = [record.url for record in records if record.name.endswith(".lf.cbin")]
    ds = xr.open_dataset(url, engine="cubes")
    stored = cubes.open(expected, PID, chunks=None)["lf"].to_dataset()
    assert np.array_equal(ds.lf.sel(time=slice(0.5, 1)), stored.lf.sel(time=slice(0.5, 1)))
    assert ds.acronym_allen.values.tolist() == stored.acronym_allen.values.tolist()


@pytest.mark.parametrize(
    "url", ["https://example.org/x.ap.cbin", "s3://other/data/lab/Subjects/s/2020-01-01/001/raw_ephys_data/probe00/x"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(BadArgument, match="expected a voltage file of the bucket"):
        xr.open_dataset(url, engine="cubes")


def test_a_pid_of_the_bwm_keeps_its_name(tmp_path):
    from loaders.bucket_url import session_of_url

    row = cubes.release("2023_12_bwm_release").iloc[5]
    key = f"data/{row.lab}/Subjects/{row.subject}/{row.date}/{row.number:03d}/raw_ephys_data/{row.probe}/"
    name = "_spikeglx_ephysData_g0_t0.imec0.ap.6523ff36-174f-4902-8d28-70306bf6ec55.cbin"
    for base in ("s3://ibl-brain-wide-map-public", "https://ibl-brain-wide-map-public.s3.amazonaws.com"):
        _, insertion, band = session_of_url(f"{base}/{key}{name}", tmp_path)
        assert (insertion.pid, insertion.eid, band) == (row.pid, row.eid, "ap")


def test_a_remote_recording_is_linked(http, files, expected, tmp_path):
    cubes.build(cubes.plan(http, [PID], root=tmp_path / "root", link=["lf"]))
    files.log.clear()
    lf = cubes.open(tmp_path / "root", PID)["lf"].lf
    assert files.gets() == []  # opening asks for nothing
    assert np.array_equal(lf, cubes.open(expected, PID)["lf"].lf)
    assert cubes.verify(tmp_path / "root") == {str(tmp_path / "root/insertions" / PID / "lf.zarr"): []}


def test_a_remote_recording_that_was_replaced_is_refused(http, files, tmp_path, tree):
    cubes.build(cubes.plan(http, [PID], root=tmp_path / "root", link=["lf"]))
    files.faults.append(Fault("new-version", r"\.lf\..*cbin", times=100))
    with pytest.raises(CorruptData):
        cubes.open(tmp_path / "root", PID)["lf"].lf.load()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("status:404", NotFound), ("status:403", SourceUnavailable), ("no-range", SourceUnavailable)],
)
def test_what_goes_wrong_in_the_stream_is_told_and_publishes_nothing(http, files, tmp_path, kind, error):
    plan = cubes.plan(http, [PID], ["ap"], root=tmp_path / "root")
    name, _, code = kind.partition(":")
    files.faults.append(Fault(name, r"\.ap\..*cbin", times=100, **({"code": int(code)} if code else {})))
    with pytest.raises(error, match=r"pid|ap"):
        cubes.build(plan)
    assert not list((tmp_path / "root").rglob("*.zarr"))


@pytest.mark.parametrize("kind", ["cut", "reset", "flip"])
def test_what_heals_heals(http, files, expected, tmp_path, kind):
    plan = cubes.plan(http, [PID], ["lf"], root=tmp_path / "root")
    files.faults.append(Fault(kind, r"\.lf\..*cbin", times=1))
    cubes.build(plan)
    assert contents(tmp_path / "root").items() <= contents(expected).items()


def test_the_manifest_says_which_files_a_hash_confirmed(bucket, tmp_path):
    (store,) = cubes.build(cubes.plan(bucket, [PID], ["spikes"], root=tmp_path / "root"))
    sources = read_manifest(store)["sources"]
    assert len(sources) > 5
    assert all(source["confirmed"] for source in sources)
