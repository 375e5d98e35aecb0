"""Plans and builds of many insertions: those that fail are named, and do not stop the others."""

import json

import pytest

import cubes
from chunking import room
from cubes.cli import run
from loaders.errors import BadArgument, CorruptData, PlanRefused, StoreError
from loaders.sample import SAMPLE

PRODUCTS = ["counts_100ms", "channels"]


class Several:
    """Some tiny sessions as one source."""

    def __init__(self, sessions):
        self.of = {session.pid: cubes.source("folder", session.folder) for session in sessions}

    def insertions(self):
        return [source.insertion(pid) for pid, source in self.of.items()]

    def insertion(self, pid):
        return self.of[pid].insertion(pid)

    def datasets(self, insertion):
        return self.of[insertion.pid].datasets(insertion)


@pytest.fixture
def sessions(tiny_sessions):
    return tiny_sessions


@pytest.fixture
def source(sessions):
    return Several(sessions)


def built_pids(root):
    return sorted({path.parent.name for path in root.glob("insertions/*/*.zarr")})


def test_a_damaged_insertion_does_not_stop_the_planning_of_others(sessions, source, tmp_path):
    (sessions[1].sorting / "spikes.times.npy").write_bytes(b"")
    with pytest.raises(CorruptData, match="empty"):
        cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "root")
    plan = cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "root", errors="report")
    assert list(plan.refused) == [sessions[1].pid]
    assert "spikes.times.npy" in plan.refused[sessions[1].pid]
    assert len(plan.stores) == 6
    assert f"pid {sessions[1].pid}: REFUSED: " in str(plan)
    known = plan.to_dict()
    assert known["refused"] == plan.refused
    assert known["tasks"] == sum(store["tasks"] for store in known["stores"]) == 3
    assert known["bytes"] == sum(store["bytes"] for store in known["stores"]) > 0
    assert known["task_bytes"] == max(store.task_bytes for store in plan.stores)
    built = cubes.build(plan)
    assert built.failed == plan.refused
    assert built_pids(tmp_path / "root") == sorted(s.pid for s in sessions if s is not sessions[1])
    with pytest.raises(BadArgument, match=r"errors: expected one of raise, report, got 'skip'"):
        cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "root", errors="skip")


def test_a_failed_insertion_does_not_stop_the_build_and_a_rerun_does_what_is_missing(sessions, source, tmp_path):
    root = tmp_path / "root"
    plan = cubes.plan(source, source.of, PRODUCTS, root=root)
    times = (sessions[2].sorting / "spikes.times.npy").read_bytes()
    sessions[2].save("spikes.times.npy", sessions[2].times + 0.01)
    built = cubes.build(plan, errors="report")
    assert list(built.failed) == [sessions[2].pid]
    assert "changed since the plan" in built.failed[sessions[2].pid]
    assert len(built) == 6
    (sessions[2].sorting / "spikes.times.npy").write_bytes(times)
    events = []
    again = cubes.build(plan, existing="skip", errors="report", progress=events.append)
    assert again.failed == {}
    assert {path.parent.name for path in again} == {event.pid for event in events} == {sessions[2].pid}
    assert {event.nbytes for event in events if event.product == "counts_100ms"} == {plan.stores[0].nbytes}
    assert not any(cubes.verify(root).values())


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_without_report_the_first_error_ends_the_build(sessions, source, tmp_path, executor):
    plan = cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "root")
    sessions[2].save("spikes.times.npy", sessions[2].times + 0.01)
    with pytest.raises(Exception, match="changed since the plan"):
        cubes.build(plan, executor=executor)
    built = built_pids(tmp_path / "root")
    assert built[:2] == [sessions[0].pid, sessions[1].pid]
    assert built[2:] in ([], [sessions[3].pid] if executor == "threads" else [])  # which had begun


def test_a_store_that_is_not_the_planned_one_fails_its_insertion_alone(sessions, source, tmp_path):
    pid, root = sessions[0].pid, tmp_path / "root"
    cubes.build(cubes.plan(source, [pid], ["counts_100ms"], root=root, counts_layout="by-unit"))
    plan = cubes.plan(source, source.of, PRODUCTS, root=root)
    with pytest.raises(StoreError, match="built from other files"):
        cubes.build(plan, existing="skip")
    built = cubes.build(plan, existing="skip", errors="report")
    assert list(built.failed) == [pid]
    assert len(built) == 6


def test_plans_that_cannot_fit_are_refused(sessions, source, tmp_path, monkeypatch):
    plan = cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "a" / "b")
    monkeypatch.setattr(room, "_memory_bytes", lambda: plan.stores[0].task_bytes * 2)
    with pytest.raises(PlanRefused, match=r"counts_100ms: a task holds up to 33.6 MB, and .* 67.1 MB for 3 at once"):
        cubes.build(plan, workers=3)
    assert len(cubes.build(plan, workers=2)) == 8
    monkeypatch.setattr(room, "_memory_bytes", lambda: 1)
    with pytest.raises(PlanRefused, match="for 1 at once"):
        cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "c")
    assert len(cubes.plan(source, source.of, PRODUCTS, root=tmp_path / "c", errors="report").refused) == 4


def test_a_plan_larger_than_the_disk_is_refused(sample_source, tmp_path, monkeypatch):
    pids = [probe.pid for probe in SAMPLE]
    plan = cubes.plan(sample_source, pids, ["spikes", "counts_1ms"], root=tmp_path / "a" / "b")
    least = room.least_disk_bytes(plan.stores)
    assert 0 < least < sum(store.nbytes for store in plan.stores)
    free = [least]
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free[0]}))
    cubes.plan(sample_source, pids, ["spikes", "counts_1ms"], root=tmp_path / "a" / "b")
    free[0] = least - 1
    with pytest.raises(PlanRefused, match=r"are free on its disk, and the stores take at least .* kB"):
        cubes.plan(sample_source, pids, ["spikes", "counts_1ms"], root=tmp_path / "a" / "b")


def test_the_least_size_is_below_that_of_real_stores(sample_source, sample_cubes):
    pids = [probe.pid for probe in SAMPLE]
    plan = cubes.plan(sample_source, pids, ["spikes", "counts_1ms", "counts_20ms"], root=sample_cubes)
    for store in plan.stores:
        for array in store.arrays:
            folder = sample_cubes / store.path / array.name
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            assert room._least(array) < size


def test_command_line_with_a_file_of_pids(sample_root, tmp_path, capsys):
    root, pids = tmp_path / "root", tmp_path / "pids.txt"
    pids.write_text(f"# two of them\n{SAMPLE[2].pid}   # the third\n\nnope\n")
    options = ["--pids", str(pids), "--source", str(sample_root), "--to", str(root), "--products", "channels", "sync"]
    assert run(["plan", *options[:-1], "--json"]) == 1
    out, err = capsys.readouterr()
    assert [store["pid"] for store in json.loads(out)["stores"]] == [SAMPLE[2].pid]
    assert err.startswith("cubes: error: pid 'nope': unknown")
    assert run(["build", *options[:-1]]) == 1
    out, err = capsys.readouterr()
    assert out.split() == [str(root / f"insertions/{SAMPLE[2].pid}/channels.zarr")]
    assert err.splitlines()[0].startswith(f"{SAMPLE[2].pid} channels: labels in ")
    assert err.splitlines()[1].startswith("cubes: error: pid 'nope': unknown")
    assert run(["build", *options[:-1], "--skip-existing", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["built"], report["skipped"], list(report["failed"])) == ([], 1, ["nope"])
    pids.write_text("# none\n")
    assert run(["plan", *options]) == 1
    assert "expected one pid a line, got none" in capsys.readouterr().err


def test_progress_is_a_line_a_store_where_there_is_no_terminal(sample_root, tmp_path, capsys):
    pid = SAMPLE[2].pid
    options = ["--source", str(sample_root), "--to", str(tmp_path), "--products", "counts_100ms", "spikes"]
    assert run(["build", pid, *options]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"{pid} counts_100ms", f"{pid} spikes"]
    assert all(" B in " in line or "kB in " in line or "MB in " in line for line in lines)
    assert all(line.endswith("B/s") for line in lines)


def test_a_release_names_pids_of_a_local_source(sample_root, tmp_path, capsys):
    options = ["--source", str(sample_root), "--to", str(tmp_path), "--json"]
    assert run(["plan", "--release", "2023_12_repeated_site", *options]) == 1
    out, err = capsys.readouterr()
    assert len(json.loads(out)["refused"]) == len(cubes.release("2023_12_repeated_site"))
    assert err.count("\n") == len(cubes.release("2023_12_repeated_site"))
    assert run(["plan", "--release", "none", *options]) == 1
    assert "release 'none': unknown" in capsys.readouterr().err
