"""Pure: who is silent, judged by beat counters that the observer itself has read, over its own clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

READINGS: Final = 6
"""How often the same counter must have been read, so that an observer that was frozen itself judges nobody."""
LONGEST_GAP_S: Final = 1.5
"""What the time between two readings counts at most: nobody was observed while the observer slept."""


@dataclass(slots=True)
class _Seen:
    beat: int
    silence_s: float
    readings: int


@dataclass(slots=True)
class Observer:
    """Remembers beats over readings. A restart of the database starts it afresh: an outage kills nobody."""

    _server: float = 0.0
    _read_at: float = 0.0
    _seen: dict[int, _Seen] = field(default_factory=dict)

    def read(self, beats: Mapping[int, int], *, server_started_at: float, now: float) -> None:
        """Take one reading of every registered process's counter; `now` is the observer's monotonic clock."""
        if server_started_at != self._server:
            self._server = server_started_at
            self._seen = {}
        observed_s = min(now - self._read_at, LONGEST_GAP_S)
        self._read_at = now
        self._seen = {
            incarnation: self._advance(incarnation, beat, observed_s)
            for incarnation, beat in beats.items()
        }

    def _advance(self, incarnation: int, beat: int, observed_s: float) -> _Seen:
        seen = self._seen.get(incarnation)
        if seen is None or seen.beat != beat:
            return _Seen(beat=beat, silence_s=0.0, readings=1)
        seen.readings += 1
        seen.silence_s += observed_s
        return seen

    def silent(self, lease_s: float) -> list[int]:
        """Registered incarnations that were observed to be silent for `lease_s` seconds."""
        return [
            incarnation
            for incarnation, seen in self._seen.items()
            if seen.readings >= READINGS and seen.silence_s >= lease_s
        ]
