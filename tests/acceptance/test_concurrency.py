"""A limit on calls in flight holds over all workers together, whoever dies, and its slots are not left idle."""

import time
from typing import Any

import pytest
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import Client
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("contract")]

PREFIX = "slots."
JOBS, CALL_S, SLOTS = 160, 0.1, 4
CONFIG: dict[str, Any] = {
    "providers": {"mock": {"limits": {"concurrency": SLOTS}}},
    "worker": {"owned_lease": 3, "calling_lease": 6, "grace": 5},
}


def body(number: int) -> dict[str, Any]:
    return {"model": "fast", "messages": [{"role": "user", "content": f"Job {number}"}]}


async def test_slots_are_counted_over_all_workers(
    stack: Stack, migrated_template: Template
) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=PREFIX, workers=2, config=CONFIG) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        await system.mock.rule(f"latency={CALL_S:.1f}s")
        started = time.monotonic()
        for number in range(JOBS):
            job_class = "realtime" if number % 2 else "standard"
            await client.submit(body(number), job_class=job_class, max_wait_s=600.0)
        await eventually(lambda: _ended(system, JOBS), within_s=60.0)
        took = time.monotonic() - started
        assert await _most_at_once(system) <= SLOTS
        # Each end frees a slot that somebody takes; a slot that waits for a timer would take twice as long.
        print(f"{JOBS * CALL_S / SLOTS / took:.0%} of the slots' time")  # noqa: T201
        assert took < 4 * JOBS * CALL_S / SLOTS
        await _a_dead_workers_slots_come_back(system, client)


async def _a_dead_workers_slots_come_back(system: System, client: Client) -> None:
    await system.mock.rule("fault=hang", match={"body": "hangs"})
    for _ in range(SLOTS):
        hanging = {"model": "fast", "messages": [{"role": "user", "content": "hangs"}]}
        await client.submit(hanging, job_class="realtime", max_wait_s=600.0)
    await eventually(lambda: _in_flight(system, SLOTS), within_s=15.0)
    for name in list(system.workers):
        killed = system.workers.pop(name)
        killed.kill()
        await killed.stop()
    system.start_worker("fresh")
    await eventually(lambda: _in_flight(system, 0), within_s=30.0)
    assert (await client.complete(body(0), timeout=30)).succeeded


async def _ended(system: System, jobs: int) -> bool:
    row = await system.pool.fetchrow(
        "select count(*) filter (where state = 10) as done, count(*) as seen from sluice.jobs"
    )
    return bool(row["done"] == row["seen"] == jobs)


async def _in_flight(system: System, expected: int) -> bool:
    counts = await system.pool.fetch(
        "select in_flight from sluice.scopes_now where kind = 8 and name = 'mock'"
    )
    return [row["in_flight"] for row in counts] == [expected]


async def _most_at_once(system: System) -> int:
    """The most attempts that were open at one moment, by the ledger's own clock."""
    most: int = await system.pool.fetchval(
        "select max(at_once) from (select sum(step) over (order by at, step) as at_once from ("
        " select started_at as at, 1 as step from sluice.attempts union all"
        " select ended_at, -1 from sluice.attempts where ended_at is not null) e) s"
    )
    return most
