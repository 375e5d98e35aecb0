"""Tasks on a dask cluster, whose workers may die.

Every task writes the same bytes whenever and wherever it runs, so dask may run it again. What is finished is in the
journal of the build and not in the cluster: after the loss of a cluster, a build on another one goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from chunking.plan import human_bytes
from loaders.errors import PlanRefused, SourceUnavailable, StoreError

if TYPE_CHECKING:
    from distributed import Client, Future

Item = TypeVar("Item")
Result = TypeVar("Result")


class ClusterLost(SourceUnavailable):
    """The cluster is gone, for all insertions; what is complete is kept."""


_QUEUED = 4  # tasks that the scheduler holds for each thread of the cluster: it stays small, no thread waits
_WORKERS_TIMEOUT_S = 50.0
_LOOK_EVERY_S = 1.0
_DEATHS = 10  # of workers with one task, on a cluster of our own, before the task is blamed; dask has 3
_RETRIES = 2  # of a task that fails
_NO_PROFILE = {"distributed.worker.profile.enabled": False}
"""The profiler of a worker keeps a thousand seconds: 0.2 to 0.3 MB each."""


@contextmanager
def dask_client(name: str, workers: int) -> Iterator[Client]:
    """A client of the scheduler at an address; or, if `name` is ``dask``, of a new cluster on this machine.

    Raises
    ------
    SourceUnavailable
        If no scheduler with workers answers at the address.
    """
    import dask
    from distributed import Client, LocalCluster

    if name == "dask":
        local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}  # the default dashboard is open to all
        with (
            dask.config.set({"distributed.scheduler.allowed-failures": _DEATHS, **_NO_PROFILE}),
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


def refuse_small_workers(client: Client, task_bytes: int) -> None:
    """Raise PlanRefused if a worker of the cluster has less memory than its threads, each with a task, may hold."""
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        limit, threads = worker["memory_limit"], worker["nthreads"]
        if limit and threads * task_bytes > limit:  # 0 is no limit
            raise PlanRefused(
                f"executor dask: its worker {address} may use {human_bytes(limit)}, and its {threads} threads hold up "
                f"to {human_bytes(task_bytes)} each; give the workers more memory or fewer threads, or use another "
                "layout"
            )


def run_on_dask(
    client: Client, stop: Event, task: Callable[[Item], Result], items: Sequence[Item]
) -> Generator[Result]:
    """The task goes to each worker once; a bounded number of items is with the scheduler at any time.

    Raises
    ------
    StoreError
        If workers die again and again of one task.
    ClusterLost
        If the cluster has had no workers for a minute, or is gone.
    CancelledError
        Soon after `stop` was set.
    """
    from distributed import as_completed

    # The result of a task, which dask makes again when its worker dies; scattered data would be lost.
    shared = client.submit(_itself, task, pure=False)
    waiting = iter(items)
    room = _QUEUED * max(sum(client.nthreads().values()), 1)
    queue = as_completed([_submit(client, shared, item) for item in islice(waiting, room)])
    try:
        while _wait(client, queue, stop):
            result = _result(next(queue))
            for item in islice(waiting, 1):
                queue.add(_submit(client, shared, item))
            yield result
    finally:
        if client.status == "running":
            client.cancel(list(queue.futures))


def _submit(client: Client, shared: Any, item: Any) -> Any:
    return client.submit(_call, shared, item, pure=False, retries=_RETRIES)


def _wait(client: Client, queue: Any, stop: Event) -> bool:
    """Return when a task is done, or False when there are none; raise if there is nobody to do them."""
    seen = looked = time.monotonic()
    while stop.is_set() or not queue.has_ready():
        if stop.is_set():
            raise CancelledError
        if queue.is_empty():
            return False
        with queue.thread_condition:
            queue.thread_condition.wait(0.1)
        if (now := time.monotonic()) < looked + _LOOK_EVERY_S:
            continue
        looked = now
        if _has_workers(client):
            seen = now
        elif now > seen + _WORKERS_TIMEOUT_S:
            raise ClusterLost(
                f"executor dask: the cluster has had no workers for {_WORKERS_TIMEOUT_S:.0f} s; what is complete is "
                "kept: build again with a cluster that has workers, and it goes on"
            )
    return True


def _has_workers(client: Client) -> bool:
    try:
        return bool(client.nthreads())
    except (OSError, TimeoutError):  # the scheduler is gone, or the client is connecting again
        return False


def _result(future: Future[Any]) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise StoreError(
            f"executor dask: {error.allowed_failures + 1} workers died of one task; most often for want of memory. "
            "Give the workers more memory or fewer threads; what is complete is kept, and building again goes on"
        ) from error
    except CancelledError as error:
        raise ClusterLost(
            f"executor dask: the scheduler is gone or dropped the tasks ({error}); what is complete is kept: build "
            "again with a cluster that runs, and it goes on"
        ) from error


def _itself(task: Callable[[Item], Result]) -> Callable[[Item], Result]:
    return task


def _call(task: Callable[[Item], Result], item: Item) -> Result:
    return task(item)
