"""Every example in the docstrings and in the README runs."""

import ast
import doctest
import importlib
import inspect
import os
import re
import shutil
from pathlib import Path

import pytest

import cubes
from cubes.sources import KINDS
from loaders.sample import PIDS

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()
RELEASED = "56f2a378-78d2-4132-b3c8-8c1ba82be598"
COMMANDS = {
    "status",
    "sample",
    "plan",
    "build",
    "ls",
    "info",
    "verify",
    "repair",
    "advise",
    "rechunk",
    "releases",
    "catalog",
    "find",
    "presence",
    "gc",
}
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for package in ("cubes", "chunking", "loaders")
    for path in (REPOSITORY / package).glob("*.py")
    if re.search(r">>> (?!.*\+SKIP)", path.read_text()) and path.name != "__init__.py"
)


@pytest.fixture
def here(sample_root_with_voltage, tmp_path, monkeypatch):
    """A folder with the sample, as the examples expect."""
    shutil.copytree(sample_root_with_voltage, tmp_path / "sample", copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["cubes", *MODULES])
def test_examples_in_docstrings(here, name):
    cubes.build(cubes.plan(cubes.source("one", "sample"), PIDS[:1], root="my-cubes"))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), extraglobs={"pid": PIDS[0]}, optionflags=options)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.fixture(scope="module")
def endpoint(sample_root_with_voltage, tmp_path_factory):
    """The address of a local S3 that is laid out as the public bucket and holds the sample with voltage."""
    from alyx_stub import server_tree
    from s3_server import public_bucket

    with public_bucket(server_tree(sample_root_with_voltage, tmp_path_factory.mktemp("served"))) as endpoint:
        yield endpoint


@pytest.fixture
def network(here, endpoint, monkeypatch):
    """The local S3 in the place of the public bucket, and one probe of the sample as the first of the release."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("IBL_CUBES_CACHE", str(here / "cache"))
    real = cubes.release
    first = cubes.source("one", "sample").insertion(PIDS[0])

    def release(name):
        table = real(name)
        if name == "2023_12_bwm_release":
            assert table.pid[0] == RELEASED
            table = table.head(1).assign(**{column: getattr(first, column) for column in ("subject", "lab", "date")})
            table = table.assign(eid=first.eid, probe=first.probe, number=first.number)
        return table

    monkeypatch.setattr(cubes, "release", release)
    monkeypatch.setattr("loaders.releases.release", release)


def test_the_python_of_the_readme(here, network):
    names = {}
    first, events, second = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(first, names)
    assert names["ca1"].sizes["unit"] > 0
    assert names["counts"].sizes["unit"] == names["thalamus"].sizes["unit"] > 0
    assert list(names["many"].children) == names["rates"].pid.values.tolist() == [names["pid"]]
    exec(events, names)
    assert names["aligned"].counts.dims == ("unit", "trial", "time")
    assert names["rate"]["mean"].attrs["units"] == "Hz"
    exec(second, names)
    assert names["pid"] == RELEASED
    streamed, window = cubes.open("my-cubes", RELEASED)["ap"].ap, {"channel": slice(9), "time": slice(999)}
    assert streamed.isel(window).equals(names["ap"].isel(window))
    assert (here / "ibl-cache").is_dir()
    assert not [path for path in here.rglob("*.cbin") if not path.is_relative_to(here / "sample")]


def test_the_commands_of_the_readme(here, network):
    from cubes.cli import run

    shutil.rmtree(here / "sample")
    lines = re.findall(r"^cubes (.*?) *(?:#.*)?$", README, re.MULTILINE)
    assert {line.split()[0] for line in lines} == COMMANDS
    for line in lines:
        assert run([*line.split(), *(["--no-voltage"] if line == "sample sample" else [])]) == 0, line
    built = {path.relative_to("my-cubes/insertions").as_posix() for path in Path("my-cubes").rglob("*.zarr")}
    assert built >= {f"{RELEASED}/lf.zarr", f"{PIDS[0]}/counts_5ms.zarr"}
    assert sum(path.endswith("counts_5ms.zarr") for path in built) == 1  # of those that were found


def test_code_that_the_notebook_only_shows_calls_what_exists(here):
    """Code for which a network or a login is needed: every function is there and takes these arguments."""
    page = (REPOSITORY / "notebooks/03_find_data.py").read_text()
    blocks = re.findall(r"# ```python\n(.*?)# ```", page, re.DOTALL)
    code = ast.parse("\n".join(line.removeprefix("# ") for block in blocks for line in block.splitlines()))
    homes = {"cubes": cubes, "catalog": cubes.catalog("my-cubes")}
    calls = [call for call in ast.walk(code) if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)]
    ours = [call for call in calls if getattr(call.func.value, "id", None) in homes]
    assert len(ours) == 13
    for call in ours:
        function, positional = getattr(homes[call.func.value.id], call.func.attr), call.args
        if function is cubes.source:
            function, positional = KINDS[call.args[0].value], call.args[1:]
        inspect.signature(function).bind(*positional, **{word.arg: word.value for word in call.keywords})


@pytest.mark.parametrize("package", ["cubes", "chunking", "loaders"])
def test_a_package_lists_its_modules(package):
    listed = re.findall(r"^``(\w+)``", importlib.import_module(package).__doc__, re.MULTILINE)
    modules = {path.stem for path in (REPOSITORY / package).glob("*.py")} - {"__init__", "__main__"}
    assert sorted(listed) == sorted(modules)


def test_no_placeholder_is_left_in_the_pages():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/slurm.md", "docs/choosing-a-layout.md"):
        assert not re.findall(r"\bTODO\b|\bBENCH_\w+", (REPOSITORY / page).read_text()), page


def test_pictures_and_links_of_the_readme_exist():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)]+)\)", (REPOSITORY / page).read_text()):
            assert target.startswith("https://") or (REPOSITORY / target).exists(), target
