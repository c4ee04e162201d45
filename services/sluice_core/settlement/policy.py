"""Pure: a job, how its last attempt went and what comes next, as one settlement with its result and usage row."""

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import orjson

from sluice_core.caching.model import Answer
from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.writes import Settlement
from sluice_core.settlement.model import CacheMark, Priced, Problem, Report
from sluice_core.usage.model import NOTHING
from sluice_core.usage.row import UsageRow
from sluice_schemas.errors import MEANINGS
from sluice_schemas.money import format_usd

_LEAVES_MONEY_OPEN = Priced(price_version="unresolved")


def ending(
    job: Job,
    *,
    state: State,
    custom_id: str | None,
    now: float,
    ce_id: UUID,
    usage_id: UUID | None = None,
    report: Report | None = None,
    problem: Problem | None = None,
    instead: Report | None = None,
    read_on: bool = False,
    death: bool = False,
) -> Settlement:
    """The job's end in `state`.

    `report`: of the attempt that ends with it (None: it ends without a call). `problem`: None for a success.
    `instead`: of an earlier attempt whose answer is the job's, whatever became of the last one.
    `read_on`: the requester is answered now, the attempt and its money end later (`reading_ended`).
    """
    result = result_value(
        job,
        state=state,
        custom_id=custom_id,
        now=now,
        report=instead or report,
        problem=None if instead is not None else problem,
    )
    if report is None:
        return Settlement(
            row=job.row,
            id=job.id,
            day=job.day,
            attempt=job.attempt,
            state=state,
            outcome=None,
            death=death,
            ce_id=ce_id,
            result=result,
        )
    usage = None if read_on else _usage_row(job, report, usage_id)
    held = report.money == "unknown" and not read_on
    return Settlement(
        row=job.row,
        id=job.id,
        day=job.day,
        attempt=job.attempt,
        state=state,
        outcome=Outcome.READ_ON if read_on else report.outcome,
        death=death,
        code=None if problem is None else problem.code,
        status=report.status,
        provider_request_id=report.request_id,
        usage=usage,
        held_nano=report.worst_nano if held else None,
        input_nano=report.input_nano if held else None,
        pressure=report.pressure,
        cool_until=report.cool_until,
        ce_id=ce_id,
        result=result,
    )


def answer_of(report: Report) -> Answer:
    """A good answer as it is stored to be given again."""
    return Answer(
        body=report.body or b"",
        provider=report.provider,
        account=report.account,
        provider_model=report.provider_model,
        usage=report.usage,
        list_nano=report.priced.list_nano,
        price_version=report.priced.price_version,
    )


def cached(
    job: Job,
    answer: Answer,
    *,
    custom_id: str | None,
    now: float,
    ce_id: UUID,
    usage_id: UUID,
    deltas: int,
    mark: CacheMark = "exact",
    arm: str | None = None,
) -> Settlement:
    """The job succeeds with a stored answer: no attempt, nothing to pay, and a row that says what it would have cost."""
    report = Report(
        account=answer.account,
        provider=answer.provider,
        provider_model=answer.provider_model,
        started_at=now,
        ended_at=now,
        worst_nano=0,
        outcome=Outcome.SUCCEEDED,
        money="estimated",
        status=200,
        body=answer.body,
        usage=answer.usage,
        priced=Priced(list_nano=answer.list_nano, price_version=answer.price_version),
        deltas=deltas,
        arm=arm,
    )
    row = _usage_row(job, report, usage_id)
    assert row is not None
    result = result_value(
        job,
        state=State.SUCCEEDED,
        custom_id=custom_id,
        now=now,
        report=report,
        problem=None,
        cache=mark,
    )
    return Settlement(
        row=job.row,
        id=job.id,
        day=job.day,
        attempt=job.attempt,
        state=State.SUCCEEDED,
        outcome=None,
        usage=replace(row, outcome="cached", cache=mark),
        ce_id=ce_id,
        result=result,
    )


def retrying(
    job: Job,
    report: Report,
    *,
    run_at: float | None,
    usage_id: UUID | None = None,
    death: bool = False,
) -> Settlement:
    """The attempt ends and the job waits until `run_at` (epoch seconds) for its next one.

    `run_at` None: it stays its owner's, who asks another target at once.
    """
    held = report.money == "unknown"
    return Settlement(
        row=job.row,
        id=job.id,
        day=job.day,
        attempt=job.attempt,
        state=State.OWNED if run_at is None else State.RETRY_WAIT,
        outcome=report.outcome,
        run_at=run_at,
        death=death,
        code=None if report.problem is None else report.problem.code,
        status=report.status,
        provider_request_id=report.request_id,
        usage=_usage_row(job, report, usage_id),
        held_nano=report.worst_nano if held else None,
        input_nano=report.input_nano if held else None,
        pressure=report.pressure,
        cool_until=report.cool_until,
    )


def reading_ended(job: Job, report: Report, *, usage_id: UUID | None) -> Settlement:
    """The attempt of a job that was answered before ends, with what the provider reported at last."""
    held = report.money == "unknown"
    return Settlement(
        row=job.row,
        id=job.id,
        day=job.day,
        attempt=job.attempt,
        state=None,
        outcome=report.outcome,
        code=None if report.problem is None else report.problem.code,
        status=report.status,
        provider_request_id=report.request_id,
        usage=_usage_row(job, report, usage_id),
        held_nano=report.worst_nano if held else None,
        input_nano=report.input_nano if held else None,
        pressure=report.pressure,
        cool_until=report.cool_until,
    )


def result_value(
    job: Job,
    *,
    state: State,
    custom_id: str | None,
    now: float,
    report: Report | None,
    problem: Problem | None,
    cache: CacheMark = "miss",
) -> bytes:
    """The result as one line of an OpenAI Batch output file, plus `job`. The provider's body goes in as it is."""
    error = None if problem is None else _error(problem)
    answered = (
        report is not None
        and report.status is not None
        and report.body is not None
        and (problem is None or report.status >= 400)  # an error inside a 2xx is no answer
    )
    response = None
    if answered:
        assert report is not None
        response = {
            "status_code": report.status,
            "request_id": report.request_id,
            "body": orjson.Fragment(report.body or b"null"),
        }
    used = NOTHING if report is None else report.usage
    started = now if report is None else report.started_at
    facts = job.facts
    return orjson.dumps(
        {
            "id": job.id,
            "custom_id": custom_id,
            "response": response,
            "error": None if answered else error,
            "job": {
                "state": state.label,
                "class": facts.job_class.label,
                "attempts": job.attempts_made - (report is not None and not report.asked),
                "run_id": facts.run_id,
                "model": facts.model,
                "account": None if report is None else report.account,
                "provider_model": None if report is None else report.provider_model,
                "usage": {
                    "input_tokens": used.input_tokens,
                    "cache_read_tokens": used.cache_read_tokens,
                    "cache_write_tokens": used.cache_write_tokens,
                    "output_tokens": used.output_tokens,
                    "reasoning_tokens": used.reasoning_tokens,
                },
                "cost_usd": format_usd(0 if report is None else report.priced.cost_nano),
                "execution": job.execution,
                "queued_ms": _milliseconds(started - job.admitted_at),
                "provider_ms": 0 if report is None else report.provider_ms,
                "total_ms": _milliseconds(now - job.admitted_at),
                "cache": cache if report is not None else None,
                "deltas": 0 if report is None else report.deltas,
                "warnings": [*facts.warnings, *(() if report is None else report.warnings)],
                "error": error,
            },
        }
    )


def _error(problem: Problem) -> dict[str, object]:
    return {
        "code": problem.code,
        "message": problem.message,
        "retryable": MEANINGS[problem.code].retryable,
        "status": problem.status,
        "param": problem.param,
        "retry_after_s": problem.retry_after_s,
    }


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _tags(tags: Mapping[str, str]) -> str:
    """Tags as JSON text, in the order that jsonb gives them: the event then says them as the row will."""
    names = sorted(tags, key=lambda name: (len(name.encode()), name.encode()))
    return orjson.dumps({name: tags[name] for name in names}).decode()


def _usage_row(job: Job, report: Report, usage_id: UUID | None) -> UsageRow | None:
    """The row of an attempt that could cost money; None for one that could not."""
    if report.money == "none" and report.outcome is not Outcome.SUCCEEDED:
        return None
    assert usage_id is not None
    unknown = report.money == "unknown"
    priced = _LEAVES_MONEY_OPEN if unknown else report.priced
    facts = job.facts
    return UsageRow(
        usage_id=usage_id,
        job_id=job.id,
        attempt=job.attempt,
        run_id=facts.run_id,
        started_at=report.started_at,
        ended_at=report.ended_at,
        tenant=facts.tenant,
        team=facts.team,
        project=facts.project,
        app=facts.app,
        user_id=facts.user_id,
        tags=_tags(facts.tags) if facts.tags else "{}",
        key_id=facts.key_id,
        provider=report.provider,
        account=report.account,
        model_requested=facts.model or "",
        provider_model=report.provider_model,
        provider_request_id=report.request_id,
        operation=facts.operation,
        arm=report.arm,
        region=report.region,
        service_tier=report.tier,
        class_name=facts.job_class.label,
        usage=NOTHING if unknown else report.usage,
        usage_source="estimated" if unknown else report.usage_source,
        meters=priced.meters,
        cost_nano=priced.cost_nano,
        list_cost_nano=priced.list_nano,
        price_version=priced.price_version,
        outcome="unknown" if unknown else report.outcome.label,
        provider_ms=report.provider_ms,
    )
