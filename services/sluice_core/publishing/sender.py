"""One producer, fed in whole batches per partition: a slow topic or partition holds up no other."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self
from zlib import crc32

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from sluice_core.publishing.model import Message

METADATA_PATIENCE_S = 60.0
"""How long messages of a topic that nobody knows are kept waiting for it."""
PARTITIONS_FRESH_S = 30.0
_REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError, TopicAuthorizationFailedError)
"""Answers that say for certain that the broker wrote nothing of a batch."""

Done = Callable[[str | None], None]
"""Called once per message: with None when the broker has it, else with why it does not."""


class _Batch(Protocol):
    def append(
        self, *, timestamp: None, key: bytes | None, value: bytes | None, headers: object
    ) -> object | None: ...


@dataclass(slots=True)
class _Topic:
    """What is known of a topic: its partitions, and the messages that wait to know them."""

    partitions: tuple[int, ...] = ()
    read_at: float = 0.0
    waiting: deque[tuple[Message, Done]] = field(default_factory=deque)
    learning: bool = False


class Sender:
    """Sends messages in order per partition; an async context manager around its producer.

    Keys choose partitions by CRC-32 modulo their number, as librdkafka's `consistent` partitioner does.
    With `linger_s` messages wait for company, all partitions' together: then they travel in one request. (The
    producer's own linger only delays: here a batch is closed to others before it gets there.)
    """

    def __init__(self, producer: AIOKafkaProducer, *, linger_s: float = 0.0) -> None:
        self._producer = producer
        self._linger_s = linger_s
        self._lingering: list[tuple[tuple[str, int], deque[tuple[Message, Done]]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._topics: dict[str, _Topic] = {}
        self._queues: dict[tuple[str, int], deque[tuple[Message, Done]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._producer.stop()

    def send(self, message: Message, done: Done) -> None:
        """Queue a message; nothing here waits."""
        topic = self._topics.get(message.topic)
        if topic is None:
            topic = self._topics[message.topic] = _Topic()
        if topic.learning:
            topic.waiting.append((message, done))
            return
        unread = not topic.partitions
        stale = unread or time.monotonic() - topic.read_at > PARTITIONS_FRESH_S
        strange = message.partition is not None and message.partition not in topic.partitions
        if stale or strange:
            topic.waiting.append((message, done))
            topic.learning = True
            self._spawn(self._learn(message.topic, topic))
            return
        self._queue(topic, message, done)

    def _queue(self, topic: _Topic, message: Message, done: Done) -> None:
        partition = message.partition
        if partition is None:
            choice = random.getrandbits(32) if message.key is None else crc32(message.key)
            partition = topic.partitions[choice % len(topic.partitions)]
        elif partition not in topic.partitions:
            done("no such partition")
            return
        place = (message.topic, partition)
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = deque()
            if self._linger_s:
                self._linger(place, queue)
            else:
                self._spawn(self._pump(place, queue))
        queue.append((message, done))

    def _linger(self, place: tuple[str, int], queue: deque[tuple[Message, Done]]) -> None:
        if not self._lingering:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s, self._flush)
        self._lingering.append((place, queue))

    def _flush(self) -> None:
        lingering, self._lingering = self._lingering, []
        for place, queue in lingering:
            self._spawn(self._pump(place, queue))

    async def _learn(self, name: str, topic: _Topic) -> None:
        """Read a topic's partitions, then queue what waited for them, in order."""
        problem = "the topic does not exist"
        try:
            if topic.read_at:
                await self._producer.client.force_metadata_update()
            found = await asyncio.wait_for(self._producer.partitions_for(name), METADATA_PATIENCE_S)
            topic.partitions = tuple(sorted(found))
            topic.read_at = time.monotonic()
        except (KafkaError, TimeoutError) as exc:
            problem = f"topic unknown: {exc!r}"
        topic.learning = False
        waiting, topic.waiting = topic.waiting, deque()
        for message, done in waiting:
            if topic.partitions:
                self._queue(topic, message, done)
            else:
                done(problem)

    async def _pump(self, place: tuple[str, int], queue: deque[tuple[Message, Done]]) -> None:
        """Send a partition's queue, a full batch at a time, until it is empty."""
        while queue:
            batch = self._producer.create_batch()
            waiting = _fill(batch, queue)
            try:
                future = await self._producer.send_batch(batch, place[0], partition=place[1])
            except (KafkaError, AssertionError, ValueError) as exc:
                _tell(waiting, repr(exc))
            else:
                future.add_done_callback(partial(self._sent, place, waiting))
        del self._queues[place]

    def _sent(
        self, place: tuple[str, int], waiting: list[Done], sent: "asyncio.Future[Any]"
    ) -> None:
        if sent.cancelled():
            return
        error = sent.exception()
        if isinstance(error, _REFUSALS):
            self._step_back(place, len(waiting))
        _tell(waiting, None if error is None else repr(error))

    def _step_back(self, place: tuple[str, int], count: int) -> None:
        """Take a refused batch's numbers back, before the partition's next batch is numbered.

        aiokafka 0.14 leaves them counted: the broker then finds a gap and refuses whatever follows, for ever.
        There is one batch in flight per partition, and this runs before the sender comes to the next.
        """
        manager = self._producer._txn_manager
        if manager is not None:
            manager.increment_sequence_number(TopicPartition(*place), -count)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fill(batch: _Batch, queue: deque[tuple[Message, Done]]) -> list[Done]:
    """Move messages into a batch until it is full; the first always fits."""
    waiting: list[Done] = []
    while queue:
        message, done = queue[0]
        added = batch.append(
            timestamp=None, key=message.key, value=message.value, headers=message.headers
        )
        if added is None:
            break
        queue.popleft()
        waiting.append(done)
    return waiting


def _tell(waiting: list[Done], problem: str | None) -> None:
    for done in waiting:
        done(problem)
