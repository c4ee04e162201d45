"""How attempts went, as their settlements need to know it; pure but for the clock."""

import time
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from sluice_core.jobs.fates import FailureKind, Fate, fate
from sluice_core.jobs.model import Outcome
from sluice_core.pricing.policy import charge, meter_document
from sluice_core.settlement.model import Priced, Problem, Report
from sluice_core.usage.model import NOTHING
from sluice_providers.port import Answer
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight

_UNASKED = (FailureKind.UNTRANSLATABLE, FailureKind.UNPREPARED)
"""Where it is certain that no provider was called at all."""


def moment() -> float:
    """Now, in epoch seconds; whole microseconds, so that the ledger's column and the event say the same."""
    return round(time.time(), 6)


def bare(flight: Flight, *, outcome: Outcome, money: str, now: float) -> Report:
    """An attempt of which nothing is known but that it was made."""
    assert flight.route is not None
    target = flight.route.target
    return Report(
        account=target.account,
        provider=target.provider,
        provider_model=target.model,
        started_at=flight.started_at,
        ended_at=now,
        worst_nano=flight.worst_nano,
        input_nano=flight.input_nano,
        outcome=outcome,
        money=money,  # type: ignore[arg-type]
        provider_ms=max(0, round((now - flight.started_at) * 1000)),
        deltas=flight.deltas,
        pressure=flight.pressure,
        cool_until=flight.cool_until,
        arm=flight.route.arm,
        region=flight.route.region,
        tier=flight.route.tier,
    )


def answered(flight: Flight, answer: Answer, *, outcome: Outcome, now: float) -> Report:
    """An attempt with its answer, its usage and what that costs."""
    assert flight.route is not None
    usage = answer.usage or NOTHING
    cost = charge(
        flight.route.price, usage, started_at=datetime.fromtimestamp(flight.started_at, UTC)
    )
    target = flight.route.target
    return Report(
        account=target.account,
        provider=target.provider,
        provider_model=target.model,
        started_at=flight.started_at,
        ended_at=now,
        worst_nano=flight.worst_nano,
        input_nano=flight.input_nano,
        outcome=outcome,
        money="estimated",
        deltas=flight.deltas,
        status=answer.status,
        request_id=answer.request_id,
        body=answer.body,
        usage=usage,
        usage_source=answer.usage_source,
        priced=Priced(
            cost_nano=cost.cost_nano,
            list_nano=cost.list_nano,
            meters=orjson.dumps([meter_document(meter) for meter in cost.meters]).decode(),
            price_version=cost.price_version,
        ),
        provider_ms=answer.provider_ms,
        warnings=answer.warnings,
        pressure=flight.pressure,
        cool_until=flight.cool_until,
        arm=flight.route.arm,
        region=flight.route.region,
        tier=answer.tier or flight.route.tier,
    )


def failed(flight: Flight, answer: Answer, what: Fate, now: float) -> Report:
    """A failed attempt's report; what was reported or estimated is booked where a 2xx had begun."""
    problem = Problem(
        code=answer.code or what.code,
        message=answer.message,
        status=answer.status,
        param=answer.param,
        retry_after_s=answer.retry_after_s,
    )
    outcome = Outcome.UNKNOWN if what.money == "unknown" else Outcome.FAILED
    if what.money == "estimated":
        return replace(answered(flight, answer, outcome=outcome, now=now), problem=problem)
    return replace(
        bare(flight, outcome=outcome, money=what.money, now=now),
        status=answer.status,
        request_id=answer.request_id,
        body=answer.body,
        provider_ms=answer.provider_ms,
        problem=problem,
        asked=answer.failure not in _UNASKED,
    )


def fate_of(answer: Answer) -> Fate:
    """What a failure leads to; what had not left entirely costs nothing."""
    assert answer.failure is not None
    what = fate(answer.failure, status=answer.status)
    if not answer.sent and what.money == "unknown":
        return fate(FailureKind.NOT_SENT, status=None)
    return what


def defect(flight: Flight, *, sent: bool) -> Report:
    """An attempt that our own code failed on: once it was sent, its money stays held until somebody looks."""
    if sent:
        message = "the gateway failed on this answer"
        report = bare(flight, outcome=Outcome.UNKNOWN, money="unknown", now=moment())
    else:
        message = "the gateway failed before the request was sent"
        report = bare(flight, outcome=Outcome.FAILED, money="none", now=moment())
        report = replace(report, asked=False)
    return replace(report, problem=Problem(code=ErrorCode.INTERNAL, message=message))


def of_end(flight: Flight, answer: Answer | None, *, sent: bool) -> Report:
    """How an attempt is booked, however it ended."""
    if answer is None:
        return defect(flight, sent=sent)
    if answer.failure is None:
        return answered(flight, answer, outcome=Outcome.SUCCEEDED, now=moment())
    return failed(flight, answer, fate_of(answer), moment())


def read_on(flight: Flight, answer: Answer | None) -> Report:
    """How an attempt ended whose job was answered before: with its usage if the provider said it."""
    now = moment()
    if answer is None:
        return bare(flight, outcome=Outcome.UNKNOWN, money="unknown", now=now)
    if answer.failure is None or (answer.usage is not None and answer.usage_source == "reported"):
        given_up = flight.cancelled or flight.overtaken
        outcome = Outcome.CANCELLED if given_up else Outcome.EXPIRED
        return answered(flight, answer, outcome=outcome, now=now)
    return failed(flight, answer, fate_of(answer), now)
