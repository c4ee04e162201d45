"""The ledger's statements on jobs: each method is one autocommit statement on one micro-batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg

from sluice_core.jobs.model import (
    Abandoned,
    AbandonedReading,
    Facts,
    Job,
    Lane,
    OpenAttempt,
    Outcome,
    State,
)
from sluice_core.jobs.policy import MAX_DEATHS, Admission, Begin, Settle
from sluice_core.usage.model import UsageRow
from sluice_schemas.classes import JobClass

POISON: Final = ("21", "22", "23", "54")
"""SQLSTATE classes that one bad row of a batch causes: the batch is bisected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record on its way into the ledger: a job, or a rejection with its result.

    `state` is what is asked for: PARKED, OWNED by the caller, or REJECTED. Times are epoch seconds.
    """

    id: UUID
    record_id: UUID
    body_hash: bytes
    lane: int
    state: State
    max_attempts: int
    retry_unknown: bool
    streams: bool
    rerun: bool
    due_at: float
    deadline: float
    run: int | None
    facts: Facts
    body: bytes
    requester: bytes
    ce_id: UUID | None = None
    result: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterEntry:
    """A record that could not be a job: where it came from, and what goes to the dead letters."""

    record_id: UUID
    topic: str
    partition: int
    offset: int
    code: str
    message: str
    to_topic: str
    key: bytes | None
    headers: bytes
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Per entry what became of it: the verdict, and for admitted ones row, execution, attempts before."""

    verdicts: Sequence[Admission]
    rows: Sequence[int | None]
    executions: Sequence[int]
    attempts: Sequence[int]
    day: date
    outbox: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """An attempt about to be made; `worst_nano` is what it may cost at most, in nano-dollars."""

    row: int
    day: date
    account: str
    provider_model: str
    worst_nano: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """One job's next state after an attempt, or without one (`outcome` None).

    `state` is terminal, RETRY_WAIT with `run_at` (epoch seconds), or None: the job was answered
    before and only its attempt ends now. `result` and `ce_id` belong to a terminal state; `held_nano`
    is the money of an unknown outcome, `input_nano` the input's part of it.
    """

    row: int
    day: date
    attempt: int
    state: State | None
    outcome: Outcome | None
    run_at: float | None = None
    death: bool = False
    code: str | None = None
    status: int | None = None
    provider_request_id: str | None = None
    usage: UsageRow | None = None
    held_nano: int | None = None
    input_nano: int | None = None
    ce_id: UUID | None = None
    result: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Per settlement its verdict; the outbox rows written as (id, kind, job row), and when."""

    verdicts: Sequence[Settle]
    events: Sequence[tuple[int, int, int]]
    recorded_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What a heartbeat brings back; `known` False: this incarnation was declared dead."""

    known: bool
    cancels: Sequence[int]
    keys_version: int
    config_version: int


_FIELDS = "job, uuid, day, lane, run, was, attempt, first_attempt, max_attempts, deaths, execution, retry_unknown, streams, cancel, due_at, deadline, admitted_at, body, facts, requester"


def job_of(row: Mapping[str, Any]) -> Job:
    """A row of `claim_v1` and its like as a value."""
    return Job(
        row=row["job"],
        id=row["uuid"],
        day=row["day"],
        lane=row["lane"],
        run=row["run"],
        attempt=row["attempt"],
        first_attempt=row["first_attempt"],
        max_attempts=row["max_attempts"],
        deaths=row["deaths"],
        execution=row["execution"],
        retry_unknown=row["retry_unknown"],
        streams=row["streams"],
        cancel=row["cancel"],
        due_at=row["due_at"],
        deadline=row["deadline"],
        admitted_at=row["admitted_at"],
        facts=Facts.from_json(row["facts"]),
        body=row["body"],
        requester=row["requester"],
    )


class JobRepository:
    """Statements on jobs, in the name of one incarnation."""

    def __init__(self, pool: asyncpg.Pool, incarnation: int) -> None:
        self._pool = pool
        self.incarnation = incarnation

    async def admit(
        self, entries: Sequence[Entry], dead: Sequence[DeadLetterEntry] = ()
    ) -> Admitted:
        """Write a poll's records; every entry ends in one verdict."""
        row = await self._pool.fetchrow(
            "select * from sluice.admit_v1($1, $2, $3, $4, $5, $6, $7)",
            self.incarnation,
            [
                (
                    e.id,
                    e.record_id,
                    e.body_hash,
                    e.lane,
                    e.state,
                    e.max_attempts,
                    e.retry_unknown,
                    e.streams,
                    e.rerun,
                    e.due_at,
                    e.deadline,
                    e.run,
                    e.facts.tenant,
                    e.facts.run_id,
                    e.ce_id,
                )
                for e in entries
            ],
            [e.body for e in entries],
            [e.facts.to_json() for e in entries],
            [e.requester for e in entries],
            [e.result for e in entries],
            [
                (
                    d.record_id,
                    d.topic,
                    d.partition,
                    d.offset,
                    d.code,
                    d.message,
                    d.to_topic,
                    d.key,
                    d.headers,
                    d.value,
                )
                for d in dead
            ],
        )
        return Admitted(
            verdicts=[Admission(verdict) for verdict in row["verdicts"]],
            rows=row["jobs"],
            executions=row["executions"],
            attempts=row["attempts"],
            day=row["day"],
            outbox=row["outbox"],
        )

    async def begin(self, intents: Sequence[Intent]) -> Sequence[tuple[Begin, int]]:
        """Make attempts durable; per intent the verdict and the attempt's number."""
        row = await self._pool.fetchrow(
            "select * from sluice.begin_v1($1, $2)",
            self.incarnation,
            [(i.row, i.day, i.account, i.provider_model, i.worst_nano) for i in intents],
        )
        return [
            (Begin(verdict), attempt)
            for verdict, attempt in zip(row["verdicts"], row["attempts"], strict=True)
        ]

    async def settle(
        self, settlements: Sequence[Settlement], *, owner: int | None = None
    ) -> Settled:
        """Settle a micro-batch. `owner`: settle in a dead owner's name; no evidence is kept then."""
        row = await self._pool.fetchrow(
            "select verdicts, outbox, out_kinds, out_jobs, extract(epoch from recorded_at)::float8 as recorded_at"
            " from sluice.settle_v1($1, $2, $3, $4, $5)",
            self.incarnation if owner is None else owner,
            [
                (
                    s.row,
                    s.day,
                    s.attempt,
                    0 if s.state is None else s.state,
                    s.run_at,
                    s.death,
                    s.outcome,
                    s.code,
                    s.status,
                    s.provider_request_id,
                    None if s.usage is None else s.usage.usage_id,
                    s.held_nano,
                    s.input_nano,
                    s.ce_id,
                )
                for s in settlements
            ],
            [s.result for s in settlements],
            [s.usage.to_row(s.row) for s in settlements if s.usage is not None],
            owner is None,
        )
        events = zip(
            row["outbox"] or (), row["out_kinds"] or (), row["out_jobs"] or (), strict=True
        )
        return Settled(
            verdicts=[Settle(verdict) for verdict in row["verdicts"]],
            events=list(events),
            recorded_at=row["recorded_at"],
        )

    async def claim(
        self,
        cursors: Sequence[tuple[int, float, int]],
        *,
        per_lane: int,
        limit: int,
        max_bytes: int,
    ) -> list[Job]:
        """Take parked rows after each lane's cursor (lane, due_at, row), and due retries of these lanes."""
        rows = await self._pool.fetch(
            f"select {_FIELDS} from sluice.claim_v1($1, $2, $3, $4, $5, true)",
            self.incarnation,
            cursors,
            per_lane,
            limit,
            max_bytes,
        )
        return [job_of(row) for row in rows]

    async def claim_ending(self, limit: int) -> list[Job]:
        """Take rows nobody owns that are cancelled or past due, in any lane. Their bodies stay behind."""
        rows = await self._pool.fetch(
            f"select {_FIELDS} from sluice.claim_ending_v1($1, $2)", self.incarnation, limit
        )
        return [job_of(row) for row in rows]

    async def release(self, rows: Sequence[int]) -> int:
        """Give owned rows back unstarted; returns how many were."""
        count: int = await self._pool.fetchval(
            "select sluice.release_v1($1, $2)", self.incarnation, rows
        )
        return count

    async def mine(self) -> dict[int, tuple[State, int]]:
        """Every row this incarnation holds in the ledger: its state and last attempt."""
        rows = await self._pool.fetch(
            "select id, state, attempt from sluice.jobs where owner = $1 and state in (2, 3)",
            self.incarnation,
        )
        return {row["id"]: (State(row["state"]), row["attempt"]) for row in rows}

    async def cancel(self, wishes: Sequence[tuple[str, UUID | None, str | None]]) -> int:
        """Cancel jobs or runs, each (tenant, job id, run id); returns how many live jobs were flagged."""
        tenants, ids, runs = zip(*wishes, strict=True)
        count: int = await self._pool.fetchval(
            "select sluice.cancel_v1($1, $2, $3)", tenants, ids, runs
        )
        return count

    async def flag_cancelled_runs(self, limit: int) -> int:
        """Flag the live jobs of cancelled runs, at most `limit` now."""
        count: int = await self._pool.fetchval("select sluice.flag_cancelled_runs_v1($1)", limit)
        return count

    async def reap_owned(self, alive: Sequence[int], limit: int) -> int:
        """Give the dead's unstarted rows back to their lanes."""
        count: int = await self._pool.fetchval(
            "select sluice.reap_owned_v1($1, $2, $3)", alive, MAX_DEATHS, limit
        )
        return count

    async def abandoned(
        self, alive: Sequence[int], alive_owned: Sequence[int], limit: int
    ) -> list[Abandoned]:
        """Rows to settle in their dead owner's name. `alive`: by the calling lease, `alive_owned`: by the owned one."""
        rows = await self._pool.fetch(
            f"select {_FIELDS}, owner, account, provider_model, worst_nano, started_at"
            " from sluice.left_calling_v1($1, $2, $3, $4)",
            alive,
            alive_owned,
            MAX_DEATHS,
            limit,
        )
        return [
            Abandoned(
                job=job_of(row),
                state=State(row["was"]),
                owner=row["owner"],
                open_attempt=_open_attempt(row) if row["account"] is not None else None,
            )
            for row in rows
        ]

    async def abandoned_readings(self, alive: Sequence[int], limit: int) -> list[AbandonedReading]:
        """Attempts that dead processes were reading on."""
        rows = await self._pool.fetch("select * from sluice.left_reading_v1($1, $2)", alive, limit)
        return [
            AbandonedReading(
                row=row["job"],
                id=row["uuid"],
                day=row["day"],
                attempt=row["attempt"],
                owner=row["worker"],
                facts=Facts.from_json(row["facts"]),
                open_attempt=_open_attempt(row),
            )
            for row in rows
        ]

    async def archive(self, after: int, age_s: float, limit: int) -> tuple[int | None, int]:
        """Move finished rows among the next `limit` after row `after`; returns the next row and how many moved."""
        row = await self._pool.fetchrow(
            "select * from sluice.archive_v1($1, make_interval(secs => $2), $3)",
            after,
            age_s,
            limit,
        )
        return row["next_after"], row["moved"]


def _open_attempt(row: Mapping[str, Any]) -> OpenAttempt:
    return OpenAttempt(
        account=row["account"],
        provider_model=row["provider_model"],
        worst_nano=row["worst_nano"],
        started_at=row["started_at"],
    )


class NameRepository:
    """The rows that names stand for: lanes, runs, users. Looked up once, remembered in the process."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lanes(self) -> list[Lane]:
        """Every lane there is."""
        rows = await self._pool.fetch("select * from sluice.lanes order by id")
        return [
            Lane(
                id=row["id"],
                job_class=JobClass(row["class"]),
                pool=row["pool"],
                tenant=row["tenant"],
                project=row["project"],
                model=row["model"],
            )
            for row in rows
        ]

    async def ensure_lane(
        self, job_class: JobClass, pool: str, tenant: str, project: str, model: str
    ) -> int:
        """The lane of this combination, made if new."""
        lane: int = await self._ensure(
            "sluice.lanes (class, pool, tenant, project, model) values ($1, $2, $3, $4, $5)",
            "sluice.lanes where class = $1 and pool = $2 and tenant = $3 and project = $4 and model = $5",
            job_class,
            pool,
            tenant,
            project,
            model,
        )
        return lane

    async def ensure_run(self, tenant: str, name: str) -> int:
        """The run of this name, made if new."""
        run: int = await self._ensure(
            "sluice.runs (tenant, name) values ($1, $2)",
            "sluice.runs where tenant = $1 and name = $2",
            tenant,
            name,
        )
        return run

    async def pseudonym_key(self, tenant: str, fresh: bytes) -> bytes:
        """The tenant's key for user pseudonyms; `fresh` becomes it where there is none."""
        await self._pool.execute(
            "insert into sluice.pseudonym_keys (tenant, key) values ($1, $2) on conflict do nothing",
            tenant,
            fresh,
        )
        key: bytes = await self._pool.fetchval(
            "select key from sluice.pseudonym_keys where tenant = $1", tenant
        )
        return key

    async def ensure_user(self, tenant: str, user_id: str, user: str) -> None:
        """Remember whom a pseudonym stands for."""
        await self._pool.execute(
            'insert into finance.users (tenant, user_id, "user") values ($1, $2, $3) on conflict do nothing',
            tenant,
            user_id,
            user,
        )

    async def _ensure(self, insert: str, select: str, *values: Any) -> Any:
        found = await self._pool.fetchval(f"select id from {select}", *values)
        if found is None:
            found = await self._pool.fetchval(
                f"insert into {insert} on conflict do nothing returning id", *values
            )
        if found is None:  # another process was first
            found = await self._pool.fetchval(f"select id from {select}", *values)
        return found
