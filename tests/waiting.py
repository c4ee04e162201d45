"""Waits for facts, so that no test sleeps and hopes."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

_POLL_S = 0.02


async def eventually(
    condition: Callable[[], object | Awaitable[object]], *, within_s: float = 10.0
) -> None:
    """Returns once `condition` (plain or async) gives a true value; fails after `within_s`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        held = condition()
        if inspect.isawaitable(held):
            held = await held
        if held:
            return
        assert loop.time() < deadline, f"not so within {within_s:g} s: {condition}"
        await asyncio.sleep(_POLL_S)
