"""Time as a value that tests can set."""

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        return time.monotonic()


class Timer(Protocol):
    """Something that will run, unless it is cancelled before."""

    def cancel(self) -> None:
        """Do not run it."""


Later = Callable[[float, Callable[[], None]], Timer]
"""Runs something after so many seconds."""
