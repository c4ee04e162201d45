"""What intake reads and what it decides: a record in, one verdict out."""

import base64
from collections.abc import Mapping
from dataclasses import field
from typing import Final, Literal
from uuid import UUID

import orjson

from sluice_core.keys.model import Key
from sluice_platform.values import frozen_value
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.jobs import Operation

IdentityKind = Literal["key", "event", "record"]

BAD_RECORD: Final[frozenset[ErrorCode]] = frozenset(
    {ErrorCode.INVALID_RECORD, ErrorCode.INVALID_SIGNATURE, ErrorCode.UNAUTHORIZED}
)
"""Codes that say the record itself cannot be a job: its bytes also go to the dead letters."""


@frozen_value
class Record:
    """One Kafka record as it was read: bytes untouched, `timestamp_ms` in epoch milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def _to_text(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _to_bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


@frozen_value
class Requester:
    """Who is answered, and how: all that publishing a result needs besides the job.

    `correlation_id` is already defaulted (header, else ce_id, else the job's id) and is the reply's
    key; a result and a reply carry it under `correlation_id`, and then `echo` as it stands: every
    alias the record used, with the bytes it came with (Spring's ReplyingKafkaTemplate finds its
    request by `kafka_correlationId`). `cause` is the record's own ce_id, `record_key` its key,
    `record_id` the identity of the record itself.
    """

    custom_id: str | None
    correlation_id: bytes
    echo: tuple[tuple[str, bytes], ...]
    cause: str | None
    reply_to: str | None
    reply_partition: int | None
    reply_only: bool
    traceparent: str | None
    tracestate: str | None
    record_key: bytes | None
    record_id: UUID

    def to_bytes(self) -> bytes:
        """Write it as compact JSON, bytes in base64."""
        return orjson.dumps(
            [
                self.custom_id,
                _to_text(self.correlation_id),
                [(name, _to_text(value)) for name, value in self.echo],
                self.cause,
                self.reply_to,
                self.reply_partition,
                self.reply_only,
                self.traceparent,
                self.tracestate,
                _to_text(self.record_key),
                self.record_id,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "Requester":
        """Read what `to_bytes` wrote."""
        (custom_id, correlation_id, echo, cause, *rest) = orjson.loads(data)
        (reply_to, reply_partition, reply_only, traceparent, tracestate, key, record_id) = rest
        return cls(
            custom_id=custom_id,
            correlation_id=base64.b64decode(correlation_id),
            echo=tuple((name, base64.b64decode(value)) for name, value in echo),
            cause=cause,
            reply_to=reply_to,
            reply_partition=reply_partition,
            reply_only=reply_only,
            traceparent=traceparent,
            tracestate=tracestate,
            record_key=_to_bytes(key),
            record_id=UUID(record_id),
        )


@frozen_value
class NewJob:
    """A record that is a job, ready for admission.

    `id` is the job's id by the first identity that applies (`identity`), `record_id` that of the
    record itself. `body` is the provider request as JSON bytes, `body_hash` the 32 bytes that a
    repeated identity is compared by. `deadline` is in epoch seconds and never later than the
    record's timestamp plus the time identities are kept: a replay of an older record expires
    instead of paying again. `max_cost_nano` is in nano-dollars. `rerun` is
    `on_duplicate: rerun`. `warnings` name the options that were ignored.
    """

    id: UUID
    record_id: UUID
    identity: IdentityKind
    record: Record
    job_class: JobClass
    tenant: str
    team: str
    project: str
    app: str
    user: str | None
    key_id: str | None
    tags: Mapping[str, str]
    model: str
    operation: Operation
    url: str
    stream: bool
    body: bytes
    body_hash: bytes
    deadline: float
    max_wait_s: float | None
    max_attempts: int
    max_cost_nano: int | None
    retry_unknown: bool
    rerun: bool
    wait_for_budget: bool
    cache: str | None
    affinity: str | None
    run_id: str | None
    requester: Requester
    warnings: tuple[str, ...]


@frozen_value
class Rejection:
    """A record whose tenant and reply address are known and that cannot become a job.

    Its result has the record's id. `param` names the field at fault. What was not reached keeps its
    default. Where `dead_letter` is true the record's bytes go to the dead letters as well. `rule` is the policy's
    statement that decided; the caller is not told it. `named_key` as for a `DeadLetter`.
    """

    record: Record
    record_id: UUID
    tenant: str
    job_class: JobClass
    code: ErrorCode
    message: str
    param: str | None
    requester: Requester
    model: str | None = None
    run_id: str | None = None
    team: str = "unallocated"
    project: str = "unallocated"
    app: str = "unallocated"
    user: str | None = None
    key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    rule: str | None = None
    named_key: Key | None = None

    @property
    def dead_letter(self) -> bool:
        """Whether the record itself is bad, and its bytes are also kept as a dead letter."""
        return self.code in BAD_RECORD


@frozen_value
class DeadLetter:
    """A record that nobody can be answered for: the tenant or the reply address is unknown.

    `named_key` is the known key that the record names; nothing has shown that its owner wrote it.
    """

    record: Record
    code: ErrorCode
    message: str
    named_key: Key | None = None


@frozen_value
class Cancel:
    """A request to cancel one job or every job of a run; exactly one of the two is set."""

    tenant: str
    job_id: UUID | None
    run_id: str | None
    record: Record
    key_id: str | None = None


Verdict = NewJob | Rejection | DeadLetter | Cancel
