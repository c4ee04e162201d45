"""The step back: flights that shall wait in the ledger, because a limit or an operator stops them."""

import asyncio
from collections.abc import Callable

import structlog

from sluice_core.jobs.model import Facts
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.jobs.repository import JobRepository
from sluice_platform.batching import Batcher
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.classes import JobClass
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings

CAP = 1_000
RETRY_S = 0.2

_log = structlog.stdlib.get_logger(__name__)


class ReturnStep:
    """Gives flights back to their lanes, a batch at a time; those of held runs stand aside instead.

    A lane is skipped while it is held or blocked, but a run's jobs lie among others in their lanes: left there,
    they would be claimed and given back for as long as the hold lasts. `rewind` is told each lane that got rows.
    """

    def __init__(
        self,
        jobs: JobRepository,
        parked: ParkedRepository,
        holdings: Holdings,
        *,
        run_held: Callable[[Facts], bool],
        rewind: Callable[[int, JobClass], None],
    ) -> None:
        self._jobs = jobs
        self._parked = parked
        self._holdings = holdings
        self._run_held = run_held
        self._rewind = rewind
        self._batcher: Batcher[Flight] = Batcher(self._write, cap=CAP)

    def add(self, flights: list[Flight]) -> None:
        """Give flights back with the next batch."""
        for flight in flights:
            self._batcher.add(flight)

    async def run(self) -> None:
        """Give back until cancelled."""
        await self._batcher.run()

    async def _write(self, flights: list[Flight]) -> None:
        aside = [f for f in flights if self._run_held(f.job.facts)]
        back = [f for f in flights if not self._run_held(f.job.facts)]
        while True:
            try:
                if aside:
                    await self._parked.shelve(self._jobs.incarnation, [f.job.row for f in aside])
                if back:
                    await self._jobs.release([f.job.row for f in back])
                break
            except DATABASE_ERRORS as exc:
                _log.warning("return.again", jobs=len(flights), error=repr(exc))
            await asyncio.sleep(RETRY_S)
        for flight in flights:
            self._holdings.remove(flight)
        for lane, job_class in {(f.job.lane, f.job.facts.job_class) for f in back}:
            self._rewind(lane, job_class)
