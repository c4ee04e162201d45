"""Answers found by their meaning, on given vectors: in their context alone, from the threshold on, the newest of them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from math import cos, radians, sin

import pytest
from tests.integration.ledger.test_cache import keep
from tests.integration.ledger.world import World, world

from sluice_core.caching.model import Keep, Meaning
from sluice_core.caching.repository import CacheRepository
from sluice_core.ledger import check_meanings
from sluice_platform.errors import StartupError

THRESHOLD = cos(radians(10))
HERE, ELSEWHERE = b"c" * 32, b"d" * 32


@pytest.fixture
async def cache(database: str) -> AsyncIterator[CacheRepository]:
    async with world(database) as opened:
        stored = CacheRepository(opened.pool, 1)
        if not await stored.has_meanings():
            pytest.skip("this PostgreSQL has no pgvector")
        yield stored


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


def at(degrees: float, context: bytes = HERE) -> Meaning:
    """A direction; the length says nothing."""
    return Meaning(
        context=context, vector=f"[{3 * cos(radians(degrees))},{3 * sin(radians(degrees))}]"
    )


def meant(name: str, meaning: Meaning, *, ttl_s: float = 60.0) -> Keep:
    return replace(keep(name, ttl_s=ttl_s, body=f'"{name}"'.encode()), meaning=meaning)


async def store(cache: CacheRepository, *answers: Keep, entries: int = 10) -> None:
    for answer in answers:
        await cache.keep([answer], [])
        await cache.keep_meanings([answer], entries=entries)


async def nearest(cache: CacheRepository, meaning: Meaning) -> str | None:
    near = await cache.nearest(meaning, threshold=THRESHOLD)
    return None if near is None else near.answer.body.decode()


async def test_the_nearest_from_the_threshold_on(cache: CacheRepository) -> None:
    await store(cache, meant("a", at(0)), meant("b", at(8)))
    assert await nearest(cache, at(1)) == '"a"'
    assert await nearest(cache, at(7)) == '"b"'
    assert await nearest(cache, at(17.9)) == '"b"'
    assert await nearest(cache, at(18.1)) is None
    assert await nearest(cache, at(180)) is None
    near = await cache.nearest(at(0), threshold=THRESHOLD)
    assert near is not None
    assert near.cosine == pytest.approx(1.0)
    assert 55 < near.left_s <= 60
    assert near.answer.list_nano == 123


async def test_another_context_has_answers_of_its_own(cache: CacheRepository) -> None:
    await store(cache, meant("a", at(0)))
    assert await nearest(cache, at(0, ELSEWHERE)) is None
    # Vectors of another length stand in another context; met all the same, they are no neighbours.
    assert await nearest(cache, Meaning(context=HERE, vector="[1,0,0]")) is None


async def test_what_is_over_or_gone_is_not_found(cache: CacheRepository) -> None:
    await store(cache, meant("a", at(0), ttl_s=-1.0), meant("b", at(2)))
    assert await nearest(cache, at(0)) == '"b"'
    await cache.keep([], [])
    assert await cache.purge(0, 100) == 2
    assert await nearest(cache, at(0)) is None
    assert await cache.purge_meanings(100) == 2
    assert await cache.purge_meanings(100) == 0


async def test_the_newest_of_a_context_are_kept(cache: CacheRepository) -> None:
    answers = [meant(str(n), at(20 * n)) for n in range(5)]
    await store(cache, *answers, meant("else", at(0, ELSEWHERE)), entries=3)
    found = [await nearest(cache, at(20 * n)) for n in range(5)]
    assert found == [None, None, '"2"', '"3"', '"4"']
    assert await nearest(cache, at(0, ELSEWHERE)) == '"else"'


async def test_an_answer_that_is_stored_anew_means_the_newer(cache: CacheRepository) -> None:
    await store(cache, meant("a", at(0)), meant("a", at(90)))
    assert await nearest(cache, at(0)) is None
    assert await nearest(cache, at(90)) == '"a"'


async def test_without_the_extension_it_is_said(ledger: World) -> None:
    async with ledger.pool.acquire() as connection:
        outer = connection.transaction()
        await outer.start()
        await connection.execute("drop table if exists sluice.meanings")
        with pytest.raises(StartupError, match="pgvector"):
            await check_meanings(connection)
        await outer.rollback()
