"""A running system: what an operator holds is not called and is not lost; a tenant's crowd is its own matter."""

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from tests.conftest import Template
from tests.system import System, database_from
from tests.waiting import eventually

from sluice_client import Client, JobFailed
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("client")]

PREFIX = "holds."
BODY = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
CONFIG: dict[str, Any] = {
    "tenants": {
        "default": {"projects": {"search": {}}},
        "crowd": {"max_parked": 40},
        "throng": {"max_parked": 50},
        "slow": {"limits": {"requests": {"limit": 1, "per": "minute", "burst": 1}}},
    },
    "intake": {
        "unsigned": "tenant:default",
        "topics": [
            {"name": "crowd.bulk", "class": "bulk", "tenant": "crowd"},
            {"name": "slow.realtime", "class": "realtime", "tenant": "slow"},
        ],
    },
    "worker": {"concurrency": 64, "grace": 5},
}


async def test_holds_and_bounds(stack: Stack, migrated_template: Template) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=PREFIX, workers=2, config=CONFIG) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=PREFIX) as client,
    ):
        await _a_held_tenant_waits(system, client)
        await _a_held_run_waits_and_others_do_not(system, client)
        await _a_crowd_pauses_its_own_topic(system, client)
        await _a_crowd_on_a_shared_topic_is_refused(system, client)
        await _a_job_says_what_it_waited_for(system)


async def _a_held_tenant_waits(system: System, client: Client) -> None:
    said = json.loads(await system.command("hold", "tenant", "default", "--json"))
    assert said == {
        "kind": "tenant",
        "name": "default",
        "tenant": None,
        "held": True,
        "changed": True,
    }
    version = await system.pool.fetchval(
        "select version from sluice.versions where name = 'config'"
    )
    assert version > 1
    await _heard(system, 1)
    seen = len(await system.mock.requests())
    for number in range(200):
        await client.submit(BODY, job_class="bulk", run_id="held", idempotency_key=f"t{number}")
    with pytest.raises(JobFailed, match="concurrency_exceeded: held by an operator"):
        await client.complete(BODY, timeout=20, max_wait_s=1.0)
    await eventually(lambda: _states(system, "held", {1: 200}), within_s=20.0)
    assert len(await system.mock.requests()) == seen
    await system.command("resume", "tenant", "default")
    await eventually(lambda: _states(system, "held", {10: 200}), within_s=30.0)


async def _a_held_run_waits_and_others_do_not(system: System, client: Client) -> None:
    await system.command("hold", "run", "paused", "--tenant", "default")
    listed = json.loads(await system.command("holds", "list", "--json"))
    assert [(hold["kind"], hold["name"], hold["tenant"]) for hold in listed] == [
        ("run", "paused", "default")
    ]
    await _heard(system, 3)
    for number in range(60):
        for run in ("paused", "going"):
            await client.submit(
                BODY, job_class="standard", run_id=run, idempotency_key=f"{run}{number}"
            )
    await eventually(lambda: _states(system, "going", {10: 60}), within_s=30.0)
    await eventually(lambda: _states(system, "paused", {4: 60}), within_s=20.0)
    await system.command("resume", "run", "paused", "--tenant", "default")
    await eventually(lambda: _states(system, "paused", {10: 60}), within_s=30.0)
    entries = await system.pool.fetch("select action from sluice.audit order by id")
    assert [e["action"] for e in entries] == [
        "tenant.hold",
        "tenant.resume",
        "run.hold",
        "run.resume",
    ]


async def _a_crowd_pauses_its_own_topic(system: System, client: Client) -> None:
    """The tenant's topic is not read on beyond its bound, and not a record of it is lost; others go on."""
    await system.command("hold", "tenant", "crowd")
    await _heard(system, 5)
    await _send(system, "crowd.bulk", "crowd", 2_000)
    await eventually(lambda: _paused(system), within_s=30.0)
    assert (await client.complete(BODY, timeout=20)).succeeded
    await client.submit(BODY, job_class="bulk", run_id="beside", idempotency_key="b")
    await eventually(lambda: _states(system, "beside", {10: 1}), within_s=20.0)
    await system.command("resume", "tenant", "crowd")
    await eventually(lambda: _states(system, "crowd", {10: 2_000}), within_s=60.0)


async def _a_crowd_on_a_shared_topic_is_refused(system: System, client: Client) -> None:
    """A topic that many share cannot pause for one: what is beyond the tenant's bound is answered, and others go on."""
    made = json.loads(await system.command("keys", "create", "--tenant", "throng", "--json"))
    await system.command("hold", "tenant", "throng")
    await _heard(system, 7)
    results = await system.consume(f"{PREFIX}results.throng.v1")
    async with Client(
        system.stack.kafka.bootstrap,
        tenant="throng",
        prefix=PREFIX,
        key_id=made["id"],
        secret=made["secret"],
    ) as crowd:
        # Whatever was sent before the workers have counted may still get in.
        for number in range(400):
            await crowd.submit(
                BODY, job_class="bulk", run_id="throng", idempotency_key=f"c{number}"
            )
        refused = await results.wait_for(lambda: results.records, 100)
        errors = [json.loads(record.value or b"")["error"] for record in refused]
        assert {error["code"] for error in errors} == {"rate_limited"}
        assert all("wait" in error["message"] for error in errors)
        await client.submit(BODY, job_class="bulk", run_id="apart", idempotency_key="apart")
        await eventually(lambda: _states(system, "apart", {10: 1}), within_s=20.0)
        await eventually(lambda: _all_answered(system, 400), within_s=30.0)
        await system.command("resume", "tenant", "throng")
        await eventually(lambda: _nobody_waits(system), within_s=30.0)
    states = {json.loads(record.value or b"")["job"]["state"] for record in refused}
    assert states == {"rejected"}


async def _all_answered(system: System, jobs: int) -> bool:
    rows = await system.pool.fetchval(
        "select count(*) from sluice.jobs j join sluice.lanes l on l.id = j.lane where l.tenant = 'throng'"
    )
    return bool(rows == jobs)


async def _nobody_waits(system: System) -> bool:
    return not await system.pool.fetchval(
        "select exists (select from sluice.jobs j join sluice.lanes l on l.id = j.lane"
        " where l.tenant = 'throng' and j.state < 10)"
    )


async def _a_job_says_what_it_waited_for(system: System) -> None:
    """One job a minute: the others wait, here or in the ledger, and are told for what."""
    await _send(system, "slow.realtime", "slow", 8, options={"max_wait_s": 2.0})

    async def ended() -> bool:
        return await _states(system, "slow", {10: 1, 12: 7})

    await eventually(ended, within_s=30.0)
    results = await system.consume(f"{PREFIX}results.slow.v1")
    found = await results.wait_for(lambda: results.records, 8)
    codes = Counter(
        None if (error := json.loads(record.value or b"")["error"]) is None else error["code"]
        for record in found
    )
    assert codes == {None: 1, "rate_limited": 7}


async def _send(
    system: System, topic: str, run: str, count: int, *, options: dict[str, Any] | None = None
) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=system.stack.kafka.bootstrap)
    await producer.start()
    try:
        value = json.dumps({"body": BODY, "options": {"run_id": run, **(options or {})}}).encode()
        sent = [await producer.send(topic, value) for _ in range(count)]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def _heard(system: System, changes: int) -> None:
    """Every worker has read the holds since that many changes."""
    await eventually(
        lambda: all(
            system.log(name).count('"holds.changed"') >= changes for name in system.workers
        ),
        within_s=10.0,
    )


def _paused(system: System) -> bool:
    return any(
        '"intake.paused"' in line and "crowd.bulk" in line
        for name in system.workers
        for line in system.log(name).splitlines()
    )


async def _states(system: System, run: str, wanted: dict[int, int]) -> bool:
    rows = await system.pool.fetch(
        "select j.state, count(*) as jobs from ("
        "  select run, state from sluice.jobs union all select run, state from sluice.jobs_past) j"
        " join sluice.runs r on r.id = j.run where r.name = $1 group by 1",
        run,
    )
    return {row["state"]: row["jobs"] for row in rows} == wanted
