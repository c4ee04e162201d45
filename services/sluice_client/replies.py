"""Reads a reply topic from its end on, without a group, so that clients never take each other's replies."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from sluice_client.errors import ClientError, RepliesUnreadable
from sluice_client.waiting import Router

_POLL_MS = 1_000
_PAUSE_S = 0.5
_METADATA_MS = 5_000
_FETCH_BYTES = 4 * 1024**2

_log = logging.getLogger(__name__)


class ReplyReader:
    """`async with ReplyReader(arguments, topic) as reader:` routes what comes after that moment.

    `arguments` are aiokafka's for the connection; `partitions_of` asks the broker for the numbers of
    a topic's partitions, which a consumer of no topic does not know yet. Broker restarts are waited out. Partitions added
    later are noticed within seconds and read from their beginning. Entering raises
    RepliesUnreadable where there is no such topic.
    """

    def __init__(
        self,
        arguments: dict[str, Any],
        topic: str,
        partitions_of: Callable[[str], Awaitable[Iterable[int]]],
    ) -> None:
        self.router = Router()
        self._topic = topic
        self._partitions_of = partitions_of
        self._consumer = AIOKafkaConsumer(
            **arguments,
            client_id="sluice-client",
            group_id=None,
            enable_auto_commit=False,
            # Only for a position that retention has overtaken: what is still there is read.
            auto_offset_reset="earliest",
            metadata_max_age_ms=_METADATA_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=500,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            await self._from_the_end()
        except (KafkaError, OSError) as exc:
            await self._consumer.stop()
            raise RepliesUnreadable(f"cannot read {self._topic}: {exc!r}") from exc
        except BaseException:
            await self._consumer.stop()
            raise
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.router.fail(ClientError("the client was closed"))
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _from_the_end(self) -> None:
        if self._topic not in await self._consumer.topics():
            raise RepliesUnreadable(
                f"there is no topic {self._topic} (`sluice topics create` makes it), or this user "
                "may not see it"
            )
        numbers = await self._partitions_of(self._topic)
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        # Only a position that was awaited is fixed: a later record cannot slip in before it.
        for partition in partitions:
            await self._consumer.position(partition)

    async def _run(self) -> None:
        try:
            while True:
                await self._read()
        except Exception as exc:  # noqa: BLE001 - every waiter is told
            _log.exception("replies of %s are no longer read", self._topic)
            failure = RepliesUnreadable(f"reading {self._topic} failed: {exc!r}")
            failure.__cause__ = exc
            self.router.fail(failure)

    async def _read(self) -> None:
        try:
            await self._take_new_partitions()
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
        except KafkaError as exc:
            _log.warning("reading %s: %r", self._topic, exc)
            await asyncio.sleep(_PAUSE_S)
            return
        for records in batches.values():
            for record in records:
                self.router.route(record.key, record.value, record.headers)

    async def _take_new_partitions(self) -> None:
        numbers = self._consumer.partitions_for_topic(self._topic) or ()
        held = self._consumer.assignment()
        if len(numbers) <= len(held):
            return
        partitions = [TopicPartition(self._topic, number) for number in numbers]
        # A new assignment forgets positions; the new partitions are younger than this reader.
        positions = {partition: await self._consumer.position(partition) for partition in held}
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, positions.get(partition, 0))
