"""The pipeline of one worker, put together: which step hands what to which."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import asyncpg

from sluice_core.admission.directory import Directory
from sluice_core.admission.expectations import Expectations
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.caching.repository import CacheRepository
from sluice_core.config.model import Config
from sluice_core.dispatch.fairness import VirtualTimes, Weights
from sluice_core.dispatch.policy import Shares
from sluice_core.dispatch.repository import VirtualTimeRepository
from sluice_core.holds.repository import HoldRepository
from sluice_core.holds.service import HeldNow
from sluice_core.intake.model import Cancel, Record
from sluice_core.intake.policy import IntakePolicy
from sluice_core.jobs.model import Job
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.keys.provider import StoredKeys
from sluice_core.keys.ring import Keys
from sluice_core.policies.repository import DenialRepository
from sluice_core.presence.repository import Beat
from sluice_core.pricing.book import PriceBook
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_core.rollout.repository import RolloutRepository
from sluice_core.routing import language
from sluice_core.routing.repository import BreakerRepository
from sluice_platform.lifecycle import TaskSet
from sluice_providers.http import Transport
from sluice_schemas.classes import JobClass
from sluice_worker.accounts import accounts_of
from sluice_worker.admit import AdmitStep
from sluice_worker.audit import SelfAudit
from sluice_worker.begin import BeginStep, Ways
from sluice_worker.breakers import Breakers
from sluice_worker.cache import CacheStep
from sluice_worker.cache import Ways as CacheWays
from sluice_worker.call import CallStep
from sluice_worker.claim import Claimer
from sluice_worker.control import ControlStep
from sluice_worker.crowds import Crowds
from sluice_worker.denials import DenialLog
from sluice_worker.dispatch import Dispatcher
from sluice_worker.drain import drain
from sluice_worker.errands import Errands
from sluice_worker.escalate import Escalation
from sluice_worker.handover import Handover
from sluice_worker.holdings import Holdings
from sluice_worker.keyring import Keyring
from sluice_worker.load import Load
from sluice_worker.meanings import Meanings
from sluice_worker.names import Names
from sluice_worker.pace import keep_pace
from sluice_worker.permits import Permits
from sluice_worker.readiness import Readiness
from sluice_worker.reading import Reader
from sluice_worker.reasons import Reasons
from sluice_worker.refresh import Refresh
from sluice_worker.resolve import Resolver
from sluice_worker.returns import ReturnStep
from sluice_worker.rollout import Followers, Rollout
from sluice_worker.route import Router
from sluice_worker.settle import SettleStep
from sluice_worker.stream import Deltas


class Worker(Handover):
    """Steps and their queues, put together; `Handover` says where flights go between them."""

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
        stored_keys: StoredKeys,
        prices: PriceBook,
        cluster_id: str,
        parse: Callable[[str], Config],
    ) -> None:
        intake = IntakePolicy.from_config(config, cluster_id=cluster_id)
        self._reader = Reader(intake, keys)
        self._keys = keys
        self._stored_keys = stored_keys
        super().__init__()
        self.holdings = Holdings()
        self.publisher = publisher
        denials = DenialRepository(database)
        self.denials = DenialLog(denials)
        self.jobs = JobRepository(database, incarnation)
        names, parked = NameRepository(database), ParkedRepository(database)
        self._held = HeldNow(HoldRepository(database), accounts_of(config, pool))
        self._readiness = Readiness(self._held, pool=pool, lease_s=config.worker.owned_lease)
        self.crowds = Crowds(parked, config)
        self._reasons = Reasons(parked)
        remembered, expectations = Names(names), Expectations()
        self._breakers = Breakers(BreakerRepository(database, incarnation))
        self._keyring = Keyring(transport)
        resolver = Resolver(config, prices, pool=pool, keyring=self._keyring)
        router = Router(resolver, self._breakers.targets, expectations)
        self._permits = Permits(intake.permissions, remembered.pseudonym)
        self._tenants = tuple(config.tenants)
        self._tells_languages = any(
            route.when.languages for model in config.models.values() for route in model.routes
        )
        self._directory = Directory(AdmissionRepository(database), config, remembered.pseudonym)
        self._deltas = Deltas(publisher, origin)
        self._escalation = Escalation()
        self.settle = SettleStep(
            self.jobs,
            outbox,
            publisher,
            origin,
            released=self._released,
            goes_on=self._goes_on,
            replay=self._replay,
        )
        self.calls = CallStep(
            transport,
            self.settle,
            self._deltas,
            answer_bytes=config.limits.answer_bytes,
            finished=self._call_ended,
            load=Load(expectations, router),
            router=router,
            escalation=self._escalation,
            repeatable=self._repeatable,
            gave_up=self._gave_up,
            hedge=self._hedges,
            hold=self.holdings.add,
        )
        stored = CacheRepository(database, incarnation)
        errands = Errands(
            self.jobs, remembered, pool=pool, pool_of=router.pool_of, start=self._runs_errand
        )
        self.cache = CacheStep(
            stored,
            config,
            CacheWays(hit=self._repeated, miss=self._asks),
            Meanings(stored, errands),
        )
        self.begin = BeginStep(
            self.jobs,
            router,
            key_of=keys.get,
            permits=self._permits,
            ledgers=self._directory,
            expectations=expectations,
            ways=Ways(
                called=self._begun,
                refused=self._refused_at_begin,
                lost=self._lost,
                waits=self._waits,
                deferred=self._gone,
                answered_in=self._answered_in,
                answers=self.cache.takes,
            ),
        )
        self.dispatcher = Dispatcher(
            slots=config.worker.concurrency,
            start=self.begin.add,
            expire=self._expired,
            may_start=self._readiness.trusted,
            shares=Shares.from_config(config.dispatch),
            times=VirtualTimes(Weights.from_config(config)),
            give_back=self._return,
            held=self._stopped,
            blocked=self._reasons.note,
            later=lambda delay_s, what: asyncio.get_running_loop().call_later(delay_s, what),
            expectations=expectations,
        )
        self._refresh = Refresh(VirtualTimeRepository(database), self.dispatcher.times)
        self.claimer = Claimer(
            self.jobs,
            names,
            parked,
            self.dispatcher,
            self.holdings,
            pool=pool,
            classes=classes,
            usable=self._may_claim,
            held=self._held.lane,
        )
        self._returns = ReturnStep(
            self.jobs,
            parked,
            self.holdings,
            run_held=self._held.run,
            rewind=self.claimer.rewind,
        )
        self.admit = AdmitStep(
            self.jobs,
            remembered,
            publisher,
            origin,
            pool_of=router.pool_of,
            room_here=self._room_here,
            parked=self._parked,
            crowds=self.crowds,
            known=parked.known,
            hold=self._hold,
            cluster_id=cluster_id,
            denials=denials,
        )
        self._rollout = Rollout(
            RolloutRepository(database),
            config,
            Followers(
                reader=self._reader,
                permits=self._permits,
                directory=self._directory,
                router=router,
                cache=self.cache,
                dispatcher=self.dispatcher,
                crowds=self.crowds,
            ),
            parse=parse,
            cluster_id=cluster_id,
        )
        self.control = ControlStep(self.jobs, self.admit, self.claimer, self._reader)
        self.audit = SelfAudit(self.jobs, self.holdings)

    async def prepare(self) -> None:
        """Make the ledger say what the configuration says of limits and budgets; before anything starts."""
        if self._tells_languages:
            await asyncio.to_thread(language.load)
        await self._directory.start()
        await self._permits.prepare(self._tenants)
        await self._rollout.start()

    def start(self, tasks: TaskSet) -> None:
        """Run the steps' loops."""
        for name, loop in (
            ("begin.prompt", self.begin.run_prompt()),
            ("begin.patient", self.begin.run_patient()),
            ("settle.prompt", self.settle.run_prompt()),
            ("settle.patient", self.settle.run_patient()),
            ("claim", self.claimer.run()),
            ("return", self._returns.run()),
            ("refresh", self._refresh.run()),
            ("crowds", self.crowds.run()),
            ("reasons", self._reasons.run()),
            ("audit", self.audit.run()),
            ("breakers", self._breakers.run()),
            ("cache.look", self.cache.run_looks()),
            ("cache.keep", self.cache.run_keeps()),
            ("denials", self.denials.run()),
            ("keyring", self._keyring.run()),
            ("pace", keep_pace(self.dispatcher, self.publisher, self.settle, self._readiness)),
        ):
            tasks.start(name, loop)

    async def take(self, records: Sequence[Record]) -> None:
        """Intake's sink: verdicts, then one statement."""
        verdicts = await self._reader.read(records)
        await self.admit.write([v for v in verdicts if not isinstance(v, Cancel)])

    async def beat(self, beat: Beat) -> None:
        """What a heartbeat brought: cancels of held jobs, changed keys, and what operators hold."""
        self._readiness.beaten()
        await self._keys.refresh(beat.keys_version)
        await self.follow_stored_keys(beat.keys_version)
        await self._rollout.refresh(beat.config_version)
        await self._directory.refresh(beat.config_version)
        if await self._held.refresh(beat.config_version):
            self._breakers.targets.hold(self._held.accounts, time.time())
            self.dispatcher.stop_held()
        for row in beat.cancels:
            flight = self.holdings.get(row)
            if flight is not None:
                self._cancel(flight)

    async def follow_stored_keys(self, version: int) -> None:
        """Call providers with the keys that the ledger keeps, as of this version of all keys."""
        found = await self._stored_keys.refresh(version)
        if found is not None:
            self._keyring.store(found)

    async def drain(self, grace_s: float) -> None:
        """Stop: give back what has not started, wait for the rest."""
        self._readiness.stopping = True
        await drain(
            self.dispatcher,
            self.jobs,
            self.holdings,
            calls=self.calls,
            settle=self.settle,
            publisher=self.publisher,
            grace_s=grace_s,
        )

    def _room_here(self, job_class: JobClass, pool: str, lane: int, tenant: str, model: str) -> int:
        return self._readiness.room(
            self.dispatcher,
            self.claimer,
            job_class=job_class,
            pool=pool,
            lane=lane,
            tenant=tenant,
            model=model,
        )

    def busy(self) -> bool:
        """Whether intake must wait: settlements or events pile up behind it."""
        return self.dispatcher.held_back

    def _may_claim(self) -> bool:
        return self._readiness.may_claim(self.dispatcher)

    def _stopped(self, job: Job, /) -> bool:
        return self._held.job(job.facts)

    def _parked(self, lane: int, job_class: JobClass, tenant: str) -> None:
        self.claimer.parked(lane, job_class)
        self.crowds.parked(job_class, tenant)
