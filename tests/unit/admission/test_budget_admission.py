"""Hard budgets at any nesting: never exceeded, and refused only where the money is really gone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_core.admission.model import (
    Ask,
    Ended,
    PeriodState,
    ScopeDefinition,
    ScopeKind,
    ScopeState,
)
from sluice_core.admission.policy import admit, give_back
from sluice_core.jobs.policy import Begin

START = 1_800_000_000.0

STEPS = st.lists(
    st.tuples(
        st.sets(st.integers(0, 3), min_size=1),
        st.integers(0, 60),
        st.floats(0, 1),
        st.sampled_from(["ends", "unknown", "stays"]),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(caps=st.lists(st.integers(0, 300), min_size=4, max_size=4), steps=STEPS)
def test_no_budget_is_ever_exceeded(
    caps: list[int], steps: list[tuple[set[int], int, float, str]]
) -> None:
    periods = [PeriodState(hard=True, cap_nano=cap) for cap in caps]
    scopes = [ScopeState(definition=ScopeDefinition(kind=ScopeKind.TENANT, name="a"))]
    waiting: list[tuple[Ask, int]] = []
    for places, worst, share, fate in steps:
        ask = Ask(job_class=0, scopes=(0,), periods=tuple(sorted(places)), worst_nano=worst)
        money = [(p.used_nano, p.reserved_nano, p.cap_nano) for p in periods]
        (reply,) = admit([ask], scopes, periods, now=START)
        mine = [money[place] for place in ask.periods]
        gone = any(used + worst > cap for used, _, cap in mine)
        busy = any(used + reserved + worst > cap for used, reserved, cap in mine)
        expected = Begin.OVER_BUDGET if gone else Begin.BUDGET_BUSY if busy else Begin.BEGUN
        assert reply.answer is expected
        if reply.answer is Begin.BEGUN:
            cost = int(worst * share)
            if fate == "stays":
                waiting.append((ask, cost))
            else:
                _end(ask, cost, scopes, periods, unknown=fate == "unknown")
        for period in periods:
            assert period.used_nano + period.reserved_nano <= period.cap_nano
    for ask, cost in waiting:
        _end(ask, cost, scopes, periods, unknown=False)
    assert all(period.reserved_nano == 0 for period in periods)
    assert all(period.used_nano <= period.cap_nano for period in periods)
    assert scopes[0].in_flight == 0


def _end(
    ask: Ask, cost: int, scopes: list[ScopeState], periods: list[PeriodState], *, unknown: bool
) -> None:
    one = Ended(
        job_class=0,
        scopes=ask.scopes,
        periods=ask.periods,
        worst_nano=ask.worst_nano,
        held_nano=ask.worst_nano if unknown else 0,
        cost_nano=0 if unknown else cost,
    )
    give_back([one], scopes, periods, now=START)


def test_a_soft_budget_lets_everything_through() -> None:
    soft = PeriodState(hard=False, cap_nano=1)
    scope = ScopeState(definition=ScopeDefinition(kind=ScopeKind.TENANT, name="a"))
    ask = Ask(job_class=0, scopes=(0,), periods=(0,), worst_nano=500)
    (reply,) = admit([ask], [scope], [soft], now=START)
    assert reply.answer is Begin.BEGUN


def test_the_wait_for_money_ends_with_the_last_of_the_periods_in_the_way() -> None:
    day = PeriodState(hard=True, cap_nano=10, used_nano=10, ends=START + 100)
    month = PeriodState(hard=True, cap_nano=10, used_nano=10, ends=START + 900)
    scope = ScopeState(definition=ScopeDefinition(kind=ScopeKind.TENANT, name="a"))
    ask = Ask(job_class=0, scopes=(0,), periods=(0, 1), worst_nano=5)
    (reply,) = admit([ask], [scope], [day, month], now=START)
    assert (reply.answer, reply.until, reply.cause) == (Begin.OVER_BUDGET, START + 900, -2)
