"""Worked examples of identities and signatures, for programs in any language."""

import base64
from dataclasses import fields
from typing import Any, Final

import orjson

from sluice_schemas.identity import (
    DEFAULT_URL,
    body_hash,
    canonical_json,
    id_by_event,
    id_by_key,
    id_by_record,
    tenant_namespace,
)
from sluice_schemas.signature import (
    CallerName,
    SignedFields,
    format_caller,
    hmac_key,
    sign,
    signing_text,
)

_KEYS: Final = (
    ("acme", "order-17"),
    ("acme", "bestellung-ä-✓"),
    ("acme", "bestellung-a\u0308-✓"),
    ("acme", "key:with:colons"),
    ("acme", "line\nbreak"),
    ("zeta-9", "order-17"),
    ("acme", "😀" * 8),
)
_EVENTS: Final = (
    ("acme", "/pipelines/nightly", "17"),
    ("acme", "urn:beispiel:größe", "id-日本語"),
    ("acme", "/a", "b\nc"),
    ("0", "/", "0"),
)
_RECORDS: Final = (
    ("acme", "MkU3OEVBNTcwNTJENDM2Qg", "llm.jobs.bulk.v1", 0, 0, 1_700_000_000_000),
    ("acme", "MkU3OEVBNTcwNTJENDM2Qg", "my.own-topic_1", 11, 9_007_199_254_740_993, 1),
    ("zeta-9", "", "llm.jobs.realtime.v1", 2, 5, 1_763_913_600_123),
)
_BODIES: Final = (
    (DEFAULT_URL, '{"model":"fast","messages":[{"role":"user","content":"Hi"}]}'),
    (DEFAULT_URL, '{ "messages": [ {"content":"Hi", "role":"user"} ], "model": "fast" }'),
    (DEFAULT_URL, '{"model":"fast","temperature":1,"messages":[]}'),
    (DEFAULT_URL, '{"model":"fast","temperature":1.0,"messages":[]}'),
    (DEFAULT_URL, '{"model":"fast","top_p":0.10,"seed":-0,"messages":[]}'),
    (
        DEFAULT_URL,
        '{"z":"\\u00e4\\u2028\\ud83d\\ude00\\u0001\\"\\\\/","model":"ä","\\ue000":1,"😀":2}',
    ),
    (DEFAULT_URL, '{"model":"fast","seed":9223372036854775807,"n":null,"stream":false}'),
    ("/v1/embeddings", '{"model":"fast","input":""}'),
    ("/v1/embeddings", "{}"),
)

_SECRET: Final = "sgs_example-secret-not-in-use"  # noqa: S105 - an example, in use nowhere
_TIME: Final = b"2026-11-23T12:00:00Z"


def _fields(**given: bytes) -> SignedFields:
    base: dict[str, bytes] = {
        "topic": b"llm.jobs.standard.v1",
        "key_id": b"sgk_0123456789abcdef01234567",
        "ce_id": b"17",
        "ce_source": b"/pipelines/nightly",
        "ce_time": _TIME,
    }
    return SignedFields(**(base | given))


_CALLERS: Final = (
    CallerName(tenant="acme", team="ml", project="search", app="web", user="joão"),
    CallerName(tenant="acme"),
    CallerName(tenant="acme", team="a/b", project="100%", app="x y", user="jo@example.com"),
    CallerName(tenant="acme", user="日本語"),
)

_VALUE: Final = b'{"body":{"model":"fast","messages":[{"role":"user","content":"Hi"}]}}'
_SIGNED: Final[tuple[tuple[SignedFields, bytes | None], ...]] = (
    (_fields(), _VALUE),
    (_fields(), b""),
    (_fields(), None),
    (_fields(ce_type=b"com.example.asked.v1"), _VALUE),
    (_fields(correlation_id=b"\x00\x01\xfe\xff", reply_to=b"llm.replies.acme.v1"), _VALUE),
    (_fields(reply_to=b"llm.replies.acme.v1", reply_partition=b"3"), _VALUE),
    (_fields(ce_source="urn:beispiel:größe".encode(), ce_id="日本語".encode()), _VALUE),
    (_fields(topic=b"my.own-topic_1"), b"\x00\x00\x00\x00\x01" + _VALUE),
    (SignedFields(topic=b"llm.control.v1", key_id=b"sgk_0123456789abcdef01234567"), b'{"id":"x"}'),
    (_fields(), "ä\n✓\r\n".encode()),
    *((_fields(on_behalf_of=format_caller(caller).encode()), _VALUE) for caller in _CALLERS),
)


def identity_vectors() -> dict[str, Any]:
    """Job ids by key, event and record, and the hashes that compare requests."""
    keys = [
        {"tenant": tenant, "idempotency_key": key, "id": str(id_by_key(tenant, key))}
        for tenant, key in _KEYS
    ]
    events = [
        {
            "tenant": tenant,
            "ce_source": source,
            "ce_id": ce_id,
            "id": str(id_by_event(tenant, source, ce_id)),
        }
        for tenant, source, ce_id in _EVENTS
    ]
    return {
        "namespaces": [
            {"tenant": tenant, "namespace": str(tenant_namespace(tenant))}
            for tenant in ("acme", "zeta-9", "0")
        ],
        "keys": keys,
        "events": events,
        "records": [_record(*record) for record in _RECORDS],
        "bodies": [_body(url, text) for url, text in _BODIES],
    }


def _record(tenant: str, cluster_id: str, topic: str, *numbers: int) -> dict[str, Any]:
    partition, offset, timestamp_ms = numbers
    identity = id_by_record(
        tenant,
        cluster_id=cluster_id,
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
    )
    # As texts: not every language's numbers hold 64 bits.
    return {
        "tenant": tenant,
        "cluster_id": cluster_id,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": str(timestamp_ms),
        "id": str(identity),
    }


def _body(url: str, text: str) -> dict[str, Any]:
    body = orjson.loads(text)
    return {
        "url": url,
        "body": text,
        "canonical": canonical_json(body).decode(),
        "sha256": body_hash(url, body).hex(),
    }


def signature_vectors() -> dict[str, Any]:
    """Signatures over ten lines and a value, and the header that names a caller."""
    key = hmac_key(_SECRET)
    return {
        "secret": _SECRET,
        "hmac_key_hex": key.hex(),
        "signatures": [
            {
                "lines": {field.name: _text(getattr(lines, field.name)) for field in fields(lines)},
                "value_base64": None if value is None else base64.b64encode(value).decode(),
                "text_base64": base64.b64encode(signing_text(lines, value)).decode(),
                "signature": sign(key, lines, value),
            }
            for lines, value in _SIGNED
        ],
        "callers": [
            {
                "segments": [getattr(caller, field.name) for field in fields(caller)],
                "header": format_caller(caller),
            }
            for caller in _CALLERS
        ],
    }


def _text(value: bytes) -> str | dict[str, str]:
    """UTF-8 as text, other bytes as `{"base64": …}`."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
