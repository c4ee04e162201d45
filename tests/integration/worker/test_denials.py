"""Who was refused is recorded once for each record, append-only, and never holds up admission."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from tests.integration.ledger.world import world
from tests.integration.worker.desk import Desk
from tests.unit.intake.intake_world import BODY, STRICT, job, key, read, record, signed
from tests.unit.intake.test_intake_policies import RULED

from sluice_core.intake.model import DeadLetter, Rejection
from sluice_core.policies.model import Denial
from sluice_core.policies.repository import DenialRepository
from sluice_core.upkeep.repository import UpkeepRepository

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with world(database) as ledger:
        yield Desk(ledger)


async def recorded(desk: Desk) -> dict[int, Denial]:
    """The denials by the offset at which the test put their records."""
    found = await DenialRepository(desk.ledger.pool).since(LONG_AGO, None, 100)
    return {int((denied.denial.topic or "").rpartition("-")[2]): denied.denial for denied in found}


def refused(number: int, verdict: object) -> Rejection | DeadLetter:
    """A verdict whose topic bears a number, so that its denial can be told."""
    assert isinstance(verdict, Rejection | DeadLetter)
    topic = f"t-{number}"
    record_id = {"record_id": replaced_id(number)} if isinstance(verdict, Rejection) else {}
    return replace(verdict, record=replace(verdict.record, topic=topic, offset=number), **record_id)  # type: ignore[arg-type]


def replaced_id(number: int) -> UUID:
    return UUID(int=number)


async def test_each_kind_of_denial_is_recorded_once(desk: Desk) -> None:
    ended = key(revoked_at=1.0, team="ml")
    verdicts = [
        refused(1, read(record(body=BODY | {"model": "gpt-9"}, options={"user": "jo"}), policy=RULED)),
        refused(2, read(record(options={"project": "nope"}), policy=RULED)),
        refused(3, read(signed(record()), ended)),
        refused(4, read(signed(record(), secret="other"), key())),
        refused(5, read(record(headers={"reply_to": "other"}))),
        refused(6, read(record(), policy=STRICT)),
        refused(7, read(signed(record(topic="acme.jobs"), secret="other"), key())),
        # No denials: records that are no jobs, and a signature under no known key.
        refused(8, read(record(b"nonsense"))),
        refused(9, read(record(body=BODY | {"model": "slow"}))),
        refused(10, read(replace(record(), headers=(("sluice-key-id", b"sgk_x"),)))),
    ]  # fmt: skip
    step = await desk.step()
    await step.write([*verdicts, job(record())])
    await step.write(verdicts)
    found = await recorded(desk)
    assert {number: denial.code for number, denial in found.items()} == {
        1: "forbidden",
        2: "unknown_project",
        3: "unauthorized",
        4: "invalid_signature",
        5: "reply_not_allowed",
        6: "unauthorized",
        7: "invalid_signature",
    }
    assert found[1].rule == "tenant acme: policy.models.allow does not name it"
    assert (found[1].tenant, found[1].model, found[1].team) == ("acme", "gpt-9", None)
    assert found[1].user_id is not None
    assert found[1].user_id != "jo"
    assert (found[3].key_id, found[4].key_id, found[4].tenant) == ("sgk_a", "sgk_a", "acme")
    assert (found[6].tenant, found[6].key_id, found[7].key_id) == (None, None, "sgk_a")
    assert await desk.ledger.count("sluice.denials") == 7


async def test_denials_cannot_be_changed(desk: Desk) -> None:
    await (await desk.step()).write([refused(1, read(record(), policy=STRICT))])
    (partition,) = await desk.ledger.pool.fetch(
        "select distinct tableoid::regclass::text as name from sluice.denials"
    )
    for table in ("sluice.denials", partition["name"]):
        for statement in ("update {} set code = ''", "delete from {}", "truncate {}"):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await desk.ledger.pool.execute(statement.format(table))


async def test_a_missing_partition_keeps_the_record_away_and_nothing_else(desk: Desk) -> None:
    await desk.ledger.pool.execute(f"drop table sluice.denials_{datetime.now(UTC):%Y%m}")
    await (await desk.step()).write([refused(1, read(record(), policy=STRICT)), job(record())])
    assert await desk.ledger.count("sluice.jobs") == 1
    assert await desk.ledger.count("sluice.dead_letters") == 1
    upkeep = UpkeepRepository(desk.ledger.pool, 1)
    assert await upkeep.ensure_partitions() == 1
    await (await desk.step()).write([refused(1, read(record(), policy=STRICT))])
    assert await desk.ledger.count("sluice.denials") == 1


async def test_months_over_their_retention_are_dropped(desk: Desk) -> None:
    old = datetime.now(UTC).replace(day=1) - timedelta(days=70)
    await desk.ledger.pool.execute(
        "select sluice.ensure_partition_v1('sluice', 'denials', $1, $2, $3, '')",
        f"denials_{old:%Y%m}",
        f"{old:%Y-%m}-01",
        f"{old + timedelta(days=32):%Y-%m}-01",
    )
    upkeep = UpkeepRepository(desk.ledger.pool, 1)
    ages = {"payloads_s": 1e8, "identities_s": 1e8}
    assert await upkeep.drop_partitions(**ages, denials_s=1e8) == []
    dropped = await upkeep.drop_partitions(**ages, denials_s=86_400.0)
    assert dropped == [f"denials_{old:%Y%m}"]
