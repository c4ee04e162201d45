"""One of three accounts dies, in each way that accounts do: no job fails for it, it is left alone, and it comes back."""

import asyncio
import math
import time
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, JobFailed, Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("failover")]

OPEN_S, PROBES, FIRST_BYTE_S = 1.0, 2, 1.0
JOBS = 60
BREAKER = {
    "window": 10,
    "minimum": 4,
    "slow": 0.8,
    "open": OPEN_S,
    "longest": OPEN_S,
    "probes": PROBES,
}


def config(mock_url: str) -> dict[str, Any]:
    account = {
        "kind": "openai",
        "base_url": f"{mock_url}/v1",
        "provider": "openai",
        "breaker": BREAKER,
        "timeouts": {"first_byte": FIRST_BYTE_S},
    }
    failures = ["unavailable", "rate_limited", "timeout", "auth", "invalid_response"]
    return {
        "providers": {name: dict(account) for name in ("ill", "well", "fit")},
        "models": {
            "spread": {
                "strategy": "weighted",
                "targets": [
                    {"account": name, "model": f"m-{name}"} for name in ("ill", "well", "fit")
                ],
                "fallback": {"on": failures},
                "prices": prices("1", "2"),
            },
            "alone": {
                "targets": [{"account": "ill", "model": "m-alone"}],
                "prices": prices("1", "2"),
            },
            "big": {
                "targets": [
                    {"account": "ill", "model": "m-small"},
                    {"account": "well", "model": "m-large", "name": "large"},
                ],
                "fallback": {"context_length": ["large"]},
                "prices": prices("1", "2"),
            },
        },
    }


def body(number: int, model: str = "spread", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": f"Job {number}"}], **more}


async def flood(client: Client, jobs: int, **options: Any) -> list[Result]:
    async def one(number: int) -> Result:
        await asyncio.sleep(number * 0.02)
        return await client.complete(body(number), timeout=40, on_unknown="retry", **options)

    return await asyncio.gather(*(one(number) for number in range(jobs)))


async def calls_to(system: System, model: str) -> int:
    return sum(1 for r in await system.mock.requests() if r["model"] == model)


async def is_open(system: System, *, expected: bool) -> bool:
    found = await system.pool.fetchval("select count(*) from sluice.breakers where account = 'ill'")
    return bool(found) is expected


@pytest.fixture
async def gateway(stack: Stack, migrated_template: Template) -> Any:
    prefix = f"failover{uuid4().hex[:8]}."  # its own: no record of another test is read again
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=prefix, workers=2, config=config) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=prefix) as client,
    ):
        yield system, client


WAYS = [
    "status=500",
    "status=429",
    "status=401",
    "fault=malformed",
    "fault=cut_before_status",
    "fault=hang",
    "latency=900ms",
]


async def test_no_job_fails_for_an_account_that_does(gateway: tuple[System, Client]) -> None:
    system, client = gateway
    for way in WAYS:
        rule = await system.mock.rule(way, match={"model": "m-ill"})
        results = await flood(client, JOBS)
        assert [r.state for r in results] == ["succeeded"] * JOBS, way
        if way != "status=429":  # which pauses a target before its breaker has seen enough
            assert await is_open(system, expected=True), way
        before, since = await calls_to(system, "m-ill"), time.monotonic()
        results = await flood(client, JOBS)
        assert [r.state for r in results] == ["succeeded"] * JOBS, way
        assert {r.report["account"] for r in results} >= {"well", "fit"}
        rounds = math.ceil((time.monotonic() - since) / OPEN_S) + 1
        assert await calls_to(system, "m-ill") - before <= PROBES * rounds, way
        await system.mock.forget_rule(rule)
        await _comes_back(system, client, way)


async def _comes_back(system: System, client: Client, way: str) -> None:
    if way == "status=401":
        # An account's own fault is looked at again after half a minute; the operator has mended it.
        await system.pool.execute("update sluice.breakers set open_until = clock_timestamp()")

    async def closed() -> bool:
        await flood(client, 6)
        return await is_open(system, expected=False)

    async def used() -> bool:
        return "ill" in {r.report["account"] for r in await flood(client, 10)}

    await eventually(closed, within_s=20.0)
    # After a 429 it may still be told to pause, or be probed once more.
    await eventually(used, within_s=20.0)


async def test_where_there_is_no_other_target_jobs_wait_and_burn_no_attempts(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    rule = await system.mock.rule("status=401", match={"model": "m-alone"})
    waiting = [
        asyncio.create_task(client.complete(body(n, "alone"), timeout=60, timeout_s=60.0))
        for n in range(10)
    ]
    await eventually(lambda: is_open(system, expected=True), within_s=10.0)
    await asyncio.sleep(3.0)
    assert not any(task.done() for task in waiting)
    assert await calls_to(system, "m-alone") <= 16
    alert = await system.pool.fetchrow(
        "select subject, detail->>'reason' as reason from sluice.alerts"
    )
    assert (alert["subject"], alert["reason"]) == ("account:ill", "key_refused")
    await system.mock.forget_rule(rule)
    await system.pool.execute("update sluice.breakers set open_until = clock_timestamp()")
    results = await asyncio.gather(*waiting)
    assert {r.state for r in results} == {"succeeded"}
    assert max(r.report["attempts"] for r in results) <= 2


async def test_a_prompt_too_long_for_one_target_goes_to_the_one_named_for_it(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    await system.mock.rule("status=400,code=context_length_exceeded", match={"model": "m-small"})
    result = await client.complete(body(1, "big"), timeout=20)
    assert (result.state, result.report["account"], result.report["attempts"]) == (
        "succeeded",
        "well",
        2,
    )
    assert await system.pool.fetchval("select count(*) from finance.usage") == 1
    routes = await system.pool.fetch("select route from sluice.attempts order by attempt")
    assert [row["route"] for row in routes] == ["priority", "fallback.context_length: priority"]


async def test_a_stream_that_has_begun_goes_to_no_other_target(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    await system.mock.rule("fault=cut_stream,after=4", first=1)
    with pytest.raises(JobFailed) as caught:
        await client.complete(body(1, stream=True), timeout=20)
    failed = caught.value.result
    assert (failed.state, failed.error.code if failed.error else None) == (
        "failed",
        "stream_interrupted",
    )
    assert len(await system.mock.requests()) == 1
