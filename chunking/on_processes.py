"""Tasks on processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from chunking.completed import completed
from loaders.errors import StoreError

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def processes(
    workers: int, stop: threading.Event
) -> Iterator[Callable[[Callable[[Any], Any], Sequence[Any]], Generator[Any]]]:
    """An executor on new processes (spawn: a fork would inherit locks of threads that it does not have)."""
    with TemporaryDirectory(prefix="ibl-cubes-") as folder:
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin)
        try:
            yield partial(_run, pool, Path(folder), stop)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(
    pool: ProcessPoolExecutor,
    folder: Path,
    stop: threading.Event,
    task: Callable[[Item], Result],
    items: Sequence[Item],
) -> Generator[Result]:
    """The task goes to each worker once, through a file: what it has loaded there serves all its items."""
    shared = folder / uuid.uuid4().hex
    shared.write_bytes(pickle.dumps(task))
    futures = []
    try:
        futures = [pool.submit(_call, shared, item) for item in items]
        yield from completed(futures, stop)
    except BrokenProcessPool as error:
        raise StoreError(
            "executor processes: a worker ended in the middle of a task; most often the system killed it for want of "
            "memory. Use fewer workers; the same build goes on with what is complete"
        ) from error
    finally:
        wait(
            [future for future in futures if not future.cancel()]
        )  # nobody may write once the build has let go of the store
        shared.unlink()


def _begin() -> None:
    """Ctrl-C is for the process that builds; when that dies, this one must not go on writing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(shared: Path, item: Any) -> Any:
    return _load(shared)(item)


@lru_cache(maxsize=4)  # of small insertions, several are built at once
def _load(shared: Path) -> Callable[[Any], Any]:
    task: Callable[[Any], Any] = pickle.loads(shared.read_bytes())
    return task
