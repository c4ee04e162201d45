"""Pure: how a flight ends that waited and was never called."""

from sluice_core.holds.model import HELD
from sluice_core.jobs.model import State
from sluice_core.settlement.model import Problem
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight

_WAITED = {
    ErrorCode.RATE_LIMITED: "a rate limit left no place within max_wait_s",
    ErrorCode.BUDGET_BUSY: "other jobs' reservations held the budget for longer than max_wait_s",
}
"""What a job waited for longest, in words; a slot where nothing else is known."""


def why_not_begun(flight: Flight, *, now: float, held: bool) -> tuple[State, Problem]:
    """The end of a flight that is cancelled, past its deadline, or past max_wait_s at `now` (epoch seconds).

    `held`: an operator holds it.
    """
    if flight.cancelled or flight.job.cancel:
        return State.CANCELLED, Problem(
            code=ErrorCode.CANCELLED, message="cancelled before it was called"
        )
    if flight.job.deadline <= now:
        return State.EXPIRED, Problem(
            code=ErrorCode.DEADLINE_EXCEEDED, message="the deadline passed before it was called"
        )
    if held:
        return State.REJECTED, Problem(code=ErrorCode.CONCURRENCY_EXCEEDED, message=HELD)
    code = ErrorCode(flight.waits_for or ErrorCode.CONCURRENCY_EXCEEDED)
    return State.REJECTED, Problem(
        code=code,
        message=_WAITED.get(code, "no slot became free within max_wait_s"),
        retry_after_s=flight.retry_after_s,
    )
