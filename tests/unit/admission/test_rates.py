"""What a rate lets through: bounds of any window, shares of classes, tokens in the long run."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_core.admission.definitions import rates_of
from sluice_core.admission.model import (
    HEADROOM,
    Ask,
    Ended,
    PeriodState,
    ScopeDefinition,
    ScopeKind,
    ScopeState,
)
from sluice_core.admission.policy import admit, bearable, give_back
from sluice_core.config.scopes import RequestLimit, ScopeLimits, TokenLimit
from sluice_core.jobs.policy import Begin

START = 1_800_000_000.0
REALTIME, STANDARD, BULK = 0, 1, 2


def scope(kind: ScopeKind = ScopeKind.TENANT, **limits: Any) -> ScopeState:
    said = ScopeLimits(**limits)
    rates = rates_of(said)
    return ScopeState(
        definition=ScopeDefinition(
            kind=kind, name="acme", rates=rates, max_in_flight=said.concurrency
        ),
        levels=[0.0] * 3 * len(rates),
        ends=[(START + 86_400.0) * 1e6 if rate.unit else 0.0 for rate in rates],
    )


def requests(limit: int, per: str, **more: Any) -> dict[str, Any]:
    return {"requests": (RequestLimit(limit=limit, per=per, **more),)}  # type: ignore[arg-type]


def hammer(state: ScopeState, job_class: int, *, seconds: float, every: float) -> list[float]:
    """When asks at a steady beat begin, none of them waiting for the time it is told."""
    begun, now = [], START
    while now < START + seconds:
        (reply,) = admit([Ask(job_class=job_class, scopes=(0,))], [state], [], now=now)
        if reply.answer is Begin.BEGUN:
            begun.append(now)
        now += every
    return begun


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 50),
    per=st.sampled_from(["second", "minute", "hour"]),
    burst=st.none() | st.integers(1, 20),
    asks=st.lists(st.tuples(st.floats(0, 0.2), st.integers(0, 2)), max_size=300),
)
def test_no_window_lets_through_more_than_the_limit_and_the_burst(
    limit: int, per: str, burst: int | None, asks: list[tuple[float, int]]
) -> None:
    state = scope(**requests(limit, per, burst=burst))
    (rate,) = state.definition.rates
    period = limit * rate.step_us / 1e6
    begun, now = [], START
    for pause, job_class in asks:
        now += pause * period
        (reply,) = admit([Ask(job_class=job_class, scopes=(0,))], [state], [], now=now)
        if reply.answer is Begin.BEGUN:
            begun.append(now)
    for first in begun:
        within = sum(1 for at in begun if first <= at < first + period)
        assert within <= limit + rate.burst


@pytest.mark.parametrize("job_class", [REALTIME, STANDARD, BULK])
def test_each_class_gets_its_share_in_the_long_run(job_class: int) -> None:
    begun = hammer(scope(**requests(600, "minute")), job_class, seconds=600, every=0.01)
    share = 6_000 * HEADROOM[job_class]
    assert share * 0.99 <= len(begun) <= share + 18


def test_bulk_leaves_room_that_realtime_finds_at_once_and_comes_back_soon_after() -> None:
    state = scope(**requests(100, "second", burst=3))
    hammer(state, BULK, seconds=10, every=0.001)
    (reply,) = admit([Ask(job_class=REALTIME, scopes=(0,))], [state], [], now=START + 10)
    assert reply.answer is Begin.BEGUN
    for step in range(2_000):  # realtime takes everything for 20 s
        admit([Ask(job_class=REALTIME, scopes=(0,))], [state], [], now=START + 10 + step / 100)
    (reply,) = admit([Ask(job_class=BULK, scopes=(0,))], [state], [], now=START + 30)
    assert reply.answer is Begin.RATE_LIMITED
    assert reply.until - (START + 30) < 0.1  # it owes nothing for what others used


def test_the_time_that_is_told_is_the_time_it_fits() -> None:
    state = scope(**requests(60, "minute", burst=1))
    ask = Ask(job_class=STANDARD, scopes=(0,))
    (first, second) = admit([ask, ask], [state], [], now=START)
    assert (first.answer, second.answer) == (Begin.BEGUN, Begin.RATE_LIMITED)
    (early,) = admit([ask], [state], [], now=second.until - 0.01)
    assert early.answer is Begin.RATE_LIMITED
    (then,) = admit([ask], [state], [], now=second.until)
    assert then.answer is Begin.BEGUN


@pytest.mark.parametrize("job_class", [REALTIME, STANDARD, BULK])
def test_one_request_a_day_may_be_of_any_class(job_class: int) -> None:
    state = scope(**requests(1, "day"))
    ask = Ask(job_class=job_class, scopes=(0,))
    (first, second) = admit([ask, ask], [state], [], now=START)
    assert (first.answer, second.answer) == (Begin.BEGUN, Begin.RATE_LIMITED)


def test_a_retry_is_one_request_of_its_caller_and_another_of_its_account() -> None:
    caller = scope(**requests(1, "hour", burst=1))
    account = scope(ScopeKind.ACCOUNT, **requests(1, "hour", burst=1))
    first = Ask(job_class=REALTIME, scopes=(0, 1))
    again = Ask(job_class=REALTIME, scopes=(0, 1), first=False)
    (begun, refused) = admit([first, again], [caller, account], [], now=START)
    assert begun.answer is Begin.BEGUN
    assert (refused.answer, refused.cause) == (Begin.RATE_LIMITED, 1)


def test_a_refusal_draws_on_nothing() -> None:
    full = scope(ScopeKind.MODEL, **requests(1, "hour", burst=1))
    free = scope(requests=(RequestLimit(limit=9, per="minute"),), concurrency=5)
    money = PeriodState(hard=True, cap_nano=1_000)
    ask = Ask(job_class=REALTIME, scopes=(0, 1), periods=(0,), worst_nano=300, tokens=7)
    admit([ask], [free, full], [money], now=START)
    before = (list(free.levels), free.in_flight, list(free.virtual), money.reserved_nano)
    (reply,) = admit([ask], [free, full], [money], now=START + 1)
    assert reply.answer is Begin.RATE_LIMITED
    assert before == (free.levels, free.in_flight, free.virtual, money.reserved_nano)


def tokens(limit: int, **more: Any) -> dict[str, Any]:
    return {"tokens": (TokenLimit(limit=limit, per="minute", **more),)}


@pytest.mark.parametrize(("expected", "actual"), [(500, 500), (500, 1_500), (500, 50)])
def test_tokens_are_exact_in_the_long_run_whatever_was_expected(expected: int, actual: int) -> None:
    state, chance = scope(**tokens(100_000)), random.Random(7)
    now, used, open_ = START, 0, []
    while now < START + 3_600:
        ask = Ask(job_class=REALTIME, scopes=(0,), tokens=expected)
        (reply,) = admit([ask], [state], [], now=now)
        if reply.answer is Begin.BEGUN:
            open_.append((now + chance.uniform(0.2, 4.0), round(actual * chance.uniform(0.5, 1.5))))
        now += 0.05
        for ended in [one for one in open_ if one[0] <= now]:
            open_.remove(ended)
            used += ended[1]
            one = Ended(job_class=REALTIME, scopes=(0,), tokens=expected, used=ended[1])
            give_back([one], [state], [], now=now)
    if actual * 20 < 100_000 / 60:  # one ask in 50 ms cannot use it up
        assert used > 0
    else:
        assert used == pytest.approx(6_000_000, rel=0.03)


def test_what_may_never_fit_is_said_at_once() -> None:
    state = scope(**tokens(1_000, burst=200, reserve="bound"))
    (reply,) = admit([Ask(job_class=BULK, scopes=(0,), bound=201)], [state], [], now=START)
    assert reply.answer is Begin.TOO_LARGE
    (reply,) = admit([Ask(job_class=BULK, scopes=(0,), bound=200)], [state], [], now=START)
    assert reply.answer is Begin.BEGUN


def test_a_strict_token_limit_is_never_exceeded_by_what_was_bound() -> None:
    state = scope(**tokens(6_000, burst=300, reserve="bound"))
    begun = []
    for step in range(1_200):
        now = START + step / 10
        ask = Ask(job_class=REALTIME, scopes=(0,), bound=100)
        (reply,) = admit([ask], [state], [], now=now)
        if reply.answer is Begin.BEGUN:
            begun.append(now)
    for first in begun:
        assert 100 * sum(1 for at in begun if first <= at < first + 60) <= 6_300


def test_calendar_days_count_and_begin_anew() -> None:
    state = scope(**requests(10, "day"))
    asks = [Ask(job_class=REALTIME, scopes=(0,))] * 12
    replies = admit(asks, [state], [], now=START)
    assert [reply.answer for reply in replies] == [Begin.BEGUN] * 10 + [Begin.RATE_LIMITED] * 2
    assert replies[-1].until == START + 86_400.0
    state = scope(**requests(10, "day"))
    bulk = admit([Ask(job_class=BULK, scopes=(0,))] * 12, [state], [], now=START)
    assert sum(reply.answer is Begin.BEGUN for reply in bulk) == 8


def test_concurrency_leaves_room_for_the_classes_above() -> None:
    state = scope(concurrency=10)
    for job_class, most in ((BULK, 8), (STANDARD, 9), (REALTIME, 10)):
        admit([Ask(job_class=job_class, scopes=(0,))] * 20, [state], [], now=START)
        assert state.in_flight == most
    one = scope(concurrency=1)
    (reply,) = admit([Ask(job_class=BULK, scopes=(0,))], [one], [], now=START)
    assert reply.answer is Begin.BEGUN  # one is as little as can be


def test_an_account_bears_less_after_refusals_and_slowly_more_again() -> None:
    assert bearable(None, in_flight=40, most=None, pressures=[1.0]) is None
    cut = bearable(None, in_flight=40, most=64, pressures=[1.0, 0.7, 1.0])
    assert cut == 28
    assert bearable(cut, in_flight=28, most=64, pressures=[0.7]) == pytest.approx(19.6)
    assert bearable(10.0, in_flight=1, most=64, pressures=[0.7]) == 10
    grown = cut
    for _ in range(28):
        grown = bearable(grown, in_flight=28, most=64, pressures=[1.0])
        assert grown is not None
    assert grown == pytest.approx(29, abs=0.05)  # one more a round
    assert bearable(64.5, in_flight=60, most=64, pressures=[1.0]) is None
