"""What the keeper asks twice a second costs no more with a long queue or a long past than with short ones."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.integration.ledger.world import World, world

PARKED = 20_000
STATEMENTS = {
    "reap_owned": "select sluice.reap_owned_v1('{1,2}', 3, 1000)",
    "left_calling": "select * from sluice.left_calling_v2('{1,2}', '{1,2}', 3, 200)",
    "left_reading": "select * from sluice.left_reading_v2('{1,2}', 200)",
    "flag_cancelled_runs": "select sluice.flag_cancelled_runs_v1(1000)",
    "claim_ending": "select * from sluice.claim_ending_v2(9, 200)",
    "complete_runs": "select * from sluice.complete_runs_v1('10 s', 100, 9, 't', 's')",
    "bury": "select * from sluice.bury_v1('{1,2}', '30 s')",
    "claim": "select * from sluice.claim_v2(9, array[row($1, 0, 0, 10)]::sluice.cursor_v2[], 10, 1000000)",
    "unshelve": "select sluice.unshelve_v1(100)",
    "waiting_lanes": "select * from sluice.waiting_lanes_v1()",
    "parked": "select sluice.parked_v1(2::smallint, '{acme}', '{100}')",
}


@pytest.fixture
async def queue(database: str) -> AsyncIterator[World]:
    """A long queue in one lane, a long list of retries yet to come, a few jobs in hand."""
    async with world(database) as opened:
        await opened.pool.execute("insert into sluice.runs (tenant, name) values ('acme', 'r')")
        await opened.pool.execute(
            """
            insert into sluice.jobs (id, uuid, run, owner, due_at, deadline, run_at, admitted_at, day, lane, bytes, state,
                                     max_attempts, retry_unknown, streams)
            select g, gen_random_uuid(), 1, case when g % 200 = 0 then 3 end, now() + interval '1 day', now() + interval '1 day',
                   case when g % 10 = 1 then now() + interval '1 hour' end, now(), current_date, $1, 500,
                   case when g % 200 = 0 then 3 when g % 10 = 1 then 4 else 1 end, 5, false, false
              from generate_series(1, $2) g
            """,
            opened.lane,
            PARKED,
        )
        await opened.pool.execute(
            "insert into sluice.workers (incarnation, name, kind, pool) values (3, 'w', 'worker', 'default')"
        )
        await opened.pool.execute("analyze")
        await _past(opened.pool)
        yield opened


async def _past(pool: asyncpg.Pool) -> None:
    """What was called and answered today, of which no statistics tell yet."""
    await pool.execute(
        "insert into sluice.attempts (job, day, attempt, worker, started_at, worst_nano, input_nano, account, provider_model)"
        " select g, current_date, 1, 3, now(), 0, 0, 'a', 'm' from generate_series(1, $1) g",
        PARKED,
    )
    await pool.execute(
        "insert into sluice.requests (job, day, body, facts, requester)"
        " select g, current_date, '', '{}', '' from generate_series(1, $1) g",
        PARKED,
    )
    await pool.execute(
        "insert into sluice.responses (job, uuid, day, ce_id, finished_at, result)"
        " select g, gen_random_uuid(), current_date, gen_random_uuid(), now(), '' from generate_series(1, $1) g",
        PARKED,
    )


@pytest.mark.parametrize("name", list(STATEMENTS))
async def test_rows_looked_at(queue: World, name: str) -> None:
    statement = STATEMENTS[name]
    values = [queue.lane] if "$1" in statement else []
    async with queue.pool.acquire() as connection, connection.transaction():
        before = await _looked_at(connection)
        await connection.fetch(statement, *values)
        assert await _looked_at(connection) - before < 1_000


async def _looked_at(connection: asyncpg.Connection) -> int:
    rows: int = await connection.fetchval(
        "select coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0)::bigint"
        "  from pg_stat_xact_user_tables where relname ~ '^(jobs$|attempts_|requests_|responses_)'"
    )
    return rows
