"""The claimer's cursors: forward while there is more, back to the head in the end, and again for what lies behind."""

import time
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.worker.worker_world import MemoryLedger, MemoryNames, MemoryParked, job, running
from tests.waiting import eventually

from sluice_core.jobs.model import Job, Lane
from sluice_schemas.classes import JobClass
from sluice_worker import claim
from sluice_worker.claim import Claimer
from sluice_worker.dispatch import Dispatcher
from sluice_worker.flight import Flight
from sluice_worker.holdings import Holdings

HEAD = (0.0, 0)


def lane(number: int, job_class: JobClass = JobClass.STANDARD, pool: str = "default") -> Lane:
    return Lane(
        id=number, job_class=job_class, pool=pool, tenant="acme", project="p", model=f"m{number}"
    )


class Counter:
    """A claimer with a dispatcher of a few slots that nothing ever leaves by itself."""

    def __init__(self, *lanes: Lane, slots: int = 4) -> None:
        self.ledger = MemoryLedger()
        self.started: list[Flight] = []
        self.usable = True
        self.holdings = Holdings()
        self.dispatcher = Dispatcher(
            slots=slots, start=self.started.append, expire=self.started.append
        )
        self.claimer = Claimer(
            self.ledger,  # type: ignore[arg-type]
            MemoryNames(list(lanes)),  # type: ignore[arg-type]
            MemoryParked(self.ledger),  # type: ignore[arg-type]
            self.dispatcher,
            self.holdings,
            pool="default",
            classes=tuple(JobClass),
            usable=lambda: self.usable,
        )

    def park(self, *jobs: Job) -> None:
        for parked in jobs:
            self.ledger.parked[parked.row] = parked

    def finish(self, count: int) -> None:
        for done in self.started[:count]:
            self.holdings.remove(done)
            self.dispatcher.finished(done)
        del self.started[:count]


def parked(number: int, due_in: float, **given: object) -> Job:
    return replace(job(lane=number), due_at=time.time() + due_in, **given)


async def test_a_cursor_moves_past_what_it_gave_and_the_backlog_is_known() -> None:
    counter = Counter(lane(1))
    rows = [parked(1, 100 + place) for place in range(40)]
    counter.park(*rows)
    async with running(counter.claimer.run()):
        await eventually(lambda: len(counter.started) == 4)
        await eventually(lambda: counter.dispatcher.room(JobClass.STANDARD) == 0)
        assert counter.claimer.has_backlog(1)
        assert counter.ledger.claims[0] == [(1, *HEAD, 4)]
        counter.finish(4)
        await eventually(lambda: len(counter.started) == 4)
    assert counter.ledger.claims[1][0][:3] == (1, rows[3].due_at, rows[3].row)
    taken = [claimed.job.row for claimed in counter.holdings]
    assert not set(taken) & set(counter.ledger.parked)


async def test_an_exhausted_lane_rewinds_and_gives_what_comes_later() -> None:
    counter = Counter(lane(1), slots=10)
    first = parked(1, 500)
    counter.park(first)
    async with running(counter.claimer.run()):
        await eventually(lambda: [f.job for f in counter.started] == [first])
        assert not counter.claimer.has_backlog(1)
        earlier = parked(1, 50)
        counter.park(earlier)
        counter.claimer.parked(1, JobClass.STANDARD)
        assert counter.claimer.has_backlog(1)
        await eventually(lambda: len(counter.started) == 2)
    assert counter.started[1].job is earlier


async def test_a_row_parked_behind_the_cursor_is_found_though_the_flood_goes_on() -> None:
    counter = Counter(lane(1))
    counter.park(*(parked(1, 1_000 + place) for place in range(5_000)))
    behind = parked(1, 30)
    async with running(counter.claimer.run()):
        await eventually(lambda: len(counter.started) == 4)
        counter.park(behind)

        def found() -> bool:
            held = behind.row in counter.holdings
            counter.finish(1)
            return held

        await eventually(found, within_s=claim.REWIND_S + 5.0)
    assert len(counter.ledger.parked) > 1_000


async def test_only_lanes_of_its_pool_and_only_while_it_may() -> None:
    counter = Counter(lane(1), lane(2, pool="other"), lane(3))
    mine, others, third = parked(1, 100), parked(2, 100), parked(3, 100)
    counter.park(mine, others, third)
    counter.usable = False
    async with running(counter.claimer.run()):
        counter.claimer.parked(1, JobClass.STANDARD)
        await eventually(lambda: counter.claimer.has_backlog(1))
        assert counter.ledger.claims == []
        counter.usable = True
        await eventually(lambda: len(counter.started) == 2)
    assert set(counter.ledger.parked) == {others.row}


async def test_no_memory_no_claims() -> None:
    counter = Counter(lane(1))
    counter.park(parked(1, 100))
    counter.holdings.bytes = claim.MAX_HELD_BYTES
    async with running(counter.claimer.run()):
        counter.claimer.parked(1, JobClass.STANDARD)
        counter.holdings.bytes = 0
        await eventually(lambda: len(counter.started) == 1)
    assert counter.holdings.bytes == len(counter.started[0].job.body)


async def test_a_database_that_fails_is_asked_again() -> None:
    counter = Counter(lane(1))
    counter.park(parked(1, 100))
    failures = [ConnectionResetError()]

    def fail(name: str, _batch: object) -> None:
        if name == "claim" and failures:
            raise failures.pop()

    counter.ledger.before = fail
    async with running(counter.claimer.run()):
        await eventually(lambda: len(counter.started) == 1)
    assert not failures


@pytest.mark.parametrize("attempts", [1, 3])
async def test_a_retry_does_not_move_the_cursor(attempts: int) -> None:
    counter = Counter(lane(1), slots=1)
    counter.park(replace(parked(1, 900), attempt=attempts))
    async with running(counter.claimer.run()):
        await eventually(lambda: len(counter.started) == 1)
        fresh = parked(1, 10)
        counter.park(fresh)
        counter.finish(1)
        await eventually(lambda: counter.started and counter.started[0].job is fresh)
    assert {cursor[:3] for asked in counter.ledger.claims for cursor in asked} <= {
        (1, *HEAD),
        (1, fresh.due_at, fresh.row),
    }


async def test_rows_that_come_while_a_claim_is_under_way_leave_the_lane_waiting() -> None:
    """Else its tenant would count as idle until the next look, and be lifted to those that wait when it returns."""
    counter = Counter(lane(1), slots=10)
    counter.park(parked(1, 100))
    claimer, claimed = counter.claimer, counter.ledger.claim

    async def slow(*asked: Any, **bounds: Any) -> list[Job]:
        found = await claimed(*asked, **bounds)
        counter.park(*(parked(1, 200 + place) for place in range(100)))
        claimer.parked(1, JobClass.STANDARD)
        return found

    counter.ledger.claim = slow  # type: ignore[method-assign]
    await claimer._round()
    turn = counter.dispatcher.times.tenant(JobClass.STANDARD, "acme")
    assert turn.present
    assert claimer.has_backlog(1)
    assert len(counter.started) == 1
    await claimer._round()
    assert len(counter.started) == 10


async def test_a_slow_claim_lets_an_empty_lane_rest_for_a_short_time_only() -> None:
    counter = Counter(lane(1))
    await counter.claimer._round()
    cursor = counter.claimer._lanes.cursors[JobClass.STANDARD][1]
    ask = claim._Ask(cursor, 8, cursor.news)
    counter.claimer._advance([ask], [], 3.0, cut_short=False)
    assert cursor.exhausted_until - time.monotonic() <= claim.MOST_REST_S
