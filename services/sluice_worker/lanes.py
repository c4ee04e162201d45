"""The lanes of one pool as a worker knows them: how far each was claimed, and where rows are known to wait."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sluice_core.dispatch.fairness import VirtualTimes
from sluice_core.dispatch.quota import MOST_LANES
from sluice_core.jobs.model import Lane
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_schemas.classes import JobClass

HEAD = (0.0, 0)
OVERLAP = 1_000
"""Ids read again each time: a lane may become visible after one with a higher id."""
ALL_S = 60.0
"""Between two readings of all lanes."""


@dataclass(slots=True)
class Cursor:
    """How far a lane was claimed: its last row's (due_at, row); times are monotonic seconds.

    `news`: a number that rises when rows come to it, or come back; a claim that was under way may not have seen them.
    """

    lane: Lane
    position: tuple[float, int] = HEAD
    exhausted_until: float = 0.0
    rewind_at: float = 0.0
    asked: int = 0
    news: int = 0


class Lanes:
    """Cursors by class and lane; tells `times` which tenants and projects have rows waiting."""

    def __init__(
        self,
        names: NameRepository,
        parked: ParkedRepository,
        times: VirtualTimes,
        *,
        pool: str,
        classes: Iterable[JobClass],
    ) -> None:
        self._names = names
        self._parked = parked
        self._times = times
        self._pool = pool
        self.cursors: dict[JobClass, dict[int, Cursor]] = {c: {} for c in classes}
        self._backlog: set[int] = set()
        self._waiting: Counter[tuple[JobClass, str, str]] = Counter()
        self._last = 0
        self._all_at = 0.0

    def __len__(self) -> int:
        return sum(len(cursors) for cursors in self.cursors.values())

    def has_backlog(self, lane: int) -> bool:
        """Whether rows are known to wait in a lane."""
        return lane in self._backlog

    def parked(self, lane: int, job_class: JobClass) -> bool:
        """A row was parked; whether the lane was not being claimed from, so that it is worth a look."""
        cursor = self.cursors.get(job_class, {}).get(lane)
        if cursor is None:
            self._backlog.add(lane)
            return True
        self.mark(cursor.lane, waiting=True)
        cursor.news += 1
        if not cursor.exhausted_until:
            return False
        self.rewind(lane, job_class)
        return True

    def rewind(self, lane: int, job_class: JobClass) -> None:
        """Look at a lane from its head at the next claim."""
        cursor = self.cursors.get(job_class, {}).get(lane)
        if cursor is not None:
            cursor.exhausted_until = 0.0
            cursor.position = HEAD
            cursor.news += 1

    def mark(self, lane: Lane, *, waiting: bool) -> None:
        """Note whether rows wait in a lane."""
        if waiting is (lane.id in self._backlog):
            return
        (self._backlog.add if waiting else self._backlog.discard)(lane.id)
        self._count(lane, 1 if waiting else -1)

    async def learn(self, now: float) -> None:
        """Read the lanes that are new; of many lanes also those that have rows, since all take long to ask."""
        after = 0 if now >= self._all_at else max(0, self._last - OVERLAP)
        if not after:
            self._all_at = now + ALL_S
        for lane in await self._names.lanes(after):
            self._last = max(self._last, lane.id)
            cursors = self.cursors.get(lane.job_class)
            if cursors is not None and lane.pool == self._pool and lane.id not in cursors:
                cursors[lane.id] = Cursor(lane=lane)
                if lane.id in self._backlog:  # parked before the lane was known
                    self._count(lane, 1)
        if len(self) > MOST_LANES:
            waiting = await self._parked.waiting_lanes()
            for cursors in self.cursors.values():
                for lane_id in waiting & cursors.keys():
                    cursors[lane_id].exhausted_until = 0.0

    def _count(self, lane: Lane, more: int) -> None:
        key = (lane.job_class, lane.tenant, lane.project)
        self._waiting[key] += more
        self._times.park(*key, parked=self._waiting[key] > 0)
