"""A record that the ledger cannot store is dead-lettered alone and answered; a missing partition blames nobody."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import asyncpg
import orjson
import pytest
from tests.integration.ledger.world import World, world
from tests.integration.worker.desk import Desk
from tests.unit.intake.intake_world import BODY, job, record

from sluice_core.intake.model import DeadLetter, NewJob
from sluice_schemas.errors import ErrorCode
from sluice_schemas.results import Result

POISON = """
create function sluice.refuse_poison() returns trigger language plpgsql as $$
begin
  if position('poison'::bytea in {bytes}) > 0 then
    raise exception 'no equivalent in this encoding' using errcode = '22P05';
  end if;
  return new;
end $$;
create trigger refuse_poison before insert on sluice.requests
  for each row execute function sluice.refuse_poison();
"""


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with world(database) as ledger:
        yield Desk(ledger)


async def poison(ledger: World, bytes_of_row: str) -> None:
    """From now on no request is stored that has the word in these bytes."""
    await ledger.pool.execute(POISON.replace("{bytes}", bytes_of_row))


def jobs(count: int, *, bad: Sequence[int] = ()) -> list[NewJob]:
    made = []
    for number in range(count):
        said = {**BODY, "seed": number}
        if number in bad:
            said["user"] = "poison"
        made.append(job(replace(record(body=said, custom_id=f"row-{number}"), offset=number)))
    return made


@pytest.mark.parametrize("bad", [(0,), (5,), (3, 4), (0, 6)])
async def test_a_record_that_cannot_be_stored_ends_alone(desk: Desk, bad: tuple[int, ...]) -> None:
    await poison(desk.ledger, "new.body")
    wanted = jobs(7, bad=bad)
    await (await desk.step()).write(wanted)
    stored = await desk.ledger.pool.fetch("select uuid from sluice.jobs where state = 1")
    assert {str(row["uuid"]) for row in stored} == {
        str(good.id) for number, good in enumerate(wanted) if number not in bad
    }
    messages = await desk.messages()
    letters = [(v, h) for topic, v, h in messages if topic == "llm.deadletter.v1"]
    assert sorted(int(headers["sluice-source-offset"]) for _, headers in letters) == list(bad)
    assert {value for value, _ in letters} == {wanted[number].record.value for number in bad}
    results = [Result.model_validate_json(v) for t, v, _ in messages if t == "llm.results.acme.v1"]
    assert sorted(r.custom_id or "" for r in results) == [f"row-{number}" for number in bad]
    for result in results:
        assert result.job.state == "rejected"
        assert result.error is not None
        assert result.error.code is ErrorCode.INVALID_RECORD
    assert await desk.ledger.count("sluice.dead_letters") == len(bad)


async def test_where_not_even_the_refusal_can_be_stored_the_dead_letter_stands_alone(
    desk: Desk,
) -> None:
    await poison(desk.ledger, "convert_to(new.facts, 'UTF8')")
    good, bad = jobs(2)
    bad = replace(bad, tags={"name": "poison"})
    await (await desk.step()).write([good, bad])
    assert await desk.ledger.count("sluice.jobs") == 1
    assert [topic for topic, _, _ in await desk.messages()] == ["llm.deadletter.v1"]


async def test_the_same_poison_again_is_not_dead_lettered_twice(desk: Desk) -> None:
    await poison(desk.ledger, "new.body")
    wanted = jobs(3, bad=(1,))
    step = await desk.step()
    await step.write(wanted)
    first = len(desk.published)
    await step.write(wanted)
    assert len(desk.published) == first
    assert await desk.ledger.count("sluice.dead_letters") == 1
    assert await desk.ledger.count("sluice.jobs") == 3


async def test_bad_records_beside_poison_keep_their_own_reason(desk: Desk) -> None:
    await poison(desk.ledger, "new.body")
    strange = replace(record(b"not json"), offset=90)
    letter = DeadLetter(record=strange, code=ErrorCode.INVALID_RECORD, message="is not JSON")
    await (await desk.step()).write([*jobs(4, bad=(2,)), letter])
    reasons = {
        int(h["sluice-source-offset"]): h["sluice-error-message"].decode()
        for topic, _, h in await desk.messages()
        if topic == "llm.deadletter.v1"
    }
    assert reasons == {2: "the ledger cannot store this record", 90: "is not JSON"}


async def test_a_missing_partition_is_no_records_fault(desk: Desk) -> None:
    partition = await desk.ledger.pool.fetchval(
        "select c.oid::regclass::text from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'sluice.requests'::regclass"
        " and pg_get_expr(c.relpartbound, c.oid) like '%FROM (''' || (now() at time zone 'UTC')::date || '%'"
    )
    assert partition is not None
    await desk.ledger.pool.execute(f"drop table {partition}")
    with pytest.raises(asyncpg.CheckViolationError, match="no partition of relation"):
        await (await desk.step()).write(jobs(3))
    assert await desk.ledger.count("sluice.jobs") == 0
    assert await desk.ledger.count("sluice.dead_letters") == 0
    assert desk.published == []


async def test_an_identity_used_for_another_request_is_refused_under_its_records_id(
    desk: Desk,
) -> None:
    options = {"idempotency_key": "k"}
    first = job(record(body=BODY, options=options))
    second = job(replace(record(body={**BODY, "seed": 1}, options=options), offset=42))
    await (await desk.step()).write([first, second])
    ((topic, value, _),) = await desk.messages()
    assert topic == "llm.results.acme.v1"
    refused = orjson.loads(value)
    assert refused["id"] == str(second.record_id)
    assert refused["error"]["code"] == "idempotency_conflict"
    assert refused["error"]["param"] == "options.idempotency_key"
