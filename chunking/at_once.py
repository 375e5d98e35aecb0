"""Several insertions at once: while one waits for its disk, the workers have tasks of the others.

Only small ones: a large insertion keeps all workers busy by itself, and would fill the memory beside others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_at_once(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    sizes: Sequence[int],
    *,
    most: int,
    most_bytes: int,
    stop: Callable[[], None],
) -> list[Result]:
    """The results of a function, in the order of the items; it runs on threads, the items begin in their order.

    After an error no other item begins; those that have begun come to their end, and then it is raised.

    Parameters
    ----------
    function : callable
    items : sequence
    sizes : sequence of int, bytes
        Of each item.
    most : int
        How many run at once. If it is 1, they run in this thread.
    most_bytes : int
        How large those that run at once may be together; a larger one runs alone.
    stop : callable
        Lets the function end early; called when this is interrupted.

    Examples
    --------
    >>> map_at_once(abs, [-1, -2, -3], [5, 5, 20], most=2, most_bytes=10, stop=print)
    [1, 2, 3]
    """
    if most == 1 or len(items) == 1:
        return [function(item) for item in items]
    futures: list[Future[Result]] = []
    running: dict[Future[Result], int] = {}
    with ThreadPoolExecutor(most, thread_name_prefix="ibl-cubes") as pool:
        try:
            for item, size in zip(items, sizes, strict=True):
                while running and (len(running) == most or sum(running.values()) + size > most_bytes):
                    _take_one_or_more(running)
                future = pool.submit(function, item)
                futures.append(future)
                running[future] = size
            return [future.result() for future in futures]
        except (KeyboardInterrupt, SystemExit):
            stop()
            raise


def _take_one_or_more(running: dict[Future[Result], int]) -> None:
    """Wait until something is done; raises its error."""
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
        future.result()
