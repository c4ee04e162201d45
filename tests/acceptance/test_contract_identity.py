"""The contract's sentences on identity: the same job again, in every state it may be in."""

from typing import Any
from uuid import uuid4, uuid5

import pytest
from aiokafka import ConsumerRecord
from tests.acceptance.outsider import (
    Outsider,
    header,
    results_in,
    say,
    tenant_namespace,
    value_of,
)
from tests.waiting import eventually

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("contract")]


def id_of_key(key: str, tenant: str = "default") -> str:
    return str(uuid5(tenant_namespace(tenant), f"key:{key}"))


def state_of(record: ConsumerRecord) -> tuple[str, str | None]:
    job = value_of(record)["job"]
    return job["state"], job["error"] and job["error"]["code"]


async def calls(outside: Outsider, job_id: str) -> int:
    return len(await outside.system.mock.calls_of(job_id))


async def test_the_record_itself_is_the_last_identity(outside: Outsider) -> None:
    sent = await outside.send(say("record"))
    assert value_of(await outside.reply_to(sent))["id"] == outside.record_id(sent)


@pytest.mark.parametrize(
    ("source", "ce_id"), [("/only-source", None), (None, "only-id"), ("", "x")]
)
async def test_an_event_counts_only_with_both_names(
    outside: Outsider, source: str | None, ce_id: str | None
) -> None:
    named = [("ce_source", source), ("ce_id", ce_id)]
    sent = await outside.send(
        say("half a name"),
        headers=[(name, text.encode()) for name, text in named if text is not None],
    )
    assert value_of(await outside.reply_to(sent))["id"] == outside.record_id(sent)


async def test_the_key_counts_before_the_event_and_class_is_not_part_of_it(
    outside: Outsider,
) -> None:
    key = f"schlüssel-{uuid4().hex}"
    named = [("ce_source", b"/s"), ("ce_id", uuid4().hex.encode())]
    first = await outside.ask(say("both"), headers=named, idempotency_key=key)
    assert value_of(first)["id"] == id_of_key(key)
    second = await outside.ask(say("both"), job_class="bulk", idempotency_key=key)
    assert value_of(second)["id"] == id_of_key(key)
    assert value_of(second)["job"]["class"] == "realtime"
    assert await calls(outside, id_of_key(key)) == 1


async def test_the_same_event_twice_is_one_job(outside: Outsider) -> None:
    ce_id = uuid4().hex
    named = [("ce_source", b"/twice"), ("ce_id", ce_id.encode())]
    replies = [await outside.ask(say("event"), headers=named) for _ in range(2)]
    job_id = str(uuid5(tenant_namespace(), f"event:/twice\n{ce_id}"))
    assert [value_of(reply)["id"] for reply in replies] == [job_id, job_id]
    assert header(replies[1], "sluice-duplicate") == b"true"
    assert await calls(outside, job_id) == 1


async def test_a_stored_result_is_sent_again_to_whoever_asks(outside: Outsider) -> None:
    key = uuid4().hex
    options: dict[str, Any] = {"idempotency_key": key}
    first = await outside.ask(say("again"), line={"custom_id": "one"}, **options)
    cause = uuid4().hex.encode()
    second = await outside.ask(
        say("again"), line={"custom_id": "two"}, headers=[("ce_id", cause)], **options
    )
    assert header(first, "sluice-duplicate") is None
    assert header(second, "sluice-duplicate") == b"true"
    assert header(second, "ce_causationid") == cause
    assert header(first, "ce_id") != header(second, "ce_id")
    assert (value_of(first)["custom_id"], value_of(second)["custom_id"]) == ("one", "two")
    assert value_of(first) | {"custom_id": "two"} == value_of(second)
    # Who names no reply address is answered on the results topic; the others are not seen there.
    job_id = id_of_key(key)
    await outside.put(
        b'{"custom_id": "three", "body": {"model": "odd", "messages": [{"role": "user", '
        b'"content": "again"}]}, "options": {"idempotency_key": "%b"}}' % key.encode(),
        [("correlation_id", b"three-" + key.encode())],
    )
    (third,) = await outside.results.wait_for(
        lambda: results_in(outside.results, b"three-" + key.encode())
    )
    assert value_of(third)["custom_id"] == "three"
    on_results = [value_of(r)["custom_id"] for r in outside.results.by_key(job_id.encode())]
    assert on_results == ["one", "three"]
    assert await calls(outside, job_id) == 1
    assert len(await outside.usage_rows(job_id)) == 1


async def test_who_asks_while_the_job_lives_joins_the_wait(outside: Outsider) -> None:
    key, mark = uuid4().hex, uuid4().hex
    await outside.system.mock.rule("latency=1500ms", match={"body": mark})
    first = await outside.send(say(mark), line={"custom_id": "a"}, idempotency_key=key)
    await eventually(lambda: outside.system.mock.calls_of(id_of_key(key)))
    second = await outside.send(say(mark), line={"custom_id": "b"}, idempotency_key=key)
    replies = [await outside.reply_to(sent) for sent in (first, second)]
    assert [value_of(reply)["custom_id"] for reply in replies] == ["a", "b"]
    assert {value_of(reply)["id"] for reply in replies} == {id_of_key(key)}
    assert header(replies[0], "ce_id") != header(replies[1], "ce_id")
    assert await calls(outside, id_of_key(key)) == 1


async def test_a_batch_of_the_same_key_is_one_job(outside: Outsider) -> None:
    key = uuid4().hex
    sent = [await outside.send(say("storm"), idempotency_key=key) for _ in range(20)]
    for one in sent:
        assert state_of(await outside.reply_to(one)) == ("succeeded", None)
    assert await calls(outside, id_of_key(key)) == 1


async def test_a_failed_job_is_sent_again_or_run_again(outside: Outsider) -> None:
    key, mark = uuid4().hex, uuid4().hex
    await outside.system.mock.rule("status=400", match={"body": mark}, first=1)
    options: dict[str, Any] = {"idempotency_key": key}
    assert state_of(await outside.ask(say(mark), **options)) == ("failed", "provider_error")
    again = await outside.ask(say(mark), **options)
    assert state_of(again) == ("failed", "provider_error")
    assert header(again, "sluice-duplicate") == b"true"
    rerun = await outside.ask(say(mark), **options, on_duplicate="rerun")
    job = value_of(rerun)["job"]
    assert (job["state"], job["execution"]) == ("succeeded", 2)
    assert header(rerun, "sluice-duplicate") is None
    assert value_of(rerun)["id"] == id_of_key(key)
    (row,) = await outside.usage_rows(id_of_key(key))
    assert row["attempt"] == 2  # attempt numbers go on
    done = await outside.ask(say(mark), **options, on_duplicate="rerun")
    assert value_of(done)["job"]["execution"] == 2  # a success is never run again
    assert await calls(outside, id_of_key(key)) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"temperature": 1}, {"temperature": 1.0}),
        ({"temperature": 1}, {"temperature": 1, "seed": 1}),
        ({"user": "\u00e9"}, {"user": "e\u0301"}),  # not normalised
    ],
)
async def test_another_body_under_the_same_key_is_a_conflict(
    outside: Outsider, first: dict[str, Any], second: dict[str, Any]
) -> None:
    key = uuid4().hex
    assert state_of(await outside.ask(say("c", **first), idempotency_key=key))[0] == "succeeded"
    sent = await outside.send(say("c", **second), line={"custom_id": "x"}, idempotency_key=key)
    reply = await outside.reply_to(sent)
    assert state_of(reply) == ("rejected", "idempotency_conflict")
    assert value_of(reply)["id"] == outside.record_id(sent)
    assert value_of(reply)["custom_id"] == "x"
    again = await outside.ask(say("c", **first), idempotency_key=key)
    assert state_of(again)[0] == "succeeded"
    assert await calls(outside, id_of_key(key)) == 1


async def test_order_of_fields_options_and_the_default_url_make_no_other_job(
    outside: Outsider,
) -> None:
    key = uuid4().hex
    one = {"model": "odd", "messages": [{"role": "user", "content": "same"}]}
    other = {"messages": [{"content": "same", "role": "user"}], "model": "odd"}
    await outside.ask(one, idempotency_key=key, tags={"a": "b"})
    reply = await outside.ask(
        other, line={"url": "/v1/chat/completions", "method": "POST"}, idempotency_key=key
    )
    assert header(reply, "sluice-duplicate") == b"true"
    assert await calls(outside, id_of_key(key)) == 1


async def test_a_rejection_at_admission_leaves_the_key_free(outside: Outsider) -> None:
    key = uuid4().hex
    sent = await outside.send(say("free"), idempotency_key=key, project="nowhere")
    refused = await outside.reply_to(sent)
    assert state_of(refused) == ("rejected", "unknown_project")
    assert value_of(refused)["id"] == outside.record_id(sent)
    accepted = await outside.ask(say("free"), idempotency_key=key, project="search")
    assert state_of(accepted) == ("succeeded", None)
    assert header(accepted, "sluice-duplicate") is None
    assert value_of(accepted)["job"]["execution"] == 1


async def test_tenants_keys_are_their_own(outside: Outsider) -> None:
    key = uuid4().hex
    mine = await outside.ask(say("mine"), idempotency_key=key)
    results = await outside.system.consume(outside.topics.results("other"))
    await outside.put(
        b'{"body": {"model": "odd", "messages": [{"role": "user", "content": "theirs"}]},'
        b' "options": {"idempotency_key": "%b"}}' % key.encode(),
        topic=f"{outside.topics.prefix}theirs",
    )
    theirs = id_of_key(key, "other")
    (record,) = await results.wait_for(lambda: results.by_key(theirs.encode()))
    assert theirs != value_of(mine)["id"]
    assert value_of(record)["job"]["state"] == "succeeded"


async def test_another_tenant_cannot_cancel(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("latency=1s", match={"body": mark})
    results = await outside.system.consume(outside.topics.results("other"))
    sent = await outside.put(
        b'{"body": {"model": "odd", "messages": [{"role": "user", "content": "%b"}]}}'
        % mark.encode(),
        topic=f"{outside.topics.prefix}theirs",
    )
    job_id = outside.record_id(sent, "other")
    await eventually(lambda: outside.system.mock.calls_of(job_id))
    await outside.put(b'{"id": "%b"}' % job_id.encode(), topic=f"{outside.topics.prefix}control.v1")
    (record,) = await results.wait_for(lambda: results.by_key(job_id.encode()))
    assert value_of(record)["job"]["state"] == "succeeded"
