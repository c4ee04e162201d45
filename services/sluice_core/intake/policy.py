"""Reading one record: from bytes to a verdict, without I/O and without ever raising."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson

from sluice_core.intake.attribution import attribute
from sluice_core.intake.authenticate import Caller, authenticate
from sluice_core.intake.headers import Attributes, read_headers
from sluice_core.intake.model import (
    Cancel,
    DeadLetter,
    IdentityKind,
    NewJob,
    Record,
    Rejection,
    Requester,
    Verdict,
)
from sluice_core.intake.options import check_options
from sluice_core.intake.permission import permit
from sluice_core.intake.refusal import Refused, invalid
from sluice_core.intake.request import (
    Request,
    check_model,
    check_request,
    check_text,
    check_url,
    open_envelope,
    read_value,
)
from sluice_core.intake.rules import IntakePolicy, KeyRing, TopicRule
from sluice_core.policies.model import Subject
from sluice_schemas.base import UNALLOCATED
from sluice_schemas.classes import DEFAULT_MAX_WAIT_S, DEFAULT_TIMEOUT_S, JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import body_hash, id_by_event, id_by_key, id_by_record
from sluice_schemas.jobs import DEFAULT_ATTEMPTS

__all__ = ["IntakePolicy", "KeyRing", "read_record"]

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_NO_TAGS: Final[dict[str, str]] = {}


def read_record(record: Record, *, policy: IntakePolicy, keys: KeyRing) -> Verdict:
    """Decide what a record is.

    A `DeadLetter` where its tenant or its reply address cannot be known, else a `Rejection` where it
    cannot be a job, a `Cancel` of a control record, and a `NewJob` otherwise. Keys count by the
    record's timestamp; they are checked again before each call.
    """
    rule = policy.topics.get(record.topic)
    if rule is None:
        return _dead(record, invalid("no class is configured for the record's topic"))
    attributes = read_headers(record.headers)
    value: dict[str, Any] | None = None
    try:
        caller = authenticate(record, attributes, rule=rule, policy=policy, keys=keys)
        if attributes.structured and not attributes.signed:
            _check_size(record, policy)
            attributes, value = open_envelope(read_value(record.value), record.headers)
    except Refused as refusal:
        return _dead(record, refusal)
    if attributes.address_unknown and attributes.problem is not None:
        return _dead(record, attributes.problem)
    reading = _Reading(
        record=record,
        rule=rule,
        caller=caller,
        attributes=attributes,
        record_id=_record_id(record, caller.tenant, policy),
    )
    try:
        _check_reply(reading)
        _check_size(record, policy)
        value = read_value(record.value) if value is None else value
        if rule.job_class is None:
            return _cancel(reading, value)
        return _job(reading, value, policy)
    except Refused as refusal:
        return _rejection(reading, refusal)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """What is known of a record so far; a rejection tells as much of it as there is."""

    record: Record
    rule: TopicRule
    caller: Caller
    attributes: Attributes
    record_id: UUID
    reply_allowed: bool = True
    reply_only: bool = False
    custom_id: str | None = None
    url: str | None = None
    model: str | None = None
    run_id: str | None = None
    team: str = UNALLOCATED
    project: str = UNALLOCATED
    app: str = UNALLOCATED
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def requester(self, job_id: UUID) -> Requester:
        """Who is answered; a reply topic that is not allowed is not among it."""
        attributes = self.attributes
        correlation_id = attributes.correlation_id
        if correlation_id is None:
            correlation_id = (attributes.ce_id or str(job_id)).encode()
        reply_to = attributes.reply_to if self.reply_allowed else None
        return Requester(
            custom_id=self.custom_id,
            correlation_id=correlation_id,
            echo=attributes.echo,
            cause=attributes.ce_id,
            reply_to=reply_to,
            reply_partition=attributes.reply_partition if reply_to is not None else None,
            reply_only=self.reply_only,
            traceparent=attributes.traceparent,
            tracestate=attributes.tracestate,
            record_key=self.record.key,
            record_id=self.record_id,
        )


def _record_id(record: Record, tenant: str, policy: IntakePolicy) -> UUID:
    return id_by_record(
        tenant,
        cluster_id=policy.cluster_id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
    )


def _dead(record: Record, refusal: Refused) -> DeadLetter:
    return DeadLetter(
        record=record, code=refusal.code, message=refusal.message, named_key=refusal.key
    )


def _rejection(reading: _Reading, refusal: Refused) -> Rejection:
    return Rejection(
        record=reading.record,
        record_id=reading.record_id,
        tenant=reading.caller.tenant,
        job_class=_class_of(reading.rule),
        code=refusal.code,
        message=refusal.message,
        param=refusal.param,
        requester=reading.requester(reading.record_id),
        model=reading.model,
        run_id=reading.run_id,
        team=reading.team,
        project=reading.project,
        app=reading.app,
        user=reading.user,
        key_id=reading.caller.key_id,
        tags=reading.tags,
        url=reading.url,
        rule=refusal.rule,
        named_key=refusal.key,
    )


def _class_of(rule: TopicRule) -> JobClass:
    # A bad control record has no class of its own; its result needs one.
    return JobClass.STANDARD if rule.job_class is None else rule.job_class


def _check_reply(reading: _Reading) -> None:
    """Judge caller, reply address and headers, in the order that lets nothing reach a wrong topic."""
    reply_to = reading.attributes.reply_to
    reading.reply_allowed = reply_to is None or reply_to in reading.caller.reply_topics
    if reading.caller.refusal is not None:
        raise reading.caller.refusal
    if not reading.reply_allowed:
        raise Refused(
            ErrorCode.REPLY_NOT_ALLOWED,
            "the reply topic is not on the tenant's list",
            "headers.reply_to",
        )
    if reading.attributes.problem is not None:
        raise reading.attributes.problem


def _check_size(record: Record, policy: IntakePolicy) -> None:
    if record.value is not None and len(record.value) > policy.record_bytes:
        raise Refused(
            ErrorCode.TOO_LARGE, f"the value is over limits.record_bytes ({policy.record_bytes})"
        )


def _cancel(reading: _Reading, value: dict[str, Any]) -> Cancel:
    job_id = check_text(value.get("id"), "id")
    key = check_text(value.get("idempotency_key"), "idempotency_key")
    run_id = check_text(value.get("run_id"), "run_id")
    if sum(named is not None for named in (job_id, key, run_id)) != 1:
        raise invalid("a cancel names exactly one of id, idempotency_key and run_id")
    if job_id is not None and _UUID.match(job_id) is None:
        raise invalid("id must be a job's id", "id")
    tenant = reading.caller.tenant
    target = UUID(job_id) if job_id is not None else None
    if key is not None:
        target = id_by_key(tenant, key)
    return Cancel(
        tenant=tenant,
        job_id=target,
        run_id=run_id,
        record=reading.record,
        key_id=reading.caller.key_id,
    )


def _job(reading: _Reading, value: dict[str, Any], policy: IntakePolicy) -> NewJob:
    reading.custom_id = check_text(value.get("custom_id"), "custom_id")
    options, warnings = check_options(value.get("options"))
    if options.get("cache") == "semantic" and not policy.by_meaning:
        warnings += ("options.cache: there is no semantic cache here; only the same words count",)
    reading.reply_only = options.get("results") == "reply"
    reading.run_id = options.get("run_id")
    reading.tags = options.get("tags", _NO_TAGS)
    reading.url = check_url(value)
    reading.model = check_model(value)
    request = check_request(value["body"], url=reading.url, model=reading.model)
    _attribute(reading, options, policy)
    # Before it is told which models there are: a model that is denied is denied whether it exists or not.
    if policy.permissions.governs(reading.caller.tenant):
        _permit(reading, request, policy)
    if not policy.serves(request.model):
        raise Refused(
            ErrorCode.UNKNOWN_MODEL, f"no model {request.model} is configured", "body.model"
        )
    return _assemble(reading, request, options, warnings, policy)


def _attribute(reading: _Reading, options: Mapping[str, Any], policy: IntakePolicy) -> None:
    belongs = attribute(reading.caller, options, policy.tenants[reading.caller.tenant])
    reading.team, reading.project = belongs.team, belongs.project
    reading.app, reading.user = belongs.app, belongs.user


def _permit(reading: _Reading, request: Request, policy: IntakePolicy) -> None:
    subject = Subject(
        tenant=reading.caller.tenant,
        team=reading.team,
        project=reading.project,
        app=reading.app,
        user=reading.user,
        key_id=reading.caller.key_id,
    )
    job_class = _class_of(reading.rule)
    permit(subject, request, job_class, reading.record.topic, policy.permissions)


def _identity(reading: _Reading, options: Mapping[str, Any]) -> tuple[UUID, IdentityKind]:
    tenant, attributes = reading.caller.tenant, reading.attributes
    key = options.get("idempotency_key")
    if key is not None:
        return id_by_key(tenant, key), "key"
    if attributes.ce_source and attributes.ce_id:
        return id_by_event(tenant, attributes.ce_source, attributes.ce_id), "event"
    return reading.record_id, "record"


def _deadline(
    record: Record, job_class: JobClass, options: Mapping[str, Any], policy: IntakePolicy
) -> float:
    """Epoch seconds; never beyond the time identities are kept, so that no replay pays again."""
    began = record.timestamp_ms / 1000
    timeout, deadline = options.get("timeout_s"), options.get("deadline")
    if timeout is None and deadline is None:
        timeout = DEFAULT_TIMEOUT_S[job_class]
    latest: float = began + policy.idempotency_s
    if timeout is not None:
        latest = min(latest, began + timeout)
    return latest if deadline is None else min(latest, deadline)


def _encoded(request: Request) -> tuple[bytes, bytes]:
    try:
        return orjson.dumps(request.body), body_hash(request.url, request.body)
    except TypeError:
        raise invalid("body is nested too deeply", "body") from None


def _assemble(
    reading: _Reading,
    request: Request,
    options: Mapping[str, Any],
    warnings: tuple[str, ...],
    policy: IntakePolicy,
) -> NewJob:
    job_class = _class_of(reading.rule)
    body, digest = _encoded(request)
    job_id, identity = _identity(reading, options)
    caller, option = reading.caller, options.get
    return NewJob(
        id=job_id,
        record_id=reading.record_id,
        identity=identity,
        record=reading.record,
        job_class=job_class,
        tenant=caller.tenant,
        team=reading.team,
        project=reading.project,
        app=reading.app,
        user=reading.user,
        key_id=caller.key_id,
        tags=reading.tags,
        model=request.model,
        operation=request.operation,
        url=request.url,
        stream=request.stream,
        body=body,
        body_hash=digest,
        deadline=_deadline(reading.record, job_class, options, policy),
        max_wait_s=option("max_wait_s", DEFAULT_MAX_WAIT_S[job_class]),
        max_attempts=option("max_attempts", DEFAULT_ATTEMPTS),
        max_cost_nano=option("max_cost_usd"),
        retry_unknown=option("on_unknown") == "retry",
        rerun=option("on_duplicate") == "rerun",
        wait_for_budget=option("on_budget") == "wait",
        cache=option("cache"),
        affinity=option("affinity", reading.run_id),
        run_id=reading.run_id,
        requester=reading.requester(job_id),
        warnings=warnings,
    )
