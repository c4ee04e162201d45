"""The state machine's rules as values: duplicates, begin, settle, and what becomes of a dead owner's job."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.jobs.model import Facts, Outcome, State
from sluice_core.jobs.policy import (
    MAX_DEATHS,
    Begin,
    Duplicate,
    Judgement,
    begin,
    duplicate,
    judge,
    settles,
)
from sluice_schemas.classes import JobClass

ENDED = [state for state in State if state.terminal]


def test_terminal_is_ten_and_above() -> None:
    assert {state for state in State if state >= 10} == set(ENDED)
    assert {state.label for state in ENDED} == {
        "succeeded",
        "failed",
        "rejected",
        "expired",
        "cancelled",
        "unknown",
    }


@pytest.mark.parametrize("state", list(State))
def test_a_redelivered_record_does_nothing_whatever_else_holds(state: State) -> None:
    for same, rerun in itertools.product((False, True), repeat=2):
        assert duplicate(state, seen=True, same_body=same, rerun=rerun) is Duplicate.NOTHING


@pytest.mark.parametrize(
    ("state", "rerun", "expected"),
    [
        (State.PARKED, True, Duplicate.JOIN),
        (State.CALLING, False, Duplicate.JOIN),
        (State.SUCCEEDED, True, Duplicate.RESEND),
        (State.UNKNOWN, True, Duplicate.RESEND),
        (State.FAILED, False, Duplicate.RESEND),
        (State.FAILED, True, Duplicate.RERUN),
        (State.EXPIRED, True, Duplicate.RERUN),
        (State.CANCELLED, True, Duplicate.RERUN),
        (State.REJECTED, False, Duplicate.RERUN),
    ],
)
def test_the_same_request_again(state: State, rerun: bool, expected: Duplicate) -> None:
    assert duplicate(state, seen=False, same_body=True, rerun=rerun) is expected
    assert duplicate(state, seen=False, same_body=False, rerun=rerun) is Duplicate.CONFLICT


def test_a_cancel_comes_before_a_deadline_and_both_before_a_call() -> None:
    def at(now: float, *, cancel: bool) -> Begin:
        return begin(State.OWNED, mine=True, cancel=cancel, deadline=10.0, now=now)

    assert at(9.9, cancel=False) is Begin.BEGUN
    assert at(10.0, cancel=False) is Begin.EXPIRED
    assert at(10.0, cancel=True) is Begin.CANCELLED


@given(st.sampled_from(State), st.booleans(), st.booleans(), st.floats(0, 2))
def test_only_the_owner_of_an_owned_job_begins(
    state: State, mine: bool, cancel: bool, deadline: float
) -> None:
    verdict = begin(state, mine=mine, cancel=cancel, deadline=deadline, now=1.0)
    assert (verdict is Begin.LOST) == (not mine or state is not State.OWNED)


@given(
    st.sampled_from(State),
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.none() | st.sampled_from(Outcome),
)
def test_a_settlement_takes_only_at_its_moment(
    state: State, mine: bool, attempt: int, claimed: int, outcome: Outcome | None
) -> None:
    if settles(state, mine=mine, attempt=attempt, claimed=claimed, outcome=outcome):
        assert mine
        assert attempt == claimed
        assert state is (State.OWNED if outcome is None else State.CALLING)


@given(
    st.sampled_from([State.OWNED, State.CALLING]),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_no_dead_owners_job_is_lost_or_paid_twice_unasked(
    state: State, deaths: int, retry_unknown: bool, streams: bool, attempts_left: bool
) -> None:
    judgement = judge(
        state,
        deaths=deaths,
        retry_unknown=retry_unknown,
        streams=streams,
        attempts_left=attempts_left,
    )
    assert judgement.again or judgement.state.terminal
    assert judgement.attempt_unknown == (state is State.CALLING)
    if judgement.again:
        assert deaths < MAX_DEATHS
        assert state is State.OWNED or (retry_unknown and not streams and attempts_left)


def test_three_deaths_give_up_what_would_have_gone_on() -> None:
    gone = Judgement(again=False, state=State.FAILED, attempt_unknown=True)
    for attempts_left in (False, True):
        assert (
            judge(
                State.CALLING,
                deaths=3,
                retry_unknown=True,
                streams=False,
                attempts_left=attempts_left,
            )
            == gone
        )


@given(
    st.builds(
        Facts,
        tenant=st.sampled_from(["acme", "t"]),
        team=st.none() | st.text(min_size=1),
        tags=st.dictionaries(st.text(min_size=1), st.text(), max_size=3),
        job_class=st.sampled_from(JobClass),
        max_cost_nano=st.none() | st.integers(1, 2**62),
        wait_for_budget=st.booleans(),
        warnings=st.lists(st.text(), max_size=2).map(tuple),
    )
)
def test_facts_come_back_as_they_were(facts: Facts) -> None:
    assert Facts.from_json(facts.to_json()) == facts


def test_a_cost_bound_of_zero_is_kept() -> None:
    facts = Facts(tenant="acme", max_cost_nano=0, max_wait_s=0.0)
    assert Facts.from_json(facts.to_json()) == facts
