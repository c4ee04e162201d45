"""Headers, aliases, envelopes; who is asking; where replies may go; and never an exception."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.intake.intake_world import (
    BODY,
    NOW_MS,
    STRICT,
    job,
    key,
    read,
    record,
    rejected,
    signed,
)

from sluice_core.intake.headers import _BOUNDS
from sluice_core.intake.model import Cancel, DeadLetter, NewJob, Record, Rejection
from sluice_core.intake.policy import read_record
from sluice_schemas.identity import id_by_event

VOUCHING = key(grants=frozenset({"vouch"}), reply_topics=("edge.replies",), tenant="zeta")


def dead(given: Record, *keys: object, **policy: object) -> DeadLetter:
    verdict = read(given, *keys, **policy)  # type: ignore[arg-type]
    assert isinstance(verdict, DeadLetter), verdict
    assert verdict.record is given
    assert verdict.message
    return verdict


def test_plain_headers() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    asked = job(
        record(
            headers={
                "ce_id": "e", "correlation_id": b"\xff\x00\x01"[:1], "reply_to": "llm.replies.acme.v1",
                "reply_partition": "12", "traceparent": parent, "tracestate": "a=b", "x-other": b"\xff\n",
            }
        )
    ).requester  # fmt: skip
    assert (asked.correlation_id, asked.cause, asked.echo) == (b"\xff", "e", ())
    assert (asked.reply_to, asked.reply_partition) == ("llm.replies.acme.v1", 12)
    assert (asked.traceparent, asked.tracestate) == (parent, "a=b")
    assert job(record(headers={"ce_id": "e"})).requester.correlation_id == b"e"
    assert job(record(headers={"traceparent": "00-zz"})).requester.traceparent is None


def test_aliases_are_understood_and_echoed() -> None:
    spring = {
        "kafka_correlationId": bytes(range(16)),
        "kafka_replyTopic": "my.replies",
        "kafka_replyPartition": b"\x00\x00\x00\x0a",
    }
    asked = job(record(headers=spring)).requester
    assert asked.correlation_id == bytes(range(16))
    assert (asked.reply_to, asked.reply_partition) == ("my.replies", 10)
    assert dict(asked.echo) == {
        "kafka_correlationId": bytes(range(16)),
        "kafka_replyTopic": b"my.replies",
        "kafka_replyPartition": b"\x00\x00\x00\x0a",
    }
    events = {"ce_correlationid": "c", "ce_replyto": "my.replies", "ce_replypartition": "0"}
    asked = job(record(headers=events)).requester
    assert (asked.correlation_id, asked.reply_to, asked.reply_partition) == (b"c", "my.replies", 0)
    assert len(asked.echo) == 3


def test_null_and_empty_headers_are_absent() -> None:
    empty = dict.fromkeys(_BOUNDS, b"") | {"ce_id": None, "kafka_replyPartition": None}
    asked = job(record(headers=empty)).requester
    assert (asked.cause, asked.reply_to, asked.reply_partition, asked.echo) == (
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize(
    "headers",
    [
        [("ce_id", b"\xff")],
        [("ce_id", "x" * 257)],
        [("ce_id", "a\nb")],
        [("ce_source", "a\rb")],
        [("ce_type", "a\x00b")],
        [("correlation_id", b"a\nb")],
        [("correlation_id", b"x" * 257)],
        [("ce_time", "1"), ("ce_time", "1")],
        [("correlation_id", "a"), ("ce_correlationid", "a")],
        [("correlation_id", "a"), ("kafka_correlationId", "b")],
        [("tracestate", b"\xff")],
        [("ce_subject", b"x" * 2000)],
    ],
)
def test_bad_headers_are_rejected_to_a_known_address(headers: list) -> None:
    verdict = rejected(record(headers=[*headers, ("reply_to", "my.replies")]))
    assert (verdict.code, verdict.requester.reply_to) == ("invalid_record", "my.replies")
    assert verdict.dead_letter
    assert verdict.param == f"headers.{headers[0][0]}"


@pytest.mark.parametrize(
    "headers",
    [
        [("reply_to", b"\xff")],
        [("reply_to", "my.replies"), ("reply_to", "my.replies")],
        [("reply_to", "my.replies"), ("ce_replyto", "my.replies")],
        [("reply_to", "my.replies"), ("reply_partition", "x")],
        [("reply_to", "my.replies"), ("reply_partition", "-1")],
        [("reply_to", "my.replies"), ("reply_partition", "١".encode())],
        [("kafka_replyTopic", "my.replies"), ("kafka_replyPartition", b"\x00\x01")],
        [("kafka_replyTopic", "my.replies"), ("kafka_replyPartition", b"\xff\xff\xff\xff")],
        [("reply_partition", "1"), ("ce_replypartition", "1")],
    ],
)
def test_an_unreadable_reply_address_is_a_dead_letter(headers: list) -> None:
    assert dead(record(headers=headers)).code == "invalid_record"


def test_a_reply_topic_off_the_list_gets_nothing() -> None:
    for topic in ("llm.replies.zeta.v1", "llm.usage.v1", "other"):
        for value in (None, b"broken"):
            verdict = rejected(record(value, headers={"reply_to": topic, "reply_partition": "1"}))
            assert verdict.code == "reply_not_allowed"
            assert verdict.requester.reply_to is None
            assert verdict.requester.reply_partition is None
    verdict = rejected(signed(record(headers={"reply_to": "other"}), ce_time="x"), key())
    assert (verdict.code, verdict.requester.reply_to) == ("invalid_signature", None)


def envelope(**given: object) -> bytes:
    base = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": {"body": BODY}}
    return orjson.dumps(base | given)


STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}


def test_structured_mode() -> None:
    value = envelope(correlationid="c", replyto="my.replies", replypartition=4)
    made = job(record(value, headers=STRUCTURED))
    assert made.id == id_by_event("acme", "/s", "e")
    asked = made.requester
    assert (asked.correlation_id, asked.reply_to, asked.reply_partition) == (b"c", "my.replies", 4)
    assert asked.cause == "e"
    same = job(record(value, headers=STRUCTURED | {"ce_id": "e"}))
    assert same.id == made.id
    packed = envelope(
        data=None, data_base64="eyJib2R5IjogeyJtb2RlbCI6ICJmYXN0IiwgIm1lc3NhZ2VzIjogW3t9XX19"
    )
    assert job(record(packed, headers=STRUCTURED)).model == "fast"
    other = rejected(record(value, headers=STRUCTURED | {"ce_id": "f"}))
    assert other.code == "invalid_record"
    for broken in (b"x", b"[]", envelope(id=5), envelope(data=[]), envelope(data_base64="%")):
        assert dead(record(broken, headers=STRUCTURED)).code == "invalid_record"
    assert dead(record(envelope(x="y" * 65536), headers=STRUCTURED)).code == "too_large"
    assert dead(record(envelope(replyto="a", replypartition="x"), headers=STRUCTURED))


def test_unsigned_records() -> None:
    assert dead(record(), policy=STRICT).code == "unauthorized"
    assert job(record(topic="acme.jobs"), policy=STRICT).tenant == "acme"
    assert dead(record(topic="nobodys")).code == "invalid_record"
    large = record(b"x" * 70000)
    assert dead(large, policy=STRICT).code == "unauthorized"
    assert rejected(record(headers={"sluice-on-behalf-of": "zeta////"})).code == "forbidden"
    assert dead(record(), policy=replace(STRICT, unsigned_tenant="gone")).code == "unauthorized"


def test_a_signed_record() -> None:
    plain = record(headers={"reply_to": "my.replies", "correlation_id": b"\xfe"})
    made = job(signed(plain), key(), policy=STRICT)
    assert (made.tenant, made.key_id, made.identity) == ("acme", "sgk_a", "event")
    assert made.requester.reply_to == "my.replies"
    assert job(signed(record(topic="acme.jobs")), key(), policy=STRICT).project == "support"


def test_a_signature_that_does_not_verify_tells_no_tenant() -> None:
    good = signed(record())
    for broken in (
        signed(record(), secret="other"),
        replace(good, value=good.value + b" "),
        replace(good, topic="llm.jobs.realtime.v1"),
        replace(good, headers=(*good.headers, ("reply_to", b"my.replies"))),
        replace(good, headers=tuple(h for h in good.headers if h[0] != "sluice-key-id")),
        replace(good, headers=tuple(h for h in good.headers if h[0] != "sluice-signature")),
    ):
        assert dead(broken, key()).code == "invalid_signature"
    assert dead(good).code == "unauthorized"
    assert dead(good, key(tenant="gone")).code == "forbidden"
    repeated = replace(good, headers=(*good.headers, ("ce_id", b"2")))
    assert dead(repeated, key()).code == "invalid_record"
    by_topic = rejected(signed(record(topic="acme.jobs"), secret="other"), key())
    assert (by_topic.code, by_topic.tenant) == ("invalid_signature", "acme")


@pytest.mark.parametrize(
    "lines",
    [
        {"ce_id": ""},
        {"ce_source": ""},
        {"ce_time": ""},
        {"ce_time": "now"},
        {"ce_time": "2026-11-23T11:54:59Z"},
        {"ce_time": "2026-11-23T12:05:01Z"},
    ],
)
def test_a_signed_record_is_complete_and_recent(lines: dict) -> None:
    verdict = rejected(signed(record(), **lines), key())
    assert (verdict.code, verdict.tenant, verdict.dead_letter) == (
        "invalid_signature",
        "acme",
        True,
    )


def test_a_signed_record_is_plain() -> None:
    for headers in (STRUCTURED, {"kafka_correlationId": b"1"}, {"ce_replyto": b"my.replies"}):
        assert rejected(signed(record(headers=headers)), key()).code == "invalid_signature"


def test_the_time_window_is_five_minutes() -> None:
    for text in ("2026-11-23T11:55:00Z", "2026-11-23T12:05:00Z", "2026-11-23T13:00:00+01:00"):
        assert job(signed(record(), ce_time=text), key())


def test_a_key_that_no_longer_counts() -> None:
    for ended in (key(revoked_at=1.0), key(expires_at=NOW_MS / 1000)):
        assert rejected(signed(record()), ended).code == "unauthorized"
    assert job(signed(record()), key(expires_at=NOW_MS / 1000 + 1))
    other = rejected(signed(record(topic="zeta.jobs")), key())
    assert (other.code, other.tenant) == ("forbidden", "acme")


def test_a_vouching_key_speaks_for_others() -> None:
    plain = record(headers={"reply_to": "edge.replies"})
    named = {"sluice_on_behalf_of": "acme/ml/search/web/jo%C3%A3o"}
    made = job(signed(plain, **named), VOUCHING)
    assert (made.tenant, made.team, made.project, made.app, made.user) == (
        "acme", "ml", "search", "web", "joão",
    )  # fmt: skip
    assert made.requester.reply_to == "edge.replies"
    assert job(signed(plain, sluice_on_behalf_of="////"), VOUCHING).tenant == "zeta"
    spoofed = signed(record(options={"user": "eve"}), **named)
    assert rejected(spoofed, VOUCHING).code == "forbidden"
    unlisted = signed(record(headers={"reply_to": "llm.replies.acme.v1"}), **named)
    assert rejected(unlisted, VOUCHING).code == "reply_not_allowed"


@pytest.mark.parametrize(
    ("header", "code"),
    [("acme", "invalid_record"), ("a%/b/c/d/e", "invalid_record"), ("gone////", "forbidden")],
)
def test_a_vouched_caller_must_exist(header: str, code: str) -> None:
    verdict = rejected(signed(record(), sluice_on_behalf_of=header), VOUCHING)
    assert (verdict.code, verdict.tenant) == (code, "zeta")


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("x" * 257, "sluice-on-behalf-of has a segment over 256 bytes"),
        ("%C3%A3" * 129, "sluice-on-behalf-of has a segment over 256 bytes"),
        ("%FF", "sluice-on-behalf-of is not UTF-8"),
        ("a%0Ab", "sluice-on-behalf-of has a control character"),
    ],
)
def test_a_vouched_callers_segments_are_bounded_text(segment: str, message: str) -> None:
    verdict = rejected(signed(record(), sluice_on_behalf_of=f"acme////{segment}"), VOUCHING)
    assert (verdict.code, verdict.message) == ("invalid_record", message)
    assert verdict.param == "headers.sluice-on-behalf-of"
    longest = signed(record(), sluice_on_behalf_of=f"acme////{'%C3%A3' * 128}")
    assert job(longest, VOUCHING).user == "ã" * 128


def test_vouching_needs_the_grant() -> None:
    verdict = rejected(signed(record(), sluice_on_behalf_of="zeta////"), key())
    assert (verdict.code, verdict.tenant) == ("forbidden", "acme")


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([*_BOUNDS, "other"]) | st.text(max_size=4),
        st.none() | st.binary(max_size=300)
        | st.sampled_from([b"my.replies", b"application/cloudevents+json", b"1", b"sgk_a", b"v1,AAAA", b"acme////"]),
    ),
    max_size=8,
)  # fmt: skip
VALUES = (
    st.none()
    | st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["body", "options", "model", "messages", "data", "id", "tags"]), inner),
        max_leaves=12,
    ).filter(lambda value: not _surrogates(value)).map(orjson.dumps)
)  # fmt: skip


def _surrogates(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:
        return True
    return False


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["llm.jobs.bulk.v1", "llm.control.v1", "acme.jobs", "acme.control", "none"]),
    st.integers(-1, 2**62),
    st.none() | st.binary(max_size=10),
    VALUES,
    HEADERS,
    st.booleans(),
)
def test_no_record_raises(topic, timestamp_ms, record_key, value, headers, strict) -> None:
    hostile = Record(
        topic=topic,
        partition=0,
        offset=0,
        timestamp_ms=timestamp_ms,
        key=record_key,
        value=value,
        headers=tuple(headers),
    )
    policy = STRICT if strict else replace(STRICT, unsigned_tenant="acme")
    verdict = read_record(hostile, policy=policy, keys={"sgk_a": key()})
    assert isinstance(verdict, NewJob | Rejection | DeadLetter | Cancel)
    if isinstance(verdict, Rejection) and verdict.requester.reply_to is not None:
        assert verdict.requester.reply_to in {"my.replies", "llm.replies.acme.v1"}
