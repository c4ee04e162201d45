"""Pure: how many of the calls to an account may be repetitions, so that a brown-out is not multiplied.

A retry budget as Finagle has it: every first call deposits a share of a retry, every retry takes a whole one.
"""

from typing import Final

SHARE: Final = 0.2
"""Retries a call."""
FLOOR_S: Final = 1.0
"""Retries a second that are allowed in any case."""
MOST: Final = 100.0


class RetryBudget:
    """The retries that one account can bear; `now` in seconds of any clock.

    `share`: retries a call; `floor_s`: retries a second that are allowed in any case.
    """

    __slots__ = ("_at", "_floor_s", "_left", "_share")

    def __init__(self, *, share: float = SHARE, floor_s: float = FLOOR_S) -> None:
        self._share = share
        self._floor_s = floor_s
        self._left = MOST / 2 if floor_s else 1.0
        self._at = 0.0

    def called(self) -> None:
        """A job was called for the first time."""
        self._left = min(MOST, self._left + self._share)

    def allows(self, now: float) -> bool:
        """Whether a retry may follow now; if so it is counted."""
        self._left = min(MOST, self._left + max(0.0, min(now - self._at, MOST)) * self._floor_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
