"""The Kafka side of a client: two producers and the reply reader, each started when first needed."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from sluice_client.envelope import Outgoing
from sluice_client.errors import NotAccepted, NotConnected
from sluice_client.model import Submitted
from sluice_client.replies import ReplyReader
from sluice_client.waiting import Router, Waiter, watch_sending

PATIENCE_S: Final = 60.0
"""How long a record that nobody answers waits for Kafka's confirmation."""

_NOT_OPEN: Final = "the client is not open: use `async with`"
_MANY_LINGER_MS: Final = 5
_METADATA_MS: Final = 30_000


class Wire:
    """Sends records and hands their replies to waiters.

    `arguments` makes aiokafka's connection arguments; `max_request_size` is in bytes.
    """

    def __init__(
        self, arguments: Callable[[], dict[str, Any]], *, reply_topic: str, max_request_size: int
    ) -> None:
        self._make_arguments = arguments
        self._reply_topic = reply_topic
        self._max_request_size = max_request_size
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._one: AIOKafkaProducer | None = None
        self._many: AIOKafkaProducer | None = None
        self._router: Router | None = None

    async def __aenter__(self) -> Self:
        self._arguments = self._make_arguments()
        self._one = await self._producer(linger_ms=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def deliver(self, outgoing: Outgoing) -> None:
        """Send a record; returns once Kafka has it, raises NotAccepted."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(await self._send(outgoing, many=False))
        except TimeoutError:
            raise NotAccepted(f"Kafka did not confirm the record within {PATIENCE_S:g} s") from None
        except KafkaError as exc:
            raise NotAccepted(f"Kafka did not take the record: {exc!r}") from exc

    async def begin(
        self, outgoing: Outgoing, submitted: Submitted, waiter: Waiter, *, many: bool = False
    ) -> None:
        """Send a record whose replies `waiter` takes; `many` gathers records before they go.

        Raises NotAccepted and RepliesUnreadable; what is learned later goes to the waiter.
        """
        router = self._router or await self._read_replies()
        router.expect(submitted.correlation_id, waiter)
        try:
            sent = await self._send(outgoing, many=many)
        except KafkaError as exc:
            router.forget(submitted.correlation_id)
            raise NotAccepted(f"Kafka did not take the record: {exc!r}") from exc
        except BaseException:
            router.forget(submitted.correlation_id)
            raise
        watch_sending(sent, waiter.fail)

    def forget(self, submitted: Submitted) -> None:
        """Wait no longer for the replies to a record."""
        if self._router is not None:
            self._router.forget(submitted.correlation_id)

    async def _send(self, outgoing: Outgoing, *, many: bool) -> "asyncio.Future[Any]":
        producer = self._one
        if many:
            producer = self._many or await self._start_many()
        if producer is None:
            raise RuntimeError(_NOT_OPEN)
        future: asyncio.Future[Any] = await producer.send(
            outgoing.topic, value=outgoing.value, headers=outgoing.headers
        )
        return future

    async def _start_many(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._many is None:
                self._many = await self._producer(linger_ms=_MANY_LINGER_MS)
            return self._many

    async def _read_replies(self) -> Router:
        async with self._starting:
            if self._router is None:
                if self._one is None:
                    raise RuntimeError(_NOT_OPEN)
                reader = ReplyReader(self._arguments, self._reply_topic, self._one.partitions_for)
                self._router = (await self._stack.enter_async_context(reader)).router
            return self._router

    async def _producer(self, *, linger_ms: int) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._arguments,
            client_id="sluice-client",
            acks="all",
            enable_idempotence=True,
            linger_ms=linger_ms,
            max_batch_size=131_072,
            max_request_size=self._max_request_size,
            metadata_max_age_ms=_METADATA_MS,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as exc:
            await producer.stop()
            raise NotConnected(
                f"Kafka at {self._arguments['bootstrap_servers']} does not take this client: {exc!r}. "
                "Check the address, the login, and whether it may write to the job topics."
            ) from exc
        except BaseException:
            await producer.stop()
            raise
        self._stack.push_async_callback(producer.stop)
        return producer
