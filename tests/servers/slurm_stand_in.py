"""Stand-ins for ``sbatch``, ``squeue`` and ``scancel``: the jobs are processes of this machine.

Run as a program it is the one that its first argument names.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Slurm:
    """The commands, in a folder that is to be made; `environment` is one in which they are found."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "jobs"
        self.state.mkdir(parents=True)
        for name in ("sbatch", "squeue", "scancel"):
            command = folder / name
            command.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{__file__}' {name} \"$@\"\n")
            command.chmod(0o755)
        path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = os.environ | {"PATH": path, "SLURM_STAND_IN": str(self.state)}

    def outputs(self) -> str:
        """What all jobs have printed."""
        return "\n".join(path.read_text() for path in sorted(self.state.glob("*.out")))

    def running(self) -> dict[str, int]:
        """The process of every job that runs, by ``<job>_<task>``."""
        return running(self.state)

    def cancel_all(self) -> None:
        """End what runs."""
        for process in self.running().values():
            os.killpg(process, signal.SIGKILL)


def running(state: Path) -> dict[str, int]:
    found = {path.name.removesuffix(".process"): int(path.read_text()) for path in sorted(state.glob("*.process"))}
    return {name: process for name, process in found.items() if _runs(process)}


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sbatch(state: Path, script: str) -> None:
    job = str(os.getpid())
    copy = shutil.copyfile(script, state / f"{job}.sh")  # whoever submits it may remove it at once
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)", copy.read_text(), re.MULTILINE))
    first, _, last = options.get("array", "0-0").partition("-")
    tasks = range(int(first), int(last) + 1)
    for task in tasks:
        name = state / f"{job}_{task}"
        name.mkdir()
        variables = {"SLURM_JOB_ID": job, "TMPDIR": str(name)}
        variables |= {"SLURM_CPUS_PER_TASK": options.get("cpus-per-task", "1")}
        variables |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(len(tasks))}
        with name.with_suffix(".out").open("w") as out:
            process = subprocess.Popen(
                ["bash", copy], stdout=out, stderr=out, env=os.environ | variables, start_new_session=True
            )
        partial = name.with_suffix(".partial")
        partial.write_text(str(process.pid))
        partial.rename(name.with_suffix(".process"))
    print(f"Submitted batch job {job}")


def scancel(state: Path, job: str) -> None:
    for name, process in running(state).items():
        if job in (name, name.partition("_")[0]):
            os.killpg(process, signal.SIGTERM)


def squeue(state: Path) -> None:
    for name in running(state):
        print(name)


if __name__ == "__main__":
    jobs = Path(os.environ["SLURM_STAND_IN"])
    match sys.argv[1]:
        case "sbatch":
            sbatch(jobs, sys.argv[-1])
        case "scancel":
            scancel(jobs, sys.argv[-1])
        case "squeue":
            squeue(jobs)
