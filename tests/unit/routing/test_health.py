"""What each end of a call says of its target, and whether another target is asked: row by row."""

import pytest

from sluice_core.jobs.fates import FailureKind
from sluice_core.routing.health import Health, failure_class, health_of

ROWS = [
    # kind, health, class of the failure, the same where the job said on_unknown: retry
    ("dns_failed", "ill", "unavailable", "unavailable"),
    ("connect_failed", "ill", "unavailable", "unavailable"),
    ("tls_failed", "ill", "unavailable", "unavailable"),
    ("not_sent", "ill", "unavailable", "unavailable"),
    ("untranslatable", "neutral", None, None),
    ("unprepared", "neutral", None, None),
    ("timeout_no_status", "ill", None, "timeout"),
    ("reset_no_status", "ill", None, "unavailable"),
    ("context_length", "neutral", "context_length", "context_length"),
    ("content_policy", "neutral", "content_filter", "content_filter"),
    ("prompt_blocked", "neutral", "content_filter", "content_filter"),
    ("key_refused", "fault", "auth", "auth"),
    ("out_of_funds", "fault", "auth", "auth"),
    ("cut_after_status", "ill", "invalid_response", "invalid_response"),
    ("malformed", "ill", "invalid_response", "invalid_response"),
    ("empty", "ill", "invalid_response", "invalid_response"),
    ("too_large", "neutral", None, None),
    ("stream_cut_before_delta", "ill", "invalid_response", "invalid_response"),
    ("stream_cut_after_delta", "ill", None, None),
    ("in_stream_error_before_delta", "ill", "invalid_response", "invalid_response"),
    ("in_stream_error_after_delta", "ill", None, None),
    ("worker_died", "neutral", None, None),
    ("cancelled", "neutral", None, None),
    ("deadline", "neutral", None, None),
    ("defect", "neutral", None, None),
]
STATUSES = [
    (302, "neutral", None),
    (400, "neutral", None),
    (403, "neutral", "auth"),
    (404, "neutral", "unavailable"),
    (408, "ill", "timeout"),
    (409, "ill", "unavailable"),
    (422, "neutral", None),
    (424, "ill", "unavailable"),
    (425, "ill", "unavailable"),
    (429, "ill", "rate_limited"),
    (499, "ill", "unavailable"),
    (500, "ill", "unavailable"),
    (503, "ill", "unavailable"),
    (504, "ill", "timeout"),
    (529, "ill", "unavailable"),
]


def test_every_kind_has_a_row() -> None:
    assert {kind for kind, *_ in ROWS} | {"status_error"} == set(FailureKind)


@pytest.mark.parametrize(("kind", "health", "failure", "retrying"), ROWS)
def test_kinds(kind: str, health: str, failure: str | None, retrying: str | None) -> None:
    said = FailureKind(kind)
    assert health_of(said, None) is Health(health)
    assert failure_class(said, None, retry_unknown=False) == failure
    assert failure_class(said, None, retry_unknown=True) == retrying


@pytest.mark.parametrize(("status", "health", "failure"), STATUSES)
def test_statuses(status: int, health: str, failure: str | None) -> None:
    assert health_of(FailureKind.STATUS_ERROR, status) is Health(health)
    assert failure_class(FailureKind.STATUS_ERROR, status, retry_unknown=False) == failure


def test_an_answer_is_well() -> None:
    assert health_of(None, 200) is Health.WELL
