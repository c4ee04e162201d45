"""The loop around every task: an outage of a server ends a round, never the keeper."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from sluice_platform.db import DATABASE_ERRORS

OUTAGES: Final = (*DATABASE_ERRORS, KafkaError)

AFTER_FAILURE_S: Final = 5.0
"""A rare task that failed is not left for its whole interval."""

_log = structlog.stdlib.get_logger(__name__)


async def repeat(name: str, once: Callable[[], Awaitable[bool]], *, every_s: float) -> None:
    """Run `once` until cancelled; True: there is more to do at once. Failing is logged when it begins and ends."""
    failing = False
    while True:
        more, pause_s = False, every_s
        try:
            more = await once()
        except OUTAGES as exc:
            if not failing:
                _log.warning("task.failing", task=name, error=repr(exc))
            failing = True
            pause_s = min(every_s, AFTER_FAILURE_S)
        else:
            if failing:
                _log.info("task.recovered", task=name)
            failing = False
        await asyncio.sleep(0 if more else pause_s)
