"""The keeper's decisions as values: which records go, what is lost, what is booked, how a job ends."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.waiting import eventually

from sluice_core.intake.model import Requester
from sluice_core.jobs.model import Abandoned, Facts, Job, OpenAttempt, Outcome, State
from sluice_core.upkeep.model import Held, LogPosition
from sluice_core.upkeep.policy import booked_nano, delete_before, lost_event_id, lost_range
from sluice_keeper.expiry import end_of
from sluice_keeper.judgement import RETRY_SPREAD_S, settlement_of
from sluice_keeper.rounds import repeat

OFFSETS = st.integers(0, 50)
LOGS = st.builds(
    LogPosition,
    topic=st.just("t"),
    partition=st.just(0),
    start=OFFSETS,
    committed=st.none() | OFFSETS,
    old_until=st.none() | OFFSETS,
)


@given(LOGS)
def test_only_admitted_and_old_records_go(log: LogPosition) -> None:
    edge = delete_before(log)
    if edge is not None:
        assert log.committed is not None
        assert log.start < edge <= log.committed
        assert log.old_until is None or edge <= log.old_until


@given(LOGS)
def test_a_loss_is_what_lies_between_commit_and_start(log: LogPosition) -> None:
    lost = lost_range(log)
    if log.committed is None or log.start <= log.committed:
        assert lost is None
    else:
        assert lost == (log.committed, log.start)
        assert delete_before(log) is None


def test_a_loss_has_one_id_and_another_loss_another() -> None:
    log = LogPosition(topic="t", partition=0, start=9, committed=3, old_until=None)
    assert lost_event_id("c", log) == lost_event_id("c", replace(log, old_until=5))
    others = [replace(log, start=10), replace(log, committed=4), replace(log, partition=1)]
    assert len({lost_event_id("c", one) for one in [log, *others]}) == 4
    assert lost_event_id("d", log) != lost_event_id("c", log)


def test_held_money_is_booked_as_configured() -> None:
    held = Held(usage_id=uuid4(), held_nano=900, input_nano=300)
    assert [booked_nano(held, book) for book in ("worst_case", "input_only", "zero")] == [
        900,
        300,
        0,
    ]
    assert booked_nano(replace(held, input_nano=1_000), "input_only") == 900


REQUESTER = Requester(
    custom_id="row-1",
    correlation_id=b"c",
    echo=(),
    cause=None,
    reply_to=None,
    reply_partition=None,
    reply_only=False,
    traceparent=None,
    tracestate=None,
    record_key=None,
    record_id=uuid4(),
)
JOB = Job(
    row=1,
    id=uuid4(),
    day=date(2026, 1, 1),
    lane=1,
    run=None,
    attempt=1,
    first_attempt=0,
    max_attempts=5,
    deaths=0,
    execution=1,
    retry_unknown=True,
    streams=False,
    cancel=False,
    due_at=1000.0,
    deadline=1000.0,
    admitted_at=0.0,
    facts=Facts(tenant="acme"),
    body=b"",
    requester=REQUESTER.to_bytes(),
)


@pytest.mark.parametrize(
    ("change", "now", "state", "code"),
    [
        ({"cancel": True}, 2000.0, State.CANCELLED, "cancelled"),
        ({}, 2000.0, State.EXPIRED, "deadline_exceeded"),
        ({}, 10.0, State.EXPIRED, "deadline_exceeded"),
        ({"due_at": 5.0}, 10.0, State.REJECTED, "concurrency_exceeded"),
        ({"due_at": 5.0}, 1000.0, State.EXPIRED, "deadline_exceeded"),
    ],
)
def test_how_a_job_ends_that_nobody_called(
    change: dict, now: float, state: State, code: str
) -> None:
    ended, problem = end_of(replace(JOB, **change), now=now)
    assert (ended, problem.code) == (state, code)


def left(job: Job, state: State) -> Abandoned:
    attempt = OpenAttempt(
        account="a", provider_model="m", worst_nano=500, input_nano=200, started_at=10.0
    )
    return Abandoned(
        job=job,
        state=state,
        owner=7,
        open_attempt=attempt if state is State.CALLING else None,
    )


def judged(job: Job, state: State, *, now: float = 100.0):
    return settlement_of(
        left(job, state),
        provider="openai",
        now=now,
        jitter=0.5,
        ce_id=uuid4(),
        usage_id=uuid4(),
    )


def test_a_call_that_is_tried_again_keeps_its_money_held() -> None:
    settlement = judged(JOB, State.CALLING)
    assert (settlement.state, settlement.outcome) == (State.RETRY_WAIT, Outcome.UNKNOWN)
    assert settlement.run_at == 100.0 + RETRY_SPREAD_S / 2
    assert (settlement.held_nano, settlement.input_nano) == (500, 200)
    assert settlement.death
    assert settlement.result is None


@pytest.mark.parametrize(
    ("change", "state", "code"),
    [
        ({"retry_unknown": False}, State.UNKNOWN, "outcome_unknown"),
        ({"max_attempts": 1}, State.UNKNOWN, "outcome_unknown"),
        ({"deadline": 100.5}, State.UNKNOWN, "outcome_unknown"),
        ({"deaths": 2}, State.FAILED, "internal"),
    ],
)
def test_a_call_that_ends(change: dict, state: State, code: str) -> None:
    settlement = judged(replace(JOB, **change), State.CALLING)
    assert (settlement.state, settlement.code) == (state, code)
    assert settlement.held_nano == 500
    assert settlement.usage is not None
    assert settlement.usage.outcome == "unknown"
    assert b'"custom_id":"row-1"' in (settlement.result or b"")


def test_an_unstarted_job_given_up_costs_nothing() -> None:
    settlement = judged(replace(JOB, deaths=2), State.OWNED)
    assert (settlement.state, settlement.outcome, settlement.usage) == (State.FAILED, None, None)


async def test_an_outage_ends_a_round_and_never_the_loop() -> None:
    seen: list[str] = []

    def once(script: list[Exception | bool]) -> Callable[[], Awaitable[bool]]:
        async def step() -> bool:
            following = script.pop(0) if script else False
            seen.append(repr(following))
            if isinstance(following, Exception):
                raise following
            return following

        return step

    loop = asyncio.create_task(
        repeat("t", once([OSError("away"), TimeoutError(), True, False]), every_s=0.001)
    )
    await eventually(lambda: len(seen) >= 6)
    assert not loop.done()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    loop = asyncio.create_task(repeat("t", once([KeyError("a fault")]), every_s=0.001))
    with pytest.raises(KeyError):
        await loop
