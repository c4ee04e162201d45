"""Statements on the outbox: what is due on Kafka, made into messages from what the ledger holds."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Facts
from sluice_core.publishing.model import Due, Message, Origin, StoredResult
from sluice_core.publishing.policy import audit_message, result_messages, usage_message
from sluice_core.usage.row import event_of

RESULT, DUPLICATE, USAGE, OTHER, AUDIT = 1, 2, 3, 4, 5


class OutboxRepository:
    """Takes, materialises and removes outbox rows."""

    def __init__(self, pool: asyncpg.Pool, origin: Origin) -> None:
        self._pool = pool
        self._origin = origin

    async def load(self, ids: Sequence[int]) -> list[Due]:
        """The messages of these rows; rows that are gone are left out."""
        rows = await self._pool.fetch("select * from sluice.outbox where id = any($1)", ids)
        return await self._materialise(rows)

    async def of_jobs(self, owner: int, jobs: Sequence[int]) -> list[int]:
        """Ids of the rows that `owner` wrote for these jobs and that still stand."""
        rows = await self._pool.fetch(
            "select id from sluice.outbox where owner = $1 and job = any($2)", owner, jobs
        )
        return [row["id"] for row in rows]

    async def head(self, start: int) -> int:
        """The least id from `start` on that there is a row of; `start` where there is none."""
        found: int = await self._pool.fetchval(
            "select coalesce((select id from sluice.outbox where id >= $1 order by id limit 1), $1)",
            start,
        )
        return found

    async def take(
        self, owner: int, silent: Sequence[int], age_s: float, limit: int, *, start: int = 0
    ) -> list[Due]:
        """Lease rows of dead owners (silent, or not registered), or older than `age_s` seconds, to `owner`.

        Rows with ids below `start` are not looked at.
        """
        rows = await self._pool.fetch(
            "select * from sluice.take_outbox_v1($1, $2, make_interval(secs => $3), $4, $5)",
            owner,
            silent,
            age_s,
            limit,
            start,
        )
        return await self._materialise(rows)

    async def delete(self, ids: Sequence[int]) -> None:
        """Remove rows whose messages the broker has."""
        await self._pool.execute("delete from sluice.outbox where id = any($1)", ids)

    async def give_up_replies(self, jobs: Sequence[int]) -> None:
        """Mark results whose reply could not be delivered; they stay on the results topic and here."""
        await self._pool.execute(
            "update sluice.responses set reply_given_up_at = clock_timestamp() where job = any($1)",
            jobs,
        )

    async def add(self, owner: int, messages: Sequence[Message]) -> None:
        """Enter events that belong to no job."""
        await self._pool.executemany(
            "insert into sluice.outbox (owner, kind, topic, key, headers, value) values ($1, 4, $2, $3, $4, $5)",
            [(owner, m.topic, m.key, pack_headers(m.headers), m.value) for m in messages],
        )

    async def _materialise(self, rows: Sequence[Mapping[str, Any]]) -> list[Due]:
        due: list[Due] = []
        answers = [row for row in rows if row["kind"] in (RESULT, DUPLICATE)]
        usages = [row for row in rows if row["kind"] == USAGE]
        if answers:
            due += await self._answers(answers)
        if usages:
            due += await self._usages(usages)
        entries = [row for row in rows if row["kind"] == AUDIT]
        if entries:
            due += await self._audit(entries)
        due += [
            Due(
                id=row["id"],
                messages=(
                    Message(
                        topic=row["topic"],
                        key=row["key"],
                        value=row["value"],
                        headers=unpack_headers(row["headers"]),
                    ),
                ),
            )
            for row in rows
            if row["kind"] == OTHER
        ]
        return due

    async def _answers(self, rows: Sequence[Mapping[str, Any]]) -> list[Due]:
        found = await self._pool.fetch(
            """
            select o.id, o.kind, o.job, r.uuid, q.facts, r.ce_id, r.result,
                   extract(epoch from r.finished_at)::float8 as finished_at,
                   case when o.kind = 2 then w.requester else q.requester end as requester
              from unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::date[], $5::uuid[]) o(id, kind, job, day, record)
              join sluice.responses r on r.job = o.job and r.day = o.day
              join sluice.requests q on q.job = o.job and q.day = o.day
              left join sluice.waiters w on w.job = o.job and w.record = o.record
            """,
            *([row[name] for row in rows] for name in ("id", "kind", "job", "day", "record")),
        )
        return [
            Due(
                id=row["id"],
                job=row["job"],
                messages=tuple(
                    result_messages(
                        self._origin,
                        StoredResult(
                            job_id=row["uuid"],
                            tenant=Facts.from_json(row["facts"]).tenant,
                            ce_id=row["ce_id"],
                            finished_at=row["finished_at"],
                            value=row["result"],
                        ),
                        Requester.from_bytes(row["requester"]),
                        duplicate=row["kind"] == DUPLICATE,
                    )
                ),
            )
            for row in found
        ]

    async def _usages(self, rows: Sequence[Mapping[str, Any]]) -> list[Due]:
        ids: dict[UUID, int] = {row["usage_id"]: row["id"] for row in rows}
        found = await self._pool.fetch(
            "select f.* from unnest($1::uuid[], $2::timestamptz[]) o(usage_id, at)"
            " join finance.usage f on f.usage_id = o.usage_id and f.recorded_at = o.at",
            list(ids),
            [row["usage_at"] for row in rows],
        )
        return [
            Due(
                id=ids[row["usage_id"]],
                messages=(
                    usage_message(
                        self._origin,
                        usage_id=row["usage_id"],
                        job_id=row["job_id"],
                        recorded_at=row["recorded_at"].timestamp(),
                        value=event_of(row),
                    ),
                ),
            )
            for row in found
        ]

    async def _audit(self, rows: Sequence[Mapping[str, Any]]) -> list[Due]:
        ids: dict[int, int] = {row["audit"]: row["id"] for row in rows}
        found = await self._pool.fetch(
            "select id, extract(epoch from at)::float8 as at, actor, action, subject, before, after"
            " from sluice.audit where id = any($1)",
            list(ids),
        )
        return [
            Due(
                id=ids[row["id"]],
                messages=(
                    audit_message(
                        self._origin,
                        entry=row["id"],
                        at=row["at"],
                        actor=row["actor"],
                        action=row["action"],
                        subject=row["subject"],
                        before=_json(row["before"]),
                        after=_json(row["after"]),
                    ),
                ),
            )
            for row in found
        ]


def _json(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as bytes for the outbox; names are UTF-8, values any bytes or null."""
    return orjson.dumps([(name, None if value is None else value.hex()) for name, value in headers])


def unpack_headers(data: bytes) -> list[tuple[str, bytes]]:
    """Read what `pack_headers` wrote."""
    return [
        (name, None if value is None else bytes.fromhex(value))  # type: ignore[misc]
        for name, value in orjson.loads(data)
    ]
