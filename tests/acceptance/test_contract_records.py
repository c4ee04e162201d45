"""The contract's sentences on records: headers in and out, shapes, reply addresses."""

import base64
import json
import struct
from uuid import UUID, uuid4, uuid5

import pytest
from tests.acceptance.outsider import Outsider, header, results_in, say, tenant_namespace, value_of
from tests.waiting import eventually

from sluice_schemas.results import Result

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("contract")]

_RESULT = {"id", "custom_id", "response", "error", "job"}
_RESPONSE = {"status_code", "request_id", "body"}
_JOB = {
    "state", "class", "attempts", "run_id", "model", "account", "provider_model", "usage",
    "cost_usd", "execution", "queued_ms", "provider_ms", "total_ms", "cache", "deltas",
    "warnings", "error",
}  # fmt: skip
_USAGE = {
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
}  # fmt: skip
_ERROR = {"code", "message", "retryable", "status", "param", "retry_after_s"}


async def test_a_result_has_every_listed_field_and_its_types(outside: Outsider) -> None:
    record = await outside.ask(say("shape"), line={"custom_id": "row-17"}, run_id="r-1")
    value = value_of(record)
    Result.model_validate(value)
    assert set(value) == _RESULT
    assert set(value["response"]) == _RESPONSE
    assert set(value["job"]) == _JOB
    assert set(value["job"]["usage"]) == _USAGE
    job = value["job"]
    assert (value["custom_id"], job["run_id"]) == ("row-17", "r-1")
    assert (job["state"], job["class"], job["attempts"]) == ("succeeded", "realtime", 1)
    assert (job["model"], job["account"], job["provider_model"]) == ("odd", "mock", "gpt-4o-mini")
    assert (job["execution"], job["cache"], job["deltas"]) == (1, "miss", 0)
    assert (value["error"], job["error"], job["warnings"]) == (None, None, [])
    assert value["response"]["status_code"] == 200
    assert value["response"]["request_id"]
    assert value["response"]["body"]["model"] == "odd"
    whole, point, decimals = job["cost_usd"].partition(".")
    assert (whole.isdigit(), point, len(decimals)) == (True, ".", 9)
    for name in ("queued_ms", "provider_ms", "total_ms"):
        assert type(job[name]) is int
        assert job[name] >= 0


async def test_an_error_has_every_listed_field(outside: Outsider) -> None:
    value = value_of(await outside.ask(say("x"), line={"url": "/v1/nothing"}))
    Result.model_validate(value)
    assert set(value) == _RESULT
    assert set(value["job"]) == _JOB
    assert set(value["error"]) == _ERROR
    assert value["error"] == value["job"]["error"]
    assert value["response"] is None
    assert (value["job"]["state"], value["error"]["code"]) == ("rejected", "unsupported_url")


async def test_result_and_reply_are_one_event(outside: Outsider) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    named = [("ce_id", uuid4().hex.encode()), ("ce_source", b"/me"), ("traceparent", trace)]
    sent = await outside.send(say("one event"), headers=named, key=b"\xff\x00my key")
    reply = await outside.reply_to(sent)
    job_id = value_of(reply)["id"]
    result = await outside.result_of(job_id)
    assert reply.value == result.value
    assert reply.key == sent.correlation
    assert result.key == job_id.encode()
    for record in (reply, result):
        assert header(record, "ce_specversion") == b"1.0"
        assert header(record, "ce_type") == b"com.sluicegate.job.completed.v1"
        assert header(record, "ce_source") == b"/sluicegate/main"
        assert header(record, "ce_subject") == job_id.encode()
        assert header(record, "ce_causationid") == named[0][1]
        assert header(record, "correlation_id") == sent.correlation
        assert header(record, "traceparent") == trace
        assert header(record, "sluice-record-key") == b"\xff\x00my key"
        assert header(record, "content-type") == b"application/json"
        assert header(record, "sluice-duplicate") is None
        assert (header(record, "ce_time") or b"").endswith(b"Z")
    assert header(reply, "ce_id") == header(result, "ce_id")
    UUID((header(reply, "ce_id") or b"").decode())


@pytest.mark.parametrize(
    ("correlation", "reply_to", "partition"),
    [
        ("correlation_id", "reply_to", ("reply_partition", b"2")),
        ("ce_correlationid", "ce_replyto", ("ce_replypartition", b"2")),
        (
            "kafka_correlationId",
            "kafka_replyTopic",
            ("kafka_replyPartition", struct.pack(">i", 2)),
        ),
    ],
)
async def test_reply_headers_by_every_alias(
    outside: Outsider, correlation: str, reply_to: str, partition: tuple[str, bytes]
) -> None:
    wanted = b"\xfe\xff" + uuid4().bytes.replace(b"\n", b"_").replace(b"\r", b"_").replace(
        b"\0", b"_"
    )
    address = outside.topics.replies("default").encode()
    await outside.put(
        json.dumps({"body": say("alias")}).encode(),
        [(correlation, wanted), (reply_to, address), partition],
    )
    (reply,) = await outside.replies.wait_for(lambda: results_in(outside.replies, wanted))
    assert reply.partition == 2
    assert reply.key == wanted
    assert header(reply, correlation) == wanted


async def test_correlation_defaults_to_the_event_id_then_the_job_id(outside: Outsider) -> None:
    address = ("reply_to", outside.topics.replies("default").encode())
    ce_id = uuid4().hex.encode()
    value = json.dumps({"body": say("default")}).encode()
    await outside.put(value, [address, ("ce_id", ce_id)])
    (reply,) = await outside.replies.wait_for(lambda: results_in(outside.replies, ce_id))
    assert reply.key == ce_id
    sent = await outside.put(value, [address])
    job_id = outside.record_id(sent).encode()
    (reply,) = await outside.replies.wait_for(lambda: results_in(outside.replies, job_id))
    assert reply.key == job_id
    assert header(reply, "ce_causationid") is None
    assert header(reply, "sluice-record-key") is None


@pytest.mark.parametrize("base64_data", [False, True])
async def test_structured_mode(outside: Outsider, base64_data: bool) -> None:
    ce_id, correlation = uuid4().hex, uuid4().hex
    job = {"custom_id": "s", "body": say("structured")}
    data = (
        {"data_base64": base64.b64encode(json.dumps(job).encode()).decode()}
        if base64_data
        else {"data": job}
    )
    envelope = {
        "specversion": "1.0",
        "id": ce_id,
        "source": "/structured",
        "type": "x",
        "correlationid": correlation,
        "replyto": outside.topics.replies("default"),
        **data,
    }
    await outside.put(
        json.dumps(envelope).encode(), [("content-type", b"application/cloudevents+json")]
    )
    (reply,) = await outside.replies.wait_for(
        lambda: results_in(outside.replies, correlation.encode())
    )
    assert value_of(reply)["custom_id"] == "s"
    name = f"event:/structured\n{ce_id}"
    assert value_of(reply)["id"] == str(uuid5(tenant_namespace(), name))
    assert header(reply, "ce_causationid") == ce_id.encode()


async def test_a_schema_registry_prefix_is_skipped(outside: Outsider) -> None:
    sent = await outside.put(
        b"\x00\x00\x00\x00\x2a" + json.dumps({"body": say("registry")}).encode()
    )
    value = value_of(await outside.result_of(outside.record_id(sent)))
    assert value["job"]["state"] == "succeeded"


async def test_headers_that_are_not_read_may_be_anything(outside: Outsider) -> None:
    strange = [("x", b"\xff\n\r\x00"), ("x", None), ("", b"empty name"), ("é", b"1")]
    reply = await outside.ask(say("strange headers"), headers=strange)
    assert value_of(reply)["job"]["state"] == "succeeded"


async def test_unknown_fields_are_no_error_and_unknown_options_are_named(
    outside: Outsider,
) -> None:
    reply = await outside.ask(
        say("more"), line={"metadata": {"a": 1}}, run_id="w", shiny=True, other=None
    )
    job = value_of(reply)["job"]
    assert job["state"] == "succeeded"
    assert any("shiny" in warning for warning in job["warnings"])
    assert not any("run_id" in warning for warning in job["warnings"])


async def test_without_reply_to_the_result_goes_to_results(outside: Outsider) -> None:
    sent = await outside.put(
        json.dumps({"body": say("no reply", stream=True), "options": {"results": "reply"}}).encode()
    )
    record = await outside.result_of(outside.record_id(sent))
    assert value_of(record)["job"]["deltas"] == 0
    assert value_of(record)["job"]["state"] == "succeeded"


async def test_results_reply_keeps_the_result_off_the_results_topic(outside: Outsider) -> None:
    reply = await outside.ask(say("reply only"), results="reply")
    job_id = value_of(reply)["id"]
    later = value_of(await outside.ask(say("after it")))["id"]
    await outside.result_of(later)
    assert not outside.results.by_key(job_id.encode())


async def test_replies_may_go_to_a_topic_on_the_tenants_list(outside: Outsider) -> None:
    sent = await outside.send(say("own topic"), reply_to=outside.own_topic)
    (reply,) = await outside.own.wait_for(lambda: results_in(outside.own, sent.correlation))
    assert value_of(reply)["job"]["state"] == "succeeded"


@pytest.mark.parametrize("topic", ["replies.other.v1", "jobs.bulk.v1", "nowhere"])
async def test_other_reply_topics_are_refused_and_nothing_is_sent_there(
    outside: Outsider, topic: str
) -> None:
    name = outside.topics.prefix + topic
    sent = await outside.send(say("forbidden"), reply_to=name)
    record = await outside.result_of(outside.record_id(sent))
    value = value_of(record)
    assert (value["job"]["state"], value["error"]["code"]) == ("rejected", "reply_not_allowed")
    assert not await outside.system.mock.calls_of(value["id"])
    if topic == "replies.other.v1":
        theirs = await outside.system.consume(name)
        assert not theirs.records


async def test_a_reply_partition_that_is_not_there_gives_the_reply_up(outside: Outsider) -> None:
    sent = await outside.send(say("lost"), headers=[("reply_partition", b"99")])
    job_id = outside.record_id(sent)
    assert value_of(await outside.result_of(job_id))["job"]["state"] == "succeeded"

    async def marked() -> object:
        return await outside.system.pool.fetchval(
            "select reply_given_up_at from sluice.responses where uuid = $1", UUID(job_id)
        )

    await eventually(marked)
    assert not results_in(outside.replies, sent.correlation)


@pytest.mark.parametrize("job_class", ["realtime", "standard", "bulk"])
async def test_the_topic_is_the_class(outside: Outsider, job_class: str) -> None:
    reply = await outside.ask(say("class"), job_class=job_class)
    assert value_of(reply)["job"]["class"] == job_class


async def test_a_topic_may_belong_to_a_tenant(outside: Outsider) -> None:
    results = await outside.system.consume(outside.topics.results("other"))
    job = {"body": say("theirs"), "options": {"project": "theirs"}}
    sent = await outside.put(json.dumps(job).encode(), topic=f"{outside.topics.prefix}theirs")
    job_id = outside.record_id(sent, "other")
    (record,) = await results.wait_for(lambda: results.by_key(job_id.encode()))
    assert value_of(record)["job"]["class"] == "bulk"
    (row,) = await outside.usage_rows(job_id)
    assert (row["tenant"], row["project"]) == ("other", "theirs")


async def test_embeddings(outside: Outsider) -> None:
    reply = await outside.ask(
        {"model": "odd", "input": ["a", "bc"]}, line={"url": "/v1/embeddings"}
    )
    value = value_of(reply)
    assert len(value["response"]["body"]["data"]) == 2
    (row,) = await outside.usage_rows(value["id"])
    assert row["operation"] == "embeddings"
