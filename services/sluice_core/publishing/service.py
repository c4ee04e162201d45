"""Brings outbox events to Kafka: nothing waits inline, one slow topic holds up no other."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluice_core.publishing.model import Due, Message
from sluice_core.publishing.repository import OutboxRepository
from sluice_platform.batching import Batcher
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS

REPLY_PATIENCE_S = 60.0
"""After this long a reply that cannot be delivered is given up; the result stays elsewhere."""
METADATA_PATIENCE_S = 60.0
DELETE_LINGER_S = 0.02
DELETE_CAP = 500

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    """An outbox row of which `left` messages are still with the broker; `id` None: a delta, in no outbox."""

    id: int | None
    job: int | None
    left: int
    since: float
    failed: bool = False
    given_up: bool = False


@dataclass(slots=True)
class _Lane:
    """One producer and the messages that wait for it, in order."""

    producer: AIOKafkaProducer
    queue: deque[tuple[_Pending, Message]] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class Publisher:
    """Sends events and removes their outbox rows once the broker has them; an async context manager.

    `urgent` carries replies and deltas (linger 0), `steady` the rest (linger 5 ms). A row whose message could
    not be sent stays for the sweeper.
    """

    def __init__(
        self, outbox: OutboxRepository, *, urgent: AIOKafkaProducer, steady: AIOKafkaProducer
    ) -> None:
        self._outbox = outbox
        self._urgent = _Lane(urgent)
        self._steady = _Lane(steady)
        self._deletes: Batcher[int] = Batcher(
            self._delete, cap=DELETE_CAP, linger_s=DELETE_LINGER_S
        )
        self._given_up: Batcher[int] = Batcher(self._mark_given_up, cap=DELETE_CAP)
        self._unknown: dict[str, deque[tuple[_Pending, Message]]] = {}
        self._replies: dict[int, _Pending] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.unconfirmed = 0

    async def __aenter__(self) -> Self:
        await self._urgent.producer.start()
        await self._steady.producer.start()
        for coroutine in (
            self._send(self._urgent),
            self._send(self._steady),
            self._deletes.run(),
            self._given_up.run(),
            self._expire_replies(),
        ):
            self._spawn(coroutine)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._urgent.producer.stop()
        await self._steady.producer.stop()

    def publish(self, due: Due) -> None:
        """Send a row's messages; the row goes when all have arrived."""
        pending = _Pending(id=due.id, job=due.job, left=len(due.messages), since=time.monotonic())
        self.unconfirmed += 1
        if not due.messages:
            self._finished(pending)
        for message in due.messages:
            self._enqueue(pending, message)

    def send(self, message: Message) -> None:
        """Send a message that stands in no outbox: a delta. It is lost if this process dies."""
        self.unconfirmed += 1
        self._enqueue(_Pending(id=None, job=None, left=1, since=time.monotonic()), message)

    async def publish_rows(self, ids: Sequence[int]) -> None:
        """Send rows of which only the ledger knows the messages."""
        if ids:
            for due in await self._outbox.load(ids):
                self.publish(due)

    async def drain(self, timeout_s: float) -> None:
        """Wait until everything is confirmed and removed, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (self.unconfirmed or len(self._deletes)) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _enqueue(self, pending: _Pending, message: Message) -> None:
        lane = self._urgent if message.urgent else self._steady
        if message.urgent and pending.id is not None:
            self._replies[pending.id] = pending
        lane.queue.append((pending, message))
        lane.wake.set()

    async def _send(self, lane: _Lane) -> None:
        while True:
            if not lane.queue:
                lane.wake.clear()
                await lane.wake.wait()
            pending, message = lane.queue.popleft()
            partitions = lane.producer.client.cluster.partitions_for_topic(message.topic)
            if partitions is None or message.topic in self._unknown:
                self._wait_for_topic(lane, pending, message)
            elif message.partition is not None and message.partition not in partitions:
                self._failed(pending, message, "no such partition")
            else:
                await self._hand_over(lane, pending, message)

    async def _hand_over(self, lane: _Lane, pending: _Pending, message: Message) -> None:
        try:
            future = await lane.producer.send(
                message.topic,
                value=message.value,
                key=message.key,
                partition=message.partition,
                headers=message.headers,
            )
        except (KafkaError, AssertionError, ValueError) as exc:
            self._failed(pending, message, repr(exc))
        else:
            future.add_done_callback(lambda sent: self._sent(pending, message, sent))

    def _sent(self, pending: _Pending, message: Message, sent: "asyncio.Future[Any]") -> None:
        if sent.cancelled():
            return
        if (error := sent.exception()) is not None:
            self._failed(pending, message, repr(error))
            return
        pending.left -= 1
        if pending.left == 0:
            self._finished(pending)

    def _wait_for_topic(self, lane: _Lane, pending: _Pending, message: Message) -> None:
        """Park a topic's messages, in order, until its metadata is known."""
        waiting = self._unknown.get(message.topic)
        if waiting is not None:
            waiting.append((pending, message))
            return
        self._unknown[message.topic] = deque([(pending, message)])
        self._spawn(self._learn(lane, message.topic))

    async def _learn(self, lane: _Lane, topic: str) -> None:
        try:
            await asyncio.wait_for(lane.producer.partitions_for(topic), METADATA_PATIENCE_S)
        except (KafkaError, TimeoutError) as exc:
            for pending, message in self._unknown.pop(topic):
                self._failed(pending, message, f"topic unknown: {exc!r}")
            return
        # Those that came meanwhile go in before any later one: no await in between.
        lane.queue.extendleft(reversed(self._unknown.pop(topic)))
        lane.wake.set()

    def _failed(self, pending: _Pending, message: Message, reason: str) -> None:
        pending.left -= 1
        if message.urgent:
            pending.given_up = True
            _log.warning("reply.given_up", topic=message.topic, reason=reason)
        else:
            pending.failed = True
            _log.error("event.not_sent", topic=message.topic, reason=reason)
        if pending.left == 0:
            self._finished(pending)

    def _finished(self, pending: _Pending) -> None:
        self.unconfirmed -= 1
        if pending.id is None:
            return
        self._replies.pop(pending.id, None)
        crash_point("after_publish")
        if pending.given_up and pending.job is not None:
            self._given_up.add(pending.job)
        if not pending.failed:
            self._deletes.add(pending.id)

    async def _expire_replies(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            edge = time.monotonic() - REPLY_PATIENCE_S
            for pending in [p for p in self._replies.values() if p.since < edge]:
                # What the producer still holds may arrive after all; nobody waits for it here any more.
                pending.given_up = True
                if pending.left == 1:
                    pending.left = 0
                    self._finished(pending)

    async def _delete(self, ids: list[int]) -> None:
        try:
            await self._outbox.delete(ids)
        except DATABASE_ERRORS as exc:
            # They are published again by the sweeper, under the same ce_id.
            _log.warning("outbox.not_deleted", rows=len(ids), error=repr(exc))
        else:
            crash_point("after_mark")

    async def _mark_given_up(self, jobs: list[int]) -> None:
        try:
            await self._outbox.give_up_replies(jobs)
        except DATABASE_ERRORS as exc:
            _log.warning("reply.not_marked", jobs=len(jobs), error=repr(exc))
