"""A ledger with a past: finished jobs, identities of long ago, and long backlogs, made in SQL."""

import time
from collections.abc import Callable

import asyncpg
from tests.bench.meter import _family

from sluice_core.jobs.repository import JobRepository
from sluice_devstack.stack import Stack

_COLUMNS = "id, uuid, due_at, deadline, admitted_at, finished_at, day, lane, bytes, state, attempt, max_attempts, retry_unknown, streams"


async def fill(pool: asyncpg.Pool, *, finished: int, identities: int) -> None:
    """Add finished jobs to the hot table with live identities, and the rest of the identities to the past."""
    lane = await pool.fetchval("select min(id) from sluice.lanes")
    await pool.execute(
        f"""
        with made as (
          insert into sluice.jobs ({_COLUMNS})
          select nextval('sluice.job_ids'), gen_random_uuid(), now(), now(), now(), now(), (now() at time zone 'UTC')::date, $2, 500, 10, 1, 5, false, false
            from generate_series(1, $1) returning id, uuid)
        insert into sluice.identities (uuid, job, record, body_hash) select uuid, id, uuid, sha256(uuid::text::bytea) from made
        """,
        finished,
        lane,
        timeout=1200,
    )
    left = max(0, identities - finished)
    await pool.execute(
        f"""
        insert into sluice.jobs_past ({_COLUMNS}, first_attempt, deaths, execution, cancel, waited, record, body_hash)
        select nextval('sluice.job_ids'), u, now(), now(), now(), now(), (now() at time zone 'UTC')::date, $2, 500, 10, 1, 5, false, false, 0, 0, 1, false, false, u, sha256(u::text::bytea)
          from (select gen_random_uuid() as u from generate_series(1, $1)) s
        """,
        left,
        lane,
        timeout=3600,
    )
    for table in ("jobs", "identities", "jobs_past"):
        await pool.execute(f"vacuum analyze sluice.{table}", timeout=3600)
    await pool.execute("checkpoint", timeout=600)


async def claim_flat(stack: Stack, dsn: str, *, parked: int, emit: Callable[..., None]) -> None:
    """Claim a backlog from its head to its end, 500 rows a time, beside an open snapshot."""
    pool = await asyncpg.create_pool(dsn, min_size=2, max_size=4)
    try:
        lane = await pool.fetchval(
            "insert into sluice.lanes (class, pool, tenant, project, model) values (2, 'default', 't', 'p', 'm') returning id"
        )
        await pool.execute(
            """
            with made as (
              insert into sluice.jobs (id, uuid, due_at, deadline, admitted_at, day, lane, bytes, state, max_attempts, retry_unknown, streams)
              select nextval('sluice.job_ids'), gen_random_uuid(), now() + interval '1 day', now() + interval '1 day', now(),
                     (now() at time zone 'UTC')::date, $2, 500, 1, 5, false, false
                from generate_series(1, $1) returning id, day)
            insert into sluice.requests (job, day, body, facts, requester)
            select id, day, convert_to(repeat('x', 500), 'UTF8'), '{"tenant":"t"}', '[]' from made
            """,
            parked,
            lane,
            timeout=1200,
        )
        await pool.execute("vacuum analyze sluice.jobs", timeout=600)
        jobs = JobRepository(pool, 4242)
        cursor = (lane, 0.0, 0)
        tenths: list[float] = []
        async with pool.acquire() as side, side.transaction(isolation="repeatable_read"):
            await side.fetchval("select count(*) from sluice.lanes")
            for _ in range(10):
                before, claimed = _family(stack.postgres.pid), 0
                start = time.monotonic()
                while claimed < parked // 10:
                    batch = await jobs.claim([(*cursor, 500)], limit=500, max_bytes=1 << 30)
                    assert batch, "the backlog ended early"
                    cursor = (lane, *max((job.due_at, job.row) for job in batch))
                    claimed += len(batch)
                tenths.append(round((_family(stack.postgres.pid) - before) / claimed * 1e6, 1))
                del start
        emit(
            "claims",
            parked=parked,
            batch=500,
            old_snapshot=True,
            postgres_us_per_row=tenths,
            last_over_first=round(tenths[-1] / tenths[0], 2),
        )
    finally:
        await pool.close()
