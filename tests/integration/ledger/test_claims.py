"""Claims in the ledger: bounds for each lane, turns between lanes, retries of those lanes alone, rows set aside."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.integration.keeper.keeper_world import Paper, expiry
from tests.integration.ledger.world import HEAD, World, again, report, world

from sluice_core.dispatch.repository import VirtualTimeRepository
from sluice_core.holds.model import Holds
from sluice_core.holds.repository import HoldRepository
from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.presence.repository import PresenceRepository
from sluice_keeper.expiry import end_of
from sluice_keeper.shelf import Shelf
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def lane_of(ledger: World, tenant: str, job_class: JobClass = JobClass.BULK) -> int:
    return await NameRepository(ledger.pool).ensure_lane(
        job_class, "default", tenant, "unallocated", "fast"
    )


async def park(
    ledger: World, jobs: JobRepository, lane: int, count: int, **options: object
) -> list[Job]:
    """Jobs parked in a lane, the last one due first."""
    parked = []
    for number in range(count):
        entry = ledger.entry(
            f"{lane}-{number}",
            state=State.PARKED,
            due_at=time.time() + 3_600 - number,
            **options,  # type: ignore[arg-type]
        )
        parked.append(await ledger.admit(jobs, replace(entry, lane=lane)))
    return parked


async def claim(
    jobs: JobRepository, *asks: tuple[int, int], limit: int = 1_000, max_bytes: int = 1 << 20
) -> list[Job]:
    cursors = [(lane, *HEAD, most) for lane, most in asks]
    return await jobs.claim(cursors, limit=limit, max_bytes=max_bytes)


async def test_each_lane_gives_at_most_what_it_is_asked_for_the_earliest_due_first(
    ledger: World,
) -> None:
    worker = await ledger.worker()
    other = await lane_of(ledger, "other")
    mine = await park(ledger, worker, ledger.lane, 5)
    theirs = await park(ledger, worker, other, 5)
    got = await claim(worker, (ledger.lane, 2), (other, 3))
    assert {job.row for job in got} == {job.row for job in (*mine[-2:], *theirs[-3:])}
    assert await worker.mine() == {job.row: (State.OWNED, 0) for job in got}


async def test_a_limit_is_shared_by_turns_and_one_row_always_comes(ledger: World) -> None:
    worker = await ledger.worker()
    lanes = [ledger.lane, *[await lane_of(ledger, f"t{n}") for n in range(3)]]
    for lane in lanes:
        await park(ledger, worker, lane, 4)
    got = await claim(worker, *((lane, 100) for lane in lanes), limit=8)
    assert Counter(job.lane for job in got) == dict.fromkeys(lanes, 2)
    (one,) = await claim(worker, *((lane, 100) for lane in lanes), max_bytes=1)
    assert one.lane == lanes[0]


async def test_due_retries_come_in_turns_with_fresh_rows_and_only_of_lanes_that_are_asked(
    ledger: World,
) -> None:
    worker = await ledger.worker()
    other = await lane_of(ledger, "other")
    for lane in (ledger.lane, other):
        await park(ledger, worker, lane, 3)
        for job in await claim(worker, (lane, 3)):
            begun = await ledger.begin(worker, job)
            failed = report(Outcome.FAILED, money="none")
            await worker.settle([again(begun, failed, run_at=time.time() - 1)])
    fresh = [
        await ledger.admit(worker, ledger.entry(f"fresh-{n}", state=State.PARKED)) for n in range(3)
    ]
    got = await claim(worker, (ledger.lane, 3), limit=4)
    assert {job.lane for job in got} == {ledger.lane}
    assert Counter(job.attempt for job in got) == {0: 2, 1: 2}
    assert {job.row for job in got if not job.attempt} <= {job.row for job in fresh}
    assert await ledger.count("sluice.jobs where state = 4 and lane = $1", other) == 3


async def test_lanes_with_rows_are_found_and_tenants_counted(ledger: World) -> None:
    worker, parked = await ledger.worker(), ParkedRepository(ledger.pool)
    other, third = await lane_of(ledger, "other"), await lane_of(ledger, "third")
    realtime = await lane_of(ledger, "other", JobClass.REALTIME)
    for lane, count in ((ledger.lane, 3), (other, 5), (realtime, 2)):
        await park(ledger, worker, lane, count)
    assert await parked.waiting_lanes() == {ledger.lane, other, realtime}
    counts = await parked.of_tenants(JobClass.BULK, {"other": 4, "acme": 100, "nobody": 9})
    assert counts == {"other": 4, "acme": 3, "nobody": 0}
    assert await parked.of_tenants(JobClass.BULK, {}) == {}
    await claim(worker, (ledger.lane, 9), (other, 9), (realtime, 9), (third, 9))
    assert await parked.waiting_lanes() == set()


async def test_identities_that_are_remembered(ledger: World) -> None:
    worker, parked = await ledger.worker(), ParkedRepository(ledger.pool)
    live = await ledger.admit(worker, ledger.entry("live"))
    ended = await ledger.admit(worker, ledger.entry("ended"))
    await worker.cancel([("acme", ended.id, None)])
    await worker.release([ended.row])
    await expiry(worker, Paper()).once()
    assert await ledger.state(ended) is State.CANCELLED
    await worker.archive(0, -1.0, 100)
    unknown = ledger.entry("never").id
    assert await parked.known([live.id, ended.id, unknown]) == {live.id, ended.id}


async def test_rows_of_a_held_run_stand_aside_until_it_goes_on(ledger: World) -> None:
    worker, parked = await ledger.worker(), ParkedRepository(ledger.pool)
    holds = HoldRepository(ledger.pool)
    runs = [await NameRepository(ledger.pool).ensure_run("acme", name) for name in ("a", "b")]
    mine = [
        await ledger.admit(worker, ledger.entry(f"{name}{n}", run=(run, name)))
        for run, name in zip(runs, "ab", strict=True)
        for n in range(3)
    ]
    assert await holds.hold("run", "a", "acme", actor="me")
    stranger = await ledger.worker()
    assert await parked.shelve(stranger.incarnation, [job.row for job in mine]) == 0
    assert await parked.shelve(worker.incarnation, [job.row for job in mine]) == 6
    assert await worker.mine() == {}
    assert await claim(worker, (ledger.lane, 100)) == []
    shelf = Shelf(parked)
    assert not await shelf.once()  # only the run that nobody holds
    assert {job.row for job in await claim(worker, (ledger.lane, 100))} == {
        job.row for job in mine[3:]
    }
    assert await holds.resume("run", "a", "acme", actor="me")
    await shelf.once()
    assert {job.row for job in await claim(worker, (ledger.lane, 100))} == {
        job.row for job in mine[:3]
    }


async def test_what_stands_aside_ends_at_its_time_and_can_be_cancelled(ledger: World) -> None:
    worker, parked = await ledger.worker(), ParkedRepository(ledger.pool)
    await HoldRepository(ledger.pool).hold("run", "a", "acme", actor="me")
    run = (await NameRepository(ledger.pool).ensure_run("acme", "a"), "a")
    now = time.time()
    waits = await ledger.admit(worker, ledger.entry("waits", run=run))
    late = await ledger.admit(worker, ledger.entry("late", run=run, deadline=now - 1))
    impatient = await ledger.admit(worker, ledger.entry("max-wait", run=run, due_at=now - 1))
    cancelled = await ledger.admit(worker, ledger.entry("cancelled", run=run))
    rows = [waits.row, late.row, impatient.row, cancelled.row]
    assert await parked.shelve(worker.incarnation, rows) == 4
    await worker.cancel([("acme", cancelled.id, None)])
    await expiry(worker, Paper()).once()
    assert await ledger.state(late) is State.EXPIRED
    assert await ledger.state(impatient) is State.REJECTED
    assert await ledger.state(cancelled) is State.CANCELLED
    assert await ledger.state(waits) is State.RETRY_WAIT


async def test_a_true_retry_is_never_taken_for_a_row_that_stands_aside(ledger: World) -> None:
    worker = await ledger.worker()
    run = (await NameRepository(ledger.pool).ensure_run("acme", "a"), "a")
    job = await ledger.calling(worker, "a", run=run)
    failed = report(Outcome.FAILED, money="none")
    await worker.settle([again(job, failed, run_at=time.time() + 600)])
    waits = await ledger.admit(worker, ledger.entry("b", run=run))
    assert await worker.defer([(waits.row, time.time() + 1e6, 1, 0)]) == 1  # until it is due
    assert await ParkedRepository(ledger.pool).unshelve(100) == 0
    assert await ledger.state(job) is await ledger.state(waits) is State.RETRY_WAIT


async def test_each_change_of_a_hold_is_audited_and_moves_the_version(ledger: World) -> None:
    holds, presence = HoldRepository(ledger.pool), PresenceRepository(ledger.pool)
    worker = await ledger.worker()

    async def version() -> int:
        return (await presence.beat(worker.incarnation)).config_version

    before = await version()
    assert await holds.hold("tenant", "acme", None, actor="me")
    assert not await holds.hold("tenant", "acme", None, actor="me")
    assert await version() == before + 1
    assert await holds.hold("run", "nightly", "acme", actor="me")
    assert await holds.hold("run", "nightly", "other", actor="you")
    assert await holds.current() == Holds(
        tenants=frozenset({"acme"}), runs=frozenset({("acme", "nightly"), ("other", "nightly")})
    )
    assert await holds.resume("run", "nightly", "other", actor="you")
    assert not await holds.resume("run", "nightly", "other", actor="you")
    assert [(h.kind, h.name, h.tenant, h.actor) for h in await holds.all()] == [
        ("run", "nightly", "acme", "me"),
        ("tenant", "acme", None, "me"),
    ]
    rows = await ledger.pool.fetch("select actor, action, subject from sluice.audit order by id")
    assert [tuple(row) for row in rows] == [
        ("me", "tenant.hold", "acme"),
        ("me", "run.hold", "acme/nightly"),
        ("you", "run.hold", "other/nightly"),
        ("you", "run.resume", "other/nightly"),
    ]
    assert await version() == before + 4


async def test_a_job_that_ends_in_a_waiting_lane_says_what_it_waited_for(ledger: World) -> None:
    worker, parked = await ledger.worker(), ParkedRepository(ledger.pool)
    other, third = await lane_of(ledger, "other"), await lane_of(ledger, "third")
    now = time.time()
    for lane in (ledger.lane, other, third):
        entry = ledger.entry(f"late-{lane}", state=State.PARKED, due_at=now - 1)
        await ledger.admit(worker, replace(entry, lane=lane))
    await parked.lanes_wait({ledger.lane: ("rate_limited", now + 60), other: ("budget_busy", now)})
    ending = {job.lane: job for job in await worker.claim_ending(10)}
    assert ending[ledger.lane].waits_for == "rate_limited"
    assert ending[other].waits_for is None  # that is over
    assert ending[third].waits_for is None
    ends = {lane: end_of(job, now=now)[1].code for lane, job in ending.items()}
    assert ends[ledger.lane] is ErrorCode.RATE_LIMITED
    assert ends[third] is ErrorCode.CONCURRENCY_EXCEEDED


async def test_virtual_times_of_those_that_the_ledger_knows(ledger: World) -> None:
    await ledger.pool.execute(
        "insert into sluice.scopes (kind, name) values (1, 'acme'), (3, 'acme/search'), (3, 'other/search')"
    )
    await ledger.pool.execute(
        "update sluice.scope_state t set virtual = n.virtual from sluice.scopes s join (values"
        " ('acme', '{1,2,3}'::float8[]), ('acme/search', '{4,5,6}'), ('other/search', '{7,8,9}')) n(name, virtual)"
        " using (name) where t.scope = s.id"
    )
    repository = VirtualTimeRepository(ledger.pool)
    found = await repository.virtual_times(
        [("acme", None), ("acme", "search"), ("nobody", None), ("other", None)]
    )
    r, s, b = JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK
    assert found == {
        ("acme", None): {r: 1.0, s: 2.0, b: 3.0},
        ("acme", "search"): {r: 4.0, s: 5.0, b: 6.0},
    }
    assert await repository.virtual_times([]) == {}
