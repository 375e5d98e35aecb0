"""The command line: output, exit codes, one clear line for every error."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cubes.cli import run
from loaders.sample import SAMPLE

PIDS = [probe.pid for probe in SAMPLE]


def cubes_command(*arguments):
    return [sys.executable, "-m", "cubes", *map(str, arguments)]


@pytest.mark.parametrize(
    "command",
    [
        *["", "demo", "sample", "plan", "build", "ls", "info", "verify", "repair", "status", "gc"],
        *["releases", "catalog", "find", "presence"],
    ],
)
def test_every_command_explains_itself(command, capsys):
    assert run([*command.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert ("Show which stores would be built" in text) == (command in ("", "plan"))
    assert "<" not in text


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["plan"], ["ls"], ["verify", "x", "--fast"], ["plan", "--workers", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    assert run(arguments) == 2
    assert "Traceback" not in "".join(capsys.readouterr())


def test_plan_build_ls_info_verify(sample_root, tmp_path, capsys):
    root = tmp_path / "my cubes"
    options = [PIDS[2], "--source", str(sample_root), "--to", str(root), "--products", "counts_20ms", "channels"]
    assert run(["plan", *options]) == 0
    assert f"pid {PIDS[2]}: iblsorter, revision 2024-05-06" in capsys.readouterr().out
    assert not root.exists()
    assert run(["plan", *options, "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [store["product"] for store in planned["stores"]] == ["counts_20ms", "channels"]
    assert run(["build", *options]) == 0
    built = capsys.readouterr().out.splitlines()
    assert built == [str(root / store["path"]) for store in planned["stores"]]
    assert run(["build", *options]) == 1
    assert "exist already and are never overwritten" in capsys.readouterr().err
    assert run(["build", *options, "--skip-existing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"built": [], "skipped": 2, "failed": {}}
    assert run(["ls", str(root), "--json"]) == 0
    assert {row["product"] for row in json.loads(capsys.readouterr().out)} == {"counts_20ms", "channels"}
    assert run(["ls", str(root)]) == 0
    assert "counts_20ms" in capsys.readouterr().out
    assert run(["info", built[0]]) == 0
    text = capsys.readouterr().out
    assert "depth of the unit on the probe, from the tip [um]" in text
    assert "spikes.times.npy" in text
    assert run(["info", built[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attrs"]["pid"] == PIDS[2]
    assert run(["verify", str(root)]) == 0
    assert "2 of 2 stores are complete" in capsys.readouterr().out
    (root / f"insertions/{PIDS[2]}/counts_20ms.zarr/counts/c/0/0").unlink()
    assert run(["verify", str(root), "--quick", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert {store: fact["state"] for store, fact in facts.items()} == {built[0]: "damaged", built[1]: "ok"}
    (problem,) = facts[built[0]]["problems"]
    assert (problem["key"], problem["what"], problem["byte_range"][0]) == ("counts/c/0/0", "missing", 0)
    assert problem["cells"].startswith("unit 0..149, time 0..")
    assert run(["verify", str(root), "--full"]) == 1
    assert "counts/c/0/0: missing [unit 0..149, time 0.." in capsys.readouterr().out
    assert run(["verify", str(root), "--source", str(sample_root)]) == 1
    assert "1 of 2 stores are complete and unchanged" in capsys.readouterr().out
    assert run(["build", *options, "--skip-existing"]) == 1
    assert "counts/c/0/0: missing); run cubes repair, or remove it and build it again" in capsys.readouterr().err
    assert run(["repair", str(root), "--source", str(sample_root)]) == 0
    out, err = capsys.readouterr()
    assert "made again: 1 of 1 parts, and the labels" in out
    assert "stores repaired: 1, intact: 1" in err
    assert run(["verify", str(root), "--source", str(sample_root)]) == 0
    (root / f"insertions/{PIDS[2]}/counts_20ms.zarr/manifest.json").write_text("{}")
    assert run(["ls", str(root)]) == 0
    assert "damaged" in capsys.readouterr().out
    assert run(["ls", str(root), "--json"]) == 0
    rows = {row["product"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["state"] for name, row in rows.items()} == {"counts_20ms": "damaged", "channels": "built"}
    assert run(["repair", str(root), "--source", str(sample_root), "--json"]) == 0
    (mended,) = json.loads(capsys.readouterr().out)["repaired"]
    assert mended == {"path": built[0], "kept": 0, "redone": 1, "from_nothing": True}


def test_verify_and_repair_tell_what_they_cannot_do(tiny, tmp_path, capsys):
    root, other = tmp_path / "root", tmp_path / "other"
    assert run(["build", "--source", str(tiny.folder), "--to", str(root), "--products", "counts_100ms"]) == 0
    store = capsys.readouterr().out.strip()
    for arguments in (["--quick", "--full"], ["--source", str(other)], ["--source", str(tiny.folder), "--cache", "x"]):
        assert run(["verify", str(root), *arguments]) == 2
        assert capsys.readouterr().err.startswith("cubes: error: ")
    type(tiny)(other)
    assert run(["verify", str(root), "--source", str(other), "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)[store]
    assert (facts["state"], facts["problems"], tiny.pid in facts["reason"]) == ("unchecked", [], True)
    assert run(["verify", str(root), "--source", str(other)]) == 2
    assert "not compared: " in capsys.readouterr().out
    assert run(["repair", str(root)]) == 2
    capsys.readouterr()
    shutil.rmtree(f"{store}/counts")
    assert run(["repair", str(root), "--source", str(other)]) == 1
    assert tiny.pid in capsys.readouterr().err
    assert run(["repair", str(root), "--source", str(tiny.folder)]) == 0


def zero_bytes(tiny):
    (tiny.sorting / "spikes.times.npy").write_bytes(b"")


def shorter(tiny):
    tiny.save("spikes.amps.npy", np.zeros(3))


def pickled(tiny):
    np.save(tiny.sorting / "spikes.times.npy", np.array([None]), allow_pickle=True)


def duplicate_ids(tiny):
    tiny.save("clusters.metrics.pqt", tiny.metrics().assign(cluster_id=0))


def nothing(tiny):
    pass


@pytest.mark.parametrize(
    ("damage", "options", "words"),
    [
        (zero_bytes, [], ["spikes.times.npy", "empty (0 bytes)"]),
        (shorter, [], ["spikes.amps 3", "spikes.times 9"]),
        (pickled, [], ["spikes.times.npy", "pickle"]),
        (duplicate_ids, [], ["clusters.metrics", "more than once"]),
        (nothing, ["--sorter", "ks9"], ["'ks9' does not exist", "'pykilosort'"]),
        (nothing, ["--revision", "1999-01-01"], ["'1999-01-01' does not exist", "''"]),
        (nothing, ["--workers", "0"], ["workers: expected at least 1, got 0"]),
        (nothing, ["--products", "counts_0ms"], ["counts_0ms", "positive number"]),
        (nothing, ["--products", "counts_99s"], ["longer than the recording"]),
        (nothing, ["--counts-layout", "diagonal"], ["'diagonal'", "balanced"]),
        (nothing, ["--window", "0:1"], ["window", "spikes, channels, counts_20ms", "ap, lf and lfp"]),
        (nothing, ["--release", "2023"], ["release '2023': unknown", "2023_12_bwm_release"]),
    ],
)
def test_bad_input_is_one_line_exit_code_1_and_nothing_left(tiny, tmp_path, capsys, damage, options, words):
    damage(tiny)
    root = tmp_path / "root"
    assert run(["build", "--source", str(tiny.folder), "--to", str(root), *options]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("cubes: error: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not root.exists()


def test_bad_folders_are_one_line(tmp_path, capsys):
    for code, arguments in (
        (1, ["plan", "--source", str(tmp_path), "--to", "x"]),
        (1, ["ls", str(tmp_path)]),
        (2, ["verify", str(tmp_path / "a")]),  # where 1 says that a store is damaged
        (1, ["repair", str(tmp_path / "a"), "--source", str(tmp_path)]),
        (1, ["info", str(tmp_path)]),
    ):
        assert run(arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("cubes: error: ")
        assert err.count("\n") == 1


def test_demo_tells_the_story_and_draws_the_figure(tmp_path, capsys):
    for _ in range(2):  # the second time everything is there
        assert run(["demo", str(tmp_path / "demo")]) == 0
        text = capsys.readouterr().out
        assert "124,905 spikes" in text
        assert "xr.open_zarr(" in text
        assert "good units: " in text
        assert "ap(channel, time) int16, 384 channels x 60,000 samples at 30000.3906 Hz" in text
        assert "lf(channel, time) int16, 384 channels x 10,000 samples at 2500.0326 Hz" in text
    assert (tmp_path / "demo/summary.png").read_bytes().startswith(b"\x89PNG")


def test_a_reader_that_has_seen_enough_is_no_error(sample_cubes):
    store = sample_cubes / f"insertions/{PIDS[0]}/spikes.zarr"
    with subprocess.Popen(cubes_command("info", store), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_ctrl_c_publishes_nothing_half_written(sample_root, tmp_path):
    root = tmp_path / "root"
    command = cubes_command(
        "build", PIDS[0], "--source", sample_root, "--to", root, "--products", "counts_1ms", "counts_100us"
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(root.glob(".staging/*/store/counts/c/*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.endswith(
        "cubes: interrupted; nothing half-written was published. The same command goes on; "
        "a build with --skip-existing.\n"
    )
    for store in root.glob("insertions/*/*.zarr"):
        assert run(["verify", str(store)]) == 0


def test_a_plan_of_a_file_is_built_as_it_is(sample_root, tmp_path, capsys):
    where = ["--source", str(sample_root), "--to", str(tmp_path / "root")]
    assert run(["plan", PIDS[2], *where, "--products", "channels", "counts_100ms", "--calibrate", "--json"]) == 0
    out = capsys.readouterr().out
    planned = json.loads(out)
    assert planned["expected_s"] > 0
    assert [store["task_shape"] for store in planned["stores"]] == [[], [150, 600]]
    assert not (tmp_path / "root").exists()
    plan = tmp_path / "plan.json"
    plan.write_text(out)
    for options in ([PIDS[0]], ["--products", "spikes"], ["--region", "TH"]):
        assert run(["build", *options, *where, "--plan", str(plan)]) == 1
        assert "says what is built and how; expected beside it only --source" in capsys.readouterr().err
    assert run(["build", *where, "--plan", str(plan)]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "root" / store["path"]) for store in planned["stores"]]
    assert run(["build", *where, "--plan", str(plan), "--skip-existing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    plan.write_bytes(b"\xff\xfe")
    assert run(["build", *where, "--plan", str(plan)]) == 1
    assert "expected the JSON of cubes plan --json" in capsys.readouterr().err


def test_filters_name_the_insertions(sample_root, tmp_path, capsys):
    root = tmp_path / "root"
    options = ["--source", str(sample_root), "--to", str(root), "--products", "channels", "--json"]
    assert run(["plan", "--region", "CA1", *options]) == 1
    assert "has no table of insertions yet; add a source" in capsys.readouterr().err
    assert run(["catalog", str(root), "--source", str(sample_root)]) == 0
    for filters in (
        ["--region", "CA1"],
        ["--lab", "samplelab"],
        ["--query", "n_units > 200"],
        ["--min-good-units", "1"],
    ):
        capsys.readouterr()
        assert run(["find", "--catalog", str(root), *filters]) == 0
        found, hidden = capsys.readouterr()
        assert found
        assert run(["plan", *filters, *options]) == 0
        out, err = capsys.readouterr()
        assert [store["pid"] for store in json.loads(out)["stores"]] == found.split()
        assert err == hidden
        assert run(["plan", *filters, "--catalog", str(root / "catalog"), *options[:2], "--to", "x"]) == 0
    capsys.readouterr()
    for wrong, words in (
        (["--query", "n_units > 10**6"], "no insertion of the catalog fits"),
        ([PIDS[0], "--lab", "samplelab"], "expected either pids or filters"),
        (["--catalog", str(root)], "catalog: expected a filter such as --region, got none"),
    ):
        assert run(["plan", *wrong, *options]) == 1
        assert words in capsys.readouterr().err
