"""Arrays that we open are read by zarr's faster pipeline; what the user configured is left alone."""

import pickle
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr
import zarr.core.codec_pipeline
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline

import cubes
from cubes.reading_pipeline import faster_pipeline
from loaders.errors import StoreError

KEY = "codec_pipeline.path"
has_faster = pytest.mark.skipif(
    not hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"), reason="this zarr has one pipeline only"
)


class Mine(BatchedCodecPipeline):
    """What a user might have configured."""


@pytest.fixture(scope="module")
def root(sample_source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    pids = [insertion.pid for insertion in sample_source.insertions()[:2]]
    cubes.build(cubes.plan(sample_source, pids, ["counts_20ms"], root=folder))
    return folder


def pipelines_while_read(monkeypatch, read):
    """The classes of the pipelines that read something."""
    used = set()
    for name in ("BatchedCodecPipeline", "FusedCodecPipeline"):
        if (kind := getattr(zarr.core.codec_pipeline, name, None)) is None:
            continue

        async def noted(self, *args, _read=kind.read, **kwargs):
            used.add(type(self).__name__)
            return await _read(self, *args, **kwargs)

        monkeypatch.setattr(kind, "read", noted)
    read()
    return used


def of_insertion(root, pid, **how):
    return cubes.open(root, pid, **how)["counts_20ms"].counts


@has_faster
@pytest.mark.parametrize("chunks", [None, "native", {"time": 1000}])
def test_the_faster_one_reads_the_same_cells(root, monkeypatch, chunks):
    pid = next((root / "insertions").iterdir()).name
    expected = xr.open_zarr(root / f"insertions/{pid}/counts_20ms.zarr", chunks=None).counts.values
    counts = of_insertion(root, pid, chunks=chunks)
    read = pickle.loads(pickle.dumps(counts))
    assert pipelines_while_read(monkeypatch, lambda: np.testing.assert_array_equal(read.values, expected)) == {
        "FusedCodecPipeline"
    }
    np.testing.assert_array_equal(counts[3:7, 100:900].values, expected[3:7, 100:900])


def test_what_the_user_configured_stays(root, monkeypatch):
    register_pipeline(Mine)
    pid = next((root / "insertions").iterdir()).name
    with zarr.config.set({KEY: f"{__name__}.Mine"}):
        counts = of_insertion(root, pid, chunks=None)
        assert pipelines_while_read(monkeypatch, lambda: counts.values) == {"Mine"}
        assert zarr.config.get(KEY) == f"{__name__}.Mine"


def test_the_setting_is_taken_back(root):
    before = zarr.config.get(KEY)
    pids = [path.name for path in (root / "insertions").iterdir()] * 10
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda pid: of_insertion(root, pid, chunks=None).values, pids))
    assert zarr.config.get(KEY) == before


def test_a_second_thread_waits_until_the_setting_is_taken_back():
    """Else it would take the setting of the first for that of the user, and leave it behind."""
    order = []

    def second():
        with faster_pipeline():
            order.append("second")

    with faster_pipeline():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert not thread.is_alive()


def test_a_zarr_without_it_reads_with_its_own(root, monkeypatch):
    monkeypatch.setattr("cubes.reading_pipeline._EXISTS", False)
    pid = next((root / "insertions").iterdir()).name
    counts = of_insertion(root, pid, chunks=None)
    assert pipelines_while_read(monkeypatch, lambda: counts.values) == {"BatchedCodecPipeline"}


def test_the_setting_is_taken_back_after_an_error():
    before = zarr.config.get(KEY)
    with pytest.raises(ZeroDivisionError), faster_pipeline():
        _ = 1 / 0
    assert zarr.config.get(KEY) == before


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_damage_is_an_error_that_names_the_file(root, tmp_path, damage):
    root = shutil.copytree(root, tmp_path / "cubes")
    pid = next((root / "insertions").iterdir()).name
    counts = of_insertion(root, pid, chunks=None)
    chunk = next((root / f"insertions/{pid}/counts_20ms.zarr/counts/c").rglob("[0-9]*/[0-9]*"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.unlink() if damage == "missing" else chunk.write_bytes(data)
    with pytest.raises(StoreError, match=r"counts/c/0/0: expected crc32 .* run cubes verify"):
        _ = counts.values
