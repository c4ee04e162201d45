"""Limits hold over all workers together, whatever their number, and are used up: no more, and hardly less."""

import asyncio
import time

import pytest
from tests.conftest import Template
from tests.limits.flood import Flood, Press, Sender
from tests.limits.measure import most_in_a_window, rate, starts
from tests.system import System, database_from, prices
from tests.waiting import eventually

from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.xdist_group("storm"),  # one at a time: it needs the machine for itself
]

LIMIT, BURST = 20, 3
TOKENS_A_SECOND = 3_000
SHARE = {JobClass.REALTIME: 1.0, JobClass.STANDARD: 0.95, JobClass.BULK: 0.8}
MODELS = {
    "r1": JobClass.REALTIME,
    "r2": JobClass.REALTIME,
    "r3": JobClass.REALTIME,
    "s1": JobClass.STANDARD,
    "b1": JobClass.BULK,
}
PHASE_S = 4.0
SETTLED_S = 1.0


def _model(name: str, limits: dict[str, object]) -> dict[str, object]:
    return {
        "targets": [{"account": "mock", "model": f"{name}@latency=5ms"}],
        "prices": prices("1", "2"),
        "limits": limits,
    }


CONFIG = {
    "models": {
        name: _model(name, {"requests": {"limit": LIMIT, "per": "second", "burst": BURST}})
        for name in MODELS
    },
    "worker": {"grace": 5},
}


async def _all_ended(system: System, jobs: int) -> bool:
    row = await system.pool.fetchrow(
        "select count(*) as all, count(*) filter (where state = 10) as well from sluice.jobs"
    )
    return row["all"] == row["well"] == jobs


async def _nothing_left_drawn(system: System, jobs: int) -> None:
    assert await system.pool.fetchval("select count(*) from sluice.attempts") == jobs
    busy = await system.pool.fetch(
        "select name, in_flight from sluice.scopes_now where in_flight <> 0"
    )
    assert not busy


TOKEN_CONFIG = {
    "models": {
        "minute": _model("minute", {"tokens": {"limit": TOKENS_A_SECOND * 60, "per": "minute"}}),
        "second": _model("second", {"tokens": {"limit": TOKENS_A_SECOND, "per": "second"}}),
    }
}


async def test_requests_over_any_number_of_workers(
    stack: Stack, migrated_template: Template
) -> None:
    presses = [Press(model=name, job_class=job_class) for name, job_class in MODELS.items()]
    phases: dict[int, tuple[float, float]] = {}
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(stack, database_dsn=dsn, kafka_prefix="pace.", workers=4, config=CONFIG) as system,
        Sender(system) as sender,
    ):
        async with Flood(sender, presses, backlog=100):
            for workers in (4, 2, 1):
                for name in sorted(system.workers)[workers:]:
                    system.workers[name].terminate()
                    assert await system.workers[name].wait(20.0) == 0, system.log(name)
                    del system.workers[name]
                began = time.time()
                await asyncio.sleep(SETTLED_S + PHASE_S)
                phases[workers] = (began + SETTLED_S, time.time())
        jobs = sum(sender.sent.values())
        await eventually(lambda: _all_ended(system, jobs), within_s=30.0)
        await _nothing_left_drawn(system, jobs)
        begun = await starts(system.pool)
    used: dict[tuple[str, int], float] = {}
    for name, job_class in MODELS.items():
        mine = begun[f"{name}@latency=5ms"]
        assert most_in_a_window(mine, 1.0) <= LIMIT + BURST
        for workers, phase in phases.items():
            used[name, workers] = round(rate(mine, *phase) / (LIMIT * SHARE[job_class]), 3)
    print(used)  # noqa: T201
    assert min(used.values()) >= 0.9, used
    assert max(used.values()) <= 1.0 + 2 * BURST / LIMIT / PHASE_S, used


async def test_tokens_that_are_not_what_was_expected(
    stack: Stack, migrated_template: Template
) -> None:
    """Nobody knows what an answer will use; in the long run the limit is used up all the same, and no more."""
    presses = [Press(model=name, words=(1, 150)) for name in ("minute", "second")]
    async with (
        database_from(migrated_template.admin_dsn, migrated_template.name) as dsn,
        System(
            stack, database_dsn=dsn, kafka_prefix="tokens.", workers=2, config=TOKEN_CONFIG
        ) as system,
        Sender(system) as sender,
    ):
        async with Flood(sender, presses, backlog=60):
            began = time.time()
            await asyncio.sleep(3.0 + 12.0)  # the minute's burst is spent in the first of them
            until = time.time()
        jobs = sum(sender.sent.values())
        await eventually(lambda: _all_ended(system, jobs), within_s=30.0)
        await _nothing_left_drawn(system, jobs)
        begun = await starts(system.pool)
        wrong = await system.pool.fetchval(
            "select avg(abs(a.tokens - u.input_tokens - u.output_tokens) / (u.input_tokens + u.output_tokens)::float8)"
            " from sluice.attempts a join finance.usage u on u.usage_id = a.usage_id"
        )
    shares = {
        name: round(rate(mine, began + 3.0, until, tokens=True) / TOKENS_A_SECOND, 3)
        for name, mine in begun.items()
    }
    most = most_in_a_window(begun["second@latency=5ms"], 1.0, tokens=True)
    print(shares, "mean error of a job", round(wrong, 2), "most in a second", most)  # noqa: T201
    assert wrong > 0.1
    assert min(shares.values()) >= 0.9, shares
    assert max(shares.values()) <= 1.05, shares
