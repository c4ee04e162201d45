"""A gateway's configuration and keys for intake tests, and a builder of records."""

from dataclasses import replace
from typing import Any

import orjson

from sluice_core.config.load import parse_config
from sluice_core.intake.model import NewJob, Record, Rejection, Verdict
from sluice_core.intake.policy import IntakePolicy, read_record
from sluice_core.keys.model import Key
from sluice_schemas.signature import SignedFields, hmac_key, sign
from sluice_schemas.times import format_time

CONFIG = """
providers:
  openai: {kind: openai, base_url: "https://api.example/v1", api_key: "${K}"}
models:
  fast: {targets: [{account: openai, model: gpt-4o-mini}]}
tenants:
  acme: {teams: {ml: {}, ops: {}}, projects: {search: {team: ml, apps: {web: {}}}, support: {}},
         reply_topics: [my.replies]}
  zeta: {}
intake:
  unsigned: reject
  topics:
    - {name: acme.jobs, class: standard, tenant: acme, project: support}
    - {name: acme.control, class: control, tenant: acme}
    - {name: zeta.jobs, class: realtime, tenant: zeta}
limits: {record_bytes: 64KiB}
"""
NOW_MS = 1_795_435_200_000
SECRET = "sgs_of_the_test"
BULK = "llm.jobs.bulk.v1"
OPEN = replace(
    IntakePolicy.from_config(parse_config(CONFIG, {"K": "x"}), cluster_id="cluster"),
    unsigned_tenant="acme",
)
STRICT = replace(OPEN, unsigned_tenant=None)


def key(**given: Any) -> Key:
    plain = Key(
        id="sgk_a",
        tenant="acme",
        team=None,
        project=None,
        app=None,
        grants=frozenset(),
        hmac_key=hmac_key(SECRET),
        reply_topics=(),
        expires_at=None,
        revoked_at=None,
    )
    return replace(plain, **given)


BODY = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}


def record(
    value: Any = None,
    headers: Any = (),
    *,
    topic: str = BULK,
    options: dict[str, Any] | None = None,
    timestamp_ms: int = NOW_MS,
    **job: Any,
) -> Record:
    """A record of a job; `value` replaces it, as bytes or as data."""
    if value is None:
        value = {"body": BODY} | job | ({"options": options} if options is not None else {})
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Record(
        topic=topic,
        partition=3,
        offset=41,
        timestamp_ms=timestamp_ms,
        key=b"\xffown",
        value=value if isinstance(value, bytes) else orjson.dumps(value),
        headers=tuple(
            (name, text.encode() if isinstance(text, str) else text) for name, text in pairs
        ),
    )


def signed(plain: Record, *, secret: str = SECRET, key_id: str = "sgk_a", **lines: str) -> Record:
    """The record with the headers a signature needs; `lines` replace or (empty) remove them."""
    stamped = {
        "ce_id": "1",
        "ce_source": "/test",
        "ce_time": format_time(plain.timestamp_ms / 1000),
    } | lines
    headers = dict(plain.headers) | {
        name.replace("sluice_", "sluice-").replace("on_behalf_of", "on-behalf-of"): text.encode()
        for name, text in stamped.items()
        if text
    }
    fields = SignedFields(
        topic=plain.topic.encode(),
        key_id=key_id.encode(),
        **{
            name: headers.get(header) or b""
            for name, header in {
                **{line: line for line in ("ce_id", "ce_source", "ce_time", "ce_type")},
                **{line: line for line in ("correlation_id", "reply_to", "reply_partition")},
                "on_behalf_of": "sluice-on-behalf-of",
            }.items()
        },
    )
    headers["sluice-key-id"] = key_id.encode()
    headers["sluice-signature"] = sign(hmac_key(secret), fields, plain.value).encode()
    return replace(plain, headers=tuple(headers.items()))


def read(given: Record, *keys: Key, policy: IntakePolicy = OPEN) -> Verdict:
    return read_record(given, policy=policy, keys={known.id: known for known in keys})


def job(given: Record, *keys: Key, policy: IntakePolicy = OPEN) -> NewJob:
    verdict = read(given, *keys, policy=policy)
    assert isinstance(verdict, NewJob), verdict
    return verdict


def rejected(given: Record, *keys: Key, policy: IntakePolicy = OPEN) -> Rejection:
    verdict = read(given, *keys, policy=policy)
    assert isinstance(verdict, Rejection), verdict
    return verdict
