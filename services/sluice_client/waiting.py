"""Who waits for which reply: routing by correlation id, without I/O."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sluice_client.errors import ClientError, NotAccepted
from sluice_schemas import headers as names

_COMPLETED = names.JOB_COMPLETED.encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """One record of a reply topic that is meant for this client.

    `ends` says that it is the result, after which nothing comes.
    """

    value: bytes
    headers: Mapping[str, bytes]
    ends: bool


class Waiter(Protocol):
    """Takes the replies to one record."""

    def take(self, reply: Reply) -> None:
        """Take a delta or the result."""

    def fail(self, error: BaseException) -> None:
        """Nothing will come any more."""


class Router:
    """Hands each reply to the one that waits for it; all others are somebody else's.

    A result ends the wait, so that the same result sent again finds nobody; deltas sent again are
    passed over by their `seq`, which is what their `ce_id` is made of.
    """

    def __init__(self) -> None:
        self._waiters: dict[bytes, Waiter] = {}
        self._failure: ClientError | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiters)

    def expect(self, correlation_id: str, waiter: Waiter) -> None:
        """Wait for the replies of a record; before it is sent. Raises why nothing can come."""
        if self._failure is not None:
            raise self._failure
        self._waiters[correlation_id.encode()] = waiter

    def forget(self, correlation_id: str) -> None:
        """Wait no longer."""
        self._waiters.pop(correlation_id.encode(), None)

    def route(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
    ) -> None:
        """Take one record of the reply topic; its key is the correlation id."""
        waiter = self._waiters.get(key) if key is not None else None
        if waiter is None or value is None:
            return
        said = dict(headers)
        ends = said.get(names.CE_TYPE) == _COMPLETED
        if ends and key is not None:
            del self._waiters[key]
        waiter.take(Reply(value, said, ends))

    def fail(self, error: ClientError) -> None:
        """Tell everybody who waits, and whoever comes later."""
        self._failure = error
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.fail(error)


class Answer:
    """Waits for one result."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def take(self, reply: Reply) -> None:
        """Keep the result; deltas are not asked for."""
        if reply.ends and not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: BaseException) -> None:
        """Raise where the result is awaited."""
        if not self.future.done():
            self.future.set_exception(error)


def watch_sending(sent: "asyncio.Future[Any]", fail: Callable[[BaseException], None]) -> None:
    """Call `fail` where Kafka refuses a record after all."""

    def done(future: "asyncio.Future[Any]") -> None:
        if not future.cancelled() and (error := future.exception()) is not None:
            failure = NotAccepted(f"Kafka did not take the record: {error!r}")
            failure.__cause__ = error
            fail(failure)

    sent.add_done_callback(done)
