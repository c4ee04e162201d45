"""The step before a call: attempts become durable under this worker's token, a micro-batch at a time."""

import asyncio
import time
from collections.abc import Callable

import structlog

from sluice_core.jobs.model import State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Intent
from sluice_core.keys.model import Key
from sluice_core.keys.policy import usable
from sluice_platform.batching import Batcher
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight
from sluice_worker.route import Router

CAP = 100
LINGER_S = 0.003

_log = structlog.stdlib.get_logger(__name__)
_LOST = (Begin.LOST, 0)
Refuse = Callable[[Flight, State, ErrorCode, str], None]


class BeginStep:
    """Routes flights, checks their keys once more, and begins their attempts.

    `called` takes flights whose attempt is durable; `refused` those that end here; `lost` those that are
    this worker's no longer.
    """

    def __init__(
        self,
        jobs: JobRepository,
        router: Router,
        key_of: Callable[[str], Key | None],
        *,
        called: Callable[[Flight, int], None],
        refused: Refuse,
        lost: Callable[[Flight], None],
    ) -> None:
        self._jobs = jobs
        self._router = router
        self._key_of = key_of
        self._called = called
        self._refused = refused
        self._lost = lost
        self._prompt: Batcher[Flight] = Batcher(self._write, cap=CAP)
        self._patient: Batcher[Flight] = Batcher(self._write, cap=CAP, linger_s=LINGER_S)

    async def run_prompt(self) -> None:
        """Begin realtime attempts."""
        await self._prompt.run()

    async def run_patient(self) -> None:
        """Begin the others."""
        await self._patient.run()

    def add(self, flight: Flight) -> None:
        """Begin a flight's next attempt with the next batch."""
        now = time.time()
        key_id = flight.job.facts.key_id
        if key_id is not None:
            key = self._key_of(key_id)
            if key is None or not usable(key, now):
                self._refused(
                    flight, State.REJECTED, ErrorCode.UNAUTHORIZED, "the job's key counts no more"
                )
                return
        route = self._router.choose(flight.job, now)
        if route is None:
            name = flight.job.facts.model
            self._refused(
                flight, State.REJECTED, ErrorCode.UNKNOWN_MODEL, f"no target serves {name!r} now"
            )
            return
        flight.route = route
        flight.worst_nano, flight.input_nano = self._router.worst_case(flight.job, route)
        (self._prompt if flight.realtime else self._patient).add(flight)

    async def _write(self, flights: list[Flight]) -> None:
        verdicts = await self._begin(flights)
        crash_point("after_begin")
        for flight, (verdict, attempt) in zip(flights, verdicts, strict=True):
            if verdict is Begin.BEGUN:
                self._called(flight, attempt)
            elif verdict is Begin.CANCELLED:
                self._refused(
                    flight, State.CANCELLED, ErrorCode.CANCELLED, "cancelled before it was called"
                )
            elif verdict is Begin.EXPIRED:
                self._refused(
                    flight,
                    State.EXPIRED,
                    ErrorCode.DEADLINE_EXCEEDED,
                    "the deadline passed before it was called",
                )
            else:
                self._lost(flight)

    async def _begin(self, flights: list[Flight]) -> list[tuple[Begin, int]]:
        """One statement; where it is not known whether it was done, the ledger is asked until it says."""
        intents = [_intent(flight) for flight in flights]
        try:
            return list(await self._jobs.begin(intents))
        except DATABASE_ERRORS as exc:
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
                if any(verdict is Begin.LOST for verdict, _ in redone):
                    # The first statement was still under way, and was done while this one waited for it.
                    mine = await self._jobs.mine()
            except DATABASE_ERRORS:
                await asyncio.sleep(0.2)
                continue
            begun = dict(zip(again, redone, strict=True))
            return [
                begun[place]
                if begun.get(place, _LOST) != _LOST
                else _as_found(flight, mine.get(flight.job.row))
                for place, flight in enumerate(flights)
            ]


def _as_found(flight: Flight, found: tuple[State, int] | None) -> tuple[Begin, int]:
    """What the ledger says of an attempt whose begin was ambiguous: nobody else could have begun it."""
    if found == (State.CALLING, flight.job.attempt + 1):
        return Begin.BEGUN, flight.job.attempt + 1
    return _LOST


def _intent(flight: Flight) -> Intent:
    assert flight.route is not None
    return Intent(
        row=flight.job.row,
        day=flight.job.day,
        account=flight.route.target.account,
        provider_model=flight.route.target.model,
        worst_nano=flight.worst_nano,
        input_nano=flight.input_nano,
    )
