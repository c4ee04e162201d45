"""What the ledger refuses even without its answer is stored as the last resort, with the money it holds."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from tests.integration.ledger.world import World, ended, report, world

from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Settle
from sluice_core.jobs.repository import is_poison
from sluice_core.settlement.last_resort import last_resort
from sluice_core.usage.model import Usage
from sluice_platform.ids import uuid7


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def test_the_last_resort_is_stored_with_its_held_money(ledger: World) -> None:
    worker = await ledger.worker()
    job = await ledger.calling(worker, "poison", run=None)
    plain = ended(job, State.UNKNOWN, report(Outcome.UNKNOWN, money="unknown"))
    assert plain.usage is not None
    assert plain.held_nano
    for bad in (
        replace(plain.usage, project="a\0b"),
        replace(plain.usage, user_id="\udc80"),
        replace(plain.usage, usage=Usage(input_tokens=10**30)),
    ):
        poison = replace(plain, usage=bad)
        with pytest.raises(asyncpg.PostgresError) as caught:
            await worker.settle([poison])
        assert is_poison(caught.value)
    bare = last_resort(poison, job, custom_id="row-1", now=time.time(), ce_id=uuid7())
    settled = await worker.settle([bare])
    assert list(settled.verdicts) == [Settle.SETTLED]
    assert await ledger.pool.fetchval("select state from sluice.jobs where id = $1", job.row) == (
        State.FAILED
    )
    held = await ledger.pool.fetchval(
        "select held_nano from sluice.unresolved where job = $1", job.row
    )
    assert held == plain.held_nano
