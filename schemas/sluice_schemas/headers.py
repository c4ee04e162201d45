"""The names of record headers, and models of the headers that each kind of event carries."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

CE_SPECVERSION: Final = "ce_specversion"
CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
CE_TIME: Final = "ce_time"
CE_SUBJECT: Final = "ce_subject"
CE_CAUSATION_ID: Final = "ce_causationid"
CE_DATAREF: Final = "ce_dataref"
CONTENT_TYPE: Final = "content-type"
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
CORRELATION_ID: Final = "correlation_id"
REPLY_TO: Final = "reply_to"
REPLY_PARTITION: Final = "reply_partition"
CE_CORRELATION_ID: Final = "ce_correlationid"
CE_REPLY_TO: Final = "ce_replyto"
CE_REPLY_PARTITION: Final = "ce_replypartition"
SPRING_CORRELATION_ID: Final = "kafka_correlationId"
SPRING_REPLY_TO: Final = "kafka_replyTopic"
SPRING_REPLY_PARTITION: Final = "kafka_replyPartition"
KEY_ID: Final = "sluice-key-id"
SIGNATURE: Final = "sluice-signature"
ON_BEHALF_OF: Final = "sluice-on-behalf-of"
RECORD_KEY: Final = "sluice-record-key"
DUPLICATE: Final = "sluice-duplicate"
ERROR_CODE: Final = "sluice-error-code"
ERROR_MESSAGE: Final = "sluice-error-message"
SOURCE_TOPIC: Final = "sluice-source-topic"
SOURCE_PARTITION: Final = "sluice-source-partition"
SOURCE_OFFSET: Final = "sluice-source-offset"
SOURCE_NULL: Final = "sluice-source-null"
REDRIVE_COUNT: Final = "sluice-redrive-count"

STRUCTURED_CONTENT_TYPE: Final = "application/cloudevents+json"

TYPE_PREFIX: Final = "com.sluicegate."
JOB_COMPLETED: Final = TYPE_PREFIX + "job.completed.v1"
JOB_DELTA: Final = TYPE_PREFIX + "job.delta.v1"
USAGE_RECORDED: Final = TYPE_PREFIX + "usage.recorded.v1"
ALERT_RAISED: Final = TYPE_PREFIX + "alert.raised.v1"
ALERT_RESOLVED: Final = TYPE_PREFIX + "alert.resolved.v1"
AUDIT_RECORDED: Final = TYPE_PREFIX + "audit.recorded.v1"
RUN_COMPLETED: Final = TYPE_PREFIX + "run.completed.v1"


def source_of(cell: str) -> str:
    """The `ce_source` of every event of a cell."""
    return f"/sluicegate/{cell}"


class Headers(BaseModel):
    """Headers of a record; those not named are carried and never an error."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)


class JobHeaders(Headers):
    """Headers of a job or control record; all optional, UTF-8 unless said otherwise."""

    ce_specversion: str | None = Field(default=None, examples=["1.0"])
    ce_id: str | None = Field(default=None, description="At most 256 bytes.")
    ce_source: str | None = None
    ce_type: str | None = None
    ce_time: str | None = Field(default=None, description="RFC 3339 with an offset.")
    ce_subject: str | None = None
    content_type: str | None = Field(
        default=None,
        alias="content-type",
        description="application/cloudevents+json means structured mode.",
    )
    traceparent: str | None = None
    tracestate: str | None = None
    correlation_id: str | None = Field(
        default=None,
        description="Opaque bytes, at most 256; echoed. Default: ce_id, else the job's id.",
    )
    reply_to: str | None = Field(default=None, description="A topic on the tenant's list.")
    reply_partition: str | None = Field(default=None, pattern=r"^[0-9]+$")
    ce_correlationid: str | None = Field(default=None, description="Alias of correlation_id.")
    ce_replyto: str | None = Field(default=None, description="Alias of reply_to.")
    ce_replypartition: str | None = Field(default=None, description="Alias of reply_partition.")
    kafka_correlation_id: str | None = Field(
        default=None, alias=SPRING_CORRELATION_ID, description="Spring's; opaque bytes."
    )
    kafka_reply_topic: str | None = Field(
        default=None, alias=SPRING_REPLY_TO, description="Spring's alias of reply_to."
    )
    kafka_reply_partition: str | None = Field(
        default=None, alias=SPRING_REPLY_PARTITION, description="Spring's; 4 bytes, big-endian."
    )
    sluice_key_id: str | None = Field(default=None, alias=KEY_ID)
    sluice_signature: str | None = Field(
        default=None, alias=SIGNATURE, description="v1,<base64>; several separated by spaces."
    )
    sluice_on_behalf_of: str | None = Field(
        default=None, alias=ON_BEHALF_OF, examples=["acme/ml/search/web/jo%C3%A3o"]
    )
    sluice_redrive_count: str | None = Field(default=None, alias=REDRIVE_COUNT)


class EventHeaders(Headers):
    """Headers of every event that the gateway publishes."""

    ce_specversion: str = "1.0"
    ce_id: str = Field(description="Stable: the same fact has the same id each time it is sent.")
    ce_source: str = Field(examples=["/sluicegate/main"])
    ce_type: str
    ce_time: str
    ce_subject: str | None = None
    content_type: str = Field(default="application/json", alias=CONTENT_TYPE)


class ResultHeaders(EventHeaders):
    """Headers of a result; `ce_subject` is the job's id."""

    ce_causationid: str | None = Field(
        default=None, description="The answered record's own ce_id; absent if it had none."
    )
    ce_dataref: str | None = Field(
        default=None, description="Where a result too large for a record is read."
    )
    correlation_id: str = Field(description="Opaque bytes; also under each alias it came by.")
    traceparent: str | None = None
    sluice_record_key: str | None = Field(
        default=None, alias=RECORD_KEY, description="The job record's own key, as its bytes."
    )
    sluice_duplicate: str | None = Field(
        default=None, alias=DUPLICATE, description="`true` where a stored result is sent again."
    )


class DeltaHeaders(EventHeaders):
    """Headers of a delta; `ce_subject` is the job's id."""

    correlation_id: str
    traceparent: str | None = None


class DeadLetterHeaders(Headers):
    """Headers of a dead letter, after the record's own in their order and bytes."""

    sluice_error_code: str = Field(alias=ERROR_CODE)
    sluice_error_message: str = Field(alias=ERROR_MESSAGE)
    sluice_source_topic: str = Field(alias=SOURCE_TOPIC)
    sluice_source_partition: str = Field(alias=SOURCE_PARTITION, pattern=r"^[0-9]+$")
    sluice_source_offset: str = Field(alias=SOURCE_OFFSET, pattern=r"^[0-9]+$")
    sluice_source_null: str | None = Field(
        default=None,
        alias=SOURCE_NULL,
        description="`true` where the record had neither key nor value.",
    )
