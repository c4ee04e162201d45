"""The keeper process: settings and connections in, every task in a loop of its own, an orderly end."""

import asyncio
import os
import secrets
import socket
from contextlib import AsyncExitStack

import asyncpg
import structlog

from sluice_core.budgets.repository import BudgetRepository
from sluice_core.caching.repository import CacheRepository
from sluice_core.config.load import Withheld, load_config
from sluice_core.config.model import Config
from sluice_core.holds.repository import HoldRepository
from sluice_core.jobs.parked import ParkedRepository
from sluice_core.jobs.repository import JobRepository
from sluice_core.ledger import check_migrations
from sluice_core.presence.repository import Beat, PresenceRepository
from sluice_core.presence.service import Heart
from sluice_core.publishing.model import Origin
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.publishing.service import Publisher
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_keeper import (
    alerts,
    archive,
    cache,
    expiry,
    partitions,
    reaper,
    records,
    runs,
    shelf,
    sweeper,
    unknowns,
)
from sluice_keeper.rounds import OUTAGES, repeat
from sluice_keeper.watch import Watch
from sluice_platform import crash
from sluice_platform.clock import SystemClock
from sluice_platform.db import connect_pool, wait_for_database
from sluice_platform.health import serve_health
from sluice_platform.kafka import cluster_id, producer, wait_for_kafka
from sluice_platform.lifecycle import TaskSet
from sluice_platform.settings import Settings
from sluice_schemas.topics import DEAD_LETTER_OVERHEAD_BYTES, Topics

STARTUP_PATIENCE_S = 60.0
DATABASE_CONNECTIONS = 6
DRAIN_S = 5.0

_log = structlog.stdlib.get_logger(__name__)


async def _nothing_to_do(_beat: Beat) -> None:
    """A keeper holds no jobs that a beat could cancel."""


async def run(settings: Settings, stop: asyncio.Event) -> int:
    """Keep the ledger until `stop` is set; the exit status. Raises StartupError where it cannot start."""
    config = load_config(settings.need_config(), Withheld())
    crash.arm(settings.crash_plan())
    await wait_for_database(settings.need_database(), STARTUP_PATIENCE_S)
    await wait_for_kafka(settings, STARTUP_PATIENCE_S)
    name = settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
    incarnation = secrets.randbits(62) + 1
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(await _pool(settings, name))
        await check_migrations(database)
        presence = PresenceRepository(database)
        await presence.register(incarnation, name=name, kind="keeper", pool="")
        origin = Origin(
            cell=config.cell,
            topics=Topics(prefix=config.kafka.prefix),
            record_bytes=config.limits.record_bytes,
        )
        outbox = OutboxRepository(database, origin)
        publisher = await stack.enter_async_context(_publisher(settings, config, outbox))
        heart = Heart(presence, incarnation, _nothing_to_do)
        if settings.health is not None:
            await stack.enter_async_context(serve_health(settings.health, heart.healthy))
        keeper = Keeper(
            config,
            settings,
            database=database,
            incarnation=incarnation,
            origin=origin,
            outbox=outbox,
            publisher=publisher,
            cluster_id=await cluster_id(settings),
        )
        async with TaskSet(stop) as tasks:
            tasks.start("heart", heart.run())
            keeper.start(tasks)
            _log.info("keeper.ready", name=name)
            await stop.wait()
        await keeper.leave()
        _log.info("keeper.stopped", name=name)
    return 0


class Keeper:
    """The tasks, put together. Each is idempotent, so any number of keepers may run all of them."""

    def __init__(
        self,
        config: Config,
        settings: Settings,
        *,
        database: asyncpg.Pool,
        incarnation: int,
        origin: Origin,
        outbox: OutboxRepository,
        publisher: Publisher,
        cluster_id: str,
    ) -> None:
        clock = SystemClock()
        jobs = JobRepository(database, incarnation)
        upkeep = UpkeepRepository(database, incarnation)
        self._presence = PresenceRepository(database)
        self._incarnation = incarnation
        self._publisher = publisher
        watch = Watch(self._presence, clock)
        leases = config.worker
        self._reaper = reaper.Reaper(
            watch,
            jobs,
            upkeep,
            {name: account.provider_name for name, account in config.providers.items()},
            clock,
            owned_lease_s=leases.owned_lease,
            calling_lease_s=leases.calling_lease,
        )
        self._sweeper = sweeper.Sweeper(
            watch, outbox, publisher, incarnation, lease_s=leases.calling_lease
        )
        self._expiry = expiry.Expiry(jobs, publisher, clock, HoldRepository(database).current)
        self._shelf = shelf.Shelf(ParkedRepository(database))
        self._archive = archive.Archive(jobs)
        self._partitions = partitions.Partitions(upkeep, config.retention)
        self._unknowns = unknowns.Unknowns(upkeep, config.unknown)
        self._runs = runs.Runs(upkeep, origin)
        self._alerts = alerts.Alerts(BudgetRepository(database), origin, incarnation)
        self._cache = cache.Cache(CacheRepository(database, incarnation), config)
        self._records = records.Records(settings, config, upkeep, origin, cluster_id)

    def start(self, tasks: TaskSet) -> None:
        """Run every task in a loop of its own."""
        for name, once, every_s in (
            ("partitions", self._partitions.once, partitions.EVERY_S),
            ("reaper", self._reaper.once, reaper.EVERY_S),
            ("sweeper", self._sweeper.once, sweeper.EVERY_S),
            ("expiry", self._expiry.once, expiry.EVERY_S),
            ("shelf", self._shelf.once, shelf.EVERY_S),
            ("archive", self._archive.once, archive.EVERY_S),
            ("unknowns", self._unknowns.once, unknowns.EVERY_S),
            ("runs", self._runs.once, runs.EVERY_S),
            ("alerts", self._alerts.once, alerts.EVERY_S),
            ("records", self._records.once, records.EVERY_S),
            ("cache", self._cache.once, cache.EVERY_S),
        ):
            tasks.start(name, repeat(name, once, every_s=every_s))

    async def leave(self) -> None:
        """Give back what is held, let events arrive, and sign off; another keeper does what fails here."""
        try:
            await self._expiry.give_back()
            await self._publisher.drain(DRAIN_S)
            await self._presence.leave(self._incarnation)
        except OUTAGES as exc:
            _log.warning("keeper.left_to_others", error=repr(exc))


async def _pool(settings: Settings, name: str) -> asyncpg.Pool:
    return await connect_pool(
        settings.need_database(),
        size=DATABASE_CONNECTIONS,
        statement_timeout_s=30.0,
        lock_timeout_s=5.0,
        application_name=f"sluice-keeper {name}"[:63],
        behind_pooler=settings.behind_pooler,
    )


def _publisher(settings: Settings, config: Config, outbox: OutboxRepository) -> Publisher:
    largest = config.limits.record_bytes + DEAD_LETTER_OVERHEAD_BYTES
    return Publisher(
        outbox,
        urgent=producer(settings, linger_ms=0, max_request_size=largest),
        steady=producer(settings, linger_ms=0, max_request_size=largest),
    )
