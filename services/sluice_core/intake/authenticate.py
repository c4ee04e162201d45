"""Who is asking: by signature, by topic, vouched for, or by the rule for unsigned records."""

from dataclasses import dataclass, replace
from typing import Final

from sluice_core.intake.headers import Attributes
from sluice_core.intake.model import Record
from sluice_core.intake.refusal import Refused, invalid
from sluice_core.intake.rules import IntakePolicy, KeyRing, TopicRule
from sluice_core.keys.model import VOUCH, Key
from sluice_core.keys.policy import usable
from sluice_core.policies.policy import WRONG_TOPIC
from sluice_schemas import headers as names
from sluice_schemas.errors import ErrorCode
from sluice_schemas.signature import SignedFields, parse_caller, verify
from sluice_schemas.times import parse_time

SIGNED_WITHIN_S: Final = 300.0
"""How far `ce_time` of a signed record may lie from the broker's timestamp, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a record speaks for.

    `team`, `project`, `app` and `user` are both defaults and bounds. `refusal` is why the caller, though known, may not go on.
    """

    tenant: str
    reply_topics: frozenset[str]
    team: str | None = None
    project: str | None = None
    app: str | None = None
    user: str | None = None
    key_id: str | None = None
    refusal: Refused | None = None


def authenticate(
    record: Record,
    attributes: Attributes,
    *,
    rule: TopicRule,
    policy: IntakePolicy,
    keys: KeyRing,
) -> Caller:
    """Find the caller of a record; raises Refused where its tenant cannot be known."""
    if attributes.signed:
        try:
            return _signed(record, attributes, rule=rule, policy=policy, keys=keys)
        except Refused as unsigned:
            if rule.tenant is None:
                raise
            # The broker's ACLs still say whose record it is.
            return _by_topic(rule, rule.tenant, policy, unsigned)
    vouched = names.ON_BEHALF_OF in attributes.raw
    refusal = (
        Refused(
            ErrorCode.FORBIDDEN,
            "sluice-on-behalf-of counts only on a record signed by a vouching key",
            "headers.sluice-on-behalf-of",
        )
        if vouched
        else None
    )
    if rule.tenant is not None:
        return _by_topic(rule, rule.tenant, policy, refusal)
    tenant = policy.unsigned_tenant
    if tenant is None or tenant not in policy.tenants:
        raise Refused(
            ErrorCode.UNAUTHORIZED, "the record is not signed and its topic belongs to no tenant"
        )
    return Caller(tenant=tenant, reply_topics=policy.tenants[tenant].reply_topics, refusal=refusal)


def _by_topic(
    rule: TopicRule, tenant: str, policy: IntakePolicy, refusal: Refused | None
) -> Caller:
    if tenant not in policy.tenants:
        raise Refused(ErrorCode.FORBIDDEN, f"the topic's tenant {tenant} is not configured")
    return Caller(
        tenant=tenant,
        reply_topics=policy.tenants[tenant].reply_topics,
        team=rule.team,
        project=rule.project,
        app=rule.app,
        refusal=refusal,
    )


def _signed(
    record: Record,
    attributes: Attributes,
    *,
    rule: TopicRule,
    policy: IntakePolicy,
    keys: KeyRing,
) -> Caller:
    key = _verified(record, attributes, keys)
    if key.tenant not in policy.tenants:
        raise Refused(ErrorCode.FORBIDDEN, f"the key's tenant {key.tenant} is not configured")
    refusal = _staleness(record, attributes)
    if refusal is None and not usable(key, record.timestamp_ms / 1000):
        refusal = Refused(ErrorCode.UNAUTHORIZED, f"key {key.id} has expired or was revoked")
    own = Caller(
        tenant=key.tenant,
        reply_topics=_reply_topics(key, policy),
        team=key.team or rule.team,
        project=key.project or rule.project,
        app=key.app or rule.app,
        user=key.user,
        key_id=key.id,
        refusal=refusal,
    )
    header = attributes.text(names.ON_BEHALF_OF)
    caller = own if header is None or refusal is not None else _vouched(own, key, header, policy)
    if caller.refusal is None and rule.tenant is not None and rule.tenant != caller.tenant:
        return _refuse(caller, Refused(ErrorCode.FORBIDDEN, WRONG_TOPIC))
    return caller


def _verified(record: Record, attributes: Attributes, keys: KeyRing) -> Key:
    if attributes.signature_unreadable and attributes.problem is not None:
        raise attributes.problem
    raw = attributes.raw
    key_id, header = raw.get(names.KEY_ID), raw.get(names.SIGNATURE)
    if key_id is None or header is None:
        raise Refused(ErrorCode.INVALID_SIGNATURE, "sluice-key-id and sluice-signature go together")
    key = keys.get(key_id.decode())
    if key is None:
        raise Refused(ErrorCode.UNAUTHORIZED, "the signing key is not known")
    fields = SignedFields(
        topic=record.topic.encode(),
        key_id=key_id,
        ce_id=raw.get(names.CE_ID, b""),
        ce_source=raw.get(names.CE_SOURCE, b""),
        ce_time=raw.get(names.CE_TIME, b""),
        ce_type=raw.get(names.CE_TYPE, b""),
        correlation_id=raw.get(names.CORRELATION_ID, b""),
        reply_to=raw.get(names.REPLY_TO, b""),
        reply_partition=raw.get(names.REPLY_PARTITION, b""),
        on_behalf_of=raw.get(names.ON_BEHALF_OF, b""),
    )
    if not verify(key.hmac_key, header, fields, record.value):
        raise Refused(ErrorCode.INVALID_SIGNATURE, "no entry of sluice-signature verifies", key=key)
    return key


def _staleness(record: Record, attributes: Attributes) -> Refused | None:
    """What else a signed record must be: plain, complete and recent."""
    if attributes.structured or attributes.echo:
        message = "a signed record uses binary mode and the plain header names"
        return Refused(ErrorCode.INVALID_SIGNATURE, message)
    ce_time = attributes.text(names.CE_TIME)
    if attributes.ce_id is None or attributes.ce_source is None or ce_time is None:
        message = "a signed record needs ce_id, ce_source and ce_time"
        return Refused(ErrorCode.INVALID_SIGNATURE, message)
    try:
        distance = abs(parse_time(ce_time) - record.timestamp_ms / 1000)
    except ValueError as exc:
        return Refused(ErrorCode.INVALID_SIGNATURE, f"ce_time {exc}", "headers.ce_time")
    if distance > SIGNED_WITHIN_S:
        message = "ce_time lies more than 5 minutes from the broker's timestamp"
        return Refused(ErrorCode.INVALID_SIGNATURE, message, "headers.ce_time")
    return None


def _vouched(own: Caller, key: Key, header: str, policy: IntakePolicy) -> Caller:
    """The caller that a vouching key names; replies still go by the key's own list."""
    if VOUCH not in key.grants:
        message = f"key {key.id} has no grant to vouch for others"
        return _refuse(own, Refused(ErrorCode.FORBIDDEN, message, "headers.sluice-on-behalf-of"))
    try:
        named = parse_caller(header)
    except ValueError as exc:
        return _refuse(own, invalid(str(exc), "headers.sluice-on-behalf-of"))
    tenant = named.tenant or key.tenant
    if tenant not in policy.tenants:
        message = "sluice-on-behalf-of names a caller that this key cannot speak for"
        return _refuse(own, Refused(ErrorCode.FORBIDDEN, message, "headers.sluice-on-behalf-of"))
    return Caller(
        tenant=tenant,
        reply_topics=own.reply_topics,
        team=named.team or None,
        project=named.project or None,
        app=named.app or None,
        user=named.user or None,
        key_id=key.id,
    )


def _reply_topics(key: Key, policy: IntakePolicy) -> frozenset[str]:
    if VOUCH in key.grants and key.reply_topics:
        return frozenset(key.reply_topics)
    return policy.tenants[key.tenant].reply_topics


def _refuse(caller: Caller, refusal: Refused) -> Caller:
    return replace(caller, refusal=refusal)
