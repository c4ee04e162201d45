"""Pure: what an answer says of the load that its account bears."""

import math
from typing import Final

THROTTLED: Final = frozenset({429, 529})
"""Statuses by which a provider says that an account asks too much. A 503 speaks of one request alone."""
CUT_THROTTLED: Final = 0.7
CUT_SLOW: Final = 0.9
SLOW_FACTOR: Final = 3.0
"""How many times its usual time an account's answers must take on average to count as too slow."""
COOL_S: Final = 1.0
"""Pause after a 429 or 529 that names none."""
LONGEST_COOL_S: Final = 3600.0
"""No target is left alone for longer on the word of one answer: it is asked again, and may say so again."""
_RECENT = 0.1
"""Of the newest answer in the recent mean."""
USUAL_S: Final = 60.0
"""How fast the usual time follows: what lasts longer is the new usual, and cuts no further."""
_FEW = 50
"""Answers before the usual time is taken as known."""


class Pace:
    """The usual and the recent time of an account's answers, in milliseconds a token where tokens are known."""

    __slots__ = ("_at", "_recent", "_seen", "_usual")

    def __init__(self) -> None:
        self._recent = self._usual = self._at = 0.0
        self._seen = 0

    def pressure(self, provider_ms: int, output_tokens: int, *, now: float) -> float:
        """1 for an answer in good time, CUT_SLOW where the recent ones take far longer than usual.

        `now` in seconds of any clock that does not go back.
        """
        pace = provider_ms / (output_tokens + 50)
        self._seen += 1
        if self._seen == 1:
            self._recent = self._usual = pace
        weight = 1 / self._seen if self._seen < _FEW else 1 - math.exp((self._at - now) / USUAL_S)
        self._at = now
        self._recent += _RECENT * (pace - self._recent)
        self._usual += weight * (pace - self._usual)
        slow = self._seen >= _FEW and self._recent > SLOW_FACTOR * self._usual
        return CUT_SLOW if slow else 1.0


def cool_until(
    status: int | None, *, retry_after_s: float | None, exhausted_s: float | None, now: float
) -> float | None:
    """Until when (epoch seconds) nothing should go to a target; None where its answer does not say so."""
    pauses = [] if exhausted_s is None else [exhausted_s]
    if status in THROTTLED:
        if retry_after_s is not None:
            pauses.append(retry_after_s)
        elif not pauses:
            pauses.append(COOL_S)
    return now + min(LONGEST_COOL_S, max(pauses)) if pauses else None
