"""The whole keeper against the real servers: its tasks, its probes, its records, and its orderly end."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from tests.integration.ledger.world import World, world
from tests.waiting import eventually

from sluice_core.config.load import load_config
from sluice_core.jobs.model import State
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OTHER
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_devstack.ground import free_port
from sluice_devstack.stack import Stack
from sluice_keeper.main import run
from sluice_keeper.records import Records
from sluice_platform.health import serve_health
from sluice_platform.settings import HostPort, Settings, load_settings
from sluice_schemas.classes import JobClass
from sluice_schemas.events import Alert
from sluice_schemas.topics import Topics, group_of


def settings_of(stack: Stack, database: str, config: Path, **more: str) -> Settings:
    environment = {"SLUICE_KAFKA": stack.kafka.bootstrap, "SLUICE_DATABASE": database}
    return load_settings(environment | {"SLUICE_CONFIG": str(config)} | more)


def configured(directory: Path, prefix: str, *lines: str) -> Path:
    path = directory / "sluice.yaml"
    path.write_text("\n".join((f"kafka: {{prefix: {prefix}}}", *lines)))
    return path


@asynccontextmanager
async def topics(stack: Stack, *names: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1) for name in names])
        yield admin
    finally:
        await admin.close()


async def write(stack: Stack, topic: str, count: int, timestamp_ms: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka.bootstrap)
    await producer.start()
    for number in range(count):
        await producer.send_and_wait(topic, b"%d" % number, timestamp_ms=timestamp_ms)
    await producer.stop()


async def commit(stack: Stack, group: str, topic: str, offset: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka.bootstrap, group_id=group)
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.start()
    await consumer.commit({TopicPartition(topic, 0): offset})
    await consumer.stop()


async def log_start(stack: Stack, topic: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.kafka.bootstrap)
    await consumer.start()
    starts = await consumer.beginning_offsets([TopicPartition(topic, 0)])
    await consumer.stop()
    start: int = starts[TopicPartition(topic, 0)]
    return start


async def records_task(
    stack: Stack, ledger: World, database: str, path: Path, prefix: str
) -> Records:
    origin = Origin(cell="main", topics=Topics(prefix=prefix), record_bytes=1024)
    keeper = await ledger.worker(kind="keeper")
    return Records(
        settings_of(stack, database, path),
        load_config(path),
        UpkeepRepository(ledger.pool, keeper.incarnation),
        origin,
        "cluster",
    )


async def test_records_go_when_they_are_admitted_and_old(
    stack: Stack, database: str, kafka_prefix: str, tmp_path: Path
) -> None:
    names = Topics(prefix=kafka_prefix)
    bulk, standard = names.jobs(JobClass.BULK), names.jobs(JobClass.STANDARD)
    path = configured(tmp_path, kafka_prefix)
    old, young = int((time.time() - 30 * 86_400) * 1000), int(time.time() * 1000)
    async with topics(stack, bulk, standard), world(database) as ledger:
        await write(stack, bulk, 6, old)
        await write(stack, bulk, 4, young)
        await write(stack, standard, 5, old)
        await commit(stack, group_of(JobClass.BULK, kafka_prefix), bulk, 9)
        await commit(stack, group_of(JobClass.STANDARD, kafka_prefix), standard, 3)
        tasks = [await records_task(stack, ledger, database, path, kafka_prefix) for _ in range(2)]
        await asyncio.gather(*(task.once() for task in tasks))
        assert await log_start(stack, bulk) == 6, "the young ones stay, admitted or not"
        assert await log_start(stack, standard) == 3, "those not admitted stay, however old"
        assert await ledger.count("sluice.outbox") == 0


async def test_lost_records_raise_one_alert_a_fact(
    stack: Stack, database: str, kafka_prefix: str, tmp_path: Path
) -> None:
    bulk = Topics(prefix=kafka_prefix).jobs(JobClass.BULK)
    path = configured(tmp_path, kafka_prefix)
    async with topics(stack, bulk) as admin, world(database) as ledger:
        await write(stack, bulk, 5, int(time.time() * 1000))
        await commit(stack, group_of(JobClass.BULK, kafka_prefix), bulk, 2)
        await admin.delete_records({TopicPartition(bulk, 0): RecordsToDelete(4)})
        tasks = [await records_task(stack, ledger, database, path, kafka_prefix) for _ in range(2)]
        await asyncio.gather(*(task.once() for task in tasks))
        await tasks[0].once()
        (row,) = await ledger.pool.fetch("select * from sluice.outbox where kind = $1", OTHER)
        alert = Alert.model_validate_json(row["value"])
        assert (alert.alert, alert.state, alert.scope) == ("records_lost", "raised", f"{bulk}/0")
        assert (alert.details["first_offset"], alert.details["last_offset"]) == (2, 3)
        assert row["topic"] == f"{kafka_prefix}alerts.v1"


async def test_a_keeper_ends_what_a_dead_worker_left_and_publishes_it(
    stack: Stack, database: str, kafka_prefix: str, tmp_path: Path
) -> None:
    names = Topics(prefix=kafka_prefix)
    results = names.results("acme")
    port = free_port()
    path = configured(tmp_path, kafka_prefix)
    stop = asyncio.Event()
    async with topics(stack, results, names.usage, names.runs), world(database) as ledger:
        gone = await ledger.worker(register=False)
        job = await ledger.calling(gone, "a")
        late = await ledger.admit(
            gone, ledger.entry("late", deadline=time.time() - 1, state=State.PARKED)
        )
        settings = settings_of(stack, database, path, SLUICE_HEALTH=f"127.0.0.1:{port}")
        running = [asyncio.create_task(run(settings_of(stack, database, path), stop))]
        running.append(asyncio.create_task(run(settings, stop)))
        consumer = AIOKafkaConsumer(
            results, bootstrap_servers=stack.kafka.bootstrap, auto_offset_reset="earliest"
        )
        await consumer.start()
        events: dict[str, set[str]] = {}
        async with asyncio.timeout(20):
            while len(events) < 2:
                record = await consumer.getone()
                headers = dict(record.headers)
                value = orjson.loads(record.value)
                events.setdefault(value["id"], set()).add(headers["ce_id"].decode())
        await consumer.stop()
        assert {str(job.id), str(late.id)} == set(events)
        assert all(len(ids) == 1 for ids in events.values())
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/healthz") as answer,
        ):
            assert answer.status == 200
        await eventually(lambda: _empty(ledger))
        stop.set()
        assert await asyncio.gather(*running) == [0, 0]
        assert await ledger.count("sluice.workers") == 0


async def _empty(ledger: World) -> bool:
    return await ledger.count("sluice.outbox") == 0


async def test_probes_say_what_the_check_says() -> None:
    well = True
    async with (
        serve_health(HostPort(host="127.0.0.1", port=0), lambda: well) as port,
        aiohttp.ClientSession() as session,
    ):
        for expected in (200, 503):
            async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                assert answer.status == expected
            well = False
        async with session.get(f"http://127.0.0.1:{port}/other") as answer:
            assert answer.status == 404
