"""A stream of chunks that ends with the job's result, and says so when pieces are missing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import orjson

from sluice_client.errors import JobFailed, ReplyTimeout, StreamInterrupted
from sluice_client.model import Result, Submitted, read_result
from sluice_client.waiting import Reply

MAX_UNREAD_BYTES = 16 * 1024**2
"""How much of a stream may wait for its reader; beyond it the stream counts as interrupted."""

Open = Callable[["Inbox"], Awaitable[Submitted]]


class Inbox:
    """Takes the replies to one streaming job, in their order and each once."""

    def __init__(self) -> None:
        self.pieces: deque[list[dict[str, Any]]] = deque()
        self.result: Result | None = None
        self.problem: BaseException | None = None
        self.changed = asyncio.Event()
        self._attempt: int | None = None
        self._expected = 0
        self._sizes: deque[int] = deque()
        self._unread = 0

    def take(self, reply: Reply) -> None:
        """Take a delta or the result."""
        if reply.ends:
            self._end(read_result(reply.value, reply.headers))
        elif self.problem is None:
            self._delta(reply.value)
        self.changed.set()

    def fail(self, error: BaseException) -> None:
        """Raise `error` once what has arrived is read."""
        if self.problem is None:
            self.problem = error
        self.changed.set()

    def next_piece(self) -> list[dict[str, Any]] | None:
        """The chunks of the oldest delta not read yet."""
        if not self.pieces:
            return None
        self._unread -= self._sizes.popleft()
        return self.pieces.popleft()

    def _delta(self, value: bytes) -> None:
        delta = orjson.loads(value)
        attempt, seq = delta["attempt"], delta["seq"]
        if self._attempt is None or (attempt > self._attempt and self._expected == 0):
            self._attempt = attempt
        if attempt == self._attempt and seq < self._expected:
            return  # sent again
        if attempt != self._attempt or seq != self._expected:
            self.fail(
                StreamInterrupted(
                    f"delta {seq} of attempt {attempt} came where {self._expected} of "
                    f"{self._attempt} was due"
                )
            )
            return
        self._expected += 1
        self._unread += len(value)
        if self._unread > MAX_UNREAD_BYTES:
            self.fail(StreamInterrupted("the stream was read too slowly to be kept"))
            return
        self._sizes.append(len(value))
        self.pieces.append(delta["chunks"])

    def _end(self, result: Result) -> None:
        self.result = result
        # A result that was sent again, or joined, has had its deltas sent to somebody else.
        if not result.duplicate and result.report["deltas"] != self._expected:
            sent = result.report["deltas"]
            self.fail(StreamInterrupted(f"{self._expected} of {sent} deltas arrived"))


class Stream:
    """`async for chunk in client.stream(body): …`, then `stream.result`.

    Chunks are OpenAI chunks as dicts. The job is sent when the first chunk is asked for. A stream
    that repeats or joins an earlier job has no chunks of its own: its answer is in `result`.
    Iterating raises JobFailed where the job did not succeed, StreamInterrupted where pieces are
    missing or the provider broke off, ReplyTimeout.
    """

    def __init__(
        self, open_: Open, forget: Callable[[Submitted], None], *, timeout_s: float
    ) -> None:
        self._open = open_
        self._forget = forget
        self._timeout_s = timeout_s
        self._inbox = Inbox()
        self._chunks: deque[dict[str, Any]] = deque()
        self._deadline = 0.0
        self.submitted: Submitted | None = None

    @property
    def result(self) -> Result:
        """The job's result, once the iteration has ended; its body is the whole answer."""
        if self._inbox.result is None:
            raise RuntimeError("the stream has not ended: read it to its end first")
        return self._inbox.result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait no longer; the job goes on (`client.cancel` ends it)."""
        if self.submitted is not None:
            self._forget(self.submitted)

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if self.submitted is None:
            self._deadline = asyncio.get_running_loop().time() + self._timeout_s
            self.submitted = await self._open(self._inbox)
        while not self._chunks:
            piece = self._inbox.next_piece()
            if piece is not None:
                self._chunks.extend(piece)
            elif self._inbox.problem is not None or self._inbox.result is not None:
                self._end()
            else:
                await self._wait(self.submitted)
        return self._chunks.popleft()

    async def _wait(self, submitted: Submitted) -> None:
        self._inbox.changed.clear()
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._inbox.changed.wait()
        except TimeoutError:
            self.close()
            raise ReplyTimeout(submitted, self._timeout_s) from None

    def _end(self) -> None:
        inbox = self._inbox
        if inbox.problem is not None:
            self.close()
            if isinstance(inbox.problem, StreamInterrupted):
                inbox.problem.result = inbox.result
            raise inbox.problem
        result = self.result
        if result.succeeded:
            raise StopAsyncIteration
        failure = JobFailed(result)
        if failure.code == "stream_interrupted":
            raise StreamInterrupted(str(failure), result) from failure
        raise failure
