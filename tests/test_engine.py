"""Voltage in place: the dataset over a raw file equals the stored cube, and decodes no more than it must."""

import json
import pickle
import shutil
import threading
import tomllib
from pathlib import Path

import dask
import numpy as np
import pytest
import spikeglx
import xarray as xr

import cubes
from cubes.engine import CbinBackend, open_voltage
from loaders.cbin import Cbin
from loaders.errors import BadArgument, CorruptData, InconsistentData, NotFound
from loaders.sample import SAMPLE

BANDS = [(probe, band) for probe in SAMPLE for band in ("ap", "lf") if band == "ap" or probe.lf_samples]
NOT_THE_SAME = {"pid", "eid", "comment", "parameters", "build_key", "sources"}


@pytest.fixture(scope="module")
def root(sample_root_with_voltage, tmp_path_factory):
    root, source = tmp_path_factory.mktemp("engine"), cubes.source("one", sample_root_with_voltage)
    for probe in SAMPLE:
        cubes.build(cubes.plan(source, [probe.pid], [band for p, band in BANDS if p == probe], root=root))
    return root


def voltage_file(folder, band):
    (path,) = folder.glob(f"*.{band}.cbin")
    return path


def raw_folder(root, probe):
    return root / probe.session / "raw_ephys_data" / probe.probe


@pytest.fixture
def path(sample_root_with_voltage):
    return voltage_file(raw_folder(sample_root_with_voltage, SAMPLE[0]), "ap")


@pytest.fixture
def alone(path, tmp_path):
    """A copy of one recording in a folder that is no session."""
    stem = path.name.removesuffix(".ap.cbin")
    folder = tmp_path / "alone"
    folder.mkdir()
    for file in path.parent.glob(f"{stem}.*"):
        if ".lf." not in file.name:
            shutil.copy(file, folder)
    return folder / path.name


@pytest.fixture
def decoded(monkeypatch):
    """The chunks that were decoded, in order."""
    seen, chunk = [], Cbin.chunk

    def count(self, i, out=None):
        seen.append(i)
        return chunk(self, i, out)

    monkeypatch.setattr(Cbin, "chunk", count)
    return seen


def in_place(path, **options):
    return xr.open_dataset(path, engine=CbinBackend, **options)


@pytest.mark.parametrize(("probe", "band"), BANDS, ids=lambda value: getattr(value, "pid", value)[:4])
def test_equals_the_stored_cube(probe, band, root, sample_root_with_voltage):
    stored = cubes.open(root, probe.pid)[band].to_dataset()
    ours = in_place(voltage_file(raw_folder(sample_root_with_voltage, probe), band))
    xr.testing.assert_identical(ours.drop_attrs(deep=False), stored.drop_attrs(deep=False))
    assert {*ours.attrs, "comment"} == set(stored.attrs)
    assert {k: v for k, v in ours.attrs.items() if k not in NOT_THE_SAME} == {
        k: v for k, v in stored.attrs.items() if k not in NOT_THE_SAME
    }
    names = [[file["path"] for file in json.loads(ds.attrs["sources"])] for ds in (ours, stored)]
    assert names[0] == names[1]
    start = float(stored.time[1000])
    xr.testing.assert_equal(ours.sel(time=slice(start, start + 0.1)), stored.sel(time=slice(start, start + 0.1)))


def test_opening_decodes_nothing_and_windows_only_what_they_touch(path, decoded):
    ds = in_place(path)
    bounds = Cbin.open(path).index.bounds
    assert len(bounds) > 2
    cut = bounds[1]
    assert decoded == []
    for window, chunks in (
        (slice(0, cut), [0]),
        (slice(cut - 1, cut + 1), [0, 1]),
        (slice(cut, cut + 10), [1]),
        (slice(5, 5), []),
        (slice(cut - 5, None, cut), [0, 1]),
        (cut, [1]),
        (-1, [len(bounds) - 2]),
        ([bounds[-1] - 1, 3, 3], [0, len(bounds) - 2]),
        (slice(cut + 3, cut - 3, -1), [0, 1]),
    ):
        decoded.clear()
        _ = ds.ap.isel(time=window).values
        assert sorted(decoded) == chunks, window


def test_the_chunks_of_a_window_are_decoded_side_by_side(path, monkeypatch):
    both, chunk = threading.Barrier(2), Cbin.chunk

    def meet(self, i, out=None):
        both.wait(timeout=30)
        return chunk(self, i, out)

    expected = in_place(path).ap.isel(time=slice(29_000, 31_000)).values
    monkeypatch.setattr(Cbin, "chunk", meet)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    np.testing.assert_array_equal(in_place(path).ap.isel(time=slice(29_000, 31_000)).values, expected)


def test_a_step_over_chunks_skips_them(path, tmp_path, decoded):
    recording = Cbin.open(path)
    from cubes.engine import VoltageArray, read_samples

    step = recording.index.bounds[1] * 2
    positions = range(0, recording.n_samples, step)
    whole = np.concatenate([block.copy() for _, block in recording.chunks()], axis=1)
    decoded.clear()
    np.testing.assert_array_equal(read_samples(recording, positions, range(3, 9, 2)), whole[3:9:2, ::step])
    assert decoded == list(range(0, recording.n_chunks, 2))
    assert VoltageArray(recording, 384).shape == (384, recording.n_samples)


CHANNELS = [slice(None), slice(3, 50, 7), slice(None, None, -1), 5, -1, [7, 2, 2, 380], slice(4, 4), np.array([], int)]
TIMES = [
    slice(29_990, 30_050),
    slice(10, 40_000, 997),
    slice(None, None, -1501),
    30_001,
    -2,
    [59_999, 0, 30_000, 0, -1],
    slice(9, 3),
    np.array([], int),
]


def test_any_key_is_what_numpy_gives(path):
    ds = in_place(path)
    whole = ds.ap.load().values
    lazy = in_place(path).ap
    for rows in CHANNELS:
        for samples in TIMES:
            expected = whole[rows][..., samples]
            found = lazy.isel(channel=rows, time=samples)
            assert found.dtype == np.int16
            np.testing.assert_array_equal(found.values, expected, err_msg=f"{rows}, {samples}")


def test_points_and_repeated_selections(path):
    lazy, whole = in_place(path).ap, in_place(path).ap.values
    rows, samples = np.array([3, 0, 383]), np.array([59_000, 29_999, 7])
    points = lazy.isel(channel=xr.DataArray(rows, dims="p"), time=xr.DataArray(samples, dims="p"))
    np.testing.assert_array_equal(points.values, whole[rows, samples])
    twice = lazy.isel(time=slice(100, 50_000, 3)).isel(channel=slice(10, 20), time=slice(None, None, -100))
    np.testing.assert_array_equal(twice.values, whole[10:20, 100:50_000:3][:, ::-100])
    with pytest.raises(IndexError):
        _ = lazy.isel(time=60_000).values


def test_pickle_carries_no_samples(path):
    ds = in_place(path, cache=False)
    data = pickle.dumps(ds)
    assert len(data) < 200_000
    back = pickle.loads(data)
    xr.testing.assert_identical(back.isel(time=slice(29_000, 31_000)), ds.isel(time=slice(29_000, 31_000)))


def test_dask_has_the_chunks_of_the_file(path, decoded):
    ds = in_place(path, chunks={})
    recording = Cbin.open(path)
    assert ds.ap.chunks == ((384,), tuple(np.diff(recording.index.bounds).tolist()))
    assert decoded == []
    with dask.config.set(scheduler="threads", num_workers=2):
        total = ds.ap.astype("int64").sum("time").compute()
    assert sorted(decoded) == list(range(recording.n_chunks))
    np.testing.assert_array_equal(total, in_place(path).ap.astype("int64").sum("time"))
    assert ds.time.chunks is None  # computed, not chunked
    assert ds.chunk(time=1000).time.chunks is None
    assert type(ds.xindexes["time"]).__name__ == "ClockIndex"
    start = float(ds.time[40_000])
    decoded.clear()
    window = ds.sel(time=slice(start, start + 0.01)).compute()
    assert decoded == [1]
    xr.testing.assert_equal(window, in_place(path).sel(time=slice(start, start + 0.01)))


def test_dask_in_processes(path):
    ds = in_place(path, chunks={"time": 30_000}).ap.isel(time=slice(0, 60_000, 1000))
    with dask.config.set(scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(ds.compute(), in_place(path).ap.isel(time=slice(0, 60_000, 1000)))


def test_chunks_of_unequal_length(path):
    from cubes.engine import _chunk_lengths

    class Uneven:
        def __init__(self, *bounds):
            self.bounds, self.n_chunks = bounds, len(bounds) - 1

        def span(self, i):
            return self.bounds[i : i + 2]

    assert _chunk_lengths(Uneven(0, 10, 20, 25), 0, 25) == 10
    assert _chunk_lengths(Uneven(0, 10), 0, 10) == 10
    assert _chunk_lengths(Uneven(0, 10, 21, 25), 0, 25) == (10, 11, 4)
    assert _chunk_lengths(Uneven(0, 10, 25), 0, 25) == (10, 15)
    assert _chunk_lengths(Uneven(0, 10, 20, 30, 35), 15, 32) == (5, 10, 2)
    assert _chunk_lengths(Uneven(0, 10, 20, 30), 10, 25) == 10


def test_without_a_session_there_are_no_regions(alone, path):
    ds, inside = in_place(alone), in_place(path)
    assert set(ds.acronym_allen.values.tolist()) == {"void"}
    assert np.isnan(ds.x).all()
    assert "no spike sorting" in ds.attrs["notes"]
    assert ds.attrs["probe"] == "imec0"
    assert not any("/" in file["path"] for file in json.loads(ds.attrs["sources"]))
    for name in ("ap", "time", "x_um", "y_um", "shank", "gain_to_uV", "knot_sample"):
        np.testing.assert_array_equal(ds[name], inside[name], err_msg=name)


def test_without_timestamps_the_clock_is_that_of_sync(alone):
    (timestamps,) = alone.parent.glob("*timestamps.npy")
    expected = in_place(alone).time.values
    timestamps.unlink()
    np.testing.assert_allclose(in_place(alone).time, expected, rtol=0, atol=1e-6)


def test_without_a_clock_there_is_no_time(alone):
    for clock in [*alone.parent.glob("*timestamps.npy"), *alone.parent.glob("*sync.npy")]:
        clock.unlink()
    for chunks in (None, {}):
        ds = in_place(alone, chunks=chunks)
        assert ds.sizes == {"channel": 384, "time": 60_000}
        assert not {"time", "knot_sample"} & set(ds.variables)


def test_of_several_segments_the_one_that_was_asked_for(alone):
    for file in list(alone.parent.iterdir()):
        shutil.copy(file, file.with_name(file.name.replace("_g0_t0.", "_g0_t1.")))
    (timestamps,) = alone.parent.glob("*t1*timestamps.npy")
    knots = np.load(timestamps)
    knots[:, 1] += 100
    np.save(timestamps, knots)
    first = in_place(alone).time.values
    second = in_place(alone.with_name(alone.name.replace("_g0_t0.", "_g0_t1."))).time.values
    np.testing.assert_allclose(second - first, 100, rtol=0, atol=1e-9)


def test_an_uncompressed_recording(alone):
    expected = in_place(alone).ap.values
    with spikeglx.Reader(alone, sort=False) as reader:
        reader.decompress_file(keep_original=False)
    ds = in_place(alone.with_suffix(".bin"))
    np.testing.assert_array_equal(ds.ap, expected)
    np.testing.assert_array_equal(ds.ap.isel(time=[5, 59_000], channel=[2, 7]), expected[[2, 7]][:, [5, 59_000]])


def test_variables_can_be_dropped(path):
    assert "x" not in in_place(path, drop_variables="x").variables
    assert not {"time", "acronym_allen"} & set(in_place(path, drop_variables=["time", "acronym_allen"]).variables)


def test_closing_closes_the_file(path):
    with in_place(path) as ds:
        _ = ds.ap.isel(time=0).values
    assert ds.ap.isel(time=slice(0, 2)).values.shape == (384, 2)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def not_a_header(path):
    path.with_suffix(".ch").write_text("{")


def foreign(path):
    path.write_bytes(b"\x89PNG" + bytes(1000))


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (lambda path: path.with_suffix(".ch").unlink(), InconsistentData, r"its \.ch is missing"),
        (lambda path: path.with_suffix(".meta").unlink(), InconsistentData, r"its \.meta is missing"),
        (truncate, CorruptData, r"ap\.c"),
        (foreign, CorruptData, r"ap\.c"),
        (not_a_header, CorruptData, r"ap\.ch"),
        (lambda path: path.unlink(), NotFound, "no such file"),
    ],
    ids=["ch", "meta", "truncated", "foreign", "header", "none"],
)
def test_damage_is_named_when_it_is_opened(alone, damage, error, words):
    damage(alone)
    with pytest.raises(error, match=words):
        in_place(alone)


def test_damage_in_a_chunk_is_named_when_it_is_decoded(alone):
    offsets = Cbin.open(alone).index.offsets
    data = bytearray(alone.read_bytes())
    data[(offsets[1] + offsets[2]) // 2] ^= 0x10
    alone.write_bytes(data)
    ds = in_place(alone)
    assert ds.ap.isel(time=slice(0, 100)).values.any()
    with pytest.raises(CorruptData, match="chunk 1 "):
        _ = ds.ap.isel(time=-1).values
    with pytest.raises(CorruptData, match="chunk 1 "):
        _ = ds.ap.values


def test_a_file_that_changes_later_is_refused(alone):
    ds = in_place(alone)
    truncate(alone)
    with pytest.raises(CorruptData, match="has changed since it was opened"):
        _ = ds.ap.isel(time=0).values


def test_what_is_no_voltage(tmp_path, alone):
    for name in ("x.npy", "x.ap.cbin", alone.name.replace(".cbin", ".ch")):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(BadArgument, match="expected the voltage of one band"):
            in_place(tmp_path / name)
    with pytest.raises(BadArgument, match="expected the path"):
        open_voltage(3)


def test_the_engine_is_declared_and_guesses_by_the_name():
    declared = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared["xarray.backends"] == {"cubes": "cubes.engine:CbinBackend"}
    engine = CbinBackend()
    assert engine.guess_can_open("a/x.ap.cbin")
    assert not any(map(engine.guess_can_open, ("x.nc", "x.bin", b"x.cbin", 3)))
