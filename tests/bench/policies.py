"""What limits, budgets, classes and turns cost and keep: the cases of `make bench` that press on them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.bench.drive import Driver
from tests.bench.meter import read
from tests.conftest import Template
from tests.limits.flood import Flood, Press, Sender
from tests.limits.measure import fairness, most_in_a_window, rate, starts
from tests.limits.waits import median, percentile, tokens_served, waits
from tests.system import System, database_from, prices

from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass

SHARE = {JobClass.REALTIME: 1.0, JobClass.STANDARD: 0.95, JobClass.BULK: 0.8}
TENANTS = ("one", "two", "three", "four")
_names = iter(range(1_000_000))


def _model(target: str, limits: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "targets": [{"account": "mock", "model": target}],
        "prices": prices("0.15", "0.60"),
        "limits": limits or {},
    }


@asynccontextmanager
async def gateway(
    stack: Stack,
    template: Template,
    config: Mapping[str, Any] | Callable[[str], Mapping[str, Any]],
    *,
    workers: int = 1,
) -> AsyncIterator[System]:
    async with (
        database_from(template.admin_dsn, template.name) as dsn,
        System(
            stack,
            database_dsn=dsn,
            kafka_prefix=f"policies{next(_names)}.",
            workers=workers,
            config=config,
        ) as system,
    ):
        yield system


def default_policies() -> dict[str, Any]:
    """Two rates on each of four scopes and three nested budgets, none of which is ever reached."""
    limits = {
        "requests": {"limit": 1_000_000, "per": "second"},
        "tokens": {"limit": 10**12, "per": "minute"},
    }
    budgets = {"usd": 10_000_000, "per": "month"}
    scope = {"limits": limits, "budgets": budgets}
    return {
        "providers": {"mock": {"limits": limits}},
        "tenants": {
            "default": {
                **scope,
                "teams": {"ml": {"budgets": budgets}},
                "projects": {"search": {**scope, "team": "ml"}},
            }
        },
        "models": {"bench": {"limits": limits}},
    }


async def cost(stack: Stack, template: Template, *, jobs: int, emit: Any) -> None:
    """The full load with and without the default policies: microseconds of CPU a job, and the difference."""
    plain = {
        "models": {"bench": _model("gpt-4o-mini@latency=60ms")},
        "worker": {"concurrency": 1000},
    }
    costs: dict[str, dict[str, float]] = {}
    mix = (JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK)
    for name in ("without", "with"):
        config = dict(plain)
        if name == "with":
            more = default_policies()
            model = {**plain["models"]["bench"], **more["models"]["bench"]}  # type: ignore[index]
            config |= {**more, "models": {"bench": model}}
        async with (
            gateway(stack, template, config) as system,
            Driver(system, options={"project": "search"}) as driver,
        ):
            await driver.closed(max(1_000, jobs // 5), window=1500, classes=mix)
            before = read(system)
            await driver.closed(jobs, window=1500, classes=mix)
            costs[name] = read(system).per_job(before, jobs)
    emit(
        "policies",
        jobs=jobs,
        scopes=4,
        rates=8,
        budgets=3,
        worker_us={name: figures["workers_us"] for name, figures in costs.items()},
        postgres_us={name: figures["postgres_us"] for name, figures in costs.items()},
        worker_us_added=round(costs["with"]["workers_us"] - costs["without"]["workers_us"], 1),
        postgres_us_added=round(costs["with"]["postgres_us"] - costs["without"]["postgres_us"], 1),
        goal={"worker_us_added": 70, "postgres_us_added": 60},
    )


async def limits(stack: Stack, template: Template, *, seconds: float, emit: Any) -> None:
    """How much of a requests limit is used by one, two and four workers, by class; and of limits on tokens."""
    limit, burst = 50, 3
    rates = {"requests": {"limit": limit, "per": "second", "burst": burst}}
    classes = {"r1": 0, "r2": 0, "r3": 0, "s1": 1, "b1": 2}
    models = {name: _model(f"{name}@latency=5ms", rates) for name in classes}
    presses = [Press(model=n, job_class=JobClass(number)) for n, number in classes.items()]
    for workers in (1, 2, 4):
        async with (
            gateway(stack, template, {"models": models}, workers=workers) as system,
            Sender(system) as sender,
        ):
            async with Flood(sender, presses, backlog=4 * limit):
                await asyncio.sleep(2.0)
                since, before = time.time(), read(system)
                await asyncio.sleep(seconds)
                until, after = time.time(), read(system)
            begun = await starts(system.pool)
        used = {
            name: round(
                rate(begun[f"{name}@latency=5ms"], since, until) / limit / SHARE[JobClass(number)],
                4,
            )
            for name, number in classes.items()
        }
        jobs = sum(round(rate(mine, since, until) * (until - since)) for mine in begun.values())
        emit(
            "limits",
            workers=workers,
            limit_per_s=limit,
            burst=burst,
            share_of_the_limit=used,
            most_in_a_second=max(most_in_a_window(mine, 1.0) for mine in begun.values()),
            **after.per_job(before, jobs),
        )
    await _tokens(stack, template, seconds=max(seconds, 10.0), emit=emit)


async def _tokens(stack: Stack, template: Template, *, seconds: float, emit: Any) -> None:
    per_s = 3_000
    models = {
        "minute": _model("minute@latency=5ms", {"tokens": {"limit": per_s * 60, "per": "minute"}}),
        "second": _model("second@latency=5ms", {"tokens": {"limit": per_s, "per": "second"}}),
    }
    presses = [Press(model=name, words=(1, 150)) for name in models]
    async with (
        gateway(stack, template, {"models": models}, workers=2) as system,
        Sender(system) as sender,
    ):
        async with Flood(sender, presses, backlog=100):
            await asyncio.sleep(3.0)
            since = time.time()
            await asyncio.sleep(seconds)
            until = time.time()
        begun = await starts(system.pool)
    burst = per_s * 0.03
    emit(
        "limits_tokens",
        tokens_per_s=per_s,
        seconds=round(until - since, 1),
        share_of_the_limit={
            name.partition("@")[0]: round(rate(mine, since, until, tokens=True) / per_s, 4)
            for name, mine in begun.items()
        },
        most_in_a_second=most_in_a_window(begun["second@latency=5ms"], 1.0, tokens=True),
        limit_and_burst=round(per_s + burst),
    )


async def priority(stack: Stack, template: Template, *, backlog: int, jobs: int, emit: Any) -> None:
    """Realtime's wait for its call, alone and before a backlog of slow bulk jobs; bulk's slots under a flood."""
    slots = 50
    config = {
        "models": {"quick": _model("quick@latency=60ms"), "slow": _model("slow@latency=500ms")},
        "worker": {"concurrency": slots},
    }
    urgent, bulk = Press(model="quick"), Press(model="slow", job_class=JobClass.BULK)
    async with gateway(stack, template, config) as system, Sender(system) as sender:
        found = {"alone": await _waits(system, sender, urgent, jobs=jobs)}
        await sender.send(bulk, 1_000)
        await _until(system, "state = 1", 500)
        await _deepen(system, backlog)
        await _until(system, "state = 1", backlog // 2)
        found["before_a_backlog"] = await _waits(system, sender, urgent, jobs=jobs)
        parked = await system.pool.fetchval("select count(*) from sluice.jobs where state = 1")
        async with Flood(sender, [urgent], backlog=6 * slots):
            await asyncio.sleep(2.0)
            looks = []
            for _ in range(100):
                looks.append(await _calling(system, JobClass.BULK))
                await asyncio.sleep(0.05)
    emit(
        "priority",
        slots=slots,
        backlog=backlog,
        still_parked=parked,
        realtime_wait_ms=found,
        bulk_share_of_slots_under_a_flood=round(sum(looks) / len(looks) / slots, 3),
        reserved_for_bulk=0.1,
    )


async def _waits(system: System, sender: Sender, press: Press, *, jobs: int) -> dict[str, float]:
    since = time.time()
    start = time.monotonic()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, number / 50 - (time.monotonic() - start)))
        await sender.send(press)
    while True:
        found = [w for w in await waits(system.pool, since) if w.job_class is press.job_class]
        if len(found) >= jobs or time.monotonic() > start + 120:
            break
        await asyncio.sleep(0.1)
    return {"p50": median(found) * 1000, "p99": percentile(found, 0.99) * 1000}


async def _deepen(system: System, rows: int) -> None:
    """Park copies of a job that is parked, later than all others: reading as many records is not what is measured."""
    await system.pool.execute(
        """
        with one as (select * from sluice.jobs where state = 1 order by id limit 1),
        made as (
          insert into sluice.jobs (id, uuid, due_at, deadline, admitted_at, day, lane, bytes, state, max_attempts, retry_unknown, streams)
          select nextval('sluice.job_ids'), gen_random_uuid(), o.due_at + interval '10 minutes', o.deadline + interval '10 minutes', now(),
                 o.day, o.lane, o.bytes, 1, o.max_attempts, o.retry_unknown, o.streams
            from one o, generate_series(1, $1) returning id, day)
        insert into sluice.requests (job, day, body, facts, requester)
        select m.id, m.day, q.body, q.facts, q.requester from made m, one o join sluice.requests q on q.job = o.id and q.day = o.day
        """,
        rows,
        timeout=600,
    )


async def _until(system: System, condition: str, count: int, within_s: float = 600.0) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if (
            await system.pool.fetchval(f"select count(*) from sluice.jobs where {condition}")
            >= count
        ):
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"not {count} jobs are {condition} within {within_s:g} s")


async def _calling(system: System, job_class: JobClass) -> int:
    count: int = await system.pool.fetchval(
        "select count(*) from sluice.jobs j join sluice.lanes l on l.id = j.lane where j.state = 3 and l.class = $1",
        job_class,
    )
    return count


async def turns(stack: Stack, template: Template, *, seconds: float, emit: Any) -> None:
    """Tokens served to four equal tenants with jobs of unequal size, over two workers, while all have a backlog."""
    config = {
        "models": {"quick": _model("quick@latency=250ms")},
        "tenants": {name: {} for name in TENANTS},
        "intake": {
            "topics": [
                {"name": f"bench.{name}", "class": "standard", "tenant": name} for name in TENANTS
            ]
        },
        "worker": {"concurrency": 20},
    }
    sizes = dict(zip(TENANTS, ((10, 10), (20, 20), (30, 30), (1, 40)), strict=True))
    presses = [
        Press(
            model="quick",
            job_class=JobClass.STANDARD,
            topic=f"bench.{name}",
            words=sizes[name],
        )
        for name in TENANTS
    ]
    async with (
        gateway(stack, template, config, workers=2) as system,
        Sender(system) as sender,
    ):
        async with Flood(sender, presses, backlog=1_500):
            await asyncio.sleep(2.0)
            since = time.time()
            await asyncio.sleep(seconds)
            until = time.time()
        served = await tokens_served(system.pool, since, until)
    emit(
        "turns",
        tenants=len(TENANTS),
        workers=2,
        seconds=round(until - since, 1),
        tokens=dict(served),
        jain=round(fairness([served.get(name, 0) for name in TENANTS]), 5),
    )
