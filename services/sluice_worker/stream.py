"""Deltas of streaming jobs: coalesced for a moment, then sent in order to the requester."""

import asyncio
import time
from collections.abc import Callable

from sluice_core.caching.policy import chunks_of
from sluice_core.publishing.model import Origin
from sluice_core.publishing.policy import DeltaForm
from sluice_core.publishing.service import Publisher
from sluice_worker.flight import Flight

COALESCE_S = 0.02
"""Chunks wait at most this long; what all streams have gathered by then goes out together."""


class Deltas:
    """Opens a channel per streaming flight whose requester can be reached.

    One timer serves all channels: what they send at once travels in one request to Kafka, which is most of
    what a delta costs.
    """

    def __init__(self, publisher: Publisher, origin: Origin) -> None:
        self._publisher = publisher
        self._origin = origin
        self._gathering: list[_Channel] = []

    def channel(self, flight: Flight) -> Callable[[list[bytes]], None] | None:
        """Where a call's chunks go; None where nobody listens."""
        if not flight.job.streams or flight.requester.reply_to is None:
            return None
        form = DeltaForm(
            self._origin, flight.requester, job_id=flight.id, attempt=flight.job.attempt
        )
        return _Channel(self, flight, form).take

    def replay(self, flight: Flight, body: bytes) -> None:
        """Send a stored answer as a stream that says the same, where the job asked for one."""
        take = self.channel(flight)
        if take is None:
            return
        asked = b'"include_usage":true' in flight.job.body
        take(chunks_of(body, usage_asked=asked))
        if flight.flush is not None:
            flight.flush()

    def send(self, flight: Flight, form: DeltaForm, chunks: list[bytes]) -> None:
        """Publish one delta. After an early answer nothing follows it."""
        if flight.answered:
            return
        self._publisher.send(form.message(seq=flight.deltas, at=time.time(), chunks=chunks))
        flight.deltas += 1

    def gathers(self, channel: "_Channel") -> None:
        """Flush a channel with the others, soon."""
        if not self._gathering:
            asyncio.get_running_loop().call_later(COALESCE_S, self._flush)
        self._gathering.append(channel)

    def _flush(self) -> None:
        gathering, self._gathering = self._gathering, []
        for channel in gathering:
            channel.flush()


class _Channel:
    """The first chunk goes at once, so that nobody waits for it; later ones gather."""

    def __init__(self, deltas: Deltas, flight: Flight, form: DeltaForm) -> None:
        self._deltas = deltas
        self._flight = flight
        self._form = form
        self._gathered: list[bytes] = []
        flight.flush = self.flush

    def take(self, chunks: list[bytes]) -> None:
        if not self._flight.deltas:
            self._deltas.send(self._flight, self._form, chunks)
            return
        if not self._gathered:
            self._deltas.gathers(self)
        self._gathered += chunks

    def flush(self) -> None:
        """Send what has gathered; called before the result goes."""
        if self._gathered:
            chunks, self._gathered = self._gathered, []
            self._deltas.send(self._flight, self._form, chunks)
