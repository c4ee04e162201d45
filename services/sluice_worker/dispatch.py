"""The step that decides which held job starts next, and that tops up from the ledger's parked rows."""

import heapq
import time
from collections.abc import Callable, Iterable

from sluice_core.dispatch.policy import Shares, bulk_share, next_class
from sluice_schemas.classes import JobClass
from sluice_worker.flight import Flight

MAX_HELD_BYTES = 64 * 1024 * 1024
"""Bytes of waiting requests a worker keeps in memory; the rest stays parked."""


class Dispatcher:
    """Waiting flights by class, earliest due first, and the slots they start into."""

    def __init__(
        self,
        *,
        slots: int,
        start: Callable[[Flight], None],
        expire: Callable[[Flight], None],
        may_start: Callable[[], bool] = lambda: True,
        shares: Shares | None = None,
    ) -> None:
        self._slots = slots
        self._start = start
        self._expire = expire
        self._may_start = may_start
        self._shares = shares or Shares()
        self._heaps: dict[JobClass, list[tuple[float, int, Flight]]] = {c: [] for c in JobClass}
        self._running = dict.fromkeys(JobClass, 0)
        self._waiting = dict.fromkeys(JobClass, 0)
        self._arrivals = 0
        self._bytes = 0
        self._bulk = 1.0
        self._filling = False
        self.held_back = False

    @property
    def running(self) -> int:
        """Slots in use."""
        return sum(self._running.values())

    def waiting(self, job_class: JobClass) -> int:
        """Flights of a class that have not started."""
        return self._waiting[job_class]

    def room(self, job_class: JobClass) -> int:
        """How many more flights of a class are worth holding: a slot's worth each, and one waiting behind it."""
        if self._bytes >= MAX_HELD_BYTES:
            return 0
        free = max(0, self._slots - self.running)
        return max(0, max(self._slots // 2, free) - self._waiting[job_class])

    def add(self, flights: Iterable[Flight]) -> None:
        """Take flights in and start what may start."""
        for flight in flights:
            job_class = flight.job.facts.job_class
            self._arrivals += 1
            heapq.heappush(self._heaps[job_class], (flight.job.due_at, self._arrivals, flight))
            self._waiting[job_class] += 1
            self._bytes += flight.size
        self.fill()

    def finished(self, flight: Flight) -> None:
        """Give a slot back."""
        self._running[flight.job.facts.job_class] -= 1
        self.fill()

    def fill(self) -> None:
        """Start waiting flights while slots allow; those past due end instead.

        A flight that is refused as it starts gives its slot back from within: the loop that runs goes on with it.
        """
        if self._filling:
            return
        self._filling = True
        try:
            self._fill()
        finally:
            self._filling = False

    def _fill(self) -> None:
        while not self.held_back and self._may_start():
            job_class = next_class(
                self._waiting,
                self._running,
                slots=self._slots,
                shares=self._shares,
                bulk=self._bulk,
            )
            if job_class is None:
                return
            flight = self._pop(job_class)
            if flight.cancelled or flight.job.due_at <= time.time():
                self._expire(flight)
                continue
            self._running[job_class] += 1
            self._start(flight)

    def feel(self, lag_s: float) -> None:
        """Let bulk give way while the loop comes late, by `lag_s` seconds this time."""
        self._bulk = bulk_share(self._bulk, lag_s=lag_s)
        self.fill()

    def expire_due(self, now: float) -> None:
        """End waiting flights whose time is over; `now` in epoch seconds."""
        for job_class, heap in self._heaps.items():
            while heap and heap[0][0] <= now:
                self._expire(self._pop(job_class))

    def take_out(self, flight: Flight) -> bool:
        """Remove one waiting flight; False if it is not waiting."""
        job_class = flight.job.facts.job_class
        heap = self._heaps[job_class]
        for position, (_, _, waiting) in enumerate(heap):
            if waiting is flight:
                heap[position] = heap[-1]
                heap.pop()
                heapq.heapify(heap)
                self._waiting[job_class] -= 1
                self._bytes -= flight.size
                return True
        return False

    def empty(self) -> list[Flight]:
        """Remove and return everything that waits (draining)."""
        return [
            self._pop(job_class) for job_class in JobClass for _ in range(self._waiting[job_class])
        ]

    def _pop(self, job_class: JobClass) -> Flight:
        flight = heapq.heappop(self._heaps[job_class])[2]
        self._waiting[job_class] -= 1
        self._bytes -= flight.size
        return flight
