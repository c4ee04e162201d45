"""The step that decides which held job starts next: class shares, then tenants' and projects' turns, then deadlines."""

import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Final

from sluice_core.admission.expectations import Expectations
from sluice_core.dispatch.asks import Asks
from sluice_core.dispatch.fairness import VirtualTimes
from sluice_core.dispatch.lead import Lead
from sluice_core.dispatch.lines import Lines
from sluice_core.dispatch.policy import Shares, bulk_share, next_class
from sluice_core.dispatch.queue import FairQueue
from sluice_core.dispatch.window import Windows
from sluice_core.jobs.model import Job
from sluice_platform.clock import Later, Timer
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight
from sluice_worker.memory import Memory
from sluice_worker.turns import Turns

LEAST_ROOM: Final = 8
"""Jobs of a class that any tenant may hold here, however many tenants wait."""
ASK_GAP_S: Final = 0.005
"""Between two questions of a lane that is refused: a fast limit lets several through by then."""
LOSER_S: Final = 0.01
"""A worker of several that asked in vain asks up to this later than it could, twice that after the next time, ..."""
MOST_LATER_S: Final = 0.04
"""... up to this. So one of them asks when something is free, and not all at that moment and nobody in between."""
Held = Callable[[Job], bool]
"""Whether an operator has stopped a job: its tenant, class, model, account or run."""


class Dispatcher:
    """Waiting flights by class and turn, and the slots they start into.

    `give_back` takes flights that shall wait in the ledger instead; `blocked` hears which lane waits for which
    code until when; `later` runs something after so many seconds (None: what waits for a moment is looked at
    with the next event).
    """

    def __init__(
        self,
        *,
        slots: int,
        start: Callable[[Flight], None],
        expire: Callable[[Flight], None],
        may_start: Callable[[], bool] = lambda: True,
        shares: Shares | None = None,
        times: VirtualTimes | None = None,
        give_back: Callable[[list[Flight]], None] | None = None,
        held: Held | None = None,
        blocked: Callable[[int, ErrorCode, float], None] | None = None,
        later: Later | None = None,
        expectations: Expectations | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._slots = slots
        self._start = start
        self._expire = expire
        self._may_start = may_start
        self._shares = shares or Shares()
        self.times = times or VirtualTimes()
        self._give_back = give_back
        self._held = held
        self._tell_blocked = blocked
        self._later = later
        self.turns = Turns(self.times, expectations or Expectations())
        self._chance = chance
        self._clock = clock
        self._queues: dict[JobClass, FairQueue[Flight]] = {
            c: FairQueue(c, self.times) for c in JobClass
        }
        self._windows = Windows()
        self._lines = Lines()
        self._memory = Memory()
        self._asks = Asks()
        self._running = dict.fromkeys(JobClass, 0)
        self._arrivals = 0
        self._bulk = 1.0
        self._filling = False
        self._lead = Lead()
        self._alarm: tuple[float, Timer] | None = None
        self.held_back = False

    @property
    def running(self) -> int:
        """Slots in use."""
        return sum(self._running.values())

    def waiting(self, job_class: JobClass) -> int:
        """Flights of a class that have not started."""
        return len(self._queues[job_class])

    def blocked(self, job_class: JobClass, lane: int) -> bool:
        """Whether a lane waits for a limit."""
        return self._queues[job_class].blocked(lane)

    def blocked_for(self, job_class: JobClass, lane: int) -> float:
        """Seconds that a lane still waits for a limit, as far as is known."""
        return self._queues[job_class].blocked_until(lane) - self._clock()

    def most(self, job_class: JobClass, lane: int) -> int | None:
        """How many more flights of a lane are worth holding, whatever room there is; None: no bound of its own.

        Nothing until a quarter of its window is free: else every call that begins would bring a claim.
        """
        size = self._windows.size(lane)
        if size is None:
            return None
        free = size - self._queues[job_class].held(lane)
        return free if free * 4 >= size else 0

    def room(self, job_class: JobClass, tenant: str | None = None, *, at_least: int = 0) -> int:
        """How many more flights of a class, or of one of its tenants, are worth holding.

        A slot's worth each, and one waiting behind it (or `at_least`); flights that a limit stops count for
        nothing. A tenant may have an equal share among those that wait, and never less than a few, whatever
        others hold.
        """
        if self._memory.full:
            return 0
        capacity = max(self._slots // 2, self._slots - self.running, at_least)
        if tenant is None:
            return max(0, capacity - self._queues[job_class].ready)
        if not self._memory.may_come(job_class, tenant):
            return 0
        turns = self.times.tenants(job_class)
        turn = turns.get(tenant)
        others = turns.present - (1 if turn is not None and turn.present else 0)
        share = max(min(LEAST_ROOM, self._slots), -(-capacity // (others + 1)))
        return max(0, share - (0 if turn is None else turn.ready))

    def change(self, shares: Shares) -> None:
        """Share the slots otherwise from now on."""
        self._shares = shares
        self.fill()

    def add(self, flights: Iterable[Flight]) -> None:
        """Take flights in and start what may start."""
        stopped: list[Flight] = []
        for flight in flights:
            self._arrivals += 1
            flight.arrival = self._arrivals
            if self._stopped(flight):
                stopped.append(flight)
            else:
                self._enter(flight)
        self._return(stopped)
        self.fill()

    def put_back(self, flight: Flight, *, until: float, whole_lane: bool) -> None:
        """Let a flight that could not begin wait at its place in order; `until` in epoch seconds.

        With `whole_lane` its lane is passed over until then, and what the lane holds beyond its window goes
        back to the ledger. Its slot is given back by `finished`, before or after.
        """
        lead_s = self._lead.seconds
        until = max(until - lead_s, self._clock() + ASK_GAP_S - 2 * lead_s)
        job_class, lane = flight.job.facts.job_class, flight.job.lane
        queue = self._queues[job_class]
        stopped = self._stopped(flight)
        blocks = whole_lane and not flight.cancelled and not stopped
        if blocks:
            self._asks.refused(lane)
            queue.block(lane, until)
        self._answered(flight, until=until if blocks else 0.0)
        self.turns.forget(flight)
        if flight.cancelled:
            self._expire(flight)
            return
        if stopped:
            self._return([flight])
            return
        flight.not_before = 0.0 if whole_lane else self._in_line(flight, until)
        if whole_lane and self._tell_blocked is not None and flight.waits_for is not None:
            self._tell_blocked(lane, flight.waits_for[0], until)
        self._enter(flight)
        if flight.not_before and self._memory.crowded:
            self._relieve(self._memory.beyond(self._queues))
        if whole_lane and self._give_back is not None:
            keep = self._windows.refused(lane, self._clock())
            if queue.held(lane) > 2 * keep:  # a little more is sooner begun than given back
                surplus = queue.surplus(lane, keep)
                for one in surplus:
                    self._memory.left(one)
                self._return(surplus)
        if self._memory.full:
            self._relieve(self._memory.blocking(self._queues))
        self._set_alarm()

    def answered_in(self, seconds: float, waited_s: float = 0.0) -> None:
        """A batch of begins was answered after so long, and had waited so long to be asked: who waits for a moment
        asks that much ahead of it."""
        self._lead.answered_in(seconds, waited_s)

    def unblock(self, lane: int) -> None:
        """A lane need not wait any longer."""
        for queue in self._queues.values():
            queue.unblock(lane)
        self.fill()

    def learn(
        self, flight: Flight, *, tenant_vt: float | None = None, project_vt: float | None = None
    ) -> None:
        """A flight began: its tokens are charged in the ledger, where the virtual times now stand at these."""
        self.turns.begun(flight, tenant_vt=tenant_vt, project_vt=project_vt)
        flight.waits_for = None
        flight.retry_after_s = None
        self._windows.begun(flight.job.lane, self._clock())
        if self._answered(flight, begun=True):
            self.fill()

    def resume(self, flight: Flight) -> None:
        """A flight takes a slot again at once: another target is asked for what a first one failed."""
        self._running[flight.job.facts.job_class] += 1

    def finished(self, flight: Flight) -> None:
        """Give a slot back."""
        self._running[flight.job.facts.job_class] -= 1
        self._answered(flight)
        self.turns.forget(flight)
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
        now = self._clock()
        for queue in self._queues.values():
            queue.wake(now)
        while not self.held_back and self._may_start():
            job_class = next_class(
                {c: queue.ready for c, queue in self._queues.items()},
                self._running,
                slots=self._slots,
                shares=self._shares,
                bulk=self._bulk,
            )
            if job_class is None:
                return
            flight = self._queues[job_class].pop()
            assert flight is not None
            self._memory.left(flight)
            if flight.cancelled or flight.job.due_at <= self._clock():
                self._expire(flight)
                continue
            self._running[job_class] += 1
            self.turns.charge(flight)
            flight.asks, last = self._asks.ask(flight.job.lane)
            if last:
                self._queues[job_class].block(flight.job.lane, math.inf)
            self._start(flight)

    def feel(self, lag_s: float) -> None:
        """Let bulk give way while the loop comes late, by `lag_s` seconds this time."""
        self._bulk = bulk_share(self._bulk, lag_s=lag_s)
        self.fill()

    def expire_due(self, now: float) -> None:
        """End waiting flights whose time is over, those of blocked lanes too; `now` in epoch seconds."""
        for queue in self._queues.values():
            for flight in queue.due(now):
                self._memory.left(flight)
                self._expire(flight)

    def take_out(self, flight: Flight) -> bool:
        """Remove one waiting flight; False if it is not waiting."""
        if not self._queues[flight.job.facts.job_class].remove(flight, flight.job.lane):
            return False
        self._memory.left(flight)
        return True

    def stop_held(self) -> None:
        """Give back what waits here and an operator has stopped since."""
        if self._held is not None:
            stopped = [f for queue in self._queues.values() for f in queue if self._stopped(f)]
            self._return([flight for flight in stopped if self.take_out(flight)])

    def empty(self) -> list[Flight]:
        """Remove and return everything that waits (draining), the earliest due first."""
        waiting = [flight for queue in self._queues.values() for flight in queue]
        waiting.sort(key=lambda flight: (flight.job.due_at, flight.arrival))
        return [flight for flight in waiting if self.take_out(flight)]

    def _enter(self, flight: Flight) -> None:
        facts = flight.job.facts
        self._memory.enter(flight)
        self._queues[facts.job_class].add(
            flight,
            lane=flight.job.lane,
            tenant=facts.tenant,
            project=facts.project,
            due=flight.job.due_at,
            arrival=flight.arrival,
            not_before=flight.not_before,
        )

    def _relieve(self, flights: Iterable[Flight]) -> None:
        """Give back what holds memory that others need."""
        if self._give_back is not None:
            self._return([flight for flight in flights if self.take_out(flight)])

    def _in_line(self, flight: Flight, until: float) -> float:
        """When one that a narrow scope refuses asks again: those of one caller one after another."""
        lane, facts, now = flight.job.lane, flight.job.facts, self._clock()
        caller = (lane, facts.user_id, facts.key_id, facts.app, facts.run_id)
        return self._lines.place(caller, until, now=now, pace=self._windows.pace(lane, now))

    def _answered(self, flight: Flight, *, begun: bool = False, until: float = 0.0) -> bool:
        """A flight that asked has its answer; once its lane has all, it goes on. Whether it may at once."""
        if not flight.asks:
            return False
        flight.asks = False
        lane = flight.job.lane
        again = self._asks.answered(lane, begun=begun, until=until)
        if again is None:
            return False
        queue = self._queues[flight.job.facts.job_class]
        queue.unblock(lane)
        if again and self.times.crew.size > 1 and (lost := self._asks.lost(lane)):
            again += self._chance() * min(MOST_LATER_S, LOSER_S * 2 ** min(lost - 1, 8))
        if again <= self._clock():
            return True
        queue.block(lane, again)
        self._set_alarm()
        return False

    def _stopped(self, flight: Flight) -> bool:
        """Whether an operator holds it; what ends anyway is not kept from it."""
        if self._held is None or self._give_back is None or flight.cancelled or flight.job.cancel:
            return False
        return flight.job.due_at > self._clock() and self._held(flight.job)

    def _return(self, flights: list[Flight]) -> None:
        if flights:
            assert self._give_back is not None
            self._give_back(flights)

    def _set_alarm(self) -> None:
        """Be called when the next block or wait ends: one timer, however many wait."""
        wakes = [at for queue in self._queues.values() if (at := queue.next_wake()) is not None]
        if self._later is None or not wakes:
            return
        at = min(wakes)
        if self._alarm is not None:
            if self._alarm[0] <= at:
                return
            self._alarm[1].cancel()
        self._alarm = (at, self._later(max(0.0, at - self._clock()), self._ring))

    def _ring(self) -> None:
        self._alarm = None
        self.fill()
        self._set_alarm()
