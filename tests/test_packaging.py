"""What is installed, and what importing it costs."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

HEAVY = {
    "numpy",
    "pandas",
    "xarray",
    "zarr",
    "dask",
    "distributed",
    "one",
    "brainbox",
    "ibllib",
    "iblatlas",
    "numba",
    "matplotlib",
    "spikeglx",
}


def python(code, cwd, *options):
    return subprocess.run([sys.executable, *options, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


def modules_after(code, tmp_path):
    result = python(f"import sys\n{code}\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))", tmp_path, "-P")
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_import_cubes_loads_nothing_heavy(tmp_path):
    assert not modules_after("import cubes", tmp_path) & HEAVY


def test_help_loads_nothing_heavy(tmp_path):
    code = "import contextlib\nfrom cubes.cli import run\nwith contextlib.redirect_stdout(None): run(['-h'])"
    assert not modules_after(code, tmp_path) & (HEAVY - {"numpy"})


def test_building_loads_neither_one_nor_ibllib(tmp_path):
    loaded = modules_after("import cubes\ncubes.plan, cubes.build, cubes.open, cubes.bin", tmp_path)
    assert not loaded & {"one", "brainbox", "ibllib", "matplotlib", "spikeglx"}


def test_every_public_name_exists_and_is_documented():
    import cubes

    for name in cubes.__all__:
        documented = getattr(cubes, name)
        assert documented.__doc__, name
        if name.islower():
            assert "Examples\n" in documented.__doc__, name
            assert "Raises\n" in documented.__doc__, name
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        cubes.nonsense  # noqa: B018
    assert set(cubes.__all__) <= set(dir(cubes))


@pytest.mark.parametrize("name", ["loaders", "chunking"])
def test_a_file_of_the_user_that_shadows_ours_is_named(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("x = 1")
    result = python("import cubes", tmp_path)
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith(f"ImportError: cubes needs its own package '{name}' from ")
    assert str(tmp_path / f"{name}.py") in message


def test_the_wheel_has_the_three_packages_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"cubes", "chunking", "loaders"}
    for needed in ("cubes/py.typed", "chunking/py.typed", "loaders/py.typed", "loaders/sample_data/real_spikes.npz"):
        assert needed in names


def test_no_file_names_a_machine_or_a_registry():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    words = ["/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "py" + "pi.org", "files.python" + "hosted"]
    for name in filter(None, listed.split("\0")):
        path = REPOSITORY / name
        if path.suffix in {".npz", ".png"} or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        assert not [word for word in words if word in text], name
