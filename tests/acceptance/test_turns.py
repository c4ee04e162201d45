"""Who waits how long: realtime before a backlog of bulk, bulk under a flood of realtime, tenants beside each other."""

import asyncio
import time
from collections import Counter

import pytest
from tests.conftest import Template
from tests.limits.flood import Flood, Press, Sender
from tests.limits.measure import fairness
from tests.limits.waits import Wait, median, percentile, tokens_served, waits
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.xdist_group("storm"),  # one at a time: it needs the machine for itself
]

BACKLOG = 5_000
EACH = 1_500
SLACK_S = 1.0
"""What waits may vary by on a machine that others load."""
TENANTS = ("one", "two", "three", "four")


def _model(target: str) -> dict[str, object]:
    return {"targets": [{"account": "mock", "model": target}], "prices": prices("1", "2")}


CONFIG = {
    "models": {
        "quick": _model("quick@latency=50ms"),
        "slow": _model("slow@latency=500ms"),
        "steady": _model("steady@latency=250ms"),
    },
    "tenants": {name: {} for name in (*TENANTS, "flood", "trickle")},
    "intake": {
        "topics": [
            {"name": f"turns.{name}.standard", "class": "standard", "tenant": name}
            for name in (*TENANTS, "flood", "trickle")
        ]
    },
    "worker": {"concurrency": 20},
}


def _of(tenant: str, words: tuple[int, int] = (8, 8), model: str = "quick") -> Press:
    return Press(
        model=model, job_class=JobClass.STANDARD, topic=f"turns.{tenant}.standard", words=words
    )


async def test_a_backlog_of_bulk_does_not_delay_realtime(
    stack: Stack, migrated_template: Template
) -> None:
    urgent, bulk = Press(model="quick"), Press(model="slow", job_class=JobClass.BULK)
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix="prio.", config=CONFIG) as system,
        Sender(system) as sender,
    ):
        alone = await _paced(system, sender, urgent, jobs=40, rate=20)
        await sender.send(bulk, BACKLOG)
        await eventually(lambda: _running(system, JobClass.BULK, 2), within_s=30.0)
        behind = await _paced(system, sender, urgent, jobs=60, rate=20)
        assert await _running(system, JobClass.BULK, 2)  # fewer where the loop is late, never none
        assert (
            await system.pool.fetchval("select count(*) from sluice.jobs where state = 1") > 1_000
        )
        print("realtime waits alone", alone, "before a backlog", behind)  # noqa: T201
        assert behind["p50"] < alone["p50"] + 0.25
        assert behind["p99"] < alone["p99"] + SLACK_S

        # Realtime floods: bulk keeps its tenth of the slots.
        async with Flood(sender, [urgent], backlog=200):
            await eventually(lambda: _running(system, JobClass.REALTIME, 12), within_s=20.0)
            looks = [await _now_running(system) for _ in range(60) if not await asyncio.sleep(0.05)]
        shares = [look[JobClass.BULK] for look in looks]
        print("bulk slots under a flood of realtime", Counter(shares))  # noqa: T201
        assert sum(shares) / len(shares) >= 0.1 * 20 * 0.7
        assert any(look[JobClass.REALTIME] >= 10 for look in looks)


async def _paced(
    system: System, sender: Sender, press: Press, *, jobs: int, rate: float
) -> dict[str, float]:
    """The waits of realtime jobs that come at a steady rate."""
    since = time.time()
    start = time.monotonic()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, number / rate - (time.monotonic() - start)))
        await sender.send(press)
    found: list[Wait] = []

    async def ended() -> bool:
        found[:] = [w for w in await waits(system.pool, since) if w.job_class is press.job_class]
        return len(found) == jobs

    await eventually(ended, within_s=30.0)
    return {"p50": median(found), "p99": percentile(found, 0.99)}


async def _now_running(system: System) -> Counter[int]:
    rows = await system.pool.fetch(
        "select l.class, count(*) as jobs from sluice.jobs j join sluice.lanes l on l.id = j.lane where j.state = 3 group by 1"
    )
    return Counter({row["class"]: row["jobs"] for row in rows})


async def _running(system: System, job_class: JobClass, least: int) -> bool:
    return (await _now_running(system))[job_class] >= least


async def test_a_flood_does_not_slow_another_tenant(
    stack: Stack, migrated_template: Template
) -> None:
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix="turns.", workers=2, config=CONFIG) as system,
        Sender(system) as sender,
    ):
        trickle = _of("trickle")
        alone = await _paced(system, sender, trickle, jobs=20, rate=10)
        async with Flood(sender, [_of("flood")], backlog=2_000):
            await eventually(lambda: _running(system, JobClass.STANDARD, 20), within_s=20.0)
            since = time.time()
            await _trickle(sender, trickle, jobs=40, rate=10)
            await eventually(lambda: _ended(system, "trickle", 60), within_s=30.0)
        mine = [w for w in await waits(system.pool, since) if w.tenant == "trickle"]
        served = await tokens_served(system.pool, since, time.time())
        beside = {"p50": median(mine), "p99": percentile(mine, 0.99)}
        print("trickle alone", alone, "beside a flood", beside, served)  # noqa: T201
        assert served["flood"] > 5 * served["trickle"]
        assert median(mine) <= 2 * alone["p50"] + 0.3
        assert percentile(mine, 0.99) <= 2 * alone["p99"] + SLACK_S


async def _trickle(sender: Sender, press: Press, *, jobs: int, rate: float) -> None:
    start = time.monotonic()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, number / rate - (time.monotonic() - start)))
        await sender.send(press)


async def _ended(system: System, tenant: str, jobs: int) -> bool:
    count = await system.pool.fetchval(
        "select count(*) from sluice.jobs j join sluice.lanes l on l.id = j.lane where l.tenant = $1 and j.state >= 10",
        tenant,
    )
    return bool(count >= jobs)


async def test_equal_tenants_are_served_alike_over_two_workers(
    stack: Stack, migrated_template: Template
) -> None:
    """Jobs of different size: what is shared are tokens, not calls."""
    sizes = {"one": (10, 10), "two": (20, 20), "three": (30, 30), "four": (1, 40)}
    presses = [_of(name, sizes[name], model="steady") for name in TENANTS]
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix="turns.", workers=2, config=CONFIG) as system,
        Sender(system) as sender,
    ):
        # All have a backlog from the first look to the last: else an idle tenant's share is the others'.
        for press in presses:
            await sender.send(press, EACH)
        await eventually(lambda: _admitted(system, EACH * len(TENANTS)), within_s=40.0)
        since = time.time()
        await asyncio.sleep(8.0)
        until = time.time()
        left = await _parked(system)
        await eventually(lambda: _all_settled(system, until), within_s=20.0)
        served = await tokens_served(system.pool, since, until)
    shares = [served[name] for name in TENANTS]
    print(served, round(fairness(shares), 4), "left", left)  # noqa: T201
    assert min(left[name] for name in TENANTS) > 0
    # The bench states the goal of 0.99, over a longer time. One tenant of four that gets nothing makes 0.75.
    assert fairness(shares) >= 0.95


async def _admitted(system: System, jobs: int) -> bool:
    # More where a killed worker of a test before had not committed its last offsets.
    return bool(await system.pool.fetchval("select count(*) >= $1 from sluice.jobs", jobs))


async def _parked(system: System) -> Counter[str]:
    rows = await system.pool.fetch(
        "select l.tenant, count(*) as jobs from sluice.jobs j join sluice.lanes l on l.id = j.lane where j.state = 1 group by 1"
    )
    return Counter({row["tenant"]: row["jobs"] for row in rows})


async def _all_settled(system: System, until: float) -> bool:
    """What began before then has ended, so that its tokens are known."""
    return not await system.pool.fetchval(
        "select exists (select from sluice.attempts where started_at < to_timestamp($1) and ended_at is null)",
        until,
    )
