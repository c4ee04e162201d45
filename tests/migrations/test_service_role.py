"""A login that is only a member of sluice_service can do everything that the processes do."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
from tests.integration.keeper.keeper_world import ORIGIN, Paper, ToldWatch, expiry, reaper
from tests.integration.ledger.world import HEAD, World, again, ended, reading, report, world

from sluice_core.audit.repository import AuditRepository
from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.names import NameRepository
from sluice_core.jobs.writes import DeadLetterEntry
from sluice_core.keys.model import KeyScope
from sluice_core.keys.repository import KeyRepository
from sluice_core.keys.service import KeyService
from sluice_core.ledger import check_migrations
from sluice_core.policies.model import Denial
from sluice_core.policies.repository import DenialRepository
from sluice_core.presence.repository import PresenceRepository
from sluice_core.publishing.policy import event_message
from sluice_core.publishing.repository import OutboxRepository
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_platform.ids import uuid7

MONTH_S = 31 * 86_400.0


@pytest.fixture
async def service(database: str) -> AsyncIterator[World]:
    owner = await asyncpg.connect(database)
    name = f"member_{uuid4().hex[:8]}"
    await owner.execute(f"create role {name} login password 'secret' in role sluice_service")
    parts = urlsplit(database)
    dsn = urlunsplit(parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}"))
    async with world(dsn) as opened:
        yield opened
    await owner.execute(f"drop role {name}")
    await owner.close()


async def test_jobs(service: World) -> None:
    worker = await service.worker()
    dead = DeadLetterEntry(
        record_id=uuid4(), topic="t", partition=0, offset=1, code="invalid_record", message="m",
        to_topic="d", key=None, headers=b"[]", value=b"x",
    )  # fmt: skip
    await worker.admit([], [dead])
    job = await service.calling(worker, "a")
    await worker.settle([again(job, report(Outcome.FAILED, money="none"))])
    (job,) = await worker.claim([(service.lane, *HEAD, 1)], limit=1, max_bytes=9999)
    job = await service.begin(worker, job)
    unknown = report(Outcome.UNKNOWN, money="unknown")
    await worker.settle([ended(job, State.CANCELLED, unknown, read_on=True)])
    await worker.settle([reading(job, unknown)])
    await worker.settle([reading(job, unknown)])
    owned = await service.admit(worker, service.entry("b"))
    assert set(await worker.mine()) == {owned.row}
    assert await worker.release([owned.row]) == 1
    assert await worker.cancel([("acme", owned.id, None), ("acme", None, "r")]) == 1
    assert await worker.flag_cancelled_runs(10) == 0
    await expiry(worker, Paper()).once()
    assert await service.state(owned) is State.CANCELLED
    gone = await service.worker(register=False)
    await service.calling(gone, "c")
    await reaper(service, worker, ToldWatch()).once()
    assert (await worker.archive(0, 0.0, 100))[1] == 3


async def test_names_presence_and_outbox(service: World) -> None:
    await check_migrations(service.pool)
    names, presence = NameRepository(service.pool), PresenceRepository(service.pool)
    await names.ensure_run("acme", "r")
    await names.pseudonym_key("acme", b"k")
    await names.ensure_user("acme", "pseudonym", "person")
    assert len(await names.lanes()) == 1
    worker = await service.worker()
    assert (await presence.beat(worker.incarnation)).known
    assert worker.incarnation in (await presence.beats())[0]
    outbox = OutboxRepository(service.pool, ORIGIN)
    message = event_message(
        ORIGIN, topic="t", kind="alert.raised", key="k", ce_id=uuid7(), at=time.time(), value={}
    )
    await outbox.add(worker.incarnation, [message])
    job = await service.calling(worker, "a")
    settled = await worker.settle([ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    assert len(await outbox.load([row for row, _, _ in settled.events])) == 2
    assert len(await outbox.of_jobs(worker.incarnation, [job.row])) == 2
    await outbox.give_up_replies([job.row])
    taken = await outbox.take(1, [worker.incarnation], 30.0, 100)
    await outbox.delete([due.id for due in taken])
    assert await service.count("sluice.outbox") == 0
    await presence.leave(worker.incarnation)


async def test_upkeep(service: World) -> None:
    worker = await service.worker()
    job = await service.calling(worker, "a")
    await worker.settle([ended(job, State.UNKNOWN, report(Outcome.UNKNOWN, money="unknown"))])
    upkeep = UpkeepRepository(service.pool, worker.incarnation)
    assert await upkeep.ensure_partitions() == 0
    assert (
        await upkeep.drop_partitions(payloads_s=MONTH_S, identities_s=MONTH_S, denials_s=MONTH_S)
        == []
    )
    assert await upkeep.purge(MONTH_S, 10) == 0
    (held,) = await upkeep.unresolved(0.0, 10)
    assert await upkeep.resolve(held.usage_id, uuid7(), 5)
    assert await upkeep.complete_runs(quiet_s=0.0, limit=1, topic="t", source="s") == []
    assert await upkeep.bury([worker.incarnation], 30.0) == []


async def test_keys_and_denials(service: World) -> None:
    master_key = b"m" * 32
    keys = KeyRepository(service.pool)
    made = await KeyService(keys, "ann@host").create(KeyScope(tenant="acme"), master_key=master_key)
    await keys.mark_used({made.id: 1_000.0})
    assert set(await keys.all((master_key,))) == {made.id}
    assert await service.count("sluice.outbox where kind = 5") == 1
    denial = Denial(
        record=uuid4(), tenant="acme", key_id=made.id, team=None, project=None, app=None, user_id=None,
        topic="t", model="m", code="forbidden", rule="tenant acme: policy.default deny",
    )  # fmt: skip
    denials = DenialRepository(service.pool)
    await denials.record([denial, denial])
    await denials.record([denial])
    (found,) = await denials.since(datetime(2000, 1, 1, tzinfo=UTC), "acme", 10)
    assert found.denial == denial
    upkeep = UpkeepRepository(service.pool, 1)
    ages = {"payloads_s": MONTH_S, "identities_s": MONTH_S, "denials_s": MONTH_S}
    assert await upkeep.drop_partitions(**ages) == []
    assert await AuditRepository(service.pool).since(datetime(2000, 1, 1, tzinfo=UTC), made.id, 1)


async def test_what_it_must_not_do(service: World) -> None:
    for refused in (
        "update finance.usage set cost_usd = 0",
        "delete from finance.usage",
        "truncate finance.usage",
        "update sluice.audit set actor = ''",
        "delete from sluice.audit",
        "update sluice.denials set code = ''",
        "delete from sluice.denials",
        "truncate sluice.denials",
        "drop table sluice.jobs",
        "alter table finance.usage disable trigger all",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.pool.execute(refused)
