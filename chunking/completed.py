"""The results of futures as they come, until somebody says stop."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Event
from typing import TypeVar

Result = TypeVar("Result")
_LOOK_EVERY_S = 0.1


def completed(futures: Sequence[Future[Result]], stop: Event) -> Generator[Result]:
    """The results in the order in which they come.

    Raises
    ------
    CancelledError
        Soon after `stop` was set.
    """
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    for _ in futures:
        yield _next(done, stop).result()


def _next(done: SimpleQueue[Future[Result]], stop: Event) -> Future[Result]:
    while not stop.is_set():
        with suppress(Empty):
            return done.get(timeout=_LOOK_EVERY_S)
    raise CancelledError
