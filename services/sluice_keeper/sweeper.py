"""Publishes the events that a crash, a stopped worker or a slow broker left behind."""

from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_keeper.watch import Watch

EVERY_S = 0.5
AGE_S = 30.0
BATCH = 500
WHOLE_ROUNDS = 8
"""Passes after which one looks at all rows again: a row may be committed after others with larger ids were seen."""
MAX_UNCONFIRMED = 5_000
"""Events with the broker above which no more are taken: what it does not take now it would not take twice."""


class Sweeper:
    """Takes outbox rows of the dead, and rows older than AGE_S of anybody.

    It goes on from the first row that it saw last: before that lie only rows that were deleted, and while an
    old snapshot keeps those it would pass all of them at every pass.
    """

    def __init__(
        self,
        watch: Watch,
        outbox: OutboxRepository,
        publisher: Publisher,
        incarnation: int,
        *,
        lease_s: float,
    ) -> None:
        self._watch = watch
        self._outbox = outbox
        self._publisher = publisher
        self._incarnation = incarnation
        self._lease_s = lease_s
        self._head = 0
        self._rounds = 0

    async def once(self) -> bool:
        """Take one batch; True where there may be more."""
        if self._publisher.unconfirmed > MAX_UNCONFIRMED:
            return False
        silent = self._watch.silent(self._lease_s)
        self._rounds = (self._rounds + 1) % WHOLE_ROUNDS
        self._head = await self._outbox.head(self._head if self._rounds else 0)
        taken = await self._outbox.take(self._incarnation, silent, AGE_S, BATCH, start=self._head)
        for due in taken:
            self._publisher.publish(due)
        return len(taken) == BATCH
