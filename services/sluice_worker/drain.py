"""Stopping: what has not started goes back, what has goes to its end."""

import asyncio
import time

import structlog

from sluice_core.jobs.repository import JobRepository
from sluice_core.publishing.service import Publisher
from sluice_platform.db import DATABASE_ERRORS
from sluice_worker.call import CallStep
from sluice_worker.dispatch import Dispatcher
from sluice_worker.holdings import Holdings
from sluice_worker.settle import SettleStep

POLL_S = 0.02
EVENTS_S = 2.0
"""The least time that events are given to arrive."""

_log = structlog.stdlib.get_logger(__name__)


async def drain(
    dispatcher: Dispatcher,
    jobs: JobRepository,
    holdings: Holdings,
    *,
    calls: CallStep,
    settle: SettleStep,
    publisher: Publisher,
    grace_s: float,
) -> None:
    """Give back what has not started, then wait at most `grace_s` seconds for calls, settlements and events."""
    dispatcher.held_back = True
    deadline = time.monotonic() + grace_s
    await _give_back(dispatcher, jobs, holdings)
    # An answered job's call may still be read on: what it cost is not known before its end.
    while (len(holdings) or calls.flights or len(settle)) and time.monotonic() < deadline:
        await asyncio.sleep(POLL_S)
        # What a poll in progress, or a claim, still brought.
        await _give_back(dispatcher, jobs, holdings)
    await publisher.drain(max(EVENTS_S, deadline - time.monotonic()))


async def _give_back(dispatcher: Dispatcher, jobs: JobRepository, holdings: Holdings) -> None:
    unstarted = dispatcher.empty()
    if not unstarted:
        return
    try:
        await jobs.release([flight.job.row for flight in unstarted])
    except DATABASE_ERRORS as exc:
        _log.warning("drain.not_released", jobs=len(unstarted), error=repr(exc))
    for flight in unstarted:
        holdings.remove(flight)
