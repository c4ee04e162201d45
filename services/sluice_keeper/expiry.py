"""Ends jobs that nobody owns and whose time is over: cancelled, past their deadline, or past max_wait_s."""

from collections.abc import Awaitable, Callable

import structlog

from sluice_core.holds.model import Holds
from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Job, State
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Settlement
from sluice_core.publishing.service import Publisher
from sluice_core.settlement.model import Problem
from sluice_core.settlement.policy import ending
from sluice_core.settlement.waiting import not_begun
from sluice_platform.clock import Clock
from sluice_platform.ids import uuid7

EVERY_S = 0.5
BATCH = 200
FLAG_BATCH = 1_000

_log = structlog.stdlib.get_logger(__name__)


def end_of(job: Job, *, now: float, held: bool = False) -> tuple[State, Problem]:
    """How a job ends that was claimed for its end; `now` in epoch seconds. `held`: an operator holds it."""
    return not_begun(job, now=now, held=held)


class Expiry:
    """Claims what has to end, in any lane, settles it as its owner and publishes."""

    def __init__(
        self,
        jobs: JobRepository,
        publisher: Publisher,
        clock: Clock,
        holds: Callable[[], Awaitable[Holds]],
    ) -> None:
        self._holds = holds
        self._jobs = jobs
        self._publisher = publisher
        self._clock = clock

    async def once(self) -> bool:
        """One batch; True where there may be more."""
        await self.give_back()
        flagged = await self._jobs.flag_cancelled_runs(FLAG_BATCH)
        jobs = await self._jobs.claim_ending(BATCH)
        if jobs:
            holds = await self._holds()
            settled = await self._jobs.settle([self._ended(job, holds) for job in jobs])
            _log.info("expiry.ended", jobs=len(jobs))
            await self._publisher.publish_rows([row for row, _, _ in settled.events])
        return flagged == FLAG_BATCH or len(jobs) >= BATCH

    async def give_back(self) -> None:
        """Return what an earlier round claimed and could not settle."""
        left = await self._jobs.mine()
        if left:
            _log.warning("expiry.gave_back", jobs=await self._jobs.release(sorted(left)))

    def _ended(self, job: Job, holds: Holds) -> Settlement:
        now, facts = round(self._clock.now(), 6), job.facts
        # Which account the job would have gone to is known to the workers alone.
        held = holds.run(facts) or holds.lane(
            facts.job_class, facts.tenant, facts.model or "", frozenset()
        )
        state, problem = end_of(job, now=now, held=held)
        return ending(
            job,
            state=state,
            custom_id=Requester.from_bytes(job.requester).custom_id,
            now=now,
            ce_id=uuid7(),
            problem=problem,
        )
