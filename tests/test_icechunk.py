"""Stores as icechunk repositories: the labels and bytes of Zarr stores, in a folder and in a bucket."""

import json
import logging
import pickle
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xarray as xr
from s3_server import empty_bucket

import cubes
from chunking import icechunk_repo
from chunking.bucket import Bucket
from chunking.plan import Plan
from cubes.cli import run
from loaders.sample import SAMPLE

icechunk = pytest.importorskip("icechunk")
KEY_ID, SECRET = "AKC4N4RYC4N4RYC4N4RY", "c4n4rys3cr3tc4n4rys3cr3tc4n4rys3cr3t"
PRODUCTS = ("spikes", "counts_20ms")


class Home:
    """A folder or a bucket, and what is built into it."""

    def __init__(self, tiny, folder, root):
        self.tiny, self.folder, self.root, self.pid = tiny, folder, root, tiny.pid

    def plan(self, layout="balanced", products=PRODUCTS, scratch="scratch", **where):
        if not where:
            where = {"root": self.root, "store": "icechunk"}
            if isinstance(self.root, str):
                where["scratch"] = self.folder / scratch
        source = cubes.source("folder", self.tiny.folder)
        return cubes.plan(source, [self.pid], products, counts_layout=layout, **where)

    def local(self, layout="balanced"):
        """The same products as Zarr stores in a folder."""
        root = self.folder / f"local-{layout}"
        if not root.exists():
            cubes.build(self.plan(layout, root=root))
        return root

    def tree(self, layout="balanced", products=PRODUCTS):
        tree = cubes.open(self.local(layout), self.pid)
        return tree.filter(lambda node: not node.name or node.name in (*products, self.pid)).load()

    def repository(self, product="counts_20ms"):
        stores = cubes.ls(self.root).set_index("product")
        return f"{self.root}/{stores.path[product]}"


@pytest.fixture(params=["folder", "bucket"])
def home(request, tiny, tmp_path, monkeypatch):
    if request.param == "folder":
        yield Home(tiny, tmp_path, tmp_path / "root")
        return
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    bucket = f"cubes-{uuid.uuid4().hex[:12]}"
    with empty_bucket(bucket) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        yield Home(tiny, tmp_path, f"s3://{bucket}/some/where")


def test_a_repository_reads_as_a_zarr_store_does(home):
    built = cubes.build(home.plan())
    assert [str(place).rpartition(".")[2] for place in built] == ["icechunk", "icechunk"]
    assert cubes.open(home.root, home.pid).load().identical(home.tree())
    assert cubes.open_many(home.root).load().identical(cubes.open_many(home.local()).load())
    assert pickle.loads(pickle.dumps(cubes.open_many(home.root)))[home.pid]["counts_20ms"].counts.sum() == 9
    rates = [cubes.map(lambda ds: ds.counts.mean(), root, product="counts_20ms") for root in (home.root, home.local())]
    assert rates[0].identical(rates[1])
    assert list(cubes.verify(home.root).values()) == list(cubes.verify(home.root, level="quick").values()) == [[], []]
    columns = ["pid", "product", "shape", "bytes", "files"]
    listed = cubes.ls(home.root).sort_values("product", ignore_index=True)
    assert listed[columns].equals(cubes.ls(home.local())[columns])
    assert [store.exists for store in home.plan().stores] == [True, True]
    assert cubes.build(home.plan(), existing="skip") == []
    with pytest.raises(cubes.StoreError, match="exist already"):
        cubes.build(home.plan())


def test_plain_xarray_reads_the_tag(home):
    cubes.build(home.plan())
    place = home.repository()
    repository = icechunk.Repository.open(icechunk_repo._storage(place))
    [tag] = repository.list_tags()
    assert tag.startswith("complete-")
    store = repository.readonly_session(tag=tag).store
    with xr.open_zarr(store) as ds:
        assert ds.load().identical(xr.open_zarr(home.local() / f"insertions/{home.pid}/counts_20ms.zarr").load())


def test_a_replaced_version_stays_for_those_who_opened_it(home):
    cubes.build(home.plan())
    old = cubes.open(home.root, home.pid)
    cubes.build(home.plan("by-unit"), existing="replace")
    assert cubes.open(home.root, home.pid).load().identical(home.tree("by-unit"))
    assert old.load().identical(home.tree())
    cubes.build(home.plan(), existing="replace")
    assert cubes.open(home.root, home.pid).load().identical(home.tree())
    assert not any(cubes.verify(home.root).values())


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_delivery_goes_on(home, stop, monkeypatch):
    """Batches that are committed are not sent again."""
    sent, write = [], icechunk_repo._set
    stops = [stop]

    async def counting(store, folder, files, keys):
        if len(sent) == (stops and stops[0]):
            stops.clear()
            raise OSError(28, "full")
        sent.append(tuple(keys))
        await write(store, folder, files, keys)

    monkeypatch.setattr(icechunk_repo, "_BATCH_FILES", 8)
    monkeypatch.setattr(icechunk_repo, "_set", counting)
    with pytest.raises(cubes.StoreError, match="writing failed"):
        cubes.build(home.plan(products=["counts_20ms"]), executor="serial")
    with pytest.raises(cubes.NotFound):
        cubes.open(home.root, home.pid)
    cubes.build(home.plan(products=["counts_20ms"]), executor="serial")
    assert len(sent) == len(set(sent)) > 3
    assert cubes.open(home.root, home.pid)["counts_20ms"].load().identical(home.tree()["counts_20ms"])
    repository = icechunk.Repository.open(icechunk_repo._storage(home.repository()))
    assert len(list(repository.ancestry(branch="main"))) == 1 + len(sent)


BUILDER = """
import os, signal, sys
import cubes
from chunking import icechunk_repo
folder, pid, root, scratch, deadly = sys.argv[1:]
icechunk_repo._BATCH_FILES, write, count = 4, icechunk_repo._set, 0
async def counting(store, folder, files, keys):
    global count
    count += 1
    if count == int(deadly):
        await write(store, folder, files, keys[: len(keys) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    await write(store, folder, files, keys)
icechunk_repo._set = counting
where = {"root": root, "scratch": scratch} if scratch else {"root": root}
source = cubes.source("folder", folder)
cubes.build(cubes.plan(source, [pid], ["spikes"], store="icechunk", **where), executor="serial", existing="skip")
print(count)
"""


def kill_and_go_on(home, deadly):
    scratch = str(home.folder / "scratch") if isinstance(home.root, str) else ""
    home.root = f"{home.root}-{deadly}" if scratch else Path(f"{home.root}-{deadly}")
    command = [sys.executable, "-c", BUILDER, str(home.tiny.folder), home.pid, str(home.root), scratch]
    killed = subprocess.run([*command, str(deadly)], check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    with pytest.raises(cubes.NotFound):
        cubes.open(home.root, home.pid)
    again = subprocess.run([*command, "0"], check=True, capture_output=True, text=True)
    assert cubes.open(home.root, home.pid)["spikes"].load().identical(home.tree()["spikes"])
    assert not any(cubes.verify(home.root).values())
    return int(again.stdout.splitlines()[-1])  # icechunk 1 warns on the standard output


def test_a_killed_delivery_goes_on(home):
    assert kill_and_go_on(home, 3) == total(home) - 2


def total(home):
    """How many batches of four files the spikes are."""
    files = [path for path in (home.local() / f"insertions/{home.pid}/spikes.zarr").rglob("*") if path.is_file()]
    return -(-(len(files) - 1) // 4)  # without the manifest


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_10_killed_deliveries_go_on(home):
    for deadly in range(1, 1 + min(10, total(home))):
        assert kill_and_go_on(home, deadly) == total(home) - deadly + 1


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # what hides it in a build is not made for threads
def test_of_two_builders_one_wins(home, monkeypatch):
    if not isinstance(home.root, str):
        pytest.skip("in a folder a lock lets one of them in, as for Zarr stores")
    publish, barrier, root = Bucket.publish, threading.Barrier(2), home.root
    monkeypatch.setattr(icechunk_repo, "_BATCH_FILES", 8)

    def meeting(self, *args, **options):
        barrier.wait(60)
        publish(self, *args, **options)

    def build(plan):
        try:
            return cubes.build(plan, executor="serial")
        except cubes.StoreError as error:
            return str(error)

    monkeypatch.setattr(Bucket, "publish", meeting)
    for i in range(4):
        home.root = f"{root}/{i}"
        layouts = ("balanced", "by-unit" if i % 2 else "balanced")
        plans = [home.plan(layout, ["counts_20ms"], f"scratch{j}") for j, layout in enumerate(layouts)]
        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(build, plans))
        winners = [layout for layout, result in zip(layouts, said, strict=True) if isinstance(result, list)]
        assert len(winners) == (1 if i % 2 else 2), said
        assert not any(cubes.verify(home.root).values())
        found = cubes.open(home.root, home.pid)["counts_20ms"].load()
        assert found.identical(home.tree(winners[0])["counts_20ms"])


@pytest.mark.parametrize("damage", ["flip", "empty", "remove"])
def test_what_is_damaged_is_found_and_never_read(tiny, tmp_path, damage):
    """Each file of icechunk in turn: either it is not needed, or nothing is read."""
    home = Home(tiny, tmp_path, tmp_path / "root")
    [store] = cubes.build(home.plan(products=["counts_20ms"]))
    expected, found = home.tree()["counts_20ms"], 0
    for path in sorted(path for folder in ("chunks", "manifests", "snapshots") for path in (store / folder).glob("*")):
        data = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            middle = len(data) // 2
            path.write_bytes(
                data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if damage == "flip" else b""
            )
        try:
            assert cubes.open(home.root, home.pid)["counts_20ms"].load().identical(expected)
        except cubes.CubesError:
            found += 1
            assert any(cubes.verify(home.root).values())
        path.write_bytes(data)
    assert found > 1
    assert not any(cubes.verify(home.root).values())


def test_without_the_tag_nothing_is_read(tiny, tmp_path):
    home = Home(tiny, tmp_path, tmp_path / "root")
    [store] = cubes.build(home.plan(products=["counts_20ms"]))
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(store)))
    [tag] = repository.list_tags()
    repository.delete_tag(tag)
    with pytest.raises(cubes.StoreError, match="icechunk cannot do it"):
        cubes.open(home.root, home.pid)


def test_what_belongs_to_a_session_is_read_from_there(home, sample_source):
    """Stores of a session have a folder of their own, in every home."""
    pid = SAMPLE[0].pid
    where = {"scratch": home.folder / "scratch"} if isinstance(home.root, str) else {}
    plans = [
        cubes.plan(sample_source, [pid], ["channels", "trials"], root=home.root, store="icechunk", **where),
        cubes.plan(sample_source, [pid], ["channels", "trials"], root=home.folder / "zarr"),
    ]
    for plan in plans:
        cubes.build(plan)
    eid = sample_source.insertion(pid).eid
    trees = [cubes.open(root, pid).load() for root in (home.root, home.folder / "zarr")]
    assert trees[0].identical(trees[1])
    assert cubes.open_session(home.root, eid).load().identical(cubes.open_session(home.folder / "zarr", eid).load())
    with pytest.raises(cubes.NotFound, match=rf"session 'x': not in .*, which has {eid}"):
        cubes.open_session(home.root, "x")
    assert cubes.ls(home.root)["product"].tolist() == ["channels", "trials"]
    assert not any(cubes.verify(home.root).values())
    assert cubes.build(plans[0], existing="skip") == []


def test_a_damaged_manifest_does_not_stop_the_others(tiny, tmp_path):
    home = Home(tiny, tmp_path, tmp_path / "root")
    built = cubes.build(home.plan())
    assert cubes.status(home.root)[["state", "path"]].to_numpy().tolist() == [
        ["built", f"insertions/{home.pid}/{product}.icechunk"] for product in sorted(PRODUCTS)
    ]
    (built[0] / "manifest.json").write_text("{}")
    states = ["built", "damaged"]  # counts, spikes
    assert cubes.status(home.root).state.tolist() == cubes.ls(home.root).state.tolist() == states
    report = cubes.verify(home.root)
    assert [bool(problems) for problems in report.values()] == [False, True]
    with pytest.raises(cubes.NotFound, match=f"{home.pid}: store .*spikes.icechunk: its manifest"):
        cubes.open_many(home.root, errors="skip")
    source = cubes.source("folder", home.tiny.folder)
    repairs = cubes.repair(home.root, source, errors="report")
    assert repairs.intact == [built[1]]
    assert "cannot be mended" in repairs.failed[str(built[0])]


def test_a_repository_in_the_making_is_one_row(tiny, tmp_path, monkeypatch):
    home = Home(tiny, tmp_path, tmp_path / "root")
    cubes.build(home.plan(products=["counts_20ms"]))
    other = home.plan("by-unit", products=["counts_20ms"])
    monkeypatch.setattr(icechunk_repo, "_set", None)
    with pytest.raises(TypeError):
        cubes.build(other, existing="replace", executor="serial")
    [row] = cubes.status(home.root, other).to_dict("records")
    assert (row["state"], row["parts_staged"], row["path"].rpartition(".")[2]) == ("stale", 1, "icechunk")


def test_a_plan_of_a_file_says_what_kind_of_store(home):
    plan = home.plan()
    scratch = plan.root if isinstance(home.root, str) else None
    again = Plan.from_json(json.dumps(plan.to_dict()), plan.catalog, scratch=scratch)
    assert (again, again.home) == (plan, plan.home)
    assert {str(place).rpartition(".")[2] for place in cubes.build(again)} == {"icechunk"}


def test_a_repository_cannot_link(tiny, tmp_path):
    source = cubes.source("folder", tiny.folder)
    with pytest.raises(cubes.PlanRefused, match="link: only Zarr stores in a local folder"):
        cubes.plan(source, [tiny.pid], ["ap"], root=tmp_path, store="icechunk", link=["ap"])


def test_without_the_package(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "icechunk", None)
    source = cubes.source("folder", tiny.folder)
    with pytest.raises(cubes.BadArgument, match=r"pip install 'ibl-cubes\[icechunk\]'"):
        cubes.plan(source, [tiny.pid], root=tmp_path / "root", store="icechunk")
    with pytest.raises(cubes.BadArgument, match="expected one of zarr, icechunk, got 'hdf5'"):
        cubes.plan(source, [tiny.pid], root=tmp_path / "root", store="hdf5")
    cubes.build(cubes.plan(source, [tiny.pid], root=tmp_path / "root"))  # Zarr needs none
    assert cubes.open(tmp_path / "root", tiny.pid)


def test_one_product_in_two_forms_is_refused(tiny, tmp_path):
    home = Home(tiny, tmp_path, tmp_path / "root")
    cubes.build(home.plan(products=["counts_20ms"]))
    cubes.build(home.plan(root=home.root, products=["counts_20ms"]))
    with pytest.raises(cubes.InconsistentData, match="counts_20ms is there as zarr and as icechunk"):
        cubes.open(home.root, home.pid)


def test_nothing_of_the_login_is_written_said_or_pickled(home, capfd):
    plan = home.plan()
    cubes.build(plan)
    tree = cubes.open(home.root, home.pid)
    values = [plan.home, cubes.open_many(home.root), dict(tree["spikes"].to_dataset().__dask_graph__())]
    files = [path.read_bytes() for path in home.folder.rglob("*") if path.is_file()]
    for data in [repr([plan, tree, capfd.readouterr()]).encode(), *map(pickle.dumps, values), *files]:
        assert KEY_ID.encode() not in data
        assert SECRET.encode() not in data


def test_the_command_line(home, capsys):
    build = ["build", "--source", str(home.tiny.folder), "--to", str(home.root), "--store", "icechunk"]
    scratch = ["--scratch", str(home.folder / "scratch")] if isinstance(home.root, str) else []
    assert run([*build, *scratch, "--products", *PRODUCTS]) == 0
    assert run(["verify", str(home.root)]) == 0
    assert "2 of 2 stores are complete" in capsys.readouterr().out
    assert run(["info", home.repository()]) == 0
    assert run(["verify", home.repository()]) == 0
