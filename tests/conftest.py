"""Fixtures that every test may use; nothing here needs a network."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

# ONE and iblutil look for their settings below the home folder, ONE already while it is imported.
_HOME = tempfile.mkdtemp(prefix="ibl-cubes-home-")
os.environ["HOME"] = _HOME
sys.path.insert(0, str(Path(__file__).parent / "servers"))  # modules that tests share

from file_server import FileServer  # noqa: E402

from loaders.sample import write_sample  # noqa: E402

settings.register_profile("default", deadline=None)  # the first example compiles the kernels
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run the tests marked slow or fault")
    parser.addoption("--network", action="store_true", help="also run the tests that need the real servers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--run-slow"):
        for item in items:
            if {"slow", "fault"} & {mark.name for mark in item.iter_markers()}:
                item.add_marker(pytest.mark.skip(reason="takes long; run it with --run-slow"))
    if not config.getoption("--network"):
        for item in items:
            if item.get_closest_marker("network"):
                item.add_marker(pytest.mark.skip(reason="needs the real servers; run it with --network"))


@pytest.fixture(scope="session", autouse=True)
def private_home() -> Iterator[Path]:
    """The home folder of this test run, so that no test reads or writes the user's own."""
    yield Path(_HOME)
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def sample_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ONE cache with the sample, without voltage."""
    return write_sample(tmp_path_factory.mktemp("sample") / "one", voltage=False)


@pytest.fixture(scope="session")
def sample_root_with_voltage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ONE cache with the whole sample."""
    return write_sample(tmp_path_factory.mktemp("sample-voltage") / "one")


@pytest.fixture
def serve() -> Iterator[Callable[..., FileServer]]:
    """``serve(folder)`` starts a server of its files that fails on demand; all end with the test."""
    with ExitStack() as running:
        yield lambda root, **options: running.enter_context(FileServer(root, **options).running())


@pytest.fixture
def one_local(sample_root: Path) -> Any:
    """The unmodified client, on the sample, without a network."""
    from one.api import OneAlyx

    return OneAlyx(base_url="http://127.0.0.1:9", cache_dir=sample_root, mode="local", silent=True)


@pytest.fixture(scope="session")
def server_files(sample_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the sample as servers hold them: below ``data``, the id of the dataset in each name."""
    from alyx_stub import server_tree

    return server_tree(sample_root, tmp_path_factory.mktemp("server"))


@pytest.fixture
def alyx_stub(sample_root: Path, server_files: Path) -> Iterator[Any]:
    """A stand-in for the Alyx database and its file server, with the sample."""
    from alyx_stub import AlyxStub

    with AlyxStub(sample_root, server_files).running() as stub:
        yield stub


@pytest.fixture(scope="session")
def sample_bucket(server_files: Path) -> Iterator[str]:
    """The address of a local S3 with the sample, laid out as the public bucket is."""
    from s3_server import public_bucket

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # or a failure shows a line a request
    with public_bucket(server_files) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def allen_release(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small release of the Allen Visual Behavior recordings: see `allen_files.Release`. Leave it as it is."""
    from allen_files import write_release

    return write_release(tmp_path_factory.mktemp("allen"))


@pytest.fixture
def allen_server(allen_release: Any, serve: Callable[..., FileServer]) -> FileServer:
    """That release on a file server that has all versions."""
    server = serve(allen_release.folder)
    server.versions = allen_release.server_versions()
    return server


@pytest.fixture(scope="session")
def allen_s3(allen_release: Any) -> Iterator[str]:
    """The address of a local S3 with all versions of that release, those that were replaced first."""
    from allen_files import BUCKET
    from s3_server import versioned_bucket

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    objects = [(key, version, path) for (key, version), path in allen_release.objects.items()]
    objects.sort(key=lambda item: "replaced" not in item[2].parts)
    with versioned_bucket(BUCKET, objects) as endpoint:
        yield endpoint


@pytest.fixture(params=["http", "s3"])
def allen_endpoint(request: pytest.FixtureRequest) -> str:
    """The address of each of the two."""
    if request.param == "s3":
        return str(request.getfixturevalue("allen_s3"))
    return str(request.getfixturevalue("allen_server").url)


class TinySession:
    """A bare ALF session of one probe, small enough to know by heart; `save` replaces or adds a file."""

    n_units = 4
    times = np.array([0.0, 0.1, 0.2, 0.3, 0.30001, 0.7, 0.7, 1.25, 2.0])
    clusters = np.array([0, 1, 1, 0, 3, 3, 3, 1, 0], dtype=np.uint32)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sorting = folder / "alf/probe00/pykilosort"
        self.sorting.mkdir(parents=True)
        self.pid = f"{folder.name}_probe00"
        self.save("spikes.times.npy", self.times)
        self.save("spikes.clusters.npy", self.clusters)
        self.save("spikes.amps.npy", np.linspace(1e-4, 2e-4, len(self.times)))
        self.save("spikes.depths.npy", np.linspace(0, 80, len(self.times)))
        self.save("clusters.channels.npy", np.array([0, 2, 1, 2]))
        self.save("clusters.depths.npy", np.array([0.0, 40.0, 20.0, 40.0]))
        self.save("clusters.uuids.csv", pd.DataFrame({"uuids": ["ua", "ub", "uc", "ud"]}))
        self.save("clusters.metrics.pqt", self.metrics())
        self.save("channels.localCoordinates.npy", np.array([[43.0, 20.0], [11.0, 40.0], [59.0, 60.0]]))
        self.save("channels.rawInd.npy", np.arange(3))
        self.save("channels.mlapdv.npy", np.array([[-2000, -1500, -3000], [-2000, -1500, -2980], [100, -1500, -2960]]))
        self.save("channels.brainLocationIds_ccf_2017.npy", np.array([382, 385, 0]))

    def metrics(self) -> pd.DataFrame:
        label = [1.0, 1 / 3, 2 / 3, 1.0]
        return pd.DataFrame({"cluster_id": range(4), "label": label, "firing_rate": [1.5, 1.6, 0.0, 1.7]})

    def save(self, name: str, data: Any) -> Path:
        path = self.sorting / name
        if path.suffix == ".npy":
            np.save(path, data)
        elif path.suffix == ".pqt":
            data.to_parquet(path)
        else:
            data.to_csv(path, index=False)
        return path


@pytest.fixture
def tiny(tmp_path: Path) -> TinySession:
    """A bare ALF session with four units, one of them silent, and nine spikes."""
    return TinySession(tmp_path / "session")


@pytest.fixture(scope="session")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> TinySession:
    """The same, made once, for tests that leave it as it is."""
    return TinySession(tmp_path_factory.mktemp("tiny") / "session")


@pytest.fixture
def tiny_sessions(tmp_path: Path) -> list[TinySession]:
    """Four such sessions."""
    return [TinySession(tmp_path / f"session{number}") for number in range(4)]


@pytest.fixture(scope="session")
def sample_source(sample_root: Path) -> Any:
    """The sample as a source."""
    import cubes

    return cubes.source("one", sample_root)


SAMPLE_WIDTHS = ("1ms", "10ms", "20ms", "100ms", "1_3s")


@pytest.fixture(scope="session")
def sample_cubes(sample_source: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with all products of the whole sample."""
    import cubes

    root = tmp_path_factory.mktemp("cubes")
    pids = [insertion.pid for insertion in sample_source.insertions()]
    products = ["spikes", "channels", *(f"counts_{width}" for width in SAMPLE_WIDTHS)]
    cubes.build(cubes.plan(sample_source, pids, products, root=root))
    return root
