"""`sluice demo`: the whole system, a thousand jobs of three classes, and what became of them."""

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_cli.output import Json, Refused, print_json, say, warn
from sluice_cli.up import Database, Kafka, Workers, plan_of

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    from sluice_cli.demo.jobs import DemoJob
    from sluice_cli.demo.tally import Tally
    from sluice_cli.system import Plan, System
    from sluice_core.spending.model import UsageLine
    from sluice_schemas.classes import JobClass

_PATIENCE_S = 60.0
_TENANT = "default"
_SPREAD_S = {"realtime": 5.0, "standard": 2.0}
"""Seconds over which a class's jobs are sent."""

# A provider that takes its time, and now and then is overloaded: retries are part of the picture.
_MOODS = (
    {"behaviour": "status=503,retry_after=1", "probability": 0.02, "seed": 7},
    {"behaviour": "latency=lognormal:250ms:0.4,chunk_delay=5ms"},
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep its data here; default: a temporary directory."),
    ] = None,
    workers: Workers = 1,
    kafka: Kafka = None,
    database: Database = None,
    json_output: Json = False,
) -> None:
    """Run everything embedded, send a thousand jobs, and show results, queue times and cost.

    Needs nothing but this package: no account, no server. Exits 1 where a job is missing.

    Example: `sluice demo`, or `sluice demo --data .sluice` to look around afterwards with sluice up
    """
    from sluice_platform.lifecycle import run
    from sluice_platform.logging import configure_logging

    configure_logging(level="ERROR")
    directory = data or Path(tempfile.mkdtemp(prefix="sluice-demo-"))
    plan = plan_of(directory, workers, kafka, database, None)
    try:
        raise typer.Exit(run(lambda stop: _demonstrate(plan, stop, json_output=json_output)))
    finally:
        if data is None:
            shutil.rmtree(directory, ignore_errors=True)


async def _demonstrate(plan: "Plan", stop: asyncio.Event, *, json_output: bool) -> int:
    from sluice_cli.demo.jobs import packaged
    from sluice_cli.demo.show import NEXT, print_outcome
    from sluice_cli.demo.tally import Tally
    from sluice_cli.system import System

    def report(step: str) -> None:
        sys.stderr.write(f"  {step}\n")

    run_id = f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    jobs = packaged(run_id)
    tally = Tally({c.label: [job.custom_id for job in of_class] for c, of_class in jobs.items()})
    async with System(plan, report) as system:
        if system.mock_url is not None:
            await asyncio.to_thread(_set_moods, system.mock_url)
        async with _results(system) as consumer:
            started = time.monotonic()
            sending = asyncio.create_task(_send(system, jobs))
            await _follow(consumer, tally, stop, quiet=json_output)
            await sending
            took_s = time.monotonic() - started
        spent = await _spent(system, run_id)
    if json_output:
        print_json(_document(run_id, tally, spent, took_s))
    else:
        print_outcome(tally, spent, took_s)
    if stop.is_set() or tally.missing:
        warn(f"{len(tally.missing)} jobs have no result: {', '.join(tally.missing[:10])}")
        return 1
    if not json_output:
        say(NEXT)
    return 0


def _set_moods(mock_url: str) -> None:
    import json
    import urllib.request

    for mood in _MOODS:
        request = urllib.request.Request(  # noqa: S310 - our own mock on the loopback interface
            f"{mock_url}/_mock/rules", data=json.dumps(mood).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - as above
            pass


@asynccontextmanager
async def _results(system: "System") -> AsyncIterator["AIOKafkaConsumer"]:
    """A reader of the tenant's results from now on."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    from sluice_cli.session import broker
    from sluice_core.topics.service import TopicService
    from sluice_platform.kafka import security
    from sluice_schemas.topics import Topics

    config = system.config
    if _TENANT not in config.tenants or config.intake.unsigned_tenant != _TENANT:
        raise Refused(
            f"{system.config_path}: the demonstration sends unsigned jobs of tenant {_TENANT}; "
            f"it needs intake.unsigned: tenant:{_TENANT}"
        )
    topic = Topics(prefix=config.kafka.prefix).results(_TENANT)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=system.settings.need_kafka(), **security(system.settings)
    )
    async with consumer:
        async with broker(system.settings) as admin:
            numbers = await TopicService(admin).partitions([topic])
        partitions = [TopicPartition(topic, number) for number in numbers[topic]]
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        yield consumer


async def _send(system: "System", jobs: "dict[JobClass, list[DemoJob]]") -> None:
    """Bulk at once, the rest spread over seconds: what is urgent then shows that it does not wait."""
    from sluice_platform.kafka import producer

    async with producer(system.settings, linger_ms=5, max_request_size=1024**2) as sender:
        await asyncio.gather(
            *(_send_class(sender, system, job_class, jobs[job_class]) for job_class in jobs)
        )


async def _send_class(
    sender: "AIOKafkaProducer", system: "System", job_class: "JobClass", jobs: "list[DemoJob]"
) -> None:
    from sluice_schemas.topics import Topics

    topics = Topics(prefix=system.config.kafka.prefix)
    reply = [("reply_to", topics.replies(_TENANT).encode())]
    pause_s = _SPREAD_S.get(job_class.label, 0.0) / len(jobs)
    sent = []
    for job in jobs:
        headers = reply if job.streams else []
        key = job.custom_id.encode()
        sent.append(await sender.send(topics.jobs(job_class), job.value, key=key, headers=headers))
        if pause_s:
            await asyncio.sleep(pause_s)
    await asyncio.gather(*sent)


async def _follow(
    consumer: "AIOKafkaConsumer", tally: "Tally", stop: asyncio.Event, *, quiet: bool
) -> None:
    """Take results, with a bar per class, until all are there, none comes in time, or Ctrl-C."""
    import orjson
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bars = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + _PATIENCE_S
    with Progress(*bars, disable=quiet) as progress:
        tasks = {
            name: progress.add_task(name, total=of_class.sent)
            for name, of_class in tally.classes.items()
        }
        while tally.missing and not stop.is_set() and time.monotonic() < deadline:
            batches: dict[Any, Sequence[Any]] = await consumer.getmany(timeout_ms=200)
            for record in (record for batch in batches.values() for record in batch):
                name = tally.take(orjson.loads(record.value))
                if name is not None:
                    progress.advance(tasks[name])


async def _spent(system: "System", run_id: str) -> "list[UsageLine]":
    from sluice_cli.session import ledger
    from sluice_core.spending.model import UsageQuery
    from sluice_core.spending.repository import SpendingRepository

    query = UsageQuery(by=("run_id", "project"), since=datetime.now(UTC).date())
    async with ledger(system.settings) as pool:
        lines = await SpendingRepository(pool).report(query)
    return [line for line in lines if line.group[0] == run_id]


def _document(
    run_id: str, tally: "Tally", spent: "Sequence[UsageLine]", took_s: float
) -> dict[str, Any]:
    from sluice_cli.demo.tally import percentile

    return {
        "run_id": run_id,
        "seconds": round(took_s, 3),
        "classes": {
            name: {
                "sent": of_class.sent,
                "states": of_class.states,
                "queued_p50_ms": percentile(of_class.queued_ms, 0.50),
                "queued_p99_ms": percentile(of_class.queued_ms, 0.99),
            }
            for name, of_class in tally.classes.items()
        },
        "missing": tally.missing,
        "projects": [
            {"project": line.group[-1], "calls": line.calls, "cost_usd": f"{line.cost_usd:.9f}"}
            for line in spent
        ],
    }
