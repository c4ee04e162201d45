"""A job's end as one settlement: its result by the published model, its usage row where money could be spent."""

from datetime import date
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.jobs.model import Facts, Job, Outcome, State
from sluice_core.settlement.model import Priced, Problem, Report
from sluice_core.settlement.policy import ending, reading_ended, result_value, retrying
from sluice_core.usage.model import Usage
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import MEANINGS, ErrorCode
from sluice_schemas.results import Result
from sluice_schemas.usage import Usage as UsageEvent

NOW = 1_795_435_200.0
TERMINAL = [state for state in State if state.terminal]
USED = Usage(
    input_tokens=57,
    cache_read_tokens=7,
    cache_write_tokens=5,
    output_tokens=25,
    reasoning_tokens=20,
)


def job(**given: Any) -> Job:
    plain: dict[str, Any] = {
        "row": 11,
        "id": uuid4(),
        "day": date(2026, 11, 23),
        "lane": 1,
        "run": None,
        "attempt": 4,
        "first_attempt": 2,
        "max_attempts": 5,
        "deaths": 0,
        "execution": 2,
        "retry_unknown": False,
        "streams": False,
        "cancel": False,
        "due_at": NOW + 60,
        "deadline": NOW + 60,
        "admitted_at": NOW - 2.5,
        "facts": Facts(
            tenant="acme",
            team="ml",
            app="web",
            run_id="run-1",
            model="fast",
            job_class=JobClass.BULK,
            tags={"bb": "2", "a": "1", "ü": "3"},
            warnings=("unknown option x",),
        ),
        "body": b"{}",
        "requester": b"",
    }
    return Job(**plain | given)


def report(**given: Any) -> Report:
    plain: dict[str, Any] = {
        "account": "mock",
        "provider": "openai",
        "provider_model": "gpt-4o-mini",
        "started_at": NOW - 1.0,
        "ended_at": NOW,
        "worst_nano": 900,
        "input_nano": 300,
        "outcome": Outcome.SUCCEEDED,
        "money": "estimated",
        "status": 200,
        "request_id": "req-1",
        "body": b'{"choices":[],"model":"fast"}',
        "usage": USED,
        "priced": Priced(cost_nano=23_550, price_version="test"),
        "provider_ms": 480,
        "warnings": ("dropped logprobs",),
    }
    return Report(**plain | given)


PROBLEM = Problem(code=ErrorCode.PROVIDER_ERROR, message="refused", status=503, retry_after_s=1.5)
REFUSED = report(outcome=Outcome.FAILED, money="none", status=503, body=b'{"error":{}}')
UNKNOWN = report(outcome=Outcome.UNKNOWN, money="unknown", status=None, body=None)
BROKEN = report(outcome=Outcome.FAILED, money="estimated", status=200, body=None)


def told(state: State, given: Report | None, problem: Problem | None, **of_job: Any) -> Result:
    value = result_value(
        job(**of_job), state=state, custom_id="row-17", now=NOW, report=given, problem=problem
    )
    return Result.model_validate_json(value)


@pytest.mark.parametrize("state", TERMINAL)
@pytest.mark.parametrize("given", [None, REFUSED, UNKNOWN, BROKEN])
def test_every_end_is_a_result_by_the_published_model(state: State, given: Report | None) -> None:
    problem = None if state is State.SUCCEEDED else PROBLEM
    result = told(state, given, problem)
    assert result.job.state == state.label
    assert result.custom_id == "row-17"
    answered = given is REFUSED
    assert (result.response is not None) is answered
    assert (result.job.error is None) is (problem is None)
    assert result.error == (None if answered else result.job.error)
    assert set(Result.model_fields) == set(result.model_fields_set)
    assert not result.model_extra


def test_a_success_reports_what_was_used_and_how_long_it_took() -> None:
    result = told(State.SUCCEEDED, report(), None)
    assert result.response is not None
    assert (result.response.status_code, result.response.request_id) == (200, "req-1")
    assert result.response.body == {"choices": [], "model": "fast"}
    told_job = result.job.model_dump(by_alias=True)
    assert told_job == {
        "state": "succeeded",
        "class": "bulk",
        "attempts": 2,
        "run_id": "run-1",
        "model": "fast",
        "account": "mock",
        "provider_model": "gpt-4o-mini",
        "usage": {
            "input_tokens": 57,
            "cache_read_tokens": 7,
            "cache_write_tokens": 5,
            "output_tokens": 25,
            "reasoning_tokens": 20,
        },
        "cost_usd": "0.000023550",
        "execution": 2,
        "queued_ms": 1_500,
        "provider_ms": 480,
        "total_ms": 2_500,
        "cache": "miss",
        "deltas": 0,
        "warnings": ["unknown option x", "dropped logprobs"],
        "error": None,
    }


@pytest.mark.parametrize("code", list(ErrorCode))
def test_a_problem_says_whether_another_try_may_help(code: ErrorCode) -> None:
    result = told(State.FAILED, None, Problem(code=code, message="why", param="p"))
    assert result.error is not None
    assert result.error.retryable is MEANINGS[code].retryable
    assert (result.error.code, result.error.param) == (code, "p")
    assert result.job.cost_usd == "0.000000000"
    assert (result.job.account, result.job.cache) == (None, None)


def test_clocks_that_disagree_give_no_negative_times() -> None:
    result = told(State.FAILED, None, PROBLEM, admitted_at=NOW + 5)
    assert (result.job.queued_ms, result.job.total_ms) == (0, 0)


REPORTS = st.builds(
    report,
    outcome=st.sampled_from(Outcome),
    money=st.sampled_from(["none", "estimated", "unknown"]),
    worst_nano=st.integers(0, 10**12),
    input_nano=st.integers(0, 10**9),
)


@given(given_report=REPORTS, way=st.sampled_from(["ending", "retrying", "reading"]))
def test_a_row_exactly_where_money_could_be_spent_and_held_exactly_where_unknown(
    given_report: Report, way: str
) -> None:
    held_job = job()
    if way == "ending":
        settlement = ending(
            held_job,
            state=State.FAILED,
            custom_id=None,
            now=NOW,
            ce_id=uuid4(),
            usage_id=uuid4(),
            report=given_report,
            problem=PROBLEM,
        )
    elif way == "retrying":
        settlement = retrying(held_job, given_report, run_at=NOW + 1, usage_id=uuid4())
    else:
        settlement = reading_ended(held_job, given_report, usage_id=uuid4())
    costs = given_report.money != "none" or given_report.outcome is Outcome.SUCCEEDED
    assert (settlement.usage is not None) is costs
    unknown = given_report.money == "unknown"
    assert settlement.held_nano == (given_report.worst_nano if unknown else None)
    assert settlement.input_nano == (given_report.input_nano if unknown else None)
    assert settlement.attempt == held_job.attempt
    if settlement.usage is not None and unknown:
        row = settlement.usage
        assert (row.outcome, row.usage, row.usage_source) == ("unknown", Usage(), "estimated")
        assert (row.cost_nano, row.price_version, row.meters) == (0, "unresolved", "[]")


def test_an_end_without_a_call_books_nothing() -> None:
    settlement = ending(
        job(), state=State.EXPIRED, custom_id=None, now=NOW, ce_id=uuid4(), problem=PROBLEM
    )
    assert (settlement.outcome, settlement.usage, settlement.held_nano) == (None, None, None)


def test_an_early_answer_leaves_attempt_and_money_open() -> None:
    settlement = ending(
        job(),
        state=State.CANCELLED,
        custom_id=None,
        now=NOW,
        ce_id=uuid4(),
        usage_id=uuid4(),
        report=UNKNOWN,
        problem=PROBLEM,
        read_on=True,
    )
    assert settlement.outcome is Outcome.READ_ON
    assert (settlement.usage, settlement.held_nano, settlement.input_nano) == (None, None, None)
    assert settlement.result is not None


@pytest.mark.parametrize("given", [report(), UNKNOWN, BROKEN])
def test_a_usage_row_is_an_event_by_the_published_model(given: Report) -> None:
    settlement = reading_ended(job(), given, usage_id=uuid4())
    assert settlement.usage is not None
    event = UsageEvent.model_validate_json(settlement.usage.to_event(NOW + 0.25))
    assert not event.model_extra
    assert event.tags == {"a": "1", "bb": "2", "ü": "3"}
    assert event.recorded_at == "2026-11-23T12:00:00.250000Z"
    assert (event.class_, event.team, event.app) == ("bulk", "ml", "web")
    assert list(orjson.loads(settlement.usage.tags)) == ["a", "bb", "ü"]
