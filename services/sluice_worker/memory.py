"""What waiting jobs may hold of a worker's memory, so that no tenant's jobs that may not start keep others out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from sluice_core.dispatch.queue import FairQueue
from sluice_schemas.classes import JobClass
from sluice_worker.flight import Flight

MAX_HELD_BYTES: Final = 64 * 1024 * 1024
"""Bytes of waiting requests a worker keeps in memory; the rest stays parked."""
MOST_SET_ASIDE_BYTES: Final = MAX_HELD_BYTES // 8
"""Of a tenant's jobs of a class that wait for their users, apps, keys or runs: the rest of the memory is for others."""
MOST_ASIDE_BYTES: Final = MAX_HELD_BYTES // 2
"""Of all tenants' jobs of that kind, an equal part for each."""
MOST_BLOCKED_BYTES: Final = MAX_HELD_BYTES // 2
"""Of jobs whose lanes wait for limits, once the memory is full."""

Queues = Mapping[JobClass, FairQueue[Flight]]


class Memory:
    """Counts the bytes of waiting flights, and of those set aside: they wait for a moment of their own (`not_before`)."""

    def __init__(self) -> None:
        self._bytes = 0
        self._aside: Counter[tuple[JobClass, str]] = Counter()

    @property
    def full(self) -> bool:
        """Whether no more may come in."""
        return self._bytes >= MAX_HELD_BYTES

    @property
    def crowded(self) -> bool:
        """Whether too much is set aside."""
        return self._aside.total() > MOST_ASIDE_BYTES

    def enter(self, flight: Flight) -> None:
        """A flight waits."""
        self._bytes += flight.size
        if flight.not_before:
            self._aside[_whose(flight)] += flight.size

    def left(self, flight: Flight) -> None:
        """A flight waits no more."""
        self._bytes -= flight.size
        if flight.not_before:
            flight.not_before = 0.0
            self._aside[_whose(flight)] -= flight.size

    def may_come(self, job_class: JobClass, tenant: str) -> bool:
        """Whether a tenant may bring in more of a class."""
        return self._aside[job_class, tenant] < self._part()

    def beyond(self, queues: Queues) -> Iterable[Flight]:
        """What some have set aside beyond their part, the longest waiting first to go, as long as it is asked for."""
        part = self._part()
        for whose, held in list(self._aside.items()):
            if held <= part:
                continue
            aside = [f for f in queues[whose[0]] if f.not_before and _whose(f) == whose]
            for flight in sorted(aside, key=lambda f: f.not_before, reverse=True):
                if self._aside[whose] <= part:
                    break
                yield flight

    def blocking(self, queues: Queues) -> Iterable[Flight]:
        """What waits in blocked lanes beyond what that may hold: of the largest lanes first, the last in turn first."""
        lanes: dict[tuple[JobClass, int], list[Flight]] = defaultdict(list)
        for job_class, queue in queues.items():
            for flight in queue:
                if queue.blocked(flight.job.lane):
                    lanes[job_class, flight.job.lane].append(flight)
        held = {lane: sum(f.size for f in flights) for lane, flights in lanes.items()}
        surplus = sum(held.values()) - MOST_BLOCKED_BYTES
        for lane in sorted(held, key=lambda one: held[one], reverse=True):
            for flight in sorted(lanes[lane], key=_turn, reverse=True):
                if surplus <= 0:
                    return
                surplus -= flight.size
                yield flight

    def _part(self) -> int:
        """Bytes that a tenant may have set aside in a class: less, the more of them do."""
        crowd = sum(1 for held in self._aside.values() if held)
        return min(MOST_SET_ASIDE_BYTES, MOST_ASIDE_BYTES // (crowd + 1))


def _whose(flight: Flight) -> tuple[JobClass, str]:
    return flight.job.facts.job_class, flight.job.facts.tenant


def _turn(flight: Flight) -> tuple[float, int]:
    return flight.job.due_at, flight.arrival
