"""Stored answers in the ledger: one asks for all, answers end, tenants do not meet, the bound is kept."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest
from tests.integration.ledger.world import World, world

from sluice_core.caching.model import Answer, Keep
from sluice_core.caching.repository import CacheRepository
from sluice_core.usage.model import Usage

USAGE = Usage(
    input_tokens=9, cache_read_tokens=4, cache_write_tokens=1, output_tokens=7, reasoning_tokens=2
)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        await opened.pool.execute(
            "insert into sluice.workers (incarnation, name, kind, pool)"
            " select n, 'w' || n, 'worker', 'default' from generate_series(1, 8) n"
        )
        yield opened


def key(name: str) -> bytes:
    return sha256(name.encode()).digest()


def keep(name: str, *, ttl_s: float = 60.0, body: bytes = b'{"a": 1}') -> Keep:
    answer = Answer(
        body=body,
        provider="openai",
        account="mock",
        provider_model="gpt",
        usage=USAGE,
        list_nano=123,
        price_version="v",
    )
    return Keep(key=key(name), tenant="acme", ttl_s=ttl_s, answer=answer)


async def states(cache: CacheRepository, *names: str, lease_s: float = 30.0) -> list[str]:
    found = await cache.look([(key(name), "acme") for name in names], lease_s=lease_s)
    return [one.state for one in found]


async def test_one_asks_and_all_have_its_answer(ledger: World) -> None:
    one, other = CacheRepository(ledger.pool, 1), CacheRepository(ledger.pool, 2)
    assert await states(one, "x") == ["mine"]
    assert await states(other, "x") == ["others"]
    await one.keep([keep("x")], [])
    (found,) = await other.look([(key("x"), "acme")], lease_s=1)
    assert found.answer == keep("x").answer
    assert 58 < found.left_s <= 60


async def test_of_many_at_once_exactly_one_asks(ledger: World) -> None:
    workers = [CacheRepository(ledger.pool, number) for number in range(1, 9)]
    names = [f"k{number}" for number in range(20)]
    looked = await asyncio.gather(
        *(states(worker, *(names if n % 2 else names[::-1])) for n, worker in enumerate(workers))
    )
    by_name = [
        list(dict(zip(names if n % 2 else names[::-1], s, strict=True)).items())
        for n, s in enumerate(looked)
    ]
    for name in names:
        assert [dict(pairs)[name] for pairs in by_name].count("mine") == 1, name


async def test_who_gives_up_or_dies_leaves_it_to_the_next(ledger: World) -> None:
    one, other = CacheRepository(ledger.pool, 1), CacheRepository(ledger.pool, 2)
    assert await states(one, "x", "y", lease_s=0.2) == ["mine", "mine"]
    await other.keep([], [key("x")])
    assert await states(other, "x") == ["others"], "only its own are given up"
    await one.keep([], [key("x")])
    assert await states(other, "x", "y") == ["mine", "others"]
    await asyncio.sleep(0.25)
    assert await states(other, "y") == ["mine"]
    await one.keep([keep("y")], [])
    assert await states(other, "y") == ["hit"], "an answer is one, whoever brings it"


@pytest.mark.parametrize(
    "end",
    [
        "delete from sluice.workers where incarnation = 1",
        "update sluice.workers set beat_at = beat_at - interval '6 seconds' where incarnation = 1",
    ],
    ids=["left", "silent"],
)
async def test_who_is_gone_asks_for_nobody(ledger: World, end: str) -> None:
    one, other = CacheRepository(ledger.pool, 1), CacheRepository(ledger.pool, 2)
    assert await states(one, "x") == ["mine"]
    assert await states(other, "x") == ["others"]
    await ledger.pool.execute(end)
    assert await states(other, "x") == ["mine"]


async def test_an_answer_ends(ledger: World) -> None:
    cache = CacheRepository(ledger.pool, 1)
    await cache.keep([keep("x", ttl_s=0.1)], [])
    assert await states(cache, "x") == ["hit"]
    await asyncio.sleep(0.15)
    assert await states(cache, "x") == ["mine"]


async def test_the_oldest_go_where_there_is_too_much(ledger: World) -> None:
    cache = CacheRepository(ledger.pool, 1)
    for number in range(10):
        await cache.keep([keep(f"k{number}", body=b"x" * 100)], [])
    assert await cache.purge(10_000, 100) == 0
    assert await cache.purge(350, 100) == 7
    left = await states(cache, *(f"k{number}" for number in range(10)))
    assert left == ["mine"] * 7 + ["hit"] * 3


async def test_what_is_over_is_removed(ledger: World) -> None:
    cache = CacheRepository(ledger.pool, 1)
    await cache.keep([keep("x", ttl_s=0.05)], [])
    await states(cache, "y", lease_s=0.05)
    await asyncio.sleep(0.1)
    assert await cache.purge(10_000, 100) == 2
    assert await ledger.count("sluice.cache") == 0
