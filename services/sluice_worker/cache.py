"""The step that answers a job with what the same request was answered before, and lets one of several ask for all."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from sluice_core.caching.model import Answer, Keep, Meaning
from sluice_core.caching.policy import CacheRules, cache_key
from sluice_core.caching.repository import CacheRepository
from sluice_core.config.caching import Semantic
from sluice_core.config.model import Config
from sluice_core.settlement.model import CacheMark
from sluice_platform.batching import Batcher
from sluice_platform.db import DATABASE_ERRORS
from sluice_worker.flight import Flight
from sluice_worker.meanings import Meanings

CAP: Final = 100
LEASE_S: Final = 900.0
"""How long other workers leave a request to the one that asks, as long as that lives; longer than any call."""
RETRY_S: Final = 0.5
"""Until requests are given up again whose giving up has failed."""
MOST_FAILURES: Final = 2
"""In a row, after which nobody waits for another's call any more."""
AGAIN_S: Final = 0.1
"""How soon a job looks again for an answer that another worker is asking for."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class Ticket:
    """A flight's place with the cache: its request's key and how long its answer is kept.

    `most` and `arm` stand in the key beside the request: its default limit, and the arm of a split.
    `asks`: it goes on to a provider, and others may wait for it; `failed`: the provider has none for it. `meaning`: what its
    answer is found by besides; `mark`: how it was answered itself, if it was.
    """

    key: bytes
    ttl_s: float
    most: int | None = None
    arm: str | None = None
    asks: bool = False
    failed: bool = False
    meaning: Meaning | None = None
    mark: CacheMark = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where flights go from here: answered at once, or on to a provider."""

    hit: Callable[[Flight, Answer], None]
    miss: Callable[[Flight], None]


@dataclass(slots=True)
class _Asking:
    """A request on its way: by a flight of this worker, or looked for in the ledger; `waiting` want the same.

    `failures`: how many were called for it in a row, and failed.
    """

    waiting: list[Flight] = field(default_factory=list)
    failures: int = 0


class CacheStep:
    """Looks jobs up, in memory, then in the ledger, a batch in one statement; nothing of it concerns jobs that do not use it."""

    def __init__(
        self, repository: CacheRepository, config: Config, ways: Ways, meanings: Meanings
    ) -> None:
        self._repository = repository
        self._meanings = meanings
        self._comparing: set[asyncio.Task[None]] = set()
        self._rules = CacheRules(config)
        self._ways = ways
        self._front = _Front(config.cache.memory)
        self._asking: dict[bytes, _Asking] = {}
        self._looks: Batcher[tuple[bytes, str]] = Batcher(self._look, cap=CAP)
        self._keeps: Batcher[Keep | bytes] = Batcher(self._keep, cap=CAP)

    def change(self, config: Config) -> None:
        """Go by another configuration."""
        self._rules = CacheRules(config)

    async def run_looks(self) -> None:
        """Look for ever."""
        await self._looks.run()

    async def run_keeps(self) -> None:
        """Store for ever."""
        await self._keeps.run()

    def takes(self, flight: Flight, most: int | None, arm: str | None) -> bool:
        """Whether the flight is in this step's hands now: it is answered, or comes on by `Ways.miss`.

        `most`: the limit on its answer that is sent where it names none; `arm`: that of a split which it belongs to.
        """
        if flight.ticket is not None:
            return False
        facts = flight.job.facts
        ttl_s = self._rules.ttl_s(facts)
        if ttl_s is None:
            return False
        key = cache_key(facts, flight.job.body, most=most, arm=arm)
        flight.ticket = Ticket(key, ttl_s, most, arm)
        answer = self._front.get(key, time.monotonic())
        if answer is not None:
            self._ways.hit(flight, answer)
            return True
        asking = self._asking.get(key)
        if asking is None:
            self._asking[key] = _Asking([flight])
            self._looks.add((key, facts.tenant))
        else:
            asking.waiting.append(flight)
        left_s = max(0.0, flight.job.deadline - time.time())
        flight.timer = asyncio.get_running_loop().call_later(left_s, self._too_late, flight)
        return True

    def answered(self, flight: Flight, answer: Answer) -> None:
        """A call that a ticket asked for was answered well: it is stored, and who waits for the same has it too."""
        ticket = flight.ticket
        assert ticket is not None
        ticket.asks = False
        if len(answer.body) <= self._rules.entry_bytes:
            keep = Keep(
                key=ticket.key,
                tenant=flight.job.facts.tenant,
                ttl_s=ticket.ttl_s,
                answer=answer,
                meaning=ticket.meaning,
            )
            self._front.put(ticket.key, answer, time.monotonic() + ticket.ttl_s)
            self._keeps.add(keep)
        else:
            self._keeps.add(ticket.key)
        for waiting in self._done(ticket.key):
            self._ways.hit(waiting, answer)

    def gave_up(self, flight: Flight) -> None:
        """The flight that asks for others ended without an answer: the next of them asks.

        Where the provider has failed two in a row, all ask for themselves: one after another they would wait for every
        failure before their own.
        """
        ticket = flight.ticket
        if ticket is None or not ticket.asks:
            return
        ticket.asks = False
        asking = self._asking.pop(ticket.key, None)
        if asking is None or not asking.waiting:
            self._keeps.add(ticket.key)
            return
        failures = asking.failures + ticket.failed
        if failures < MOST_FAILURES:
            first, *others = asking.waiting
            self._asking[ticket.key] = _Asking(others, failures)
            self._asks(first)
            return
        self._keeps.add(ticket.key)
        for other in asking.waiting:
            _stop_timer(other)
            self._ways.miss(other)

    def waits(self, flight: Flight) -> list[Flight]:
        """A flight must wait for a limit or a target, and looks anew at its next turn: who waited for it, and is in no hands now."""
        ticket, flight.ticket = flight.ticket, None
        if ticket is None or not ticket.asks:
            return []
        waiting = self._done(ticket.key)
        self._keeps.add(ticket.key)
        for other in waiting:
            other.ticket = None
        return waiting

    def let_go(self, flight: Flight) -> bool:
        """Send on a flight that waits for another's answer; False if it does not."""
        asking = None if flight.ticket is None else self._asking.get(flight.ticket.key)
        if asking is None or flight not in asking.waiting:
            return False
        asking.waiting.remove(flight)
        _stop_timer(flight)
        self._ways.miss(flight)
        return True

    def _done(self, key: bytes) -> list[Flight]:
        asking = self._asking.pop(key, None)
        waiting = [] if asking is None else asking.waiting
        for flight in waiting:
            _stop_timer(flight)
        return waiting

    def _asks(self, flight: Flight) -> None:
        assert flight.ticket is not None
        flight.ticket.asks = True
        _stop_timer(flight)
        self._ways.miss(flight)

    def _too_late(self, flight: Flight) -> None:
        """Its deadline has come while it waited: `begin` ends it."""
        flight.timer = None
        self.let_go(flight)

    async def _look(self, keys: list[tuple[bytes, str]]) -> None:
        try:
            found = await self._repository.look(keys, lease_s=LEASE_S)
        except DATABASE_ERRORS as exc:
            # The cache is a saving, no promise: each asks for itself.
            _log.warning("cache.not_looked", error=repr(exc))
            for key, _ in keys:
                self._keeps.add(key)  # the statement may have been done all the same
                for flight in self._done(key):
                    self._ways.miss(flight)
            return
        now = time.monotonic()
        for (key, tenant), one in zip(keys, found, strict=True):
            if one.answer is not None:
                self._front.put(key, one.answer, now + one.left_s)
                for flight in self._done(key):
                    self._ways.hit(flight, one.answer)
            elif one.state == "others":
                asyncio.get_running_loop().call_later(AGAIN_S, self._look_again, key, tenant)
            else:
                asking = self._asking.get(key)
                if asking is None or not asking.waiting:
                    self._asking.pop(key, None)
                    self._keeps.add(key)
                else:
                    self._compares(asking.waiting.pop(0))

    def _compares(self, flight: Flight) -> None:
        """Nobody has an answer to the same words: perhaps to words that mean the same; else the flight asks."""
        by = self._rules.semantic
        if by is None or not self._rules.by_meaning(flight.job.facts):
            self._asks(flight)
            return
        _stop_timer(flight)
        task = asyncio.create_task(self._compare(flight, by))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    async def _compare(self, flight: Flight, by: Semantic) -> None:
        ticket = flight.ticket
        assert ticket is not None
        near = None
        try:
            ticket.meaning, near = await self._meanings.look(flight, by)
        except Exception:  # noqa: BLE001 - whatever it is, the job goes on
            _log.exception("cache.not_compared", job_id=str(flight.id))
        if near is None:
            self._asks(flight)
            return
        self._keeps.add(ticket.key)
        for one in (flight, *self._done(ticket.key)):
            if one.ticket is not None:
                one.ticket.mark = "semantic"
            self._ways.hit(one, near.answer)

    def _look_again(self, key: bytes, tenant: str) -> None:
        asking = self._asking.get(key)
        if asking is None or not asking.waiting:
            self._asking.pop(key, None)
            return
        self._looks.add((key, tenant))

    async def _keep(self, batch: list[Keep | bytes]) -> None:
        answers = {item.key: item for item in batch if isinstance(item, Keep)}
        given_up = {item for item in batch if isinstance(item, bytes)} - set(answers)
        try:
            await self._repository.keep(list(answers.values()), list(given_up))
            meant = [answer for answer in answers.values() if answer.meaning is not None]
            if meant and self._rules.semantic is not None:
                await self._repository.keep_meanings(meant, entries=self._rules.semantic.entries)
        except DATABASE_ERRORS as exc:
            _log.warning("cache.not_kept", answers=len(answers), error=repr(exc))
            # Their leases would last as long as this worker: others, and its own next jobs, would wait for nobody.
            for key in given_up | set(answers):
                asyncio.get_running_loop().call_later(RETRY_S, self._keeps.add, key)


def _stop_timer(flight: Flight) -> None:
    if flight.timer is not None:
        flight.timer.cancel()
        flight.timer = None


class _Front:
    """The answers used last, in memory, up to so many bytes; times are monotonic seconds."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, tuple[Answer, float]] = OrderedDict()

    def get(self, key: bytes, now: float) -> Answer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: bytes, answer: Answer, until: float) -> None:
        if key in self._entries:
            self._drop(key)
        if len(answer.body) > self._most:
            return
        self._entries[key] = (answer, until)
        self._bytes += len(answer.body)
        while self._bytes > self._most:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        self._bytes -= len(self._entries.pop(key)[0].body)
