"""The semantic cache: other words that mean the same are answered with what there is, by the gateway's own vectors."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from tests.conftest import Template
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_client import Client, Result
from sluice_devstack.stack import Stack

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("failover")]

CONFIG: dict[str, Any] = {
    "models": {
        "kept": {
            "targets": [{"account": "mock", "model": "gpt-4o-mini"}],
            "prices": prices("1", "2"),
            "cache": "semantic",
        },
        "vectors": {
            "targets": [{"account": "mock", "model": "m-embed"}],
            "prices": prices("0.1", "0"),
        },
    },
    "cache": {"semantic": {"model": "vectors", "threshold": 0.999, "timeout": "2s"}},
}


def body(text: str, system: str = "", **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {"model": "kept", "messages": messages, **more}


@pytest.fixture(scope="module")
async def gateway(
    stack: Stack, migrated_template: Template
) -> AsyncIterator[tuple[System, Client]]:
    prefix = f"meant{uuid4().hex[:8]}."
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix=prefix, workers=1, config=CONFIG) as system,
        Client(stack.kafka.bootstrap, tenant="default", prefix=prefix) as client,
    ):
        if not await system.pool.fetchval("select to_regclass('sluice.meanings') is not null"):
            pytest.skip("this PostgreSQL has no pgvector")
        yield system, client


async def stored(system: System, words: str) -> None:
    """Returns once the answer to these words can be found by their meaning."""

    async def there() -> bool:
        found: bool = await system.pool.fetchval(
            "select exists (select from sluice.meanings m join sluice.cache c on c.key = m.key"
            " where position($1::bytea in c.body) > 0)",
            f"You said: {words}".encode(),
        )
        return found

    await eventually(there, within_s=5.0)


def mark(result: Result) -> str:
    assert result.state == "succeeded"
    return str(result.report["cache"])


async def test_words_that_mean_the_same_are_answered_with_what_there_is(
    gateway: tuple[System, Client],
) -> None:
    system, client = gateway
    # The mock's vectors are of texts without the white space around them: these mean the same.
    first = await client.complete(body("Where is the river?"), timeout=20)
    await stored(system, "Where is the river?")
    same = await client.complete(body("Where is the river?"), timeout=20)
    near = await client.complete(body("  Where is the river?\n"), timeout=20)
    other = await client.complete(body("How long is the night?"), timeout=20)
    told = await client.complete(body("Where is the river? ", system="Be brief."), timeout=20)
    marks = [mark(one) for one in (first, same, near, other, told)]
    assert marks == ["miss", "exact", "semantic", "miss", "miss"]
    assert near.body == first.body
    rows = await system.pool.fetch(
        "select operation, outcome, cache, cost_usd, list_cost_usd, project from finance.usage order by recorded_at"
    )
    vectors = [row for row in rows if row["operation"] == "embeddings"]
    assert len(vectors) == 2, "a vector that is known is not asked for again"
    assert all(row["cost_usd"] > 0 for row in vectors)
    (hit,) = [row for row in rows if row["cache"] == "semantic"]
    paid = next(row for row in rows if row["operation"] == "chat")
    assert (hit["outcome"], hit["cost_usd"], hit["list_cost_usd"]) == (
        "cached",
        0,
        paid["cost_usd"],
    )


async def test_a_hit_is_replayed_as_a_stream(gateway: tuple[System, Client]) -> None:
    system, client = gateway
    await client.complete(body("What streams?"), timeout=20)
    await stored(system, "What streams?")
    text = ""
    async with client.stream(body("What streams? "), timeout=20) as stream:
        async for chunk in stream:
            text += "".join(c["delta"].get("content") or "" for c in chunk["choices"])
    assert mark(stream.result) == "semantic"
    assert text == "You said: What streams?"


@pytest.mark.parametrize("behaviour", ["status=500", "fault=hang", "fault=malformed"])
async def test_without_a_vector_the_job_is_answered_all_the_same(
    gateway: tuple[System, Client], behaviour: str
) -> None:
    system, client = gateway
    rule = await system.mock.rule(behaviour, match={"model": "m-embed"})
    result = await client.complete(body(f"Whatever {behaviour}?"), timeout=20)
    assert mark(result) == "miss"
    await system.mock.forget_rule(rule)
