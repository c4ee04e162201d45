"""How a scope stands, in words and numbers: what is used, when the next is free, what a change is."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sluice_core.admission.changes import compare
from sluice_core.admission.definitions import definitions, kept, rates_of
from sluice_core.admission.model import Ask, ScopeDefinition, ScopeKind, ScopeState
from sluice_core.admission.policy import admit
from sluice_core.admission.standing import describe, per, standing
from sluice_core.config.load import parse_config
from sluice_core.config.scopes import RequestLimit, ScopeLimits, TokenLimit
from sluice_core.jobs.policy import Begin
from sluice_schemas.classes import JobClass

NOW = 1_800_000_000.0


def state(**limits: Any) -> ScopeState:
    said = ScopeLimits.model_validate(limits)
    rates = rates_of(said)
    return ScopeState(
        definition=ScopeDefinition(
            kind=ScopeKind.ACCOUNT, name="openai", rates=rates, max_in_flight=said.concurrency
        ),
        levels=[0.0] * 3 * len(rates),
        ends=[(NOW + 3_600.0) * 1e6 if rate.unit else 0.0 for rate in rates],
    )


def test_used_is_what_has_not_come_back_and_next_is_when_begin_says_so() -> None:
    scope = state(requests={"limit": 60, "per": "minute", "burst": 5}, concurrency=9)
    bulk = Ask(job_class=JobClass.BULK, scopes=(0,))
    replies = admit([bulk] * 6, [scope], [], now=NOW)
    assert [reply.answer for reply in replies] == [Begin.BEGUN] * 5 + [Begin.RATE_LIMITED]
    found = standing(scope, now=NOW)
    (rate,) = found.rates
    assert (found.scope, found.in_flight, found.max_in_flight) == ("account:openai", 5, 9)
    assert (rate.limit, rate.per, rate.burst, rate.used) == (60, "minute", 5, 5)
    assert rate.next_at["bulk"] == datetime.fromtimestamp(replies[5].until, UTC)
    assert rate.next_at["realtime"] == datetime.fromtimestamp(NOW + 1, UTC)
    later = standing(scope, now=NOW + 2).rates[0]
    assert later.used == pytest.approx(3)
    assert later.next_at == {"realtime": None, "standard": None, "bulk": None}


def test_a_calendar_rate_is_a_count_that_begins_anew() -> None:
    scope = state(requests={"limit": 10, "per": "day"})
    admit([Ask(job_class=JobClass.BULK, scopes=(0,))] * 9, [scope], [], now=NOW)
    (rate,) = standing(scope, now=NOW).rates
    assert (rate.used, rate.burst, rate.per) == (8, None, "day")
    assert rate.next_at == {
        "realtime": None,
        "standard": None,
        "bulk": datetime.fromtimestamp(NOW + 3_600, UTC),
    }
    (rate,) = standing(scope, now=NOW + 3_600).rates
    assert (rate.used, set(rate.next_at.values())) == (0, {None})


def test_expected_tokens_may_be_overdrawn() -> None:
    scope = state(tokens={"limit": 6_000, "per": "minute", "burst": 100})
    admit([Ask(job_class=JobClass.REALTIME, scopes=(0,), tokens=600)], [scope], [], now=NOW)
    (rate,) = standing(scope, now=NOW).rates
    assert rate.used == pytest.approx(600)
    free = rate.next_at["realtime"]
    assert free is not None
    assert free.timestamp() == pytest.approx(NOW + 5)


def test_a_pause_and_what_was_learnt_are_told_while_they_last() -> None:
    scope = state()
    scope.blocked_until, scope.allowed = NOW + 5, 7.9
    found = standing(scope, now=NOW)
    assert (found.blocked_until, found.allowed) == (datetime.fromtimestamp(NOW + 5, UTC), 7)
    assert standing(scope, now=NOW + 5).blocked_until is None


@pytest.mark.parametrize("name", ["second", "minute", "hour", "day", "week", "month"])
@pytest.mark.parametrize("limit", [1, 7, 600, 90_000])
def test_a_rate_keeps_the_name_of_its_period(name: Any, limit: int) -> None:
    (rate,) = rates_of(ScopeLimits(requests=(RequestLimit(limit=limit, per=name),)))
    assert per(rate) == name


def test_a_rate_in_words_with_the_share_of_a_class() -> None:
    (rate,) = rates_of(
        ScopeLimits(tokens=(TokenLimit(limit=90_000, per="minute", reserve="bound"),))
    )
    assert describe(rate) == "90,000 tokens (bound) a minute"
    assert describe(rate, JobClass.BULK) == "80 % of 90,000 tokens (bound) a minute"


BASE = """\
providers: {openai: {kind: openai, base_url: "http://x", limits: {concurrency: 4}}}
tenants:
  acme:
    weight: 2
    limits: {requests: {limit: 60, per: minute}, tokens: {limit: 5000, per: day, zone: Asia/Tokyo}}
    budgets: {usd: 2000.50, per: month}
    users: {"*": {limits: {concurrency: 3}}}
"""
AFTER = """\
providers: {openai: {kind: openai, base_url: "http://x", limits: {concurrency: 8}}}
tenants:
  acme:
    limits: {requests: {limit: 120, per: minute}, tokens: {limit: 5000, per: day}}
    budgets: {usd: 1, per: day, kind: soft, thresholds: [50]}
    users: {"*": {limits: {concurrency: 3}}}
"""


def test_a_change_is_told_by_scope() -> None:
    before, after = parse_config(BASE, {}), parse_config(AFTER, {})
    assert compare(definitions(before), definitions(before), kept(before)) == ()
    found = compare(definitions(before), definitions(after), kept(after))
    assert [str(change) for change in found] == [
        "+ tenant:acme budget per day: 1 USD, soft, UTC, alerts: 50 %",
        "- tenant:acme budget per month: 2000.5 USD, hard, UTC, alerts: 50 %, 80 %, 100 %",
        "~ tenant:acme limits.requests: 60 requests a minute, burst 2 → 120 requests a minute, burst 4",
        "~ tenant:acme limits.tokens: 5,000 tokens a day (Asia/Tokyo) → 5,000 tokens a day (UTC)",
        "- tenant:acme weight: 2",
        "~ account:openai limits.concurrency: 4 → 8",
    ]


def test_scopes_of_users_that_are_met_are_left_alone() -> None:
    config = parse_config(BASE, {})
    met = ScopeDefinition(kind=ScopeKind.USER, name="acme/u_1", max_in_flight=3)
    scopes, budgets = definitions(config)
    now = ([*scopes, met], budgets)
    assert compare(now, (scopes, budgets), kept(config)) == ()
    assert [str(c) for c in compare(now, (scopes, budgets), [])] == [
        "- user:acme/u_1 limits.concurrency: 3"
    ]
