"""Many stores as one lazy tree, from their metadata alone."""

import pickle
import shutil

import numpy as np
import pytest
import xarray as xr

import cubes
from chunking.manifest import read_entry, read_manifest
from loaders.errors import BadArgument, NotFound, StoreError
from loaders.sample import SAMPLE

PIDS = [probe.pid for probe in SAMPLE]
PRODUCTS = ["spikes", "channels", "counts_20ms"]


@pytest.fixture
def copies(sample_cubes, tmp_path):
    """A root that may be damaged: two insertions, two products."""
    for pid in PIDS[:2]:
        for product in ("counts_20ms", "channels"):
            shutil.copytree(
                sample_cubes / f"insertions/{pid}/{product}.zarr", tmp_path / f"insertions/{pid}/{product}.zarr"
            )
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Every file that a store hands out."""
    from cubes.pinned_store import PinnedStore

    keys, get = [], PinnedStore.get_sync

    def spy(self, key, **options):
        keys.append(key)
        return get(self, key, **options)

    monkeypatch.setattr(PinnedStore, "get_sync", spy)
    return keys


def test_it_is_what_open_gives_of_each(sample_cubes):
    tree = cubes.open_many(sample_cubes)
    assert sorted(tree.children) == sorted(PIDS)
    for pid in PIDS:
        expected = cubes.open(sample_cubes, pid, chunks=None)
        assert tree[pid].attrs == expected.attrs
        assert list(tree[pid].children) == list(expected.children)
        for product, node in expected.children.items():
            ds = node.to_dataset()
            found = tree[pid][product].to_dataset()
            assert not found.xindexes
            assert found.attrs == ds.attrs
            assert {n: (v.dtype, v.attrs) for n, v in found.variables.items()} == {
                n: (v.dtype, v.attrs) for n, v in ds.variables.items()
            }
            xr.testing.assert_identical(found.load(), ds.load().drop_indexes(list(ds.xindexes)))
    assert tree.attrs["skipped"] == {}


def test_voltage_is_equal_too(sample_root_with_voltage, tmp_path):
    source = cubes.source("one", sample_root_with_voltage)
    for options in ({"products": ["ap", "lfp_250hz", "sync"]}, {"link": ["lf"]}):
        cubes.build(cubes.plan(source, PIDS[:1], root=tmp_path, window_s=(0.5, 1.5), **options))
    tree, expected = cubes.open_many(tmp_path), cubes.open(tmp_path, PIDS[0])
    for band in ("ap", "lf"):
        found = cubes.attach_clock(tree[PIDS[0]][band].to_dataset()).set_xindex("channel")
        xr.testing.assert_identical(found.load(), expected[band].to_dataset().load())
    np.testing.assert_array_equal(tree[PIDS[0]]["lfp_250hz"].lfp, expected["lfp_250hz"].lfp)


def test_no_array_is_read_until_it_is_asked_for(sample_cubes, reads):
    tree = cubes.open_many(sample_cubes, chunks="native")
    assert reads == []
    repr(tree)
    assert reads == []
    node = tree[PIDS[0]]["counts_20ms"]
    assert int(node.good.sum()) > 0
    assert reads == ["good/c/0"]
    del reads[:]
    node.counts.variable[250:270, :3].compute()
    assert reads == ["counts/c/1/0"]


@pytest.mark.parametrize(
    "key", [(3, 5), (slice(None, None, -7), slice(5, 90, 3)), ([5, 2, 2], slice(0, 9)), ([0, 450], [7, 5999])]
)
def test_any_key_reads_what_numpy_would(sample_cubes, key):
    lazy = cubes.open_many(sample_cubes, PIDS[:1], ["counts_20ms"])[PIDS[0]]["counts_20ms"].to_dataset()
    dense = lazy.counts.load().values
    again = cubes.open_many(sample_cubes, PIDS[:1], ["counts_20ms"])[PIDS[0]]["counts_20ms"].counts
    rows, columns = key
    np.testing.assert_array_equal(again[{"unit": rows, "time": columns}], dense[rows][..., columns])
    names = lazy.acronym_allen
    np.testing.assert_array_equal(again.acronym_allen[rows], names.values[rows])


def test_dask_arrays_have_the_chunks_of_the_store_and_names_of_their_own(sample_cubes):
    native = cubes.open_many(sample_cubes, products=["counts_20ms"], chunks="native")
    other = cubes.open_many(sample_cubes, products=["counts_20ms"], chunks={"unit": 50})
    counts, halves = (tree[PIDS[0]]["counts_20ms"].counts for tree in (native, other))
    assert counts.chunks == ((250, 250), (6000,))
    assert halves.chunks[0] == (50,) * 10
    assert native[PIDS[0]]["counts_20ms"].good.chunks is None
    names = {tree[pid]["counts_20ms"].counts.data.name for tree in (native, other) for pid in PIDS}
    assert len(names) == 2 * len(PIDS)
    assert int((halves.astype(int) - counts.astype(int)).sum()) == 0


def test_trees_travel_to_workers(sample_cubes):
    tree = cubes.open_many(sample_cubes, products=["counts_20ms"])
    again = pickle.loads(pickle.dumps(tree))
    xr.testing.assert_identical(again[PIDS[2]].to_dataset(), tree[PIDS[2]].to_dataset())
    assert int(again[PIDS[2]]["counts_20ms"].counts.sum()) == tree[PIDS[2]]["counts_20ms"].attrs["n_spikes"]


def test_queries_and_choices(sample_cubes):
    subject = SAMPLE[0].subject
    expected = {probe.pid for probe in SAMPLE if probe.subject == subject and probe.probe == "probe00"}
    tree = cubes.open_many(sample_cubes, query=f"subject == '{subject}' and probe == 'probe00'", products=["channels"])
    assert set(tree.children) == expected
    assert list(tree[PIDS[0]].children) == ["channels"]
    assert list(cubes.open_many(sample_cubes, PIDS[1:]).children) == PIDS[1:]
    with pytest.raises(BadArgument, match=r"query 'colour == 1': .*the columns of insertions are pid, eid, probe"):
        cubes.open_many(sample_cubes, query="colour == 1")
    with pytest.raises(NotFound, match="no store fits"):
        cubes.open_many(sample_cubes, query="lab == 'nobody'")
    with pytest.raises(NotFound, match="pid 'x': not in"):
        cubes.open_many(sample_cubes, ["x"])
    with pytest.raises(NotFound, match="holds no cubes"):
        cubes.open_many(sample_cubes / "none")
    with pytest.raises(BadArgument, match=r"products: expected a list, got the text 'spikes'"):
        cubes.open_many(sample_cubes, products="spikes")
    with pytest.raises(BadArgument, match=r"errors: expected one of raise, skip, got 'ignore'"):
        cubes.open_many(sample_cubes, errors="ignore")


def cut(store):
    data = (store / "manifest.json").read_bytes()
    (store / "manifest.json").write_bytes(data[:-30])


def flip(store):
    data = (store / "zarr.json").read_bytes()
    (store / "zarr.json").write_bytes(data.replace(b"20", b"30", 1))


DAMAGES = [
    (lambda store: (store / "manifest.json").unlink(), "has no manifest.json"),
    (lambda store: (store / "zarr.json").unlink(), "zarr.json cannot be read"),
    (cut, "manifest.json is cut"),
    (flip, "expected crc32"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damaged_stores_raise_or_are_named(copies, damage, words):
    damage(copies / f"insertions/{PIDS[0]}/counts_20ms.zarr")
    with pytest.raises(StoreError, match=rf"1 stores cannot be opened: {PIDS[0]}/counts_20ms: .*{words}"):
        cubes.open_many(copies)
    tree = cubes.open_many(copies, errors="skip")
    assert list(tree.attrs["skipped"]) == [f"{PIDS[0]}/counts_20ms"]
    assert words in tree.attrs["skipped"][f"{PIDS[0]}/counts_20ms"]
    assert list(tree[PIDS[0]].children) == ["channels"]
    assert sorted(tree[PIDS[1]].children) == ["channels", "counts_20ms"]


def test_a_product_that_was_asked_for_and_is_missing_is_named(copies):
    shutil.rmtree(copies / f"insertions/{PIDS[0]}/counts_20ms.zarr")
    with pytest.raises(StoreError, match=rf"1 stores .*: {PIDS[0]}/.*: counts_20ms is not built; .* has channels"):
        cubes.open_many(copies, products=["counts_20ms"])
    tree = cubes.open_many(copies, products=["counts_20ms"], errors="skip")
    assert list(tree.children) == [PIDS[1]]
    with pytest.raises(NotFound, match=r"no store fits; .*not built"):
        cubes.open_many(copies, products=["spikes"], errors="skip")


def test_products_of_two_sortings_are_refused(sample_source, tmp_path):
    cubes.build(cubes.plan(sample_source, PIDS[:1], ["counts_100ms"], root=tmp_path, revision=""))
    cubes.build(cubes.plan(sample_source, PIDS, ["spikes"], root=tmp_path, revision="2024-05-06"))
    with pytest.raises(StoreError, match="different sortings"):
        cubes.open_many(tmp_path)
    assert sorted(cubes.open_many(tmp_path, errors="skip").children) == sorted(PIDS[1:])


def test_a_damaged_chunk_is_an_error_when_it_is_read(copies):
    tree = cubes.open_many(copies)
    chunk = copies / f"insertions/{PIDS[0]}/counts_20ms.zarr/counts/c/0/0"
    chunk.unlink()
    with pytest.raises(StoreError, match="counts/c/0/0"):
        tree[PIDS[0]]["counts_20ms"].counts.load()


def test_a_replaced_store_stays_readable(sample_source, tmp_path):
    def plan(layout):
        return cubes.plan(sample_source, PIDS[2:], ["counts_20ms"], root=tmp_path, counts_layout=layout)

    cubes.build(plan("balanced"))
    tree = cubes.open_many(tmp_path)
    cubes.build(plan("by-unit"), existing="replace")
    new = cubes.open_many(tmp_path)
    assert new[PIDS[2]]["counts_20ms"].attrs["build_key"] != tree[PIDS[2]]["counts_20ms"].attrs["build_key"]
    np.testing.assert_array_equal(tree[PIDS[2]]["counts_20ms"].counts, new[PIDS[2]]["counts_20ms"].counts)
    assert cubes.gc(tmp_path, older_than_s=0)[0] == []  # this process may still read it


def test_an_entry_is_what_the_whole_manifest_says(sample_cubes):
    store = sample_cubes / f"insertions/{PIDS[0]}/counts_20ms.zarr"
    for key, facts in read_manifest(store)["files"].items():
        assert read_entry(store, key) == facts
    with pytest.raises(StoreError, match="does not list other"):
        read_entry(store, "other")
