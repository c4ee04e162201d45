"""Any sequence of operations leaves the ledger as the model says; and a broken ledger is found out."""

import random
import secrets
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.ledger.machine import OPERATIONS, Machine
from tests.integration.ledger.world import World, world

from sluice_core.jobs.names import NameRepository
from sluice_schemas.classes import JobClass

STEPS = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 2**32)), min_size=5, max_size=40
)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def play(ledger: World, steps: Sequence[tuple[str, int]]) -> None:
    """A tenant and a lane of its own, the steps, and then everything to its end."""
    tenant = f"t-{secrets.token_hex(6)}"
    names = NameRepository(ledger.pool)
    lane = await names.ensure_lane(JobClass.BULK, "default", tenant, "unallocated", "fast")
    run = await names.ensure_run(tenant, "r")
    machine = Machine(World(pool=ledger.pool, lane=lane, tenant=tenant), run)
    for operation, seed in steps:
        await machine.step(operation, seed)
    await machine.drain()


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
async def test_the_ledger_is_what_the_model_says(
    ledger: World, steps: list[tuple[str, int]]
) -> None:
    await play(ledger, steps)


def sequence(seed: int) -> list[tuple[str, int]]:
    dice = random.Random(seed)
    return [(dice.choice(OPERATIONS), dice.getrandbits(32)) for _ in range(40)]


FAULTS = [
    ("settle_v2", "r.owner = p_owner and ", ""),
    ("settle_v2", " and r.attempt = r.claimed", ""),
    ("begin_v2", "r.owner = p_owner and ", ""),
    ("admit_v1", "set waited = true", "set waited = false"),
    ("duplicate_v1", "when p_state = 12 then 3", ""),
    ("archive_v1", "coalesce(u.record, g.uuid)", "g.uuid"),
    ("reap_owned_v1", "deaths = j.deaths + 1", "deaths = j.deaths"),
    ("cancel_v1", "join sluice.lanes l on l.id = j.lane and l.tenant = c.tenant", ""),
    ("release_v1", "and j.owner = p_owner ", ""),
    ("claim_v2", "order by q.run_at, q.id limit l.most for update skip locked", "limit 0"),
]


@pytest.mark.parametrize(("function", "right", "wrong"), FAULTS, ids=[f[0] for f in FAULTS])
async def test_a_fault_is_found(ledger: World, function: str, right: str, wrong: str) -> None:
    source = await ledger.pool.fetchval(
        "select pg_get_functiondef(p.oid) from pg_proc p where proname = $1", function
    )
    assert right in source
    await ledger.pool.execute(source.replace(right, wrong))
    for seed in range(200):
        try:
            await play(ledger, sequence(seed))
        except (AssertionError, KeyError, asyncpg.PostgresError):
            return
    pytest.fail("two hundred sequences did not find it")


async def test_without_a_fault_none_is_found(ledger: World) -> None:
    for seed in range(6):
        await play(ledger, sequence(seed))
