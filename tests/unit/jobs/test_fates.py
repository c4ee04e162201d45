"""The table of outcomes, row by row, and the step that follows from a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.jobs.fates import (
    BACKOFF_CAP_S,
    FATES,
    End,
    FailureKind,
    Retry,
    backoff_s,
    fate,
    next_step,
)
from sluice_schemas.errors import ErrorCode as Code

ROWS = [
    # kind, sent, code, state, retried, money
    ("dns_failed", "no", "provider_unavailable", "failed", True, "none"),
    ("connect_failed", "no", "provider_unavailable", "failed", True, "none"),
    ("tls_failed", "no", "provider_unavailable", "failed", True, "none"),
    ("not_sent", "partly", "provider_unavailable", "failed", True, "none"),
    ("untranslatable", "no", "invalid_record", "rejected", False, "none"),
    ("unprepared", "no", "internal", "failed", False, "none"),
    ("timeout_no_status", "yes", "outcome_unknown", "unknown", False, "unknown"),
    ("reset_no_status", "yes", "outcome_unknown", "unknown", False, "unknown"),
    ("context_length", "yes", "context_length_exceeded", "failed", False, "none"),
    ("content_policy", "yes", "content_filtered", "failed", False, "none"),
    ("prompt_blocked", "yes", "content_filtered", "failed", False, "estimated"),
    ("key_refused", "yes", "provider_auth", "failed", True, "none"),
    ("out_of_funds", "yes", "provider_auth", "failed", True, "none"),
    ("cut_after_status", "yes", "provider_invalid_response", "failed", False, "estimated"),
    ("malformed", "yes", "provider_invalid_response", "failed", False, "estimated"),
    ("empty", "yes", "provider_invalid_response", "failed", False, "estimated"),
    ("too_large", "yes", "too_large", "failed", False, "estimated"),
    ("stream_cut_before_delta", "yes", "provider_invalid_response", "failed", False, "estimated"),
    ("stream_cut_after_delta", "yes", "stream_interrupted", "failed", False, "estimated"),
    ("in_stream_error_before_delta", "yes", "provider_error", "failed", False, "estimated"),
    ("in_stream_error_after_delta", "yes", "stream_interrupted", "failed", False, "estimated"),
    ("worker_died", "yes", "outcome_unknown", "unknown", False, "unknown"),
    ("cancelled", "yes", "cancelled", "cancelled", False, "unknown"),
    ("deadline", "yes", "deadline_exceeded", "expired", False, "unknown"),
    ("defect", "yes", "internal", "unknown", False, "unknown"),
]

STATUSES = [
    (301, "provider_error", False),
    (400, "provider_error", False),
    (403, "provider_auth", False),
    (404, "provider_error", False),
    (408, "provider_timeout", True),
    (409, "provider_error", True),
    (413, "too_large", False),
    (422, "provider_error", False),
    (424, "provider_unavailable", True),
    (425, "provider_unavailable", True),
    (429, "provider_rate_limited", True),
    (499, "provider_unavailable", True),
    (500, "provider_unavailable", True),
    (502, "provider_unavailable", True),
    (503, "provider_unavailable", True),
    (504, "provider_timeout", True),
    (529, "provider_unavailable", True),
]


@pytest.mark.parametrize(("kind", "sent", "code", "state", "retried", "money"), ROWS)
def test_row(kind: str, sent: str, code: str, state: str, retried: bool, money: str) -> None:
    row = fate(FailureKind(kind), status=None)
    assert (row.sent, row.code, row.state, row.retried, row.money) == (
        sent,
        code,
        state,
        retried,
        money,
    )
    assert row.note


def test_every_kind_has_a_row() -> None:
    assert {kind for kind, *_ in ROWS} | {"status_error"} == set(FailureKind)
    assert set(FATES) == set(FailureKind) - {FailureKind.STATUS_ERROR}


@pytest.mark.parametrize(("status", "code", "retried"), STATUSES)
def test_a_refusal_costs_nothing(status: int, code: str, retried: bool) -> None:
    row = fate(FailureKind.STATUS_ERROR, status=status)
    assert (row.code, row.state, row.retried, row.money) == (code, "failed", retried, "none")


@pytest.mark.parametrize("status", [None, 0, 101, 200, 600, 999])
def test_a_status_that_is_no_refusal_is_malformed(status: int | None) -> None:
    assert fate(FailureKind.STATUS_ERROR, status=status) is FATES[FailureKind.MALFORMED]


def test_nothing_that_may_be_billed_is_retried_by_itself() -> None:
    assert not [kind for kind, row in FATES.items() if row.retried and row.money != "none"]


def step(kind: FailureKind, **given: object) -> Retry | End:
    arguments: dict = {
        "attempt": 1,
        "max_attempts": 5,
        "now": 1000.0,
        "deadline": 2000.0,
        "retry_after_s": None,
        "jitter": 0.5,
    }
    status = given.pop("status", None)
    return next_step(fate(kind, status=status), **(arguments | given))  # type: ignore[arg-type]


def test_a_retry_waits_for_the_later_of_backoff_and_retry_after() -> None:
    assert step(FailureKind.CONNECT_FAILED) == Retry(run_at=1000.5)
    assert step(FailureKind.CONNECT_FAILED, attempt=3) == Retry(run_at=1002.0)
    limited = {"status": 429, "retry_after_s": 7.0}
    assert step(FailureKind.STATUS_ERROR, **limited) == Retry(run_at=1007.0)
    assert step(FailureKind.STATUS_ERROR, status=429, retry_after_s=0.1) == Retry(run_at=1000.5)


def test_a_wait_beyond_the_deadline_ends_with_the_providers_error() -> None:
    ended = End(state="failed", code=Code.PROVIDER_RATE_LIMITED)
    assert step(FailureKind.STATUS_ERROR, status=429, retry_after_s=1000.0) == ended
    assert step(FailureKind.STATUS_ERROR, status=429, deadline=1000.2) == ended


def test_the_last_attempt_ends() -> None:
    ended = End(state="failed", code=Code.PROVIDER_UNAVAILABLE)
    assert step(FailureKind.CONNECT_FAILED, attempt=5) == ended
    assert step(FailureKind.CONNECT_FAILED, max_attempts=1) == ended


def test_an_unknown_outcome_is_called_again_only_where_the_job_said_so() -> None:
    ended = End(state="unknown", code=Code.OUTCOME_UNKNOWN)
    assert step(FailureKind.TIMEOUT_NO_STATUS) == ended
    assert step(FailureKind.TIMEOUT_NO_STATUS, retry_unknown=True) == Retry(run_at=1000.5)
    assert step(FailureKind.MALFORMED, retry_unknown=True) == End(
        state="failed", code=Code.PROVIDER_INVALID_RESPONSE
    )
    assert step(FailureKind.CANCELLED, retry_unknown=True) == End(
        state="cancelled", code=Code.CANCELLED
    )


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_backoff_is_bounded(attempt: int, jitter: float) -> None:
    assert 0 <= backoff_s(attempt, jitter=jitter) <= BACKOFF_CAP_S
    assert backoff_s(attempt, jitter=1.0) <= backoff_s(attempt + 1, jitter=1.0)
