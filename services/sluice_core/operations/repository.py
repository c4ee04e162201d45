"""Statements of operators on jobs and runs: they read, cancel and mark, and take no long lock."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from sluice_core.jobs.model import Outcome, State
from sluice_core.operations.model import (
    AttemptSummary,
    JobDetail,
    JobFilter,
    JobSummary,
    Rerun,
    RunSummary,
)
from sluice_schemas.classes import JobClass

_SUMMARY: Final = """
    select j.uuid, j.id, j.day, j.state, l.class, l.tenant, l.project, l.model, r.name as run_id, j.execution,
           j.attempt - j.first_attempt as attempts, j.admitted_at, j.finished_at, j.deadline, j.deaths, j.cancel, j.owner
      from {source} j
      join sluice.lanes l on l.id = j.lane
      left join sluice.runs r on r.id = j.run
"""
_HOT: Final = _SUMMARY.replace("{source}", "sluice.jobs")
_PAST: Final = _SUMMARY.replace("{source}", "sluice.jobs_past")
_BY_ID: Final = (
    "with found as ("  # noqa: S608 - constants alone
    + _HOT
    + " join sluice.identities t on t.job = j.id where t.uuid = $1 union all "
    + _PAST
    + " where j.uuid = $1) select * from found order by execution desc limit 1"
)
_MATCHES: Final = """
     where ($1::text is null or l.tenant = $1) and ($2::smallint is null or j.state = $2)
       and ($3::smallint is null or l.class = $3) and ($4::text is null or r.name = $4)
       and ($5::timestamptz is null or j.admitted_at >= $5)
"""
_LIST_HOT: Final = _HOT + _MATCHES + " order by j.id desc limit $6"
_LIST_PAST: Final = (
    _PAST + _MATCHES + " and j.finished_at >= $5 order by j.finished_at desc limit $6"
)


class OperatorRepository:
    """Looks jobs and runs up by their public names."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def job(self, job_id: UUID) -> JobDetail | None:
        """The newest execution of a job, live or archived; None for an id that the ledger forgot."""
        row = await self._pool.fetchrow(_BY_ID, job_id)
        if row is None:
            return None
        attempts = await self._pool.fetch(
            "select a.*, w.name as worker_name from sluice.attempts a"
            " left join sluice.workers w on w.incarnation = a.worker"
            " where a.job = $1 and a.day = $2 order by a.attempt",
            row["id"],
            row["day"],
        )
        stored = await self._pool.fetchrow(
            "select q.facts, octet_length(q.body) as request_bytes, octet_length(p.result) as result_bytes,"
            " p.reply_given_up_at, (select w.name from sluice.workers w where w.incarnation = $3) as owner"
            " from (select $1::bigint as job, $2::date as day) k"
            " left join sluice.requests q on q.job = k.job and q.day = k.day"
            " left join sluice.responses p on p.job = k.job and p.day = k.day",
            row["id"],
            row["day"],
            row["owner"],
        )
        return JobDetail(
            summary=_summary(row),
            attempts=tuple(_attempt(attempt) for attempt in attempts),
            facts={} if stored["facts"] is None else orjson.loads(stored["facts"]),
            request_bytes=stored["request_bytes"],
            result_bytes=stored["result_bytes"],
            reply_given_up_at=stored["reply_given_up_at"],
            deaths=row["deaths"],
            cancel=row["cancel"],
            owner=stored["owner"],
        )

    async def jobs(self, wanted: JobFilter) -> Sequence[JobSummary]:
        """The newest jobs that match; archived ones only where `since` bounds the search."""
        values = (
            wanted.tenant,
            wanted.state,
            wanted.job_class,
            wanted.run_id,
            wanted.since,
            wanted.limit,
        )
        rows = list(await self._pool.fetch(_LIST_HOT, *values))
        if wanted.since is not None and len(rows) < wanted.limit:
            rows += await self._pool.fetch(_LIST_PAST, *values)
        return [_summary(row) for row in rows[: wanted.limit]]

    async def result(self, job_id: UUID) -> bytes | None:
        """The stored result of the newest execution as it was published; None where there is none."""
        row = await self._pool.fetchrow(_BY_ID, job_id)
        if row is None:
            return None
        value: bytes | None = await self._pool.fetchval(
            "select result from sluice.responses where job = $1 and day = $2", row["id"], row["day"]
        )
        return value

    async def rerun(self, job_id: UUID) -> Rerun | None:
        """What the next execution of a job is made of; None where job or request are not kept."""
        row = await self._pool.fetchrow(_RERUN, job_id)
        if row is None:
            return None
        values = dict(row)
        return Rerun(state=State(values.pop("state")), id=values.pop("uuid"), **values)

    async def retryable(self, tenant: str, run_id: str, states: Sequence[State]) -> list[UUID]:
        """Jobs of a run whose newest execution ended in one of `states`."""
        rows = await self._pool.fetch(
            """
            select e.uuid from (
              select distinct on (x.uuid) x.uuid, x.state from (
                select j.uuid, j.state, j.execution from sluice.jobs j join sluice.runs r on r.id = j.run
                 where r.tenant = $1 and r.name = $2
                union all
                select p.uuid, p.state, p.execution from sluice.jobs_past p join sluice.runs r on r.id = p.run
                 where r.tenant = $1 and r.name = $2) x
               order by x.uuid, x.execution desc) e
             where e.state = any ($3::smallint[])
            """,
            tenant,
            run_id,
            list(states),
        )
        return [row["uuid"] for row in rows]

    async def runs(
        self, tenant: str | None, run_id: str | None, limit: int
    ) -> Sequence[RunSummary]:
        """The newest runs, or those of one name."""
        rows = await self._pool.fetch(
            "select tenant, run_id, created_at, completed_at, jobs, waiting, running, succeeded, failed, rejected,"
            " expired, cancelled, unknown, cost_usd from finance.runs"
            " where ($1::text is null or tenant = $1) and ($2::text is null or run_id = $2)"
            " order by created_at desc limit $3",
            tenant,
            run_id,
            limit,
        )
        return [RunSummary(**dict(row)) for row in rows]

    async def reopen_run(self, tenant: str, run_id: str, actor: str) -> None:
        """Lift a run's cancel, so that its jobs can be executed again."""
        await self._pool.execute(
            """
            with lifted as (
              delete from sluice.cancels where tenant = $1 and run = $2 returning tenant, run),
            noted as (
              insert into sluice.audit (actor, action, subject)
              select $3, 'run.reopen', tenant || '/' || run from lifted)
            update sluice.runs set completed_at = null where tenant = $1 and name = $2 and completed_at is not null
            """,
            tenant,
            run_id,
            actor,
        )

    async def note(self, actor: str, action: str, subject: str, after: object = None) -> None:
        """Write an audit entry; `after` is written as JSON."""
        await self._pool.execute(
            "insert into sluice.audit (actor, action, subject, after) values ($1, $2, $3, $4)",
            actor,
            action,
            subject,
            None if after is None else orjson.dumps(after).decode(),
        )

    async def mark_replayed(self, topic: str, partition: int, offset: int, actor: str) -> None:
        """Mark the dead letter of a source record as sent back, with an audit entry."""
        await self._pool.execute(
            """
            with marked as (
              update sluice.dead_letters set replayed_at = clock_timestamp()
               where topic = $1 and partition = $2 and "offset" = $3)
            insert into sluice.audit (actor, action, subject)
            values ($4, 'deadletter.replay', $1::text || '/' || $2::int || '/' || $3::bigint)
            """,
            topic,
            partition,
            offset,
            actor,
        )

    async def replayed(self) -> set[tuple[str, int, int]]:
        """Source records (topic, partition, offset) whose dead letters were sent back."""
        rows = await self._pool.fetch(
            'select topic, partition, "offset" from sluice.dead_letters where replayed_at is not null'
        )
        return {(row["topic"], row["partition"], row["offset"]) for row in rows}

    async def set_finance_password(self, password: str) -> None:
        """Let `sluice_finance` log in with this password (letters and digits only)."""
        assert password.isalnum()
        await self._pool.execute(f"alter role sluice_finance login password '{password}'")


_RERUN: Final = """
    with newest as (
      select * from (
        select j.id, j.uuid, j.day, j.state, j.lane, j.run, j.execution, j.max_attempts, j.retry_unknown, j.streams,
               j.deadline - j.admitted_at as allowed, t.body_hash
          from sluice.identities t join sluice.jobs j on j.id = t.job where t.uuid = $1
        union all
        select p.id, p.uuid, p.day, p.state, p.lane, p.run, p.execution, p.max_attempts, p.retry_unknown, p.streams,
               p.deadline - p.admitted_at, p.body_hash
          from sluice.jobs_past p where p.uuid = $1) e
       order by e.execution desc limit 1)
    select n.uuid, n.state, n.lane, n.run, n.max_attempts, n.retry_unknown, n.streams, n.body_hash,
           extract(epoch from n.allowed)::float8 as allowed_s, q.body, q.facts, q.requester,
           exists (select from sluice.runs r join sluice.cancels c on c.tenant = r.tenant and c.run = r.name
                    where r.id = n.run) as run_cancelled
      from newest n join sluice.requests q on q.job = n.id and q.day = n.day
"""


def _summary(row: Mapping[str, Any]) -> JobSummary:
    return JobSummary(
        id=row["uuid"],
        row=row["id"],
        day=row["day"],
        state=State(row["state"]),
        job_class=JobClass(row["class"]),
        tenant=row["tenant"],
        project=row["project"],
        model=row["model"],
        run_id=row["run_id"],
        execution=row["execution"],
        attempts=row["attempts"],
        admitted_at=row["admitted_at"],
        finished_at=row["finished_at"],
        deadline=row["deadline"],
    )


def _attempt(row: Mapping[str, Any]) -> AttemptSummary:
    outcome = row["outcome"]
    return AttemptSummary(
        attempt=row["attempt"],
        account=row["account"],
        provider_model=row["provider_model"],
        route=row["route"],
        outcome=None if outcome is None else Outcome(outcome).label,
        status=row["status"],
        code=row["code"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        worst_nano=row["worst_nano"],
        provider_request_id=row["provider_request_id"],
        worker=row["worker_name"],
    )
