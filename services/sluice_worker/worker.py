"""The pipeline of one worker, put together: which step hands what to which."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import asyncpg
import structlog

from sluice_core.config.model import Config
from sluice_core.intake.model import Cancel, Record
from sluice_core.intake.policy import IntakePolicy
from sluice_core.jobs.model import State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.keys.ring import Keys
from sluice_core.policies.repository import DenialRepository
from sluice_core.presence.repository import Beat
from sluice_core.pricing.book import PriceBook
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_platform.db import DATABASE_ERRORS
from sluice_platform.lifecycle import TaskSet
from sluice_providers.http import Transport
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_worker.admit import AdmitStep
from sluice_worker.audit import SelfAudit
from sluice_worker.begin import BeginStep
from sluice_worker.call import CallStep
from sluice_worker.claim import Claimer
from sluice_worker.control import ControlStep
from sluice_worker.denials import DenialLog
from sluice_worker.dispatch import Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings
from sluice_worker.names import Names
from sluice_worker.reading import Reader
from sluice_worker.route import Router
from sluice_worker.settle import SettleStep
from sluice_worker.stream import Deltas

MAX_UNCONFIRMED = 20_000
"""Events with the broker above which no job starts; the sweeper has the rest."""
PACE_S = 0.1

_log = structlog.stdlib.get_logger(__name__)


class Worker:
    """Steps and their queues. Nothing here decides anything: it hands flights from step to step."""

    def __init__(
        self,
        config: Config,
        *,
        pool: str,
        classes: Iterable[JobClass],
        incarnation: int,
        database: asyncpg.Pool,
        publisher: Publisher,
        origin: Origin,
        outbox: OutboxRepository,
        transport: Transport,
        keys: Keys,
        prices: PriceBook,
        cluster_id: str,
    ) -> None:
        self._reader = Reader(IntakePolicy.from_config(config, cluster_id=cluster_id), keys)
        self._keys = keys
        self._pool = pool
        self.stopping = False
        self._lease_s = config.worker.owned_lease
        self._last_beat = time.monotonic()
        self.holdings = Holdings()
        self.publisher = publisher
        denials = DenialRepository(database)
        self.denials = DenialLog(denials)
        self.jobs = JobRepository(database, incarnation)
        names = NameRepository(database)
        router = Router(config, prices, pool=pool)
        self.settle = SettleStep(self.jobs, outbox, publisher, origin, released=self._released)
        self.calls = CallStep(
            transport,
            self.settle,
            Deltas(publisher, origin),
            answer_bytes=config.limits.answer_bytes,
            finished=self._call_ended,
        )
        self.begin = BeginStep(
            self.jobs,
            router,
            keys.get,
            called=self.calls.start,
            refused=self._refused_at_begin,
            lost=self._lost,
        )
        self.dispatcher = Dispatcher(
            slots=config.worker.concurrency,
            start=self.begin.add,
            expire=self._expired,
            may_start=self._trusted,
        )
        self.claimer = Claimer(
            self.jobs,
            names,
            self.dispatcher,
            self.holdings,
            pool=pool,
            classes=classes,
            usable=self._may_claim,
        )
        self.admit = AdmitStep(
            self.jobs,
            Names(names),
            publisher,
            origin,
            pool_of=router.pool_of,
            starts_here=self._starts_here,
            parked=self.claimer.parked,
            hold=self._hold,
            cluster_id=cluster_id,
            denials=denials,
        )
        self.control = ControlStep(self.jobs, self.admit, self.claimer, self._reader)
        self.audit = SelfAudit(self.jobs, self.holdings)

    def start(self, tasks: TaskSet) -> None:
        """Run the steps' loops."""
        for name, loop in (
            ("begin.prompt", self.begin.run_prompt()),
            ("begin.patient", self.begin.run_patient()),
            ("settle.prompt", self.settle.run_prompt()),
            ("settle.patient", self.settle.run_patient()),
            ("claim", self.claimer.run()),
            ("audit", self.audit.run()),
            ("denials", self.denials.run()),
            ("pace", self._pace()),
        ):
            tasks.start(name, loop)

    async def take(self, records: Sequence[Record]) -> None:
        """Intake's sink: verdicts, then one statement."""
        verdicts = await self._reader.read(records)
        await self.admit.write([v for v in verdicts if not isinstance(v, Cancel)])

    async def beat(self, beat: Beat) -> None:
        """What a heartbeat brought: cancels of held jobs, and changed keys."""
        self._last_beat = time.monotonic()
        await self._keys.refresh(beat.keys_version)
        for row in beat.cancels:
            flight = self.holdings.get(row)
            if flight is not None:
                self._cancel(flight)

    async def drain(self, grace_s: float) -> None:
        """Give back what has not started, then wait for calls, settlements and events."""
        self.stopping = self.dispatcher.held_back = True
        deadline = time.monotonic() + grace_s
        await self._give_back()
        while (len(self.holdings) or len(self.settle)) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            await self._give_back()  # what a poll in progress, or a claim, still brought
        await self.publisher.drain(max(2.0, deadline - time.monotonic()))

    async def _give_back(self) -> None:
        """Return flights that have not started to their lanes."""
        unstarted = self.dispatcher.empty()
        if not unstarted:
            return
        try:
            await self.jobs.release([flight.job.row for flight in unstarted])
        except DATABASE_ERRORS as exc:
            _log.warning("drain.not_released", jobs=len(unstarted), error=repr(exc))
        for flight in unstarted:
            self.holdings.remove(flight)

    def _starts_here(self, job_class: JobClass, pool: str, lane: int) -> bool:
        """Whether a fresh job starts owned: somebody waits for it, or nothing waits before it and a slot is free."""
        if pool != self._pool or self.stopping or not self._trusted():
            return False
        room = self.dispatcher.room(job_class)
        if job_class is JobClass.REALTIME:
            return room > 0
        return room > 0 and not self.claimer.has_backlog(lane)

    def busy(self) -> bool:
        """Whether intake must wait: settlements or events pile up behind it."""
        return self.dispatcher.held_back

    def _may_claim(self) -> bool:
        return not self.stopping and not self.dispatcher.held_back and self._trusted()

    def _trusted(self) -> bool:
        """Whether others may still take this process for alive.

        After a freeze nothing starts before a beat has told whether it was declared dead meanwhile.
        """
        return time.monotonic() - self._last_beat < self._lease_s

    def _hold(self, flights: list[Flight]) -> None:
        for flight in flights:
            self.holdings.add(flight)
        self.dispatcher.add(flights)

    def _cancel(self, flight: Flight) -> None:
        flight.cancelled = True
        if flight.task is not None:
            self.calls.end_early(flight, State.CANCELLED)
        elif self.dispatcher.take_out(flight):
            self._expired(flight)

    def _expired(self, flight: Flight) -> None:
        """A waiting flight ends without a call: cancelled, past its deadline, or past max_wait_s."""
        if flight.cancelled or flight.job.cancel:
            end = (State.CANCELLED, ErrorCode.CANCELLED, "cancelled before it was called")
        elif flight.job.deadline <= time.time():
            end = (
                State.EXPIRED,
                ErrorCode.DEADLINE_EXCEEDED,
                "the deadline passed before it was called",
            )
        else:
            end = (
                State.REJECTED,
                ErrorCode.CONCURRENCY_EXCEEDED,
                "no slot became free within max_wait_s",
            )
        self.settle.refuse(flight, *end)

    def _refused_at_begin(
        self, flight: Flight, state: State, code: ErrorCode, message: str
    ) -> None:
        self.denials.note(flight.job, code, flight.rule)
        self.dispatcher.finished(flight)
        self.settle.refuse(flight, state, code, message)

    def _lost(self, flight: Flight) -> None:
        _log.warning("begin.fenced", job_id=str(flight.id))
        self.dispatcher.finished(flight)
        self.holdings.remove(flight)

    def _call_ended(self, flight: Flight) -> None:
        self.dispatcher.finished(flight)

    def _released(self, flight: Flight) -> None:
        self.holdings.remove(flight)

    async def _pace(self) -> None:
        """Hold dispatch back while events or settlements pile up, ease bulk off, end what waits past its time."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + PACE_S
            await asyncio.sleep(PACE_S)
            lag_s = loop.time() - due
            self.dispatcher.held_back = self.stopping or (
                self.publisher.unconfirmed > MAX_UNCONFIRMED or len(self.settle) > 2_000
            )
            self.dispatcher.expire_due(time.time())
            self.dispatcher.feel(lag_s)
