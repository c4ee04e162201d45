"""Ten times a second: hold dispatch back while events or settlements pile up, ease bulk off, end what waits past its time."""

import asyncio
import time

from sluice_core.publishing.service import Publisher
from sluice_worker.dispatch import Dispatcher
from sluice_worker.readiness import Readiness
from sluice_worker.settle import SettleStep

EVERY_S = 0.1
MAX_UNCONFIRMED = 20_000
"""Events with the broker above which no job starts; the sweeper has the rest."""
MAX_UNSETTLED = 2_000
"""Ended calls that are not settled yet above which no job starts."""


async def keep_pace(
    dispatcher: Dispatcher, publisher: Publisher, settle: SettleStep, readiness: Readiness
) -> None:
    """Run until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        lag_s = loop.time() - due
        behind = publisher.unconfirmed > MAX_UNCONFIRMED or len(settle) > MAX_UNSETTLED
        dispatcher.held_back = readiness.stopping or behind
        dispatcher.expire_due(time.time())
        dispatcher.feel(lag_s)
