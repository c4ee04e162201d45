"""A real observation: silence kills, an outage or a restart of the database does not."""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from tests.waiting import eventually

from sluice_core.presence.repository import PresenceRepository
from sluice_devstack.postgres import EmbeddedPostgres
from sluice_keeper.rounds import repeat
from sluice_keeper.watch import Watch
from sluice_migrations.run import upgrade

LEASE_S = 6.0


@dataclass
class HandClock:
    """A clock that the test moves."""

    at: float = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


async def test_the_silent_are_found_and_the_beating_are_not(database: str) -> None:
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
    presence, clock = PresenceRepository(pool), HandClock()
    watch = Watch(presence, clock)
    for incarnation in (1, 2):
        await presence.register(incarnation, name="w", kind="worker", pool="default")
    for _ in range(13):
        await presence.beat(1)
        await watch.read()
        clock.at += 0.5
    await watch.read()
    assert watch.silent(LEASE_S) == [2]
    await pool.close()


async def test_a_restart_of_the_database_while_watching_kills_nobody(short_directory: Path) -> None:
    clock = HandClock()
    async with EmbeddedPostgres(short_directory / f"watched-{secrets.token_hex(3)}") as server:
        await asyncio.to_thread(upgrade, server.dsn)
        pool = await asyncpg.create_pool(server.dsn, min_size=1, max_size=2)
        presence = PresenceRepository(pool)
        watch = Watch(presence, clock)
        await presence.register(2, name="w", kind="worker", pool="default")
        rounds, allowed = 0, 14

        async def once() -> bool:
            nonlocal rounds
            if rounds < allowed:
                await watch.read()
                clock.at += 0.5
                rounds += 1
            return False

        watching = asyncio.create_task(repeat("watch", once, every_s=0.01))
        await eventually(lambda: rounds == allowed)
        before = watch.silent(LEASE_S)
        await server.restart()
        clock.at += 3600.0
        allowed += 5
        await eventually(lambda: rounds == allowed)
        after = watch.silent(LEASE_S)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await pool.close()
    assert before == [2]
    assert after == []
