"""Keeps a process alive in the ledger's eyes, and brings back what the ledger has to tell it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from sluice_core.presence.repository import Beat, PresenceRepository
from sluice_platform.db import DATABASE_ERRORS

BEAT_S = 1.0
HEALTHY_S = 10.0
"""How long after its last beat a process still calls itself healthy."""

_log = structlog.stdlib.get_logger(__name__)


class DeclaredDeadError(Exception):
    """Others took this process for dead and took its jobs; it must end and start afresh."""


class Heart:
    """Beats once a second. A beat that fails is tried again: an outage of the database is nobody's death."""

    def __init__(
        self,
        presence: PresenceRepository,
        incarnation: int,
        on_beat: Callable[[Beat], Awaitable[None]],
        *,
        interval_s: float = BEAT_S,
    ) -> None:
        self._presence = presence
        self._incarnation = incarnation
        self._on_beat = on_beat
        self._interval_s = interval_s
        self._last = time.monotonic()

    def healthy(self) -> bool:
        """Whether the last beat is recent: what a probe wants to know."""
        return time.monotonic() - self._last < HEALTHY_S

    async def run(self) -> None:
        """Beat until cancelled; raises DeclaredDeadError."""
        failing = False
        while True:
            try:
                beat = await self._presence.beat(self._incarnation)
                if beat.known:
                    await self._on_beat(beat)
            except DATABASE_ERRORS as exc:
                if not failing:
                    _log.warning("beat.failed", error=repr(exc))
                failing = True
            else:
                if failing:
                    _log.info("beat.recovered")
                failing = False
                if not beat.known:
                    raise DeclaredDeadError
                self._last = time.monotonic()
            await asyncio.sleep(self._interval_s)
