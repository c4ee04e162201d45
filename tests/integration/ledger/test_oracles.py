"""Each deciding SQL function against its pure twin, over every state a row can be in."""

import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.ledger.world import World, again, elsewhere, ended, intent, report, world

from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Begin, Settle, begin, duplicate, settles
from sluice_core.jobs.repository import JobRepository

SLOW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def test_duplicates_exhaustively(ledger: World) -> None:
    for state, seen, same, rerun in itertools.product(State, *[(False, True)] * 3):
        decided = await ledger.pool.fetchval(
            "select sluice.duplicate_v1($1::smallint, $2, $3, $4)", state, seen, same, rerun
        )
        assert decided == duplicate(state, seen=seen, same_body=same, rerun=rerun), state


ROWS = st.fixed_dictionaries(
    {
        "state": st.sampled_from(State),
        "mine": st.booleans(),
        "cancel": st.booleans(),
        "overdue": st.booleans(),
        "attempt": st.integers(0, 3),
    }
)


async def arrange(ledger: World, worker: JobRepository, rows: list[dict]) -> list[Job]:
    """Jobs in exactly these states, whether or not a worker could bring them there."""
    jobs = []
    for row in rows:
        job = await ledger.admit(worker, ledger.entry(uuid4().hex))
        await ledger.pool.execute(
            "update sluice.jobs set state = $2, owner = $3, cancel = $4, attempt = $5,"
            " deadline = to_timestamp($6) where id = $1",
            job.row,
            row["state"],
            worker.incarnation if row["mine"] else 1,
            row["cancel"],
            row["attempt"],
            time.time() + (-60 if row["overdue"] else 60),
        )
        for number in range(1, row["attempt"] + 1):
            await ledger.pool.execute(
                "insert into sluice.attempts (job, day, attempt, worker, started_at, worst_nano, input_nano, account, provider_model)"
                " values ($1, $2, $3, $4, now(), 1, 1, 'mock', 'gpt')",
                job.row,
                job.day,
                number,
                worker.incarnation,
            )
        jobs.append(replace(job, attempt=row["attempt"]))
    return jobs


@SLOW
@given(rows=st.lists(ROWS, min_size=1, max_size=6))
async def test_begin(ledger: World, rows: list[dict]) -> None:
    worker = await ledger.worker()
    jobs = await arrange(ledger, worker, rows)
    verdicts = await worker.begin([intent(job) for job in reversed(jobs)])
    for row, job, begun_as in zip(rows, jobs, reversed(verdicts), strict=True):
        verdict, attempt = begun_as.verdict, begun_as.attempt
        expected = begin(
            row["state"],
            mine=row["mine"],
            cancel=row["cancel"],
            deadline=0.0 if row["overdue"] else 2.0,
            now=1.0,
        )
        assert verdict is expected
        now = await ledger.pool.fetchrow("select * from sluice.jobs where id = $1", job.row)
        begun = verdict is Begin.BEGUN
        assert now["state"] == (State.CALLING if begun else row["state"])
        assert now["attempt"] == row["attempt"] + begun
        if begun:
            assert attempt == now["attempt"]
        made = await ledger.count("sluice.attempts where job = $1", job.row)
        assert made == row["attempt"] + begun


OUTCOMES = st.sampled_from(["success", "retry", "elsewhere", "unknown", "no_call"])


@SLOW
@given(given_rows=st.lists(st.tuples(ROWS, OUTCOMES, st.integers(0, 3)), min_size=1, max_size=6))
async def test_settle(ledger: World, given_rows: list[tuple[dict, str, int]]) -> None:
    worker = await ledger.worker()
    jobs = await arrange(ledger, worker, [row for row, _, _ in given_rows])
    settlements = []
    for job, (_, kind, claimed) in zip(jobs, given_rows, strict=True):
        known = replace(job, attempt=claimed)
        settlements.append(
            {
                "success": lambda k=known: ended(k, State.SUCCEEDED, report(Outcome.SUCCEEDED)),
                "retry": lambda k=known: again(k, report(Outcome.FAILED, money="none")),
                "elsewhere": lambda k=known: elsewhere(k, report(Outcome.FAILED, money="none")),
                "unknown": lambda k=known: ended(
                    k, State.UNKNOWN, report(Outcome.UNKNOWN, money="unknown")
                ),
                "no_call": lambda k=known: ended(k, State.EXPIRED, None),
            }[kind]()
        )
    settled = await worker.settle(settlements)
    for (row, _, claimed), settlement, verdict in zip(
        given_rows, settlements, settled.verdicts, strict=True
    ):
        takes = settles(
            row["state"],
            mine=row["mine"],
            attempt=row["attempt"],
            claimed=claimed,
            outcome=settlement.outcome,
        )
        assert verdict is (Settle.SETTLED if takes else Settle.FENCED)
        state = await ledger.pool.fetchval(
            "select state from sluice.jobs where id = $1", settlement.row
        )
        assert state == (settlement.state if takes else row["state"])
        rows = await ledger.count("finance.usage where job_id = $1", settlement.id)
        assert rows == int(takes and settlement.usage is not None)
        late = await ledger.count("sluice.late_outcomes where job = $1", settlement.row)
        assert late == int(not takes)
