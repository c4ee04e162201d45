"""Identities and signatures: against the standard library, and against what they must refuse."""

import hashlib
import hmac
import inspect
import json
import uuid
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_schemas.identity import (
    body_hash,
    canonical_json,
    delta_event_id,
    duplicate_event_id,
    id_by_event,
    id_by_key,
    id_by_record,
    rejection_event_id,
)
from sluice_schemas.signature import (
    CallerName,
    SignedFields,
    format_caller,
    hmac_key,
    parse_caller,
    sign,
    verify,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def namespace(tenant: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, "urn:sluicegate:tenant:" + tenant)


@given(TEXT, TEXT)
def test_ids_are_version_5_of_the_written_names(one: str, other: str) -> None:
    assert id_by_key("acme", one) == uuid.uuid5(namespace("acme"), "key:" + one)
    assert id_by_event("acme", one, other) == uuid.uuid5(
        namespace("acme"), "event:" + one + "\n" + other
    )
    assert id_by_record(
        "acme", cluster_id=one, topic="t", partition=1, offset=2, timestamp_ms=3
    ) == uuid.uuid5(namespace("acme"), f"record:{one}/t/1/2/3")


def test_a_tenant_is_part_of_every_id() -> None:
    assert id_by_key("acme", "k") != id_by_key("zeta", "k")


def test_derived_event_ids_differ_by_every_part() -> None:
    job, other = uuid.uuid4(), uuid.uuid4()
    ids = [
        rejection_event_id(job),
        duplicate_event_id(job, other),
        duplicate_event_id(other, job),
        *(delta_event_id(job, attempt, seq) for attempt in (1, 2) for seq in (0, 1)),
    ]
    assert len(set(ids)) == len(ids)
    assert rejection_event_id(job) == rejection_event_id(job)


def test_one_and_one_point_nought_differ() -> None:
    assert body_hash("/v1/x", {"n": 1}) != body_hash("/v1/x", {"n": 1.0})
    assert body_hash("/v1/x", {"a": 1, "b": 2}) == body_hash("/v1/x", {"b": 2, "a": 1})
    assert body_hash("/v1/x", {}) != body_hash("/v1/y", {})
    assert body_hash("/v1/x", {}) == hashlib.sha256(b"/v1/x\n{}").digest()


@given(st.recursive(st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXT,
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
                    max_leaves=20))  # fmt: skip
def test_canonical_json_is_what_the_standard_library_writes(value: object) -> None:
    written = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert canonical_json(value) == written.encode()


FIELDS = SignedFields(topic=b"t", key_id=b"k", ce_id=b"1", on_behalf_of=b"acme////")
KEY = hmac_key("sgs_secret")


def test_the_text_is_ten_lines_and_the_value() -> None:
    text = b"t\nk\n1\n\n\n\n\n\n\nacme////\nVALUE\n"
    expected = hmac.new(hashlib.sha256(b"sgs_secret").digest(), text, "sha256").digest()
    given = sign(KEY, FIELDS, b"VALUE\n")
    assert given.startswith("v1,")
    assert __import__("base64").b64decode(given[3:]) == expected


def test_verify_takes_one_good_entry_of_a_list() -> None:
    good = sign(KEY, FIELDS, b"x").encode()
    old = sign(hmac_key("old"), FIELDS, b"x").encode()
    assert verify(KEY, good, FIELDS, b"x")
    assert verify(KEY, b" ".join((old, b"v2,AAAA", b"v1,%%%", b"", good)), FIELDS, b"x")
    for header in (b"", b"v1", b"v1,", old, good[3:], b"v2," + good[3:], good[:-4], b"v1,\xff\xfe"):
        assert not verify(KEY, header, FIELDS, b"x")


@pytest.mark.parametrize("name", [field.name for field in fields(SignedFields)])
def test_every_line_is_under_the_signature(name: str) -> None:
    good = sign(KEY, FIELDS, b"x").encode()
    changed = replace(FIELDS, **{name: b"other"})
    assert not verify(KEY, good, changed, b"x")
    assert not verify(KEY, good, FIELDS, b"y")
    assert verify(KEY, sign(KEY, FIELDS, None).encode(), FIELDS, b"")


PART = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(PART, PART, PART, PART, PART)
def test_a_caller_round_trips(tenant: str, team: str, project: str, app: str, user: str) -> None:
    caller = CallerName(tenant=tenant, team=team, project=project, app=app, user=user)
    header = format_caller(caller)
    assert header.isascii()
    assert header.count("/") == 4
    assert parse_caller(header) == caller


@pytest.mark.parametrize(
    "header",
    ["", "acme", "a/b/c/d", "a/b/c/d/e/f", "a%/b/c/d/e", "a%zz////", "%ff////", "a%0A////"],
)
def test_other_headers_name_no_caller(header: str) -> None:
    with pytest.raises(ValueError, match="."):
        parse_caller(header)


def test_signatures_are_compared_in_constant_time() -> None:
    source = inspect.getsource(verify)
    assert "hmac.compare_digest" in source
    assert "==" not in source
