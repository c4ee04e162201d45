"""What becomes of the jobs of a worker that died, at every state and option."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.integration.keeper.keeper_world import ToldWatch, reaper
from tests.integration.ledger.world import HEAD, World, again, ended, report, world

from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Settle


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def reap(ledger: World, *dead: int) -> None:
    keeper = await ledger.worker(kind="keeper")
    await reaper(ledger, keeper, ToldWatch(list(dead))).once()


async def test_unstarted_jobs_of_the_silent_go_back_and_others_stay(ledger: World) -> None:
    dead, alive = await ledger.worker(), await ledger.worker()
    theirs = await ledger.admit(dead, ledger.entry("a"))
    mine = await ledger.admit(alive, ledger.entry("b"))
    await reap(ledger, dead.incarnation)
    assert await ledger.state(theirs) is State.PARKED
    assert await ledger.state(mine) is State.OWNED
    (again_held,) = await alive.claim([(ledger.lane, *HEAD, 9)], limit=9, max_bytes=9999)
    assert (again_held.row, again_held.deaths) == (theirs.row, 1)


async def test_an_owner_that_is_not_registered_is_dead_without_being_watched(ledger: World) -> None:
    gone = await ledger.worker(register=False)
    owned = await ledger.admit(gone, ledger.entry("a"))
    called = await ledger.calling(gone, "b")
    await reap(ledger)
    assert await ledger.state(owned) is State.PARKED
    assert await ledger.state(called) is State.UNKNOWN


async def test_a_worker_that_registered_after_the_reading_keeps_its_jobs(ledger: World) -> None:
    keeper = await ledger.worker(kind="keeper")
    task = reaper(ledger, keeper, ToldWatch())
    late = await ledger.worker()
    job = await ledger.calling(late, "a")
    await task.once()
    assert await ledger.state(job) is State.CALLING


async def test_a_call_whose_worker_died_is_unknown_and_holds_its_worst_case(ledger: World) -> None:
    dead = await ledger.worker()
    job = await ledger.calling(dead, "a")
    await reap(ledger, dead.incarnation)
    assert await ledger.state(job) is State.UNKNOWN
    held = await ledger.pool.fetchrow("select * from sluice.unresolved")
    row = await ledger.pool.fetchrow("select * from finance.usage")
    assert (held["usage_id"], held["held_nano"], held["job"]) == (row["usage_id"], 9_000, job.row)
    assert held["input_nano"] == 3_000
    assert (row["outcome"], row["cost_usd"], row["usage_source"]) == ("unknown", 0, "estimated")
    assert (row["provider"], row["account"], row["attempt"]) == ("openai", "mock", 1)
    kinds = await ledger.pool.fetch("select kind, owner from sluice.outbox order by kind")
    assert [(r["kind"], r["owner"]) for r in kinds] == [
        (1, dead.incarnation),
        (3, dead.incarnation),
    ]


async def test_the_dead_ones_late_settlement_is_fenced_and_kept(ledger: World) -> None:
    dead = await ledger.worker()
    job = await ledger.calling(dead, "a")
    await reap(ledger, dead.incarnation)
    late = await dead.settle([ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    assert late.verdicts == [Settle.FENCED]
    assert await ledger.state(job) is State.UNKNOWN
    evidence = await ledger.pool.fetchrow("select * from sluice.late_outcomes")
    assert (evidence["worker"], evidence["job"], evidence["cost_nano"]) == (
        dead.incarnation,
        job.row,
        1_500,
    )


async def test_retry_unknown_calls_again_and_keeps_the_first_attempts_money(ledger: World) -> None:
    dead = await ledger.worker()
    job = await ledger.calling(dead, "a", retry_unknown=True)
    before = time.time()
    await reap(ledger, dead.incarnation)
    row = await ledger.pool.fetchrow("select * from sluice.jobs where id = $1", job.row)
    assert (row["state"], row["deaths"], row["attempt"]) == (State.RETRY_WAIT, 1, 1)
    assert before - 0.001 <= row["run_at"].timestamp() <= time.time() + 2.0
    assert await ledger.count("sluice.unresolved") == 1
    assert await ledger.count("sluice.responses") == 0


@pytest.mark.parametrize(
    "options",
    [{"streams": True}, {"max_attempts": 1}, {"deadline": "soon"}],
    ids=["streams", "no attempt left", "no time left"],
)
async def test_what_may_not_be_called_again_is_unknown(ledger: World, options: dict) -> None:
    dead = await ledger.worker()
    if "deadline" in options:
        options = {"deadline": time.time() + 0.3}
    job = await ledger.calling(dead, "a", retry_unknown=True, **options)
    while "deadline" in options and time.time() < options["deadline"]:
        await asyncio.sleep(0.02)
    await reap(ledger, dead.incarnation)
    assert await ledger.state(job) is State.UNKNOWN


@pytest.mark.parametrize("calling", [False, True])
async def test_the_third_death_gives_a_job_up(ledger: World, calling: bool) -> None:
    job = None
    for death in range(3):
        worker = await ledger.worker()
        if job is None:
            job = await ledger.admit(worker, ledger.entry("a", retry_unknown=True))
        else:
            await ledger.pool.execute("update sluice.jobs set run_at = now() where state = 4")
            (job,) = await worker.claim([(ledger.lane, *HEAD, 1)], limit=1, max_bytes=9999)
        assert job.deaths == death
        if calling:
            await ledger.begin(worker, job)
        await reap(ledger, worker.incarnation)
    assert job is not None
    assert await ledger.state(job) is State.FAILED
    assert await ledger.count("sluice.unresolved") == (3 if calling else 0)
    result = await ledger.pool.fetchval("select convert_from(result, 'UTF8') from sluice.responses")
    assert '"internal"' in result


async def test_an_attempt_that_was_read_on_ends_with_unknown_money(ledger: World) -> None:
    dead = await ledger.worker()
    job = await ledger.calling(dead, "a")
    answered = ended(job, State.CANCELLED, report(Outcome.CANCELLED, money="unknown"), read_on=True)
    assert (await dead.settle([answered])).verdicts == [Settle.SETTLED]
    await dead.archive(0, 0.0, 10)
    await reap(ledger, dead.incarnation)
    assert await ledger.count("sluice.reading_on") == 0
    assert await ledger.state(job) is State.CANCELLED
    row = await ledger.pool.fetchrow("select * from finance.usage")
    assert (row["outcome"], row["job_id"], row["attempt"]) == ("unknown", job.id, 1)
    assert await ledger.pool.fetchval("select held_nano from sluice.unresolved") == 9_000


async def test_two_keepers_settle_each_job_once(ledger: World) -> None:
    dead = await ledger.worker()
    for number in range(20):
        await ledger.calling(dead, f"k{number}")
        await ledger.admit(dead, ledger.entry(f"o{number}"))
    await asyncio.gather(*(reap(ledger, dead.incarnation) for _ in range(3)))
    assert await ledger.count("sluice.jobs where state = 15") == 20
    assert await ledger.count("sluice.jobs where state = 1 and deaths = 1") == 20
    assert await ledger.count("finance.usage") == 20
    assert await ledger.count("sluice.responses") == 20
    assert await ledger.count("sluice.late_outcomes") == 0


async def test_the_dead_are_buried_when_nothing_is_left_of_them(ledger: World) -> None:
    dead = await ledger.worker()
    job = await ledger.calling(dead, "a")
    await ledger.pool.execute("update sluice.workers set beat_at = now() - interval '1 hour'")
    await reap(ledger, dead.incarnation)
    assert await ledger.state(job) is State.UNKNOWN
    registered = "sluice.workers where incarnation = $1"
    assert await ledger.count(registered, dead.incarnation) == 1, "its events are not out yet"
    await ledger.pool.execute("delete from sluice.outbox")
    await reap(ledger, dead.incarnation)
    assert await ledger.count(registered, dead.incarnation) == 0


async def test_a_retry_of_the_living_is_left_alone(ledger: World) -> None:
    alive = await ledger.worker()
    job = await ledger.calling(alive, "a")
    await alive.settle([again(job, report(Outcome.FAILED, money="none"))])
    await reap(ledger)
    assert await ledger.state(job) is State.RETRY_WAIT
    assert await ledger.count("finance.usage") == 0
