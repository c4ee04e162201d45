"""A database function that breaks a promise about money or limits is found: by its twin, or by the replay of its log."""

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest
from tests.integration.ledger.world import World, ended, intent, report, world
from tests.limits.measure import most_in_a_window, starts
from tests.money.replay import Replay, replay

from sluice_core.admission.model import (
    BudgetDefinition,
    Meter,
    Rate,
    ScopeDefinition,
    ScopeKind,
)
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.repository import JobRepository
from sluice_schemas.classes import JobClass

CAP = 5_000
SLOTS = 3
LIMIT, BURST = 60, 2


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    connection = await asyncpg.connect(database)
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database \"{name}\" set sluice.decision_log = 'on'")
    await connection.close()
    async with world(database) as opened:
        yield opened


class Shop:
    """A tenant with a hard budget, a rate and a bound on calls at once; workers that call for it, a batch at a time."""

    def __init__(self, ledger: World) -> None:
        self.ledger = ledger
        self.worst_at_once = 0
        self._open: list[tuple[JobRepository, Job, int]] = []

    async def open(self) -> None:
        repository = AdmissionRepository(self.ledger.pool)
        tenant = ScopeDefinition(
            kind=ScopeKind.TENANT,
            name="shop",
            rates=(Rate(meter=Meter.REQUESTS, limit=LIMIT, burst=BURST, step_us=1e6),),
        )
        project = ScopeDefinition(kind=ScopeKind.PROJECT, name="shop/p", max_in_flight=SLOTS)
        budgets = [
            BudgetDefinition(
                kind=kind,
                name=name,
                per="total",
                zone="UTC",
                hard=True,
                cap_nano=cap,
                thresholds=(100,),
            )
            for kind, name, cap in (
                (ScopeKind.TENANT, "shop", 2 * CAP),
                (ScopeKind.PROJECT, "shop/p", CAP),
            )
        ]
        await repository.define([tenant, project], budgets, whole=True)
        names = [(ScopeKind.TENANT, "shop"), (ScopeKind.PROJECT, "shop/p")]
        numbers = await repository.numbers(names)
        self._scopes = tuple(numbers[name] for name in names)
        found = await repository.budgets(self._scopes)
        self._budgets = tuple(b for scope in self._scopes for b, _ in found.get(scope, ()))
        self._workers = [await self.ledger.worker() for _ in range(2)]

    async def trade(self, seed: int) -> None:
        """Batches that ask, and calls that end, in an order of the seed's; then all that is open ends."""
        chance = random.Random(seed)
        waiting: list[tuple[JobRepository, Job]] = []
        for step in range(30):
            worker = chance.choice(self._workers)
            for number in range(chance.randint(0, 3)):
                entry = self.ledger.entry(f"{seed}-{step}-{number}")
                waiting.append((worker, await self.ledger.admit(worker, entry)))
            await self._ask(worker, waiting, chance)
            # Time passes: the rate's clock falls back, so that it refuses some and not all.
            back = chance.choice([0.0, 1e6, 3e6])
            await self.ledger.pool.execute(
                "update sluice.scope_state set levels = array(select l - $2 from unnest(levels) l) where scope = $1",
                self._scopes[0],
                back,
            )
            while self._open and chance.random() < 0.6:
                await self._end(self._open.pop(0), chance)
        while self._open:
            await self._end(self._open.pop(), chance)

    async def _ask(
        self, worker: JobRepository, waiting: list[tuple[JobRepository, Job]], chance: random.Random
    ) -> None:
        mine = [job for owner, job in waiting if owner is worker]
        if not mine:
            return
        worsts = [chance.choice([50, 200, 900]) for _ in mine]
        asks = [
            replace(
                intent(job, worst),
                scopes=self._scopes,
                budgets=self._budgets,
                job_class=JobClass.REALTIME,
            )
            for job, worst in zip(mine, worsts, strict=True)
        ]
        for job, worst, begun in zip(mine, worsts, await worker.begin(asks), strict=True):
            if begun.verdict is Begin.BEGUN:
                waiting.remove((worker, job))
                self._open.append((worker, replace(job, attempt=begun.attempt), worst))
        self.worst_at_once = max(self.worst_at_once, len(self._open))

    async def _end(self, call: tuple[JobRepository, Job, int], chance: random.Random) -> None:
        worker, job, worst = call
        if chance.random() < 0.1:
            told = report(Outcome.UNKNOWN, money="unknown", worst_nano=worst)
            await worker.settle([ended(job, State.UNKNOWN, told)])
        else:
            told = report(
                Outcome.SUCCEEDED, worst_nano=worst, cost=worst * chance.randint(1, 9) // 10
            )
            await worker.settle([ended(job, State.SUCCEEDED, told)])

    async def faults(self) -> list[str]:
        """Everything that does not hold afterwards."""
        told: Replay = await replay(self.ledger.pool)
        faults = list(told.faults)
        lines = await self.ledger.pool.fetch("select * from finance.budgets")
        faults += [f"{line['scope']}: overdrawn" for line in lines if line["remaining"] < 0]
        faults += [f"{line['scope']}: still reserved" for line in lines if line["reserved"] != 0]
        if self.worst_at_once > SLOTS:
            faults.append(f"{self.worst_at_once} calls at once")
        busy = await self.ledger.pool.fetchval("select sum(in_flight) from sluice.scope_state")
        faults += [f"{busy} calls in flight for ever"] * (busy != 0)
        return faults


MONEY = [
    # A hard budget is never exceeded.
    (
        "begin_v2",
        "v_used[b] + v_reserved[b] + v_taken[b] + it.worst_nano",
        "v_used[b] + it.worst_nano",
    ),
    ("begin_v2", "+ v_taken[b] + it.worst_nano > v_cap[b]", "+ it.worst_nano > v_cap[b]"),
    ("begin_v2", "v_taken[b] := v_taken[b] + it.worst_nano", "v_taken[b] := it.worst_nano"),
    ("give_back_v2", "spent_nano = p.spent_nano + due.cost", "spent_nano = p.spent_nano"),
    ("give_back_v2", "held_nano = p.held_nano + due.held", "held_nano = p.held_nano"),
    # Limits are global.
    ("begin_v2", "in_flight = v_in[o.place]", "in_flight = t.in_flight"),
    ("begin_v2", "v_in[s] := v_in[s] + 1", "v_in[s] := v_in[s]"),
    # No reservation outlives its attempt.
    ("give_back_v2", "p.reserved_nano - due.worst", "p.reserved_nano - due.cost"),
    (
        "give_back_v2",
        "greatest(0, r.in_flight - r.ended)",
        "greatest(0, r.in_flight - 1 + r.ended)",
    ),
    (
        "give_back_v2",
        "sum(e.worst_nano)::bigint as worst",
        "max(e.worst_nano)::bigint / 2 as worst",
    ),
]


async def _plant(ledger: World, function: str, right: str, wrong: str) -> None:
    source = await ledger.pool.fetchval(
        "select pg_get_functiondef(p.oid) from pg_proc p where proname = $1", function
    )
    assert right in source
    await ledger.pool.execute(source.replace(right, wrong))


async def _faults(ledger: World, seeds: range) -> list[str]:
    shop = Shop(ledger)
    await shop.open()
    for seed in seeds:
        await shop.trade(seed)
        if found := await shop.faults():
            return found
    return []


async def test_without_a_fault_none_is_found(ledger: World) -> None:
    assert await _faults(ledger, range(3)) == []


@pytest.mark.parametrize(("function", "right", "wrong"), MONEY, ids=[m[1][:32] for m in MONEY])
async def test_a_fault_is_found(ledger: World, function: str, right: str, wrong: str) -> None:
    await _plant(ledger, function, right, wrong)
    try:
        found = await _faults(ledger, range(12))
    except asyncpg.PostgresError as exc:  # a check of the schema refused it first
        found = [repr(exc)]
    assert found


RATES = [
    ("begin_v2", "y := greatest(v_level[d * 3 - 2], now_us) + amount * v_step[d];", "y := now_us;"),
    ("begin_v2", "continue when free <= now_us + 0.5;", "continue;"),
    (
        "begin_v2",
        "levels = v_level[v_rates[o.place] * 3 + 1:v_rates[o.place + 1] * 3]",
        "levels = t.levels",
    ),
    (
        "begin_v2",
        "(amount - v_burst[d])",
        "(amount - 9 * v_burst[d])",
    ),
]


async def _most(ledger: World) -> int:
    """What two workers get through a rate that nothing flows back into, in batches and one by one."""
    shop = Shop(ledger)
    await shop.open()
    await ledger.pool.execute("update sluice.scopes set max_in_flight = null")
    chance = random.Random(1)
    waiting: list[tuple[JobRepository, Job]] = []
    for number in range(24):
        worker = shop._workers[number % 2]
        waiting.append((worker, await ledger.admit(worker, ledger.entry(f"r{number}"))))
        await shop._ask(worker, waiting, chance)
    (begun,) = (await starts(ledger.pool)).values()
    return most_in_a_window(begun, 1.0)


async def test_a_rate_is_one_for_all_workers(ledger: World) -> None:
    assert await _most(ledger) <= 1 + BURST


@pytest.mark.parametrize(("function", "right", "wrong"), RATES, ids=[m[1][:32] for m in RATES])
async def test_a_rate_that_leaks_is_found(
    ledger: World, function: str, right: str, wrong: str
) -> None:
    await _plant(ledger, function, right, wrong)
    assert await _most(ledger) > 1 + BURST
