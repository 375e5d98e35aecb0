"""What the benchmarks share: time, private memory, sizes, and runs that take turns in processes of their own.

Only the standard library: the peers of `benchmarks/peers` import it in their own environments.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Run = dict[str, float]
Name = TypeVar("Name")

_PART: list[float] = []


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def timed() -> Iterator[None]:
    """Marks the part of a method that counts, where that is not the whole."""
    start = time.perf_counter()
    yield
    _PART.append(time.perf_counter() - start)


def timed_part() -> float | None:
    """Seconds of the latest `timed` part, once."""
    part = _PART[-1] if _PART else None
    _PART.clear()
    return part


@contextmanager
def peak_memory(*, children: bool = False) -> Iterator[Callable[[], int]]:
    """Sample the private memory of this process; yields a function that gives the peak over the start, in bytes.

    With `children` those of all processes below it are added: pages that they share count more than once.
    """

    def private() -> int:
        return sum(_rss_anon(pid) for pid in (_tree() if children else ["self"]))

    before, peak, stop = private(), [0], threading.Event()

    def sample() -> None:
        while not stop.wait(0.01 if children else 0.002):
            peak[0] = max(peak[0], private() - before)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        stop.set()
        thread.join()


def _rss_anon(pid: str) -> int:
    try:
        status = Path("/proc", pid, "status").read_text()
    except OSError:  # it has ended
        return 0
    return 1024 * int(status.partition("RssAnon:")[2].split()[0]) if "RssAnon:" in status else 0


def _tree() -> list[str]:
    """This process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[folder.name] = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
    tree = [str(Path("/proc/self").resolve().name)]
    for pid in tree:  # grows while it is walked
        tree += [child for child, parent in parents.items() if parent == pid]
    return tree


def run_process(command: Sequence[str | Path]) -> Run:
    """Run a command whose last line of output is a measurement in JSON."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command}: {result.stderr}")
    return dict(json.loads(result.stdout.splitlines()[-1]))


def take_turns(commands: dict[Name, Sequence[str | Path]], rounds: int) -> dict[Name, list[Run]]:
    """Run every command once a round, so that a change of the machine's speed hits all alike."""
    results: dict[Name, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(run_process(command))
    return results


def ratio(reference: Iterable[Run], runs: Iterable[Run], key: str = "seconds") -> float:
    """Median over the rounds of how often `runs` fit into `reference`."""
    return statistics.median(a[key] / b[key] for a, b in zip(reference, runs, strict=True))


def median(runs: Iterable[Run], key: str = "seconds") -> float:
    """Median of one figure."""
    return statistics.median(run[key] for run in runs)


def spread(runs: Iterable[Run], key: str = "seconds", scale: float = 1.0, digits: int = 2) -> str:
    """Median of one figure, with the least and the greatest."""
    values = [run[key] * scale for run in runs]
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"
