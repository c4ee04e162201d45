"""Pure: callers that a scope of their own refuses ask one job after another, not with all at once."""

from collections.abc import Hashable
from typing import Final

NARROW_ASKS: Final = 80
"""Questions a second of one caller in a lane, beside twice what its lane begins: each costs what a begun job costs."""
REMEMBERED: Final = 10_000


class Lines:
    """One line a caller. All times are seconds of one clock."""

    def __init__(self) -> None:
        self._next: dict[Hashable, float] = {}

    def place(self, caller: Hashable, until: float, *, now: float, pace: int) -> float:
        """When a caller's next job may ask that must wait until then; `pace`: jobs a second that its lane begins."""
        at = max(until, self._next.get(caller, 0.0))
        if len(self._next) > REMEMBERED:
            self._next = {k: t for k, t in self._next.items() if t > now}
        self._next[caller] = at + 1.0 / (NARROW_ASKS + 2 * pace)
        return at
