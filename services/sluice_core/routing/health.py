"""Pure: what the end of a call says of its target's health, and whether another target may be asked instead."""

from enum import Enum
from typing import Final

from sluice_core.config.routing import FailureClass
from sluice_core.jobs.fates import FailureKind


class Health(Enum):
    """What a breaker counts: FAULT is its account's own, which takes a person; NEUTRAL says nothing of the target."""

    WELL = "well"
    ILL = "ill"
    FAULT = "fault"
    NEUTRAL = "neutral"


_HEALTH: Final[dict[FailureKind, Health]] = {
    FailureKind.DNS_FAILED: Health.ILL,
    FailureKind.CONNECT_FAILED: Health.ILL,
    FailureKind.TLS_FAILED: Health.ILL,
    FailureKind.NOT_SENT: Health.ILL,
    FailureKind.UNTRANSLATABLE: Health.NEUTRAL,
    FailureKind.UNPREPARED: Health.NEUTRAL,
    FailureKind.TIMEOUT_NO_STATUS: Health.ILL,
    FailureKind.RESET_NO_STATUS: Health.ILL,
    FailureKind.CONTEXT_LENGTH: Health.NEUTRAL,
    FailureKind.CONTENT_POLICY: Health.NEUTRAL,
    FailureKind.PROMPT_BLOCKED: Health.NEUTRAL,
    FailureKind.KEY_REFUSED: Health.FAULT,
    FailureKind.OUT_OF_FUNDS: Health.FAULT,
    FailureKind.CUT_AFTER_STATUS: Health.ILL,
    FailureKind.MALFORMED: Health.ILL,
    FailureKind.EMPTY: Health.ILL,
    FailureKind.TOO_LARGE: Health.NEUTRAL,
    FailureKind.STREAM_CUT_BEFORE_DELTA: Health.ILL,
    FailureKind.STREAM_CUT_AFTER_DELTA: Health.ILL,
    FailureKind.IN_STREAM_ERROR_BEFORE_DELTA: Health.ILL,
    FailureKind.IN_STREAM_ERROR_AFTER_DELTA: Health.ILL,
    FailureKind.WORKER_DIED: Health.NEUTRAL,
    FailureKind.CANCELLED: Health.NEUTRAL,
    FailureKind.DEADLINE: Health.NEUTRAL,
    FailureKind.DEFECT: Health.NEUTRAL,
}
_ILL_STATUSES: Final = frozenset({408, 409, 424, 425, 429, 499})

_CLASSES: Final[dict[FailureKind, FailureClass]] = {
    FailureKind.DNS_FAILED: "unavailable",
    FailureKind.CONNECT_FAILED: "unavailable",
    FailureKind.TLS_FAILED: "unavailable",
    FailureKind.NOT_SENT: "unavailable",
    FailureKind.CONTEXT_LENGTH: "context_length",
    FailureKind.CONTENT_POLICY: "content_filter",
    FailureKind.PROMPT_BLOCKED: "content_filter",
    FailureKind.KEY_REFUSED: "auth",
    FailureKind.OUT_OF_FUNDS: "auth",
    FailureKind.CUT_AFTER_STATUS: "invalid_response",
    FailureKind.MALFORMED: "invalid_response",
    FailureKind.EMPTY: "invalid_response",
    FailureKind.STREAM_CUT_BEFORE_DELTA: "invalid_response",
    FailureKind.IN_STREAM_ERROR_BEFORE_DELTA: "invalid_response",
}
_UNKNOWN_CLASSES: Final[dict[FailureKind, FailureClass]] = {
    FailureKind.TIMEOUT_NO_STATUS: "timeout",
    FailureKind.RESET_NO_STATUS: "unavailable",
}
"""Of outcomes that nobody knows: only for jobs that said `on_unknown: retry`."""


def health_of(failure: FailureKind | None, status: int | None) -> Health:
    """What a call that ended so says of its target."""
    if failure is None:
        return Health.WELL
    if failure is not FailureKind.STATUS_ERROR:
        return _HEALTH[failure]
    if status is None or status >= 500 or status < 300 or status in _ILL_STATUSES:
        return Health.ILL
    return Health.NEUTRAL


def failure_class(
    failure: FailureKind, status: int | None, *, retry_unknown: bool
) -> FailureClass | None:
    """As what a model's `fallback.on` knows a failure; None: no other target is asked, whatever it says.

    Nothing falls back once deltas have gone out: such failures have no class here.
    """
    if failure is FailureKind.STATUS_ERROR:
        return _status_class(status)
    if retry_unknown and failure in _UNKNOWN_CLASSES:
        return _UNKNOWN_CLASSES[failure]
    return _CLASSES.get(failure)


def _status_class(status: int | None) -> FailureClass | None:
    if status == 429:
        return "rate_limited"
    if status in {408, 504}:
        return "timeout"
    if status == 403:
        return "auth"
    if status is not None and (status >= 500 or status in {404, 409, 424, 425, 499}):
        return "unavailable"
    return None
