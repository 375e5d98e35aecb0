"""Where the tasks of a build run: in this thread, on threads, or on a dask cluster. The same tasks, the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from loaders.errors import BadArgument, SourceUnavailable

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")
Executor = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Runs a task on every item and yields the results as they come. An error or Ctrl-C drops what has not begun."""

NAMES = ("serial", "threads", "dask")
_QUEUED = 4  # tasks that the scheduler holds for each thread of the cluster: it stays small, no thread waits
_WORKERS_TIMEOUT_S = 60


@contextmanager
def open_executor(name: str, workers: int) -> Iterator[Executor]:
    """An executor by name.

    Parameters
    ----------
    name : str
        ``serial``, ``threads``, ``dask`` (a cluster of processes on this machine, for as long as the build takes), or
        the address of a dask scheduler, such as ``tcp://10.0.0.1:8786``, whose workers see the same files.
    workers : int
        Threads, or processes of the ``dask`` cluster.

    Raises
    ------
    BadArgument
        If there is no such executor.
    SourceUnavailable
        If the scheduler does not answer, or has no workers for a minute.
    """
    if workers < 1:
        raise BadArgument(f"workers: expected at least 1, got {workers}")
    if name == "serial":
        yield run_serially
    elif name == "threads":
        yield partial(_run_on_threads, workers)
    elif name == "dask" or "://" in name:
        with _client(name, workers) as client:
            yield partial(_run_on_dask, client)
    else:
        raise BadArgument(
            f"executor: expected one of {', '.join(NAMES)}, or the address of a dask scheduler such as "
            f"tcp://10.0.0.1:8786, got {name!r}"
        )


def run_serially(task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """One task after another."""
    for item in items:
        yield task(item)


def _run_on_threads(workers: int, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    pool = ThreadPoolExecutor(workers)
    try:
        for future in as_completed([pool.submit(task, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _client(name: str, workers: int) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    if name == "dask":
        local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, **local) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(name, timeout=_WORKERS_TIMEOUT_S)
        client.wait_for_workers(1, timeout=_WORKERS_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise SourceUnavailable(f"executor {name}: no dask scheduler with workers answers there ({error})") from error
    with client:
        yield client


def _run_on_dask(client: Client, task: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The task goes to each worker once; a bounded number of items is with the scheduler at any time."""
    from distributed import as_completed as completed

    shared = client.scatter(task, hash=False)
    waiting = iter(items)
    room = _QUEUED * max(sum(client.nthreads().values()), 1)
    queue = completed([_submit(client, shared, item) for item in islice(waiting, room)])
    try:
        for future in queue:
            result = future.result()
            for item in islice(waiting, 1):
                queue.add(_submit(client, shared, item))
            yield result
    finally:
        client.cancel(list(queue.futures))


def _submit(client: Client, shared: Any, item: Any) -> Any:
    return client.submit(_call, shared, item, pure=False)


def _call(task: Callable[[Item], Result], item: Item) -> Result:
    return task(item)
