"""Stores in a bucket: equal to those of a folder, published whole or not at all, whoever is killed or first."""

import json
import logging
import pickle
import shutil
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xarray as xr
from s3_server import empty_bucket

import cubes
from chunking.bucket import Bucket
from chunking.homes import Folder
from chunking.objects import Objects
from chunking.plan import Plan
from chunking.room import least_disk_bytes
from cubes.cli import run

KEY_ID, SECRET = "AKC4N4RYC4N4RYC4N4RY", "c4n4rys3cr3tc4n4rys3cr3tc4n4rys3cr3t"
PRODUCTS = ("spikes", "counts_20ms")


class Home:
    """A bucket, and what is built into it."""

    def __init__(self, s3, bucket, tiny, folder):
        self.s3, self.bucket, self.tiny, self.folder = s3, bucket, tiny, folder
        self.url = f"s3://{bucket}/some/where"

    def plan(self, layout="balanced", products=PRODUCTS, root=None, scratch="scratch"):
        source = cubes.source("folder", self.tiny.folder)
        where = {"root": self.url, "scratch": self.folder / scratch} if root is None else {"root": root}
        return cubes.plan(source, [self.tiny.pid], products, counts_layout=layout, **where)

    def local(self, layout="balanced"):
        """The same stores in a folder."""
        root = self.folder / f"local-{layout}"
        if not root.exists():
            cubes.build(self.plan(layout, root=root))
        return root

    def objects(self):
        """All objects, by key below the root."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        read = {key: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read() for key in keys}
        return {key.removeprefix("some/where/"): data for key, data in read.items()}

    def put(self, key, data):
        self.s3.put_object(Bucket=self.bucket, Key=f"some/where/{key}", Body=data)

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bucket, Key=f"some/where/{key}")

    def policy(self, effect, *actions):
        """What anybody may, or may not, do."""
        where = [f"arn:aws:s3:::{self.bucket}", f"arn:aws:s3:::{self.bucket}/*"]
        rule = {"Effect": effect, "Principal": "*", "Action": actions, "Resource": where}
        self.s3.put_bucket_policy(Bucket=self.bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [rule]}))

    def version(self, product="counts_20ms", layout="balanced"):
        manifest = json.loads(
            (self.local(layout) / f"insertions/{self.tiny.pid}/{product}.zarr/manifest.json").read_text()
        )
        return f"insertions/{self.tiny.pid}/{product}.{manifest['build_key']}.zarr"

    def expected(self, product="counts_20ms", layout="balanced"):
        """The files of a version as a folder has them, without the manifest, which says when it was built."""
        store = self.local(layout) / f"insertions/{self.tiny.pid}/{product}.zarr"
        files = {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}
        return {key: data for key, data in files.items() if key != "manifest.json"}

    def check(self, products=PRODUCTS, layout="balanced"):
        """The bucket holds these versions, equal to those of a folder."""
        objects = self.objects()
        for product in products:
            version = self.version(product, layout)
            found = {key.removeprefix(f"{version}/"): data for key, data in objects.items() if key.startswith(version)}
            assert json.loads(found.pop("manifest.json"))["files"].keys() == found.keys()
            assert found == self.expected(product, layout)
            pointer = json.loads(objects[f"insertions/{self.tiny.pid}/{product}.json"])
            assert version.endswith(pointer["store"])
        assert not any(cubes.verify(self.url).values())


@pytest.fixture
def home(tiny, tmp_path, monkeypatch):
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    bucket = f"cubes-{uuid.uuid4().hex[:12]}"
    with empty_bucket(bucket) as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.meta.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        yield Home(s3, bucket, tiny, tmp_path)


def test_a_bucket_reads_as_a_folder_does(home):
    built = cubes.build(home.plan())
    assert built == [f"{home.url}/{home.version(product)}" for product in PRODUCTS]
    home.check()
    there, here = cubes.open(home.url, home.tiny.pid), cubes.open(home.local(), home.tiny.pid)
    assert there.load().identical(here.load())
    many, same = (cubes.open_many(root, query="probe == 'probe00'") for root in (home.url, home.local()))
    assert many.load().identical(same.load())
    rates = [cubes.map(lambda ds: ds.counts.mean(), root, product="counts_20ms") for root in (home.url, home.local())]
    assert rates[0].identical(rates[1])
    columns = ["pid", "product", "shape", "bytes", "files"]
    assert cubes.ls(home.url)[columns].equals(
        cubes.ls(home.local())[columns].iloc[::-1].sort_values("product", ignore_index=True)
    )
    assert cubes.ls(home.url).path.tolist() == [home.version("counts_20ms"), home.version("spikes")]
    described = cubes.info(built[1])
    assert (
        described["variables"] == cubes.info(home.local() / f"insertions/{home.tiny.pid}/counts_20ms.zarr")["variables"]
    )
    assert list(cubes.verify(built[0], level="quick").values()) == [[]]


def test_plain_xarray_opens_what_is_listed(home):
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    url = cubes.build(home.plan())[1]
    store = from_url(url, client_options={"allow_http": True})
    local = home.local() / f"insertions/{home.tiny.pid}/counts_20ms.zarr"
    with xr.open_zarr(ObjectStore(store, read_only=True)) as plain, xr.open_zarr(local) as expected:
        assert plain.load().identical(expected.load())


def test_a_store_in_a_bucket_is_pickled_and_read_elsewhere_without_a_login(home, monkeypatch):
    cubes.build(home.plan())
    tree = pickle.loads(pickle.dumps(cubes.open_many(home.url)))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    home.policy("Allow", "s3:GetObject", "s3:ListBucket")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    assert tree[f"{home.tiny.pid}/counts_20ms"].counts.sum() == 9
    assert cubes.open(home.url, home.tiny.pid)["counts_20ms"].counts.sum() == 9


def test_the_same_plan_again(home):
    cubes.build(home.plan())
    with pytest.raises(cubes.StoreError, match="2 of 2 stores exist already"):
        cubes.build(home.plan())
    assert cubes.build(home.plan(), existing="skip") == []
    with pytest.raises(cubes.StoreError, match="other files, parameters"):
        cubes.build(home.plan("by-unit"), existing="skip")
    assert [store.exists for store in home.plan().stores] == [True, True]


def test_a_replaced_version_stays_for_those_who_opened_it(home):
    cubes.build(home.plan())
    old = cubes.open(home.url, home.tiny.pid)
    cubes.build(home.plan("by-unit"), existing="replace")
    home.check(layout="by-unit")
    assert old.load().identical(cubes.open(home.local(), home.tiny.pid).load())
    cubes.build(home.plan(), existing="replace")  # back, and nothing has to be sent
    home.check()


@pytest.mark.parametrize("quick", [True, False])
def test_what_is_damaged_is_found_and_never_read(home, quick):
    level = "quick" if quick else "bytes"
    cubes.build(home.plan(products=["counts_20ms"]))
    chunk = f"{home.version()}/counts/c/0/0"
    data = home.objects()[chunk]
    damages = {"missing": lambda: home.delete(chunk), "bytes, expected": lambda: home.put(chunk, data[:-1])}
    if not quick:
        damages["crc32"] = lambda: home.put(chunk, bytes([data[0] ^ 1]) + data[1:])
    for what, damage in damages.items():
        damage()
        [[problem]] = cubes.verify(home.url, level=level).values()
        assert problem.key == "counts/c/0/0"
        assert what in problem.what
        with pytest.raises(cubes.StoreError, match=r"counts/c/0/0: expected crc32"):
            cubes.open(home.url, home.tiny.pid).load()
        home.put(chunk, data)
    home.put(f"{home.version()}/extra", b"")
    assert [problem.what for problem in next(iter(cubes.verify(home.url).values()))] == ["not in the manifest"]
    manifest = f"{home.version()}/manifest.json"
    home.put(manifest, home.objects()[manifest].replace(b'"bytes"', b'"bytez"', 1))
    with pytest.raises(cubes.StoreError, match="is not the one that was published"):
        cubes.open(home.url, home.tiny.pid)


def test_a_damaged_store_does_not_stop_the_others(home):
    cubes.build(home.plan())
    home.put(f"{home.version()}/zarr.json", b"{}")
    home.delete(f"{home.version('spikes')}/manifest.json")
    found = cubes.ls(home.url)
    assert found[["product", "state"]].to_numpy().tolist() == [["counts_20ms", "damaged"], ["spikes", "damaged"]]
    assert found.pid.tolist() == [home.tiny.pid] * 2
    report = cubes.verify(home.url)
    assert [problem.key for problems in report.values() for problem in problems] == ["zarr.json", "manifest.json"]


def test_more_than_bytes_is_compared_in_folders_only(home):
    built = cubes.build(home.plan())
    for more in ({"level": "full"}, {"source": cubes.source("folder", home.tiny.folder)}):
        report = cubes.verify(home.url, **more)
        assert not any(report.values())
        assert set(report.unchecked) == set(built)
        assert all("its bytes were compared" in why for why in report.unchecked.values())


def test_a_plan_of_a_file_goes_where_it_says(home):
    plan = home.plan()
    text = json.dumps(plan.to_dict())
    assert str(home.folder) not in text
    again = Plan.from_json(text, plan.catalog, scratch=plan.root)
    assert (again, again.home) == (plan, plan.home)
    assert cubes.build(again) == [f"{home.url}/{home.version(product)}" for product in PRODUCTS]
    home.check()
    assert Plan.from_json(text, plan.catalog, home.folder / "here").home == Folder(home.folder / "here")
    with pytest.raises(cubes.BadArgument, match="scratch: expected a local folder"):
        Plan.from_json(text, plan.catalog)


def test_the_disk_needs_room_for_one_store_at_a_time(home, monkeypatch):
    products = ["spikes", "counts_1ms"]
    stores = home.plan(products=products).stores
    sizes = [least_disk_bytes([store]) for store in stores]
    assert min(sizes) > 0
    usage = shutil.disk_usage(home.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=max(sizes)))
    assert home.plan(products=products).stores == stores
    with pytest.raises(cubes.PlanRefused, match="are free on its disk"):
        home.plan(products=products, root=home.folder / "here")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=max(sizes) - 1))
    with pytest.raises(cubes.PlanRefused, match=f"root {home.folder}/scratch: "):
        home.plan(products=products)


def test_calibration_is_in_the_scratch_folder(home):
    plan = home.plan(products=["counts_20ms"]).calibrate()
    assert plan.expected_s > 0
    assert not home.objects()


def test_an_object_in_the_way_is_not_overwritten(home):
    key = f"{home.version()}/counts/c/0/0"
    home.put(key, b"other")
    with pytest.raises(cubes.StoreError, match=r"counts/c/0/0: an object is there that is not of this store"):
        cubes.build(home.plan(products=["counts_20ms"]))
    assert home.objects()[key] == b"other"
    home.delete(key)
    home.put(f"{home.version()}/foreign", b"")
    with pytest.raises(cubes.StoreError, match="foreign: an object is there"):
        cubes.build(home.plan(products=["counts_20ms"]))
    with pytest.raises(cubes.NotFound, match="holds no store of it"):
        cubes.open(home.url, home.tiny.pid)


BUILDER = """
import os, signal, sys, threading
import cubes
from chunking.objects import Objects
folder, pid, url, scratch, deadly, moment = sys.argv[1:]
count, lock, put = 0, threading.Lock(), Objects.put
def counting(self, key, data, *, over=None):
    global count
    with lock:
        count += 1
        last = count == int(deadly)
        if last and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    result = put(self, key, data, over=over)
    if last:
        os.kill(os.getpid(), signal.SIGKILL)
    return result
Objects.put = counting
source = cubes.source("folder", folder)
cubes.build(cubes.plan(source, [pid], ["spikes"], root=url, scratch=scratch), existing="skip", executor="serial")
print(count)
"""


def deliver_and_kill(home, deadly, moment):
    """Kill a builder at its n-th put; then let another go on. Gives how many objects each of them sent."""
    home.url = f"s3://{home.bucket}/{uuid.uuid4().hex}"
    arguments = [home.tiny.folder, home.tiny.pid, home.url, home.folder / "scratch", deadly, moment]
    command = [sys.executable, "-c", BUILDER, *map(str, arguments)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr
    version = home.version("spikes")
    there = Objects(home.url).below(version)
    complete = set(home.expected("spikes"))
    if "zarr.json" in there:  # the least that plain Zarr wants
        assert set(there) >= complete
    if Objects(home.url).get(f"insertions/{home.tiny.pid}/spikes.json") is not None:
        assert set(there) == complete | {"manifest.json"}
        cubes.open(home.url, home.tiny.pid).load()
    else:
        with pytest.raises(cubes.NotFound):
            cubes.open(home.url, home.tiny.pid)
    command[-2] = "0"
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not any(cubes.verify(home.url).values())
    here = cubes.open(home.local(), home.tiny.pid)["spikes"].load()
    assert cubes.open(home.url, home.tiny.pid)["spikes"].load().identical(here)
    return len(there), int(again.stdout), len(complete)


def test_a_killed_delivery_goes_on(home):
    total = len(home.expected("spikes")) + 2  # manifest and pointer
    for deadly, moment in [
        (1, "before"),
        (total // 2, "after"),
        (total - 1, "before"),
        (total, "before"),
        (total, "after"),
    ]:
        sent, again, complete = deliver_and_kill(home, deadly, moment)
        assert again == max(0, complete + 2 - sent - (moment == "after" and deadly == total))


@pytest.mark.fault
@pytest.mark.timeout(1200)
def test_20_killed_deliveries_go_on(home):
    total = len(home.expected("spikes")) + 2
    for i in range(20):
        deliver_and_kill(home, 1 + i * (total - 1) // 19, ("before", "after")[i % 2])


def race(home, n, monkeypatch):
    """Two builders with scratch folders of their own meet when both have built and none has published."""
    publish, barrier = Bucket.publish, threading.Barrier(2)

    def meeting(self, *args, **options):
        barrier.wait(60)
        publish(self, *args, **options)

    monkeypatch.setattr(Bucket, "publish", meeting)
    for i in range(n):
        home.url = f"s3://{home.bucket}/race{i}"
        layouts = ("balanced", "by-unit" if i % 2 else "balanced")
        plans = [home.plan(layout, ["counts_20ms"], scratch=f"scratch{j}") for j, layout in enumerate(layouts)]

        def build(plan):
            try:
                return cubes.build(plan, executor="serial")
            except cubes.StoreError as error:
                return str(error)

        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(build, plans))
        winners = [layout for layout, result in zip(layouts, said, strict=True) if isinstance(result, list)]
        assert len(winners) == (1 if i % 2 else 2), said
        assert all("another builder published it meanwhile" in result for result in said if isinstance(result, str))
        assert not any(cubes.verify(home.url).values())
        found = cubes.open(home.url, home.tiny.pid)["counts_20ms"].load()
        assert found.identical(cubes.open(home.local(winners[0]), home.tiny.pid)["counts_20ms"].load())
        assert cubes.ls(home.url).path.tolist() == [home.version(layout=winners[0])]


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # what hides it in a build is not made for threads
def test_of_two_builders_one_wins(home, monkeypatch):
    race(home, 4, monkeypatch)


@pytest.mark.fault
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_of_two_builders_one_wins_20_times(home, monkeypatch):
    race(home, 20, monkeypatch)


def test_a_lost_race_to_replace_is_told(home, monkeypatch):
    """Another one replaced the store while this one sent its files."""
    cubes.build(home.plan(products=["counts_20ms"]))
    point, others = Bucket._point, []

    def late(self, path, store, over):
        if not others:
            others.append(1)
            cubes.build(home.plan("by-time", ["counts_20ms"], scratch="other"), existing="replace")
        point(self, path, store, over)

    monkeypatch.setattr(Bucket, "_point", late)
    with pytest.raises(cubes.StoreError, match="another builder published it meanwhile"):
        cubes.build(home.plan("by-unit", ["counts_20ms"]), existing="replace")
    home.check(["counts_20ms"], "by-time")


def test_readers_during_replacement_see_one_version(home):
    layouts = ("balanced", "by-unit")
    cubes.build(home.plan(products=["counts_20ms"]))
    expected = [cubes.open(home.local(layout), home.tiny.pid)["counts_20ms"].load() for layout in layouts]
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            seen.append(cubes.open(home.url, home.tiny.pid)["counts_20ms"].load())

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for i in range(6):
            cubes.build(home.plan(layouts[1 - i % 2], ["counts_20ms"]), existing="replace")
            enough = len(seen) + 3  # two may have begun before; the third sees this version
            while len(seen) < enough and not any(reader.done() for reader in readers):
                time.sleep(0.01)
        done.set()
        for reader in readers:
            reader.result()
    which = [[found.identical(version) for version in expected] for found in seen]
    assert all(sum(same) == 1 for same in which)
    assert {same.index(True) for same in which} == {0, 1}


def test_nothing_of_the_login_is_written_said_or_pickled(home, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    plan = home.plan()
    cubes.build(plan)
    tree = cubes.open(home.url, home.tiny.pid)
    with pytest.raises(cubes.CubesError) as refused:
        cubes.open(f"{home.url}-absent", home.tiny.pid)
    said = repr([plan, str(plan), plan.to_dict(), tree, refused.value, caplog.text, capfd.readouterr()]).encode()
    values = [plan.home, cubes.open_many(home.url), dict(tree["spikes"].to_dataset().__dask_graph__())]
    files = [path.read_bytes() for path in home.folder.rglob("*") if path.is_file()]
    for data in [said, *map(pickle.dumps, values), *home.objects().values(), *files]:
        assert KEY_ID.encode() not in data
        assert SECRET.encode() not in data
    assert len(files) > 10


def test_a_bucket_that_is_not_there(home):
    home.url = "s3://no-such-bucket-here/x"
    for action in (lambda: cubes.build(home.plan()), lambda: cubes.open(home.url, "x"), lambda: cubes.ls(home.url)):
        with pytest.raises(cubes.NotFound, match="there is no bucket 'no-such-bucket-here'"):
            action()


def test_a_bucket_that_may_not_be_written_to(home):
    home.policy("Deny", "s3:PutObject")
    with pytest.raises(cubes.StoreError, match=r"refused \(403 Forbidden.*\); the credentials of AWS_"):
        cubes.build(home.plan())
    home.s3.delete_bucket_policy(Bucket=home.bucket)
    cubes.build(home.plan())
    home.check()


def test_no_credentials(home, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(cubes.StoreError, match="no credentials; set AWS_ACCESS_KEY_ID"):
        cubes.open(home.url, home.tiny.pid)


@pytest.mark.parametrize("url", ["s3://key:secret@bucket/x", "gs://bucket/x", "s3:///x", "https://bucket/x"])
def test_other_urls_are_refused(url):
    with pytest.raises(cubes.BadArgument, match=r"expected .*s3://bucket/prefix") as refused:
        cubes.open(url, "x")
    assert "secret" not in str(refused.value)


def test_what_needs_a_folder_says_so(home):
    source = cubes.source("folder", home.tiny.folder)
    for action in (cubes.gc, cubes.status, cubes.pool, lambda url: cubes.repair(url, source)):
        with pytest.raises(cubes.BadArgument, match="works on a local folder only"):
            action(home.url)
    with pytest.raises(cubes.BadArgument, match="scratch: expected a local folder"):
        cubes.plan(source, [home.tiny.pid], root=home.url)
    with pytest.raises(cubes.BadArgument, match="scratch: only for a bucket"):
        cubes.plan(source, [home.tiny.pid], root=home.folder, scratch=home.folder)
    with pytest.raises(cubes.PlanRefused, match="link: only Zarr stores in a local folder"):
        cubes.plan(source, [home.tiny.pid], ["ap"], root=home.url, scratch=home.folder, link=["ap"])


def test_the_command_line(home, capsys):
    build = ["build", "--source", str(home.tiny.folder), "--to", home.url, "--scratch", str(home.folder / "scratch")]
    assert run([*build, "--products", *PRODUCTS]) == 0
    assert capsys.readouterr().out.split() == [f"{home.url}/{home.version(product)}" for product in PRODUCTS]
    assert run([*build, "--products", *PRODUCTS, "--skip-existing"]) == 0
    assert "2 stores existed already" in capsys.readouterr().err
    assert run(["ls", home.url]) == 0
    assert "counts_20ms" in capsys.readouterr().out
    assert run(["verify", home.url]) == 0
    assert "2 of 2 stores are complete" in capsys.readouterr().out
    assert run(["verify", home.url, "--full"]) == 2
    assert "0 of 2 stores are complete" in capsys.readouterr().out
    assert run(["plan", *build[1:], "--json"]) == 0
    (home.folder / "plan.json").write_text(capsys.readouterr().out)
    assert run([*build, "--plan", str(home.folder / "plan.json"), "--skip-existing"]) == 0
    assert capsys.readouterr().out.split("/")[-1].startswith("channels.")
    assert run(["info", f"{home.url}/{home.version()}"]) == 0
    assert run(["gc", home.url]) == 1
    assert not list(Path.cwd().glob("s3:*"))
