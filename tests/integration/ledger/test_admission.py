"""Limits and budgets in the database against their pure twins, over states and batches of any kind."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.ledger.world import World, ended, intent, report, world

from sluice_core.admission.model import (
    Ask,
    BudgetDefinition,
    Ended,
    Meter,
    PeriodState,
    Rate,
    ScopeDefinition,
    ScopeKind,
    ScopeState,
)
from sluice_core.admission.policy import admit, give_back
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Begin, Settle
from sluice_core.jobs.repository import JobRepository
from sluice_core.usage.model import Usage
from sluice_schemas.classes import JobClass

SLOW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
STEP_S = 100.0
"""Seconds a unit: so long that the time between the two clocks decides nothing."""
SLACK_S = 20.0


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


KINDS = [ScopeKind.TENANT, ScopeKind.PROJECT, ScopeKind.MODEL, ScopeKind.ACCOUNT, ScopeKind.TARGET]
RATES = st.builds(
    Rate,
    meter=st.sampled_from(Meter),
    limit=st.just(36.0),
    burst=st.sampled_from([1.0, 3.0, 40.0]),
    step_us=st.just(STEP_S * 1e6),
)
CALENDAR = st.builds(
    Rate,
    meter=st.sampled_from(Meter),
    limit=st.sampled_from([2.0, 20.0, 400.0]),
    burst=st.just(0.0),
    unit=st.sampled_from(["day", "week", "month"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland"]),
)
# Levels lie where no step, share or burst puts a threshold within the slack.
AHEAD = st.sampled_from([-5000.0, 37.0, 137.0, 437.0, 1637.0])
SCOPES = st.lists(
    st.fixed_dictionaries(
        {
            "rates": st.lists(st.one_of(RATES, CALENDAR), max_size=3),
            "ahead": st.lists(AHEAD, min_size=9, max_size=9),
            "count": st.integers(0, 25),
            "most": st.none() | st.integers(1, 6),
            "in_flight": st.integers(0, 5),
            "allowed": st.none() | st.sampled_from([1.0, 2.5, 7.0, 25.0]),
            "blocked": st.sampled_from([0.0, 0.0, 0.0, 900.0]),
            "weight": st.sampled_from([1.0, 2.0]),
        }
    ),
    min_size=5,
    max_size=5,
)
BUDGETS = st.lists(
    st.fixed_dictionaries(
        {
            "hard": st.booleans(),
            "cap": st.sampled_from([0, 900, 5_000]),
            "used": st.sampled_from([0, 450]),
            "reserved": st.sampled_from([0, 450]),
            "per": st.sampled_from(["day", "week", "month", "quarter", "total"]),
        }
    ),
    max_size=3,
)
ASKS = st.lists(
    st.fixed_dictionaries(
        {
            "job_class": st.integers(0, 2),
            "extra": st.sets(st.integers(2, 4)),
            "tokens": st.sampled_from([0, 1, 2, 20]),
            "bound": st.sampled_from([1, 2, 30, 50]),
            "worst": st.sampled_from([0, 100, 460, 1000]),
            "again": st.booleans(),
            "floors": st.tuples(st.sampled_from([0.0, 50.0]), st.sampled_from([0.0, 70.0])),
            "used": st.sampled_from([0, 1, 25]),
            "outcome": st.sampled_from([Outcome.SUCCEEDED, Outcome.FAILED, Outcome.UNKNOWN]),
        }
    ),
    min_size=1,
    max_size=6,
)


class Bench:
    """The rows of one example, and the twin's values of the same."""

    def __init__(self, ledger: World, mark: str) -> None:
        self.ledger = ledger
        self.mark = mark
        self.now = time.time()
        self.scopes: list[ScopeState] = []
        self.scope_ids: list[int] = []
        self.periods: list[PeriodState] = []
        self.budget_ids: list[int] = []

    async def lay(self, scopes: list[dict], budgets: list[dict]) -> None:
        repository = AdmissionRepository(self.ledger.pool)
        defined = [
            ScopeDefinition(
                kind=kind,
                name=f"{self.mark}/{kind.label}",
                weight=given["weight"],
                rates=tuple(given["rates"]),
                max_in_flight=given["most"],
            )
            for kind, given in zip(KINDS, scopes, strict=True)
        ]
        money = [
            BudgetDefinition(
                kind=KINDS[place],
                name=f"{self.mark}/{KINDS[place].label}",
                per=given["per"],
                zone="UTC",
                hard=given["hard"],
                cap_nano=given["cap"],
                thresholds=(50,),
            )
            for place, given in enumerate(budgets)
        ]
        assert await repository.define(defined, money)
        assert not await repository.define(defined, money)
        numbers = await repository.numbers([(d.kind, d.name) for d in defined])
        # Filling in the calendar periods' ends is the database's; the twin gets them from there.
        for definition, drawn in zip(defined, scopes, strict=True):
            number = numbers[definition.kind, definition.name]
            levels, ends = [], []
            for place, rate in enumerate(definition.rates):
                if rate.unit is None:
                    levels += [
                        (self.now + a) * 1e6 for a in drawn["ahead"][place * 3 : place * 3 + 3]
                    ]
                    ends.append(0.0)
                else:
                    levels += [float(drawn["count"]), 0.0, 0.0]
                    ends.append(
                        await self.ledger.pool.fetchval(
                            "select extract(epoch from sluice.period_end_v1($1, $2, now()))::float8",
                            rate.unit,
                            rate.zone,
                        )
                        * 1e6
                    )
            state = ScopeState(
                definition=definition,
                levels=levels,
                ends=ends,
                in_flight=drawn["in_flight"],
                allowed=drawn["allowed"],
                blocked_until=self.now + drawn["blocked"] if drawn["blocked"] else 0.0,
                virtual=[10.0, 60.0, 0.0],
            )
            await self.ledger.pool.execute(
                "update sluice.scope_state set levels = $2, ends = $3, in_flight = $4, allowed = $5,"
                " blocked_until = to_timestamp(nullif($6::float8, 0)), virtual = $7 where scope = $1",
                number,
                levels,
                ends,
                state.in_flight,
                state.allowed,
                state.blocked_until,
                state.virtual,
            )
            self.scopes.append(state)
            self.scope_ids.append(number)
        for place, drawn in enumerate(budgets):
            ((budget, hard),) = (await repository.budgets(self.scope_ids))[self.scope_ids[place]]
            assert hard == drawn["hard"]
            await self.ledger.pool.execute(
                "insert into sluice.budget_periods (budget, starts_at, ends_at)"
                " select $1, sluice.period_start_v1(per, zone, now()), sluice.period_end_v1(per, zone, now())"
                " from sluice.budgets where id = $1",
                budget,
            )
            await self.ledger.pool.execute(
                "update sluice.period_state t set spent_nano = $2, held_nano = $3, reserved_nano = $4"
                " from sluice.budget_periods p where p.budget = $1 and t.period = p.id",
                budget,
                drawn["used"] // 3,
                drawn["used"] - drawn["used"] // 3,
                drawn["reserved"],
            )
            ends = await self.ledger.pool.fetchval(
                "select case when isfinite(ends_at) then extract(epoch from ends_at)::float8 else 'infinity' end"
                " from sluice.budget_periods where budget = $1",
                budget,
            )
            self.budget_ids.append(budget)
            self.periods.append(
                PeriodState(
                    hard=hard,
                    cap_nano=drawn["cap"],
                    used_nano=drawn["used"],
                    reserved_nano=drawn["reserved"],
                    ends=ends,
                )
            )

    async def compare(self) -> None:
        for number, state in zip(self.scope_ids, self.scopes, strict=True):
            row = await self.ledger.pool.fetchrow(
                "select *, coalesce(extract(epoch from blocked_until), 0)::float8 as blocked"
                " from sluice.scopes_now where id = $1",
                number,
            )
            assert row["in_flight"] == state.in_flight
            assert row["virtual"] == pytest.approx(state.virtual)
            assert row["allowed"] == pytest.approx(state.allowed)
            assert row["blocked"] == pytest.approx(state.blocked_until, abs=0.001)
            for place, rate in enumerate(state.definition.rates):
                mine, theirs = (
                    levels[place * 3 : place * 3 + 3] for levels in (state.levels, row["levels"])
                )
                if rate.unit is not None:
                    assert theirs[0] == mine[0]
                else:
                    assert theirs == pytest.approx(mine, abs=SLACK_S * 1e6)
        for budget, period in zip(self.budget_ids, self.periods, strict=True):
            row = await self.ledger.pool.fetchrow(
                "select * from sluice.budget_periods_now where budget = $1", budget
            )
            assert row["reserved_nano"] == period.reserved_nano
            assert row["spent_nano"] + row["held_nano"] == period.used_nano


def as_ask(given: dict, periods: int) -> Ask:
    return Ask(
        job_class=given["job_class"],
        scopes=(0, 1, *sorted(given["extra"])),
        periods=tuple(range(periods)),
        tokens=given["tokens"],
        bound=given["bound"],
        worst_nano=given["worst"],
        first=not given["again"],
        floors=given["floors"],
    )


async def owned(ledger: World, worker: JobRepository, *, again: bool) -> Job:
    job = await ledger.admit(worker, ledger.entry(uuid4().hex))
    if again:  # an attempt of this execution is behind it
        await ledger.pool.execute("update sluice.jobs set attempt = 1 where id = $1", job.row)
        job = replace(job, attempt=1)
    return job


@SLOW
@given(scopes=SCOPES, budgets=BUDGETS, given_asks=ASKS)
async def test_a_batch_is_answered_and_given_back_as_the_twin_says(
    ledger: World, scopes: list[dict], budgets: list[dict], given_asks: list[dict]
) -> None:
    bench = Bench(ledger, uuid4().hex)
    await bench.lay(scopes, budgets)
    worker = await ledger.worker()
    asks = [as_ask(given, len(budgets)) for given in given_asks]
    jobs = [await owned(ledger, worker, again=not ask.first) for ask in asks]
    began = await worker.begin(
        [
            replace(
                intent(job, ask.worst_nano),
                job_class=JobClass(ask.job_class),
                tokens=ask.tokens,
                bound=ask.bound,
                scopes=tuple(bench.scope_ids[place] for place in ask.scopes),
                budgets=tuple(bench.budget_ids),
                tenant_floor=ask.floors[0],
                project_floor=ask.floors[1],
            )
            for job, ask in zip(jobs, asks, strict=True)
        ]
    )
    replies = admit(asks, bench.scopes, bench.periods, now=time.time())
    for begun, reply in zip(began, replies, strict=True):
        assert begun.verdict is reply.answer
        if reply.answer is Begin.BEGUN:
            continue
        assert reply.cause is not None
        cause = (
            bench.scope_ids[reply.cause]
            if reply.cause >= 0
            else -bench.budget_ids[-1 - reply.cause]
        )
        assert begun.cause == cause
        if reply.answer is not Begin.TOO_LARGE:
            assert begun.until == pytest.approx(reply.until, abs=SLACK_S)
    await bench.compare()

    settlements, over = [], []
    for job, ask, drawn, begun in zip(jobs, asks, given_asks, began, strict=True):
        if begun.verdict is not Begin.BEGUN:
            assert await ledger.state(job) is State.OWNED
            continue
        outcome = drawn["outcome"]
        unknown, failed = outcome is Outcome.UNKNOWN, outcome is Outcome.FAILED
        told = replace(
            report(
                outcome,
                money="unknown" if unknown else "none" if failed else "estimated",
                worst_nano=ask.worst_nano,
                cost=ask.worst_nano // 2,
            ),
            usage=Usage(input_tokens=drawn["used"]),
        )
        end = State.UNKNOWN if unknown else State.FAILED if failed else State.SUCCEEDED
        pressure = 0.7 if failed else 1.0
        settlements.append(
            replace(
                ended(replace(job, attempt=begun.attempt), end, told),
                pressure=pressure,
                cool_until=bench.now + 900 if failed else None,
            )
        )
        over.append(
            Ended(
                job_class=ask.job_class,
                scopes=ask.scopes,
                periods=ask.periods,
                tokens=ask.tokens,
                bound=ask.bound,
                used=0 if unknown or failed else drawn["used"],
                worst_nano=ask.worst_nano,
                held_nano=ask.worst_nano if unknown else 0,
                cost_nano=0 if unknown or failed else ask.worst_nano // 2,
                pressure=pressure,
                cool_until=bench.now + 900 if failed else None,
            )
        )
    if not settlements:
        return
    begun_first = next(j for j, b in zip(jobs, began, strict=True) if b.verdict is Begin.BEGUN)
    twice = ended(replace(begun_first, attempt=settlements[0].attempt), State.SUCCEEDED, told)
    settled = await worker.settle([*settlements, twice])
    assert settled.verdicts[:-1] == [Settle.SETTLED] * len(settlements)
    assert settled.verdicts[-1] is Settle.FENCED
    give_back(over, bench.scopes, bench.periods, now=time.time())
    await bench.compare()
    assert set((await worker.settle(settlements)).verdicts) == {Settle.MINE_BEFORE}
    await bench.compare()
