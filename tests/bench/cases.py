"""What is measured. Each case prints its lines; the figures' goals stand in DESIGN §12."""

import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.bench import ledger_fill
from tests.bench.drive import Driver, percentile
from tests.bench.meter import read
from tests.bench.naive import NaiveBaseline
from tests.conftest import Template
from tests.system import System, database_from

from sluice_devstack.stack import Stack
from sluice_schemas.classes import JobClass

UPSTREAM_MS = 60
STREAMED = f"gpt-4o-mini@latency={UPSTREAM_MS}ms,chunk_delay=30ms"
"""Chunks further apart than deltas are gathered, so that each is one."""
MIX = (JobClass.REALTIME, JobClass.STANDARD, JobClass.BULK)
_names = iter(range(1_000_000))


def emit(case: str, **figures: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps({"case": case, **figures}) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def gateway(
    stack: Stack,
    template: Template,
    *,
    workers: int = 1,
    in_flight: int = 1000,
) -> AsyncIterator[System]:
    """A fresh gateway before a provider that takes 60 ms."""
    async with (
        database_from(template.admin_dsn, template.name) as fresh,
        System(
            stack,
            database_dsn=fresh,
            kafka_prefix=f"bench{next(_names)}.",
            workers=workers,
            keepers=1,
            config={
                "worker": {"concurrency": max(50, in_flight // max(1, workers))},
                "models": {
                    "bench": {
                        "targets": [
                            {"account": "mock", "model": f"gpt-4o-mini@latency={UPSTREAM_MS}ms"}
                        ],
                        "prices": {"input": "0.15", "output": "0.60"},
                    },
                    "bench-stream": {
                        "targets": [{"account": "mock", "model": STREAMED}],
                        "prices": {"input": "0.15", "output": "0.60"},
                    },
                },
            },
        ) as system,
    ):
        yield system


async def full_load(
    stack: Stack, template: Template, *, jobs: int, workers: int
) -> tuple[float, float]:
    """Everything saturated: CPU a job. Returns jobs a second, and the workers' microseconds a job."""
    window = 1500
    async with gateway(stack, template, workers=workers) as system, Driver(system) as driver:
        await driver.closed(max(1000, jobs // 5), window=window, classes=MIX)
        before = read(system)
        await driver.closed(jobs, window=window, classes=MIX)
        after = read(system)
        rate = jobs / (after.at - before.at)
        batches = await system.pool.fetchrow(
            "select count(*)::float / count(distinct recorded_at) as settle from finance.usage"
        )
        emit(
            "full_load",
            workers=workers,
            jobs=jobs,
            window=window,
            in_flight=1000,
            upstream_ms=UPSTREAM_MS,
            jobs_per_s=round(rate),
            **after.per_job(before, jobs),
            jobs_per_settle=round(batches["settle"], 1),
            worker_mb=round(max(p.rss_bytes() for p in system.workers.values()) / 1e6),
        )
        return rate, after.per_job(before, jobs)["workers_us"]


async def latency(stack: Stack, template: Template, *, seconds: float, full_rate: float) -> None:
    """Added latency from the producer's send to the reply in its hands, at shares of full load."""
    for share in (0.1, 0.5):
        rate = max(10.0, full_rate * share)
        async with gateway(stack, template) as system, Driver(system) as driver:
            await driver.paced(int(rate * 2), rate=rate, job_class=JobClass.REALTIME)
            driver.latencies.clear()
            before = read(system)
            jobs = int(rate * seconds)
            await driver.paced(jobs, rate=rate, job_class=JobClass.REALTIME)
            after = read(system)
            emit(
                "latency",
                load=share,
                rate=round(rate),
                jobs=jobs,
                added_p50_ms=round(percentile(driver.latencies, 0.5) - UPSTREAM_MS, 1),
                added_p99_ms=round(percentile(driver.latencies, 0.99) - UPSTREAM_MS, 1),
                **after.per_job(before, jobs),
            )


async def memory(stack: Stack, template: Template, *, jobs: int) -> None:
    """Resident memory with 1,000 in flight, and its growth over `jobs` more jobs after warm-up."""
    async with gateway(stack, template) as system, Driver(system) as driver:
        worker = next(iter(system.workers.values()))
        await driver.closed(20_000, window=1500, classes=MIX)
        warm = worker.rss_bytes()
        await driver.closed(jobs, window=1500, classes=MIX)
        grown = worker.rss_bytes() - warm
        emit(
            "memory",
            in_flight=1000,
            worker_mb=round(worker.rss_bytes() / 1e6),
            growth_mb_per_100k=round(grown / 1e6 / jobs * 100_000, 2),
            jobs=jobs,
        )


async def history(
    stack: Stack, template: Template, *, jobs: int, finished: int, identities: int
) -> None:
    """The same load on an empty ledger, on a full one, and with an old snapshot open: cost a job."""
    costs: dict[str, dict[str, float]] = {}

    async def measure(name: str, system: System, driver: Driver) -> None:
        await driver.closed(2_000, window=1500, classes=MIX)
        before = read(system)
        await driver.closed(jobs, window=1500, classes=MIX)
        costs[name] = read(system).per_job(before, jobs)

    async with gateway(stack, template) as system, Driver(system) as driver:
        await measure("empty", system, driver)
        await ledger_fill.fill(system.pool, finished=finished, identities=identities)
        await measure("full", system, driver)
        async with system.pool.acquire() as side, side.transaction(isolation="repeatable_read"):
            await side.fetchval("select count(*) from sluice.lanes")
            await measure("old_snapshot", system, driver)
    empty = costs["empty"]["postgres_us"]
    emit(
        "history",
        jobs=jobs,
        finished=finished,
        identities=identities,
        postgres_us={name: cost["postgres_us"] for name, cost in costs.items()},
        worker_us={name: cost["workers_us"] for name, cost in costs.items()},
        full_over_empty=round(costs["full"]["postgres_us"] / empty, 3),
        snapshot_over_empty=round(costs["old_snapshot"]["postgres_us"] / empty, 3),
    )


async def claims(stack: Stack, template: Template, *, parked: int) -> None:
    """Postgres CPU a claimed row from a long backlog, in tenths of it, with an old snapshot open."""
    async with database_from(template.admin_dsn, template.name) as dsn:
        await ledger_fill.claim_flat(stack, dsn, parked=parked, emit=emit)


async def streams(stack: Stack, template: Template, *, jobs: int) -> None:
    """CPU a delta, and the time to the first one beyond the provider's own."""
    async with gateway(stack, template) as system, Driver(system) as driver:
        await driver.paced(20, rate=10, job_class=JobClass.REALTIME, model="bench-stream")
        await driver.paced(jobs, rate=10, job_class=JobClass.REALTIME)
        driver.first_deltas.clear()
        driver.deltas = 0
        before = read(system)
        await driver.paced(jobs, rate=10, job_class=JobClass.REALTIME)
        plain = read(system)
        await driver.paced(jobs, rate=10, job_class=JobClass.REALTIME, model="bench-stream")
        after = read(system)
        more = after.per_job(plain, jobs)["workers_us"] - plain.per_job(before, jobs)["workers_us"]
        emit(
            "stream",
            jobs=jobs,
            deltas_per_job=round(driver.deltas / jobs, 1),
            worker_us_per_delta=round(more / max(1.0, driver.deltas / jobs), 1),
            added_first_delta_p50_ms=round(percentile(driver.first_deltas, 0.5) - UPSTREAM_MS, 1),
            added_first_delta_p99_ms=round(percentile(driver.first_deltas, 0.99) - UPSTREAM_MS, 1),
        )


async def naive(stack: Stack, template: Template, *, jobs: int, ours_us: float | None) -> None:
    """The obvious way beside it: one handler a message, httpx, an insert and an update, a reply."""
    async with (
        gateway(stack, template, workers=0) as system,
        NaiveBaseline(system) as baseline,
        Driver(system, model="gpt-4o-mini@latency=60ms") as driver,
    ):
        await driver.closed(300, window=200, classes=(JobClass.STANDARD,))
        before, start = baseline.cpu_seconds(), time.monotonic()
        await driver.closed(jobs, window=200, classes=(JobClass.STANDARD,))
        cost = (baseline.cpu_seconds() - before) / jobs * 1e6
        emit(
            "naive",
            jobs=jobs,
            worker_us=round(cost, 1),
            jobs_per_s=round(jobs / (time.monotonic() - start)),
            ratio=None if ours_us is None else round(cost / ours_us, 1),
        )
