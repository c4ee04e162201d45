"""Measures the broker: whether it answers, how recent it is, its clock, its topics."""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import ApiVersionRequest

from sluice_core.health.model import Broker
from sluice_core.topics.policy import differences
from sluice_core.topics.service import TopicService
from sluice_schemas.topics import TopicSpec

_PRODUCE: Final = 0
_PRODUCE_SINCE_3_7: Final = 10
_CLOCK_STEPS_S: Final = (30.0, 5.0, 1.0)


async def measure_broker(
    admin: AIOKafkaAdminClient,
    consumer: AIOKafkaConsumer,
    specs: Sequence[TopicSpec],
    reply_topics: Sequence[tuple[str, str]] = (),
) -> Broker:
    """Measure over a started admin client and a started consumer without a group.

    `reply_topics` are those that tenants declared, as (tenant, topic).

    Raises what aiokafka raises where the broker does not answer.
    """
    started = time.perf_counter()
    cluster = await admin.describe_cluster()
    took_s = time.perf_counter() - started
    found = await TopicService(admin).settings([spec.name for spec in specs])
    existing = set(await admin.list_topics()) if reply_topics else set()
    stamped = [
        spec.name
        for spec in specs
        if found.get(spec.name, {}).get("message.timestamp.type") == "LogAppendTime"
    ]
    return Broker(
        answer_ms=took_s * 1000,
        brokers=len(cluster["brokers"]),
        recent=await _recent(admin),
        clock_ahead_s=await _ahead(consumer, await TopicService(admin).partitions(stamped)),
        topics=len(found),
        differences=tuple(differences(specs, found)),
        reply_topics_missing=tuple(pair for pair in reply_topics if pair[1] not in existing),
    )


async def _recent(admin: AIOKafkaAdminClient) -> bool:
    """Whether brokers speak the version of Produce that came with 3.7: they tell no version name."""
    client = admin._client
    response = await client.send(client.get_random_node(), ApiVersionRequest())
    return any(
        key == _PRODUCE and newest >= _PRODUCE_SINCE_3_7
        for key, _oldest, newest in response.api_versions
    )


async def _ahead(consumer: AIOKafkaConsumer, topics: Mapping[str, Sequence[int]]) -> float | None:
    """How far the broker's clock is ahead at least, by records that it stamped in our future.

    Kafka has no call for its time; a broker that lags cannot be seen this way.
    """
    partitions = [
        TopicPartition(topic, number) for topic, numbers in topics.items() for number in numbers
    ]
    for step_s in _CLOCK_STEPS_S:
        later_ms = int((time.time() + step_s) * 1000)
        offsets = await consumer.offsets_for_times(dict.fromkeys(partitions, later_ms))
        if any(offset is not None for offset in offsets.values()):
            return step_s
    return None
