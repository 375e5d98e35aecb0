"""What a root holds, from outside: built, stale, damaged, in staging, replaced."""

import json
import os
import shutil
import socket
from contextlib import suppress

import pytest

import cubes
from chunking.manifest import make_manifest
from chunking.staging import staging
from cubes.cli import run
from loaders.errors import NotFound

PRODUCTS = ["counts_100ms", "spikes"]


@pytest.fixture
def source(tiny):
    return cubes.source("folder", tiny.folder)


@pytest.fixture
def root(source, tiny, tmp_path):
    root = tmp_path / "root"
    cubes.build(cubes.plan(source, [tiny.pid], PRODUCTS, root=root))
    return root


def states(table):
    return dict(zip(table["product"], table["state"], strict=True))


def test_built_stores(root, tiny, capsys):
    table = cubes.status(root)
    assert states(table) == dict.fromkeys(PRODUCTS, "built")
    assert set(table["pid"]) == {tiny.pid}
    assert table["versions_kept"].tolist() == [0, 0]
    assert run(["status", str(root), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["product"], row["state"], row["why"]) for row in rows] == [(name, "built", "") for name in PRODUCTS]
    assert run(["status", str(root)]) == 0
    assert "counts_100ms" in capsys.readouterr().out
    with pytest.raises(NotFound, match="no such folder"):
        cubes.status(root / "none")


@pytest.mark.parametrize("name", ["ibl-cubes", "iblatlas"])
def test_other_software_is_stale(root, name):
    path = next(root.glob("insertions/*/spikes.zarr/manifest.json"))
    manifest = json.loads(path.read_text())
    manifest["software"][name] = "0.0.1"
    files = manifest.pop("files")
    path.write_text(json.dumps(make_manifest(files, manifest)))
    table = cubes.status(root).set_index("product")
    assert table.loc["spikes", "state"] == "stale"
    assert f"made by {name} 0.0.1" in table.loc["spikes", "why"]
    assert table.loc["counts_100ms", "state"] == "built"


def test_a_plan_says_what_is_stale_and_missing(root, source, tiny):
    plan = cubes.plan(source, [tiny.pid], [*PRODUCTS, "channels"], root=root, counts_layout="by-unit")
    table = cubes.status(root, plan)
    assert states(table) == {"channels": "missing", "counts_100ms": "stale", "spikes": "built"}
    cubes.build(plan, existing="replace")
    table = cubes.status(root, plan)
    assert set(states(table).values()) == {"built"}
    assert table.set_index("product")["versions_kept"].to_dict() == {"channels": 0, "counts_100ms": 1, "spikes": 0}


def test_damaged_stores(root):
    next(root.glob("insertions/*/spikes.zarr/manifest.json")).unlink()
    (next(root.glob("insertions/*/counts_100ms.zarr")) / "zarr.json").write_text("{")
    assert set(cubes.status(root)["state"]) == {"damaged"}


def test_staging_counts_parts_and_names_the_builder(root, tiny):
    path = f"insertions/{tiny.pid}/counts_1ms.zarr"
    with suppress(ZeroDivisionError), staging(root, path, "key") as stage:
        (stage.store / "a").write_bytes(b"abc")
        stage.keep({"part": {"a": {"bytes": 3, "crc32": "352441c2"}}})
        table = cubes.status(root).set_index("product")
        assert table.loc["counts_1ms", ["state", "parts_staged", "why"]].tolist() == ["staging", 1, "being built"]
        assert table.loc["counts_1ms", "builder"].startswith(f"process {os.getpid()} on {socket.gethostname()}")
        raise ZeroDivisionError
    journal = next(root.glob(".staging/*/journal.jsonl"))
    with journal.open("ab") as file:
        file.write(b"half a li")
    before = journal.read_bytes()
    table = cubes.status(root).set_index("product")
    assert table.loc["counts_1ms", ["state", "parts_staged", "builder"]].tolist() == ["staging", 1, ""]
    assert journal.read_bytes() == before  # its builder may be writing the rest
    dead = {"process": 2**22 + 1, "host": socket.gethostname(), "since": "then"}
    holder = root / ".staging" / f"{path.replace('/', '.')}.holder.json"
    for facts, builder in ((dead, ""), (dead | {"host": "elsewhere"}, f"process {2**22 + 1} on elsewhere")):
        holder.write_text(json.dumps(facts))
        assert cubes.status(root).set_index("product").loc["counts_1ms", "builder"].startswith(builder)
        assert bool(cubes.status(root).set_index("product").loc["counts_1ms", "builder"]) == bool(builder)
    shutil.rmtree(root / ".staging")
    assert "counts_1ms" not in set(cubes.status(root)["product"])
