"""Brings the virtual times of those who wait from the ledger, so that all workers go by the same ones."""

import asyncio

import structlog

from sluice_core.dispatch.fairness import VirtualTimes
from sluice_core.dispatch.repository import VirtualTimeRepository
from sluice_platform.db import DATABASE_ERRORS

EVERY_S = 1.0

_log = structlog.stdlib.get_logger(__name__)


class Refresh:
    """Reads, once a second, what the ledger has charged and corrected."""

    def __init__(self, repository: VirtualTimeRepository, times: VirtualTimes) -> None:
        self._repository = repository
        self._times = times

    async def run(self) -> None:
        """Read until cancelled."""
        failing = False
        while True:
            try:
                await self.once()
            except DATABASE_ERRORS as exc:
                if not failing:
                    _log.warning("virtual_times.not_read", error=repr(exc))
                failing = True
            else:
                failing = False
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """One reading."""
        self._times.crew.size = max(1, await self._repository.workers())
        found = await self._repository.virtual_times(list(self._times.waiting()))
        for (tenant, project), by_class in found.items():
            for job_class, shared in by_class.items():
                self._times.refresh(job_class, tenant, project, shared)
