"""Holds the worker's own view against the ledger's: what it owns there and does not hold here goes back."""

import asyncio

import structlog

from sluice_core.jobs.model import State
from sluice_core.jobs.repository import JobRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_worker.holdings import Holdings

EVERY_S = 10.0
CONFIRM_S = 2.0
"""Between two looks: a row that an answer on its way would explain is not missing at the second."""

_log = structlog.stdlib.get_logger(__name__)


class SelfAudit:
    """Releases owned rows that no flight holds; ambiguous writes and lost answers leave such rows."""

    def __init__(self, jobs: JobRepository, holdings: Holdings) -> None:
        self._jobs = jobs
        self._holdings = holdings

    async def run(self) -> None:
        """Audit until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.once()
            except DATABASE_ERRORS as exc:
                _log.warning("audit.failed", error=repr(exc))

    async def once(self) -> None:
        """Two looks; only what is missing at both goes back. A call in flight never goes back this way."""
        suspects = await self._missing()
        if not suspects:
            return
        await asyncio.sleep(CONFIRM_S)
        lost = suspects & await self._missing()
        if lost:
            released = await self._jobs.release(sorted(lost))
            _log.warning("audit.released", rows=released)

    async def _missing(self) -> set[int]:
        mine = await self._jobs.mine()
        return self._holdings.missing(
            row for row, (state, _) in mine.items() if state is State.OWNED
        )
