"""Pure: what each event looks like on Kafka. A fact has one `ce_id` however often it is published."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from sluice_core.intake.model import DeadLetter, Requester
from sluice_core.publishing.model import Headers, Message, Origin, StoredResult
from sluice_schemas.identity import DeltaEventIds, audit_event_id, duplicate_event_id
from sluice_schemas.times import format_time

_JSON = ("content-type", b"application/json")
_VERSION = ("ce_specversion", b"1.0")
_RESULT = ("ce_type", b"com.sluicegate.job.completed.v1")
_DELTA = ("ce_type", b"com.sluicegate.job.delta.v1")
_USAGE = ("ce_type", b"com.sluicegate.usage.recorded.v1")
_AFTER_CUSTOM_ID = b',"response":'
_BEFORE_BODY = b',"body":'
_AFTER_BODY = b'},"error":null,"job":{'


def result_messages(
    origin: Origin, result: StoredResult, requester: Requester, *, duplicate: bool = False
) -> list[Message]:
    """The messages that answer one requester: results topic, reply, or both, as one event.

    A duplicate's requester gets the stored result under its own `custom_id`, correlation and `ce_id`, at its
    reply address or else on the results topic.
    """
    value = result.value
    ce_id = result.ce_id
    if duplicate:
        value = _with_custom_id(value, requester.custom_id)
        ce_id = duplicate_event_id(ce_id, requester.record_id)
    job = str(result.job_id).encode()
    headers = _result_headers(origin, result, requester, job, ce_id)
    if duplicate:
        headers.append(("sluice-duplicate", b"true"))
    if len(value) > origin.record_bytes:
        value = _without_body(value)
        headers.append(("ce_dataref", f"/v1/jobs/{result.job_id}/result".encode()))
    messages = []
    to_results = not requester.reply_to or not (duplicate or requester.reply_only)
    if to_results:
        messages.append(
            Message(
                topic=origin.topics.results(result.tenant),
                key=job,
                value=value,
                headers=headers,
            )
        )
    if requester.reply_to:
        messages.append(
            Message(
                topic=requester.reply_to,
                partition=requester.reply_partition,
                key=requester.correlation_id,
                value=value,
                headers=headers,
                urgent=True,
            )
        )
    return messages


class DeltaForm:
    """The deltas of one attempt as messages; what they have in common is made once."""

    def __init__(self, origin: Origin, requester: Requester, *, job_id: UUID, attempt: int) -> None:
        assert requester.reply_to is not None
        job = str(job_id).encode()
        self._topic = requester.reply_to
        self._requester = requester
        self._ids = DeltaEventIds(job_id, attempt)
        self._before_seq = b'{"id":"%b","attempt":%d,"seq":' % (job, attempt)
        self._before: Headers = [
            _VERSION,
            _DELTA,
            ("ce_source", origin.source),
            ("ce_subject", job),
        ]
        self._after: Headers = [
            _JSON,
            ("correlation_id", requester.correlation_id),
            *requester.echo,
        ]

    def message(self, *, seq: int, at: float, chunks: Sequence[bytes]) -> Message:
        """One piece of a stream, sent `at` (epoch seconds); `chunks` are OpenAI chunks as JSON bytes."""
        return Message(
            topic=self._topic,
            partition=self._requester.reply_partition,
            key=self._requester.correlation_id,
            value=b'%b%d,"chunks":[%b]}' % (self._before_seq, seq, b",".join(chunks)),
            headers=[
                *self._before,
                ("ce_id", self._ids.text(seq)),
                ("ce_time", format_time(at).encode()),
                *self._after,
            ],
            urgent=True,
        )


def usage_message(
    origin: Origin, *, usage_id: UUID, job_id: UUID, recorded_at: float, value: bytes
) -> Message:
    """The event of one usage row; `value` is the row as JSON, `recorded_at` epoch seconds."""
    job = str(job_id).encode()
    return Message(
        topic=origin.topics.usage,
        key=job,
        value=value,
        headers=[
            _VERSION,
            _USAGE,
            ("ce_source", origin.source),
            ("ce_subject", job),
            ("ce_id", str(usage_id).encode()),
            ("ce_time", format_time(recorded_at).encode()),
            _JSON,
        ],
    )


def event_message(
    origin: Origin,
    *,
    topic: str,
    kind: str,
    key: str,
    ce_id: UUID,
    at: float,
    value: object,
) -> Message:
    """Any other event of ours (`kind` as in `alert.raised`), `value` written as JSON."""
    return Message(
        topic=topic,
        key=key.encode(),
        value=orjson.dumps(value),
        headers=[
            _VERSION,
            ("ce_type", f"com.sluicegate.{kind}.v1".encode()),
            ("ce_source", origin.source),
            ("ce_subject", key.encode()),
            ("ce_id", str(ce_id).encode()),
            ("ce_time", format_time(at).encode()),
            _JSON,
        ],
    )


def audit_message(
    origin: Origin,
    *,
    entry: int,
    at: float,
    actor: str,
    action: str,
    subject: str,
    before: object,
    after: object,
) -> Message:
    """The event of one audit entry, told by its number; `at` in epoch seconds."""
    return event_message(
        origin,
        topic=origin.topics.audit,
        kind="audit.recorded",
        key=subject,
        ce_id=audit_event_id(origin.cell, entry),
        at=at,
        value={
            "actor": actor,
            "action": action,
            "scope": subject,
            "at": format_time(at),
            "details": {"before": before, "after": after},
        },
    )


def dead_letter_message(origin: Origin, letter: DeadLetter) -> Message:
    """The record's own bytes and headers, then why it could not be a job."""
    record = letter.record
    headers: list[tuple[str, bytes | None]] = [
        *record.headers,
        ("sluice-error-code", letter.code.encode()),
        ("sluice-error-message", _shortened(letter.message)),
        ("sluice-source-topic", record.topic.encode()),
        ("sluice-source-partition", str(record.partition).encode()),
        ("sluice-source-offset", str(record.offset).encode()),
    ]
    value = record.value
    if record.key is None and value is None:
        value = b""
        headers.append(("sluice-source-null", b"true"))
    return Message(
        topic=origin.topics.dead_letters,
        key=record.key,
        value=value,
        headers=headers,  # type: ignore[arg-type]  # a record's own header may be null, and stays so
    )


def _result_headers(
    origin: Origin, result: StoredResult, requester: Requester, job: bytes, ce_id: UUID
) -> Headers:
    headers: Headers = [
        _VERSION,
        _RESULT,
        ("ce_source", origin.source),
        ("ce_subject", job),
        ("ce_id", str(ce_id).encode()),
        ("ce_time", format_time(result.finished_at).encode()),
        _JSON,
        ("correlation_id", requester.correlation_id),
        *requester.echo,
    ]
    if requester.cause:
        headers.append(("ce_causationid", requester.cause.encode()))
    if requester.traceparent:
        headers.append(("traceparent", requester.traceparent.encode()))
    if requester.tracestate:
        headers.append(("tracestate", requester.tracestate.encode()))
    if requester.record_key is not None:
        headers.append(("sluice-record-key", requester.record_key))
    return headers


def _with_custom_id(value: bytes, custom_id: str | None) -> bytes:
    # A quote inside a JSON string is escaped, so the first `,"response":` is the field itself.
    head, separator, rest = value.partition(_AFTER_CUSTOM_ID)
    start = head.index(b',"custom_id":') + len(b',"custom_id":')
    return head[:start] + orjson.dumps(custom_id) + separator + rest


def _without_body(value: bytes) -> bytes:
    # As above: outside strings each mark stands once, but for a body, and that lies between the two. So
    # nothing this large is parsed, however deep it is.
    head, before, rest = value.partition(_BEFORE_BODY)
    _, after, tail = rest.rpartition(_AFTER_BODY)
    return head + before + b"null" + after + tail if after else value


def _shortened(message: str) -> bytes:
    """At most 2,048 bytes of UTF-8, never half a character."""
    return message.encode()[:2048].decode(errors="ignore").encode()
