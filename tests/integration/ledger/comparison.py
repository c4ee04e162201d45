"""Holds a ledger against its model: jobs, answers and money, row by row."""

from collections import Counter
from uuid import UUID

from tests.integration.ledger.model import Model
from tests.integration.ledger.world import World

from sluice_core.jobs.model import State


async def compare(world: World, model: Model, ce_ids: dict[int, UUID]) -> None:
    """Hold the ledger against the model; `ce_ids` remembers each result's id over calls."""
    rows = list(model.executions)
    ids = list(model.current)
    await _compare_executions(world, model, ids)
    await _compare_answers(world, model, rows, ce_ids)
    await _compare_money(world, model, ids, rows)


async def _compare_executions(world: World, model: Model, ids: list[UUID]) -> None:
    found = await world.pool.fetch(
        "select id, uuid, execution, state, owner, attempt, deaths, cancel, false as archived"
        "  from sluice.jobs where lane = $2"
        " union all select id, uuid, execution, state, owner, attempt, deaths, cancel, true"
        "  from sluice.jobs_past where uuid = any($1)",
        ids,
        world.lane,
    )
    expected = {
        (e.row, e.id, e.number, e.state, e.owner, e.attempt, e.deaths, e.cancel, e.archived)
        for e in model.executions.values()
    }
    assert Counter(tuple(row) for row in found) == Counter(expected)
    live = Counter(row["uuid"] for row in found if row["state"] < State.SUCCEEDED)
    assert not live or max(live.values()) == 1


async def _compare_answers(
    world: World, model: Model, rows: list[int], ce_ids: dict[int, UUID]
) -> None:
    responses = await world.pool.fetch(
        "select job, ce_id from sluice.responses where job = any($1)", rows
    )
    over = [e for e in model.executions.values() if e.state.terminal]
    assert sorted(row["job"] for row in responses) == sorted(e.row for e in over)
    for row in responses:
        assert ce_ids.setdefault(row["job"], row["ce_id"]) == row["ce_id"]
    due = await world.pool.fetch(
        "select kind, job, record from sluice.outbox where job = any($1) and kind in (1, 2)",
        rows,
    )
    assert sorted(row["job"] for row in due if row["kind"] == 1) == sorted(e.row for e in over)
    answered = Counter((row["job"], row["record"]) for row in due if row["kind"] == 2)
    assert answered == Counter(
        {(e.row, record): n for e in over for record, n in e.answered.items()}
    )


async def _compare_money(world: World, model: Model, ids: list[UUID], rows: list[int]) -> None:
    attempts = await world.pool.fetch(
        "select job, attempt, outcome from sluice.attempts where job = any($1)", rows
    )
    assert {(row["job"], row["attempt"]): row["outcome"] for row in attempts} == {
        (e.row, number): outcome
        for e in model.executions.values()
        for number, outcome in e.attempts.items()
    }
    usage = await world.pool.fetch(
        "select job_id, attempt, charge_class from finance.usage where job_id = any($1)", ids
    )
    charged = [(r["job_id"], r["attempt"]) for r in usage if r["charge_class"] is None]
    assert sorted(charged) == sorted(model.usage)
    corrected = [(r["job_id"], r["attempt"]) for r in usage if r["charge_class"] is not None]
    assert sorted(corrected) == sorted(model.corrected)
    unresolved = await world.pool.fetch(
        "select job, attempt from sluice.unresolved where job = any($1)", rows
    )
    assert sorted(map(tuple, unresolved)) == sorted(model.unresolved)
    late = await world.pool.fetch(
        "select job, count(*) as n from sluice.late_outcomes where job = any($1) group by 1",
        rows,
    )
    assert {row["job"]: row["n"] for row in late} == dict(model.late)
