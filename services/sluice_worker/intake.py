"""The step that reads Kafka: one FastStream batch subscriber and consumer group per class, and one for control."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.structs import ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage

from sluice_core.intake.model import Record
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS
from sluice_platform.kafka import sticky_assignor
from sluice_worker.commits import Commits

MAX_RECORDS = 500
MAX_FETCH_BYTES = 16 * 1024 * 1024
POLL_MS = 10
SESSION_TIMEOUT_MS = 10_000
STALLED_AFTER_S = 2 * SESSION_TIMEOUT_MS / 1000

_log = structlog.stdlib.get_logger(__name__)
Take = Callable[[Sequence[Record]], Awaitable[None]]


class Subscription(ConsumerRebalanceListener):  # type: ignore[misc]
    """One group's records, handed to `take` in batches; once it returns, their offsets are committed soon.

    `take` raises where nothing could be made durable: the same batch is then handed over again. `full`
    says whether reading must pause, `full_topics` which topics must where the others go on; both are asked
    after every batch.
    """

    def __init__(
        self,
        broker: KafkaBroker,
        topics: Sequence[str],
        group: str,
        take: Take,
        *,
        full: Callable[[], bool],
        full_topics: Callable[[], Collection[str]] = tuple,
        instance: str | None,
    ) -> None:
        self.group = group
        self._take = take
        self._topics = frozenset(topics)
        self._full = full
        self._full_topics = full_topics
        self._stopping = False
        self._paused: frozenset[str] = frozenset()
        self._resumer: asyncio.Task[None] | None = None
        self._handling = False
        self._progress = time.monotonic()
        self._commits = Commits(group, lambda: self._consumer)
        self._subscriber = broker.subscriber(
            *topics,
            batch=True,
            max_records=MAX_RECORDS,
            batch_timeout_ms=POLL_MS,
            fetch_max_bytes=MAX_FETCH_BYTES,
            group_id=group,
            group_instance_id=instance,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
            auto_offset_reset="earliest",
            listener=self,
            parser=self._parse,
            decoder=self._decode,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=1_000,
            rebalance_timeout_ms=30_000,
            partition_assignment_strategy=(sticky_assignor(group.replace(".", "_")),),
        )
        self._subscriber(self._handle)

    @property
    def _consumer(self) -> Any:
        return self._subscriber.consumer

    def stop(self) -> None:
        """Read no more; the group's membership stays until the broker is closed."""
        self._stopping = True
        if self._consumer is not None:
            self._consumer.pause(*self._consumer.assignment())

    async def close(self) -> None:
        """Commit what is durable and not committed yet; before the broker is closed."""
        await self._commits.flush()

    async def _parse(self, records: tuple[ConsumerRecord, ...]) -> KafkaMessage:
        # Touches no header, so that it cannot fail; the records themselves go on as the raw message.
        first = records[0]
        return KafkaMessage(
            body=[record.value or b"" for record in records],
            headers={},
            batch_headers=[],
            raw_message=records,
            message_id=f"{first.topic}-{first.partition}-{first.offset}",
            correlation_id="",
            reply_to="",
            content_type=None,
            consumer=self._consumer,
        )

    async def _decode(self, message: KafkaMessage) -> Any:
        return message.raw_message

    async def _handle(self, raw: tuple[ConsumerRecord, ...]) -> None:
        """Never raises: FastStream would skip the batch, and the next commit would bury it."""
        if self._stopping:
            self._forget(raw)
            return
        records = [_record(one) for one in raw]
        self._handling = True
        try:
            if not await self._insist(records):
                return
            crash_point("after_insert")
            self._commits.durable(records)
            if self._stopping:
                await self._commits.flush()
        finally:
            self._handling = False
            self._progress = time.monotonic()
        self._regulate()

    async def _insist(self, records: Sequence[Record]) -> bool:
        delay = 0.05
        while True:
            try:
                await self._take(records)
            except DATABASE_ERRORS as exc:
                _log.warning(
                    "intake.again", group=self.group, records=len(records), error=repr(exc)
                )
            except Exception:  # noqa: BLE001 - a raising handler would skip the batch
                # Anything else is a defect; the records stay uncommitted and nothing is skipped.
                _log.exception("intake.defect", group=self.group, records=len(records))
            else:
                return True
            if self._stopping:
                return False
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    def _forget(self, raw: tuple[ConsumerRecord, ...]) -> None:
        """Give back records that were fetched while stopping: position returns to the first of them."""
        first: dict[TopicPartition, int] = {}
        for record in raw:
            first.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        for partition, offset in first.items():
            try:
                self._consumer.seek(partition, offset)
            except IllegalStateError:
                continue  # not ours any more

    def _regulate(self) -> None:
        """Pause the partitions of topics that are full, and read those on that are not any more."""
        full = self._topics if self._full() else self._topics & frozenset(self._full_topics())
        if full == self._paused or self._consumer is None or self._stopping:
            return
        before, self._paused = self._paused, full
        assigned = self._consumer.assignment()
        if closed := [tp for tp in assigned if tp.topic in full - before]:
            self._consumer.pause(*closed)
        if opened := [tp for tp in self._consumer.paused() if tp.topic in before - full]:
            self._consumer.resume(*opened)
            self._progress = time.monotonic()
        _log.info(
            "intake.paused" if full else "intake.resumed", group=self.group, topics=sorted(full)
        )
        if full and (self._resumer is None or self._resumer.done()):
            self._resumer = asyncio.create_task(self._resume())

    async def _resume(self) -> None:
        while self._paused and not self._stopping:
            await asyncio.sleep(0.05)
            self._regulate()

    # Coroutines: FastStream calls plain functions in a thread, where a pause fails halfway and ends the consumer.

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """No job to wait for: the ledger makes a rebalance harmless. What is committed comes to nobody twice."""
        await self._commits.flush()
        self._commits.forget(revoked)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """A rebalance clears pauses; they are put back."""
        if self._consumer is None:
            return
        if again := [tp for tp in assigned if self._stopping or tp.topic in self._paused]:
            self._consumer.pause(*again)

    def stalled(self) -> bool:
        """Whether an assigned, unpaused partition has had unread records for two session timeouts."""
        consumer = self._consumer
        if consumer is None or self._handling or self._stopping:
            self._progress = time.monotonic()
            return False
        for partition in consumer.assignment():
            if partition.topic in self._paused:
                continue
            end = consumer.highwater(partition)
            state = consumer._subscription.subscription.assignment.state_value(partition)
            if end is not None and state.has_valid_position and state.position < end:
                return time.monotonic() - self._progress > STALLED_AFTER_S
        self._progress = time.monotonic()
        return False


def _record(raw: ConsumerRecord) -> Record:
    return Record(
        topic=raw.topic,
        partition=raw.partition,
        offset=raw.offset,
        timestamp_ms=raw.timestamp,
        key=raw.key,
        value=raw.value,
        headers=tuple(raw.headers),
    )
