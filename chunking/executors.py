"""Where the tasks of a build run: in this thread, on threads, on processes, or on a dask cluster.

The same tasks, the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any, TypeVar

from chunking.completed import completed
from chunking.on_dask import dask_client, refuse_small_workers, run_on_dask
from chunking.on_processes import processes
from loaders.errors import BadArgument

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Executor:
    """Called with a task and items, it runs the task on every item and yields the results as they come.

    Closed early, it drops what has not begun. It may be called from several threads at once.

    Attributes
    ----------
    run : callable
    stop : callable
        Lets every call, on whatever thread, end soon with CancelledError.
    """

    run: Callable[[Callable[[Any], Any], Sequence[Any]], Generator[Any]]
    stop: Callable[[], None] = lambda: None

    def __call__(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Generator[Any]:
        """Run the task on every item."""
        return self.run(task, items)


NAMES = ("serial", "threads", "processes", "dask")


@contextmanager
def open_executor(name: str, workers: int, task_bytes: int = 0) -> Iterator[Executor]:
    """An executor by name.

    Parameters
    ----------
    name : str
        ``serial``, ``threads``, ``processes``, ``dask`` (a cluster of processes on this machine, for as long as the
        build takes), or the address of a dask scheduler, such as ``tcp://10.0.0.1:8786``, whose workers see the same
        files.
    workers : int
        Threads or processes.
    task_bytes : int
        The most that a task holds, to be compared with the memory of the workers of a cluster.

    Raises
    ------
    BadArgument
        If there is no such executor.
    SourceUnavailable
        If the scheduler does not answer, or has no workers for a minute.
    PlanRefused
        If a worker of a cluster has too little memory.
    """
    if workers < 1:
        raise BadArgument(f"workers: expected at least 1, got {workers}")
    stop = Event()
    if name == "serial":
        yield Executor(run_serially)
    elif name == "threads":
        with ThreadPoolExecutor(workers) as pool:
            yield Executor(partial(_run_on_threads, pool, stop), stop.set)
    elif name == "processes":
        with processes(workers, stop) as run:
            yield Executor(run, stop.set)
    elif name == "dask" or "://" in name:
        with dask_client(name, workers) as client:
            refuse_small_workers(client, task_bytes)
            yield Executor(partial(run_on_dask, client, stop), stop.set)
    else:
        raise BadArgument(
            f"executor: expected one of {', '.join(NAMES)}, or the address of a dask scheduler such as "
            f"tcp://10.0.0.1:8786, got {name!r}"
        )


def run_serially(task: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result]:
    """One task after another."""
    for item in items:
        yield task(item)


def _run_on_threads(
    pool: ThreadPoolExecutor, stop: Event, task: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Result]:
    futures = [pool.submit(task, item) for item in items]
    try:
        yield from completed(futures, stop)
    finally:
        wait([future for future in futures if not future.cancel()])  # nobody may write once the store is let go
