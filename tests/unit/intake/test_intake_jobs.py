"""What a job may say: its value, options, deadlines, attribution, identity."""

import json
from base64 import b64encode
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.unit.intake.intake_world import (
    BODY,
    NOW_MS,
    OPEN,
    job,
    key,
    read,
    record,
    rejected,
    signed,
)

from sluice_core.intake.model import Cancel, NewJob, Rejection, Requester
from sluice_schemas.classes import JobClass
from sluice_schemas.identity import body_hash, id_by_event, id_by_key, id_by_record
from sluice_schemas.jobs import Job, Options

NOW = NOW_MS / 1000
RECORD_ID = id_by_record(
    "acme",
    cluster_id="cluster",
    topic="llm.jobs.bulk.v1",
    partition=3,
    offset=41,
    timestamp_ms=NOW_MS,
)


def test_only_a_body_is_required() -> None:
    made = job(record())
    assert made.id == made.record_id == RECORD_ID
    assert made.identity == "record"
    assert (made.tenant, made.team, made.project, made.app, made.user) == (
        "acme",
        "unallocated",
        "unallocated",
        "unallocated",
        None,
    )
    assert (made.model, made.operation, made.url) == ("fast", "chat", "/v1/chat/completions")
    assert (made.deadline, made.max_wait_s, made.max_attempts) == (NOW + 86400, None, 5)
    assert (made.stream, made.retry_unknown, made.rerun) == (False, False, False)
    assert not made.wait_for_budget
    assert (made.max_cost_nano, made.cache, made.affinity, made.run_id) == (None, None, None, None)
    assert orjson.loads(made.body) == BODY
    assert made.body_hash == body_hash("/v1/chat/completions", BODY)
    assert made.requester == Requester(
        custom_id=None,
        correlation_id=str(RECORD_ID).encode(),
        echo=(),
        cause=None,
        reply_to=None,
        reply_partition=None,
        reply_only=False,
        traceparent=None,
        tracestate=None,
        record_key=b"\xffown",
        record_id=RECORD_ID,
    )


def test_every_option() -> None:
    made = job(
        record(
            custom_id="row-17",
            method="POST",
            options={
                "idempotency_key": "k", "on_duplicate": "rerun", "run_id": "r", "timeout_s": 1.5,
                "max_wait_s": 0, "project": "search", "app": "web", "user": "jo", "tags": {"a": "", "b": "c"},
                "max_cost_usd": "0.05", "max_attempts": 2, "on_unknown": "retry", "on_budget": "wait",
                "cache": "exact", "affinity": "x", "results": "reply", "colour": "red", "deadline": None,
            },
        )
    )  # fmt: skip
    assert (made.id, made.identity) == (id_by_key("acme", "k"), "key")
    assert (made.team, made.project, made.app, made.user) == ("ml", "search", "web", "jo")
    assert (made.deadline, made.max_wait_s, made.max_attempts) == (NOW + 1.5, 0.0, 2)
    assert (made.max_cost_nano, made.cache, made.affinity) == (50_000_000, "exact", "x")
    assert made.retry_unknown
    assert made.rerun
    assert made.wait_for_budget
    assert made.tags == {"a": "", "b": "c"}
    assert made.run_id == "r"
    assert (made.requester.custom_id, made.requester.reply_only) == ("row-17", True)
    assert made.warnings == ("unknown option: colour",)


def _seeded(seed: str) -> bytes:
    return (
        b'{"custom_id": "c", "body": {"model": "fast", "messages": [{}], "seed": %b}}'
        % seed.encode()
    )


def _enveloped(seed: str) -> bytes:
    return (
        b'{"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "replyto": "my.replies", "data": %b}'
        % (_seeded(seed))
    )


STRUCTURED = {"content-type": "application/cloudevents+json"}


@pytest.mark.parametrize(
    "seed",
    ["123456789012345678901234567890", "18446744073709551616", "-9223372036854775809", "1" * 300,
     "[[10000000000000000000000 ]]", '{"a": 100000000000000000000}'],
)  # fmt: skip
def test_an_integer_beyond_64_bits_is_refused_and_not_rounded(seed: str) -> None:
    packed = orjson.dumps(
        {"specversion": "1.0", "id": "e", "source": "/s", "type": "t"}
        | {"data_base64": b64encode(_seeded(seed)).decode(), "replyto": "my.replies"}
    )
    for given_record in (
        record(_seeded(seed), {"reply_to": "my.replies"}),
        record(_enveloped(seed), STRUCTURED),
        record(packed, STRUCTURED),
    ):
        verdict = rejected(given_record)
        assert (verdict.code, verdict.param) == ("invalid_record", "body")
        assert "beyond 64 bits" in verdict.message
        assert (verdict.requester.custom_id, verdict.requester.reply_to) == ("c", "my.replies")


@pytest.mark.parametrize(
    "seed",
    ["18446744073709551615", "-9223372036854775808", '"123456789012345678901234567890"', '"a 12345678901234567890123, b"',
     "0.1234567890123456789012345", "12345678901234567890123e3", "-0"],
)  # fmt: skip
def test_other_long_numbers_pass(seed: str) -> None:
    for given_record in (record(_seeded(seed)), record(_enveloped(seed), STRUCTURED)):
        assert orjson.loads(job(given_record).body)["seed"] == json.loads(seed)


def test_long_integers_elsewhere_are_no_fault_of_the_body() -> None:
    long = b"100000000000000000000"
    value = b'{"x": %b, "options": {"timeout_s": %b}, "body": %b}' % (
        long,
        long,
        orjson.dumps(BODY),
    )
    assert orjson.loads(job(record(value)).body) == BODY
    deep = b'{"body": {"x": %b%b%b}, "y": 1000000000000000000000}' % (
        b"[" * 1000,
        b"1",
        b"]" * 1000,
    )
    assert rejected(record(deep)).code == "invalid_record"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadline": "soon"}, "options.deadline is not an RFC 3339 time with an offset: 'soon'"),
        (
            {"deadline": "2026-02-30T00:00:00Z"},
            "options.deadline is not an RFC 3339 time with an offset: '2026-02-30T00:00:00Z'",
        ),
        ({"max_cost_usd": "-1"}, "options.max_cost_usd is not a non-negative decimal string: '-1'"),
    ],
)
def test_messages_are_sentences(options: dict, message: str) -> None:
    assert rejected(record(options=options)).message == message


@pytest.mark.parametrize(
    ("job_class", "timeout", "wait"),
    [(JobClass.REALTIME, 120, 10.0), (JobClass.STANDARD, 3600, None), (JobClass.BULK, 86400, None)],
)
def test_defaults_by_class(job_class: JobClass, timeout: float, wait: float | None) -> None:
    made = job(record(topic=f"llm.jobs.{job_class.label}.v1"))
    assert (made.job_class, made.deadline, made.max_wait_s) == (job_class, NOW + timeout, wait)


@pytest.mark.parametrize(
    ("options", "deadline"),
    [
        ({"deadline": "2026-11-23T12:00:07Z"}, NOW + 7),
        ({"deadline": "2026-11-23T13:00:07+01:00", "timeout_s": 9}, NOW + 7),
        ({"deadline": "2026-11-23T12:00:07Z", "timeout_s": 3}, NOW + 3),
        ({"deadline": "2020-01-01T00:00:00Z"}, 1577836800.0),
        ({"timeout_s": 0}, NOW),
        ({"timeout_s": 1e300}, NOW + 35 * 86400),
        ({"deadline": "9999-01-01T00:00:00Z"}, NOW + 35 * 86400),
    ],
)
def test_deadlines(options: dict, deadline: float) -> None:
    assert job(record(options=options)).deadline == deadline


def test_a_record_older_than_identities_are_kept_has_always_expired() -> None:
    old = NOW_MS - 35 * 86_400_000 - 1
    for options in ({}, {"timeout_s": 10**9}, {"deadline": "2999-01-01T00:00:00Z"}):
        assert job(record(timestamp_ms=old, options=options)).deadline < NOW


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"value": b""}, "invalid_record", None),
        ({"value": b"nonsense"}, "invalid_record", None),
        ({"value": b"[]"}, "invalid_record", None),
        ({"value": b'{"body": NaN}'}, "invalid_record", None),
        ({"value": b"[" * 5000}, "invalid_record", None),
        ({"value": b'{"a":' * 5000}, "invalid_record", None),
        ({"value": b"\xff\xfe"}, "invalid_record", None),
        ({"value": {}}, "invalid_record", "body"),
        ({"body": []}, "invalid_record", "body"),
        ({"body": {"messages": [{}]}}, "invalid_record", "body.model"),
        ({"body": BODY | {"model": ""}}, "invalid_record", "body.model"),
        ({"body": BODY | {"model": "a\x00"}}, "invalid_record", "body.model"),
        ({"body": BODY | {"model": 4}}, "invalid_record", "body.model"),
        ({"body": {"model": "fast"}}, "invalid_record", "body.messages"),
        ({"body": {"model": "fast", "messages": []}}, "invalid_record", "body.messages"),
        ({"body": {"model": "fast", "messages": "Hi"}}, "invalid_record", "body.messages"),
        ({"body": {"model": "fast", "messages": ["Hi"]}}, "invalid_record", "body.messages"),
        ({"body": BODY | {"stream": "yes"}}, "invalid_record", "body.stream"),
        ({"body": BODY | {"stream_options": [5]}}, "invalid_record", "body.stream_options"),
        ({"body": BODY | {"max_tokens": "100000"}}, "invalid_record", "body.max_tokens"),
        ({"body": BODY | {"max_tokens": -1}}, "invalid_record", "body.max_tokens"),
        ({"body": BODY | {"max_completion_tokens": 1e6}}, "invalid_record", "body.max_completion_tokens"),
        ({"body": BODY | {"n": "50"}}, "invalid_record", "body.n"),
        ({"body": BODY, "url": "/v1/embeddings"}, "invalid_record", "body.input"),
        ({"body": BODY, "url": "/v1/responses"}, "invalid_record", "body.input"),
        ({"body": {"model": "fast", "input": "x", "max_output_tokens": "9"}, "url": "/v1/responses"}, "invalid_record", "body.max_output_tokens"),
        ({"url": "/v1/images"}, "unsupported_url", "url"),
        ({"url": 1}, "invalid_record", "url"),
        ({"method": "GET"}, "invalid_record", "method"),
        ({"custom_id": 17}, "invalid_record", "custom_id"),
        ({"custom_id": "ä" * 129}, "invalid_record", "custom_id"),
        ({"custom_id": "a\x00b"}, "invalid_record", "custom_id"),
        ({"body": BODY | {"model": "slow"}}, "unknown_model", "body.model"),
        ({"body": BODY | {"model": "*"}}, "unknown_model", "body.model"),
        ({"body": BODY | {"model": "opnai/x"}}, "unknown_model", "body.model"),
        ({"options": []}, "invalid_record", "options"),
        *(
            ({"options": {name: wrong}}, "invalid_record", f"options.{name}")
            for name, wrong in [
                ("idempotency_key", ""), ("idempotency_key", "a\x00"), ("idempotency_key", 1),
                ("idempotency_key", "x" * 257), ("run_id", "€" * 86), ("on_duplicate", "again"),
                ("timeout_s", "5"), ("timeout_s", True), ("timeout_s", -1), ("max_wait_s", []),
                ("deadline", "2026-11-23T12:00:00"), ("deadline", 5), ("tags", {"a": 1}), ("tags", []),
                ("tags", {str(n): "" for n in range(17)}), ("tags", {"x" * 65: "y"}), ("tags", {"": "y"}),
                ("tags", {"x": "y" * 257}), ("tags", {"x": "\x00"}), ("max_cost_usd", 0.5),
                ("max_cost_usd", "-1"), ("max_cost_usd", "1e3"), ("max_attempts", 0), ("max_attempts", 1.0),
                ("max_attempts", True), ("max_attempts", 101), ("on_unknown", "x"), ("on_budget", 1),
                ("cache", "on"), ("results", "none"), ("project", 1), ("affinity", ""), ("user", {}),
            ]
        ),
        ({"options": {"project": "nope"}}, "unknown_project", "options.project"),
        ({"options": {"team": "nope"}}, "unknown_project", "options.team"),
        ({"options": {"app": "web"}}, "unknown_project", "options.app"),
        ({"options": {"project": "search", "app": "x"}}, "unknown_project", "options.app"),
        ({"options": {"project": "search", "team": "ops"}}, "unknown_project", "options.project"),
    ],
)  # fmt: skip
def test_rejections(change: dict, code: str, param: str | None) -> None:
    verdict = rejected(record(headers={"reply_to": "my.replies", "ce_id": "7"}, **change))
    assert (verdict.code, verdict.param) == (code, param), verdict.message
    assert verdict.record_id == RECORD_ID
    assert verdict.requester.reply_to == "my.replies"
    assert verdict.requester.cause == "7"
    assert verdict.dead_letter == (code == "invalid_record")
    assert verdict.message


def test_a_rejection_tells_what_is_known() -> None:
    options = {"run_id": "r", "tags": {"a": "b"}, "project": "support", "results": "reply"}
    verdict = rejected(record(custom_id="c", body=BODY | {"model": "slow"}, options=options))
    assert (verdict.requester.custom_id, verdict.run_id, verdict.model) == ("c", "r", "slow")
    assert (verdict.project, verdict.tags, verdict.url) == (
        "support",
        {"a": "b"},
        "/v1/chat/completions",
    )
    assert verdict.requester.reply_only


def test_a_body_too_deep_to_write_is_refused_and_others_keep_their_numbers() -> None:
    deep = b'{"body":{"model":"fast","messages":[{}],"x":' + b"[" * 400 + b"]" * 400 + b"}}"
    assert rejected(record(deep)).param == "body"
    odd = b'{"body":{"model":"fast","messages":[{}],"seed":9007199254740993,"t":0.1,"x":1,"x":2}}'
    assert orjson.loads(job(record(odd)).body)["seed"] == 9007199254740993
    huge = b'{"body":{"model":"fast","messages":[{}],"seed":' + b"9" * 4000 + b"}}"
    assert isinstance(read(record(huge)), NewJob | Rejection)
    assert isinstance(read(record(b'{"body":{"model":"\\ud800"}}')), Rejection)


def test_embeddings_streams_and_addressed_models() -> None:
    made = job(record(url="/v1/embeddings", body={"model": "fast", "input": ["a"], "stream": True}))
    assert (made.operation, made.stream) == ("embeddings", False)
    assert job(record(body=BODY | {"stream": True})).stream
    assert job(record(body=BODY | {"model": "openai/gpt-9"})).model == "openai/gpt-9"


def test_responses_are_jobs_that_may_stream() -> None:
    url, body = "/v1/responses", {"model": "fast", "input": "hi", "stream": True}
    made = job(record(url=url, body=body))
    assert (made.operation, made.stream) == ("responses", True)
    assert not job(record(url=url, body={"model": "fast", "prompt": {"id": "p"}})).stream


def test_rankings_are_jobs() -> None:
    body = {"model": "fast", "query": "q", "documents": ["a", {"text": "b"}], "stream": True}
    made = job(record(url="/v1/rerank", body=body))
    assert (made.operation, made.stream) == ("rerank", False)
    for wrong, param in (
        ({"query": ""}, "body.query"),
        ({"query": None}, "body.query"),
        ({"documents": []}, "body.documents"),
        ({"documents": "a"}, "body.documents"),
        ({"documents": [{"title": "a"}]}, "body.documents"),
        ({"top_n": 0}, "body.top_n"),
        ({"top_n": True}, "body.top_n"),
    ):
        verdict = rejected(record(url="/v1/rerank", body=body | wrong))
        assert (verdict.code, verdict.param) == ("invalid_record", param)


def test_identity_of_an_event_needs_both_parts() -> None:
    both = {"ce_id": "1", "ce_source": "/s"}
    assert job(record(headers=both)).id == id_by_event("acme", "/s", "1")
    assert job(record(headers=both)).identity == "event"
    for headers in ({"ce_id": "1"}, {"ce_source": "/s"}, {"ce_id": "", "ce_source": "/s"}):
        assert job(record(headers=headers)).identity == "record"
    keyed = job(record(headers=both, options={"idempotency_key": "k"}))
    assert (keyed.id, keyed.record_id) == (id_by_key("acme", "k"), RECORD_ID)


def test_over_the_size_bound() -> None:
    large = orjson.dumps({"body": BODY, "x": "y" * 65536})
    verdict = rejected(record(large))
    assert (verdict.code, verdict.dead_letter) == ("too_large", False)
    assert job(record(orjson.dumps({"body": BODY, "x": "y" * 60000})))


def test_a_registry_prefix_is_skipped() -> None:
    assert job(record(b"\x00\x00\x00\x00\x07" + orjson.dumps({"body": BODY}))).model == "fast"
    assert rejected(record(b"\x00\x00")).code == "invalid_record"


def test_attribution_is_bound_to_the_key_or_topic() -> None:
    assert job(record(topic="acme.jobs")).project == "support"
    other = record(topic="acme.jobs", options={"project": "search"})
    assert rejected(other).code == "unknown_project"
    by_team = key(team="ml")
    assert job(signed(record()), by_team).team == "ml"
    assert job(signed(record(options={"project": "search"})), by_team).project == "search"
    teamless = signed(record(options={"project": "support"}))
    assert rejected(teamless, by_team).code == "unknown_project"
    pinned = key(project="search", app="web")
    made = job(signed(record()), pinned)
    assert (made.team, made.project, made.app, made.key_id) == ("ml", "search", "web", "sgk_a")
    assert (
        rejected(signed(record(options={"project": "support"})), pinned).param == "options.project"
    )


def test_a_keys_own_user_is_its_jobs_default_and_bound() -> None:
    own = key(user="jo")
    assert job(signed(record()), own).user == "jo"
    assert job(signed(record(options={"user": "jo"})), own).user == "jo"
    verdict = rejected(signed(record(options={"user": "eve"})), own)
    assert (verdict.code, verdict.param) == ("forbidden", "options.user")
    assert "jo" not in verdict.message


def test_cancels() -> None:
    job_id = "5FD924B5-5b47-5b24-a0b8-7a3a2ad2e9a6"
    control = "llm.control.v1"
    cancel = read(record({"id": job_id, "reason": "x"}, topic=control))
    assert isinstance(cancel, Cancel)
    assert (cancel.tenant, cancel.job_id, cancel.run_id) == ("acme", UUID(job_id), None)
    cancel = read(record({"idempotency_key": "k"}, topic="acme.control"))
    assert isinstance(cancel, Cancel)
    assert cancel.job_id == id_by_key("acme", "k")
    cancel = read(record({"run_id": "r"}, topic=control))
    assert isinstance(cancel, Cancel)
    assert (cancel.job_id, cancel.run_id) == (None, "r")
    for value in ({}, {"id": "x"}, {"id": 5}, {"run_id": ""}, {"id": job_id, "run_id": "r"}):
        verdict = rejected(record(value, topic=control))
        assert (verdict.code, verdict.job_class) == ("invalid_record", JobClass.STANDARD)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 500) | st.floats(-2, 2) | st.text(max_size=6)
    | st.sampled_from(["POST", "/v1/chat/completions", "fast", "0.5", "resend", "both", "2026-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
OPTIONS = st.dictionaries(
    st.sampled_from(sorted(Options.model_fields)),
    JSON,
    max_size=3,
)  # fmt: skip


@given(st.fixed_dictionaries({"body": st.just(BODY)}, optional={
    "custom_id": JSON, "method": JSON, "options": OPTIONS | JSON}))  # fmt: skip
def test_the_published_schema_and_the_fast_checks_agree(value: dict) -> None:
    text = orjson.dumps(value)
    try:
        Job.model_validate_json(text)
        valid = True
    except ValidationError:
        valid = False
    verdict = read(record(text), policy=OPEN)
    refused = isinstance(verdict, Rejection) and verdict.code == "invalid_record"
    assert refused != valid, verdict


@given(
    st.builds(
        Requester,
        custom_id=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        correlation_id=st.binary(),
        echo=st.lists(st.tuples(st.sampled_from(["kafka_correlationId", "ce_replyto"]), st.binary())).map(tuple),
        cause=st.none() | st.just("c"),
        reply_to=st.none() | st.just("t"),
        reply_partition=st.none() | st.integers(0, 2**31),
        reply_only=st.booleans(),
        traceparent=st.none() | st.just("p"),
        tracestate=st.none() | st.just("s"),
        record_key=st.none() | st.binary(),
        record_id=st.uuids(),
    )
)  # fmt: skip
def test_a_requester_round_trips(requester: Requester) -> None:
    assert Requester.from_bytes(requester.to_bytes()) == requester
