"""A slow call is made a second time at another target: the first answer counts, both are paid, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, JobFailed, Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("failover")]

SLOW_S = 2.5


def config(mock_url: str) -> dict[str, Any]:
    account = {"kind": "openai", "base_url": f"{mock_url}/v1", "provider": "openai"}
    return {
        "providers": {name: dict(account) for name in ("one", "two")},
        "models": {
            "raced": {
                "targets": [
                    {"account": "one", "model": "m-one"},
                    {"account": "two", "model": "m-two"},
                ],
                "hedge": {"after": "400ms", "share": 1},
                "prices": prices("1", "2"),
            },
            "rarely": {
                "targets": [
                    {"account": "one", "model": "m-one"},
                    {"account": "two", "model": "m-two"},
                ],
                "hedge": {"after": "100ms", "share": 0.1},
                "prices": prices("1", "2"),
            },
        },
        "tenants": {
            "default": {
                "budgets": {"usd": "10", "per": "total"},
                "projects": {"poor": {"budgets": {"usd": "0.00015", "per": "total"}}},
            }
        },
        "worker": {"owned_lease": 3, "calling_lease": 5, "grace": 5},
    }


@pytest.fixture(scope="module")
async def gateway(
    stack: Stack, migrated_template: Template
) -> AsyncIterator[tuple[System, Client]]:
    prefix = f"raced{uuid4().hex[:8]}."
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=prefix, config=config) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=prefix) as client,
    ):
        yield system, client


@pytest.fixture
async def rules(gateway: tuple[System, Client]) -> AsyncIterator[Any]:
    """Behaviours of the two targets, for one test."""
    system, _ = gateway
    made: list[int] = []

    async def rule(behaviour: str, target: str = "one") -> None:
        made.append(await system.mock.rule(behaviour, match={"model": f"m-{target}"}))

    yield rule
    for number in made:
        await system.mock.forget_rule(number)


def body(text: str, model: str = "raced", **more: Any) -> dict[str, Any]:
    return {
        "model": model,
        "max_tokens": 10,
        "messages": [{"role": "user", "content": text}],
        **more,
    }


async def attempts(system: System, job: str) -> Sequence[Any]:
    return await system.pool.fetch(
        "select a.account, a.outcome, a.code, u.outcome as booked, u.cost_usd from sluice.attempts a"
        " join sluice.identities i on i.job = a.job left join finance.usage u on u.usage_id = a.usage_id"
        " where i.uuid = $1 order by a.attempt",
        job,
    )


async def settled(system: System, result: Result) -> list[tuple[str, str | None]]:
    """Accounts, and how their attempts are booked, once all are over and nothing is reserved."""

    async def over() -> bool:
        rows = await attempts(system, result.id)
        reading = await system.pool.fetchval("select count(*) from sluice.reading_on")
        reserved = await system.pool.fetchval("select sum(reserved) from finance.budgets")
        return all(row["outcome"] is not None for row in rows) and not reading and not reserved

    await eventually(over, within_s=10.0)
    # Of one moment; nothing may have been booked at all.
    money = await system.pool.fetchrow(
        "select (select spent from finance.budgets where scope = 'tenant:default') as spent,"
        " (select coalesce(sum(cost_usd), 0) from finance.usage) as booked"
    )
    assert money["spent"] == money["booked"]
    return [(row["account"], row["booked"]) for row in await attempts(system, result.id)]


async def test_the_second_answers_and_the_first_is_booked(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules(f"latency={SLOW_S}s")
    result = await client.complete(body("quick"), timeout=20)
    assert (result.report["account"], result.report["attempts"]) == ("two", 2)
    assert result.report["total_ms"] < SLOW_S * 1000
    assert await settled(system, result) == [("one", "cancelled"), ("two", "succeeded")]
    costs = [row["cost_usd"] for row in await attempts(system, result.id)]
    assert costs[0] == costs[1] > 0


async def test_the_first_answers_after_all(gateway: tuple[System, Client], rules: Any) -> None:
    system, client = gateway
    await rules("latency=900ms")
    await rules(f"latency={SLOW_S}s", "two")
    result = await client.complete(body("first"), timeout=20)
    assert (result.report["account"], result.state) == ("one", "succeeded")
    assert result.report["total_ms"] < SLOW_S * 1000
    assert await settled(system, result) == [("one", "succeeded"), ("two", "cancelled")]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("latency=900ms,status=500", "latency=1s", [("one", None), ("two", "succeeded")]),
        ("latency=900ms", "status=500", [("one", "succeeded"), ("two", None)]),
    ],
)
async def test_where_one_fails_the_other_goes_on(
    gateway: tuple[System, Client],
    rules: Any,
    first: str,
    second: str,
    expected: list[tuple[str, str | None]],
) -> None:
    system, client = gateway
    await rules(first)
    await rules(second, "two")
    result = await client.complete(body(f"one fails {first}"), timeout=20)
    assert (result.state, result.report["attempts"]) == ("succeeded", 2)
    assert await settled(system, result) == expected


async def test_where_both_fail_the_job_goes_its_usual_way(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules("latency=700ms,status=400")
    await rules("status=400", "two")
    with pytest.raises(JobFailed) as caught:
        await client.complete(body("both fail"), timeout=20)
    failed = caught.value.result
    assert failed.state == "failed"
    assert await settled(system, failed) == [("one", None), ("two", None)]


async def test_of_a_stream_the_first_to_bring_a_chunk_is_the_one(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules(f"latency={SLOW_S}s")
    seen = ""
    async with client.stream(body("a stream of words"), timeout=20) as stream:
        async for chunk in stream:
            seen += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    assert seen == "You said: a stream of words"
    assert stream.result.report["account"] == "two"
    assert await settled(system, stream.result) == [("one", "cancelled"), ("two", "succeeded")]


async def test_of_two_streams_the_later_one_shows_nothing(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules("latency=700ms,chunk_delay=150ms")
    await rules("latency=500ms,chunk_delay=150ms", "two")
    seen = ""
    async with client.stream(body("a stream of a few words"), timeout=20) as stream:
        async for chunk in stream:
            seen += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    assert seen == "You said: a stream of a few words"
    assert stream.result.report["account"] == "one"
    assert await settled(system, stream.result) == [("one", "succeeded"), ("two", "cancelled")]


async def test_a_stream_that_has_begun_is_not_hedged(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules("chunk_delay=150ms")
    async with client.stream(body("slow but steady words in a row"), timeout=20) as stream:
        async for _ in stream:
            pass
    assert await settled(system, stream.result) == [("one", "succeeded")]


async def test_a_cancel_ends_both(gateway: tuple[System, Client], rules: Any) -> None:
    system, client = gateway
    await rules("latency=3s")
    await rules("latency=3s", "two")
    waiting = asyncio.create_task(
        client.complete(body("cancel me"), timeout=20, idempotency_key="race-cancel")
    )

    async def both() -> bool:
        return bool(await system.pool.fetchval("select count(*) from sluice.reading_on"))

    await eventually(both, within_s=5.0)
    await client.cancel(idempotency_key="race-cancel")
    with pytest.raises(JobFailed) as caught:
        await waiting
    assert caught.value.result.state == "cancelled"
    assert await settled(system, caught.value.result) == [
        ("one", "cancelled"),
        ("two", "cancelled"),
    ]


async def test_who_is_not_in_a_hurry_or_has_no_money_for_two_is_called_once(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules("latency=800ms")
    patient = await client.complete(body("patient"), timeout=20, job_class="standard")
    assert await settled(system, patient) == [("one", "succeeded")]
    # One of these may cost 20,000 nano-dollars of output and 80,000 of bytes: two at once are too much.
    poor = await client.complete(body("p", max_tokens=10), timeout=20, project="poor")
    assert await settled(system, poor) == [("one", "succeeded")]


async def test_no_more_than_a_share_is_hedged(gateway: tuple[System, Client], rules: Any) -> None:
    _system, client = gateway
    await rules("latency=300ms")
    results = await asyncio.gather(
        *(client.complete(body(f"rare {n}", "rarely"), timeout=20) for n in range(30))
    )
    hedged = sum(result.report["attempts"] - 1 for result in results)
    assert 1 <= hedged <= 1 + 30 * 0.1


async def test_a_worker_that_stops_hears_the_slower_one_out(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules(f"latency={SLOW_S}s")
    result = await client.complete(body("last"), timeout=20)
    assert result.report["account"] == "two"
    await system.workers["worker-1"].stop()
    rows = await attempts(system, result.id)
    assert [(row["account"], row["booked"]) for row in rows] == [
        ("one", "cancelled"),
        ("two", "succeeded"),
    ]
    system.start_worker("next")
    await system.ready("next")


async def test_a_worker_that_dies_with_both_under_way_loses_nothing(
    gateway: tuple[System, Client], rules: Any
) -> None:
    system, client = gateway
    await rules("latency=3s")
    await rules("latency=3s", "two")
    waiting = asyncio.create_task(client.complete(body("die"), timeout=60, on_unknown="retry"))

    async def both() -> bool:
        return bool(await system.pool.fetchval("select count(*) from sluice.reading_on"))

    await eventually(both, within_s=5.0)
    list(system.workers.values())[-1].kill()
    system.start_worker("heir")
    result = await waiting
    assert result.state == "succeeded"

    async def over() -> bool:
        reading = await system.pool.fetchval("select count(*) from sluice.reading_on")
        reserved = await system.pool.fetchval("select sum(reserved) from finance.budgets")
        return not reading and not reserved

    await eventually(over, within_s=20.0)
    dead = [row["booked"] for row in await attempts(system, result.id)][:2]
    assert dead == ["unknown", "unknown"]
