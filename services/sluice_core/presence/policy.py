"""Pure: who is silent, judged by beat counters that the observer itself has read, over its own clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field

READINGS = 6
"""How often the same counter must have been read, so that an observer that was frozen itself judges nobody."""


@dataclass(slots=True)
class _Seen:
    beat: int
    since: float
    readings: int


@dataclass(slots=True)
class Observer:
    """Remembers beats over readings. A restart of the database starts it afresh: an outage kills nobody."""

    _server: float = 0.0
    _seen: dict[int, _Seen] = field(default_factory=dict)

    def read(self, beats: Mapping[int, int], *, server_started_at: float, now: float) -> None:
        """Take one reading of every registered process's counter; `now` is the observer's monotonic clock."""
        if server_started_at != self._server:
            self._server = server_started_at
            self._seen = {}
        self._seen = {
            incarnation: self._advance(incarnation, beat, now)
            for incarnation, beat in beats.items()
        }

    def _advance(self, incarnation: int, beat: int, now: float) -> _Seen:
        seen = self._seen.get(incarnation)
        if seen is None or seen.beat != beat:
            return _Seen(beat=beat, since=now, readings=1)
        seen.readings += 1
        return seen

    def alive(self, lease_s: float, *, now: float) -> list[int]:
        """Incarnations not silent for `lease_s` seconds. Who is not registered at all is not alive."""
        return [
            incarnation
            for incarnation, seen in self._seen.items()
            if seen.readings < READINGS or now - seen.since < lease_s
        ]
