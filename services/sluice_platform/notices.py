"""Hears what the database announces (LISTEN), on a connection of its own; a shortcut, never the only way."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import structlog

from sluice_platform.db import DATABASE_ERRORS

RECONNECT_S = 5.0
CONNECT_TIMEOUT_S = 5.0
CHECK_S = 10.0
"""How often a silent connection is asked whether it is still there."""

_log = structlog.stdlib.get_logger(__name__)

Handlers = Mapping[str, Callable[[], Awaitable[None]]]


class Notices:
    """Calls a channel's handler after each notice on it; notices that come meanwhile are one more call.

    Where the connection is lost it is made again, and every handler is called once: notices may have been
    missed. `dsn` goes past a pooler, which would share the session with others.
    """

    def __init__(
        self, dsn: str, handlers: Handlers, *, application_name: str, check_s: float = CHECK_S
    ) -> None:
        self._dsn = dsn
        self._handlers = handlers
        self._name = application_name
        self._check_s = check_s
        self._heard: set[str] = set()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Listen until cancelled. Failing is logged when it begins and when it ends."""
        failing = False
        while True:
            try:
                connection = await self._connect()
                try:
                    if failing:
                        _log.info("notices.recovered")
                    failing = False
                    await self._serve(connection)
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as exc:
                if not failing:
                    _log.warning("notices.failed", error=repr(exc))
                failing = True
            await asyncio.sleep(RECONNECT_S)

    async def _connect(self) -> "asyncpg.Connection[Any]":
        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=CONNECT_TIMEOUT_S,
            server_settings={"application_name": self._name},
        )

    async def _serve(self, connection: "asyncpg.Connection[Any]") -> None:
        connection.add_termination_listener(lambda _: self._wake.set())
        for channel in self._handlers:
            await connection.add_listener(channel, self._on_notice)
        self._heard.update(self._handlers)
        while not connection.is_closed():
            # Forgotten before the handler runs: what is announced while it does is worth another call.
            heard, self._heard = self._heard, set()
            self._wake.clear()
            for channel in sorted(heard):
                await self._handlers[channel]()
            if self._heard:
                continue
            try:
                await asyncio.wait_for(self._wake.wait(), self._check_s)
            except TimeoutError:
                await connection.fetchval("select 1")

    def _on_notice(self, _connection: object, _pid: int, channel: str, _payload: object) -> None:
        self._heard.add(channel)
        self._wake.set()
