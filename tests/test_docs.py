"""Every example in the docstrings and in the README runs."""

import doctest
import importlib
import re
import shutil
from pathlib import Path

import pytest

import cubes
from loaders.sample import PIDS

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    for package in ("cubes", "chunking", "loaders")
    for path in (REPOSITORY / package).glob("*.py")
    if re.search(r">>> (?!.*\+SKIP)", path.read_text()) and path.name != "__init__.py"
)


@pytest.fixture
def here(sample_root, tmp_path, monkeypatch):
    """A folder with the sample and its cubes, as the examples expect."""
    shutil.copytree(sample_root, tmp_path / "sample")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["cubes", *MODULES])
def test_examples_in_docstrings(here, name):
    cubes.build(cubes.plan(cubes.source("one", "sample"), PIDS[:1], root="my-cubes"))
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), extraglobs={"pid": PIDS[0]}, optionflags=options)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_python_of_the_readme(here):
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    assert names["ca1"].sizes["unit"] > 0
    assert names["counts"].sizes["unit"] == names["thalamus"].sizes["unit"] > 0


def test_the_commands_of_the_readme(here, capsys):
    from cubes.cli import run

    shutil.rmtree(here / "sample")
    text = (REPOSITORY / "README.md").read_text()
    lines = re.findall(r"^(cubes .*?) *(?:#.*)?$", text, re.MULTILINE)
    assert len(lines) == 10
    for line in lines:
        assert run([*line.split()[1:], *(["--no-voltage"] if " sample sample" in line else [])]) == 0, line


def test_no_placeholder_is_left_in_the_pages():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        assert not re.findall(r"\bTODO\b|\bBENCH_\w+", (REPOSITORY / page).read_text()), page


def test_pictures_and_links_of_the_readme_exist():
    for page in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)]+)\)", (REPOSITORY / page).read_text()):
            assert target.startswith("https://") or (REPOSITORY / target).exists(), target
