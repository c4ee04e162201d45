"""What the outcome of a provider call means: for the job, for a retry, and for the money.

One table holds it all. A row is found by what happened (`FailureKind`) and, where the provider
answered with a status of 400 or more, by that status. `next_step` turns a row into the job's next
step; nothing else decides a retry.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from sluice_schemas.errors import ErrorCode

BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 60.0


class FailureKind(StrEnum):
    """How a provider call went wrong, as far as can be known on this side of it."""

    DNS_FAILED = "dns_failed"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    NOT_SENT = "not_sent"
    UNTRANSLATABLE = "untranslatable"
    UNPREPARED = "unprepared"
    TIMEOUT_NO_STATUS = "timeout_no_status"
    RESET_NO_STATUS = "reset_no_status"
    STATUS_ERROR = "status_error"
    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"
    PROMPT_BLOCKED = "prompt_blocked"
    KEY_REFUSED = "key_refused"
    OUT_OF_FUNDS = "out_of_funds"
    CUT_AFTER_STATUS = "cut_after_status"
    MALFORMED = "malformed"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    STREAM_CUT_BEFORE_DELTA = "stream_cut_before_delta"
    STREAM_CUT_AFTER_DELTA = "stream_cut_after_delta"
    IN_STREAM_ERROR_BEFORE_DELTA = "in_stream_error_before_delta"
    IN_STREAM_ERROR_AFTER_DELTA = "in_stream_error_after_delta"
    WORKER_DIED = "worker_died"
    CANCELLED = "cancelled"
    DEADLINE = "deadline"
    DEFECT = "defect"


Sent = Literal["no", "partly", "yes"]
Money = Literal["none", "estimated", "unknown"]
EndState = Literal["failed", "rejected", "expired", "cancelled", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What one kind of failure leads to.

    `sent` is how much of the request had left; `state` and `code` are those of the job if it ends
    here; `retried` says whether another attempt may follow by itself; `money` is what the attempt
    costs: nothing, what was reported or else an estimate of it (`estimated`), or held until
    somebody knows (`unknown`).
    """

    sent: Sent
    code: ErrorCode
    state: EndState
    retried: bool
    money: Money
    note: str


def _row(
    sent: Sent, code: ErrorCode, state: EndState, money: Money, note: str, *, retried: bool = False
) -> Fate:
    return Fate(sent=sent, code=code, state=state, retried=retried, money=money, note=note)


_UNSENT_NOTE: Final = "nothing that could be billed reached the provider"
_CUT_NOTE: Final = "a 2xx was begun and is billed; asking again would pay twice"

FATES: Final[dict[FailureKind, Fate]] = {
    FailureKind.DNS_FAILED: _row(
        "no", ErrorCode.PROVIDER_UNAVAILABLE, "failed", "none", _UNSENT_NOTE, retried=True
    ),
    FailureKind.CONNECT_FAILED: _row(
        "no", ErrorCode.PROVIDER_UNAVAILABLE, "failed", "none", _UNSENT_NOTE, retried=True
    ),
    FailureKind.TLS_FAILED: _row(
        "no", ErrorCode.PROVIDER_UNAVAILABLE, "failed", "none", _UNSENT_NOTE, retried=True
    ),
    FailureKind.NOT_SENT: _row(
        "partly", ErrorCode.PROVIDER_UNAVAILABLE, "failed", "none", _UNSENT_NOTE, retried=True
    ),
    FailureKind.UNTRANSLATABLE: _row(
        "no",
        ErrorCode.INVALID_RECORD,
        "rejected",
        "none",
        "the request cannot be said in this provider's format; no provider was asked, param names the field",
    ),
    FailureKind.UNPREPARED: _row(
        "no",
        ErrorCode.INTERNAL,
        "failed",
        "none",
        "our own code failed before anything was sent; it would again",
    ),
    FailureKind.TIMEOUT_NO_STATUS: _row(
        "yes",
        ErrorCode.OUTCOME_UNKNOWN,
        "unknown",
        "unknown",
        "the whole request was sent and nothing came back in time",
    ),
    FailureKind.RESET_NO_STATUS: _row(
        "yes",
        ErrorCode.OUTCOME_UNKNOWN,
        "unknown",
        "unknown",
        "the whole request was sent and the connection ended before a status",
    ),
    FailureKind.CONTEXT_LENGTH: _row(
        "yes",
        ErrorCode.CONTEXT_LENGTH_EXCEEDED,
        "failed",
        "none",
        "the same prompt is too long every time",
    ),
    FailureKind.CONTENT_POLICY: _row(
        "yes",
        ErrorCode.CONTENT_FILTERED,
        "failed",
        "none",
        "the provider's policy refused the request",
    ),
    FailureKind.PROMPT_BLOCKED: _row(
        "yes",
        ErrorCode.CONTENT_FILTERED,
        "failed",
        "estimated",
        "the provider's policy refused the prompt in a 2xx answer, so its input may be billed",
    ),
    FailureKind.KEY_REFUSED: _row(
        "yes",
        ErrorCode.PROVIDER_AUTH,
        "failed",
        "none",
        "the account's fault, not the job's: it waits until the account's key is in order",
        retried=True,
    ),
    FailureKind.OUT_OF_FUNDS: _row(
        "yes",
        ErrorCode.PROVIDER_AUTH,
        "failed",
        "none",
        "the account's fault, not the job's: it waits until the account has credit",
        retried=True,
    ),
    FailureKind.CUT_AFTER_STATUS: _row(
        "yes", ErrorCode.PROVIDER_INVALID_RESPONSE, "failed", "estimated", _CUT_NOTE
    ),
    FailureKind.MALFORMED: _row(
        "yes", ErrorCode.PROVIDER_INVALID_RESPONSE, "failed", "estimated", _CUT_NOTE
    ),
    FailureKind.EMPTY: _row(
        "yes", ErrorCode.PROVIDER_INVALID_RESPONSE, "failed", "estimated", _CUT_NOTE
    ),
    FailureKind.TOO_LARGE: _row(
        "yes",
        ErrorCode.TOO_LARGE,
        "failed",
        "estimated",
        "the answer went over limits.answer_bytes and was not read on",
    ),
    FailureKind.STREAM_CUT_BEFORE_DELTA: _row(
        "yes", ErrorCode.PROVIDER_INVALID_RESPONSE, "failed", "estimated", _CUT_NOTE
    ),
    FailureKind.STREAM_CUT_AFTER_DELTA: _row(
        "yes",
        ErrorCode.STREAM_INTERRUPTED,
        "failed",
        "estimated",
        "deltas have gone out; settled at what was delivered",
    ),
    FailureKind.IN_STREAM_ERROR_BEFORE_DELTA: _row(
        "yes",
        ErrorCode.PROVIDER_ERROR,
        "failed",
        "estimated",
        "the provider began with 2xx, so its input may be billed",
    ),
    FailureKind.IN_STREAM_ERROR_AFTER_DELTA: _row(
        "yes",
        ErrorCode.STREAM_INTERRUPTED,
        "failed",
        "estimated",
        "deltas have gone out; settled at what was delivered",
    ),
    FailureKind.WORKER_DIED: _row(
        "yes",
        ErrorCode.OUTCOME_UNKNOWN,
        "unknown",
        "unknown",
        "nobody saw the end of the call, and deltas may have gone out",
    ),
    FailureKind.CANCELLED: _row(
        "yes",
        ErrorCode.CANCELLED,
        "cancelled",
        "unknown",
        "the upstream is read on; where it reports its usage, that is booked instead",
    ),
    FailureKind.DEADLINE: _row(
        "yes",
        ErrorCode.DEADLINE_EXCEEDED,
        "expired",
        "unknown",
        "the upstream is read on; where it reports its usage, that is booked instead",
    ),
    FailureKind.DEFECT: _row(
        "yes",
        ErrorCode.INTERNAL,
        "unknown",
        "unknown",
        "our own code failed once the request had left; somebody has to look",
    ),
}
"""Every kind but `status_error`, which goes by the status."""


def _refused(code: ErrorCode, retried: bool, note: str) -> Fate:
    return _row("yes", code, "failed", "none", note, retried=retried)


_MAY_CLEAR: Final = "answered without being billed; the state may pass"

STATUS_FATES: Final[dict[int, Fate]] = {
    403: _refused(ErrorCode.PROVIDER_AUTH, False, "the account may not do this"),
    408: _refused(ErrorCode.PROVIDER_TIMEOUT, True, _MAY_CLEAR),
    409: _refused(ErrorCode.PROVIDER_ERROR, True, _MAY_CLEAR),
    413: _refused(ErrorCode.TOO_LARGE, False, "the provider takes no request of this size"),
    424: _refused(ErrorCode.PROVIDER_UNAVAILABLE, True, "the model failed behind the provider"),
    425: _refused(ErrorCode.PROVIDER_UNAVAILABLE, True, _MAY_CLEAR),
    429: _refused(ErrorCode.PROVIDER_RATE_LIMITED, True, "waits for what Retry-After says"),
    499: _refused(ErrorCode.PROVIDER_UNAVAILABLE, True, "the provider cancelled it by itself"),
    504: _refused(ErrorCode.PROVIDER_TIMEOUT, True, _MAY_CLEAR),
}
"""Statuses with a row of their own; the others go by their hundred (`fate`)."""

_CLIENT_ERROR: Final = _refused(
    ErrorCode.PROVIDER_ERROR, False, "the provider refuses this request; it would again"
)
_SERVER_ERROR: Final = _refused(ErrorCode.PROVIDER_UNAVAILABLE, True, _MAY_CLEAR)


def fate(kind: FailureKind, *, status: int | None) -> Fate:
    """Look up what a failure leads to; `status` is the provider's, for `status_error` alone.

    A redirect is a refusal like any other 4xx; a status that HTTP does not know is no answer that can
    be understood, and counts as malformed.
    """
    if kind is not FailureKind.STATUS_ERROR:
        return FATES[kind]
    if status is None or not 300 <= status < 600:
        return FATES[FailureKind.MALFORMED]
    return STATUS_FATES.get(status) or (_CLIENT_ERROR if status < 500 else _SERVER_ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Another attempt, not before `run_at` (epoch seconds)."""

    run_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The job ends in `state` with `code`."""

    state: EndState
    code: ErrorCode


def backoff_s(attempt: int, *, jitter: float) -> float:
    """Seconds to wait after attempt number `attempt` (from 1): full jitter, `jitter` in 0..1.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(attempt - 1, 16)) * jitter


def next_step(
    outcome: Fate,
    *,
    attempt: int,
    max_attempts: int,
    now: float,
    deadline: float,
    retry_after_s: float | None,
    jitter: float,
    retry_unknown: bool = False,
) -> Retry | End:
    """Decide what follows a failed attempt; times are epoch seconds, `attempt` counts from 1.

    `retry_unknown` is the job's `on_unknown: retry`: an outcome that cannot be known is then tried
    again, while the attempt keeps its money; for a streaming job whose worker died the caller passes
    False, since deltas may have gone out. A wait that would pass the deadline is not begun: the
    job ends at once with the provider's error.
    """
    may_retry = outcome.retried or (retry_unknown and outcome.state == "unknown")
    if not may_retry or attempt >= max_attempts:
        return End(state=outcome.state, code=outcome.code)
    run_at = now + max(backoff_s(attempt, jitter=jitter), retry_after_s or 0.0)
    if run_at >= deadline:
        return End(state=outcome.state, code=outcome.code)
    return Retry(run_at=run_at)
