"""The step before a call: attempts become durable under this worker's token, a micro-batch at a time.

An attempt begins with its share of every limit and budget it draws on, or not at all.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import structlog

from sluice_core.admission.expectations import Expectations
from sluice_core.admission.model import ScopeKind
from sluice_core.jobs.model import Facts, State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.repository import JobRepository, is_poison
from sluice_core.jobs.writes import Begun, Intent
from sluice_core.keys.model import Key
from sluice_core.keys.policy import usable
from sluice_core.policies.model import Subject
from sluice_core.pricing.bounds import Bound
from sluice_platform.batching import Batcher
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.errors import ErrorCode
from sluice_schemas.jobs import GENERATING
from sluice_worker.draw import (
    CODES,
    NARROW,
    Ledgers,
    bounded,
    intent_of,
    place_of,
    reason,
    unprovable,
    wait_s,
)
from sluice_worker.flight import Flight
from sluice_worker.permits import Permits
from sluice_worker.resolve import Route
from sluice_worker.route import NotNow, Router

CAP = 100
LINGER_S = 0.003
RETRY_S = 0.2
MOST = 2**53
"""Tokens and nano-dollars (nine million dollars) beyond which nothing is counted; sums of a few still fit the ledger."""

_log = structlog.stdlib.get_logger(__name__)
_LOST = Begun(verdict=Begin.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """Where flights go from here.

    `called`: the attempt is durable. `refused`: it ends here. `lost`: it is this worker's no longer.
    `answers`: the cache has it, or will say more. `waits`: not now; until then (epoch seconds), with its whole
    lane or alone. `deferred`: given back to the ledger until there is money. `answered_in`: how many seconds a
    batch took, and had waited before.
    """

    called: Callable[[Flight, Begun], None]
    refused: Callable[[Flight, State, ErrorCode, str], None]
    lost: Callable[[Flight], None]
    waits: Callable[[Flight, float, bool], None]
    deferred: Callable[[Flight], None]
    answered_in: Callable[[float, float], None] = lambda *_: None
    answers: Callable[[Flight, int | None, str | None], bool] = lambda *_: False


class BeginStep:
    """Routes flights, checks their keys once more, and begins their attempts."""

    def __init__(
        self,
        jobs: JobRepository,
        router: Router,
        *,
        key_of: Callable[[str], Key | None],
        permits: Permits,
        ledgers: Ledgers,
        expectations: Expectations,
        ways: Ways,
    ) -> None:
        self._jobs = jobs
        self._router = router
        self._key_of = key_of
        self._permits = permits
        self._ledgers = ledgers
        self._expectations = expectations
        self._ways = ways
        self._prompt: Batcher[tuple[Flight, Bound]] = Batcher(self._write, cap=CAP)
        self._patient: Batcher[tuple[Flight, Bound]] = Batcher(
            self._write, cap=CAP, linger_s=LINGER_S
        )

    async def run_prompt(self) -> None:
        """Begin realtime attempts."""
        await self._prompt.run()

    async def run_patient(self) -> None:
        """Begin the others."""
        await self._patient.run()

    def add(self, flight: Flight) -> None:
        """Begin a flight's next attempt with the next batch."""
        now, facts = time.time(), flight.job.facts
        if facts.key_id is not None:
            key = self._key_of(facts.key_id)
            if key is None or not usable(key, now):
                self._reject(flight, ErrorCode.UNAUTHORIZED, "the job's key counts no more")
                return
        route = self._choose(flight, now)
        if route is None:
            message = f"no target serves {facts.model!r} now"
            self._reject(flight, ErrorCode.UNKNOWN_MODEL, message)
            return
        if isinstance(route, NotNow):
            message = f"no target of {facts.model!r} can be asked: {route.why}"
            if self._recalled(flight, route):
                return
            flight.waits_for = (ErrorCode.PROVIDER_UNAVAILABLE, message)
            flight.retry_after_s = round(route.until - now, 3)
            # Behind one that the cache had no answer for there may be others for whom it has.
            self._ways.waits(flight, route.until, route.everybody and not flight.recalled)
            return
        if flight.hedges and route.name in flight.tried:
            self._reject(flight, ErrorCode.PROVIDER_UNAVAILABLE, "no other target can be asked")
            return
        if not route.price.priced and route.unpriced == "refuse":
            message = f"no price of {facts.model!r} is known, and its account takes no such calls"
            self._reject(flight, ErrorCode.FORBIDDEN, message)
            return
        self._weigh(flight, route, now)

    def _weigh(self, flight: Flight, route: Route, now: float) -> None:
        """What a routed flight may use and cost at most, against its policies; then it goes into a batch."""
        facts = flight.job.facts
        subject = self._permits.subject(facts)
        most = self._most(subject, facts, route.target.default_max_tokens)
        if most != route.target.default_max_tokens and most is not None:
            route = route.capped(most)
        flight.route, flight.level = route, route.level
        bound = self._router.bound(flight.job, route)
        if max(bound.worst_nano, bound.tokens) > MOST:
            message = "the job may use more than can be counted; name a smaller max_tokens or n"
            self._reject(flight, ErrorCode.TOO_LARGE, message)
            return
        most_nano = facts.max_cost_nano
        if most_nano is not None and flight.spent_nano + bound.worst_nano > most_nano:
            message = "the job may cost more than its max_cost_usd; name a smaller max_tokens"
            self._reject(flight, ErrorCode.BUDGET_EXCEEDED, message)
            return
        if subject is not None:
            decision = self._permits.refusal(subject, facts, worst_nano=bound.worst_nano)
            if decision is not None:
                flight.rule = str(decision.rule)
                self._reject(flight, decision.code or ErrorCode.FORBIDDEN, decision.message)
                return
        flight.worst_nano, flight.input_nano = bound.worst_nano, bound.input_nano
        flight.bound_tokens = bound.tokens
        flight.expected_tokens = self._expectations.tokens(
            facts.tenant,
            facts.model or "",
            body_bytes=len(flight.job.body),
            most_output=bound.output_tokens,
        )
        flight.asked_at = time.monotonic()
        if not flight.hedges and self._ways.answers(flight, most, route.arm):
            return
        self._router.started(route, now)
        (self._prompt if flight.realtime else self._patient).add((flight, bound))

    def _recalled(self, flight: Flight, none: NotNow) -> bool:
        """Whether a job that no target can take now is answered, or may be, with what was answered before; asked once."""
        if flight.recalled or flight.hedges or flight.kept is not None:
            return False
        facts = flight.job.facts
        most = self._most(self._permits.subject(facts), facts, none.default_max_tokens)
        flight.recalled = self._ways.answers(flight, most, none.arm)
        return flight.recalled

    def _most(self, subject: Subject | None, facts: Facts, default: int | None) -> int | None:
        """The limit on an answer that is sent where a job names none: asking for more was refused at intake."""
        most = None if subject is None else self._permits.max_tokens(subject)
        if most is None or facts.operation not in GENERATING:
            return default
        return min(most, default or most)

    def _reject(self, flight: Flight, code: ErrorCode, message: str) -> None:
        self._ways.refused(flight, State.REJECTED, code, message)

    async def _write(self, batch: list[tuple[Flight, Bound]]) -> None:
        flights, intents = await self._intents(batch)
        if not flights:
            return
        asked = time.monotonic()
        answers = await self._begin(flights, intents)
        waited = sum(asked - flight.asked_at for flight in flights) / len(flights)
        self._ways.answered_in(time.monotonic() - asked, waited)
        crash_point("after_begin")
        deferred: list[tuple[Flight, Begun]] = []
        for flight, begun in zip(flights, answers, strict=True):
            if begun is None or begun.verdict is not Begin.BEGUN:
                self._never_went(flight)
            if begun is None:
                message = "the attempt could not be stored"
                self._ways.refused(flight, State.FAILED, ErrorCode.INTERNAL, message)
            elif begun.verdict is Begin.BEGUN:
                self._ways.called(flight, begun)
            elif begun.verdict is Begin.OVER_BUDGET and _patient(flight, begun):
                deferred.append((flight, begun))
            else:
                self._turned_away(flight, begun)
        if deferred:
            await self._defer(deferred)

    async def _intents(
        self, batch: list[tuple[Flight, Bound]]
    ) -> tuple[list[Flight], list[Intent]]:
        """What the batch asks for; a flight whose cost has no bound is refused under a hard budget."""
        places = [place_of(flight) for flight, _ in batch]
        while True:
            try:
                draws = await self._ledgers.draws(places)
                break
            except DATABASE_ERRORS as exc:
                _log.warning("begin.no_scopes", error=repr(exc))
                await asyncio.sleep(RETRY_S)
        flights: list[Flight] = []
        intents: list[Intent] = []
        for (flight, bound), draw in zip(batch, draws, strict=True):
            if draw.hard:
                why = unprovable(flight, bound)
                if why is not None:
                    self._never_went(flight)
                    message = f"under a hard budget a job's cost must have a bound: {why}"
                    self._reject(flight, ErrorCode.BUDGET_EXCEEDED, message)
                    continue
                bounded(flight, bound)
            flights.append(flight)
            intents.append(intent_of(flight, draw))
        return flights, intents

    def _turned_away(self, flight: Flight, begun: Begun) -> None:
        verdict = begun.verdict
        if verdict is Begin.CANCELLED:
            message = "cancelled before it was called"
            self._ways.refused(flight, State.CANCELLED, ErrorCode.CANCELLED, message)
        elif verdict is Begin.EXPIRED:
            message = "the deadline passed before it was called"
            self._ways.refused(flight, State.EXPIRED, ErrorCode.DEADLINE_EXCEEDED, message)
        elif verdict.waits:
            scope = self._ledgers.cause(begun.cause)
            if self._elsewhere(flight, begun, scope):
                self.add(flight)
                return
            flight.waits_for = (CODES[verdict], reason(begun, scope))
            flight.retry_after_s = round(wait_s(begun), 3)
            self._ways.waits(flight, begun.until, scope is None or scope[0] not in NARROW)
        elif verdict is Begin.LOST:
            self._ways.lost(flight)
        else:
            self._reject(flight, CODES[verdict], reason(begun, self._ledgers.cause(begun.cause)))

    def _elsewhere(self, flight: Flight, begun: Begun, scope: tuple[ScopeKind, str] | None) -> bool:
        """Whether a job that its target's or its account's limits keep waiting has another way now."""
        if scope is None or scope[0] not in {ScopeKind.ACCOUNT, ScopeKind.TARGET}:
            return False
        assert flight.route is not None
        now = time.time()
        whole = scope[0] is ScopeKind.ACCOUNT
        why = reason(begun, scope)
        if not self._router.shut(flight.route, account=whole, until=begun.until, why=why, now=now):
            return False
        return isinstance(self._choose(flight, now), Route)

    def _choose(self, flight: Flight, now: float) -> Route | NotNow | None:
        return self._router.choose(
            flight.job, now, tried=flight.tried, fell_back=flight.fell_back, level=flight.level
        )

    def _never_went(self, flight: Flight) -> None:
        assert flight.route is not None
        self._router.never_went(flight.route, time.time())

    async def _defer(self, waits: list[tuple[Flight, Begun]]) -> None:
        """Give jobs back to the ledger until their budget's next period, or until there is more money."""
        rows = [
            (flight.job.row, begun.until, -begun.cause, flight.worst_nano)
            for flight, begun in waits
        ]
        try:
            await self._jobs.defer(rows)
        except DATABASE_ERRORS as exc:
            # Whatever still is this worker's is given back to its lane by its audit, and asks again.
            _log.warning("begin.not_deferred", jobs=len(rows), error=repr(exc))
        for flight, _ in waits:
            self._ways.deferred(flight)

    async def _begin(self, flights: list[Flight], intents: list[Intent]) -> list[Begun | None]:
        """Begin a batch; one in which an attempt cannot be stored is bisected, and None stands for that one."""
        try:
            return [*await self._certain(flights, intents)]
        except asyncpg.PostgresError:
            pass  # a row of it is at fault: anything else has been tried again
        if len(flights) == 1:
            _log.error("begin.poison", job_id=str(flights[0].id))
            return [None]
        middle = len(flights) // 2
        return [
            *await self._begin(flights[:middle], intents[:middle]),
            *await self._begin(flights[middle:], intents[middle:]),
        ]

    async def _certain(self, flights: list[Flight], intents: list[Intent]) -> list[Begun]:
        """One statement, raising only what a row of it is at fault for; where it is not known whether it was done, the ledger is asked until it says."""
        try:
            return await self._jobs.begin(intents)
        except DATABASE_ERRORS as exc:
            if _at_fault(exc):
                raise
            _log.warning("begin.ambiguous", jobs=len(flights), error=repr(exc))
        while True:
            try:
                mine = await self._jobs.mine()
                again = [
                    place
                    for place, flight in enumerate(flights)
                    if mine.get(flight.job.row) == (State.OWNED, flight.job.attempt)
                ]
                redone = await self._jobs.begin([intents[place] for place in again])
                if any(begun.verdict is Begin.LOST for begun in redone):
                    # The first statement was still under way, and was done while this one waited for it.
                    mine = await self._jobs.mine()
            except DATABASE_ERRORS as exc:
                if _at_fault(exc):
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            answered = dict(zip(again, redone, strict=True))
            return [
                answered[place]
                if answered.get(place, _LOST).verdict is not Begin.LOST
                else _as_found(flight, mine.get(flight.job.row))
                for place, flight in enumerate(flights)
            ]


def _at_fault(error: Exception) -> bool:
    """Whether a row of the batch is what the database refused."""
    return isinstance(error, asyncpg.PostgresError) and is_poison(error)


def _patient(flight: Flight, begun: Begun) -> bool:
    """Whether a job that is over a budget waits for the budget's next period, or for more money."""
    return (
        flight.job.facts.wait_for_budget
        and begun.cause < 0
        and not flight.kept
        and not flight.hedges
    )


def _as_found(flight: Flight, found: tuple[State, int] | None) -> Begun:
    """What the ledger says of an attempt whose begin was ambiguous: nobody else could have begun it."""
    if found == (State.CALLING, flight.job.attempt + 1):
        return Begun(verdict=Begin.BEGUN, attempt=flight.job.attempt + 1)
    return _LOST
