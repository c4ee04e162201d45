"""A TCP forwarder between a program and its server; what stands in its way is for its children to say."""

import asyncio
from types import TracebackType
from typing import Self


class Forwarder:
    """Forwards connections to `host`:`behind` from a port of its own, `port`; used as a context manager."""

    def __init__(self, behind: int = 0, host: str = "127.0.0.1") -> None:
        self.host, self.behind = host, behind
        self.port = 0
        self._links: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def open(self) -> None:
        """Take connections, on the same port each time."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Cut all connections and refuse new ones, as a server does that has died."""
        self._server.close()
        for link in tuple(self._links):
            link.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, upstream = await asyncio.open_connection(self.host, self.behind)
        except OSError:
            writer.transport.abort()
            return
        self._links.add(writer)
        ways = {
            asyncio.create_task(self._pump(reader, upstream)),
            asyncio.create_task(self._pump(answers, writer)),
        }
        self._tasks |= ways
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        self._tasks -= ways
        self._links.discard(writer)
        writer.transport.abort()
        upstream.transport.abort()

    def _lets_through(self, writer: asyncio.StreamWriter) -> bool:
        """Whether the bytes that are about to go to `writer` do."""
        return True

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                if not self._lets_through(writer):
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
