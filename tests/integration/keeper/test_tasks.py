"""Every task of the keeper on a real ledger, by one keeper and by several at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from tests.integration.keeper.keeper_world import ORIGIN, Paper, ToldWatch, expiry
from tests.integration.ledger.world import World, ended, report, world

from sluice_core.config.model import RetentionConfig, UnknownConfig
from sluice_core.jobs.model import Outcome, State
from sluice_core.jobs.policy import Admission
from sluice_core.publishing.repository import OutboxRepository, unpack_headers
from sluice_core.upkeep.repository import UpkeepRepository
from sluice_keeper.archive import Archive
from sluice_keeper.partitions import Partitions
from sluice_keeper.runs import Runs
from sluice_keeper.sweeper import Sweeper
from sluice_keeper.unknowns import Unknowns
from sluice_schemas.events import Audit, RunCompleted

DAY_S = 86_400.0


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


async def upkeep(ledger: World) -> UpkeepRepository:
    keeper = await ledger.worker(kind="keeper")
    return UpkeepRepository(ledger.pool, keeper.incarnation)


async def finished(ledger: World, key: str, **options: object):
    worker = await ledger.worker()
    job = await ledger.calling(worker, key, **options)
    await worker.settle([ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    return job


async def test_expiry_ends_what_is_over_and_publishes_it_once(ledger: World) -> None:
    now, worker = time.time(), await ledger.worker()
    parked = {"state": State.PARKED}
    late = await ledger.admit(worker, ledger.entry("late", deadline=now - 1, **parked))
    waited = await ledger.admit(
        worker, ledger.entry("waited", due_at=now - 1, deadline=now + 99, **parked)
    )
    cancelled = await ledger.admit(worker, ledger.entry("cancelled", **parked))
    fine = await ledger.admit(worker, ledger.entry("fine", **parked))
    run = await ledger.pool.fetchval(
        "insert into sluice.runs (tenant, name) values ('acme', 'r') returning id"
    )
    of_run = await ledger.admit(worker, ledger.entry("run", run=(run, "r"), **parked))
    await worker.cancel([("acme", cancelled.id, None), ("acme", None, "r")])
    paper = Paper()
    keepers = [await ledger.worker(kind="keeper") for _ in range(3)]
    await asyncio.gather(*(expiry(keeper, paper).once() for keeper in keepers))
    await expiry(keepers[0], paper).once()
    assert [await ledger.state(job) for job in (late, waited, cancelled, fine, of_run)] == [
        State.EXPIRED,
        State.REJECTED,
        State.CANCELLED,
        State.PARKED,
        State.CANCELLED,
    ]
    assert len(paper.rows) == len(set(paper.rows)) == 4
    results = await ledger.pool.fetch("select result from sluice.responses")
    codes = sorted(orjson.loads(row["result"])["error"]["code"] for row in results)
    assert codes == ["cancelled", "cancelled", "concurrency_exceeded", "deadline_exceeded"]


async def test_expiry_gives_back_what_an_earlier_round_could_not_settle(ledger: World) -> None:
    worker, keeper = await ledger.worker(), await ledger.worker(kind="keeper")
    entry = ledger.entry("late", deadline=time.time() - 1, state=State.PARKED)
    job = await ledger.admit(worker, entry)
    assert len(await keeper.claim_ending(10)) == 1
    await expiry(keeper, Paper()).once()
    assert await ledger.state(job) is State.EXPIRED


async def test_the_sweeper_takes_rows_of_the_dead_and_old_ones(ledger: World) -> None:
    job = await finished(ledger, "dead")
    dead = await ledger.pool.fetchval("select owner from sluice.outbox limit 1")
    await finished(ledger, "alive")
    await finished(ledger, "old")
    await ledger.pool.execute(
        "update sluice.outbox set at = now() - interval '31 s' where id > (select max(id) - 2 from sluice.outbox)"
    )
    outbox, paper = OutboxRepository(ledger.pool, ORIGIN), Paper()
    keepers = [await ledger.worker(kind="keeper") for _ in range(3)]
    await asyncio.gather(
        *(
            Sweeper(
                ToldWatch([dead]),  # type: ignore[arg-type]
                outbox,
                paper,  # type: ignore[arg-type]
                keeper.incarnation,
                lease_s=30.0,
            ).once()
            for keeper in keepers
        )
    )
    assert len(paper.published) == len({due.id for due in paper.published}) == 4
    keys = {message.key for due in paper.published for message in due.messages}
    assert str(job.id).encode() in keys
    assert len(keys) == 2


async def test_the_sweeper_takes_nothing_while_the_broker_does_not(ledger: World) -> None:
    await finished(ledger, "a")
    await ledger.pool.execute("delete from sluice.workers")
    keeper = await ledger.worker(kind="keeper")
    outbox, paper = OutboxRepository(ledger.pool, ORIGIN), Paper(unconfirmed=10_000)
    sweeper = Sweeper(
        ToldWatch(),  # type: ignore[arg-type]
        outbox,
        paper,  # type: ignore[arg-type]
        keeper.incarnation,
        lease_s=30.0,
    )
    await sweeper.once()
    assert paper.published == []
    paper.unconfirmed = 0
    await sweeper.once()
    assert len(paper.published) == 2


async def test_the_archive_moves_finished_jobs_and_their_identities_still_count(
    ledger: World,
) -> None:
    job = await finished(ledger, "a")
    worker = await ledger.worker()
    live = await ledger.calling(worker, "b")
    young = Archive(worker)
    await young.once()
    assert await ledger.count("sluice.jobs") == 2
    archives = [Archive(await ledger.worker(kind="keeper"), age_s=0.0) for _ in range(3)]
    await asyncio.gather(*(one.once() for one in archives))
    assert [row["id"] for row in await ledger.pool.fetch("select id from sluice.jobs")] == [
        live.row
    ]
    assert await ledger.count("sluice.jobs_past where uuid = $1", job.id) == 1
    assert await ledger.count("sluice.identities where uuid = $1", job.id) == 0
    admitted = await worker.admit([ledger.entry("a")])
    assert admitted.verdicts == [Admission.RESENT]
    assert await ledger.count("sluice.identities where uuid = $1", job.id) == 0


async def test_the_archive_begins_again_at_the_first_row(ledger: World) -> None:
    worker = await ledger.worker()
    archive = Archive(worker, age_s=0.0)
    job = await ledger.calling(worker, "a")
    await archive.once()
    await worker.settle([ended(job, State.SUCCEEDED, report(Outcome.SUCCEEDED))])
    for _ in range(60):
        await archive.once()
    assert await ledger.count("sluice.jobs") == 0


async def test_an_unknown_is_booked_once_as_the_policy_says(ledger: World) -> None:
    worker = await ledger.worker()
    unknown = report(Outcome.UNKNOWN, money="unknown")
    for key in ("a", "b", "c"):
        job = await ledger.calling(worker, key)
        await worker.settle([ended(job, State.UNKNOWN, unknown)])
    keepers = [await upkeep(ledger) for _ in range(3)]
    patient = UnknownConfig(after="1h")
    await Unknowns(keepers[0], patient).once()
    assert await ledger.count("sluice.unresolved") == 3
    await ledger.pool.execute("update sluice.unresolved set since = now() - interval '2 hours'")
    await asyncio.gather(*(Unknowns(keeper, patient).once() for keeper in keepers))
    assert await ledger.count("sluice.unresolved") == 0
    booked = await ledger.pool.fetch(
        "select * from finance.usage where charge_class = 'Correction' order by usage_id"
    )
    assert len(booked) == 3
    assert {(row["cost_usd"] * 10**9, row["correction_reason"]) for row in booked} == {
        (9_000, "unknown.after")
    }
    assert await ledger.count("sluice.audit where actor = 'keeper'") == 3
    assert await ledger.count("sluice.outbox where kind = 3") == 6


@pytest.mark.parametrize(("book", "nano"), [("input_only", 3_000), ("zero", 0)])
async def test_other_ways_to_book(ledger: World, book: str, nano: int) -> None:
    worker = await ledger.worker()
    job = await ledger.calling(worker, "a")
    await worker.settle([ended(job, State.UNKNOWN, report(Outcome.UNKNOWN, money="unknown"))])
    await ledger.pool.execute("update sluice.unresolved set since = now() - interval '2 hours'")
    await Unknowns(
        await upkeep(ledger),
        UnknownConfig(after="1h", book=book),  # type: ignore[arg-type]
    ).once()
    total = await ledger.pool.fetchval("select sum(cost_usd) from finance.usage")
    assert total * 10**9 == nano


async def test_a_run_is_completed_once_with_its_counts(ledger: World) -> None:
    run = await ledger.pool.fetchval(
        "insert into sluice.runs (tenant, name) values ('acme', 'nightly é') returning id"
    )
    for key in ("a", "b"):
        await finished(ledger, key, run=(run, "nightly é"))
    worker = await ledger.worker()
    live = await ledger.calling(worker, "c", run=(run, "nightly é"))
    keepers = [Runs(await upkeep(ledger), ORIGIN, quiet_s=0.0) for _ in range(3)]
    await keepers[0].once()
    assert await ledger.count("sluice.outbox where kind = 4") == 0
    await worker.settle([ended(live, State.FAILED, report(Outcome.FAILED, money="none"))])
    await Runs(await upkeep(ledger), ORIGIN, quiet_s=60.0).once()
    assert await ledger.count("sluice.outbox where kind = 4") == 0
    await worker.archive(0, 0.0, 100)
    await asyncio.gather(*(keeper.once() for keeper in keepers))
    row = await ledger.pool.fetchrow("select * from sluice.outbox where kind = 4")
    event = RunCompleted.model_validate_json(row["value"])
    assert (event.tenant, event.run_id, event.jobs) == ("acme", "nightly é", 3)
    assert {name: n for name, n in event.states.items() if n} == {"succeeded": 2, "failed": 1}
    assert event.cost_usd == "0.000003000"
    headers = dict(unpack_headers(row["headers"]))
    assert headers["ce_type"] == b"com.sluicegate.run.completed.v1"
    assert headers["ce_source"] == ORIGIN.source
    assert headers["ce_time"].decode() == event.completed_at
    assert headers["ce_subject"] == row["key"] == "nightly é".encode()
    (due,) = [
        due
        for due in await OutboxRepository(ledger.pool, ORIGIN).load([row["id"]])
        if due.messages[0].topic == "llm.runs.v1"
    ]
    assert due.messages[0].value == row["value"]


async def test_partitions_are_dropped_when_nothing_needs_them(ledger: World) -> None:
    today = datetime.now(UTC).date()
    old = today - timedelta(days=60)
    for parent in ("requests", "responses", "attempts"):
        await ledger.pool.execute(
            f"create table sluice.{parent}_{old:%Y%m%d} partition of sluice.{parent}"
            f" for values from ('{old}') to ('{old + timedelta(days=1)}')"
        )
    job = await finished(ledger, "a")
    await ledger.pool.execute("update sluice.jobs set day = $1 where id = $2", old, job.row)
    task = Partitions(await upkeep(ledger), RetentionConfig())
    await task.once()
    exists = f"pg_class where relname = 'requests_{old:%Y%m%d}'"
    assert await ledger.count(exists) == 1, "a job in the hot table still needs it"
    worker = await ledger.worker()
    await worker.archive(0, 0.0, 100)
    await task.once()
    assert await ledger.count(exists) == 1, "its identity is remembered"
    await ledger.pool.execute("delete from sluice.jobs_past")
    await asyncio.gather(task.once(), Partitions(await upkeep(ledger), RetentionConfig()).once())
    assert await ledger.count(exists) == 0
    assert await ledger.count("pg_class where relname ~ '^requests_[0-9]{8}$'") > 7


async def test_weeks_without_a_keeper_get_their_partitions_afterwards(ledger: World) -> None:
    newest = await ledger.pool.fetch(
        "select relname from pg_class where relname ~ '^jobs_past_[0-9]{8}$'"
    )
    for row in newest:
        await ledger.pool.execute(f"drop table sluice.{row['relname']}")
    monday = datetime.now(UTC).date() - timedelta(days=datetime.now(UTC).weekday() + 35)
    await ledger.pool.execute(
        f"create table sluice.jobs_past_{monday:%Y%m%d} partition of sluice.jobs_past"
        f" for values from ('{monday} 00:00+00') to ('{monday + timedelta(days=7)} 00:00+00')"
    )
    job = await finished(ledger, "a")
    await ledger.pool.execute("update sluice.jobs set finished_at = now() - interval '21 days'")
    await (await upkeep(ledger)).ensure_partitions()
    worker = await ledger.worker()
    assert (await worker.archive(0, 0.0, 100))[1] == 1
    assert await ledger.count("sluice.jobs_past where id = $1", job.row) == 1


async def test_purge_spares_what_a_job_still_needs(ledger: World) -> None:
    worker = await ledger.worker()
    await ledger.calling(worker, "a")
    await worker.admit([ledger.entry("a")])
    await ledger.pool.execute("update sluice.waiters set at = now() - interval '99 days'")
    for number in range(5):
        await ledger.pool.execute(
            "insert into sluice.cancels (tenant, uuid, at) values ('acme', gen_random_uuid(), now() - $1 * interval '20 days')",
            number,
        )
    task = await upkeep(ledger)
    assert await task.purge(50 * DAY_S, 1) == 1
    assert await task.purge(50 * DAY_S, 10) == 1
    assert await ledger.count("sluice.cancels") == 3
    assert await ledger.count("sluice.waiters") == 1


async def test_alerts_that_are_over_and_told_go_after_a_while(ledger: World) -> None:
    await ledger.pool.execute(
        """
        insert into sluice.alerts (kind, subject, detail, raised_at, resolved_at, told, told_resolved)
        select kind, subject, '{}', now() - interval '99 days', now() - age * interval '1 day', told, told_resolved
          from (values ('budget_threshold', 'over', 91, true, true), ('budget_threshold', 'young', 89, true, true),
                       ('budget_threshold', 'untold', 91, true, false), ('budget_threshold', 'open', null, true, false),
                       ('bound_violated', 'event', null, true, false), ('bound_violated', 'untold event', null, false, false))
               a(kind, subject, age, told, told_resolved)
        """
    )
    task = await upkeep(ledger)
    assert await task.purge_alerts(90 * DAY_S, 1) == 1
    assert await task.purge_alerts(90 * DAY_S, 10) == 1
    assert await task.purge_alerts(90 * DAY_S, 10) == 0
    left = await ledger.pool.fetch("select subject from sluice.alerts order by id")
    assert [row["subject"] for row in left] == ["young", "untold", "open", "untold event"]


async def test_every_audit_entry_is_told_once_by_whichever_keeper(ledger: World) -> None:
    for subject in ("sgk_1", "sgk_2"):
        await ledger.pool.execute(
            "insert into sluice.audit (actor, action, subject, before, after)"
            " values ('ann@host', 'key.revoke', $1, null, '{\"revoked_at\": \"now\"}')",
            subject,
        )
    outbox, paper = OutboxRepository(ledger.pool, ORIGIN), Paper()
    keepers = [await ledger.worker(kind="keeper") for _ in range(2)]
    await asyncio.gather(
        *(
            Sweeper(
                ToldWatch(),  # type: ignore[arg-type]
                outbox,
                paper,  # type: ignore[arg-type]
                keeper.incarnation,
                lease_s=30.0,
            ).once()
            for keeper in keepers
        )
    )
    told = [message for due in paper.published for message in due.messages]
    assert {(message.topic, message.key) for message in told} == {
        ("llm.audit.v1", b"sgk_1"),
        ("llm.audit.v1", b"sgk_2"),
    }
    assert len(told) == 2
    entry = Audit.model_validate_json(told[0].value or b"")
    assert (entry.actor, entry.action) == ("ann@host", "key.revoke")
    assert entry.details == {"before": None, "after": {"revoked_at": "now"}}
