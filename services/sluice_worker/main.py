"""The worker process: settings and connections in, a running pipeline, an orderly end."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import asyncpg
import structlog
from faststream.kafka import KafkaBroker

from sluice_core.config.load import load_for_pool, parse_for_pool
from sluice_core.config.model import Config
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.keys.provider import ProviderKeys, StoredKeys
from sluice_core.keys.repository import KeyRepository
from sluice_core.keys.ring import Keys
from sluice_core.ledger import check_meanings, check_migrations
from sluice_core.presence.repository import PresenceRepository
from sluice_core.presence.service import Heart
from sluice_core.pricing.book import PriceBook
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_platform import crash
from sluice_platform.db import DATABASE_ERRORS, connect_pool, wait_for_database
from sluice_platform.errors import StartupError
from sluice_platform.health import serve_health
from sluice_platform.kafka import (
    admin,
    cluster_id,
    consumer_broker,
    producer,
    start_consuming,
    wait_for_kafka,
)
from sluice_platform.lifecycle import TaskSet, calm_collector
from sluice_platform.notices import Notices
from sluice_platform.settings import Settings
from sluice_providers.http import Transport
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import DEAD_LETTER_OVERHEAD_BYTES, Topics, control_group, group_of
from sluice_worker.backlog import Backlog
from sluice_worker.intake import Subscription
from sluice_worker.key_uses import flush_key_uses, flush_once
from sluice_worker.worker import Worker

STARTUP_PATIENCE_S = 60.0
DATABASE_CONNECTIONS = 12

_log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What the command line says: the pool served and the classes read."""

    pool: str = "default"
    classes: tuple[JobClass, ...] = tuple(JobClass)


async def run(settings: Settings, options: WorkerOptions, stop: asyncio.Event) -> int:
    """Serve until `stop` is set; the exit status. Raises StartupError where it cannot start."""
    config = load_for_pool(settings.need_config(), options.pool, os.environ)
    crash.arm(settings.crash_plan())
    await wait_for_database(settings.need_database(), STARTUP_PATIENCE_S)
    await wait_for_kafka(settings, STARTUP_PATIENCE_S)
    name = settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
    incarnation = secrets.randbits(62) + 1
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(await _pool(settings, name))
        await check_migrations(database)
        if config.cache.semantic is not None:
            await check_meanings(database)
        # The keeper's duty; a worker that starts after it was away for long does it too.
        await UpkeepRepository(database, incarnation).ensure_partitions()
        await _wait_for_topics(settings, config, options, stop)
        keys = await _keys(settings, database)
        # Reading the price catalogue takes about a second of the loop: before anybody counts our beats.
        prices = PriceBook()
        presence = PresenceRepository(database)
        await presence.register(incarnation, name=name, kind="worker", pool=options.pool)
        keys_version = (await presence.beat(incarnation)).keys_version
        await keys.refresh(keys_version)
        origin = Origin(
            cell=config.cell,
            topics=Topics(prefix=config.kafka.prefix),
            record_bytes=config.limits.record_bytes,
        )
        outbox = OutboxRepository(database, origin)
        worker = Worker(
            config,
            pool=options.pool,
            classes=options.classes,
            incarnation=incarnation,
            database=database,
            publisher=await stack.enter_async_context(_publisher(settings, config, outbox)),
            origin=origin,
            outbox=outbox,
            transport=await stack.enter_async_context(Transport()),
            keys=keys,
            stored_keys=StoredKeys(ProviderKeys(database), settings.master_keys()),
            prices=prices,
            cluster_id=await cluster_id(settings),
            parse=lambda text: parse_for_pool(text, options.pool, os.environ),
        )
        await worker.follow_stored_keys(keys_version)
        await worker.prepare()
        heart = Heart(presence, incarnation, worker.beat)
        if settings.health is not None:
            await stack.enter_async_context(serve_health(settings.health, heart.healthy))
        calm_collector()
        async with TaskSet(stop) as tasks:
            tasks.start("heart", heart.run())
            worker.start(tasks)
            tasks.start("key_uses", flush_key_uses(keys))
            tasks.start("notices", _notices(settings, keys, name).run())
            backlog = Backlog(ParkedRepository(database), config.worker.backlog)
            tasks.start("backlog", backlog.run())
            await _serve(settings, config, options, worker=worker, backlog=backlog, stop=stop)
        await flush_once(keys)
        try:
            await presence.leave(incarnation)
        except DATABASE_ERRORS as exc:
            _log.warning("worker.not_unregistered", error=repr(exc))  # the keeper will bury it
        _log.info("worker.stopped", name=name)
    return 0


async def _serve(
    settings: Settings,
    config: Config,
    options: WorkerOptions,
    *,
    worker: Worker,
    backlog: Backlog,
    stop: asyncio.Event,
) -> None:
    """Read Kafka until `stop`; then drain, and leave the groups last."""
    broker = consumer_broker(settings)
    subscriptions = _subscriptions(
        broker, config, options, settings, worker=worker, backlog=backlog
    )
    await start_consuming(broker)
    async with TaskSet(stop) as tasks:
        tasks.start("watchdog", _watch(subscriptions))
        _log.info("worker.ready", pool=options.pool, classes=[c.label for c in options.classes])
        await stop.wait()
        for subscription in subscriptions:
            subscription.stop()
        await worker.drain(config.grace_s)
    for subscription in subscriptions:
        await subscription.close()
    await broker.stop()


async def _pool(settings: Settings, name: str) -> asyncpg.Pool:
    return await connect_pool(
        settings.need_database(),
        size=DATABASE_CONNECTIONS,
        statement_timeout_s=10.0,
        lock_timeout_s=5.0,
        application_name=f"sluice-worker {name}"[:63],
        behind_pooler=settings.behind_pooler,
    )


async def _keys(settings: Settings, database: asyncpg.Pool) -> Keys:
    repository = KeyRepository(database)
    if settings.master_key is None and await repository.any_usable():
        raise StartupError(
            "there are API keys, and SLUICE_MASTER_KEY is not set: "
            "write the 64 hexadecimal digits they were created under"
        )
    return Keys(repository, settings.master_keys())


def _notices(settings: Settings, keys: Keys, name: str) -> Notices:
    """Revocations count at once; where nothing is heard, the next heartbeat brings them."""
    return Notices(
        settings.need_direct_database(),
        {"sluice_keys": keys.reload},
        application_name=f"sluice-worker {name} notices"[:63],
    )


async def _wait_for_topics(
    settings: Settings, config: Config, options: WorkerOptions, stop: asyncio.Event
) -> None:
    """Return once the topics to be read exist; StartupError after a bounded wait that says what is missing."""
    wanted = {name for names, _ in _groups(config, options) for name in names}
    deadline = time.monotonic() + STARTUP_PATIENCE_S
    client = admin(settings)
    await client.start()
    try:
        while missing := sorted(wanted - set(await client.list_topics())):
            names = ", ".join(missing)
            if time.monotonic() > deadline or stop.is_set():
                raise StartupError(f"no such topics: {names}. Run `sluice topics create`.")
            _log.warning(
                "worker.waiting_for_topics", topics=names, hint="run `sluice topics create`"
            )
            await asyncio.sleep(2.0)
    finally:
        await client.close()


def _groups(config: Config, options: WorkerOptions) -> list[tuple[list[str], JobClass | None]]:
    """The topics of each group that this worker reads; None stands for control."""
    topics, extra = Topics(prefix=config.kafka.prefix), config.intake.topics

    def also(label: str) -> list[str]:
        return [topic.name for topic in extra if topic.job_class == label]

    jobs: list[tuple[list[str], JobClass | None]] = [
        ([topics.jobs(c), *also(c.label)], c) for c in options.classes
    ]
    return [*jobs, ([topics.control, *also("control")], None)]


def _publisher(settings: Settings, config: Config, outbox: OutboxRepository) -> Publisher:
    largest = config.limits.record_bytes + DEAD_LETTER_OVERHEAD_BYTES
    return Publisher(
        outbox,
        urgent=producer(settings, linger_ms=0, max_request_size=largest),
        steady=producer(settings, linger_ms=0, max_request_size=largest),
    )


def _subscriptions(
    broker: KafkaBroker,
    config: Config,
    options: WorkerOptions,
    settings: Settings,
    *,
    worker: Worker,
    backlog: Backlog,
) -> list[Subscription]:
    prefix = config.kafka.prefix
    subscriptions = []
    for names, job_class in _groups(config, options):
        if job_class is None:
            usual = Topics(prefix=prefix).control
            group, take, full = control_group(prefix), worker.control.take, _never
            full_topics: Callable[[], Collection[str]] = tuple
        else:
            usual = Topics(prefix=prefix).jobs(job_class)
            group, take = group_of(job_class, prefix), worker.take
            full = backlog.check(job_class, worker.busy)
            full_topics = partial(worker.crowds.full_topics, job_class)
        subscriptions.append(
            Subscription(
                broker,
                names,
                group,
                take,
                full=full,
                full_topics=full_topics,
                instance=member_name(settings.worker_name, names, usual=usual),
            )
        )
    return subscriptions


def member_name(name: str | None, topics: Sequence[str], *, usual: str) -> str | None:
    """The static member that a worker of a stable name is in a group; None: it has no such name.

    A broker gives a static member that comes back its old partitions and looks at nothing else: of topics that were
    added meanwhile nobody would read. So one that reads other topics than the `usual` one is another member.
    """
    if name is None or list(topics) == [usual]:
        return name
    return f"{name}-{sha256(chr(10).join(sorted(topics)).encode()).hexdigest()[:8]}"


def _never() -> bool:
    return False


async def _watch(subscriptions: Sequence[Subscription]) -> None:
    while True:
        await asyncio.sleep(1.0)
        for subscription in subscriptions:
            if subscription.stalled():
                raise RuntimeError(f"the consumer of group {subscription.group} does not move")
