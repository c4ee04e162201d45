"""A usage event made in memory says, byte for byte, what the row says once it is written."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest
from tests.integration.ledger.world import World, reading, report, world

from sluice_core.jobs.model import Outcome, State
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.policy import charge, meter_document
from sluice_core.publishing.model import Origin
from sluice_core.publishing.policy import usage_message
from sluice_core.publishing.repository import USAGE, OutboxRepository
from sluice_core.settlement.model import Priced, Report
from sluice_core.settlement.policy import ending
from sluice_core.usage.model import Usage
from sluice_core.usage.row import event_of
from sluice_platform.ids import uuid7
from sluice_schemas.topics import Topics
from sluice_schemas.usage import Usage as UsageEvent

ORIGIN = Origin(cell="main", topics=Topics(), record_bytes=64 * 1024)
TAGS = {"zz": "1", "a": 'quote " and \\', "longer name": "ü漢😀", "é": "", "AA": "\t\x7f"}
USED = Usage(
    input_tokens=1_234,
    cache_read_tokens=1_000,
    output_tokens=77,
    reasoning_tokens=12,
)


@pytest.fixture
async def ledger(database: str) -> AsyncIterator[World]:
    async with world(database) as opened:
        yield opened


def priced() -> Report:
    plain = report(Outcome.SUCCEEDED)
    entry = PriceBook().resolve("openai", "gpt-4o-mini", at=datetime.now(UTC))
    cost = charge(entry, USED, started_at=datetime.fromtimestamp(plain.started_at, UTC))
    assert len(cost.meters) > 1
    return replace(
        plain,
        usage=USED,
        request_id="req-\u00fc",
        priced=Priced(
            cost_nano=cost.cost_nano,
            meters=orjson.dumps([meter_document(meter) for meter in cost.meters]).decode(),
            price_version=cost.price_version,
        ),
    )


GIVEN = {
    "priced": priced,
    "plain": lambda: report(Outcome.SUCCEEDED),
    "broken": lambda: report(Outcome.FAILED),
    "unknown": lambda: report(Outcome.UNKNOWN, money="unknown"),
    "dear": lambda: report(Outcome.SUCCEEDED, cost=10**14 + 1),
}


@pytest.mark.parametrize("kind", GIVEN)
async def test_the_event_equals_the_row(ledger: World, kind: str) -> None:
    worker = await ledger.worker()
    job = await ledger.calling(worker, kind, run=None)
    job = replace(
        job, facts=replace(job.facts, tags=TAGS, team="ml", app="web", user_id="u_1", key_id="k")
    )
    settlement = ending(
        job,
        state=State.SUCCEEDED,
        custom_id=None,
        now=round(1_795_435_200.123456, 6),
        ce_id=uuid7(),
        usage_id=uuid7(),
        report=GIVEN[kind](),
        problem=None,
    )
    settled = await worker.settle([settlement])
    assert settlement.usage is not None
    row = await ledger.pool.fetchrow(
        "select * from finance.usage where usage_id = $1", settlement.usage.usage_id
    )
    from_memory = settlement.usage.to_event(settled.recorded_at)
    assert from_memory == event_of(row)
    UsageEvent.model_validate_json(from_memory)

    (outbox_id,) = [number for number, what, _ in settled.events if what == USAGE]
    ((message,),) = [
        d.messages for d in await OutboxRepository(ledger.pool, ORIGIN).load([outbox_id])
    ]
    assert message == usage_message(
        ORIGIN,
        usage_id=settlement.usage.usage_id,
        job_id=job.id,
        recorded_at=settled.recorded_at,
        value=from_memory,
    )


async def test_a_reading_that_ended_is_told_the_same_way(ledger: World) -> None:
    worker = await ledger.worker()
    job = await ledger.calling(worker, "read")
    early = ending(
        job,
        state=State.CANCELLED,
        custom_id=None,
        now=1_795_435_200.0,
        ce_id=uuid7(),
        report=report(Outcome.UNKNOWN, money="unknown"),
        read_on=True,
    )
    await worker.settle([early])
    late = reading(job, report(Outcome.CANCELLED))
    settled = await worker.settle([late])
    assert late.usage is not None
    row = await ledger.pool.fetchrow("select * from finance.usage where job_id = $1", job.id)
    assert late.usage.to_event(settled.recorded_at) == event_of(row)
