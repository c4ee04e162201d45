"""The one HTTP seam under all wire formats: sends a request, pushes the answer into a sink, says how it ended.

It works on aiohttp's connector and its client protocol (pool, DNS, TLS, the parser in C) and leaves out
`ClientSession` and its request and response objects: they cost three times as much as the exchange itself.

Nothing is ever sent twice: nothing here repeats a request, redirects are not followed. A connection that the server
closed while it was idle can therefore end a request before its status; whether the server saw it cannot be known,
so that is `reset_no_status`. To make it rare, idle connections are dropped after `keepalive_s`, below the
five seconds after which common servers close theirs.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from yarl import URL

from sluice_core.jobs.fates import FailureKind
from sluice_platform.values import frozen_value
from sluice_providers.adapter import Outgoing

_PIECE = 256 * 1024
_UNBLOCKED = 16 * 1024
"""A body that a connection's buffer always takes at once, so that writing it needs no timer of its own."""
_DRAIN_S = 1.0
"""How long an answer that is complete may take to end its connection's turn, so that it can be reused."""
_NO_TIMEOUTS = aiohttp.ClientTimeout()
"""The exchange's own clock bounds connecting too."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FOREIGN = (httpx.TransportError, aiohttp.ClientError, HttpProcessingError, OSError)

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


@frozen_value
class Timeouts:
    """Bounds of one exchange: the first three in seconds, the last two as times of the event loop's clock."""

    connect_s: float
    first_byte_s: float
    between_chunks_s: float
    total_at: float
    deadline_at: float


class Sink(Protocol):
    """Where an answer goes as it arrives."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The status has arrived; names of headers count in any case."""
        ...

    def data(self, chunk: bytes) -> bool:
        """Body bytes have arrived; False says that the answer is complete."""
        ...


class _Clock:
    """How far an exchange has come, and one timer for all of its phases.

    `begun`: there is a connection; `sent`: it has taken the request's last byte; `answered`: there is a status. A
    later bound only takes note: the timer looks at it when it fires. So an exchange that goes well arms one
    timer, however many phases it has.
    """

    __slots__ = (
        "_armed_for",
        "_handle",
        "_loop",
        "_until",
        "answered",
        "begun",
        "deadline_hit",
        "sent",
        "timeouts",
        "timer",
    )

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.timer = asyncio.timeout(None)
        self.begun = self.sent = self.answered = self.deadline_hit = False
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


@dataclass(frozen=True, slots=True)
class _Address:
    """A url as the connector knows it, and the first lines of every request to it."""

    request: aiohttp.ClientRequest
    head: str


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
        self._addresses: dict[str, _Address] = {}
        self._connector: aiohttp.TCPConnector | None = None

    async def __aenter__(self) -> Self:
        """Open the pool."""
        self._connector = aiohttp.TCPConnector(
            limit=self._connections,
            keepalive_timeout=self._keepalive_s,
            ssl=self._ssl_context or httpx.create_ssl_context(),
            ttl_dns_cache=60,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection."""
        if self._connector is not None:
            await self._connector.close()
        self._connector = None
        self._addresses.clear()

    async def exchange(self, outgoing: Outgoing, timeouts: Timeouts, sink: Sink) -> None:
        """Send once and push the answer into `sink` until it is complete. Raises ExchangeError.

        What the sink raises ends the exchange and passes through; so does cancellation. In both cases the
        connection is closed.
        """
        assert self._connector is not None, "the transport is used inside its context"
        address = self._addresses.get(outgoing.url) or self._address(outgoing.url)
        request = _head(address.head, outgoing)
        clock = _Clock(timeouts)
        try:
            async with clock.timer:
                connection = await self._connector.connect(address.request, [], _NO_TIMEOUTS)
                try:
                    await _converse(connection, request, outgoing.content, clock, sink)
                finally:
                    connection.close()  # does nothing to one that was released
        except TimeoutError as exc:
            raise _timed_out(clock) from exc
        except _FOREIGN as exc:
            raise _broken(exc, clock) from exc
        finally:
            clock.stop()

    def _address(self, url: str) -> _Address:
        parsed = URL(url)
        loop = asyncio.get_running_loop()
        known = self._addresses[url] = _Address(
            request=aiohttp.ClientRequest("POST", parsed, loop=loop),
            head=f"POST {parsed.raw_path_qs} HTTP/1.1\r\nhost: {parsed.host_port_subcomponent}\r\n",
        )
        return known


def _head(head: str, outgoing: Outgoing) -> bytes:
    """The request up to its body. Raises ValueError for what could end a header's line."""
    fields = [f"{name}: {value}" for name, value in outgoing.headers]
    if _CONTROL.search("".join(fields)):
        raise ValueError("a header holds a control character")
    fields += [f"content-length: {len(outgoing.content)}", "accept-encoding: identity", "", ""]
    return (head + "\r\n".join(fields)).encode()


async def _converse(
    connection: Connection, head: bytes, content: bytes, clock: _Clock, sink: Sink
) -> None:
    """One request and its answer; the connection is released where both are whole."""
    protocol = connection.protocol
    assert protocol is not None
    clock.begun = True
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    upload = _send(protocol, head, content, clock)
    try:
        message, payload = await _status(protocol)
        clock.answered = True
        sink.begin(message.code, message.headers)
        clock.allow(clock.timeouts.first_byte_s)
        if "content-encoding" in message.headers:
            whole = await _receive_encoded(message, payload, clock, sink)
        else:
            whole = await _receive(payload, clock, sink)
        if whole and (upload is None or upload.done()):
            connection.release()
    finally:
        if upload is not None:
            upload.cancel()


def _send(
    protocol: ResponseHandler, head: bytes, content: bytes, clock: _Clock
) -> "asyncio.Task[None] | None":
    """Write the request; a long one by a task, since an answer may come before its end."""
    if len(content) > _UNBLOCKED:
        return asyncio.get_running_loop().create_task(_upload(protocol, head, content, clock))
    transport = protocol.transport
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("closed before anything was sent")
    transport.write(head + content)
    clock.sent = True
    clock.allow(clock.timeouts.first_byte_s)
    return None


async def _upload(protocol: ResponseHandler, head: bytes, content: bytes, clock: _Clock) -> None:
    clock.allow(clock.timeouts.first_byte_s)
    try:
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        await writer.write(head)
        for start in range(0, len(content), _PIECE):
            await writer.write(content[start : start + _PIECE])
    except (aiohttp.ClientError, OSError) as exc:
        protocol.set_exception(exc)  # whoever waits for the answer gets it
        return
    clock.sent = True
    clock.allow(clock.timeouts.first_byte_s)


async def _status(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The answer's head, after those that only announce it."""
    while True:
        message, payload = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message, payload


async def _receive(payload: aiohttp.StreamReader, clock: _Clock, sink: Sink) -> bool:
    """Push the body on; whether the connection can take the next request."""
    while chunk := await payload.readany():
        if not sink.data(chunk):
            return payload.is_eof() or await _drained(payload)
        clock.allow(clock.timeouts.between_chunks_s)
    return True


async def _receive_encoded(
    message: RawResponseMessage, payload: aiohttp.StreamReader, clock: _Clock, sink: Sink
) -> bool:
    """As `_receive`, for a server that compresses although it was asked not to."""
    response = httpx.Response(
        message.code, headers=list(message.raw_headers), stream=_Pieces(payload)
    )
    async for chunk in response.aiter_bytes():
        if not sink.data(chunk):
            return False
        clock.allow(clock.timeouts.between_chunks_s)
    return True


class _Pieces(httpx.AsyncByteStream):
    """A body as httpx reads one."""

    def __init__(self, payload: aiohttp.StreamReader) -> None:
        self._payload = payload

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._payload.readany():
            yield chunk


async def _drained(payload: aiohttp.StreamReader) -> bool:
    """Read what follows a complete answer, which is nothing or the end of the transfer coding."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            while await payload.readany():
                pass
    except (TimeoutError, *_FOREIGN):
        return False  # the answer is complete; at worst its connection is not used again
    return True


def _timed_out(clock: _Clock) -> ExchangeError:
    if clock.deadline_hit:
        kind, message = FailureKind.DEADLINE, "the deadline passed during the call"
    elif not clock.begun:
        kind, message = FailureKind.CONNECT_FAILED, "no connection within the connect timeout"
    elif clock.answered:
        kind, message = FailureKind.CUT_AFTER_STATUS, "the answer paused for longer than allowed"
    elif clock.sent:
        kind, message = FailureKind.TIMEOUT_NO_STATUS, "no status within the timeout"
    else:
        kind, message = FailureKind.NOT_SENT, "the request could not be sent in time"
    return ExchangeError(kind, message, sent=clock.sent or clock.answered)


def _broken(exc: Exception, clock: _Clock) -> ExchangeError:
    if clock.answered:
        kind = FailureKind.CUT_AFTER_STATUS
    elif isinstance(exc, aiohttp.ClientConnectorDNSError):
        kind = FailureKind.DNS_FAILED
    elif isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        kind = FailureKind.TLS_FAILED
    elif isinstance(exc, aiohttp.ClientConnectorError):
        kind = FailureKind.CONNECT_FAILED
    else:
        kind = FailureKind.RESET_NO_STATUS if clock.sent else FailureKind.NOT_SENT
    # What a library says of itself (classes, addresses, system calls) is no message for a caller.
    return ExchangeError(kind, _BROKEN[kind], sent=clock.sent or clock.answered)
