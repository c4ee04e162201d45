"""Every record is answered: bad ones by a rejection, a dead letter or both, and none stands in the way."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import ConsumerRecord
from tests.acceptance.outsider import (
    RECORD_BYTES,
    Header,
    Outsider,
    Sent,
    header,
    results_in,
    say,
    value_of,
)
from tests.waiting import eventually

pytestmark = [pytest.mark.stack, pytest.mark.acceptance, pytest.mark.xdist_group("contract")]

_GOOD = json.dumps({"body": say("good")}).encode()


def job(**changes: Any) -> bytes:
    return json.dumps({"body": say("x"), **changes}).encode()


def options(**given: Any) -> bytes:
    return job(options=given)


async def letter_of(outside: Outsider, sent: Sent) -> ConsumerRecord:
    """The dead letter of a record."""

    def found() -> Sequence[ConsumerRecord]:
        place = {
            ("sluice-source-topic", sent.topic.encode()),
            ("sluice-source-partition", str(sent.partition).encode()),
            ("sluice-source-offset", str(sent.offset).encode()),
        }
        return [letter for letter in outside.letters.records if place <= set(letter.headers)]

    (letter,) = await outside.letters.wait_for(found)
    return letter


async def good_one_passes(outside: Outsider, bad: Sent) -> None:
    """A good job behind a bad one, in the same partition, is done."""
    sent = await outside.put(_GOOD, topic=bad.topic, partition=bad.partition)
    record = await outside.result_of(outside.record_id(sent))
    assert value_of(record)["job"]["state"] == "succeeded"


BAD_VALUES: dict[str, bytes | None] = {
    "not json": b"not json",
    "empty": b"",
    "null": None,
    "a list": b"[]",
    "a number": b"7",
    "broken utf-8": b'{"body": {"model": "odd", "messages": [{"role": "user", "content": "\xff"}]}}',
    "a lone surrogate": b'{"body": {"model": "odd", "messages": [{"role": "user", "content": "\\ud800"}]}}',
    "no body": b"{}",
    "a body that is text": b'{"body": "x"}',
    "no model": b'{"body": {"messages": [{"role": "user", "content": "x"}]}}',
    "no messages": b'{"body": {"model": "odd"}}',
    "messages of text": b'{"body": {"model": "odd", "messages": ["x"]}}',
    "a method that is not POST": job(method="GET"),
    "stream of text": job(body=say("x", stream="yes")),
    "a custom_id that is a number": job(custom_id=7),
    "options that are a list": job(options=[]),
    "a key over 256 bytes": options(idempotency_key="k" * 257),
    "a key with NUL": options(idempotency_key="a\0b"),
    "too many tags": options(tags={str(n): "x" for n in range(17)}),
    "a tag over its bound": options(tags={"k": "v" * 257}),
    "a deadline without an offset": options(deadline="2026-01-01T00:00:00"),
    "a negative timeout": options(timeout_s=-1),
    "money with a sign": options(max_cost_usd="-1"),
    "money as a number": options(max_cost_usd=1.5),
    "no attempts": options(max_attempts=0),
    "a choice that is none": options(on_unknown="maybe"),
    "deep nesting": b'{"body": {"model": "odd", "messages": [{"role": "user", "content": '
    + b"[" * 5000
    + b"]" * 5000
    + b"}]}}",
}


@pytest.mark.parametrize("kind", BAD_VALUES)
async def test_a_bad_value_is_rejected_and_kept(outside: Outsider, kind: str) -> None:
    value = BAD_VALUES[kind]
    correlation = uuid4().hex.encode()
    headers: list[Header] = [
        ("correlation_id", correlation),
        ("reply_to", outside.topics.replies("default").encode()),
        ("carried", b"\xff\x00"),
        ("carried", None),
    ]
    key = b"\x00key"
    bad = await outside.put(value, headers, key=key, correlation=correlation)
    reply = await outside.reply_to(bad)
    rejected = value_of(reply)
    assert rejected["id"] == outside.record_id(bad)
    assert (rejected["job"]["state"], rejected["error"]["code"]) == ("rejected", "invalid_record")
    assert rejected["error"]["message"]
    assert header(reply, "sluice-record-key") == key
    letter = await letter_of(outside, bad)
    assert (letter.key, letter.value) == (key, value)
    assert list(letter.headers)[: len(headers)] == headers
    assert [name for name, _ in letter.headers[len(headers) :]] == [
        "sluice-error-code",
        "sluice-error-message",
        "sluice-source-topic",
        "sluice-source-partition",
        "sluice-source-offset",
    ]
    assert header(letter, "sluice-error-code") == b"invalid_record"
    await good_one_passes(outside, bad)


async def test_a_record_of_nothing_at_all(outside: Outsider) -> None:
    producer_cannot = outside.producer.send  # it asserts that there is a key or a value
    with pytest.raises(AssertionError):
        await producer_cannot(outside.jobs(), key=None, value=None)
    bad = await outside.put(None, key=b"only a key")
    assert (await letter_of(outside, bad)).value is None
    await good_one_passes(outside, bad)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswerable:
    """Headers that leave the tenant or the reply address unknown."""

    headers: tuple[Header, ...]
    code: bytes = b"invalid_record"


UNANSWERABLE = {
    "reply_to repeats": Unanswerable(headers=(("reply_to", b"a"), ("reply_to", b"a"))),
    "two names of reply_to": Unanswerable(headers=(("reply_to", b"a"), ("ce_replyto", b"a"))),
    "reply_to is not UTF-8": Unanswerable(headers=(("reply_to", b"\xff"),)),
    "reply_to has a line break": Unanswerable(headers=(("reply_to", b"a\nb"),)),
    "reply_to has a carriage return": Unanswerable(headers=(("reply_to", b"a\rb"),)),
    "reply_partition is no number": Unanswerable(headers=(("reply_partition", b"one"),)),
    "reply_partition is negative": Unanswerable(headers=(("reply_partition", b"-1"),)),
    "Spring's partition has 3 bytes": Unanswerable(
        headers=(("kafka_replyPartition", b"\x00\x00\x01"),)
    ),
    "an unknown key": Unanswerable(
        headers=(
            ("sluice-key-id", b"nobody"),
            ("sluice-signature", b"v1,AAAA"),
            ("ce_id", b"i"),
            ("ce_source", b"/s"),
            ("ce_time", b"2026-01-01T00:00:00Z"),
        ),
        code=b"unauthorized",
    ),
    "a signature without a key": Unanswerable(
        headers=(("sluice-signature", b"v1,AAAA"),), code=b"invalid_signature"
    ),
}


@pytest.mark.parametrize("kind", UNANSWERABLE)
async def test_who_cannot_be_answered_leaves_a_dead_letter_alone(
    outside: Outsider, kind: str
) -> None:
    case = UNANSWERABLE[kind]
    correlation = uuid4().hex.encode()
    headers: list[Header] = [("correlation_id", correlation), *case.headers]
    bad = await outside.put(_GOOD, headers)
    letter = await letter_of(outside, bad)
    assert letter.value == _GOOD
    assert list(letter.headers)[: len(headers)] == headers
    assert header(letter, "sluice-error-code") == case.code
    await good_one_passes(outside, bad)
    assert not results_in(outside.replies, correlation)
    assert not results_in(outside.results, correlation)


@pytest.mark.parametrize(
    "headers",
    [
        [("ce_id", b"a"), ("ce_id", b"a")],
        [("ce_id", b"\xff")],
        [("traceparent", b"a\nb")],
        [("correlation_id", b"a"), ("ce_correlationid", b"b")],
        [("ce_source", b"x" * 5000)],
    ],
)
async def test_bad_headers_beside_a_good_address_are_rejected(
    outside: Outsider, headers: list[Header]
) -> None:
    bad = await outside.put(_GOOD, headers)
    rejected = value_of(await outside.result_of(outside.record_id(bad)))
    assert rejected["error"]["code"] == "invalid_record"
    assert header(await letter_of(outside, bad), "sluice-error-code") == b"invalid_record"
    await good_one_passes(outside, bad)


async def test_a_structured_record_that_is_no_envelope(outside: Outsider) -> None:
    bad = await outside.put(b"{", [("content-type", b"application/cloudevents+json")])
    assert header(await letter_of(outside, bad), "sluice-error-code") == b"invalid_record"
    await good_one_passes(outside, bad)


async def test_a_value_over_the_bound_is_too_large(outside: Outsider) -> None:
    bad = await outside.send(say("x" * RECORD_BYTES))
    rejected = value_of(await outside.reply_to(bad))
    assert (rejected["job"]["state"], rejected["error"]["code"]) == ("rejected", "too_large")
    await good_one_passes(outside, bad)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"url": "/v1/images/generations"}, "unsupported_url"),
        ({"options": {"project": "nowhere"}}, "unknown_project"),
        ({"options": {"team": "nowhere"}}, "unknown_project"),
        ({"options": {"project": "search", "app": "nowhere"}}, "unknown_project"),
    ],
)
async def test_refusals_name_the_field_and_leave_no_dead_letter(
    outside: Outsider, changes: dict[str, Any], code: str
) -> None:
    bad = await outside.put(job(**changes))
    rejected = value_of(await outside.result_of(outside.record_id(bad)))
    assert (rejected["error"]["code"], rejected["job"]["attempts"]) == (code, 0)
    assert rejected["error"]["param"]
    await good_one_passes(outside, bad)
    place = ("sluice-source-offset", str(bad.offset).encode())
    own = [r for r in outside.letters.records if place in r.headers and r.value == job(**changes)]
    assert not own


@pytest.mark.parametrize(
    "value",
    [b"not json", b"{}", b'{"id": "x"}', b'{"id": "x", "run_id": "y"}', b'{"run_id": ""}', None],
)
async def test_a_bad_cancel_does_not_stop_the_next(outside: Outsider, value: bytes | None) -> None:
    topic = f"{outside.topics.prefix}control.v1"
    bad = await outside.put(value, topic=topic, key=b"k")
    assert header(await letter_of(outside, bad), "sluice-error-code") == b"invalid_record"
    mark = uuid4().hex
    await outside.system.mock.rule("latency=20s", match={"body": mark})
    sent = await outside.send(say(mark))
    job_id = outside.record_id(sent)
    await eventually(lambda: outside.system.mock.calls_of(job_id))
    await outside.put(json.dumps({"id": job_id}).encode(), topic=topic, partition=bad.partition)
    assert value_of(await outside.reply_to(sent))["job"]["state"] == "cancelled"


async def test_a_flood_of_rubbish_is_answered_record_by_record(outside: Outsider) -> None:
    began = time.monotonic()
    sent = [await outside.producer.send(outside.jobs("bulk"), b"%d{" % n) for n in range(500)]
    for future in sent:
        await future
    values = {b"%d{" % n for n in range(500)}
    await eventually(
        lambda: values <= {letter.value for letter in outside.letters.records}, within_s=20
    )
    assert len([r for r in outside.letters.records if r.value in values]) == 500
    assert time.monotonic() - began < 20


async def test_no_worker_logged_a_traceback_or_what_was_said(outside: Outsider) -> None:
    for name, log in outside.system.logs().items():
        assert "Traceback" not in log, f"{name}: {log[-2000:]}"
        assert "You said" not in log
        assert "xxxxxxxx" not in log
