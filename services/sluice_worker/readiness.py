"""Whether this worker may start something now, and how much of it."""

import time

from sluice_core.holds.service import HeldNow
from sluice_schemas.classes import JobClass
from sluice_worker.claim import Claimer
from sluice_worker.dispatch import Dispatcher


class Readiness:
    """Asked before a job is begun, claimed or taken up; whoever stops or freezes starts nothing."""

    def __init__(self, held: HeldNow, *, pool: str, lease_s: float) -> None:
        self._held = held
        self._pool = pool
        self._lease_s = lease_s
        self._last_beat = time.monotonic()
        self.stopping = False

    def beaten(self) -> None:
        """A beat has told that this process still counts."""
        self._last_beat = time.monotonic()

    def trusted(self) -> bool:
        """Whether others may still take this process for alive.

        After a freeze nothing starts before a beat has told whether it was declared dead meanwhile; nor at first,
        before one has told what operators hold.
        """
        return self._held.known and time.monotonic() - self._last_beat < self._lease_s

    def may_claim(self, dispatcher: Dispatcher) -> bool:
        """Whether parked rows may be taken."""
        return not self.stopping and not dispatcher.held_back and self.trusted()

    def room(
        self,
        dispatcher: Dispatcher,
        claimer: Claimer,
        *,
        job_class: JobClass,
        pool: str,
        lane: int,
        tenant: str,
        model: str,
    ) -> int:
        """How many fresh jobs of a lane may start owned: somebody waits for them, or nothing waits before them."""
        if pool != self._pool or self.stopping or not self.trusted():
            return 0
        if dispatcher.blocked(job_class, lane) or self._held.lane(job_class, tenant, model):
            return 0
        if job_class is not JobClass.REALTIME and claimer.has_backlog(lane):
            return 0
        room = dispatcher.room(job_class, tenant)
        most = dispatcher.most(job_class, lane)
        return room if most is None else min(room, most)
