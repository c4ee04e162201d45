"""Commits the offsets of what is durable, beside the reading: nobody waits for it, and one commit tells of many polls."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Protocol

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from sluice_core.intake.model import Record
from sluice_platform.crash import crash_point

GATHER_S = 0.05
"""What becomes durable within this time is committed at once; after a crash it is delivered again, and known."""
RETRY_S = 0.5
"""After a commit that was lost: nothing more may come of a partition that would tell of it."""
FLUSH_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


class Committer(Protocol):
    """What is needed of a consumer."""

    def assignment(self) -> Collection[TopicPartition]:
        """The partitions it reads."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> Awaitable[None]:
        """Tell the group where it stands."""
        ...


class Commits:
    """The newest offset of each partition of one group; at most one commit is on its way."""

    def __init__(self, group: str, consumer: Callable[[], Committer | None]) -> None:
        self._group = group
        self._consumer = consumer
        self._due: dict[TopicPartition, int] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    def durable(self, records: Iterable[Record]) -> None:
        """All of these are durable; those of a partition come in its order."""
        for record in records:
            self._due[TopicPartition(record.topic, record.partition)] = record.offset + 1
        if self._due and self._task is None:
            self._task = asyncio.create_task(self._run())

    async def flush(self) -> None:
        """Return once everything is committed, or cannot be for now."""
        if self._task is None:
            return
        self._hurry.set()
        await asyncio.wait({self._task}, timeout=FLUSH_S)

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """What is not committed of these need not be: they may be somebody else's."""
        for partition in partitions:
            self._due.pop(partition, None)

    async def _run(self) -> None:
        try:
            while self._due:
                await self._gather()
                offsets, self._due = self._due, {}
                if not await self._commit(offsets) and not self._hurry.is_set():
                    self._due = offsets | self._due
                    await asyncio.sleep(RETRY_S)
        finally:
            self._task = None
            self._hurry.clear()

    async def _gather(self) -> None:
        try:
            async with asyncio.timeout(GATHER_S):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _commit(self, offsets: dict[TopicPartition, int]) -> bool:
        """Whether it need not be tried again."""
        consumer = self._consumer()
        if consumer is None:
            return True
        try:
            mine = consumer.assignment()
            if held := {tp: offset for tp, offset in offsets.items() if tp in mine}:
                await consumer.commit(held)
        except (KafkaError, IllegalStateError) as exc:
            # Should it be lost again and again: they are delivered again, and admission knows them.
            _log.warning("intake.commit_lost", group=self._group, error=repr(exc))
            return False
        except Exception:  # noqa: BLE001 - reading goes on, and the next commit tells of these too
            _log.exception("intake.commit_defect", group=self._group)
        else:
            crash_point("after_commit_offset")
        return True
