"""Stores that were changed after they were published: `cubes.verify` finds every change and names the file."""

import random
import shutil

import numpy as np
import pytest

import cubes
from chunking.manifest import store_files


@pytest.fixture
def stores(tiny, plan_tiny, tmp_path):
    """The stores of one version, and below another root those of other spikes and depths."""
    new = cubes.build(plan_tiny(tmp_path / "root"), executor="serial")
    tiny.save("spikes.times.npy", tiny.times + 0.05)
    tiny.save("spikes.depths.npy", np.linspace(3, 70, len(tiny.times)))
    old = cubes.build(plan_tiny(tmp_path / "old"), executor="serial")
    return dict(zip(new, old, strict=True))


def flip(rng, store, old):
    """One bit, of any file."""
    path = rng.choice([*store_files(store).values(), store / "manifest.json"])
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return {path}


def flip_manifest(rng, store, old):
    """Most of its bits are of facts that no other file contradicts."""
    path = store / "manifest.json"
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    return {path}


def cut(rng, store, old):
    path = rng.choice([*store_files(store).values(), store / "manifest.json"])
    path.write_bytes(path.read_bytes()[: rng.randrange(1, path.stat().st_size)])
    return {path}


def empty(rng, store, old):
    path = rng.choice([*store_files(store).values(), store / "manifest.json"])
    path.write_bytes(b"")
    return {path}


def delete(rng, store, old):
    path = rng.choice([*store_files(store).values(), store / "manifest.json"])
    path.unlink()
    return {path}


def swap(rng, store, old):
    """Two chunks of one size, so that only the checksum tells."""
    return exchange(rng, [path for key, path in store_files(store).items() if "/c" in key], one_size=True)


def swap_metadata(rng, store, old):
    return exchange(rng, list(store.glob("*/zarr.json")), one_size=False)


def exchange(rng, paths, *, one_size):
    data = {path: path.read_bytes() for path in paths}
    pairs = [
        (a, b) for a in paths for b in paths if data[a] != data[b] and (len(data[a]) == len(data[b]) or not one_size)
    ]
    a, b = rng.choice(pairs)
    a.write_bytes(data[b])
    b.write_bytes(data[a])
    return {a, b}


def stale(rng, store, old):
    """A file of another version of the store."""
    older = store_files(old)
    key = rng.choice([k for k, path in store_files(store).items() if older[k].read_bytes() != path.read_bytes()])
    shutil.copyfile(older[key], store / key)
    return {store / key}


def extra(rng, store, old):
    folder = rng.choice([store, *(path for path in store.rglob("*") if path.is_dir())])
    path = folder / rng.choice(["zarr.json.bak", "9", "x.partial", ".hidden", "c9"])
    path.write_bytes(rng.randbytes(rng.randrange(10)))
    return {path}


MUTATIONS = [flip, flip_manifest, cut, empty, delete, swap, swap_metadata, stale, extra]


def find_all(stores, n, seed):
    """Apply `n` mutations, one at a time; gives those that verify does not name."""
    rng, missed = random.Random(seed), []
    intact = {path: path.read_bytes() for store in stores for path in store.rglob("*") if path.is_file()}
    for i in range(n):
        mutate, (store, old) = MUTATIONS[i % len(MUTATIONS)], rng.choice(list(stores.items()))
        if mutate is stale and "channels" in store.name:
            store, old = next((a, b) for a, b in stores.items() if "spikes" in a.name)  # channels have not changed
        changed = mutate(rng, store, old)
        found = {store / problem.key for problem in cubes.verify(store)[str(store)]}
        if not changed <= found:
            missed.append((i, mutate.__name__, changed, found))
        for path in changed:
            path.write_bytes(intact[path]) if path in intact else path.unlink()
        assert i % 50 or cubes.verify(store) == {str(store): []}
    return missed


def test_verify_finds_changes(stores):
    assert find_all(stores, 64, seed=1) == []


@pytest.mark.fault
def test_verify_finds_1000_changes(stores):
    assert find_all(stores, 1000, seed=2) == []
