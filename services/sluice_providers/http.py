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
from typing import Protocol, Self

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage, StreamWriter
from yarl import URL

from sluice_providers.adapter import Outgoing
from sluice_providers.clock import Clock, Timeouts
from sluice_providers.connections import Connector
from sluice_providers.faults import broken, timed_out, unprepared

_PIECE = 256 * 1024
_UNBLOCKED = 16 * 1024
"""A body that a connection's buffer always takes at once, so that writing it needs no timer of its own."""
_DRAIN_S = 1.0
"""How long an answer that is complete may take to end its connection's turn, so that it can be reused."""
_NO_TIMEOUTS = aiohttp.ClientTimeout()
"""The exchange's own clock bounds connecting too."""
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FOREIGN = (
    httpx.TransportError,
    httpx.DecodingError,
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
)


class Sink(Protocol):
    """Where an answer goes as it arrives."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """The status has arrived; names of headers count in any case."""
        ...

    def data(self, chunk: bytes) -> bool:
        """Body bytes have arrived; False says that the answer is complete."""
        ...


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
        self._connector = Connector(
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
        connection is closed. A defect before the request has left is an ExchangeError as well: nothing was sent.
        """
        assert self._connector is not None, "the transport is used inside its context"
        try:
            address = self._addresses.get(outgoing.url) or self._address(outgoing.url)
            request = _head(address.head, outgoing)
        except Exception as exc:
            raise unprepared() from exc
        clock = Clock(timeouts)
        try:
            try:
                connection = await self._connect(address.request)
                try:
                    await _converse(connection, request, outgoing.content, clock, sink)
                finally:
                    connection.close()  # does nothing to one that was released
            finally:
                ours = clock.stop()
        except asyncio.CancelledError as exc:
            if not ours:
                raise
            raise timed_out(clock) from exc
        except _FOREIGN as exc:
            raise broken(exc, clock) from exc
        except Exception as exc:
            if clock.sent or clock.answered:
                raise
            raise unprepared() from exc

    async def _connect(self, request: aiohttp.ClientRequest) -> Connection:
        """A connection on which nothing has arrived yet.

        What a server sent while its connection was idle answers no request of ours: taken for the next
        answer, it would give one caller what belongs to another, and so would every answer after it.
        """
        assert self._connector is not None
        while True:
            connection = await self._connector.connect(request, [], _NO_TIMEOUTS)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()

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


def header_text(value: str) -> str:
    """A received header's value as plain text; what is not UTF-8 is Latin-1."""
    # aiohttp keeps bytes that are not UTF-8 as lone surrogates, which no database takes.
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode(errors="surrogateescape").decode("latin-1")
    return value


async def _converse(
    connection: Connection, head: bytes, content: bytes, clock: Clock, sink: Sink
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
    protocol: ResponseHandler, head: bytes, content: bytes, clock: Clock
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


async def _upload(protocol: ResponseHandler, head: bytes, content: bytes, clock: Clock) -> None:
    clock.allow(clock.timeouts.first_byte_s)
    try:
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        await writer.write(head)
        for start in range(0, len(content), _PIECE):
            await writer.write(content[start : start + _PIECE], drain=False)
            # What was handed over may arrive whole even if the connection never says so.
            clock.sent = start + _PIECE >= len(content)
            await writer.drain()
    except (aiohttp.ClientError, OSError) as exc:
        protocol.set_exception(exc)  # whoever waits for the answer gets it
        return
    clock.allow(clock.timeouts.first_byte_s)


async def _status(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The answer's head, after those that only announce it."""
    while True:
        message, payload = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:
            return message, payload


async def _receive(payload: aiohttp.StreamReader, clock: Clock, sink: Sink) -> bool:
    """Push the body on; whether the connection can take the next request."""
    while chunk := await payload.readany():
        if not sink.data(chunk):
            return payload.is_eof() or await _drained(payload)
        clock.allow(clock.timeouts.between_chunks_s)
    return True


async def _receive_encoded(
    message: RawResponseMessage, payload: aiohttp.StreamReader, clock: Clock, sink: Sink
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
