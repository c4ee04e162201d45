"""Jobs of random cost against nested hard budgets, while workers are killed; and what must hold at every instant."""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from tests.money.replay import Replay, replay
from tests.system import System
from tests.waiting import eventually

from sluice_schemas.classes import JobClass

TENANT = "default"
MODEL_PRICE = {"input": "1.5", "output": "6"}
SCOPES = ("tenant:default", "team:default/ml", "project:default/search", "project:default/support")


LEASES = {"owned_lease": 3, "calling_lease": 6, "grace": 5}
"""Short ones, for a storm that is over soon."""


def configuration(
    caps: dict[str, str], leases: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """A tenant, a team and two projects, each with a hard budget of these dollars."""

    def budget(scope: str) -> dict[str, Any]:
        return {"budgets": {"usd": caps[scope], "per": "total"}}

    tenant, team, search, support = SCOPES
    return {
        "models": {
            "fast": {
                "targets": [{"account": "mock", "model": "gpt-4o-mini"}],
                "prices": MODEL_PRICE,
            }
        },
        "tenants": {
            TENANT: {
                **budget(tenant),
                "teams": {"ml": budget(team)},
                "projects": {
                    "search": {**budget(search), "team": "ml"},
                    "support": {**budget(support), "team": "ml"},
                },
            }
        },
        "worker": {**(LEASES if leases is None else leases), "concurrency": 64},
    }


@dataclass(slots=True)
class Outcome:
    """What the storm left behind."""

    replay: Replay
    states: dict[str, int]
    overdrawn: list[str] = field(default_factory=list)
    looks: int = 0
    kills: int = 0
    faults: list[str] = field(default_factory=list)


async def log_decisions(dsn: str) -> None:
    """Switch the decision log on, for every connection to come."""
    connection = await asyncpg.connect(dsn)
    try:
        name = await connection.fetchval("select current_database()")
        await connection.execute(f"alter database \"{name}\" set sluice.decision_log = 'on'")
    finally:
        await connection.close()


async def send(system: System, jobs: int, rate: float, chance: random.Random) -> None:
    """Jobs of three classes for two projects; what they may cost and what they cost differ widely."""
    producer = AIOKafkaProducer(bootstrap_servers=system.stack.kafka.bootstrap, linger_ms=5)
    await producer.start()
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        for number in range(jobs):
            words = "water " * chance.randint(1, 300)
            value = {
                "custom_id": f"row-{number}",
                "body": {
                    "model": "fast",
                    "max_tokens": chance.choice([1, 20, 200, 900]),
                    "messages": [{"role": "user", "content": f"Job {number}: {words}"}],
                },
                "options": {
                    "idempotency_key": f"money-{number}",
                    "project": chance.choice(["search", "search", "support"]),
                    "timeout_s": 3600,
                    "max_wait_s": 3600,
                },
            }
            topic = system.topics.jobs(chance.choice(list(JobClass)))
            await producer.send(topic, json.dumps(value).encode())
            ahead = number / rate - (loop.time() - start)
            if ahead > 0.01:
                await asyncio.sleep(ahead)
        await producer.flush()
    finally:
        await producer.stop()


async def storm(
    system: System, *, jobs: int, rate: float, kills: int, seed: int, settle_within_s: float
) -> Outcome:
    """Blow, wait for the end of every job, and judge."""
    chance = random.Random(seed)
    outcome = Outcome(replay=Replay(), states={})
    watching = asyncio.create_task(_watch(system.pool, outcome))
    sending = asyncio.create_task(send(system, jobs, rate, chance))
    pause = jobs / rate / (kills + 1)
    for _ in range(kills):
        await asyncio.sleep(pause * chance.uniform(0.6, 1.2))
        name = chance.choice(sorted(system.workers))
        killed = system.workers.pop(name)
        killed.kill()
        await killed.stop()
        outcome.kills += 1
        system.start_worker(f"{name}x")
    await sending

    async def over() -> bool:
        row = await system.pool.fetchrow(
            "select count(*) filter (where state < 10) as live, count(*) as all from sluice.jobs"
        )
        past = await system.pool.fetchval("select count(*) from sluice.jobs_past")
        return row["live"] == 0 and row["all"] + past >= jobs

    await eventually(over, within_s=settle_within_s)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await _judge(system.pool, outcome)
    return outcome


async def _watch(pool: asyncpg.Pool, outcome: Outcome) -> None:
    """Look at every budget as often as can be: what is spent, held and reserved never exceeds a cap."""
    while True:
        rows = await pool.fetch("select scope, remaining from finance.budgets where remaining < 0")
        outcome.looks += 1
        outcome.overdrawn += [f"{row['scope']}: {row['remaining']}" for row in rows]
        await asyncio.sleep(0.01)


async def _judge(pool: asyncpg.Pool, outcome: Outcome) -> None:
    outcome.replay = await replay(pool)
    rows = await pool.fetch(
        "select state, count(*) as jobs from (select state from sluice.jobs union all select state from sluice.jobs_past) s group by 1"
    )
    outcome.states = {str(row["state"]): row["jobs"] for row in rows}
    faults = outcome.faults = list(outcome.replay.faults)
    busy = await pool.fetch(
        "select kind, name, in_flight from sluice.scopes_now where in_flight <> 0"
    )
    faults += [f"{row['name']}: {row['in_flight']} in flight" for row in busy]
    for line in await pool.fetch("select * from finance.budgets"):
        where = _where(line["scope"])
        booked = await pool.fetchval(
            f"select coalesce(sum(cost_usd), 0) from finance.usage f where {where}"
        )
        held = await pool.fetchval(
            "select coalesce(sum(u.held_nano), 0)::numeric / 1000000000 from sluice.unresolved u"
            f" join finance.usage f on f.usage_id = u.usage_id where {where}"
        )
        if line["spent"] != booked:
            faults.append(f"{line['scope']}: spent {line['spent']}, usage rows say {booked}")
        if line["held"] != Decimal(held):
            faults.append(f"{line['scope']}: held {line['held']}, unresolved say {held}")
        if line["reserved"] != 0:
            faults.append(f"{line['scope']}: {line['reserved']} still reserved")


def _where(scope: str) -> str:
    kind, _, name = scope.partition(":")
    parts = name.split("/")
    if kind == "tenant":
        return f"f.tenant = '{parts[0]}'"
    return f"f.{kind} = '{parts[1]}'"
