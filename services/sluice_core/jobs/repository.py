"""The ledger's statements on jobs: each method is one autocommit statement on one micro-batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from sluice_core.jobs.model import (
    Abandoned,
    AbandonedReading,
    Facts,
    Job,
    OpenAttempt,
    State,
)
from sluice_core.jobs.policy import MAX_DEATHS, Admission, Begin, Settle
from sluice_core.jobs.writes import (
    Admitted,
    Begun,
    DeadLetterEntry,
    Entry,
    Intent,
    Settled,
    Settlement,
)

POISON: Final = ("21", "22", "23", "54")
"""SQLSTATE classes that one bad row of a batch causes: the batch is bisected."""
NO_PARTITION: Final = "no partition of relation"
"""What a row without a partition is refused with; the SQLSTATE is that of a check, but no row is at fault."""


def is_poison(error: asyncpg.PostgresError) -> bool:
    """Whether a row of the batch is at fault, so that it must be found; else the batch is tried again."""
    return (error.sqlstate or "").startswith(POISON) and NO_PARTITION not in str(error)


def job_of(row: Mapping[str, Any]) -> Job:
    """A row of `claim_v2` and its like as a value."""
    return Job(
        row=row["job"],
        id=UUID(bytes=row["uuid"].bytes),  # the driver's own UUID type is no JSON
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
        waits_for=row.get("waits_for"),
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

    async def begin(self, intents: Sequence[Intent]) -> list[Begun]:
        """Make attempts durable with all that they draw on; per intent its answer."""
        scopes = sorted({scope for intent in intents for scope in intent.scopes})
        budgets = sorted({budget for intent in intents for budget in intent.budgets})
        scope_of, scope_end = _places(scopes, [intent.scopes for intent in intents])
        budget_of, budget_end = _places(budgets, [intent.budgets for intent in intents])
        row = await self._pool.fetchrow(
            "select * from sluice.begin_v2($1, $2, $3, $4, $5, $6, $7, $8)",
            self.incarnation,
            [
                (
                    i.row,
                    i.day,
                    i.account,
                    i.provider_model,
                    i.worst_nano,
                    i.input_nano,
                    i.job_class,
                    i.tokens,
                    i.bound,
                    i.tenant_floor,
                    i.project_floor,
                    i.route,
                    i.hedge,
                )
                for i in intents
            ],
            scopes,
            budgets,
            scope_of,
            scope_end,
            budget_of,
            budget_end,
        )
        virtuals, begun, first = row["virtuals"], [], 0
        for place, intent in enumerate(intents):
            lead = None
            if len(intent.scopes) > 1:
                tenant, project = scope_of[first] - 1, scope_of[first + 1] - 1
                job_class = int(intent.job_class)
                lead = (virtuals[tenant * 3 + job_class], virtuals[project * 3 + job_class])
            first = scope_end[place]
            begun.append(
                Begun(
                    verdict=Begin(row["verdicts"][place]),
                    attempt=row["attempts"][place],
                    until=row["untils"][place],
                    cause=row["causes"][place],
                    virtuals=lead,
                )
            )
        return begun

    async def defer(self, waits: Sequence[tuple[int, float, int, int]]) -> int:
        """Let owned jobs wait for money: each (row, epoch seconds to wake at, budget, nano-dollars it needs).

        Returns how many do.
        """
        rows, wakes, budgets, needs = zip(*waits, strict=True)
        count: int = await self._pool.fetchval(
            "select sluice.defer_v1($1, $2, $3, $4, $5)",
            self.incarnation,
            rows,
            wakes,
            budgets,
            needs,
        )
        return count

    async def settle(
        self, settlements: Sequence[Settlement], *, owner: int | None = None
    ) -> Settled:
        """Settle a micro-batch. `owner`: settle in a dead owner's name; no evidence is kept then."""
        row = await self._pool.fetchrow(
            "select verdicts, outbox, out_kinds, out_jobs, extract(epoch from recorded_at)::float8 as recorded_at"
            " from sluice.settle_v2($1, $2, $3, $4, $5)",
            self.incarnation if owner is None else owner,
            [
                (
                    s.row,
                    s.id,
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
                    s.pressure,
                    s.cool_until,
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
        cursors: Sequence[tuple[int, float, int, int]],
        *,
        limit: int,
        max_bytes: int,
    ) -> list[Job]:
        """Take parked rows and due retries, of each lane in turn.

        A cursor is (lane, due_at, row, most): parked rows after that place, at most `most` of them and of retries.
        """
        rows = await self._pool.fetch(
            "select * from sluice.claim_v2($1, $2, $3, $4)",
            self.incarnation,
            cursors,
            limit,
            max_bytes,
        )
        return [job_of(row) for row in rows]

    async def claim_ending(self, limit: int) -> list[Job]:
        """Take rows nobody owns that are cancelled or past due, in any lane. Their bodies stay behind."""
        rows = await self._pool.fetch(
            "select * from sluice.claim_ending_v2($1, $2)", self.incarnation, limit
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

    async def reap_owned(self, silent: Sequence[int], limit: int) -> int:
        """Give the unstarted rows of the dead (silent, or not registered) back to their lanes."""
        count: int = await self._pool.fetchval(
            "select sluice.reap_owned_v1($1, $2, $3)", silent, MAX_DEATHS, limit
        )
        return count

    async def abandoned(
        self, silent: Sequence[int], silent_owned: Sequence[int], limit: int
    ) -> list[Abandoned]:
        """Rows to settle in their dead owner's name. `silent`: by the calling lease, `silent_owned`: by the owned one."""
        rows = await self._pool.fetch(
            "select * from sluice.left_calling_v2($1, $2, $3, $4)",
            silent,
            silent_owned,
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

    async def abandoned_readings(self, silent: Sequence[int], limit: int) -> list[AbandonedReading]:
        """Attempts that dead processes were reading on."""
        rows = await self._pool.fetch("select * from sluice.left_reading_v2($1, $2)", silent, limit)
        return [
            AbandonedReading(
                row=row["job"],
                id=UUID(bytes=row["uuid"].bytes),  # the driver's own UUID type is no JSON
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


def _places(distinct: Sequence[int], lists: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Each list's values as places (from 1) in `distinct`, one after another, and where each list ends."""
    place = {value: number for number, value in enumerate(distinct, 1)}
    places: list[int] = []
    ends: list[int] = []
    for values in lists:
        places += [place[value] for value in values]
        ends.append(len(places))
    return places, ends


def _open_attempt(row: Mapping[str, Any]) -> OpenAttempt:
    return OpenAttempt(
        account=row["account"],
        provider_model=row["provider_model"],
        worst_nano=row["worst_nano"],
        input_nano=row["input_nano"],
        started_at=row["started_at"],
    )
