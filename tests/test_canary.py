"""A login is in memory and nowhere else: not in what a build from the database writes, says or sends."""

import logging

import cloudpickle
import pytest
from alyx_stub import LOGIN, AlyxStub, server_tree

import cubes
from cubes.cli import run
from loaders.errors import CubesError
from loaders.sample import SAMPLE

PID = SAMPLE[0].pid
TOKEN = "c4naryc4naryc4naryc4naryc4naryc4naryc4na"
PASSWORD = "s3cr3tb1rd"
SECRETS = [secret.encode() for secret in (TOKEN, PASSWORD)]
PRODUCTS = ["spikes", "counts_20ms", "ap", "lf"]


@pytest.fixture
def stub(sample_root_with_voltage, tmp_path, monkeypatch):
    monkeypatch.setitem(LOGIN, "password", PASSWORD)
    files = server_tree(sample_root_with_voltage, tmp_path / "server")
    with AlyxStub(sample_root_with_voltage, files).running() as stub:
        stub.token = TOKEN
        yield stub


def leaks(data):
    return [secret for secret in SECRETS if secret in data]


def leaking_files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and leaks(path.read_bytes())]


@pytest.mark.parametrize("given", ["token", "password", "environment"])
def test_the_login_is_in_no_file_log_attribute_graph_or_pickle(given, stub, tmp_path, monkeypatch, caplog, capfd):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ALYX_LOGIN", "ALYX_PWD", "ALYX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    login = {"token": {"token": TOKEN}, "password": LOGIN}.get(given, {})
    if given == "environment":
        monkeypatch.setenv("ALYX_TOKEN", TOKEN)
    caplog.set_level(logging.DEBUG)
    root, cache = tmp_path / "root", tmp_path / "cache"

    source = cubes.source("openalyx", base_url=stub.url, cache=cache, **login)
    plan = cubes.plan(source, [PID], PRODUCTS, root=root)
    cubes.build(plan)
    cubes.build(cubes.plan(source, [PID], root=tmp_path / "linked", link=["lf"]))
    cubes.catalog(root).add_source(source, [PID])
    with pytest.raises(CubesError) as missing:
        source.insertion("11111111-1111-4111-8111-111111111111")
    stub.status = 500
    with pytest.raises(CubesError) as refused:
        source.insertion(SAMPLE[1].pid)
    stub.status = None
    assert run(["info", str(root / "insertions" / PID / "ap.zarr"), "--json"]) == 0

    remote = cubes.open_remote(PID, "lf", source=source).chunk(time=2500)
    tree, linked = cubes.open(root, PID), cubes.open(tmp_path / "linked", PID)
    values = [remote, tree["counts_20ms"].to_dataset(), tree["ap"].to_dataset(), linked["lf"].to_dataset()]
    values += [dict(value.__dask_graph__()) for value in values]
    values += [source.insertion(PID), source.datasets(source.insertion(PID)), cubes.presence(source, [PID])]
    for value in values:
        assert not leaks(cloudpickle.dumps(value))
    said = [plan, plan.to_dict(), source, missing.value, refused.value, caplog.text, capfd.readouterr()]
    said += [remote.attrs, remote.lf.attrs, *(child.attrs for child in tree.children.values())]
    assert not leaks(repr(said).encode() + str(plan).encode())
    assert len(list(root.rglob("*"))) > 100
    assert any(path.suffix == ".npy" for path in cache.rglob("*"))
    folders = [root, tmp_path / "linked", cache]
    if given != "password":  # for a password ONE saves the token that it gets
        folders.append(tmp_path / "home")
    for folder in folders:
        assert leaking_files(folder) == []


def test_a_leak_would_be_found(tmp_path):
    (tmp_path / "a").write_text(f"Authorization: Token {TOKEN}")
    assert leaking_files(tmp_path) == [tmp_path / "a"]
