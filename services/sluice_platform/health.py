"""Answers the probes of a process that serves no HTTP otherwise."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from sluice_platform.settings import HostPort


@asynccontextmanager
async def serve_health(address: HostPort, check: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve `GET /healthz` while the block runs: 200 where `check` holds, else 503.

    Gives the port, which port 0 leaves to the system. Raises OSError where the address is taken.
    """

    async def answer(_request: web.Request) -> web.Response:
        healthy = check()
        return web.Response(
            status=200 if healthy else 503, text="ok\n" if healthy else "not beating\n"
        )

    application = web.Application()
    application.router.add_get("/healthz", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
