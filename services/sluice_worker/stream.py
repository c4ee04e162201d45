"""Deltas of streaming jobs: coalesced for a moment, then sent in order to the requester."""

import asyncio
import time
from collections.abc import Callable

from sluice_core.publishing.model import Origin
from sluice_core.publishing.policy import delta_message
from sluice_core.publishing.service import Publisher
from sluice_worker.flight import Flight

COALESCE_S = 0.01
"""Chunks that come within this time of the first go out together."""


class Deltas:
    """Opens a channel per streaming flight whose requester can be reached."""

    def __init__(self, publisher: Publisher, origin: Origin) -> None:
        self._publisher = publisher
        self._origin = origin

    def channel(self, flight: Flight) -> Callable[[list[bytes]], None] | None:
        """Where a call's chunks go; None where nobody listens."""
        if not flight.job.streams or flight.requester.reply_to is None:
            return None
        return _Channel(self, flight).take

    def send(self, flight: Flight, chunks: list[bytes]) -> None:
        """Publish one delta. After an early answer nothing follows it."""
        if flight.answered:
            return
        self._publisher.send(
            delta_message(
                self._origin,
                flight.requester,
                job_id=flight.id,
                attempt=flight.job.attempt,
                seq=flight.deltas,
                at=time.time(),
                chunks=chunks,
            )
        )
        flight.deltas += 1


class _Channel:
    """The first chunk goes at once, so that nobody waits for it; later ones gather."""

    def __init__(self, deltas: Deltas, flight: Flight) -> None:
        self._deltas = deltas
        self._flight = flight
        self._gathered: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        flight.flush = self.flush

    def take(self, chunks: list[bytes]) -> None:
        if not self._flight.deltas:
            self._deltas.send(self._flight, chunks)
            return
        self._gathered += chunks
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COALESCE_S, self.flush)

    def flush(self) -> None:
        """Send what has gathered; called before the result goes."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._gathered:
            chunks, self._gathered = self._gathered, []
            self._deltas.send(self._flight, chunks)
