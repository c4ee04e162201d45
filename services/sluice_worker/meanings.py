"""Looks for answers to words that mean the same, once there is none to the same words."""

import asyncio
import time
from collections import OrderedDict
from typing import Final

import structlog

from sluice_core.caching.meaning import vector_of, wording_of
from sluice_core.caching.model import Meaning, Near
from sluice_core.caching.repository import CacheRepository
from sluice_core.config.caching import Semantic
from sluice_platform.db import DATABASE_ERRORS
from sluice_worker.errands import Errands
from sluice_worker.flight import Flight

REMEMBERED: Final = 1_000
"""Vectors of words that were asked for lately."""
TELL_S: Final = 10.0
"""Between two lines of the log on jobs that got no vector: where limits are tight, that may be most of them."""

_log = structlog.stdlib.get_logger(__name__)


class Meanings:
    """Turns a job's last words into a vector by one of the gateway's own models, and looks for what is near it."""

    def __init__(self, repository: CacheRepository, errands: Errands) -> None:
        self._repository = repository
        self._errands = errands
        self._vectors: OrderedDict[tuple[str, str, str], str] = OrderedDict()
        self._without = 0
        self._told_at = float("-inf")

    async def look(self, flight: Flight, by: Semantic) -> tuple[Meaning | None, Near | None]:
        """What the job means, and the stored answer nearest to it; None each where there is none, or it cannot be told."""
        assert flight.ticket is not None
        wording = wording_of(
            flight.job.facts,
            flight.job.body,
            embedder=by.model,
            most=flight.ticket.most,
            arm=flight.ticket.arm,
        )
        if wording is None:
            return None, None
        # What is saved by looking must not be lost by it: a job in a hurry keeps half of its time for the call.
        within_s = min(by.timeout, (flight.job.deadline - time.time()) / 2)
        try:
            async with asyncio.timeout(within_s):
                vector = await self._vector(flight, wording.words, by, within_s)
                if vector is None:
                    return None, None
                meaning = Meaning(context=wording.context, vector=vector)
                return meaning, await self._repository.nearest(meaning, threshold=by.threshold)
        except DATABASE_ERRORS as exc:  # the time that is over is one of these
            self._no_vector(by.model, repr(exc))
            return None, None

    async def _vector(
        self, flight: Flight, words: str, by: Semantic, within_s: float
    ) -> str | None:
        # A tenant's vectors are its own: what another has asked shows in no way, not even in time.
        key = (flight.job.facts.tenant, by.model, words)
        known = self._vectors.get(key)
        if known is not None:
            self._vectors.move_to_end(key)
            return known
        answer = await self._errands.embedding(flight, words, model=by.model, within_s=within_s)
        if answer is None:
            self._no_vector(by.model, "refused, failed or not there in time")
            return None
        try:
            vector = vector_of(answer)
        except ValueError as exc:
            self._no_vector(by.model, str(exc))
            return None
        self._vectors[key] = vector
        while len(self._vectors) > REMEMBERED:
            self._vectors.popitem(last=False)
        return vector

    def _no_vector(self, model: str, why: str) -> None:
        self._without += 1
        now = time.monotonic()
        if now - self._told_at >= TELL_S:
            _log.warning("cache.no_vector", model=model, why=why, jobs=self._without)
            self._told_at, self._without = now, 0
