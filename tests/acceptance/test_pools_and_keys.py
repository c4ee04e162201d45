"""Pools keep to their own jobs and keys; a revoked key's backlog ends without harm to anybody else's."""

import asyncio
import json

import pytest
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import Client, JobFailed
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

CONFIG = {
    "providers": {
        "gpu": {
            "kind": "openai",
            "base_url": "http://127.0.0.1:9/v1",
            "provider": "openai",
            "pool": "gpu",
            "api_key": "${GPU_KEY}",
        }
    },
    "models": {"big": {"targets": [{"account": "gpu", "model": "gpt-4o"}]}},
    "worker": {"concurrency": 256, "grace": 5},
}
BODY = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}


async def test_pools_and_a_revoked_backlog(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(
            stack,
            database_dsn=dsn,
            kafka_prefix="pools.",
            config=lambda mock: {
                **CONFIG,
                "providers": {"gpu": {**CONFIG["providers"]["gpu"], "base_url": f"{mock}/v1"}},
            },
        ) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix="pools.") as client,
    ):
        await _another_pools_job_waits(system, client)
        await _a_revoked_backlog_ends(system, client, stack)
        await _a_revoked_key_counts_no_more_within_a_second(system, client, stack)


async def _another_pools_job_waits(system: System, client: Client) -> None:
    """The default worker has no GPU_KEY, runs all the same, and leaves the job to its pool."""
    waiting = await client.submit(BODY | {"model": "big"}, job_class="standard")
    assert (await client.complete(BODY, timeout=20)).succeeded
    assert await _state(system, str(waiting.id)) == 1
    system.start_worker("gpu", environment={"GPU_KEY": "a-secret"}, pool="gpu")

    async def done() -> bool:
        return await _state(system, str(waiting.id)) == 10

    await eventually(done, within_s=30.0)


async def _a_revoked_backlog_ends(system: System, client: Client, stack: Stack) -> None:
    """More jobs than the stack is deep wait while their key is revoked; none is called, others go on."""
    made = json.loads(await system.command("keys", "create", "--tenant", "default", "--json"))
    worker = system.workers["worker-1"]
    worker.freeze()
    async with Client(
        stack.kafka.bootstrap,
        tenant="default",
        prefix="pools.",
        key_id=made["id"],
        secret=made["secret"],
    ) as signed:
        for number in range(600):
            await signed.submit(
                BODY, job_class="bulk", run_id="revoked", idempotency_key=f"r{number}"
            )
    await system.command("keys", "revoke", made["id"], "--json")
    worker.thaw()

    async def ended() -> bool:
        row = await system.pool.fetchrow("select * from finance.runs where run_id = 'revoked'")
        return row is not None and row["jobs"] == 600 == row["rejected"] + row["succeeded"]

    await eventually(ended, within_s=40.0)
    assert worker.returncode is None, system.log("worker-1")
    assert (await client.complete(BODY, timeout=20)).succeeded
    assert "Traceback" not in system.log("worker-1")


async def _a_revoked_key_counts_no_more_within_a_second(
    system: System, client: Client, stack: Stack
) -> None:
    """The workers run on; what is parked is never called, and what comes after is refused."""
    made = json.loads(await system.command("keys", "create", "--tenant", "default", "--json"))
    async with Client(
        stack.kafka.bootstrap,
        tenant="default",
        prefix="pools.",
        key_id=made["id"],
        secret=made["secret"],
    ) as signed:
        assert (await signed.complete(BODY, timeout=20)).succeeded
        await system.command("hold", "class", "bulk")
        await asyncio.sleep(1.5)  # a hold is in force after a heartbeat
        for number in range(30):
            await signed.submit(
                BODY, job_class="bulk", run_id="parked", idempotency_key=f"p{number}"
            )
        await eventually(lambda: _parked(system, 30), within_s=20.0)
        seen = len(await system.mock.requests())
        await system.command("keys", "revoke", made["id"], "--json")
        await asyncio.sleep(1.0)
        late = asyncio.create_task(signed.complete(BODY, timeout=20))
        await system.command("resume", "class", "bulk")
        with pytest.raises(JobFailed, match="unauthorized"):
            await late

        async def ended() -> bool:
            rows = await system.pool.fetch(
                "select j.state from sluice.jobs j join sluice.runs r on r.id = j.run and r.name = 'parked'"
            )
            return len(rows) == 30 and all(row["state"] == 12 for row in rows)

        await eventually(ended, within_s=20.0)

    async def recorded() -> bool:
        rows = await system.pool.fetch(
            "select code, count(*) as denials from sluice.denials where key_id = $1 group by 1",
            made["id"],
        )
        return [(row["code"], row["denials"]) for row in rows] == [("unauthorized", 31)]

    await eventually(recorded, within_s=10.0)
    assert len(await system.mock.requests()) == seen
    assert (await client.complete(BODY, timeout=20)).succeeded


async def _parked(system: System, jobs: int) -> bool:
    count: int = await system.pool.fetchval("select count(*) from sluice.jobs where state = 1")
    return count == jobs


async def _state(system: System, job_id: str) -> int:
    state: int = await system.pool.fetchval("select state from sluice.jobs where uuid = $1", job_id)
    return state
