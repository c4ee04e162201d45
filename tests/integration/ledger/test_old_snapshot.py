"""A report that keeps an old snapshot open for long makes neither limits and budgets dearer to draw on, nor the dead to find."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from tests.integration.ledger.world import World, ended, intent, report, world

from sluice_core.admission.model import BudgetDefinition, ScopeDefinition, ScopeKind
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.repository import JobRepository

CHANGES = 3_000
NAMES = [(ScopeKind.TENANT, "acme"), (ScopeKind.PROJECT, "acme/search")]


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def test_a_begin_and_a_settle_look_at_as_much_as_before(ledger: World) -> None:
    repository = AdmissionRepository(ledger.pool)
    budgets = [
        BudgetDefinition(
            kind=kind,
            name=name,
            per="day",
            zone="UTC",
            hard=True,
            cap_nano=10**9,
            thresholds=(100,),
        )
        for kind, name in NAMES
    ]
    await repository.define(
        [ScopeDefinition(kind=kind, name=name) for kind, name in NAMES], budgets
    )
    numbers = await repository.numbers(NAMES)
    scopes = tuple(numbers[name] for name in NAMES)
    found = await repository.budgets(scopes)
    drawn = tuple(budget for scope in scopes for budget, _ in found[scope])
    worker = await ledger.worker()
    await _blocks(ledger, worker, "first", scopes, drawn)
    before = await _blocks(ledger, worker, "before", scopes, drawn)
    async with ledger.pool.acquire() as side, side.transaction(isolation="repeatable_read"):
        await side.fetchval("select count(*) from sluice.lanes")
        await ledger.pool.execute(_CHANGES)
        # To the planner, who counts two live rows, walking all of the key looks as cheap as looking two up.
        await ledger.pool.execute("vacuum analyze sluice.scope_state, sluice.period_state")
        after = await _blocks(ledger, worker, "after", scopes, drawn)
    assert await ledger.count("sluice.scope_state") == len(NAMES)
    assert after <= before + 30  # pages that are full, and a level more of the keys


async def test_looking_for_what_the_dead_left_passes_no_job_that_has_ended(ledger: World) -> None:
    worker = await ledger.worker()
    for key in ("a", "b"):
        await ledger.calling(worker, key)
    async with ledger.pool.acquire() as side, side.transaction(isolation="repeatable_read"):
        await side.fetchval("select count(*) from sluice.lanes")
        await ledger.pool.execute(_JOBS, ledger.lane, worker.incarnation, CHANGES)
        await ledger.pool.execute(
            "update sluice.jobs set state = 10, owner = null where id >= 1000000"
        )
        for key in ("c", "d"):
            await ledger.calling(worker, key)
        await ledger.pool.execute("vacuum analyze sluice.jobs")
        async with ledger.pool.acquire() as connection, connection.transaction():
            before = await _fetched(connection, "jobs%")
            own = JobRepository(connection, worker.incarnation)  # type: ignore[arg-type]
            assert await own.reap_owned([], 10) == 0
            assert await own.abandoned([], [], 10) == []
            assert (
                await _fetched(connection, "jobs%") - before < 120
            )  # else twice that, and more with each job
    # Who left without a word is found as ever.
    await ledger.pool.execute("delete from sluice.workers")
    assert len(await worker.abandoned([], [], 10)) == 4


_JOBS = """
insert into sluice.jobs (id, uuid, owner, due_at, deadline, admitted_at, day, lane, bytes, state, max_attempts, retry_unknown, streams)
select 1000000 + g, gen_random_uuid(), $2, now() + interval '1 day', now() + interval '1 day', now(), current_date, $1, 500, 2, 5, false, false
  from generate_series(1, $3) g
"""
_CHANGES = f"""
do $$ begin
  for i in 1..{CHANGES} loop
    update sluice.scope_state t set version = t.version + 1 from sluice.scopes_now n where t.scope = n.id and t.era = n.era;
    update sluice.period_state t set version = t.version + 1 from sluice.budget_periods_now n where t.period = n.id and t.era = n.era;
    commit;
  end loop;
end $$
"""


async def _blocks(
    ledger: World, worker: JobRepository, key: str, scopes: tuple[int, ...], drawn: tuple[int, ...]
) -> int:
    """Pages of scopes and periods that one job's begin and settlement look at."""
    job = await ledger.admit(worker, ledger.entry(key))
    async with ledger.pool.acquire() as connection, connection.transaction():
        own = JobRepository(connection, worker.incarnation)  # type: ignore[arg-type]
        before = await _fetched(connection)
        (begun,) = await own.begin([replace(intent(job, 100), scopes=scopes, budgets=drawn)])
        assert begun.verdict is Begin.BEGUN
        told = report(Outcome.SUCCEEDED, worst_nano=100, cost=50)
        await own.settle([ended(replace(job, attempt=begun.attempt), State.SUCCEEDED, told)])
        return await _fetched(connection) - before


async def _fetched(connection: asyncpg.Connection, *names: str) -> int:
    blocks: int = await connection.fetchval(
        "select coalesce(sum(pg_stat_get_xact_blocks_fetched(c.oid)), 0)::bigint from pg_class c"
        " where c.relname like any ($1) and c.relkind in ('r', 'i')",
        names or ("scope%", "budget_period%", "period%"),
    )
    return blocks
