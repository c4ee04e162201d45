"""Pure: how a job ends that waited and was never called."""

from typing import Final

from sluice_core.jobs.model import Job, State
from sluice_core.settlement.model import Problem
from sluice_schemas.errors import ErrorCode

HELD: Final = "held by an operator"
_WORDS: Final = {
    ErrorCode.RATE_LIMITED: "a rate limit left no place within max_wait_s",
    ErrorCode.BUDGET_BUSY: "other jobs' reservations held the budget for longer than max_wait_s",
}

Wait = tuple[ErrorCode, str]
"""What a job waits for: the code, and a sentence for its requester."""


def wait_for(code: str | None) -> Wait:
    """The wait of a job of which no more than a code is known; a slot where not even that is."""
    known = ErrorCode(code or ErrorCode.CONCURRENCY_EXCEEDED)
    return known, _WORDS.get(known, "no slot became free within max_wait_s")


def not_begun(
    job: Job,
    *,
    now: float,
    cancelled: bool = False,
    held: bool = False,
    waits_for: Wait | None = None,
    retry_after_s: float | None = None,
) -> tuple[State, Problem]:
    """The end of a job that is cancelled, past its deadline, or past max_wait_s; `now` in epoch seconds.

    A job that was found due and whose deadline is what was due has expired, whatever this machine's clock says.
    `held`: an operator holds it; `waits_for`: what it waited for, where that is known.
    """
    if cancelled or job.cancel:
        return State.CANCELLED, Problem(
            code=ErrorCode.CANCELLED, message="cancelled before it was called"
        )
    if job.due_at >= job.deadline or job.deadline <= now:
        return State.EXPIRED, Problem(
            code=ErrorCode.DEADLINE_EXCEEDED, message="the deadline passed before it was called"
        )
    if held:
        return State.REJECTED, Problem(code=ErrorCode.CONCURRENCY_EXCEEDED, message=HELD)
    code, message = waits_for or wait_for(job.waits_for)
    return State.REJECTED, Problem(code=code, message=message, retry_after_s=retry_after_s)
