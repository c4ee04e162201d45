"""Pure: the settlement, in its dead owner's name, of what that owner left behind."""

from typing import Final
from uuid import UUID

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Abandoned, AbandonedReading, Job, OpenAttempt, Outcome, State
from sluice_core.jobs.policy import judge
from sluice_core.jobs.writes import Settlement
from sluice_core.settlement.model import Problem, Report
from sluice_core.settlement.policy import ending, reading_ended, retrying
from sluice_schemas.errors import ErrorCode

RETRY_SPREAD_S: Final = 2.0
"""Jobs of one dead worker come back over this time, not all at once."""


def settlement_of(
    left: Abandoned,
    *,
    provider: str,
    now: float,
    jitter: float,
    ce_id: UUID,
    usage_id: UUID,
) -> Settlement:
    """Judge a job whose owner died. `now` in epoch seconds, `jitter` in 0..1."""
    job = left.job
    run_at = now + RETRY_SPREAD_S * jitter
    judgement = judge(
        left.state,
        deaths=job.deaths + 1,
        retry_unknown=job.retry_unknown,
        streams=job.streams,
        attempts_left=job.attempts_made < job.max_attempts and run_at < job.deadline,
    )
    report = None
    if left.open_attempt is not None:
        report = _unknown(left.open_attempt, provider=provider, now=now)
    if judgement.again and report is not None:
        return retrying(job, report, run_at=run_at, usage_id=usage_id, death=True)
    return ending(
        job,
        state=judgement.state,
        custom_id=Requester.from_bytes(job.requester).custom_id,
        now=now,
        ce_id=ce_id,
        usage_id=usage_id,
        report=report,
        problem=_problem(judgement.state, job.deaths + 1),
        death=True,
    )


def reading_settlement(
    left: AbandonedReading, *, provider: str, now: float, usage_id: UUID
) -> Settlement:
    """End an attempt that nobody reads any more: its job was answered, its money is unknown."""
    report = _unknown(left.open_attempt, provider=provider, now=now)
    return reading_ended(_answered_job(left), report, usage_id=usage_id)


def _unknown(attempt: OpenAttempt, *, provider: str, now: float) -> Report:
    return Report(
        account=attempt.account,
        provider=provider,
        provider_model=attempt.provider_model,
        started_at=attempt.started_at,
        ended_at=now,
        worst_nano=attempt.worst_nano,
        input_nano=attempt.input_nano,
        outcome=Outcome.UNKNOWN,
        money="unknown",
        usage_source="estimated",
        problem=_problem(State.UNKNOWN, 1),
    )


def _problem(state: State, deaths: int) -> Problem:
    if state is State.UNKNOWN:
        return Problem(
            code=ErrorCode.OUTCOME_UNKNOWN,
            message="the worker died during the call, which may have been billed",
        )
    return Problem(
        code=ErrorCode.INTERNAL, message=f"given up: {deaths} workers died under this job"
    )


def _answered_job(left: AbandonedReading) -> Job:
    """The job as far as an attempt's end needs it; the row itself may have left the hot table."""
    return Job(
        row=left.row,
        id=left.id,
        day=left.day,
        lane=0,
        run=None,
        attempt=left.attempt,
        first_attempt=0,
        max_attempts=left.attempt,
        deaths=0,
        execution=1,
        retry_unknown=False,
        streams=False,
        cancel=False,
        due_at=0.0,
        deadline=0.0,
        admitted_at=0.0,
        facts=left.facts,
        body=b"",
        requester=b"",
    )
