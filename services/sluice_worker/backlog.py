"""How much is parked: intake of a class pauses at its high mark and resumes at its low one."""

import asyncio
from collections.abc import Callable

import structlog

from sluice_core.config.model import BacklogConfig, Marks
from sluice_core.jobs.parked import ParkedRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.classes import JobClass

FASTEST_S = 1.0
SLOWEST_S = 30.0
ROWS_A_SECOND = 20_000
"""How fast a backlog can grow at most; far below a mark it is counted the more rarely."""

_log = structlog.stdlib.get_logger(__name__)


class Backlog:
    """Counts parked rows per class, bounded by the marks, and the bytes of stored requests."""

    def __init__(self, parked: ParkedRepository, marks: BacklogConfig) -> None:
        self._parked = parked
        self._marks = marks
        self._full = dict.fromkeys(JobClass, False)
        self._bytes_full = False

    def full(self, job_class: JobClass) -> bool:
        """Whether a class takes no more for now."""
        return self._full[job_class] or self._bytes_full

    def check(self, job_class: JobClass, busy: Callable[[], bool]) -> Callable[[], bool]:
        """A question that intake asks after every batch."""
        return lambda: self.full(job_class) or busy()

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            pause = FASTEST_S
            try:
                pause = await self._count()
            except DATABASE_ERRORS as exc:
                _log.warning("backlog.not_counted", error=repr(exc))
            await asyncio.sleep(pause)

    async def _count(self) -> float:
        pause = SLOWEST_S
        for job_class in JobClass:
            marks = self._marks.rows(job_class)
            rows = await self._parked.rows(job_class, marks.high + 1)
            self._full[job_class] = _beyond(rows, marks, was=self._full[job_class])
            pause = min(pause, max(FASTEST_S, (marks.high - rows) / ROWS_A_SECOND))
            if self._full[job_class]:
                pause = FASTEST_S
        stored = await self._parked.bytes()
        self._bytes_full = _beyond(stored, self._marks.bytes, was=self._bytes_full)
        return pause


def _beyond(value: int, marks: Marks, *, was: bool) -> bool:
    """Hysteresis between the two marks."""
    return value >= (marks.low if was else marks.high)
