"""An outbox row goes once all its messages have arrived; only a reply may be given up."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from tests.integration.ledger.world import World, world
from tests.integration.publishing.test_sender import contents, create
from tests.waiting import eventually

from sluice_core.publishing.model import Due, Message, Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_devstack.stack import Stack
from sluice_schemas.topics import Topics

ORIGIN = Origin(cell="main", topics=Topics(), record_bytes=64 * 1024)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


@asynccontextmanager
async def publisher(stack: Stack, outbox: OutboxRepository) -> AsyncIterator[Publisher]:
    urgent, steady = (
        AIOKafkaProducer(
            bootstrap_servers=stack.kafka.bootstrap,
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=4_000,
        )
        for _ in range(2)
    )
    async with Publisher(outbox, urgent=urgent, steady=steady) as running:
        yield running


def message(topic: str, *, urgent: bool) -> Message:
    return Message(topic=topic, key=b"k", value=b"v", headers=[], urgent=urgent)


async def row(ledger: World, outbox: OutboxRepository) -> int:
    """An outbox row, standing for whatever is published under its id."""
    await outbox.add(1, [message("any", urgent=False)])
    number: int = await ledger.pool.fetchval("select max(id) from sluice.outbox")
    return number


async def test_a_row_goes_when_all_has_arrived(
    stack: Stack, ledger: World, kafka_prefix: str
) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}results", 1)
    outbox = OutboxRepository(ledger.pool, ORIGIN)
    async with publisher(stack, outbox) as running:
        for _ in range(3):
            both = (message(topic, urgent=False), message(topic, urgent=True))
            running.publish(Due(id=await row(ledger, outbox), messages=both, job=1))
        running.publish(Due(id=await row(ledger, outbox), messages=()))
        await running.drain(10.0)
        assert running.unconfirmed == 0
        await eventually(lambda: _empty(ledger))
    assert await contents(bootstrap, topic, 1) == {0: [b"v"] * 6}


async def test_a_late_reply_is_given_up_and_the_row_goes(
    stack: Stack, ledger: World, kafka_prefix: str
) -> None:
    topic = await create(stack.kafka.bootstrap, f"{kafka_prefix}results", 1)
    outbox = OutboxRepository(ledger.pool, ORIGIN)
    async with publisher(stack, outbox) as running:
        both = (message(topic, urgent=False), message(f"{kafka_prefix}nowhere", urgent=True))
        running.publish(Due(id=await row(ledger, outbox), messages=both, job=1))
        await eventually(lambda: _arrived(stack, topic))
        running._give_up_replies(time.monotonic() + 1.0)
        assert running.unconfirmed == 0
        await eventually(lambda: _empty(ledger))
        # The sender tells of the missing topic in the end; that changes nothing any more.
        running.send(message(f"{kafka_prefix}nowhere", urgent=True))
        await eventually(lambda: running.unconfirmed == 0, within_s=20)


async def test_a_result_that_has_not_arrived_keeps_its_row_though_the_reply_is_old(
    stack: Stack, ledger: World, kafka_prefix: str
) -> None:
    topic = await create(stack.kafka.bootstrap, f"{kafka_prefix}replies", 1)
    outbox = OutboxRepository(ledger.pool, ORIGIN)
    async with publisher(stack, outbox) as running:
        number = await row(ledger, outbox)
        both = (message(f"{kafka_prefix}nowhere", urgent=False), message(topic, urgent=True))
        running.publish(Due(id=number, messages=both, job=1))
        await eventually(lambda: _arrived(stack, topic))
        running._give_up_replies(time.monotonic() + 1.0)
        assert running.unconfirmed == 1
        await eventually(lambda: running.unconfirmed == 0, within_s=20)
        await running.drain(5.0)
    assert await ledger.pool.fetchval("select array_agg(id) from sluice.outbox") == [number]


async def _empty(ledger: World) -> bool:
    return await ledger.count("sluice.outbox") == 0


async def _arrived(stack: Stack, topic: str) -> bool:
    return await contents(stack.kafka.bootstrap, topic, 1) == {0: [b"v"]}
