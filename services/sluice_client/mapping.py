"""Many jobs in, results out as they finish, with a bound on how many are under way."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import TypeVar

from sluice_client.errors import ReplyTimeout
from sluice_client.model import Finished, Job, Submitted, read_result
from sluice_client.waiting import Reply

_TURN = 64
"""Jobs sent before the event loop gets a turn."""


_T = TypeVar("_T")


class _End:
    """No more jobs come."""


_Item = tuple["Slot", Reply] | BaseException | _End
_Queue = asyncio.Queue[_Item]


class Slot:
    """Waits for the result of one job of a map."""

    def __init__(self, job: Job, finished: _Queue) -> None:
        self.job = job
        self.submitted: Submitted | None = None
        self._finished = finished
        self._timer: asyncio.TimerHandle | None = None
        self._done = False

    def arm(self, submitted: Submitted, timeout_s: float) -> None:
        """Wait at most so long."""
        self.submitted = submitted
        if self._done:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(timeout_s, self.fail, ReplyTimeout(submitted, timeout_s))

    def disarm(self) -> None:
        """Wait no longer."""
        self._done = True
        if self._timer is not None:
            self._timer.cancel()

    def take(self, reply: Reply) -> None:
        """Take the result."""
        if reply.ends:
            self.disarm()
            self._finished.put_nowait((self, reply))

    def fail(self, error: BaseException) -> None:
        """End the whole map with an error."""
        self.disarm()
        self._finished.put_nowait(error)


Begin = Callable[[Slot], Awaitable[None]]


async def run_map(
    jobs: AsyncIterable[Job],
    begin: Begin,
    forget: Callable[[Submitted], None],
    *,
    concurrency: int,
) -> AsyncGenerator[Finished, None]:
    """Yield each job with its result as it finishes; `begin` sends a slot's job and arms it.

    At most `concurrency` jobs are under way or finished and not yet taken.
    """
    finished: _Queue = asyncio.Queue()
    room = asyncio.Semaphore(concurrency)
    slots: set[Slot] = set()

    async def feed() -> None:
        try:
            async for job in jobs:
                await room.acquire()
                slot = Slot(job, finished)
                slots.add(slot)
                await begin(slot)
            finished.put_nowait(_End())
        except Exception as exc:  # noqa: BLE001 - raised again where results are taken
            finished.put_nowait(exc)

    feeding = asyncio.create_task(feed())
    ended = False
    try:
        while slots or not ended:
            item = await finished.get()
            if isinstance(item, _End):
                ended = True
            elif isinstance(item, BaseException):
                raise item
            else:
                slot, reply = item
                slots.discard(slot)
                room.release()
                yield Finished(slot.job, read_result(reply.value, reply.headers))
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        for slot in slots:
            slot.disarm()
            if slot.submitted is not None:
                forget(slot.submitted)


async def each(items: Iterable[_T] | AsyncIterable[_T]) -> AsyncIterator[_T]:
    """The items of either kind of iterable; a plain one leaves turns to the event loop."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
        return
    for number, item in enumerate(items, 1):
        yield item
        if number % _TURN == 0:
            await asyncio.sleep(0)
