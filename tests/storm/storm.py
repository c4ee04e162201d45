"""Runs one storm: a system under load, faults in random order, quiet, verdict."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from tests.storm.faults import Faults
from tests.storm.load import TENANT, Load
from tests.storm.proxy import CuttingProxy
from tests.storm.verdict import Verdict, gather, judge, lag
from tests.system import System
from tests.waiting import eventually

from sluice_devstack.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How hard it blows. `leases` are settings of `worker:` in sluice.yaml; times in seconds."""

    seed: int
    jobs: int
    rate: float
    kills: int
    workers: int
    keepers: int
    leases: Mapping[str, Any]
    freeze_s: float
    outage_s: float
    pause_s: float
    snapshot_s: float = 0.0
    settle_within_s: float = 120.0
    latency: str = "latency=uniform:20ms:200ms"


MODELS = ("fast",) * 7 + ("raced", "tiered", "kept")
"""What jobs ask for: one in ten each is made a second time where it is slow, sent up a tier, or answered from the cache."""


def configuration(leases: Mapping[str, Any], mock_url: str) -> dict[str, Any]:
    """Every kind of limit and budget is drawn on, and none is ever used up."""
    rates = [{"limit": 1_000_000, "per": per} for per in ("second", "minute", "day")]
    limits = {"requests": rates, "tokens": {"limit": 10**9, "per": "minute"}, "concurrency": 10_000}
    budgets = [{"usd": 1_000_000, "per": per} for per in ("day", "total")]
    scope = {"limits": limits, "budgets": budgets}
    other = {"kind": "openai", "base_url": f"{mock_url}/v1", "provider": "openai"}
    targets = [{"account": name, "model": "gpt-4o-mini"} for name in ("mock", "other")]
    return {
        "worker": leases,
        "providers": {"mock": {"limits": limits}, "other": {**other, "limits": limits}},
        "models": {
            "fast": {"limits": limits},
            "raced": {"targets": targets, "hedge": {"after": "100ms", "share": 1}},
            "tiered": {"targets": targets, "escalation": {"tiers": [["mock"], ["other"]]}},
            "kept": {"targets": targets[:1], "cache": "exact"},
        },
        "tenants": {TENANT: scope},
    }


async def run(
    stack: Stack,
    plan: Plan,
    *,
    database_dsn: str,
    kafka_prefix: str,
    say: Callable[[str], None] = lambda _: None,
) -> Verdict:
    """Blow, wait until all is quiet, and judge."""
    chance = random.Random(plan.seed)
    async with (
        CuttingProxy(database_dsn) as proxy,
        System(
            stack,
            database_dsn=database_dsn,
            kafka_prefix=kafka_prefix,
            workers=plan.workers,
            keepers=plan.keepers,
            process_dsn=proxy.dsn,
            config=lambda url: configuration(plan.leases, url),
        ) as system,
    ):
        results = await system.consume(system.topics.results(TENANT))
        usage = await system.consume(system.topics.usage)
        await system.mock.rule(plan.latency)
        load = Load(
            topics=system.topics,
            bootstrap=stack.kafka.bootstrap,
            jobs=plan.jobs,
            rate=plan.rate,
            seed=plan.seed,
            models=MODELS,
        )
        faults = Faults(
            system=system,
            proxy=proxy,
            chance=chance,
            freeze_s=plan.freeze_s,
            outage_s=plan.outage_s,
        )
        snapshot = asyncio.create_task(_old_snapshot(system, plan.snapshot_s))
        sending = asyncio.create_task(load.run())
        await eventually(lambda: load.sent, within_s=30.0)  # before the broker is killed under it
        await _blow(faults, plan, sending, say)
        await sending
        quiet_since = time.time()
        say(f"quiet; {dict(faults.done)}")
        await _quiet(system, load, plan.settle_within_s)
        await snapshot
        evidence = await gather(
            system.pool, system.directory / "mock.jsonl", results.records, usage.records
        )
        verdict = judge(load.sent, evidence, moments=faults.moments)
        behind = await lag(stack.kafka.bootstrap, system.topics)
        verdict.expect(behind == 0, f"consumer groups are {behind} records behind")
        verdict.counts |= {
            "seed": plan.seed,
            "faults": dict(faults.done),
            "connections_dropped": proxy.cuts,
            "quiet_after_s": round(time.time() - quiet_since, 1),
            "late_outcomes": await system.pool.fetchval(
                "select count(*) from sluice.late_outcomes"
            ),
        }
        if verdict.faults:
            system.show_logs()  # who ended by itself, and why
        return verdict


async def _blow(
    faults: Faults, plan: Plan, sending: "asyncio.Task[None]", say: Callable[[str], None]
) -> None:
    """Every kind of fault at least once, kills as often as the plan says, in an order of the seed's."""
    acts: list[Callable[[], Awaitable[None]]] = [faults.kill_worker] * (plan.kills * 3 // 4)
    acts += [faults.kill_keeper] * (plan.kills - len(acts))
    acts += [faults.cut_connections] * max(3, plan.kills // 4)
    acts += [faults.restart_kafka, faults.restart_postgres, faults.freeze_keeper]
    acts += [faults.freeze_worker, faults.outage_of_postgres]
    faults.chance.shuffle(acts)
    for act in acts:
        say(f"{act.__name__.replace('_', ' ')}")
        await act()
        await asyncio.sleep(faults.chance.uniform(0.3, 1.7) * plan.pause_s)
    while not sending.done():
        await asyncio.sleep(0.1)


async def _quiet(system: System, load: Load, within_s: float) -> None:
    """Wait until nothing is left to do."""
    wanted = [job.id for job in load.sent]

    async def done() -> bool:
        try:
            row = await system.pool.fetchrow(
                "select (select count(*) from sluice.jobs where state < 10) as live,"
                " (select count(*) from sluice.outbox) as due,"
                " (select count(*) from sluice.reading_on) as reading,"
                " (select count(*) from sluice.identities where uuid = any($1)) as known",
                wanted,
            )
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return (row["live"], row["due"], row["reading"], row["known"]) == (0, 0, 0, len(wanted))

    await eventually(done, within_s=within_s)
    await asyncio.sleep(1.0)  # the collectors read what was just published


async def _old_snapshot(system: System, seconds: float) -> None:
    """Hold a snapshot open on the side, so that nothing can be vacuumed away."""
    if not seconds:
        return
    try:
        async with (
            system.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.fetchval("select count(*) from sluice.jobs")
            await asyncio.sleep(seconds)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return  # the database went away under it, as planned
