"""A long request counts as sent once its last piece was handed over, not only when the connection has swallowed it."""

import asyncio
from typing import Any, cast

from aiohttp.client_proto import ResponseHandler
from tests.waiting import eventually

from sluice_providers.clock import Clock, Timeouts
from sluice_providers.http import _PIECE, _upload

TIMEOUTS = Timeouts(
    connect_s=60, first_byte_s=60, between_chunks_s=60, total_at=1e12, deadline_at=1e12
)


class Stuck(asyncio.Transport):
    """A connection whose buffer is full from a number of bytes on."""

    def __init__(self, protocol: ResponseHandler, full_at: int) -> None:
        super().__init__()
        self._protocol, self._full_at = protocol, full_at
        self.taken = 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.taken += len(data)
        if self.taken >= self._full_at:
            self._protocol.pause_writing()


async def test_what_was_handed_over_whole_counts_as_sent_before_it_is_swallowed() -> None:
    content = b"x" * (2 * _PIECE + 70_000)
    for full_at, sent in ((2 * _PIECE, False), (len(content), True)):
        protocol = ResponseHandler(asyncio.get_running_loop())
        transport = Stuck(protocol, full_at)
        protocol.connection_made(cast("Any", transport))
        clock = Clock(TIMEOUTS)
        task = asyncio.create_task(_upload(protocol, b"", content, clock))
        await eventually(lambda taken=transport, least=full_at: taken.taken >= least)  # type: ignore[misc]
        assert not task.done()
        assert clock.sent is sent
        task.cancel()
        clock.stop()


async def test_a_connection_that_ends_under_the_last_piece_is_an_answer_lost() -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    transport = Stuck(protocol, 1)
    protocol.connection_made(cast("Any", transport))
    clock = Clock(TIMEOUTS)
    task = asyncio.create_task(_upload(protocol, b"", b"x" * 70_000, clock))
    await eventually(lambda: transport.taken >= 70_000)
    protocol.connection_lost(ConnectionResetError())
    await task
    assert clock.sent
    assert protocol.exception() is not None
    clock.stop()
