"""How long to wait for a server, how often to ask again, and when to stop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from loaders.errors import SourceUnavailable

T = TypeVar("T")


class TransientError(Exception):
    """Something that may go well the next time: a busy server, a broken connection. Never leaves `loaders`."""

    def __init__(self, message: str, asked_s: float = 0.0) -> None:
        super().__init__(message)
        self.asked_s = asked_s


@dataclass(frozen=True, slots=True)
class Retry:
    """Patience with a server. Pauses grow twofold, are drawn from all lengths below (full jitter), and have a limit.

    Attributes
    ----------
    attempts : int
        Requests in all.
    first_s, longest_s : float, s
        Upper limits of the first pause and of any.
    longest_asked_s : float, s
        A server that asks for a longer pause than this (``Retry-After``) is given up at once.
    connect_s, stall_s : float, s
        How long to wait for a connection, and for the next byte.
    """

    attempts: int = 6
    first_s: float = 1.0
    longest_s: float = 60.0
    longest_asked_s: float = 300.0
    connect_s: float = 10.0
    stall_s: float = 30.0

    def pause_s(self, failures: int, asked_s: float = 0.0, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after so many failures: a random part of the backoff, on top of what the server asks for."""
        return asked_s + draw() * min(self.longest_s, self.first_s * 2.0 ** (failures - 1))

    def run(self, attempt: Callable[[], T], *, sleep: Callable[[float], object] = time.sleep) -> T:
        """The result of `attempt`, called again after each TransientError.

        Raises
        ------
        SourceUnavailable
            After the last attempt, or if the server asks for too long a pause.
        """
        failures = 0
        while True:
            try:
                return attempt()
            except TransientError as error:
                failures, asked_s = failures + 1, error.asked_s
                if failures >= self.attempts or asked_s > self.longest_asked_s:
                    times = "once" if failures == 1 else f"{failures} times"
                    later = f"in {asked_s:.0f} s" if asked_s else "later"
                    raise SourceUnavailable(f"{error} (tried {times}); try again {later}") from error
            sleep(self.pause_s(failures, asked_s))


DEFAULT_RETRY = Retry()
