"""Reads everybody's beats, for all tasks that must know who is dead."""

from sluice_core.presence.policy import Observer
from sluice_core.presence.repository import PresenceRepository
from sluice_platform.clock import Clock


class Watch:
    """One keeper's own observation of the others; what it has not watched it does not judge."""

    def __init__(self, presence: PresenceRepository, clock: Clock) -> None:
        self._presence = presence
        self._clock = clock
        self._observer = Observer()

    async def read(self) -> None:
        """Take one reading."""
        beats, server_started_at = await self._presence.beats()
        self._observer.read(beats, server_started_at=server_started_at, now=self._clock.monotonic())

    def silent(self, lease_s: float) -> list[int]:
        """Who was observed to be silent for `lease_s` seconds, as of the last reading."""
        return self._observer.silent(lease_s)
