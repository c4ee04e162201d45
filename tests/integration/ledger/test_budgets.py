"""What operators do to budgets, what waits for money, and what budgets tell."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal

import asyncpg
import pytest
from tests.integration.ledger.world import HEAD, World, ended, intent, report, world
from tests.waiting import eventually

from sluice_core.admission.definitions import definitions, kept, rates_of
from sluice_core.admission.model import BudgetDefinition, ScopeDefinition, ScopeKind
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.admission.service import align
from sluice_core.budgets.model import ScopeName
from sluice_core.budgets.repository import BudgetRepository
from sluice_core.budgets.service import BudgetRefused, BudgetService
from sluice_core.config.load import parse_config
from sluice_core.config.model import Config
from sluice_core.config.scopes import RequestLimit, ScopeLimits
from sluice_core.jobs.model import Job, Outcome, State
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.repository import JobRepository
from sluice_core.jobs.writes import Begun
from sluice_core.spending.repository import SpendingRepository
from sluice_schemas.classes import JobClass

TENANT = ScopeName(kind=ScopeKind.TENANT, name="acme")
NANO = Decimal(10) ** 9


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


class Acme:
    """A tenant with a hard budget of a thousand nano-dollars a day, and a worker that calls for it."""

    def __init__(self, ledger: World, worker: JobRepository) -> None:
        self.ledger = ledger
        self.worker = worker
        self.service = BudgetService(BudgetRepository(ledger.pool), "ops@host")
        self.scopes: tuple[int, ...] = ()
        self.budgets: tuple[int, ...] = ()

    async def learn(self) -> None:
        repository = AdmissionRepository(self.ledger.pool)
        names = [(ScopeKind.TENANT, "acme"), (ScopeKind.PROJECT, "acme/unallocated")]
        await repository.ensure([ScopeDefinition(kind=k, name=n) for k, n in names])
        numbers = await repository.numbers(names)
        self.scopes = tuple(numbers[name] for name in names)
        found = await repository.budgets(self.scopes)
        self.budgets = tuple(b for scope in self.scopes for b, _ in found.get(scope, ()))

    async def begin(self, job: Job, worst_nano: int) -> Begun:
        (begun,) = await self.worker.begin(
            [replace(intent(job, worst_nano), scopes=self.scopes, budgets=self.budgets)]
        )
        return begun

    async def spend(self, nano: int) -> None:
        """As if this much had been spent in the current period of each budget."""
        await self.ledger.pool.execute(
            "select l.periods from sluice.lock_periods_v1($1, clock_timestamp()) l",
            list(self.budgets),
        )
        await self.ledger.pool.execute("update sluice.period_state set spent_nano = $1", nano)

    async def line(self) -> tuple[int, int, int, int, int]:
        (line,) = await self.service.lines("tenant:acme")
        return tuple(  # type: ignore[return-value]
            int(amount * NANO)
            for amount in (line.cap, line.spent, line.held, line.reserved, line.remaining)
        )


@pytest.fixture
async def acme(ledger: World) -> Acme:
    definition = BudgetDefinition(
        kind=ScopeKind.TENANT,
        name="acme",
        per="day",
        zone="Europe/Berlin",
        hard=True,
        cap_nano=1_000,
        thresholds=(50, 80, 100),
    )
    tenant = ScopeDefinition(kind=ScopeKind.TENANT, name="acme")
    await AdmissionRepository(ledger.pool).define([tenant], [definition], whole=True)
    made = Acme(ledger, await ledger.worker())
    await made.learn()
    return made


async def test_money_is_reserved_then_spent_held_and_settled(ledger: World, acme: Acme) -> None:
    assert await acme.line() == (1000, 0, 0, 0, 1000)
    first, second, third = [
        await ledger.admit(acme.worker, ledger.entry(key)) for key in ("a", "b", "c")
    ]
    begun = await acme.begin(first, 600)
    assert begun.verdict is Begin.BEGUN
    assert await acme.line() == (1000, 0, 0, 600, 400)
    # Others' reservations are in the way, not the money: the job waits.
    assert (await acme.begin(second, 600)).verdict is Begin.BUDGET_BUSY
    assert (await acme.begin(third, 1_001)).verdict is Begin.OVER_BUDGET
    told = report(Outcome.SUCCEEDED, worst_nano=600, cost=450)
    await acme.worker.settle([ended(replace(first, attempt=1), State.SUCCEEDED, told)])
    assert await acme.line() == (1000, 450, 0, 0, 550)
    assert (await acme.begin(second, 600)).verdict is Begin.OVER_BUDGET
    assert (await acme.begin(second, 550)).verdict is Begin.BEGUN
    unknown = report(Outcome.UNKNOWN, money="unknown", worst_nano=550)
    await acme.worker.settle([ended(replace(second, attempt=1), State.UNKNOWN, unknown)])
    assert await acme.line() == (1000, 450, 550, 0, 0)
    assert (await acme.begin(third, 1)).verdict is Begin.OVER_BUDGET
    spending = SpendingRepository(ledger.pool)
    (held,) = await spending.unresolved(10)
    assert await spending.settle(held.usage_id, cost_nano=50, reason="invoice", actor="ops")
    assert await acme.line() == (1000, 500, 0, 0, 500)
    booked = await ledger.pool.fetchval("select sum(cost_usd) from finance.usage")
    assert booked * NANO == 500


async def test_jobs_wait_for_money_and_ask_again_when_there_is_some(
    ledger: World, acme: Acme
) -> None:
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    begun = await acme.begin(job, 1_500)
    assert begun.verdict is Begin.OVER_BUDGET
    assert begun.until > time.time()  # when the day ends in Berlin
    (budget,) = acme.budgets
    assert begun.cause == -budget
    assert await acme.worker.defer([(job.row, begun.until, budget, 1_500)]) == 1
    assert await ledger.state(job) is State.RETRY_WAIT
    cursor = [(ledger.lane, *HEAD, 9)]
    assert await acme.worker.claim(cursor, limit=9, max_bytes=9999) == []
    assert await acme.service.top_up(TENANT, per="day", usd=Decimal("0.0000005"), reason="r") == 1
    (again,) = await acme.worker.claim(cursor, limit=9, max_bytes=9999)
    assert again.row == job.row
    assert (await acme.begin(again, 1_500)).verdict is Begin.BEGUN
    assert await ledger.count("sluice.deferred") == 0


async def test_a_larger_cap_of_the_configuration_lets_jobs_ask_again(
    ledger: World, acme: Acme
) -> None:
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    begun = await acme.begin(job, 1_500)
    assert await acme.worker.defer([(job.row, begun.until, acme.budgets[0], 1_500)]) == 1
    config = Config.model_validate(
        {
            "providers": {"p": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}},
            "models": {"m": {"targets": [{"account": "p", "model": "m"}]}},
            "tenants": {
                "acme": {"budgets": {"usd": "0.000002", "per": "day", "zone": "Europe/Berlin"}}
            },
        }
    )
    assert await align(AdmissionRepository(ledger.pool), config)
    (again,) = await acme.worker.claim([(ledger.lane, *HEAD, 9)], limit=9, max_bytes=9999)
    assert again.row == job.row
    assert (await acme.begin(again, 1_500)).verdict is Begin.BEGUN
    assert await ledger.count("sluice.deferred") == 0


async def test_a_budget_of_hundreds_of_millions_alerts_like_any(ledger: World, acme: Acme) -> None:
    await acme.service.set_cap(TENANT, per="day", usd=Decimal(200_000_000), reason="rich")
    await acme.spend(160_000_000 * 10**9)
    assert await BudgetRepository(ledger.pool).watch() == 2


async def test_definitions_lock_scopes_in_the_order_of_their_ids(ledger: World, acme: Acme) -> None:
    """What is lifted may lie below what is changed: begin holds the one and comes for the other."""
    repository = AdmissionRepository(ledger.pool)
    low, high = (
        ScopeDefinition(kind=ScopeKind.TENANT, name=name, max_in_flight=5) for name in ("x", "y")
    )
    await repository.define([low], [])
    await repository.define([high], [])
    lock = "select from sluice.scopes where name = $1 for no key update"
    async with ledger.pool.acquire() as begin, begin.transaction():
        await begin.execute("set local lock_timeout = '2s'")
        await begin.execute(lock, "x")
        defining = asyncio.create_task(
            repository.define([replace(high, max_in_flight=6)], [], whole=True)
        )
        await eventually(
            lambda: ledger.count(
                "pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
        )
        await begin.execute(lock, "y")
    assert await defining


async def test_a_job_waits_for_money_no_longer_than_it_may(ledger: World, acme: Acme) -> None:
    due = time.time() + 2
    job = await ledger.admit(acme.worker, ledger.entry("a", due_at=due))
    await acme.worker.defer([(job.row, due + 3600, acme.budgets[0], 1_500)])
    run_at = await ledger.pool.fetchval(
        "select extract(epoch from run_at)::float8 from sluice.jobs where id = $1", job.row
    )
    assert run_at == pytest.approx(due)


async def test_caps_are_changed_and_put_back_and_audited(ledger: World, acme: Acme) -> None:
    await acme.service.set_cap(TENANT, per="day", usd=Decimal("0.000000003"), reason="down")
    assert (await acme.line())[0] == 3
    # The configuration is applied again, by a process that starts: the operator's word stands.
    definition = BudgetDefinition(
        kind=ScopeKind.TENANT, name="acme", per="day", zone="Europe/Berlin", hard=True,
        cap_nano=2_000, thresholds=(50, 80, 100),
    )  # fmt: skip
    tenant = ScopeDefinition(kind=ScopeKind.TENANT, name="acme")
    await AdmissionRepository(ledger.pool).define([tenant], [definition], whole=True)
    assert (await acme.line())[0] == 3
    await acme.service.reset(TENANT, per="day", reason="over")
    assert (await acme.line())[0] == 2_000
    run = ScopeName.parse("run:acme/nightly")
    with pytest.raises(BudgetRefused, match="no budget per total"):
        await acme.service.reset(run, per="total", reason="r")
    await acme.service.set_cap(run, per="total", usd=Decimal(20), reason="trial")
    (line,) = await acme.service.lines("run:acme/nightly")
    assert (line.period, line.kind, line.cap, line.forecast) == ("total", "hard", 20, None)
    await acme.service.reset(run, per="total", reason="over")
    assert await acme.service.lines("run:acme/nightly") == []
    noted = await ledger.pool.fetch("select * from sluice.audit order by id")
    assert [row["subject"] for row in noted] == ["tenant:acme day"] * 2 + [
        "run:acme/nightly total"
    ] * 2
    assert json.loads(noted[0]["before"])["cap_nano"] == 1_000
    assert json.loads(noted[0]["after"]) == {
        "cap_nano": 3, "active": True, "hard": True, "reason": "down",
    }  # fmt: skip


async def test_what_the_configuration_names_no_more_is_lifted(ledger: World, acme: Acme) -> None:
    repository = AdmissionRepository(ledger.pool)
    assert await repository.define([], [], whole=True)
    assert await repository.budgets(acme.scopes) == {}
    assert not await repository.define([], [], whole=True)


async def test_each_threshold_alerts_once_and_is_resolved_by_more_money(
    ledger: World, acme: Acme
) -> None:
    budgets = BudgetRepository(ledger.pool)
    await acme.spend(700)
    assert await budgets.watch() == 1
    assert await budgets.watch() == 0
    await ledger.pool.execute("update sluice.period_state set held_nano = 300")
    assert await budgets.watch() == 2
    source = "/sluicegate/main"
    assert await budgets.tell(10, owner=1, topic="llm.alerts.v1", source=source) == 3
    assert await budgets.tell(10, owner=1, topic="llm.alerts.v1", source=source) == 0
    await acme.service.set_cap(TENANT, per="day", usd=Decimal("0.0000015"), reason="more")
    assert await budgets.watch() == 0
    assert await budgets.tell(10, owner=1, topic="llm.alerts.v1", source=source) == 2
    rows = await ledger.pool.fetch("select value from sluice.outbox where kind = 4 order by id")
    said = [json.loads(row["value"]) for row in rows]
    assert [(s["state"], s["details"]["threshold_percent"]) for s in said] == [
        ("raised", 50), ("raised", 80), ("raised", 100), ("resolved", 80), ("resolved", 100),
    ]  # fmt: skip
    assert all(s["scope"].startswith("tenant:acme day 20") for s in said)


async def _turn(ledger: World) -> None:
    """As if two days had passed: what was the current period has ended."""
    await ledger.pool.execute(
        "update sluice.budget_periods set starts_at = starts_at - interval '2 days', ends_at = ends_at - interval '2 days'"
    )


async def _told(ledger: World) -> list[tuple[str, int]]:
    budgets = BudgetRepository(ledger.pool)
    await budgets.tell(10, owner=1, topic="llm.alerts.v1", source="/sluicegate/main")
    rows = await ledger.pool.fetch("select value from sluice.outbox where kind = 4 order by id")
    said = [json.loads(row["value"]) for row in rows]
    return [(s["state"], s["details"]["threshold_percent"]) for s in said]


async def test_what_a_call_crosses_after_its_period_turned_is_told(
    ledger: World, acme: Acme
) -> None:
    budgets = BudgetRepository(ledger.pool)
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    assert (await acme.begin(job, 600)).verdict is Begin.BEGUN
    await _turn(ledger)
    assert await budgets.watch() == 0
    told = report(Outcome.UNKNOWN, money="unknown", worst_nano=600)
    await acme.worker.settle([ended(replace(job, attempt=1), State.UNKNOWN, told)])
    assert await budgets.watch() == 1
    assert await _told(ledger) == [("raised", 50), ("resolved", 50)]
    # What is held may still turn out to be dearer; after that nothing can come any more.
    assert await ledger.count("sluice.budget_periods where closed") == 0
    spending = SpendingRepository(ledger.pool)
    (held,) = await spending.unresolved(10)
    await spending.settle(held.usage_id, cost_nano=850, reason="invoice", actor="ops")
    assert await budgets.watch() == 1
    assert await budgets.watch() == 0
    assert (await _told(ledger))[2:] == [("raised", 80), ("resolved", 80)]
    assert await ledger.count("sluice.budget_periods where closed") == 1


async def test_alerts_end_with_their_period_and_with_their_budget(
    ledger: World, acme: Acme
) -> None:
    budgets = BudgetRepository(ledger.pool)
    await acme.spend(700)
    assert await budgets.watch() == 1
    await _turn(ledger)
    assert await budgets.watch() == 0
    assert await _told(ledger) == [("raised", 50), ("resolved", 50)]
    await acme.spend(900)
    assert await budgets.watch() == 2
    await AdmissionRepository(ledger.pool).define([], [], whole=True)
    assert await budgets.watch() == 0
    assert await ledger.count("sluice.alerts where resolved_at is null") == 0


async def test_a_budget_stays_within_what_the_ledger_can_count(ledger: World, acme: Acme) -> None:
    most = Decimal(4_000_000_000)
    with pytest.raises(BudgetRefused, match="at most four billion"):
        await acme.service.set_cap(TENANT, per="day", usd=most + 1, reason="typo")
    await acme.service.set_cap(TENANT, per="day", usd=most, reason="rich")
    await acme.service.top_up(TENANT, per="day", usd=most, reason="richer")
    with pytest.raises(BudgetRefused, match="top-ups of tenant:acme day would come to 4000000000"):
        await acme.service.top_up(TENANT, per="day", usd=Decimal("0.000000001"), reason="typo")
    await acme.spend(4 * 10**18)
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    assert (await acme.begin(job, 4 * 10**18)).verdict is Begin.BEGUN
    assert await acme.line() == (8 * 10**18, 4 * 10**18, 0, 4 * 10**18, 0)
    await acme.service.top_up(TENANT, per="day", usd=-most, reason="less")
    await acme.service.top_up(TENANT, per="day", usd=-most, reason="less")
    await acme.service.set_cap(TENANT, per="day", usd=Decimal(0), reason="none")
    assert (await acme.line())[4] == -12 * 10**18
    with pytest.raises(asyncpg.NumericValueOutOfRangeError, match="a cap of 4000000000"):
        await ledger.pool.execute(
            "select sluice.set_budget_v1(1::smallint, 'acme', 'day', null, null, 4000000000000000001, null, 'a', 'r')"
        )


async def test_a_call_dearer_than_its_worst_case_is_booked_and_alerts(
    ledger: World, acme: Acme
) -> None:
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    assert (await acme.begin(job, 600)).verdict is Begin.BEGUN
    told = report(Outcome.SUCCEEDED, worst_nano=600, cost=1_200)
    await acme.worker.settle([ended(replace(job, attempt=1), State.SUCCEEDED, told)])
    assert await acme.line() == (1000, 1200, 0, 0, -200)
    subject = "subject = 'tenant:acme day'"
    assert await ledger.count(f"sluice.alerts where kind = 'bound_violated' and {subject}") == 1


@pytest.mark.parametrize(
    "text", ["acme", "cell:x", "tenant:", "project:acme", "app:acme/x", "run:"]
)
def test_a_scope_that_is_not_whole_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        ScopeName.parse(text)


async def test_one_request_a_day_may_be_a_bulk_job(ledger: World, acme: Acme) -> None:
    """The share of a class is never less than one: it would wait for ever beside a limit that nobody uses."""
    rates = rates_of(ScopeLimits(requests=(RequestLimit(limit=1, per="day"),)))
    tenant = ScopeDefinition(kind=ScopeKind.TENANT, name="acme", rates=rates)
    await AdmissionRepository(ledger.pool).define([tenant], [])
    jobs = [await ledger.admit(acme.worker, ledger.entry(key)) for key in ("a", "b")]
    asks = [replace(intent(job, 0), scopes=acme.scopes, job_class=JobClass.BULK) for job in jobs]
    begun = await acme.worker.begin(asks)
    assert [one.verdict for one in begun] == [Begin.BEGUN, Begin.RATE_LIMITED]


async def test_whatever_makes_room_wakes_those_it_is_enough_for(ledger: World, acme: Acme) -> None:
    held = await ledger.admit(acme.worker, ledger.entry("held"))
    assert (await acme.begin(held, 900)).verdict is Begin.BEGUN
    unknown = report(Outcome.UNKNOWN, money="unknown", worst_nano=900)
    await acme.worker.settle([ended(replace(held, attempt=1), State.UNKNOWN, unknown)])
    small, large = [await ledger.admit(acme.worker, ledger.entry(key)) for key in ("s", "l")]
    later, (budget,) = time.time() + 3600, acme.budgets
    await acme.worker.defer([(small.row, later, budget, 800), (large.row, later, budget, 1_100)])
    budgets = BudgetRepository(ledger.pool)
    assert await budgets.wake_affordable(10) == 0
    spending = SpendingRepository(ledger.pool)
    (line,) = await spending.unresolved(10)
    await spending.settle(line.usage_id, cost_nano=0, reason="not billed", actor="ops")
    assert await budgets.wake_affordable(10) == 1
    cursor = [(ledger.lane, *HEAD, 9)]
    assert [job.row for job in await acme.worker.claim(cursor, limit=9, max_bytes=9999)] == [
        small.row
    ]
    # Who went another way is forgotten.
    await ledger.pool.execute("update sluice.jobs set state = 14 where id = $1", large.row)
    assert await budgets.wake_affordable(10) == 0
    assert await ledger.count("sluice.deferred") == 0


async def test_another_time_zone_is_no_other_money(ledger: World, acme: Acme) -> None:
    job = await ledger.admit(acme.worker, ledger.entry("a"))
    assert (await acme.begin(job, 700)).verdict is Begin.BEGUN
    definition = BudgetDefinition(
        kind=ScopeKind.TENANT, name="acme", per="day", zone="Pacific/Auckland", hard=True,
        cap_nano=1_000, thresholds=(50, 80, 100),
    )  # fmt: skip
    tenant = ScopeDefinition(kind=ScopeKind.TENANT, name="acme")
    await AdmissionRepository(ledger.pool).define([tenant], [definition], whole=True)
    assert await acme.line() == (1000, 0, 0, 700, 300)
    other = await ledger.admit(acme.worker, ledger.entry("b"))
    assert (await acme.begin(other, 400)).verdict is Begin.BUDGET_BUSY
    told = report(Outcome.SUCCEEDED, worst_nano=700, cost=650)
    await acme.worker.settle([ended(replace(job, attempt=1), State.SUCCEEDED, told)])
    assert await acme.line() == (1000, 650, 0, 0, 350)


async def test_a_configuration_that_was_put_in_force_by_halves_wakes_them_the_next_time(
    ledger: World, acme: Acme
) -> None:
    """Its rows were written, and then it was cut off: whoever starts next finds nothing to change."""
    waits = await ledger.admit(acme.worker, ledger.entry("w"))
    later, (budget,) = time.time() + 3600, acme.budgets
    await acme.worker.defer([(waits.row, later, budget, 10**15)])
    admission = AdmissionRepository(ledger.pool)
    config = parse_config("tenants: {acme: {budgets: {usd: 5, per: day}}}", {})
    scopes, budgets = definitions(config)
    assert await admission.define(scopes, budgets, whole=True, kept=kept(config))
    assert await ledger.count("sluice.deferred") == 1
    assert not await align(admission, config)
    assert await ledger.count("sluice.deferred") == 0
