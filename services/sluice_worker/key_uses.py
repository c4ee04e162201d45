"""Writes now and then which keys signed what this worker read, so that people see which are in use."""

import asyncio

import structlog

from sluice_core.keys.ring import Keys
from sluice_platform.db import DATABASE_ERRORS

EVERY_S = 10.0

_log = structlog.stdlib.get_logger(__name__)


async def flush_key_uses(keys: Keys) -> None:
    """Write until cancelled; an outage costs nothing but time, and what a crash forgets is a few seconds' worth."""
    while True:
        await asyncio.sleep(EVERY_S)
        await flush_once(keys)


async def flush_once(keys: Keys) -> None:
    """Write what is not written yet."""
    try:
        await keys.flush_uses()
    except DATABASE_ERRORS as exc:
        _log.warning("key_uses.not_written", error=repr(exc))
