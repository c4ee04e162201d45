"""What ledger tests share: a pool, workers as the ledger knows them, and values to write."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from uuid import UUID, uuid4

import asyncpg

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Facts, Job, Outcome, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.policy import Admission, Begin
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry, Intent, Settlement
from sluice_core.presence.repository import PresenceRepository
from sluice_core.settlement.model import Priced, Problem, Report
from sluice_core.settlement.policy import ending, reading_ended, retrying
from sluice_core.usage.model import Usage
from sluice_platform.ids import uuid7
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import id_by_key

WORST_NANO = 9_000
HEAD = (0.0, 0)


def requester(record: UUID, *, reply_to: str | None = None) -> bytes:
    return Requester(
        custom_id=f"row-{record.hex[:6]}",
        correlation_id=record.bytes,
        echo=(),
        cause=None,
        reply_to=reply_to,
        reply_partition=None,
        reply_only=False,
        traceparent=None,
        tracestate=None,
        record_key=None,
        record_id=record,
    ).to_bytes()


def report(
    outcome: Outcome, *, money: str = "estimated", worst_nano: int = WORST_NANO, cost: int = 1_500
) -> Report:
    now = round(time.time(), 6)
    return Report(
        account="mock",
        provider="openai",
        provider_model="gpt",
        started_at=now - 0.5,
        ended_at=now,
        worst_nano=worst_nano,
        input_nano=worst_nano // 3,
        outcome=outcome,
        money=money,  # type: ignore[arg-type]
        status=200 if outcome is Outcome.SUCCEEDED else None,
        body=b"{}" if outcome is Outcome.SUCCEEDED else None,
        usage=Usage(input_tokens=3, output_tokens=5),
        priced=Priced(cost_nano=cost, price_version="test"),
    )


PROBLEM = Problem(code=ErrorCode.PROVIDER_ERROR, message="refused")


def ended(job: Job, state: State, given: Report | None, *, read_on: bool = False) -> Settlement:
    return ending(
        job,
        state=state,
        custom_id=None,
        now=round(time.time(), 6),
        ce_id=uuid7(),
        usage_id=uuid7(),
        report=given,
        problem=None if state is State.SUCCEEDED else PROBLEM,
        read_on=read_on,
    )


def again(job: Job, given: Report, *, run_at: float | None = None) -> Settlement:
    return retrying(job, given, run_at=run_at or time.time(), usage_id=uuid7())


def elsewhere(job: Job, given: Report) -> Settlement:
    return retrying(job, given, run_at=None, usage_id=uuid7())


def reading(job: Job, given: Report) -> Settlement:
    return reading_ended(job, given, usage_id=uuid7())


@dataclass
class World:
    """One database and the lane that its jobs are in."""

    pool: asyncpg.Pool
    lane: int
    tenant: str = "acme"
    workers: list[int] = field(default_factory=list)

    async def worker(self, *, register: bool = True, kind: str = "worker") -> JobRepository:
        incarnation = secrets.randbits(62) + 1
        if register:
            presence = PresenceRepository(self.pool)
            await presence.register(incarnation, name=f"w{incarnation}", kind=kind, pool="default")
        return JobRepository(self.pool, incarnation)

    def entry(
        self,
        key: str,
        *,
        record: UUID | None = None,
        state: State = State.OWNED,
        body: bytes = b'{"messages":[]}',
        deadline: float | None = None,
        due_at: float | None = None,
        run: tuple[int, str] | None = None,
        max_attempts: int = 5,
        retry_unknown: bool = False,
        streams: bool = False,
        rerun: bool = False,
        reply_to: str | None = None,
    ) -> Entry:
        record = record or uuid4()
        until = deadline or time.time() + 3600
        return Entry(
            id=id_by_key(self.tenant, key),
            record_id=record,
            body_hash=body,
            lane=self.lane,
            state=state,
            max_attempts=max_attempts,
            retry_unknown=retry_unknown,
            streams=streams,
            rerun=rerun,
            due_at=due_at or until,
            deadline=until,
            run=None if run is None else run[0],
            facts=Facts(
                tenant=self.tenant,
                model="fast",
                job_class=JobClass.BULK,
                run_id=None if run is None else run[1],
            ),
            body=body,
            requester=requester(record, reply_to=reply_to),
        )

    async def admit(self, jobs: JobRepository, entry: Entry) -> Job:
        """Admit an entry that is new, and hold it as its worker would."""
        admitted = await jobs.admit([entry])
        assert admitted.verdicts[0] in (Admission.ADMITTED, Admission.CANCELLED), admitted
        return held(
            entry, admitted.rows[0], admitted.day, admitted.executions[0], admitted.attempts[0]
        )

    async def begin(self, jobs: JobRepository, job: Job, *, worst_nano: int = WORST_NANO) -> Job:
        """Begin an attempt that must begin; the job with its new number."""
        (begun,) = await jobs.begin([intent(job, worst_nano)])
        assert begun.verdict is Begin.BEGUN
        return replace(job, attempt=begun.attempt)

    async def calling(self, jobs: JobRepository, key: str, **options: object) -> Job:
        """A job in the middle of a call."""
        return await self.begin(jobs, await self.admit(jobs, self.entry(key, **options)))  # type: ignore[arg-type]

    async def state(self, job: Job) -> State:
        return State(
            await self.pool.fetchval(
                "select state from sluice.jobs where id = $1"
                " union all select state from sluice.jobs_past where id = $1",
                job.row,
            )
        )

    async def count(self, query: str, *values: object) -> int:
        number: int = await self.pool.fetchval(f"select count(*) from {query}", *values)
        return number


def intent(job: Job, worst_nano: int = WORST_NANO) -> Intent:
    return Intent(
        row=job.row,
        day=job.day,
        account="mock",
        provider_model="gpt",
        worst_nano=worst_nano,
        input_nano=worst_nano // 3,
    )


def held(entry: Entry, row: int | None, day: date, execution: int, attempts: int) -> Job:
    assert row is not None
    return Job(
        row=row,
        id=entry.id,
        day=day,
        lane=entry.lane,
        run=entry.run,
        attempt=attempts,
        first_attempt=attempts,
        max_attempts=entry.max_attempts,
        deaths=0,
        execution=execution,
        retry_unknown=entry.retry_unknown,
        streams=entry.streams,
        cancel=False,
        due_at=entry.due_at,
        deadline=entry.deadline,
        admitted_at=time.time(),
        facts=entry.facts,
        body=entry.body,
        requester=entry.requester,
    )


@asynccontextmanager
async def world(dsn: str, *, tenant: str = "acme") -> AsyncIterator[World]:
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=6)
    try:
        names = NameRepository(pool)
        lane = await names.ensure_lane(JobClass.BULK, "default", tenant, "unallocated", "fast")
        yield World(pool=pool, lane=lane, tenant=tenant)
    finally:
        await pool.close()
