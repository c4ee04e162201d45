"""Incremental loads below the watermark never miss a row, whatever writers do meanwhile."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from tests.migrations.test_migrations import USAGE_ROW


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def test_an_open_transaction_holds_the_watermark_back(database: str) -> None:
    async with session(database) as writer, session(database) as reader:
        change = writer.transaction()
        await change.start()
        await writer.execute(USAGE_ROW)
        written = await writer.fetchval("select max(recorded_at) from finance.usage")
        before = await reader.fetchval("select finance.watermark()")
        assert before <= written
        await change.commit()
        after = await reader.fetchval("select finance.watermark()")
        assert after > written
        assert (
            await reader.fetchval(
                "select count(*) from finance.usage where recorded_at < $1", after
            )
            == 1
        )


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_row_that_commits_after_an_old_snapshot_stays_above(
    database: str, isolation: str
) -> None:
    async with session(database) as writer, session(database) as reader:
        change = writer.transaction()
        await change.start()
        await writer.execute(USAGE_ROW)
        written = await writer.fetchval("select max(recorded_at) from finance.usage")
        async with reader.transaction(isolation=isolation):  # type: ignore[arg-type]
            assert await reader.fetchval("select count(*) from finance.usage") == 0
            await change.commit()
            assert await reader.fetchval("select finance.watermark()") <= written


async def test_a_row_that_commits_between_snapshot_and_reading_stays_above(database: str) -> None:
    """One statement takes its snapshot, then waits while the writer commits, then asks for the watermark."""
    async with session(database) as writer, session(database) as reader, session(database) as gate:
        await gate.execute("select pg_advisory_lock(7)")
        change = writer.transaction()
        await change.start()
        await writer.execute(USAGE_ROW)
        written = await writer.fetchval("select max(recorded_at) from finance.usage")
        pid = await reader.fetchval("select pg_backend_pid()")
        asked = asyncio.create_task(
            reader.fetchrow(
                "with held as materialized (select pg_advisory_lock_shared(7))"
                " select (select count(*) from finance.usage) as seen,"
                "        finance.watermark(pg_current_snapshot()) as mark from held"
            )
        )
        while not await gate.fetchval(
            "select count(*) from pg_locks where pid = $1 and not granted", pid
        ):
            await asyncio.sleep(0.01)
        await change.commit()
        await gate.execute("select pg_advisory_unlock(7)")
        row = await asked
        assert row["seen"] == 0
        assert row["mark"] <= written


@pytest.mark.parametrize("form", ["two statements", "one statement", "repeatable read"])
async def test_loads_below_the_watermark_miss_nothing(database: str, form: str) -> None:
    writing = True

    async def write(seed: int) -> int:
        dice, rows = random.Random(seed), 0
        async with session(database) as connection:
            while writing:
                async with connection.transaction():
                    for _ in range(dice.randint(1, 3)):
                        await connection.execute(USAGE_ROW)
                        rows += 1
                        await asyncio.sleep(dice.random() * 0.01)
        return rows

    loaded: set[object] = set()
    writers = [asyncio.create_task(write(seed)) for seed in range(4)]
    async with session(database) as reader:
        mark = await reader.fetchval("select '-infinity'::timestamptz")
        for _ in range(60):
            mark = await _load(reader, form, mark, loaded)
            below = await reader.fetch(
                "select usage_id from finance.usage where recorded_at < $1", mark
            )
            assert {row["usage_id"] for row in below} == loaded
        writing = False
        written = sum(await asyncio.gather(*writers))
        mark = await reader.fetchval("select finance.watermark()")
        below = await reader.fetchval(
            "select count(*) from finance.usage where recorded_at < $1", mark
        )
        assert written == below
        assert form == "repeatable read" or loaded


async def _load(
    reader: asyncpg.Connection, form: str, since: object, loaded: set[object]
) -> object:
    """Load what lies between the last watermark and this one; a row once loaded never comes again."""
    if form == "one statement":
        rows = await reader.fetch(
            "with mark as materialized (select finance.watermark() as at)"
            " select u.usage_id, mark.at from mark left join finance.usage u"
            "   on u.recorded_at >= $1 and u.recorded_at < mark.at",
            since,
        )
        mark = rows[0]["at"]
    else:
        isolation = "repeatable_read" if form == "repeatable read" else "read_committed"
        async with reader.transaction(isolation=isolation):  # type: ignore[arg-type]
            mark = await reader.fetchval("select finance.watermark()")
            rows = await reader.fetch(
                "select usage_id from finance.usage where recorded_at >= $1 and recorded_at < $2",
                since,
                mark,
            )
    fresh = {row["usage_id"] for row in rows} - {None}
    assert not fresh & loaded
    loaded |= fresh
    return max(mark, since) if since.tzinfo else mark  # type: ignore[attr-defined]
