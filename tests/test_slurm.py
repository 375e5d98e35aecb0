"""The page on SLURM: its own code, on stand-ins for the commands of SLURM."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from slurm_stand_in import Slurm

import cubes
from loaders.sample import SAMPLE

PAGE = (Path(__file__).resolve().parent.parent / "docs/slurm.md").read_text()
PIDS = [probe.pid for probe in SAMPLE]
ARRAY, WORKERS = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
(SCRIPT,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SPLIT = next(line for line in ARRAY.splitlines() if line.startswith("split"))
PRODUCTS = {"spikes", "channels", "counts_20ms"}


@pytest.fixture
def slurm(sample_root, tmp_path, monkeypatch):
    """A folder with the sample, in which jobs are submitted; none outlives the test."""
    monkeypatch.chdir(tmp_path)
    Path("sample").symlink_to(sample_root)
    Path("pids.txt").write_text("\n".join(PIDS))
    slurm = Slurm(tmp_path / "slurm")
    yield slurm
    slurm.cancel_all()


@pytest.fixture
def voltage(slurm, sample_root_with_voltage):
    """Also with the voltage of the sample."""
    Path("sample").unlink()
    Path("sample").symlink_to(sample_root_with_voltage)


def small(text):
    """The page's code for this machine: two jobs and the loopback."""
    for page, here in (("ib0", "lo"), (":8787", ":0"), ("1-20", "1-2"), ("1-8", "1-3"), ("jobs=20", "jobs=2")):
        text = text.replace(page, here)
    return text


def submit(slurm, text):
    Path("job.sh").write_text(text)
    done = subprocess.run(["sbatch", "job.sh"], env=slurm.environment, capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def built():
    return {f"{path.parent.name}/{path.stem}" for path in Path("my-cubes").glob("insertions/*/*.zarr")}


def test_an_array_of_jobs_builds_all(slurm):
    submit(slurm, small(ARRAY))
    until(lambda: not slurm.running())
    assert built() == {f"{pid}/{product}" for pid in PIDS for product in PRODUCTS}, slurm.outputs()
    assert "error" not in slurm.outputs()
    assert not any(cubes.verify("my-cubes").values())


def test_jobs_with_the_same_list_build_each_store_once(slurm):
    whole = small(ARRAY).replace(SPLIT, 'cp pids.txt "$TMPDIR"').replace("cubes build", "cubes build --json")
    submit(slurm, whole.replace("cubes build", "until [ -e go ]; do sleep 0.05; done; cubes build") + "echo exit $?\n")
    until(lambda: len(slurm.running()) == 3)
    Path("go").touch()
    until(lambda: not slurm.running())
    assert slurm.outputs().count("exit 0") == 3, slurm.outputs()
    said = [json.loads(text) for text in re.findall(r"^{.*?^}", slurm.outputs(), re.MULTILINE | re.DOTALL)]
    paths = [path for report in said for path in report["built"]]
    assert len(paths) == len(set(paths)) == len(PIDS) * len(PRODUCTS)
    assert [len(report["built"]) + report["skipped"] for report in said] == [len(paths)] * 3
    assert not any(cubes.verify("my-cubes").values())


def test_what_a_cancelled_job_leaves_another_builds(slurm):
    whole = small(ARRAY).replace(SPLIT, 'cp pids.txt "$TMPDIR"').replace("--products", "--products counts_1ms")
    job = submit(slurm, whole.replace("1-3", "1-1"))
    until(lambda: list(Path("my-cubes/.staging").glob("*.holder.json")))
    submit(slurm, whole.replace("1-3", "1-1"))
    subprocess.run(["scancel", job], env=slurm.environment, check=True)
    until(lambda: not slurm.running())
    assert built() == {f"{pid}/{product}" for pid in PIDS for product in (*PRODUCTS, "counts_1ms")}, slurm.outputs()
    assert not any(cubes.verify("my-cubes").values())


def listening(process):
    """Addresses on which a process and those below it listen."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        try:
            found |= {c.laddr.ip for c in one.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return found


def test_one_build_on_the_jobs_of_a_dask_cluster(slurm, voltage):
    pytest.importorskip("dask_jobqueue", exc_type=ImportError)
    Path("build.py").write_text(small(SCRIPT))
    # dask-jobqueue puts it into the script of a job as it is, and the folder of the environment may have a space.
    python = {"DASK_JOBQUEUE__SLURM__PYTHON": repr(shlex.quote(sys.executable))}
    addresses, end = set(), time.monotonic() + 200
    with subprocess.Popen(
        [sys.executable, "build.py"], env=slurm.environment | python, stdout=subprocess.PIPE, text=True
    ) as run:
        while run.poll() is None:
            if time.monotonic() > end:
                run.kill()  # or leaving would wait for it
            for process in (run.pid, *slurm.running().values()):
                if psutil.pid_exists(process):
                    addresses |= listening(psutil.Process(process))
            time.sleep(0.2)
        output = run.stdout.read()
    assert run.returncode == 0, slurm.outputs()
    done = {f"{pid}/{product}" for pid in PIDS[:2] for product in ("lf", "spikes")}  # the third has no LF
    assert built() == done, slurm.outputs()
    assert f"{len(done)} stores were built; failed: {{'{PIDS[2]}': " in output
    assert addresses == {"127.0.0.1"}
    until(lambda: not slurm.running(), 20)
    assert not any(cubes.verify("my-cubes").values())


def test_a_scheduler_and_workers_from_scripts(slurm, voltage):
    scheduler, _, command = re.findall(r"^((?:dask|sbatch|cubes) .*?)(?: &)?$", PAGE.rpartition("```console")[2], re.M)
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", *small(scheduler).split()[2:]]
    scheduler[scheduler.index("8786")] = "0"
    with subprocess.Popen(scheduler, env=slurm.environment, stderr=subprocess.DEVNULL) as running:
        try:
            until(Path("scheduler.json").exists)
            submit(slurm, small(WORKERS))
            address = json.loads(Path("scheduler.json").read_text())["address"]
            command = command.replace("tcp://10.0.0.1:8786", address)
            done = subprocess.run(command.split(), env=slurm.environment, capture_output=True, text=True, check=False)
            assert done.returncode == 1, done.stderr
            assert listening(psutil.Process(running.pid)) == {"127.0.0.1"}
        finally:
            running.terminate()
    assert built() == {f"{pid}/lf" for pid in PIDS[:2]}, done.stderr + slurm.outputs()
    assert f"pid {PIDS[2]}" in done.stderr


def test_environment_of_the_jobs_is_that_of_the_page(slurm):
    assert {"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_CPUS_PER_TASK", "TMPDIR"} == set(
        re.findall(r"\$([A-Z_]+)", ARRAY)
    )
    submit(slurm, "#!/bin/bash\n#SBATCH --array=1-2\n[ $SLURM_ARRAY_TASK_COUNT = 2 ] && echo in $TMPDIR")
    until(lambda: not slurm.running())
    assert slurm.outputs().count("in " + os.fspath(slurm.state)) == 2
