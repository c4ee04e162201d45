import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition
from tests.waiting import eventually

from sluice_devstack.errors import DataDirectoryInUse, PortBusy
from sluice_devstack.kafka import EmbeddedKafka
from sluice_devstack.stack import Stack

pytestmark = pytest.mark.stack

_TOPIC = "kept"
_LARGEST = 8 * 1024 * 1024 + 128 * 1024

_PARENT = """
import asyncio, json, sys
from pathlib import Path
from sluice_devstack.stack import Stack

async def main():
    async with Stack(Path(sys.argv[1])) as stack:
        print(json.dumps([stack.postgres.pid, stack.kafka.pid]), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sluice-stack-"))
    yield path
    shutil.rmtree(path)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def _create_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _produce(bootstrap: str, value: bytes) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, enable_idempotence=True, max_request_size=_LARGEST + 65_536
    )
    await producer.start()
    try:
        await producer.send_and_wait(_TOPIC, value, partition=0)
    finally:
        await producer.stop()


async def _consume(bootstrap: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        partition = TopicPartition(_TOPIC, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await asyncio.wait_for(consumer.getone(), 20)).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_kafka_keeps_what_it_acknowledged(directory: Path) -> None:
    largest = os.urandom(1024) * (_LARGEST // 1024)
    async with EmbeddedKafka(directory / "kafka") as kafka:
        bootstrap = kafka.bootstrap
        await _create_topic(bootstrap, _TOPIC)
        await _produce(bootstrap, b"before the crash")
        await kafka.kill()
        await kafka.start()
        assert kafka.bootstrap == bootstrap
        await _produce(bootstrap, largest)
        kafka.freeze()
        kafka.thaw()
        assert await _consume(bootstrap, 2) == [b"before the crash", largest]
    async with EmbeddedKafka(directory / "kafka") as kafka:
        assert (await _consume(kafka.bootstrap, 2))[0] == b"before the crash"


async def test_kafka_makes_no_topic_by_itself(stack: Stack) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka.bootstrap)
    await admin.start()
    try:
        await admin.describe_topics(["never-made"])
        assert "never-made" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_a_live_stack_holds_its_directory_and_ports(stack: Stack, directory: Path) -> None:
    with pytest.raises(DataDirectoryInUse):
        await Stack(stack.data_dir).__aenter__()
    port = int(stack.kafka.bootstrap.partition(":")[2])
    with pytest.raises(PortBusy, match="Kafka cannot listen"):
        await EmbeddedKafka(directory / "kafka", port=port).start()


async def test_the_environment_reaches_both_servers(stack: Stack) -> None:
    environment = stack.environment()
    connection = await asyncpg.connect(environment["SLUICE_DATABASE"])
    try:
        assert await connection.fetchval("select current_database()") == "sluicegate"
    finally:
        await connection.close()
    assert environment["SLUICE_KAFKA"] == stack.kafka.bootstrap


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
async def test_no_server_outlives_its_parent_and_the_data_is_usable(
    directory: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(await asyncio.to_thread(parent.stdout.readline))
        assert not any(_gone(pid) for pid in pids)
        parent.send_signal(number)
        await eventually(lambda: parent.poll() is not None, within_s=30)
    # At once, while the servers of the dead parent may still be stopping.
    async with Stack(directory) as again:
        assert all(_gone(pid) for pid in pids)
        connection = await asyncpg.connect(again.postgres.dsn)
        await connection.close()
