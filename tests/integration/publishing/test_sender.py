"""The sender on a real broker: order per partition, and no topic or message that holds up another."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from tests.waiting import eventually

from sluice_core.publishing.model import Message
from sluice_core.publishing.sender import Sender
from sluice_devstack.kafka import EmbeddedKafka
from sluice_devstack.stack import Stack

MEGABYTE = 1024**2


@dataclass
class Told:
    """What became of messages, by value; told twice fails."""

    problems: dict[bytes, str | None] = field(default_factory=dict)

    def of(self, message: Message) -> Callable[[str | None], None]:
        value = message.value or b""

        def done(problem: str | None) -> None:
            assert value not in self.problems
            self.problems[value] = problem

        return done


@asynccontextmanager
async def sender_on(bootstrap: str, *, linger_ms: int = 0) -> AsyncIterator[Sender]:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_batch_size=131_072,
        max_request_size=9 * MEGABYTE,
        request_timeout_ms=4_000,
    )
    async with Sender(producer, linger_s=linger_ms / 1000) as sender:
        yield sender


@asynccontextmanager
async def administrator(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def create(bootstrap: str, name: str, partitions: int, **settings: str) -> str:
    dotted = {key.replace("_", "."): value for key, value in settings.items()}
    async with administrator(bootstrap) as client:
        await client.create_topics([NewTopic(name, partitions, 1, topic_configs=dotted)])
    return name


async def contents(bootstrap: str, topic: str, partitions: int) -> dict[int, list[bytes]]:
    """Every value of a topic, by partition, in order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=9 * MEGABYTE,
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        found: dict[int, list[bytes]] = defaultdict(list)
        async with asyncio.timeout(30):
            while any([await consumer.position(place) < end for place, end in ends.items()]):
                for place, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[place.partition] += [record.value for record in records]
        return found
    finally:
        await consumer.stop()


def messages(topic: str, count: int, *, keys: int = 10, size: int = 0) -> list[Message]:
    return [
        Message(
            topic=topic,
            key=b"key-%d" % (number % keys),
            value=b"%s-%06d" % (topic.encode(), number) + b"x" * size,
            headers=[("n", b"%d" % number)],
        )
        for number in range(count)
    ]


def expected(sent: list[Message], partitions: int) -> dict[int, list[bytes]]:
    places: dict[int, list[bytes]] = defaultdict(list)
    for message in sent:
        places[crc32(message.key or b"") % partitions].append(message.value or b"")
    return places


@pytest.mark.parametrize("linger_ms", [0, 5])
async def test_thousands_of_messages_keep_their_order_per_partition(
    stack: Stack, kafka_prefix: str, linger_ms: int
) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}many", 4)
    told, sent = Told(), messages(topic, 5_000, keys=50, size=100)
    async with sender_on(bootstrap, linger_ms=linger_ms) as sender:
        for number, message in enumerate(sent):
            sender.send(message, told.of(message))
            if number % 700 == 0:
                await asyncio.sleep(0)
        await eventually(lambda: len(told.problems) == len(sent), within_s=30)
    assert set(told.problems.values()) == {None}
    assert await contents(bootstrap, topic, 4) == expected(sent, 4)


async def test_a_missing_topic_is_told_of_and_holds_up_nobody(
    stack: Stack, kafka_prefix: str
) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}there", 2)
    told = Told()
    missing, there = messages(f"{kafka_prefix}missing", 3), messages(topic, 200)
    async with sender_on(bootstrap) as sender:
        for message in (*missing[:2], *there, missing[2]):
            sender.send(message, told.of(message))
        await eventually(lambda: len(told.problems) == len(there))
        assert set(told.problems.values()) == {None}
        await eventually(lambda: len(told.problems) == len(there) + 3, within_s=30)
        assert all("topic unknown" in (told.problems[m.value or b""] or "") for m in missing)

        await create(bootstrap, missing[0].topic, 1)
        (later,) = messages(missing[0].topic, 1, size=1)
        sender.send(later, told.of(later))
        await eventually(lambda: (later.value or b"") in told.problems, within_s=30)
    assert told.problems[later.value or b""] is None
    assert await contents(bootstrap, missing[0].topic, 1) == {0: [later.value]}


async def test_a_message_over_the_brokers_limit_fails_alone(
    stack: Stack, kafka_prefix: str
) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}small", 1, max_message_bytes="200000")
    told, sent = Told(), messages(topic, 40, size=10)
    large = Message(topic=topic, key=b"k", value=b"L" * 300_000, headers=[])
    async with sender_on(bootstrap, linger_ms=5) as sender:
        for message in (*sent[:20], large, *sent[20:]):
            sender.send(message, told.of(message))
        await eventually(lambda: len(told.problems) == 41, within_s=30)
    assert "MessageSizeTooLarge" in (told.problems.pop(large.value or b"") or "")
    assert set(told.problems.values()) == {None}
    assert await contents(bootstrap, topic, 1) == {0: [m.value for m in sent]}


async def test_a_value_of_megabytes_goes_in_its_turn(stack: Stack, kafka_prefix: str) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}large", 1, max_message_bytes=str(9 * MEGABYTE))
    told, around = Told(), messages(topic, 2)
    large = Message(topic=topic, key=None, value=b"L" * (8 * MEGABYTE), headers=[])
    sent = [around[0], large, around[1]]
    async with sender_on(bootstrap) as sender:
        for message in sent:
            sender.send(message, told.of(message))
        await eventually(lambda: len(told.problems) == 3, within_s=30)
    assert set(told.problems.values()) == {None}
    assert await contents(bootstrap, topic, 1) == {0: [m.value for m in sent]}


async def test_partitions_named_and_missing_and_added_later(
    stack: Stack, kafka_prefix: str
) -> None:
    bootstrap = stack.kafka.bootstrap
    topic = await create(bootstrap, f"{kafka_prefix}replies", 2)
    told = Told()

    def reply(partition: int, value: bytes) -> Message:
        return Message(topic=topic, key=b"k", value=value, headers=[], partition=partition)

    first = [reply(1, b"one"), reply(7, b"nowhere"), reply(0, b"zero")]
    async with sender_on(bootstrap) as sender:
        for message in first:
            sender.send(message, told.of(message))
        await eventually(lambda: len(told.problems) == 3)
        assert told.problems == {b"one": None, b"nowhere": "no such partition", b"zero": None}

        async with administrator(bootstrap) as client:
            await client.create_partitions({topic: NewPartitions(8)})
        again = 0

        async def arrived() -> bool:
            # The broker tells of new partitions in its own time.
            nonlocal again
            again += 1
            message = reply(7, b"seven-%d" % again)
            sender.send(message, told.of(message))
            await eventually(lambda: message.value in told.problems)
            return told.problems[message.value or b""] is None

        await eventually(arrived)
    found = await contents(bootstrap, topic, 8)
    assert found == {0: [b"zero"], 1: [b"one"], 7: [b"seven-%d" % again]}


async def test_a_broker_that_is_killed_in_the_middle_gets_all_once_in_order(
    tmp_path: Path,
) -> None:
    async with EmbeddedKafka(tmp_path / "kafka") as broker:
        topic = await create(broker.bootstrap, "survives", 3)
        told, sent = Told(), messages(topic, 3_000, keys=30, size=200)
        async with sender_on(broker.bootstrap) as sender:
            for message in sent[:1_000]:
                sender.send(message, told.of(message))
            await eventually(lambda: told.problems)
            await broker.kill()
            for message in sent[1_000:2_000]:
                sender.send(message, told.of(message))
            await broker.start()
            for message in sent[2_000:]:
                sender.send(message, told.of(message))
            await eventually(lambda: len(told.problems) == len(sent), within_s=60)
        assert set(told.problems.values()) == {None}
        assert await contents(broker.bootstrap, topic, 3) == expected(sent, 3)
