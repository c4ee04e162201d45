"""A cancel and an admission of the same job that run at the same moment never miss each other."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.integration.ledger.world import World, world
from tests.waiting import eventually

from sluice_core.jobs.policy import Admission
from sluice_core.jobs.repository import JobRepository


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def waits(ledger: World) -> bool:
    return await ledger.count("pg_locks where not granted") > 0


async def on(connection: asyncpg.Connection) -> JobRepository:
    return JobRepository(connection, 77)


async def test_a_cancel_waits_for_an_admission_that_is_not_committed(ledger: World) -> None:
    entry = ledger.entry("a")
    async with ledger.pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await (await on(connection)).admit([entry])
        cancelling = asyncio.create_task((await ledger.worker()).cancel([("acme", entry.id, None)]))
        await eventually(lambda: waits(ledger))
        await change.commit()
        assert await cancelling == 1
    assert await ledger.count("sluice.jobs where cancel") == 1
    assert await ledger.count("sluice.cancels") == 0


async def test_an_admission_waits_for_a_cancel_that_is_not_committed(ledger: World) -> None:
    entry = ledger.entry("a")
    worker = await ledger.worker()
    async with ledger.pool.acquire() as connection:
        change = connection.transaction()
        await change.start()
        await (await on(connection)).cancel([("acme", entry.id, None)])
        admitting = asyncio.create_task(worker.admit([entry]))
        await eventually(lambda: waits(ledger))
        await change.commit()
        assert (await admitting).verdicts == [Admission.CANCELLED]
    assert await ledger.count("sluice.cancels") == 0


async def test_many_at_once_leave_no_job_uncancelled(ledger: World) -> None:
    workers = [await ledger.worker() for _ in range(3)]
    for round_ in range(10):
        entries = [ledger.entry(f"{round_}-{n}") for n in range(8)]
        wishes = [("acme", entry.id, None) for entry in entries]
        verdicts, again, _, _ = await asyncio.gather(
            workers[0].admit(entries),
            workers[1].admit(list(reversed(entries[:4]))),
            workers[2].cancel(wishes[::-1]),
            workers[1].cancel(wishes[2:5]),
        )
        assert set(verdicts.verdicts) | set(again.verdicts) <= {
            Admission.ADMITTED,
            Admission.CANCELLED,
            Admission.REDELIVERED,
        }
    assert await ledger.count("sluice.jobs") == 80
    assert await ledger.count("sluice.jobs where cancel") == 80
    assert await ledger.count("sluice.identities") == 80
    assert await ledger.count("sluice.cancels") == 0
