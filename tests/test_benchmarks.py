"""Every benchmark also runs once, small, so that it cannot rot."""

import importlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

import cubes

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_bench_counts(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_counts.py", "--units", "20", "--minutes", "1", "--rounds", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("### 1ms", "### 20ms", "### 100ms", "| ours, files to store |", "| iblutil bincount2D |"):
        assert line in result.stdout


@pytest.mark.slow
def test_bench_raw(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_raw.py", "--seconds", "1", "--rounds", "1", "--no-peers"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "SpikeInterface is left out" in result.stdout
    for line in ("### decode ap, one core", "### decode lf", "### build ap", "### build lf", "### windows of ap"):
        assert line in result.stdout
    builds = [line for line in result.stdout.splitlines() if line.startswith("| cubes.build |")]
    assert [line.endswith("| yes |") for line in builds] == [True, True]


@pytest.mark.slow
def test_the_memory_of_a_build_does_not_grow_with_the_recording(tmp_path):
    products = ["ap", "lf", "sync"]
    command = [sys.executable, BENCHMARKS / "bench_memory.py", "--products", *products, "--minutes", "1", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if "MB" in line]
    assert [row[0] for row in rows] == 2 * products
    for short, long in zip(rows[:3], rows[3:], strict=True):
        for i in (3, 4):  # worker, serial
            before, after = (int(row[i].removesuffix(" MB")) for row in (short, long))
            assert after < before + 25, f"{short[0]}: a second more of 23 MB: something is kept"


@pytest.mark.slow
def test_bench_protocol(tmp_path):
    few = ["--units", "20", "--minutes", "1", "--seconds", "1", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "bench_protocol.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("### counts_1ms", "### spikes", "### ap", "| without the protocol |", "| with it |"):
        assert line in result.stdout


def test_bench_fetch(tmp_path):
    few = ["--files", "5", "--kilobytes", "1", "--latency-ms", "1", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "bench_fetch.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("5 files of 1 kB", "| fetch_files, 16 threads |", "| ONE, as it comes (4 threads) |"):
        assert line in result.stdout


def test_bench_paths(tmp_path):
    few = ["--minutes", "1", "--seconds", "60", "--stores", "3", "--files", "4", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "bench_paths.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == ["counts of 1 ms", "counts of 20 ms", "LF", "align", "open_many", "fetch"]
    assert all(" % (" in row[-2] for row in rows)


@pytest.mark.slow
def test_bench_claims(tmp_path):
    """Every claim and every reader of the environment of the tests; what has one of its own is left out, and said."""
    few = ["--units", "20", "--minutes", "1", "--seconds", "2", "--long", "2", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "bench_claims.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")]
    claimed = rows[[row[0] for row in rows].index("what") + 2 :]
    assert [row[0].split(",")[0] for row in claimed] == [
        *("counts of 1 ms", "counts of 20 ms", "PSTH", "AP", "1 s", "1 s", "one channel", "one channel", "one channel")
    ]
    methods = {row[0] for row in rows}
    assert {"ours, .cbin in place", "spikeglx.Reader, .cbin", "xarray.to_zarr as it comes"} <= methods
    assert {"brainbox calculate_peths", "mtscomp + dask + xarray.to_zarr"} <= methods


@pytest.mark.parametrize("product", ["counts_20ms", "ap", "lf"])
def test_the_floor_of_a_build_makes_the_bytes_of_its_chunks(tmp_path, monkeypatch, product):
    monkeypatch.syspath_prepend(BENCHMARKS)
    bare, raw, counts = (importlib.import_module(name) for name in ("bare_builds", "raw_session", "bench_counts"))
    floor = tmp_path / "floor"
    floor.mkdir()
    if product == "counts_20ms":
        session = raw.Session(tmp_path)
        counts.write_session(session.folder, 300, 6, 5)
    else:  # of whole seconds
        session = raw.Session.repeat(raw.Session.write(tmp_path / "short", 2, [product]), tmp_path / "whole", 1)
    source = cubes.source("folder", session.folder)
    (store,) = cubes.build(cubes.plan(source, [session.pid], [product], root=tmp_path / "cubes"))
    if product == "counts_20ms":
        bare.counts(session.folder / "alf/probe00/iblsorter", Fraction(1, 50), 300, (250, 15_000), floor)
    else:
        bare.voltage(session.cbin(product), *{"ap": (96, 1), "lf": (32, 60)}[product], floor)
    chunks = (path.read_bytes() for path in (store / product.split("_")[0] / "c").glob("*/*"))
    assert sorted(path.read_bytes() for path in floor.iterdir()) == sorted(chunks)


def test_bench_align(tmp_path):
    few = ["--units", "5", "--minutes", "1", "--events", "4", "--rounds", "1"]
    command = [sys.executable, BENCHMARKS / "bench_align.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.strip("| ").split(" | ") for line in result.stdout.splitlines() if line.startswith("| ")][1:]
    assert {"ours", "brainbox calculate_peths"} <= {row[0] for row in rows}
    assert len({row[-1] for row in rows}) == 1  # all of them count the same spikes


def test_bench_many(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_many.py", "--stores", "11"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("| open_many | 11 |", "| open_many, dask | 11 |", "| open, one by one | 10 |"):
        assert line in result.stdout


@pytest.mark.slow
def test_bench_cluster(tmp_path):
    few = ["--insertions", "3", "--units", "4", "--minutes", "0.1", "--plot", tmp_path / "cost.png"]
    command = [sys.executable, BENCHMARKS / "bench_cluster.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("| 3 | serial |", "| 3 | dask |"):
        assert line in result.stdout
    assert (tmp_path / "cost.png").stat().st_size > 10_000


def test_bench_pool(tmp_path):
    few = ["--insertions", "1", "5", "--units", "4", "--trials", "20", "--minutes", "1"]
    command = [sys.executable, BENCHMARKS / "bench_pool.py", *few]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| 5 | " in result.stdout
    assert "75,708 units at the last rate" in result.stdout


def test_bench_codecs(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_codecs.py", "--quick", "--rounds", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("AP, generated", "LF, generated", "counts 1 ms, generated", "| gzip 5 |", "(ours) |"):
        assert line in result.stdout


@pytest.mark.slow
def test_bench_engines(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_engines.py", "--quick", "--seconds", "8", "--rounds", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("each a file", "in shards of 384 channels", "| zarr-python |", "(ours) | yes |"):
        assert line in result.stdout


@pytest.mark.slow
def test_bench_floors(tmp_path):
    command = [sys.executable, BENCHMARKS / "bench_floors.py", "--seconds", "8", "--rounds", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for line in ("| memcpy |", "| inflate |", "| build of 8 s of AP |", "| one second, all channels, ms |"):
        assert line in result.stdout


@pytest.mark.slow
def test_bwm_estimate(tmp_path):
    few = ["--only", "spikes", "counts_20ms", "--shorter", "100", "--rounds", "1"]
    result = subprocess.run(
        [sys.executable, BENCHMARKS / "bwm_estimate.py", *few],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    for line in ("| spikes of good units |", "| counts of 20 ms, all units |"):
        assert line in result.stdout
