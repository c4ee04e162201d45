import asyncpg
import pytest
from aiokafka.admin import NewTopic
from aiokafka.structs import TopicPartition

from sluice_devstack.ground import free_port
from sluice_devstack.stack import Stack
from sluice_platform import db, kafka
from sluice_platform.errors import StartupError
from sluice_platform.settings import Settings, load_settings

pytestmark = pytest.mark.stack


@pytest.fixture
def settings(stack: Stack) -> Settings:
    return load_settings(stack.environment())


async def test_a_pool_bounds_every_wait(stack: Stack) -> None:
    pool = await db.connect_pool(
        stack.postgres.dsn,
        size=2,
        statement_timeout_s=0.2,
        lock_timeout_s=0.1,
        application_name="sluice test",
    )
    async with pool:
        assert pool.get_size() == 2
        assert await pool.fetchval("show application_name") == "sluice test"
        assert await pool.fetchval("show statement_timeout") == "200ms"
        assert await pool.fetchval("show lock_timeout") == "100ms"
        with pytest.raises(asyncpg.QueryCanceledError):
            await pool.fetchval("select pg_sleep(10)")
        async with pool.acquire() as holder, holder.transaction():
            await holder.execute("select pg_advisory_xact_lock(1)")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await pool.execute("select pg_advisory_xact_lock(1)")


async def test_behind_a_pooler_nothing_is_asked_of_the_session(stack: Stack) -> None:
    pool = await db.connect_pool(
        stack.postgres.dsn,
        size=1,
        statement_timeout_s=1,
        lock_timeout_s=1,
        application_name="sluice test",
        behind_pooler=True,
    )
    async with pool:
        assert await pool.fetchval("show statement_timeout") == "0"
        await pool.fetchval("select $1::int", 1)
        assert await pool.fetchval("select count(*) from pg_prepared_statements") == 0


async def test_waiting_for_a_database_has_an_end_and_no_password_in_its_message(
    stack: Stack,
) -> None:
    await db.wait_for_database(stack.postgres.dsn, 5)
    with pytest.raises(StartupError, match="does not answer after 0.1 s") as caught:
        await db.wait_for_database(f"postgresql://u:hunter2@127.0.0.1:{free_port()}/d", 0.1)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StartupError, match="refuses"):
        await db.wait_for_database(stack.postgres.dsn_of("no_such_database"), 60)


async def test_kafka_answers_with_its_cluster_id(settings: Settings, stack: Stack) -> None:
    await kafka.wait_for_kafka(settings, 10)
    known = (stack.kafka.data_dir / "cluster-id").read_text()
    assert await kafka.cluster_id(settings) == known


async def test_waiting_for_kafka_has_an_end() -> None:
    nobody = load_settings({"SLUICE_KAFKA": f"127.0.0.1:{free_port()}"})
    with pytest.raises(StartupError, match="does not answer"):
        await kafka.wait_for_kafka(nobody, 0.1)


async def test_produced_records_reach_a_batch_subscriber(
    settings: Settings, kafka_prefix: str
) -> None:
    import asyncio

    from faststream import AckPolicy

    topic = f"{kafka_prefix}jobs"
    admin = kafka.admin(settings)
    await admin.start()
    await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    await admin.close()

    received: asyncio.Queue[bytes] = asyncio.Queue()
    broker = kafka.consumer_broker(settings)
    subscriber = broker.subscriber(
        topic,
        batch=True,
        group_id=f"{kafka_prefix}group",
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        batch_timeout_ms=10,
        partition_assignment_strategy=(kafka.sticky_assignor("test"),),
    )

    @subscriber
    async def _take(values: list[bytes]) -> None:
        for value in values:
            received.put_nowait(value)

    producer = kafka.producer(settings, linger_ms=0, max_request_size=9_000_000)
    await producer.start()
    try:
        written = await producer.send_and_wait(topic, b"one")
        assert TopicPartition(written.topic, written.partition) == TopicPartition(topic, 0)
        await broker.start()
        assert await asyncio.wait_for(received.get(), 20) == b"one"
        # Partitions that are added later are noticed by both within half a minute.
        for client in (producer.client, subscriber.consumer._client):
            assert client.cluster.config["metadata_max_age_ms"] == 30_000
    finally:
        await broker.stop()
        await producer.stop()


def test_two_consumers_never_share_an_assignor() -> None:
    first, second = kafka.sticky_assignor("a"), kafka.sticky_assignor("b")
    assert first is not second
    assert first.name == second.name == "sticky"
