"""Tops the dispatcher up with parked rows: a keyset cursor per lane, and every tenant's share at every claim."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from sluice_core.dispatch.quota import MOST_LANES, Candidate, quotas
from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Job
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.jobs.repository import JobRepository
from sluice_platform.db import DATABASE_ERRORS
from sluice_schemas.classes import JobClass
from sluice_worker.dispatch import Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings
from sluice_worker.lanes import HEAD, Cursor, Lanes
from sluice_worker.memory import MAX_HELD_BYTES

IDLE_S = 0.1
"""Pause between claims that found nothing."""
BULK_BATCH = 500
SOON_S = 0.5
"""A lane that waits for a limit is claimed from when it may go on within this, so that it always has somebody to ask."""
REWIND_S = 1.0
"""A lane is looked at from its head again after this long, since rows may have been parked behind its
cursor; longer where looking was slow."""

MOST_REST_S = 2.0
"""An exhausted lane is looked at again after this at the latest: other workers park rows in it, too."""

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ask:
    cursor: Cursor
    most: int
    news: int


class Claimer:
    """Claims for one pool and the classes it serves. `held` says whether an operator holds a lane."""

    def __init__(
        self,
        jobs: JobRepository,
        names: NameRepository,
        parked: ParkedRepository,
        dispatcher: Dispatcher,
        holdings: Holdings,
        *,
        pool: str,
        classes: Iterable[JobClass],
        usable: Callable[[], bool],
        held: Callable[[JobClass, str, str], bool] = lambda *_: False,
    ) -> None:
        self._jobs = jobs
        self._dispatcher = dispatcher
        self._holdings = holdings
        self._classes = tuple(classes)
        self._usable = usable
        self._held = held
        self._lanes = Lanes(names, parked, dispatcher.times, pool=pool, classes=self._classes)
        self._wake = asyncio.Event()
        self._known_until = 0.0
        self._asked = 0

    def parked(self, lane: int, job_class: JobClass) -> None:
        """A row of a lane was parked by this worker: fresh ones queue behind it."""
        if self._lanes.parked(lane, job_class):
            self._wake.set()

    def rewind(self, lane: int, job_class: JobClass) -> None:
        """Rows of a lane went back to it, maybe behind its cursor."""
        self._lanes.rewind(lane, job_class)

    def has_backlog(self, lane: int) -> bool:
        """Whether rows are known to wait in a lane."""
        return self._lanes.has_backlog(lane)

    async def run(self) -> None:
        """Claim until cancelled."""
        while True:
            more = False
            try:
                if self._usable():
                    more = await self._round()
            except DATABASE_ERRORS as exc:
                _log.warning("claim.failed", error=repr(exc))
                await asyncio.sleep(0.5)
            if not more:
                self._wake.clear()
                try:
                    async with asyncio.timeout(IDLE_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _round(self) -> bool:
        """Claim once for every class; whether there may be more at once."""
        now = time.monotonic()
        if now >= self._known_until:
            await self._lanes.learn(now)
            self._known_until = now + 1.0
        more = False
        for job_class in self._classes:
            if self._holdings.bytes < MAX_HELD_BYTES:
                more |= await self._claim(job_class)
        return more

    async def _claim(self, job_class: JobClass) -> bool:
        now = time.monotonic()
        asks, left = self._plan(job_class, now)
        if not asks:
            return False
        self._asked += 1
        for ask in asks:
            ask.cursor.asked = self._asked
            if ask.cursor.rewind_at <= now:
                ask.cursor.position = HEAD
        limit = sum(ask.most for ask in asks)
        max_bytes = max(1, MAX_HELD_BYTES - self._holdings.bytes)
        jobs = await self._jobs.claim(
            [(ask.cursor.lane.id, *ask.cursor.position, ask.most) for ask in asks],
            limit=limit,
            max_bytes=max_bytes,
        )
        cut_short = len(jobs) >= limit or sum(len(job.body) for job in jobs) > max_bytes // 2
        took = time.monotonic() - now
        self._advance(asks, jobs, took, cut_short=cut_short)
        self.hold(jobs)
        return bool(jobs) or left

    def _plan(self, job_class: JobClass, now: float) -> tuple[list[_Ask], bool]:
        """Which lanes to ask for how many rows, and whether there are more lanes than one claim asks."""
        cursors = self._lanes.cursors[job_class]
        rooms: dict[str, int] = {}
        candidates = []
        for cursor in cursors.values():
            lane = cursor.lane
            waits_s = self._dispatcher.blocked_for(job_class, lane.id)
            if cursor.exhausted_until > now or waits_s > SOON_S:
                continue
            room = rooms.get(lane.tenant)
            if room is None:
                room = rooms[lane.tenant] = self._room(job_class, lane.tenant)
            most = self._dispatcher.most(job_class, lane.id)
            if room and most != 0 and not self._held(job_class, lane.tenant, lane.model):
                candidates.append(
                    Candidate(
                        lane=lane.id,
                        tenant=lane.tenant,
                        project=lane.project,
                        asked=cursor.asked,
                        most=most,
                    )
                )
        times = self._dispatcher.times
        asks = [
            _Ask(cursors[lane], most, cursors[lane].news)
            for lane, most in quotas(
                candidates,
                room=rooms.__getitem__,
                tenant_time=lambda tenant: times.tenant(job_class, tenant).value,
                project_time=lambda tenant, project: (
                    times.project(job_class, tenant, project).value
                ),
            )
        ]
        return asks, len(candidates) > len(asks)

    def _room(self, job_class: JobClass, tenant: str) -> int:
        """How many rows of a tenant are worth a claim now; nothing until a quarter of its share is free."""
        room = self._dispatcher.room(job_class, tenant)
        if job_class is JobClass.REALTIME:
            return room
        turn = self._dispatcher.times.tenants(job_class).get(tenant)
        if turn is not None and room * 3 < turn.ready:
            return 0
        if job_class is JobClass.BULK and room:
            return self._dispatcher.room(job_class, tenant, at_least=BULK_BATCH)
        return room

    def hold(self, jobs: Iterable[Job]) -> None:
        """Take claimed jobs into this worker's hands."""
        flights = [
            Flight(job=job, requester=Requester.from_bytes(job.requester), size=len(job.body))
            for job in jobs
        ]
        for flight in flights:
            self._holdings.add(flight)
        self._dispatcher.add(flights)

    def _advance(self, asks: list[_Ask], jobs: list[Job], took: float, *, cut_short: bool) -> None:
        """Move the cursors on. A lane that gave less than it was asked for is exhausted, unless all were cut short,
        or rows came to it meanwhile: whoever counts as idle loses its turn to those that wait."""
        by_lane: dict[int, list[Job]] = {}
        for job in jobs:
            by_lane.setdefault(job.lane, []).append(job)
        now = time.monotonic()
        rest = IDLE_S * max(1.0, len(self._lanes) / MOST_LANES) if took < 0.005 else REWIND_S
        for ask in asks:
            cursor = ask.cursor
            if cursor.position == HEAD:
                cursor.rewind_at = now + max(REWIND_S, 20 * took)
            fresh = [job for job in by_lane.get(cursor.lane.id, ()) if not job.attempts_made]
            if fresh:
                cursor.position = max((job.due_at, job.row) for job in fresh)
                self._lanes.mark(cursor.lane, waiting=True)
            if not cut_short and len(fresh) < ask.most:
                cursor.position = HEAD
                if ask.news != cursor.news:
                    continue
                cursor.exhausted_until = now + max(rest, min(MOST_REST_S, 20 * took))
                self._lanes.mark(cursor.lane, waiting=False)
