"""The power fails at any moment: from the operations of a build, every disk that it may leave is made and looked at.

The worst that a disk may do: what was not synced in a file is lost, and a name is lost whose folder was not synced. Or
names are kept all the same, so that files are there and empty, which is what journals of file systems do.
"""

import random

import pytest
from watched_disk import Replay, WatchedDisk

import cubes

PRODUCTS = ("counts_100ms", "spikes")
pytestmark = pytest.mark.usefixtures("no_waiting")


def watched_build(plan, **options):
    with pytest.MonkeyPatch.context() as patched:
        disk = WatchedDisk(patched, plan.root)
        cubes.build(plan, executor="serial", **options)
    return disk.events


def files_of(root):
    return {f"/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


def below(files, folder):
    return {name: data for name, data in files.items() if name.startswith(folder) and data is not None}


def disks(root, events, before=None):
    """The files after a power cut, before the first operation and after every one, at worst and with luck."""
    replay = Replay(root, before)
    for event in [None, *events]:
        if event:
            replay.apply(event)
        yield replay.after_a_cut(lucky=False)
        yield replay.after_a_cut(lucky=True)


def wrong(root, events, versions, before=None):
    """In how many of these disks a store is neither absent nor one of its versions; the last has to be there."""
    found = 0
    for files in disks(root, events, before):
        for store, (old, new) in versions.items():
            found += below(files, store) not in ([old, new] if old else [new]) if f"{store}/" in files else bool(old)
    for lucky in (False, True):
        for store, (_, new) in versions.items():
            found += below(after(root, events, lucky, before), store) != new
    return found


def after(root, events, lucky, before=None):
    replay = Replay(root, before)
    for event in events:
        replay.apply(event)
    return replay.after_a_cut(lucky)


@pytest.fixture(scope="module")
def expected(plan_shared, contents, tmp_path_factory):
    root = tmp_path_factory.mktemp("expected")
    cubes.build(plan_shared(root, products=PRODUCTS))
    return contents(root)


@pytest.fixture(scope="module")
def build(plan_shared, tmp_path_factory):
    """A root, its operations, and what its stores are to be: nothing before, and these files after."""
    plan = plan_shared(tmp_path_factory.mktemp("built"), products=PRODUCTS)
    events = watched_build(plan)
    files = files_of(plan.root)
    return plan.root, events, {f"/{store.path}": ({}, below(files, f"/{store.path}/")) for store in plan.stores}


@pytest.fixture
def replacement(plan_shared, tmp_path):
    """The same of a build that replaces another version, and the files of that."""
    cubes.build(plan_shared(tmp_path, "balanced", PRODUCTS[:1]))
    before = files_of(tmp_path)
    plan = plan_shared(tmp_path, "by-unit", PRODUCTS[:1])
    events = watched_build(plan, existing="replace")
    store = f"/{plan.stores[0].path}"
    return tmp_path, events, {store: (below(before, f"{store}/"), below(files_of(tmp_path), f"{store}/"))}, before


def test_a_store_is_absent_or_complete(build):
    root, events, versions = build
    assert sum(map(len, (new for _, new in versions.values()))) > 50
    assert wrong(root, events, versions) == 0


def test_a_replaced_store_is_the_old_or_the_new_one(replacement):
    root, events, versions, before = replacement
    assert wrong(root, events, versions, before) == 0


def test_every_sync_of_a_store_is_needed(build):
    """Without it, some disk has a store that is not complete, or loses one that was built."""
    root, events, versions = build
    assert wrong(root, [event for event in events if event[0] != "sync"], versions) > 100
    names = {event[1] for event in events if event[0] == "sync" and "/store" in event[1]}
    names |= {str(root / path.lstrip("/")) for store in versions for path in parents_of(store)}
    assert len(names) > 50
    for name in names:
        without = [event for event in events if event[:2] != ("sync", name)]
        assert len(without) < len(events), f"{name} was not synced"
        assert wrong_at_the_end(root, without, versions), f"nobody misses the sync of {name}"


def parents_of(store):
    parts = store.strip("/").split("/")
    return ["/".join(parts[:n]) for n in range(len(parts))]


def wrong_at_the_end(root, events, versions):
    return any(
        below(after(root, events, lucky), store) != new
        for lucky in (False, True)
        for store, (_, new) in versions.items()
    )


def go_on(disks, plan_shared, contents, expected, folder):
    """Make each of these disks, and build there."""
    for i, files in enumerate(disks):
        root = folder / f"cut{i}"
        for name, data in sorted(files):
            path = root / name.lstrip("/")
            (path if data is None else path.parent).mkdir(parents=True, exist_ok=True)
            if data is not None:
                path.write_bytes(data)
        cubes.build(plan_shared(root, products=PRODUCTS), existing="skip", executor="serial")
        assert contents(root) == expected, f"disk {i}"


def different(disks):
    return list(dict.fromkeys(frozenset(files.items()) for files in disks))


def test_the_same_build_goes_on(build, plan_shared, contents, expected, tmp_path):
    root, events, _ = build
    some = random.Random(1).sample(different(disks(root, events)), 3)
    go_on(some, plan_shared, contents, expected, tmp_path)


@pytest.mark.fault
@pytest.mark.timeout(3000)
def test_the_same_build_goes_on_from_every_disk(build, plan_shared, contents, expected, tmp_path):
    root, events, _ = build
    every = different(disks(root, events))
    print(f"{len(events)} operations, {len(every)} different disks")
    go_on(every, plan_shared, contents, expected, tmp_path)
