"""Pure: the waiting jobs of one class: least virtual time, then earliest deadline, then arrival."""

import heapq
import math
from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeVar

from sluice_core.dispatch.fairness import VirtualTimes
from sluice_core.dispatch.turns import Turn, Turns
from sluice_schemas.classes import JobClass

T = TypeVar("T")


class _Lane(Generic[T]):
    """The waiting items of one lane; those in `heap` go by (due, arrival)."""

    __slots__ = ("heap", "id", "project", "projects", "ready", "tenant")

    def __init__(self, lane: int, tenant: Turn, projects: Turns, project: Turn) -> None:
        self.id = lane
        self.tenant = tenant
        self.projects = projects
        self.project = project
        self.heap: list[tuple[float, int, T]] = []
        self.ready = False


class FairQueue(Generic[T]):
    """Items in lanes, of which some are blocked, and items that may not start before a time of their own.

    All times are epoch seconds and come from the caller. An item is picked in O(log n) amortised; one that is
    taken out of the middle costs its lane's length.
    """

    def __init__(self, job_class: JobClass, times: VirtualTimes) -> None:
        self._class = job_class
        self._times = times
        self._turns = times.tenants(job_class)
        self._lanes: dict[int, _Lane[T]] = {}
        self._asleep: dict[T, tuple[float, float, int, _Lane[T]]] = {}
        self._alarms: list[tuple[float, int, T]] = []
        self._blocked: dict[int, float] = {}
        self._blocks: list[tuple[float, int]] = []
        self._serial = count()
        self.ready = 0

    def __len__(self) -> int:
        return len(self._asleep) + sum(len(lane.heap) for lane in self._lanes.values())

    def __iter__(self) -> Iterator[T]:
        """Everything that waits, in no order."""
        yield from tuple(self._asleep)
        for lane in self._lanes.values():
            yield from (item for _, _, item in tuple(lane.heap))

    def add(
        self,
        item: T,
        *,
        lane: int,
        tenant: str,
        project: str,
        due: float,
        arrival: int,
        not_before: float = 0.0,
    ) -> None:
        """Let an item wait at its place by (`due`, `arrival`); until `not_before` it is passed over."""
        line = self._lanes.get(lane)
        if line is None:
            turn = self._times.tenant(self._class, tenant)
            assert turn.below is not None
            below = self._times.project(self._class, tenant, project)
            line = self._lanes[lane] = _Lane(lane, turn, turn.below, below)
        if not_before:
            self._asleep[item] = (not_before, due, arrival, line)
            heapq.heappush(self._alarms, (not_before, next(self._serial), item))
        else:
            self._enter(line, due, arrival, item)

    def pop(self) -> T | None:
        """The item whose turn it is; None where none may start."""
        tenant = self._turns.first()
        if tenant is None:
            return None
        assert tenant.below is not None
        project = tenant.below.first()
        assert project is not None
        line = self._first_lane(project)
        item = heapq.heappop(line.heap)[2]
        self.ready -= 1
        tenant.ready -= 1
        project.ready -= 1
        if line.heap:
            due, arrival, _ = line.heap[0]
            heapq.heapreplace(project.lanes, (due, arrival, next(self._serial), line))
        else:
            heapq.heappop(project.lanes)
            self._rest(line)
        return item

    def block(self, lane: int, until: float) -> None:
        """Pass a lane over until then (infinity: until `unblock`); its items keep their places."""
        if self._blocked.get(lane, 0.0) >= until:
            return
        self._blocked[lane] = until
        if until < math.inf:
            heapq.heappush(self._blocks, (until, lane))
        line = self._lanes.get(lane)
        if line is not None and line.ready:
            waiting = len(line.heap)
            self._count(line, -waiting)
            self._rest(line)

    def unblock(self, lane: int) -> None:
        """End a lane's block."""
        if self._blocked.pop(lane, None) is None:
            return
        line = self._lanes.get(lane)
        if line is not None and line.heap:
            self._count(line, len(line.heap))
            self._wake(line)
        elif line is not None:
            self._drop(line)

    def blocked(self, lane: int) -> bool:
        """Whether a lane is passed over."""
        return lane in self._blocked

    def blocked_until(self, lane: int) -> float:
        """When the block of a lane ends; 0 where there is none, or its end is not known."""
        until = self._blocked.get(lane, 0.0)
        return 0.0 if until == math.inf else until

    def wake(self, now: float) -> None:
        """End what has lasted until `now`: blocks of lanes, and waits of single items."""
        while self._blocks and self._blocks[0][0] <= now:
            until, lane = heapq.heappop(self._blocks)
            if self._blocked.get(lane) == until:
                self.unblock(lane)
        while self._alarms and self._alarms[0][0] <= now:
            at, _, item = heapq.heappop(self._alarms)
            if self._asleep.get(item, (0.0,))[0] == at:
                _, due, arrival, line = self._asleep.pop(item)
                self._enter(line, due, arrival, item)

    def next_wake(self) -> float | None:
        """When `wake` has something to do next."""
        nearest = [heap[0][0] for heap in (self._blocks, self._alarms) if heap]
        return min(nearest, default=None)

    def held(self, lane: int) -> int:
        """Items of a lane, those that may not start included."""
        line = self._lanes.get(lane)
        asleep = sum(1 for *_, of in self._asleep.values() if of.id == lane)
        return asleep + (0 if line is None else len(line.heap))

    def due(self, now: float) -> list[T]:
        """Take out what is due by `now`, in blocked lanes as well."""
        over = [item for item, (_, due, _, _) in self._asleep.items() if due <= now]
        for item in over:
            del self._asleep[item]
        for line in list(self._lanes.values()):
            while line.heap and line.heap[0][0] <= now:
                over.append(line.heap[0][2])
                self._take(line, 0)
        return over

    def remove(self, item: T, lane: int) -> bool:
        """Take one item out; False if it does not wait."""
        if self._asleep.pop(item, None) is not None:
            return True
        line = self._lanes.get(lane)
        for place, (_, _, waiting) in enumerate(line.heap if line is not None else ()):
            if waiting is item:
                assert line is not None
                self._take(line, place)
                return True
        return False

    def surplus(self, lane: int, keep: int) -> list[T]:
        """Take out what a lane holds beyond its first `keep` items."""
        line = self._lanes.get(lane)
        if line is None:
            return []
        in_order = sorted(line.heap, key=lambda entry: entry[:2])
        over = [item for _, _, item in in_order[keep:]]
        line.heap = in_order[:keep]  # sorted, hence a heap
        if line.ready:
            self._count(line, -len(over))
        if over and not line.heap:
            self._rest(line) if line.ready else self._drop(line)
        return over

    def _enter(self, line: _Lane[T], due: float, arrival: int, item: T) -> None:
        line = self._lanes.setdefault(line.id, line)
        heapq.heappush(line.heap, (due, arrival, item))
        if line.id in self._blocked:
            return
        self._count(line, 1)
        if not line.ready:
            self._wake(line)
        elif line.heap[0][2] is item:
            heapq.heappush(line.project.lanes, (due, arrival, next(self._serial), line))

    def _take(self, line: _Lane[T], place: int) -> None:
        """Take the item at a place of a lane's heap."""
        last = line.heap.pop()
        if place < len(line.heap):
            line.heap[place] = last
            heapq.heapify(line.heap)
        if not line.ready:
            self._drop(line)
            return
        self._count(line, -1)
        if not line.heap:
            self._rest(line)
        elif place == 0:
            due, arrival, _ = line.heap[0]
            heapq.heappush(line.project.lanes, (due, arrival, next(self._serial), line))

    def _first_lane(self, project: Turn) -> _Lane[T]:
        """The lane whose first item is earliest; what changes have left in the heap goes."""
        lanes = project.lanes
        while True:
            due, arrival, _, line = lanes[0]
            if line.ready and line.heap[0][0] == due and line.heap[0][1] == arrival:
                found: _Lane[T] = line
                return found
            heapq.heappop(lanes)

    def _count(self, line: _Lane[T], more: int) -> None:
        self.ready += more
        line.tenant.ready += more
        line.project.ready += more

    def _wake(self, line: _Lane[T]) -> None:
        line.ready = True
        due, arrival, _ = line.heap[0]
        heapq.heappush(line.project.lanes, (due, arrival, next(self._serial), line))
        line.projects.lane_ready(line.project)
        self._turns.lane_ready(line.tenant)

    def _rest(self, line: _Lane[T]) -> None:
        line.ready = False
        line.projects.lane_rests(line.project)
        self._turns.lane_rests(line.tenant)
        self._drop(line)

    def _drop(self, line: _Lane[T]) -> None:
        """Forget a lane with nothing in it; its items that sleep bring it back."""
        if not line.heap:
            self._lanes.pop(line.id, None)
