"""An attempt beside one that is under way: the job's fate is the newer one's, and both are settled, once each."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.integration.ledger.world import World, ended, intent, reading, report, world

from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Begin, Settle, begin
from sluice_core.jobs.repository import JobRepository


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def raced(ledger: World, jobs: JobRepository) -> tuple[Job, Job]:
    """A job as its first attempt knows it, and as its second."""
    first = await ledger.calling(jobs, "a")
    (begun,) = await jobs.begin([replace(intent(first), hedge=True)])
    assert (begun.verdict, begun.attempt) == (Begin.BEGUN, 2)
    return first, replace(first, attempt=2)


async def outcomes(ledger: World) -> list[tuple[int, int | None]]:
    rows = await ledger.pool.fetch("select attempt, outcome from sluice.attempts order by attempt")
    return [(row["attempt"], row["outcome"]) for row in rows]


@pytest.mark.parametrize("state", [State.OWNED, State.CALLING, State.SUCCEEDED])
@pytest.mark.parametrize("mine", [True, False])
@pytest.mark.parametrize("hedge", [True, False])
async def test_it_begins_where_the_decision_says(
    ledger: World, state: State, mine: bool, hedge: bool
) -> None:
    jobs, other = await ledger.worker(), await ledger.worker()
    job = await ledger.admit(jobs, ledger.entry("a"))
    if state is not State.OWNED:
        job = await ledger.begin(jobs, job)
    if state is State.SUCCEEDED:
        await jobs.settle([ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    who = jobs if mine else other
    (begun,) = await who.begin([replace(intent(job), hedge=hedge)])
    held = mine and state is not State.SUCCEEDED
    expected = begin(
        state, mine=held, cancel=False, deadline=job.deadline, now=time.time(), hedge=hedge
    )
    assert begun.verdict is expected
    beside = hedge and expected is Begin.BEGUN
    assert await ledger.count("sluice.reading_on") == int(beside)


async def test_the_second_is_the_jobs_own_and_the_first_is_read_on(ledger: World) -> None:
    jobs = await ledger.worker()
    first, second = await raced(ledger, jobs)
    settled = await jobs.settle([ended(first, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    assert settled.verdicts == [Settle.FENCED]
    settled = await jobs.settle([ended(second, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    assert settled.verdicts == [Settle.SETTLED]
    settled = await jobs.settle([reading(first, report(Outcome.CANCELLED))])
    assert settled.verdicts == [Settle.SETTLED]
    assert await outcomes(ledger) == [(1, Outcome.CANCELLED), (2, Outcome.SUCCEEDED)]
    assert await ledger.count("finance.usage") == 2
    assert await ledger.count("sluice.reading_on") == 0


async def test_the_first_may_be_the_answer_while_the_second_is_read_on(ledger: World) -> None:
    jobs = await ledger.worker()
    first, second = await raced(ledger, jobs)
    early = ended(second, State.SUCCEEDED, report(Outcome.READ_ON), read_on=True)
    assert (await jobs.settle([early])).verdicts == [Settle.SETTLED]
    for job, outcome in ((first, Outcome.SUCCEEDED), (second, Outcome.CANCELLED)):
        done = reading(job, report(outcome))
        assert (await jobs.settle([done])).verdicts == [Settle.SETTLED]
        # Once more is known, and books nothing.
        assert (await jobs.settle([done])).verdicts == [Settle.MINE_BEFORE]
    assert await outcomes(ledger) == [(1, Outcome.SUCCEEDED), (2, Outcome.CANCELLED)]
    assert await ledger.count("finance.usage") == 2


async def test_a_third_one_does_not_begin_beside_two_that_are_known(ledger: World) -> None:
    jobs = await ledger.worker()
    _, second = await raced(ledger, jobs)
    await jobs.settle([ended(second, State.FAILED, report(Outcome.FAILED))])
    (begun,) = await jobs.begin([replace(intent(second), hedge=True)])
    assert begun.verdict is Begin.LOST
