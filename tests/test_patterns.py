"""Access patterns against numpy, and what they touch against counting."""

import numpy as np
import pytest
import zarr

from chunking.patterns import PATTERNS, Grid, blocks_of, pattern, patterns_of, touched
from loaders.errors import BadArgument

RATES = {"counts_20ms": 50.0, "lf": 100.0, "ap": 3000.0}
SHAPES = {"counts_20ms": (50, 6007), "lf": (24, 7001), "ap": (24, 9001)}
CHUNKS = {"counts_20ms": ((50, 500), (7, 6007), (9, 1000)), "lf": ((24, 100), (5, 7001)), "ap": ((24, 3000), (7, 8000))}
CASES = [(product, name) for product in RATES for name in PATTERNS if product.split("_")[0] in PATTERNS[name].kinds]


def data(product: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    if product.startswith("counts"):
        return rng.poisson(0.3, SHAPES[product]).astype(np.uint8)
    return rng.normal(0, 20, SHAPES[product]).astype(np.int16)


def grid_of(product: str, chunks: tuple[int, int]) -> Grid:
    return Grid(product, SHAPES[product], chunks, 1 if product.startswith("counts") else 2, RATES[product])


@pytest.mark.parametrize(("product", "name"), CASES)
def test_every_pattern_gives_the_same_of_every_layout_and_of_numpy(product, name):
    truth = data(product)
    results = []
    for chunks in CHUNKS[product]:
        array = zarr.create_array({}, data=truth, chunks=chunks)
        results.append(PATTERNS[name].run(array, grid_of(product, chunks), seed=5))
        np.testing.assert_array_equal(results[-1], PATTERNS[name].run(truth, grid_of(product, chunks), seed=5))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-9)


def oracle(name: str, cells: np.ndarray, reads: list, rate_hz: float) -> np.ndarray:
    whole = cells.astype(float)
    match name:
        case "population-rate":
            return whole.sum(axis=0)
        case "rms":
            return np.sqrt((whole**2).mean(axis=1))
        case "scan":
            return whole.sum(axis=1)
        case "spectrogram":
            n = round(rate_hz)
            (row,) = cells[reads[0]]
            starts = range(0, len(row) - n + 1, n)
            return np.stack([np.abs(np.fft.rfft(row[i : i + n] * np.hanning(n))) ** 2 for i in starts])
        case "region":
            rows = (
                reads[0][0]
                if not isinstance(reads[0][0], slice)
                else np.r_[tuple({r.start: r for r, _ in reads}.values())]
            )
            return whole[rows].mean(axis=0)
        case "training":
            return np.stack([whole[read].mean(axis=1) for read in reads])
    return cells[reads[0]]


@pytest.mark.parametrize(("product", "name"), [case for case in CASES if case[1] != "events"])
def test_what_is_computed_against_numpy(product, name):
    truth, grid = data(product), grid_of(product, CHUNKS[product][0])
    reads = PATTERNS[name].reads(grid, np.random.default_rng(1))
    expected = oracle(name, truth, reads, grid.rate_hz)
    np.testing.assert_allclose(PATTERNS[name].run(truth, grid, seed=1), expected, rtol=2e-4, atol=1e-2)


@pytest.mark.parametrize("product", RATES)
def test_the_mean_around_events_against_a_loop(product):
    truth = data(product)
    for chunks in CHUNKS[product]:
        grid = grid_of(product, chunks)
        reads = PATTERNS["events"].reads(grid, np.random.default_rng(1))
        cells = np.unique(np.concatenate([time for _, time in reads]))
        start_s, stop_s = (-0.001, 0.003) if product == "ap" else (-0.5, 1.0)
        n = round((stop_s - start_s) * grid.rate_hz)
        snippets = [truth[:, first : first + n] for first in cells[::n]]
        assert len(snippets) >= 8
        expected = np.mean([snippet.astype(float) for snippet in snippets], axis=0)
        np.testing.assert_allclose(PATTERNS["events"].run(truth, grid, seed=1), expected, rtol=1e-9)


def test_events_come_500_an_hour():
    grid = Grid("counts_20ms", (2, 180_000), (2, 180_000), 1, 50.0)
    (_, cells), *_ = PATTERNS["events"].reads(grid, np.random.default_rng(0))
    assert len(cells) == 500 * 75


class Counting(dict):
    """A store that says which chunks were asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(key)
        return super().__getitem__(key)


@pytest.mark.parametrize(("product", "name"), CASES)
def test_chunks_are_counted_as_zarr_reads_them(product, name):
    for chunks in CHUNKS[product]:
        grid, store = grid_of(product, chunks), Counting()
        array = zarr.create_array(zarr.storage.MemoryStore(store), data=data(product), chunks=chunks)
        store.asked.clear()
        reads = PATTERNS[name].reads(grid, np.random.default_rng(2))
        for read in reads:
            array[read]
        found = touched(grid, reads)
        assert found.chunks == sum(key.startswith("c/") for key in store.asked)
        assert found.nbytes == found.chunks * chunks[0] * chunks[1] * grid.itemsize
        assert found.reads <= found.rounds <= found.chunks


def test_blocks_cover_an_array_once_and_read_no_chunk_twice():
    for chunks in ((7, 100), (50, 10), (3, 6007)):
        grid = Grid("counts_20ms", (50, 6007), chunks, 1, 50.0)
        seen = np.zeros(grid.shape, int)
        reads = blocks_of(grid, nbytes=5000)
        for read in reads:
            seen[read] += 1
        assert (seen == 1).all()
        n_chunks = -(-50 // chunks[0]) * -(-6007 // chunks[1])
        assert touched(grid, reads).chunks == n_chunks


@pytest.mark.parametrize("name", ["unit", "region", "events", "scan"])
@pytest.mark.parametrize("product", ["counts_1ms", "lf", "ap"])
def test_what_is_read_does_not_depend_on_chunks_even_if_one_is_larger_than_a_block(product, name):
    sizes = set()
    for chunks in ((10, 4_000_000), (200, 5000), (200, 400_000), (7, 90_000)):
        grid = Grid(product, (200, 400_000), chunks, 2, 1000.0)
        reads = PATTERNS[name].reads(grid, np.random.default_rng(0))
        sizes.add(sum(n_cells(rows) * n_cells(time) for rows, time in reads))
    assert len(sizes) == 1


def n_cells(cells) -> int:
    return cells.stop - cells.start if isinstance(cells, slice) else len(np.unique(cells))


def test_unknown_patterns_are_refused():
    with pytest.raises(BadArgument, match=r"'psth'.*does not exist.*unit \(one unit"):
        pattern("psth")
    with pytest.raises(BadArgument, match=r"rms: is not one for counts; expected of unit, .*scan"):
        patterns_of("counts", ["unit", "rms"])
    assert [one.name for one in patterns_of("lf", ["rms", "unit", "rms"])] == ["rms", "unit"]
