"""`make bench`: the environments of the peers, every benchmark of the page, and the page.

    python benchmarks/run_all.py [--only layouts raw ...] [--no-peers] [--data FOLDER]

Some 35 minutes on two cores, and 4 more the first time, for the environments. What fails, takes longer than its limit,
or has no peers because there is no network, is said on the page, and the rest goes on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import CACHE
from report import PAGE, RESULTS, Section, page, read_sections, write_section

HERE = Path(__file__).resolve().parent
SETUP_MINUTES = 4  # of one environment


@dataclass(frozen=True)
class Step:
    """One benchmark: the section that it writes, its command, the minutes that it may take, and more sections."""

    name: str
    script: str
    options: tuple[str, ...]
    minutes: float
    more: tuple[str, ...] = ()


STEPS = (
    Step("layouts", "bench_layouts.py", ("--minutes", "15", "--turns", "1", "--advice"), 17, ("defaults",)),
    Step("codecs", "bench_codecs.py", ("--rounds", "2"), 2),
    Step("engines", "bench_engines.py", ("--rounds", "1"), 4),
    Step("floors", "bench_floors.py", ("--rounds", "2"), 2),
    Step("paths", "bench_paths.py", ("--rounds", "2"), 2),
    Step("claims", "bench_claims.py", ("--rounds", "2"), 10),
    Step("counts", "bench_counts.py", ("--rounds", "1"), 2),
    Step("align", "bench_align.py", ("--rounds", "1", "--minutes", "20", "--events", "200"), 2),
    Step("raw", "bench_raw.py", ("--seconds", "8", "--rounds", "1"), 3),
    Step("bwm", "bwm_estimate.py", ("--rounds", "1"), 3),
)


def make_environments(python: str) -> None:
    """One environment a peer, where there is none yet; half of one is removed."""
    for script in sorted((HERE / "peers").glob("*.sh")):
        folder = script.with_name(f".venv-{script.stem}")
        if folder.exists():
            continue
        print(f"== environment of {script.stem}", flush=True)
        if reason := run(["sh", str(script)], SETUP_MINUTES, {"PYTHON": python}):
            shutil.rmtree(folder, ignore_errors=True)
            print(f"   not made: {reason}", flush=True)


def run(command: Sequence[str], minutes: float, variables: dict[str, str] | None = None) -> str:
    """Run a command, with all that it starts, for so long; gives the reason if it did not end well."""
    with subprocess.Popen(
        command, env=os.environ | (variables or {}), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            _, errors = process.communicate(timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            return f"it took longer than {minutes:g} minutes"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
    return "" if process.returncode == 0 else (errors.strip().splitlines() or ["it failed"])[-1]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=[step.name for step in STEPS], help="these; others stay as they are"
    )
    parser.add_argument("--no-peers", action="store_true", help="make no environments; use those that exist")
    parser.add_argument("--data", type=Path, default=CACHE, help="folder for the data of layouts; removed at the end")
    options = parser.parse_args()
    begin = time.perf_counter()
    if not options.only:
        shutil.rmtree(RESULTS, ignore_errors=True)  # the page is of one run
    if not options.no_peers:
        make_environments(sys.executable)
    for step in STEPS:
        if options.only and step.name not in options.only:
            continue
        for name in (step.name, *step.more):  # if it fails, nothing of an earlier run stays
            (RESULTS / f"{name}.json").unlink(missing_ok=True)
        more = ("--data", str(options.data)) if step.name == "layouts" else ()
        start = time.perf_counter()
        print(f"== {step.name}", end="", flush=True)
        reason = run([sys.executable, str(HERE / step.script), "--report", *step.options, *more], step.minutes)
        if reason:
            write_section(step.name, Section(step.name.capitalize(), f"Not measured: {reason}."), RESULTS)
        print(f": {reason or 'done'}, {(time.perf_counter() - start) / 60:.1f} min", flush=True)
    shutil.rmtree(options.data, ignore_errors=True)
    PAGE.write_text(page(read_sections(RESULTS)))
    print(f"{PAGE.name} after {(time.perf_counter() - begin) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
