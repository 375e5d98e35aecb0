"""Progress of a build on standard error: bars in a terminal; elsewhere a line a store, and more of those that last."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from threading import current_thread, main_thread
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from chunking.build import Progress
    from chunking.plan import StorePlan

EVERY_S = 30.0
"""Seconds between the lines of a store."""

_LABELS_BYTES = 1_000_000  # what the labels of a store count for among bytes: they take time, too


class Bar:
    """Shows what `cubes.build` reports, for as long as it is entered.

    Parameters
    ----------
    stores : sequence of StorePlan
        Those that are to be built, in order; with them there is a bar for all.
    console : Console, optional
        By default standard error.
    clock : callable
        Gives seconds.
    """

    def __init__(
        self,
        stores: Sequence[StorePlan] = (),
        console: Console | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.progress import Progress as Bars

        self._console = console or Console(stderr=True)
        self._clock = clock
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TransferSpeedColumn())
        bars = (*columns, TimeRemainingColumn(elapsed_when_finished=True))
        self._bars = Bars(*bars, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._before: dict[tuple[str, str], tuple[int, int]] = {}  # what comes before a store: stores and bytes
        total = 0
        for number, store in enumerate(stores):
            self._before[store.pid, store.product] = number, total
            total += store.nbytes + _LABELS_BYTES
        self._all = self._bars.add_task("", total=total) if len(stores) > 1 else None
        self._this: _Store | None = None
        self._interrupted, self._handler = False, signal.getsignal(signal.SIGINT)

    def __enter__(self) -> Bar:
        if current_thread() is main_thread():  # the only one that may
            signal.signal(signal.SIGINT, self._interrupt)
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, self._handler)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        print(line, flush=True)

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def update(self, event: Progress) -> None:
        """Show the progress of one store; after Ctrl-C, say so once more."""
        if self._interrupted:  # and somebody ignored it, such as a library that tries to import another
            raise KeyboardInterrupt
        if self._this is None or self._this.key != (event.pid, event.product):
            if self._this is not None:
                self._bars.remove_task(self._this.bar)
            size = event.nbytes + _LABELS_BYTES
            bar = self._bars.add_task(f"{event.pid[:8]} {event.product}", total=size)
            self._this = _Store((event.pid, event.product), bar, self._clock(), event)
        this = self._this
        part = round((event.nbytes + _LABELS_BYTES) * event.done / event.total)
        self._bars.update(this.bar, completed=part)
        if self._all is not None and this.key in self._before:
            number, before = self._before[this.key]
            named = f"store {number + 1} of {len(self._before)}"
            self._bars.update(self._all, completed=before + part, description=named)
        if not self._console.is_terminal and (line := this.line(event, self._clock())):
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)


class _Store:
    """One store that is being built."""

    def __init__(self, key: tuple[str, str], bar: TaskID, now: float, first: Progress) -> None:
        self.key, self.bar = key, bar
        self._begun = self._said = now
        self._first = first.done  # an earlier build may have done some

    def line(self, event: Progress, now: float) -> str:
        """What is to be said of it now, in words; bytes are those of its arrays without compression."""
        seconds = max(now - self._begun, 1e-3)
        built = event.nbytes * (event.done - self._first) / event.total
        name = f"{event.pid} {event.product}"
        if event.done == event.total:
            return f"{name}: {_finished(event.nbytes, built / seconds, seconds)}"
        if now - self._said < EVERY_S:
            return ""
        self._said = now
        from chunking.plan import human_bytes, human_seconds

        left_s = seconds * (event.total - event.done) / max(event.done - self._first, 1)
        rate = f", {human_bytes(built / seconds)}/s" if event.nbytes else ""
        return f"{name}: {event.done / event.total:.0%}{rate}, about {human_seconds(left_s)} left"


def _finished(nbytes: int, rate: float, seconds: float) -> str:
    from chunking.plan import human_bytes

    if not nbytes:
        return f"labels in {seconds:.1f} s"
    return f"{human_bytes(nbytes)} in {seconds:.1f} s, {human_bytes(rate)}/s"
