"""What goes out on Kafka, by the published models: results, replies, duplicates, deltas, usage, dead letters."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.intake.model import DeadLetter, Record, Requester
from sluice_core.publishing.model import Message, Origin, StoredResult
from sluice_core.publishing.policy import (
    DeltaForm,
    audit_message,
    dead_letter_message,
    event_message,
    result_messages,
    usage_message,
)
from sluice_core.publishing.repository import pack_headers, unpack_headers
from sluice_schemas.errors import ErrorCode
from sluice_schemas.events import Audit
from sluice_schemas.headers import DeadLetterHeaders, DeltaHeaders, EventHeaders, ResultHeaders
from sluice_schemas.identity import delta_event_id, duplicate_event_id
from sluice_schemas.results import Delta, Result
from sluice_schemas.topics import Topics

BOUND = 4_096
ORIGIN = Origin(cell="eu-1", topics=Topics(), record_bytes=BOUND)
JOB = UUID("11111111-1111-5111-8111-111111111111")
CE_ID = UUID("22222222-2222-7222-8222-222222222222")
RECORD = UUID("33333333-3333-5333-8333-333333333333")
AT = 1_795_435_200.25
TOLD = {
    "state": "succeeded",
    "class": "bulk",
    "attempts": 1,
    "run_id": None,
    "model": "fast",
    "account": "mock",
    "provider_model": "gpt",
    "usage": {
        "input_tokens": 1,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 1,
        "reasoning_tokens": 0,
    },
    "cost_usd": "0.000000001",
    "execution": 1,
    "queued_ms": 1,
    "provider_ms": 2,
    "total_ms": 3,
    "cache": "miss",
    "deltas": 0,
    "warnings": ['},"error":null,"job":{', ',"body":'],
    "error": None,
}


def requester(**given: Any) -> Requester:
    plain: dict[str, Any] = {
        "custom_id": "row-1",
        "correlation_id": b"\xff\x00corr",
        "echo": (("kafka_correlationId", b"\xff\x00corr"),),
        "cause": "cause-1",
        "reply_to": None,
        "reply_partition": None,
        "reply_only": False,
        "traceparent": "00-aa-bb-01",
        "tracestate": "v=1",
        "record_key": b"\xfeown",
        "record_id": RECORD,
    }
    return Requester(**plain | given)


def line(custom_id: str | None, body: bytes | None = b'{"choices":[]}') -> bytes:
    """A result as the ledger stores it; without a body it is a failure of ours."""
    error = {
        "code": "internal",
        "message": ',"body":',
        "retryable": False,
        "status": None,
        "param": "body",
        "retry_after_s": None,
    }
    response = None
    if body is not None:
        response = {"status_code": 200, "request_id": "q\",'", "body": orjson.Fragment(body)}
    return orjson.dumps(
        {
            "id": JOB,
            "custom_id": custom_id,
            "response": response,
            "error": None if response else error,
            "job": TOLD if response else TOLD | {"state": "failed", "error": error},
        }
    )


def stored(value: bytes | None = None) -> StoredResult:
    value = line("row-1") if value is None else value
    return StoredResult(job_id=JOB, tenant="acme", ce_id=CE_ID, finished_at=AT, value=value)


def text(message: Message) -> dict[str, str]:
    assert len(message.headers) == len({name for name, _ in message.headers})
    return {name: value.decode(errors="replace") for name, value in message.headers}


def test_headers_of_a_result_are_those_of_the_contract() -> None:
    (message,) = result_messages(ORIGIN, stored(), requester())
    assert (message.topic, message.key) == ("llm.results.acme.v1", str(JOB).encode())
    assert message.value == line("row-1")
    Result.model_validate_json(message.value)
    ResultHeaders.model_validate(text(message))
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_type": b"com.sluicegate.job.completed.v1",
        "ce_source": b"/sluicegate/eu-1",
        "ce_subject": str(JOB).encode(),
        "ce_id": str(CE_ID).encode(),
        "ce_time": b"2026-11-23T12:00:00.250000Z",
        "content-type": b"application/json",
        "correlation_id": b"\xff\x00corr",
        "kafka_correlationId": b"\xff\x00corr",
        "ce_causationid": b"cause-1",
        "traceparent": b"00-aa-bb-01",
        "tracestate": b"v=1",
        "sluice-record-key": b"\xfeown",
    }


def test_what_a_requester_did_not_have_is_absent() -> None:
    bare = requester(cause=None, traceparent=None, tracestate=None, record_key=None, echo=())
    (message,) = result_messages(ORIGIN, stored(), bare)
    assert not {"ce_causationid", "traceparent", "tracestate", "sluice-record-key"} & set(
        text(message)
    )


def test_a_reply_and_its_result_are_one_event() -> None:
    asked = requester(reply_to="my.replies", reply_partition=3)
    result, reply = result_messages(ORIGIN, stored(), asked)
    assert (reply.topic, reply.partition, reply.key) == ("my.replies", 3, b"\xff\x00corr")
    assert (reply.value, reply.headers) == (result.value, result.headers)
    assert (reply.urgent, result.urgent) == (True, False)


@pytest.mark.parametrize(
    ("reply_to", "reply_only", "duplicate", "topics"),
    [
        ("my.replies", True, False, ["my.replies"]),
        (None, True, False, ["llm.results.acme.v1"]),
        ("my.replies", False, True, ["my.replies"]),
        (None, False, True, ["llm.results.acme.v1"]),
    ],
)
def test_where_an_answer_goes(
    reply_to: str | None, reply_only: bool, duplicate: bool, topics: list[str]
) -> None:
    asked = requester(reply_to=reply_to, reply_only=reply_only)
    sent = result_messages(ORIGIN, stored(), asked, duplicate=duplicate)
    assert [message.topic for message in sent] == topics


HOSTILE = st.one_of(
    st.none(),
    st.text(max_size=60),
    st.sampled_from(
        [
            ',"response":',
            '","response":{"body":1},"x":"',
            '"',
            "\\",
            '\\","response":null',
            ',"custom_id":"x"',
            ',"body":',
            '},"error":null,"job":{',
            "\n\t\x00\x7f",
            "ü漢😀",
        ]
    ),
)


@given(first=HOSTILE, second=HOSTILE)
def test_a_duplicate_has_its_own_names_and_the_rest_untouched(
    first: str | None, second: str | None
) -> None:
    original = stored(line(first))
    (message,) = result_messages(ORIGIN, original, requester(custom_id=second), duplicate=True)
    assert message.value == line(second)
    headers = dict(message.headers)
    assert headers["ce_id"] == str(duplicate_event_id(CE_ID, RECORD)).encode()
    assert headers["sluice-duplicate"] == b"true"
    other = replace(requester(), record_id=CE_ID)
    (again,) = result_messages(ORIGIN, original, other, duplicate=True)
    assert dict(again.headers)["ce_id"] != headers["ce_id"]


LARGE = orjson.dumps({"choices": [], "pad": "x" * BOUND, "trap": '},"error":null,"job":{'})
DEEP = b"[" * BOUND + b"]" * BOUND
NESTED = b'{"a":"' + b"y" * BOUND + b'","error":null,"job":{"body":{"b":{}},"error":null,"job":{}}}'


@pytest.mark.parametrize("body", [LARGE, DEEP, NESTED], ids=["long", "deep", "alike"])
@pytest.mark.parametrize("custom_id", ["row-1", ',"body":', None])
def test_an_oversized_result_keeps_all_but_its_body(body: bytes, custom_id: str | None) -> None:
    (message,) = result_messages(ORIGIN, stored(line(custom_id, body)), requester())
    assert message.value == line(custom_id, b"null")
    Result.model_validate_json(message.value)
    assert dict(message.headers)["ce_dataref"] == f"/v1/jobs/{JOB}/result".encode()


def test_a_result_at_the_bound_goes_out_whole() -> None:
    frame = len(line("row-1", b'""'))
    whole = line("row-1", b'"' + b"x" * (BOUND - frame) + b'"')
    assert len(whole) == BOUND
    (message,) = result_messages(ORIGIN, stored(whole), requester())
    assert message.value == whole
    assert "ce_dataref" not in text(message)
    over = stored(line("row-1", b'"' + b"x" * (BOUND - frame + 1) + b'"'))
    (message,) = result_messages(ORIGIN, over, requester())
    assert message.value == line("row-1", b"null")


def test_an_oversized_line_without_a_response_is_not_cut() -> None:
    origin = replace(ORIGIN, record_bytes=10)
    (message,) = result_messages(origin, stored(line("row-1", None)), requester())
    assert message.value == line("row-1", None)


def test_a_delta_has_a_stable_id_and_the_published_headers() -> None:
    asked = requester(reply_to="my.replies", reply_partition=0)
    form = DeltaForm(ORIGIN, asked, job_id=JOB, attempt=2)
    message = form.message(seq=5, at=AT, chunks=[b'{"a":1}', b'{"b":[]}'])
    delta = Delta.model_validate_json(message.value or b"")
    assert (delta.id, delta.attempt, delta.seq) == (str(JOB), 2, 5)
    assert delta.chunks == [{"a": 1}, {"b": []}]
    headers = DeltaHeaders.model_validate(text(message))
    assert headers.ce_id == str(delta_event_id(JOB, 2, 5))
    assert headers.ce_type == "com.sluicegate.job.delta.v1"
    assert headers.ce_time == "2026-11-23T12:00:00.250000Z"
    assert (message.topic, message.partition, message.key) == (
        "my.replies",
        0,
        asked.correlation_id,
    )
    assert dict(message.headers)["kafka_correlationId"] == b"\xff\x00corr"


def test_usage_and_other_events_carry_the_published_headers() -> None:
    usage = usage_message(ORIGIN, usage_id=CE_ID, job_id=JOB, recorded_at=AT, value=b"{}")
    headers = EventHeaders.model_validate(text(usage))
    assert (headers.ce_id, headers.ce_type) == (str(CE_ID), "com.sluicegate.usage.recorded.v1")
    assert (usage.topic, usage.key, usage.value) == ("llm.usage.v1", str(JOB).encode(), b"{}")
    alert = event_message(
        ORIGIN,
        topic="llm.alerts.v1",
        kind="alert.raised",
        key="scope",
        ce_id=CE_ID,
        at=AT,
        value={"a": None},
    )
    headers = EventHeaders.model_validate(text(alert))
    assert headers.ce_type == "com.sluicegate.alert.raised.v1"
    assert (alert.key, alert.value) == (b"scope", b'{"a":null}')


VALUES = st.one_of(st.none(), st.binary(max_size=20))
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


@given(headers=HEADERS, key=VALUES, value=VALUES)
def test_a_dead_letter_is_the_record_and_then_the_reason(
    headers: list[tuple[str, bytes | None]], key: bytes | None, value: bytes | None
) -> None:
    record = Record(
        topic="llm.jobs.bulk.v1",
        partition=3,
        offset=41,
        timestamp_ms=1,
        key=key,
        value=value,
        headers=tuple(headers),
    )
    letter = DeadLetter(record=record, code=ErrorCode.INVALID_RECORD, message="why")
    message = dead_letter_message(ORIGIN, letter)
    assert message.topic == "llm.deadletter.v1"
    assert message.headers[: len(headers)] == headers
    reasons = dict(message.headers[len(headers) :])
    told = DeadLetterHeaders.model_validate({n: v.decode() for n, v in reasons.items()})
    assert (told.sluice_error_code, told.sluice_error_message) == ("invalid_record", "why")
    assert (told.sluice_source_topic, told.sluice_source_partition, told.sluice_source_offset) == (
        "llm.jobs.bulk.v1",
        "3",
        "41",
    )
    neither = key is None and value is None
    assert (told.sluice_source_null == "true") is neither
    assert (message.key, message.value) == (key, b"" if neither else value)


@pytest.mark.parametrize("shift", range(4))
def test_a_long_reason_is_cut_between_characters(shift: int) -> None:
    record = Record(
        topic="t", partition=0, offset=0, timestamp_ms=1, key=b"", value=b"", headers=()
    )
    message = "x" * shift + "😀" * 2_000
    letter = DeadLetter(record=record, code=ErrorCode.INVALID_RECORD, message=message)
    reason = dict(dead_letter_message(ORIGIN, letter).headers)["sluice-error-message"]
    assert 2_044 < len(reason) <= 2_048
    assert message.startswith(reason.decode())


@given(headers=HEADERS)
def test_packed_headers_come_back_in_order_and_bytes(
    headers: list[tuple[str, bytes | None]],
) -> None:
    assert unpack_headers(pack_headers(headers)) == headers


def test_an_audit_entry_is_an_event_with_an_id_of_its_own() -> None:
    def entry(number: int, origin: Origin = ORIGIN) -> Message:
        return audit_message(
            origin,
            entry=number,
            at=AT,
            actor="ann@host",
            action="key.revoke",
            subject="sgk_1",
            before={"revoked_at": None},
            after={"revoked_at": "x"},
        )

    told = entry(7)
    headers = EventHeaders.model_validate(text(told))
    assert (told.topic, told.key) == ("llm.audit.v1", b"sgk_1")
    assert (headers.ce_type, headers.ce_subject) == ("com.sluicegate.audit.recorded.v1", "sgk_1")
    assert told.value is not None
    value = Audit.model_validate_json(told.value)
    assert (value.actor, value.action, value.scope) == ("ann@host", "key.revoke", "sgk_1")
    assert value.details == {"before": {"revoked_at": None}, "after": {"revoked_at": "x"}}
    ids = {
        text(m)["ce_id"] for m in (told, entry(7), entry(8), entry(7, replace(ORIGIN, cell="b")))
    }
    assert len(ids) == 3
