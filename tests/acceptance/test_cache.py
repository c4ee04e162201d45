"""The exact cache: one call for many that ask the same, hits booked at nothing, streams replayed, tenants apart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, JobFailed, Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("failover")]

Calls = Callable[[], Awaitable[int]]
FRAIL: dict[str, Any] = {
    "kind": "openai",
    "provider": "openai",
    "breaker": {"minimum": 3, "open": "60s"},
}
CONFIG: dict[str, Any] = {
    "models": {
        "frail": {
            "targets": [{"account": "frail", "model": "m-frail"}],
            "prices": prices("1", "2"),
            "default_max_tokens": 50,
            "cache": "exact",
        },
        "kept": {
            "targets": [{"account": "mock", "model": "gpt-4o-mini"}],
            "prices": prices("1", "2"),
            "cache": {"mode": "exact", "ttl": "5m"},
        },
    },
    "tenants": {"other": {}},
    "intake": {"topics": [{"name": "others.jobs", "class": "realtime", "tenant": "other"}]},
}


def config(mock_url: str) -> dict[str, Any]:
    return CONFIG | {"providers": {"frail": FRAIL | {"base_url": f"{mock_url}/v1"}}}


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "kept", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="module")
async def gateway(
    stack: Stack, migrated_template: Template
) -> AsyncIterator[tuple[System, Client]]:
    prefix = f"cached{uuid4().hex[:8]}."  # its own: no record of another test is read again
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=prefix, workers=2, config=config) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=prefix) as client,
    ):
        yield system, client


@pytest.fixture
async def made(gateway: tuple[System, Client]) -> Callable[[], Awaitable[int]]:
    """How many provider calls were made since the test began."""
    system, _ = gateway
    before = len(await system.mock.requests())

    async def count() -> int:
        return len(await system.mock.requests()) - before

    return count


def answer(result: Result) -> str:
    return str(result.body["choices"][0]["message"]["content"])


async def test_many_that_ask_the_same_are_one_call(
    gateway: tuple[System, Client], made: Calls
) -> None:
    system, client = gateway
    rule = await system.mock.rule("latency=500ms")
    results = await asyncio.gather(*(client.complete(body("same"), timeout=30) for _ in range(40)))
    assert {answer(r) for r in results} == {"You said: same"}
    assert await made() == 1
    marks = [r.report["cache"] for r in results]
    assert (marks.count("miss"), marks.count("exact")) == (1, 39)
    await eventually(lambda: _rows(system, 40), within_s=10)
    rows = await system.pool.fetch(
        "select outcome, cache, sum(cost_usd) as cost, sum(list_cost_usd) as listed, sum(input_tokens) as input, count(*)"
        " from finance.usage group by 1, 2 order by 1"
    )
    hits, calls = rows
    assert (hits["outcome"], hits["cache"], hits["count"], hits["cost"]) == (
        "cached",
        "exact",
        39,
        0,
    )
    assert (calls["outcome"], calls["count"]) == ("succeeded", 1)
    assert hits["listed"] == 39 * calls["listed"] > 0
    assert hits["input"] == 39 * calls["input"]
    await system.mock.forget_rule(rule)
    await client.complete(body("same"), timeout=30, cache="off")
    assert await made() == 2
    await client.complete(body("same", temperature=0.5), timeout=30)
    assert await made() == 3


async def _rows(system: System, count: int) -> bool:
    return bool(await system.pool.fetchval("select count(*) from finance.usage") == count)


async def test_a_failed_call_is_no_answer_and_the_next_asks(
    gateway: tuple[System, Client], made: Calls
) -> None:
    system, client = gateway
    await system.mock.rule("status=400", first=1)
    asked = [client.complete(body("fails once"), timeout=30) for _ in range(5)]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [isinstance(r, BaseException) for r in results].count(True) == 1
    assert await made() == 2


async def test_a_hit_is_replayed_as_a_stream(gateway: tuple[System, Client], made: Calls) -> None:
    _, client = gateway
    await client.complete(body("told again"), timeout=30)
    asking = body("told again", stream=True, stream_options={"include_usage": True})
    chunks = [chunk async for chunk in client.stream(asking)]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == "You said: told again"
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert await made() == 1


async def test_tenants_do_not_share_answers(
    gateway: tuple[System, Client], made: Calls, stack: Stack
) -> None:
    system, client = gateway
    await client.complete(body("a secret"), timeout=30)
    results = await system.consume(system.topics.results("other"))
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka.bootstrap) as producer:
        await producer.send_and_wait("others.jobs", orjson.dumps({"body": body("a secret")}))
    await results.wait_for(lambda: results.records)
    assert await made() == 2


async def test_who_waits_for_an_answer_outlives_the_one_that_asked(
    gateway: tuple[System, Client], made: Calls
) -> None:
    system, client = gateway
    rule = await system.mock.rule("latency=8s", match={"body": "hasty"}, first=1)
    asked = body("hasty and patient")
    hasty = asyncio.create_task(client.complete(asked, timeout=20, timeout_s=1.5))
    await eventually(made, within_s=5.0)  # it has begun, so the next one waits for it
    patient = await client.complete(asked, timeout=20)
    assert (patient.state, patient.report["attempts"]) == ("succeeded", 1)
    assert patient.report["total_ms"] < 6_000
    with pytest.raises(JobFailed):
        await hasty
    await system.mock.forget_rule(rule)


async def test_what_is_known_is_answered_while_nobody_can_be_asked(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    known = body("known", model="frail")
    await client.complete(known, timeout=20)
    rule = await system.mock.rule("status=500", match={"model": "m-frail"})

    async def shut() -> bool:
        await asyncio.gather(
            *(
                client.complete(
                    body(f"{n}", model="frail"), timeout=20, max_attempts=1, timeout_s=2
                )
                for n in range(4)
            ),
            return_exceptions=True,
        )
        return bool(await system.pool.fetchval("select count(*) from sluice.breakers"))

    await eventually(shut, within_s=20.0)
    # Whoever waits for the provider keeps nobody of its lane from what is known, on either worker.
    unknown = [
        asyncio.create_task(
            client.complete(body(f"unknown {n}", model="frail"), timeout=20, timeout_s=4)
        )
        for n in range(6)
    ]
    again = await asyncio.gather(
        *(client.complete(known, timeout=20, timeout_s=3) for _ in range(6))
    )
    assert {(one.state, one.report["cache"]) for one in again} == {("succeeded", "exact")}
    failed = await asyncio.gather(*unknown, return_exceptions=True)
    assert all(isinstance(one, JobFailed) for one in failed)
    await system.mock.forget_rule(rule)
