"""The contract's sentences on streams: deltas in order, the result after them, and broken streams."""

from typing import Any
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from tests.acceptance.outsider import Outsider, Sent, header, say, value_of
from tests.waiting import eventually

from sluice_schemas.results import Delta

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("contract")]

_DELTA = ("ce_type", b"com.sluicegate.job.delta.v1")


async def stream(
    outside: Outsider, behaviour: str = "", model: str = "odd", **arguments: Any
) -> tuple[Sent, list[ConsumerRecord], ConsumerRecord]:
    """What was sent, the deltas and the result, in the order of the reply partition."""
    mark = uuid4().hex
    await outside.system.mock.rule(behaviour, match={"body": mark})
    sent = await outside.send(
        say(f"{mark} two three four five six", model, stream=True), **arguments
    )
    result = await outside.reply_to(sent)
    records = outside.replies.by_header("correlation_id", sent.correlation)
    assert len({record.partition for record in records}) == 1
    ordered = sorted(records, key=lambda record: record.offset)
    assert ordered[-1].offset == result.offset
    return sent, ordered[:-1], result


def text_of(deltas: list[ConsumerRecord]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for delta in deltas
        for chunk in value_of(delta)["chunks"]
        for choice in chunk["choices"]
    )


@pytest.mark.parametrize("model", ["odd", "smart"])
async def test_deltas_come_in_order_and_the_result_is_whole(outside: Outsider, model: str) -> None:
    sent, deltas, result = await stream(outside, "chunk_delay=30ms", model)
    value = value_of(result)
    assert value["job"]["state"] == "succeeded"
    assert value["job"]["deltas"] == len(deltas) > 2
    assert [value_of(delta)["seq"] for delta in deltas] == list(range(len(deltas)))
    for delta in deltas:
        assert set(value_of(delta)) == {"id", "attempt", "seq", "chunks"}
        Delta.model_validate(value_of(delta))
        assert value_of(delta)["id"] == value["id"]
        assert value_of(delta)["attempt"] == 1
        assert delta.key == sent.correlation
        assert _DELTA in delta.headers
        assert header(delta, "ce_subject") == value["id"].encode()
        assert all(c["object"] == "chat.completion.chunk" for c in value_of(delta)["chunks"])
    assert len({header(delta, "ce_id") for delta in deltas}) == len(deltas)
    message = value["response"]["body"]["choices"][0]["message"]["content"]
    assert text_of(deltas) == message
    assert message.startswith("You said: ")


async def test_chunks_that_come_together_are_sent_together(outside: Outsider) -> None:
    _, deltas, result = await stream(outside, "words=400")
    chunks = sum(len(value_of(delta)["chunks"]) for delta in deltas)
    assert chunks >= 400
    assert len(deltas) < chunks / 4
    assert value_of(result)["job"]["usage"]["output_tokens"] == 400


async def test_deltas_go_to_the_partition_that_was_asked_for(outside: Outsider) -> None:
    _, deltas, result = await stream(outside, headers=[("reply_partition", b"3")])
    assert {record.partition for record in (*deltas, result)} == {3}


@pytest.mark.parametrize("fault", ["cut_stream", "stream_error"])
async def test_a_stream_that_breaks_is_not_called_again(outside: Outsider, fault: str) -> None:
    _, deltas, result = await stream(outside, f"fault={fault},after=4,chunk_delay=30ms")
    value = value_of(result)
    assert (value["job"]["state"], value["job"]["error"]["code"]) == (
        "failed",
        "stream_interrupted",
    )
    assert value["job"]["deltas"] == len(deltas) > 0
    assert len(await outside.system.mock.calls_of(value["id"])) == 1
    (row,) = await outside.usage_rows(value["id"])
    assert (row["outcome"], row["usage_source"]) == ("failed", "estimated")
    assert row["cost_usd"] > 0
    assert value["job"]["cost_usd"] == f"{row['cost_usd']:.9f}"


async def test_a_refused_stream_is_retried_and_its_deltas_start_at_0(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("status=503", match={"body": mark}, first=1)
    _, deltas, result = await _plain(outside, mark)
    assert value_of(result)["job"]["state"] == "succeeded"
    assert {value_of(delta)["attempt"] for delta in deltas} == {2}
    assert value_of(deltas[0])["seq"] == 0


async def test_a_cancelled_stream_ends_with_its_result(outside: Outsider) -> None:
    mark = uuid4().hex
    await outside.system.mock.rule("chunk_delay=200ms", match={"body": mark})
    sent = await outside.send(say(f"{mark} a b c d e f g h i j", stream=True))
    await eventually(lambda: outside.replies.by_header("correlation_id", sent.correlation))
    job_id = outside.record_id(sent)
    await outside.put(b'{"id": "%b"}' % job_id.encode(), topic=f"{outside.topics.prefix}control.v1")
    value = value_of(await outside.reply_to(sent))
    assert value["job"]["state"] == "cancelled"
    (row,) = await outside.usage_rows(job_id)
    assert row["outcome"] == "cancelled"
    records = outside.replies.by_header("correlation_id", sent.correlation)
    assert value["job"]["deltas"] == len(records) - 1
    assert _DELTA not in max(records, key=lambda record: record.offset).headers


async def test_who_joins_a_stream_gets_the_whole_result(outside: Outsider) -> None:
    key, mark = uuid4().hex, uuid4().hex
    await outside.system.mock.rule("chunk_delay=100ms", match={"body": mark})
    body = say(f"{mark} a b c d e", stream=True)
    first = await outside.send(body, idempotency_key=key)
    await eventually(lambda: outside.replies.by_header("correlation_id", first.correlation))
    second = await outside.send(body, idempotency_key=key)
    results = [value_of(await outside.reply_to(sent)) for sent in (first, second)]
    assert results[0] == results[1]
    assert len(outside.replies.by_header("correlation_id", second.correlation)) == 1


async def _plain(outside: Outsider, text: str) -> tuple[Sent, list[ConsumerRecord], ConsumerRecord]:
    sent = await outside.send(say(text, stream=True))
    result = await outside.reply_to(sent)
    records = outside.replies.by_header("correlation_id", sent.correlation)
    ordered = sorted(records, key=lambda record: record.offset)
    return sent, ordered[:-1], result
