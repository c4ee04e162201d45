"""Brings outbox events to Kafka: nothing waits inline, one slow topic holds up no other."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaProducer

from sluice_core.publishing.model import Due, Message
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.sender import Sender
from sluice_platform.batching import Batcher
from sluice_platform.crash import crash_point
from sluice_platform.db import DATABASE_ERRORS

REPLY_PATIENCE_S = 60.0
"""After this long a reply that cannot be delivered is given up; the result stays elsewhere."""
STEADY_LINGER_S = 0.01
"""What nobody waits for, results and usage, is gathered this long: a request to Kafka costs what many records do."""
DELETE_LINGER_S = 0.05
DELETE_CAP = 500

_log = structlog.stdlib.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    """An outbox row of which `left` messages are still with the broker, `replies` of them replies."""

    id: int
    job: int | None
    left: int
    since: float
    replies: int = 0
    failed: bool = False
    given_up: bool = False


class Publisher:
    """Sends events and removes their outbox rows once the broker has them; an async context manager.

    `urgent` carries replies and deltas at once, `steady` the rest after a moment. A row whose message could
    not be sent stays for the sweeper.
    """

    def __init__(
        self, outbox: OutboxRepository, *, urgent: AIOKafkaProducer, steady: AIOKafkaProducer
    ) -> None:
        self._outbox = outbox
        self._urgent = Sender(urgent)
        self._steady = Sender(steady, linger_s=STEADY_LINGER_S)
        self._deletes: Batcher[int] = Batcher(
            self._delete, cap=DELETE_CAP, linger_s=DELETE_LINGER_S
        )
        self._given_up: Batcher[int] = Batcher(self._mark_given_up, cap=DELETE_CAP)
        self._replies: dict[int, _Pending] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self.unconfirmed = 0

    async def __aenter__(self) -> Self:
        await self._urgent.__aenter__()
        await self._steady.__aenter__()
        for loop in (self._deletes.run(), self._given_up.run(), self._expire_replies()):
            self._tasks.add(asyncio.create_task(loop))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._urgent.__aexit__(kind, error, traceback)
        await self._steady.__aexit__(kind, error, traceback)

    def publish(self, due: Due) -> None:
        """Send a row's messages; the row goes when all have arrived."""
        pending = _Pending(id=due.id, job=due.job, left=len(due.messages), since=time.monotonic())
        self.unconfirmed += 1
        if not due.messages:
            self._finished(pending)
        for message in due.messages:
            self._enqueue(pending, message)

    def send(self, message: Message) -> None:
        """Send a message that stands in no outbox, a delta, urgently. It is lost if this process dies."""
        self.unconfirmed += 1
        self._urgent.send(message, partial(self._told_delta, message.topic))

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

    def _enqueue(self, pending: _Pending, message: Message) -> None:
        if message.urgent:
            pending.replies += 1
            self._replies[pending.id] = pending
        sender = self._urgent if message.urgent else self._steady
        sender.send(message, partial(self._told, pending, message))

    def _told_delta(self, topic: str, problem: str | None) -> None:
        self.unconfirmed -= 1
        if problem is not None:
            _log.warning("reply.given_up", topic=topic, reason=problem)

    def _told(self, pending: _Pending, message: Message, problem: str | None) -> None:
        """What became of one message."""
        if message.urgent:
            if not pending.replies:
                return  # given up before, and counted then
            pending.replies -= 1
            if not pending.replies:
                del self._replies[pending.id]
        if problem is not None:
            self._failed(pending, message, problem)
        self._less(pending, 1)

    def _failed(self, pending: _Pending, message: Message, reason: str) -> None:
        if message.urgent:
            pending.given_up = True
            _log.warning("reply.given_up", topic=message.topic, reason=reason)
        else:
            pending.failed = True
            _log.error("event.not_sent", topic=message.topic, reason=reason)

    def _less(self, pending: _Pending, count: int) -> None:
        pending.left -= count
        if pending.left == 0:
            self._finished(pending)

    def _finished(self, pending: _Pending) -> None:
        self.unconfirmed -= 1
        crash_point("after_publish")
        if pending.given_up and pending.job is not None:
            self._given_up.add(pending.job)
        if not pending.failed:
            self._deletes.add(pending.id)

    async def _expire_replies(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._give_up_replies(time.monotonic() - REPLY_PATIENCE_S)

    def _give_up_replies(self, edge: float) -> None:
        """Give up replies sent before `edge` (monotonic seconds); a row's other messages are still waited for."""
        for number, pending in [(n, p) for n, p in self._replies.items() if p.since < edge]:
            # What the producer still holds may arrive after all; nobody waits for it here any more.
            pending.given_up = True
            del self._replies[number]
            replies, pending.replies = pending.replies, 0
            self._less(pending, replies)

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
