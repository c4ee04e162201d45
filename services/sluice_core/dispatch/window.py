"""Pure: how many jobs of a lane are worth holding while a limit refuses some of them, as TCP sizes its window."""

from dataclasses import dataclass
from typing import Final

UNBOUNDED: Final = 4_096
"""A window that has grown to this bounds nothing any more."""
FORGOTTEN: Final = 10_000
"""Lanes whose pace is remembered at most; those that were slow for a second go first."""


@dataclass(slots=True)
class _Pace:
    """Jobs begun, by seconds of the caller's clock."""

    since: float
    now: int = 0
    before: int = 0

    def count(self, at: float, more: int) -> int:
        """Count `more`; the larger of this second's number and the last one's."""
        if at - self.since >= 1.0:
            self.before = self.now if at - self.since < 2.0 else 0
            self.now = 0
            self.since = at
        self.now += more
        return max(self.now, self.before)


@dataclass(slots=True)
class _Window:
    size: int
    begun: int = 0


class Windows:
    """One window a lane: none until a refusal, then what a second carried, doubled with every window that begins.

    Times are seconds of one clock, whatever it is.
    """

    def __init__(self) -> None:
        self._paces: dict[int, _Pace] = {}
        self._windows: dict[int, _Window] = {}

    def size(self, lane: int) -> int | None:
        """How many jobs of a lane may be held; None: as many as there is room for."""
        window = self._windows.get(lane)
        return None if window is None else window.size

    def begun(self, lane: int, now: float) -> None:
        """A job of the lane began."""
        pace = self._paces.get(lane)
        if pace is None:
            if len(self._paces) >= FORGOTTEN:
                self._paces = {k: p for k, p in self._paces.items() if now - p.since < 1.0}
            pace = self._paces[lane] = _Pace(now)
        pace.count(now, 1)
        window = self._windows.get(lane)
        if window is None:
            return
        window.begun += 1
        if window.begun >= window.size:
            window.size, window.begun = window.size * 2, 0
            if window.size >= UNBOUNDED:
                del self._windows[lane]

    def pace(self, lane: int, now: float) -> int:
        """Jobs of the lane that began in a second, of late."""
        pace = self._paces.get(lane)
        return 0 if pace is None else pace.count(now, 0)

    def refused(self, lane: int, now: float) -> int:
        """A job of the lane was refused: hold what the last second carried, at least one. Returns that."""
        pace = self._paces.get(lane)
        size = max(1, 0 if pace is None else pace.count(now, 0))
        self._windows[lane] = _Window(size)
        return size
