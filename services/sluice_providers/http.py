"""The one HTTP seam under all wire formats: sends a request, pushes the answer into a sink, says how it ended.

Nothing is ever sent twice: requests go by POST, which aiohttp never repeats by itself (it repeats idempotent
methods on a kept-alive connection that was closed), redirects are not followed, and the body can be read once
only. A connection that the server closed while it was idle can therefore end a request before its status; whether
the server saw it cannot be known, so that is `reset_no_status`. To make it rare, idle connections are
dropped after `keepalive_s`, below the five seconds after which common servers close theirs.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from multidict import CIMultiDict

from sluice_core.jobs.fates import FailureKind
from sluice_providers.adapter import Outgoing

_PIECE = 256 * 1024
_UNBLOCKED = 16 * 1024
"""A body that a connection's buffer always takes at once, so that writing it needs no timer of its own."""
_DRAIN_S = 1.0
"""How long an answer that is complete may take to end its connection's turn, so that it can be reused."""


_BROKEN: Final[dict[FailureKind, str]] = {
    FailureKind.DNS_FAILED: "the name of the provider's host cannot be resolved",
    FailureKind.TLS_FAILED: "no secure connection to the provider's host can be made",
    FailureKind.CONNECT_FAILED: "the provider's host cannot be connected to",
    FailureKind.NOT_SENT: "the connection ended before the whole request was sent",
    FailureKind.RESET_NO_STATUS: "the connection ended before an answer",
    FailureKind.CUT_AFTER_STATUS: "the answer's body was cut short",
}
"""What is said of an exchange whose connection failed."""


class ExchangeError(Exception):
    """The exchange ended early; `kind` says how, `sent` whether the whole request had left.

    Foreign errors are mapped to it once, here.
    """

    def __init__(self, kind: FailureKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind = kind
        self.sent = sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Bounds of one exchange: the first three in seconds, the last two as times of the event loop's clock."""

    connect_s: float
    first_byte_s: float
    between_chunks_s: float
    total_at: float
    deadline_at: float


class Sink(Protocol):
    """Where an answer goes as it arrives."""

    def begin(self, status: int, headers: httpx.Headers) -> None:
        """The status has arrived."""
        ...

    def data(self, chunk: bytes) -> bool:
        """Body bytes have arrived; False says that the answer is complete."""
        ...


class _Upload(httpx.AsyncByteStream):
    """The request's body; knows when it was begun (so there is a connection) and when its last byte was taken."""

    def __init__(self, content: bytes, clock: "_Clock") -> None:
        self._content = content
        self._clock = clock
        self.begun = False
        self.finished = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.begun:
            raise RuntimeError("a request is never sent twice")
        self.begun = True
        content = self._content
        if len(content) <= _UNBLOCKED:
            yield content
        else:
            self._clock.allow(self._clock.timeouts.first_byte_s)
            for start in range(0, len(content), _PIECE):
                yield content[start : start + _PIECE]
        # Reached only after the last piece was written to the connection.
        self.finished = True
        self._clock.allow(self._clock.timeouts.first_byte_s)


class _Clock:
    """One timer for all phases of an exchange.

    A later bound only takes note: the timer looks at it when it fires. So an exchange that goes well
    arms one timer, however many phases it has.
    """

    __slots__ = ("_armed_for", "_handle", "_loop", "_until", "deadline_hit", "timeouts", "timer")

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.timer = asyncio.timeout(None)
        self.deadline_hit = False
        self._loop = asyncio.get_running_loop()
        self._until = self._bound(timeouts.connect_s)
        self._arm()

    def allow(self, allowed_s: float) -> None:
        """The next phase begins and may take that long."""
        if self.timer.expired():
            return
        self._until = self._bound(allowed_s)
        if self._until < self._armed_for:
            self._handle.cancel()
            self._arm()

    def stop(self) -> None:
        """The exchange is over."""
        self._handle.cancel()

    def _bound(self, allowed_s: float) -> float:
        until = min(self._loop.time() + allowed_s, self.timeouts.total_at)
        self.deadline_hit = self.timeouts.deadline_at <= until
        return min(until, self.timeouts.deadline_at)

    def _arm(self) -> None:
        self._armed_for = self._until
        self._handle = self._loop.call_at(self._until, self._fire)

    def _fire(self) -> None:
        if self._loop.time() < self._until:
            self._arm()
        else:
            self.timer.reschedule(self._until)


class Transport:
    """Pooled connections to providers; an async context manager, one a worker.

    `connections` bounds how many are open at once (0: unbounded; waiting for one counts as connecting).
    """

    def __init__(
        self,
        *,
        connections: int = 0,
        keepalive_s: float = 4.0,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._connections = connections
        self._keepalive_s = keepalive_s
        self._ssl_context = ssl_context
        self._urls: dict[str, httpx.URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._transport: AiohttpTransport | None = None

    async def __aenter__(self) -> Self:
        """Open the pool."""
        context = self._ssl_context or httpx.create_ssl_context()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=self._keepalive_s,
                ssl=context,
                ttl_dns_cache=60,
            ),
            # Cookies of one tenant's answers have no business in another's requests.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._transport = AiohttpTransport(verify=context, client=self._session)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
        self._session = self._transport = None

    async def exchange(self, outgoing: Outgoing, timeouts: Timeouts, sink: Sink) -> None:
        """Send once and push the answer into `sink` until it is complete. Raises ExchangeError.

        What the sink raises ends the exchange and passes through; so does cancellation. In both cases the
        connection is closed.
        """
        clock = _Clock(timeouts)
        upload = _Upload(outgoing.content, clock)
        status_seen = False
        try:
            async with clock.timer:
                response = await self._send(outgoing, upload)
                status_seen = True
                try:
                    await self._receive(response, clock, sink)
                finally:
                    await response.aclose()
        except TimeoutError as exc:
            raise _timed_out(upload, clock, status_seen=status_seen) from exc
        except (httpx.TransportError, aiohttp.ClientError, OSError) as exc:
            raise _broken(exc, upload, status_seen=status_seen) from exc
        finally:
            clock.stop()

    async def _send(self, outgoing: Outgoing, upload: _Upload) -> httpx.Response:
        assert self._transport is not None, "the transport is used inside its context"
        url = self._urls.get(outgoing.url)
        if url is None:
            url = self._urls[outgoing.url] = httpx.URL(outgoing.url)
        request = httpx.Request("POST", url, stream=upload)
        # The transport hands the headers on to aiohttp as they are; its own type spares recoding each of them twice.
        request.headers = CIMultiDict(  # type: ignore[assignment]
            (
                *outgoing.headers,
                ("content-length", str(len(outgoing.content))),
                ("accept-encoding", "identity"),
            )
        )
        return await self._transport.handle_async_request(request)

    @staticmethod
    async def _receive(response: httpx.Response, clock: _Clock, sink: Sink) -> None:
        timeouts = clock.timeouts
        sink.begin(response.status_code, response.headers)
        clock.allow(timeouts.first_byte_s)
        encoded = "content-encoding" in response.headers
        pieces = response.aiter_bytes() if encoded else response.stream.__aiter__()  # type: ignore[union-attr]
        async with aclosing(pieces) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                if not sink.data(chunk):
                    break
                clock.allow(timeouts.between_chunks_s)
            else:
                return
            await _drain(chunks)


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what follows a complete answer, which is nothing or the end of the transfer coding."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                pass
    except (TimeoutError, httpx.TransportError, aiohttp.ClientError, OSError):
        # The answer is complete; at worst its connection is not used again.
        return


def _timed_out(upload: _Upload, clock: _Clock, *, status_seen: bool) -> ExchangeError:
    if clock.deadline_hit:
        kind, message = FailureKind.DEADLINE, "the deadline passed during the call"
    elif not upload.begun:
        kind, message = FailureKind.CONNECT_FAILED, "no connection within the connect timeout"
    elif status_seen:
        kind, message = FailureKind.CUT_AFTER_STATUS, "the answer paused for longer than allowed"
    elif upload.finished:
        kind, message = FailureKind.TIMEOUT_NO_STATUS, "no status within the timeout"
    else:
        kind, message = FailureKind.NOT_SENT, "the request could not be sent in time"
    return ExchangeError(kind, message, sent=upload.finished or status_seen)


def _broken(exc: Exception, upload: _Upload, *, status_seen: bool) -> ExchangeError:
    cause = exc.__cause__ or exc
    if status_seen:
        kind = FailureKind.CUT_AFTER_STATUS
    elif isinstance(cause, aiohttp.ClientConnectorDNSError):
        kind = FailureKind.DNS_FAILED
    elif isinstance(cause, aiohttp.ClientSSLError | ssl.SSLError):
        kind = FailureKind.TLS_FAILED
    elif isinstance(cause, aiohttp.ClientConnectorError):
        kind = FailureKind.CONNECT_FAILED
    else:
        kind = FailureKind.RESET_NO_STATUS if upload.finished else FailureKind.NOT_SENT
    # What a library says of itself (classes, addresses, system calls) is no message for a caller.
    return ExchangeError(kind, _BROKEN[kind], sent=upload.finished or status_seen)
