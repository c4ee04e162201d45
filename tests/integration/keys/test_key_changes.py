"""Keys on a real ledger: every change is audited and announced, and the master key can change."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest
from tests.waiting import eventually

from sluice_core.keys.model import KeyScope
from sluice_core.keys.policy import usable
from sluice_core.keys.provider import ProviderKeys
from sluice_core.keys.repository import KeyRepository
from sluice_core.keys.ring import Keys
from sluice_core.keys.service import KeyRefused, KeyService
from sluice_platform.notices import Notices

OLD, NEW = os.urandom(32), os.urandom(32)
SCOPE = KeyScope(tenant="acme", user="jo")


@pytest.fixture
async def pool(database: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(database, min_size=1, max_size=3) as opened:
        yield opened


def service(pool: asyncpg.Pool) -> KeyService:
    return KeyService(KeyRepository(pool), "ann@host")


async def audit(pool: asyncpg.Pool) -> list[tuple[str, str, Any, Any]]:
    rows = await pool.fetch("select action, subject, before, after from sluice.audit order by id")
    return [
        (
            row["action"],
            row["subject"],
            row["before"] and orjson.loads(row["before"]),
            row["after"] and orjson.loads(row["after"]),
        )
        for row in rows
    ]


async def test_every_change_says_what_was_and_what_is(pool: asyncpg.Pool) -> None:
    keys = service(pool)
    made = await keys.create(SCOPE, master_key=OLD, expires_in_s=500.0)
    newer = await keys.rotate(made.id, master_key=OLD, overlap_s=60.0)
    await keys.revoke(newer.id)
    create, rotate, revoke = await audit(pool)
    assert create[:3] == ("key.create", made.id, None)
    assert create[3]["user"] == "jo"
    assert rotate[:2] == ("key.rotate", made.id)
    assert rotate[3]["replaced_by"] == newer.id
    assert rotate[2]["expires_at"] > rotate[3]["expires_at"]
    assert revoke[:2] == ("key.revoke", newer.id)
    assert (revoke[2]["revoked_at"], revoke[3]["revoked_at"] is None) == (None, False)
    for secret in (made.secret, newer.secret):
        assert secret not in str(await audit(pool))
    with pytest.raises(KeyRefused):
        await keys.rotate(newer.id, master_key=OLD, overlap_s=1.0)
    assert (await KeyRepository(pool).all((OLD,)))[newer.id].user == "jo"


async def test_the_master_key_changes_without_a_moment_in_which_keys_do_not_open(
    pool: asyncpg.Pool,
) -> None:
    keys, repository = service(pool), KeyRepository(pool)
    made = [(await keys.create(SCOPE, master_key=OLD)).id for _ in range(3)]
    await keys.revoke(made[2])
    # Workers with both, before and after; those with one alone are told apart.
    assert set(await repository.all((NEW, OLD))) == set(made)
    assert (await repository.seals(NEW, OLD)).previous == tuple(made[:2])
    during = (await keys.create(SCOPE, master_key=NEW, previous=OLD)).id
    with pytest.raises(KeyRefused, match="does not open"):
        await keys.create(SCOPE, master_key=NEW)
    assert await keys.rotate_master(master_key=NEW, previous=OLD) == 3
    assert set(await repository.all((NEW, OLD))) == {*made, during}
    assert set(await repository.all((NEW,))) == {*made, during}
    seals = await repository.seals(NEW, OLD)
    assert (set(seals.current), seals.previous, seals.neither) == ({*made[:2], during}, (), ())
    assert await keys.rotate_master(master_key=NEW, previous=OLD) == 0
    changed = [entry for entry in await audit(pool) if entry[0] == "key.reseal"]
    assert sorted(entry[1] for entry in changed) == sorted(made)


async def test_providers_keys_change_their_master_key_too(pool: asyncpg.Pool) -> None:
    kept = ProviderKeys(pool)
    await kept.put("openai", "main", "sk-1", master_key=OLD, actor="me")
    await kept.put("openai", "next", "sk-2", master_key=OLD, actor="me")
    assert await kept.all((OLD,)) == {"openai": ("sk-1", "sk-2")}
    assert await kept.all((NEW,)) == {}
    with pytest.raises(KeyRefused, match="sluice provider-keys remove openai --name main"):
        await service(pool).create(SCOPE, master_key=NEW)
    assert await service(pool).rotate_master(master_key=NEW, previous=OLD) == 2
    assert await kept.all((NEW,)) == {"openai": ("sk-1", "sk-2")}
    # Sealed for its own place: moved to another account's name it does not open.
    await pool.execute("update sluice.provider_keys set account = 'other' where name = 'main'")
    assert await kept.all((NEW,)) == {"openai": ("sk-2",)}


async def test_nothing_is_resealed_where_a_key_opens_under_neither(pool: asyncpg.Pool) -> None:
    keys = service(pool)
    lost = await keys.create(SCOPE, master_key=os.urandom(32))
    with pytest.raises(KeyRefused, match=lost.id):
        await keys.rotate_master(master_key=NEW, previous=OLD)
    await keys.revoke(lost.id)
    assert await keys.rotate_master(master_key=NEW, previous=OLD) == 0


async def test_two_that_reseal_at_once_leave_keys_that_open(pool: asyncpg.Pool) -> None:
    keys = service(pool)
    for _ in range(20):
        await keys.create(SCOPE, master_key=OLD)
    counts = await asyncio.gather(
        *(keys.rotate_master(master_key=NEW, previous=OLD) for _ in range(2))
    )
    assert sum(counts) == 20
    assert len(await KeyRepository(pool).all((NEW,))) == 20


async def test_the_last_use_is_kept_and_never_goes_back(pool: asyncpg.Pool) -> None:
    keys, ring = service(pool), Keys(KeyRepository(pool), (OLD,))
    first = (await keys.create(SCOPE, master_key=OLD)).id
    second = (await keys.create(SCOPE, master_key=OLD)).id
    ring.used(first, 1_000.0)
    ring.used(first, 900.0)
    ring.used("sgk_gone", 5.0)
    await ring.flush_uses()
    ring.used(first, 500.0)
    await ring.flush_uses()
    await ring.flush_uses()
    last = {key.id: key.last_used_at for key in await keys.list()}
    assert last[second] is None
    assert last[first] is not None
    assert last[first].timestamp() == 1_000.0


async def test_uses_that_cannot_be_written_are_remembered(pool: asyncpg.Pool) -> None:
    keys, ring = service(pool), Keys(KeyRepository(pool), (OLD,))
    made = (await keys.create(SCOPE, master_key=OLD)).id
    ring.used(made, 1_000.0)
    await pool.execute("alter table sluice.keys rename to keys_away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await ring.flush_uses()
    await pool.execute("alter table sluice.keys_away rename to keys")
    await ring.flush_uses()
    (key,) = await keys.list()
    assert key.last_used_at is not None


async def test_a_revocation_is_heard_at_once_and_counts_whatever_the_clock_says(
    pool: asyncpg.Pool, database: str
) -> None:
    keys, ring = service(pool), Keys(KeyRepository(pool), (OLD,))
    made = await keys.create(SCOPE, master_key=OLD)
    listening = asyncio.create_task(
        Notices(database, {"sluice_keys": ring.reload}, application_name="test notices").run()
    )
    try:
        await eventually(lambda: ring.get(made.id) is not None)
        await keys.revoke(made.id)
        await eventually(lambda: _revoked(ring, made.id), within_s=1.0)
        # A lost connection is made again, and what was missed is read.
        await pool.execute(
            "update sluice.keys set revoked_at = clock_timestamp() + interval '1 hour'"
        )
        await pool.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test notices'"
        )
        other = await keys.create(SCOPE, master_key=OLD)
        await eventually(lambda: ring.get(other.id) is not None, within_s=15.0)
        assert _revoked(ring, made.id)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_silent_connection_is_asked_and_listens_on(
    pool: asyncpg.Pool, database: str
) -> None:
    heard: list[int] = []

    async def hear() -> None:
        heard.append(1)

    notices = Notices(database, {"sluice_keys": hear}, application_name="test quiet", check_s=0.05)
    listening = asyncio.create_task(notices.run())

    async def asked() -> bool:
        query = "select query from pg_stat_activity where application_name = 'test quiet'"
        return bool(await pool.fetchval(query) == "select 1")

    try:
        await eventually(asked)
        await pool.execute("notify sluice_keys")
        await eventually(lambda: len(heard) >= 2)
        assert not listening.done()
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


def _revoked(ring: Keys, key_id: str) -> bool:
    key = ring.get(key_id)
    return key is not None and not usable(key, time.time())
