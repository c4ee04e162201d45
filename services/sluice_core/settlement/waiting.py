"""Pure: how a job ends that waited and was never called."""

from typing import Final

from sluice_core.jobs.model import Job, State
from sluice_core.settlement.model import Problem
from sluice_schemas.errors import ErrorCode

HELD: Final = "held by an operator"
_WAITED: Final = {
    ErrorCode.RATE_LIMITED: "a rate limit left no place within max_wait_s",
    ErrorCode.BUDGET_BUSY: "other jobs' reservations held the budget for longer than max_wait_s",
}
"""What a job waited for longest, in words; a slot where nothing else is known."""


def not_begun(
    job: Job,
    *,
    now: float,
    cancelled: bool = False,
    held: bool = False,
    waits_for: str | None = None,
    retry_after_s: float | None = None,
) -> tuple[State, Problem]:
    """The end of a job that is cancelled, past its deadline, or past max_wait_s; `now` in epoch seconds.

    A job that was found due and whose deadline is what was due has expired, whatever this machine's clock says.
    `held`: an operator holds it; `waits_for`: the code of what it waited for, where that is known.
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
    code = ErrorCode(waits_for or ErrorCode.CONCURRENCY_EXCEEDED)
    return State.REJECTED, Problem(
        code=code,
        message=_WAITED.get(code, "no slot became free within max_wait_s"),
        retry_after_s=retry_after_s,
    )
