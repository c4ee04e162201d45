"""Tops the dispatcher up with parked rows: a keyset cursor per lane, so that claiming stays flat."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Job, Lane
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.repository import JobRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.classes import JobClass
from sluice_worker.dispatch import MAX_HELD_BYTES, Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings

IDLE_S = 0.1
"""Pause between claims that found nothing."""
BULK_BATCH = 500
REWIND_S = 1.0
"""A lane is looked at from its head again after this long, since rows may have been parked behind its
cursor; longer where looking was slow."""

_log = structlog.stdlib.get_logger(__name__)
_HEAD = (0.0, 0)


@dataclass(slots=True)
class _Cursor:
    lane: Lane
    position: tuple[float, int] = _HEAD
    exhausted_until: float = 0.0
    rewind_at: float = 0.0


class Claimer:
    """Claims for one pool and the classes it serves; knows which lanes have a backlog."""

    def __init__(
        self,
        jobs: JobRepository,
        names: NameRepository,
        dispatcher: Dispatcher,
        holdings: Holdings,
        *,
        pool: str,
        classes: Iterable[JobClass],
        usable: Callable[[], bool],
    ) -> None:
        self._jobs = jobs
        self._names = names
        self._dispatcher = dispatcher
        self._holdings = holdings
        self._pool = pool
        self._classes = tuple(classes)
        self._usable = usable
        self._cursors: dict[JobClass, dict[int, _Cursor]] = {c: {} for c in self._classes}
        self._backlog: set[int] = set()
        self._wake = asyncio.Event()
        self._known_until = 0.0

    def parked(self, lane: int, job_class: JobClass) -> None:
        """A row of a lane was parked by this worker: fresh ones queue behind it."""
        self._backlog.add(lane)
        cursor = self._cursors.get(job_class, {}).get(lane)
        if cursor is not None and not cursor.exhausted_until:
            return
        if cursor is not None:
            cursor.exhausted_until = 0.0
            cursor.position = _HEAD
        self._wake.set()

    def has_backlog(self, lane: int) -> bool:
        """Whether rows are known to wait in a lane."""
        return lane in self._backlog

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            found = 0
            try:
                if self._usable():
                    found = await self._round()
            except DATABASE_ERRORS as exc:
                _log.warning("claim.failed", error=repr(exc))
                await asyncio.sleep(0.5)
            if not found:
                self._wake.clear()
                try:
                    async with asyncio.timeout(IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _round(self) -> int:
        now = time.monotonic()
        if now >= self._known_until:
            await self._learn_lanes()
            self._known_until = now + 1.0
        found = 0
        for job_class in self._classes:
            room = self._dispatcher.room(job_class)
            low_water = max(1, room // 4) if job_class is not JobClass.REALTIME else 1
            if room >= low_water and self._holdings.bytes < MAX_HELD_BYTES:
                found += await self._claim(job_class, room)
        return found

    async def _claim(self, job_class: JobClass, room: int) -> int:
        now = time.monotonic()
        cursors = [c for c in self._cursors[job_class].values() if c.exhausted_until <= now]
        if not cursors:
            return 0
        for cursor in cursors:
            if cursor.rewind_at <= now:
                cursor.position = _HEAD
        limit = max(room, BULK_BATCH) if job_class is JobClass.BULK else room
        per_lane = -(-limit // len(cursors))
        max_bytes = max(1, MAX_HELD_BYTES - self._holdings.bytes)
        jobs = await self._jobs.claim(
            [(c.lane.id, *c.position) for c in cursors],
            per_lane=per_lane,
            limit=limit,
            max_bytes=max_bytes,
        )
        cut_short = len(jobs) >= limit or sum(len(job.body) for job in jobs) > max_bytes // 2
        took = time.monotonic() - now
        self._advance(cursors, jobs, None if cut_short else per_lane, took)
        self.hold(jobs)
        return len(jobs)

    def hold(self, jobs: Iterable[Job]) -> None:
        """Take claimed jobs into this worker's hands."""
        flights = [
            Flight(job=job, requester=Requester.from_bytes(job.requester), size=len(job.body))
            for job in jobs
        ]
        for flight in flights:
            self._holdings.add(flight)
        self._dispatcher.add(flights)

    def _advance(
        self, cursors: list[_Cursor], jobs: list[Job], per_lane: int | None, took: float
    ) -> None:
        """Move the cursors on. A lane that gave less than `per_lane` is exhausted (None: cannot be told)."""
        by_lane: dict[int, list[Job]] = {}
        for job in jobs:
            by_lane.setdefault(job.lane, []).append(job)
        now = time.monotonic()
        for cursor in cursors:
            if cursor.position == _HEAD:
                cursor.rewind_at = now + max(REWIND_S, 20 * took)
            fresh = [job for job in by_lane.get(cursor.lane.id, ()) if not job.attempts_made]
            if fresh:
                cursor.position = max((job.due_at, job.row) for job in fresh)
                self._backlog.add(cursor.lane.id)
            if per_lane is not None and len(fresh) < per_lane:
                cursor.position = _HEAD
                cursor.exhausted_until = now + max(IDLE_S if took < 0.005 else REWIND_S, 20 * took)
                self._backlog.discard(cursor.lane.id)

    async def _learn_lanes(self) -> None:
        for lane in await self._names.lanes():
            cursors = self._cursors.get(lane.job_class)
            if cursors is not None and lane.pool == self._pool and lane.id not in cursors:
                cursors[lane.id] = _Cursor(lane=lane)
