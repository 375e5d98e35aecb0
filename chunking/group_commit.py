"""Parts that are finished while the disk is busy are committed together: one wait for all of them.

A disk takes about as long for the files of twenty parts as for those of one, and a journal for twenty lines as for one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from chunking.manifest import Files

_GATHER_S = 0.2  # for which the first part of a group waits for others: what a kill may lose of small parts


@contextmanager
def group_commit(commit: Callable[[dict[str, Files]], None]) -> Iterator[Callable[[str, Files], None]]:
    """Commit parts on a thread, in order, as many at a time as there are.

    Parameters
    ----------
    commit : callable
        Takes parts and their files; when it returns, they are committed. It is called for one group at a time.

    Yields
    ------
    callable
        Takes a part and its files and does not wait. At the end all of them are committed, after an error or an
        interruption too. An error of `commit` is raised by one of the next calls, or at the end.

    Examples
    --------
    >>> journal = {}
    >>> with group_commit(journal.update) as keep:
    ...     keep("a", {})
    ...     keep("b", {})
    >>> list(journal)
    ['a', 'b']
    """
    waiting: deque[tuple[str, Files]] = deque()
    commits: deque[Future[None]] = deque()

    ending = Event()

    def commit_waiting() -> None:
        if waiting:
            ending.wait(_GATHER_S)
        if parts := dict(waiting.popleft() for _ in range(len(waiting))):
            commit(parts)

    def keep(part: str, files: Files) -> None:
        waiting.append((part, files))
        commits.append(pool.submit(commit_waiting))
        while commits and commits[0].done():
            commits.popleft().result()

    with ThreadPoolExecutor(1) as pool:
        try:
            yield keep
        finally:
            ending.set()
    for done in commits:
        done.result()
