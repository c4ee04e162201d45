"""Executes jobs again at an operator's word, through admission itself: its locks and rules hold."""

import time
from uuid import UUID

from sluice_core.jobs.model import Facts, State
from sluice_core.jobs.policy import Admission
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Entry
from sluice_core.operations.model import RETRYABLE, Rerun
from sluice_core.operations.repository import OperatorRepository
from sluice_platform.errors import StartupError
from sluice_platform.ids import uuid7

NOBODY = 0
"""The owner of what no process wrote: workers claim such jobs, keepers send such events."""


class NotRetryable(StartupError):
    """A job cannot be executed again; the message says why."""


class RetryService:
    """Makes next executions: same job id, same request, same requester, a new deadline.

    `jobs` must be in the name of `NOBODY`: the new execution is parked, and any worker claims it.
    """

    def __init__(self, operations: OperatorRepository, jobs: JobRepository, actor: str) -> None:
        self._operations = operations
        self._jobs = jobs
        self._actor = actor

    async def retry(self, job_id: UUID) -> int:
        """Admit the job's next execution; returns its number. Raises NotRetryable."""
        rerun = await self._operations.rerun(job_id)
        if rerun is None:
            raise NotRetryable(f"{job_id}: the ledger keeps no such job, or its request no more")
        _check(rerun)
        admitted = await self._jobs.admit([_entry(rerun, time.time())])
        if admitted.verdicts[0] is not Admission.ADMITTED:
            raise NotRetryable(f"{job_id}: it was taken up by somebody else just now")
        execution = admitted.executions[0]
        await self._operations.note(self._actor, "job.retry", str(job_id), {"execution": execution})
        return execution


def _check(rerun: Rerun) -> None:
    if not rerun.state.terminal:
        raise NotRetryable(f"{rerun.id}: it is {rerun.state.label}; only ended jobs are retried")
    if rerun.state not in RETRYABLE:
        raise NotRetryable(
            f"{rerun.id}: it is {rerun.state.label}; a job that succeeded, or that may have been paid"
            " for, is not executed again: submit it under a new key"
        )
    if not rerun.body:
        raise NotRetryable(
            f"{rerun.id}: its record was refused at admission; correct it and send it again"
        )
    if rerun.run_cancelled:
        raise NotRetryable(
            f"{rerun.id}: its run is cancelled; `sluice runs retry` lifts that and retries its jobs"
        )


def _entry(rerun: Rerun, now: float) -> Entry:
    facts = Facts.from_json(rerun.facts)
    deadline = now + max(rerun.allowed_s, 1.0)
    due_at = deadline if facts.max_wait_s is None else min(deadline, now + facts.max_wait_s)
    return Entry(
        id=rerun.id,
        record_id=uuid7(),
        body_hash=rerun.body_hash,
        lane=rerun.lane,
        state=State.PARKED,
        max_attempts=rerun.max_attempts,
        retry_unknown=rerun.retry_unknown,
        streams=rerun.streams,
        rerun=True,
        due_at=due_at,
        deadline=deadline,
        run=rerun.run,
        facts=facts,
        body=rerun.body,
        requester=rerun.requester,
    )
