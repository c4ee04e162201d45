"""The AsyncAPI 3.0 description of the gateway, assembled from the published models."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sluice_schemas import control, events, headers, jobs, results, usage
from sluice_schemas.classes import JobClass
from sluice_schemas.topics import CONTROL_GROUP, Topics, TopicSpec, group_of, topic_specs

_BINDING: Final = {"bindingVersion": "0.5.0"}
_TENANT: Final = "{tenant}"
_DEFAULT_RECORD_BYTES: Final = 8 * 1024**2
# What the Kafka binding itself names; the other settings stand beside it.
_BOUND_SETTINGS: Final = ("retention.ms", "retention.bytes", "max.message.bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One kind of record: its models, its key, and the types of event it may carry."""

    name: str
    summary: str
    payload: type[BaseModel] | None
    headers: type[BaseModel]
    key: str
    types: tuple[str, ...] = ()
    correlated: bool = False


_MESSAGES: Final = (
    Message(
        name="job",
        summary="One line of an OpenAI Batch input file, with options.",
        payload=jobs.Job,
        headers=headers.JobHeaders,
        key="Any bytes; sent back in sluice-record-key.",
        correlated=True,
    ),
    Message(
        name="cancel",
        summary="Cancels a job or every job of a run.",
        payload=control.Cancel,
        headers=headers.JobHeaders,
        key="Any bytes.",
    ),
    Message(
        name="result",
        summary="One line of an OpenAI Batch output file, plus `job`.",
        payload=results.Result,
        headers=headers.ResultHeaders,
        key="The job's id; on a reply topic the correlation id.",
        types=(headers.JOB_COMPLETED,),
        correlated=True,
    ),
    Message(
        name="delta",
        summary="A piece of a stream.",
        payload=results.Delta,
        headers=headers.DeltaHeaders,
        key="The correlation id.",
        types=(headers.JOB_DELTA,),
        correlated=True,
    ),
    Message(
        name="usage",
        summary="One row of finance.usage.",
        payload=usage.Usage,
        headers=headers.EventHeaders,
        key="The job's id.",
        types=(headers.USAGE_RECORDED,),
    ),
    Message(
        name="deadLetter",
        summary="A record that cannot be a job: its own bytes and headers, and the reason.",
        payload=None,
        headers=headers.DeadLetterHeaders,
        key="The record's own.",
    ),
    Message(
        name="alert",
        summary="Something a person should look at.",
        payload=events.Alert,
        headers=headers.EventHeaders,
        key="The scope.",
        types=(headers.ALERT_RAISED, headers.ALERT_RESOLVED),
    ),
    Message(
        name="audit",
        summary="Who changed what.",
        payload=events.Audit,
        headers=headers.EventHeaders,
        key="The scope.",
        types=(headers.AUDIT_RECORDED,),
    ),
    Message(
        name="runCompleted",
        summary="Every known job of a run has ended.",
        payload=events.RunCompleted,
        headers=headers.EventHeaders,
        key="The run.",
        types=(headers.RUN_COMPLETED,),
    ),
)


def asyncapi() -> dict[str, Any]:
    """The whole document, as plain data in a stable order."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sluicegate",
            "version": "1.0.0",
            "description": (
                "A queued gateway between programs and LLM providers. Within version 1 there are "
                "additions only; unknown fields and headers are never an error."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "{bootstrap}",
                "protocol": "kafka",
                "variables": {
                    "bootstrap": {"description": "SLUICE_KAFKA", "default": "localhost:9092"}
                },
            }
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {message.name: _message(message) for message in _MESSAGES},
            "schemas": _schemas(),
        },
    }


def _schemas() -> dict[str, Any]:
    models = {message.headers for message in _MESSAGES}
    models |= {message.payload for message in _MESSAGES if message.payload is not None}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schema = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template="#/components/schemas/{model}",
    )
    definitions: dict[str, Any] = schema["$defs"]
    return {name: definitions[name] for name in sorted(definitions)}


def _message(message: Message) -> dict[str, Any]:
    payload: dict[str, Any] = {"description": "The record's own bytes."}
    if message.payload is not None:
        payload = {"$ref": f"#/components/schemas/{message.payload.__name__}"}
    described: dict[str, Any] = {
        "name": message.name,
        "title": message.name,
        "summary": message.summary,
        "contentType": "application/json" if message.payload else "application/octet-stream",
        "headers": {"$ref": f"#/components/schemas/{message.headers.__name__}"},
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": message.key}} | _BINDING},
    }
    if message.correlated:
        described["correlationId"] = {"location": "$message.header#/correlation_id"}
    if message.types:
        described["x-ce-types"] = list(message.types)
    return described


def _channels() -> dict[str, Any]:
    topics = Topics()
    specs = {
        spec.name: spec
        for spec in topic_specs(topics, record_bytes=_DEFAULT_RECORD_BYTES, tenants=(_TENANT,))
    }
    channels = {
        f"jobs{job_class.label.capitalize()}": _channel(specs[topics.jobs(job_class)], "job")
        for job_class in JobClass
    }
    channels |= {
        "control": _channel(specs[topics.control], "cancel"),
        "results": _channel(specs[topics.results(_TENANT)], "result"),
        "replies": _channel(specs[topics.replies(_TENANT)], "delta", "result"),
        "usage": _channel(specs[topics.usage], "usage"),
        "deadLetters": _channel(specs[topics.dead_letters], "deadLetter"),
        "alerts": _channel(specs[topics.alerts], "alert"),
        "audit": _channel(specs[topics.audit], "audit"),
        "runs": _channel(specs[topics.runs], "runCompleted"),
    }
    channels["replyTo"] = {
        "address": None,
        "description": "The topic that the job's reply_to names; it is on the tenant's list.",
        "messages": _references(("delta", "result")),
    }
    return channels


def _references(messages: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _channel(spec: TopicSpec, *messages: str) -> dict[str, Any]:
    bound = {name: int(spec.settings[name]) for name in _BOUND_SETTINGS if name in spec.settings}
    others = {name: value for name, value in spec.settings.items() if name not in _BOUND_SETTINGS}
    channel: dict[str, Any] = {"address": spec.name, "messages": _references(messages)}
    if _TENANT in spec.name:
        channel["parameters"] = {"tenant": {"description": "The tenant's slug."}}
    channel["bindings"] = {"kafka": {"topicConfiguration": bound} | _BINDING}
    if others:
        channel["x-topic-settings"] = others
    return channel


def _operations() -> dict[str, Any]:
    operations: dict[str, Any] = {}
    for job_class in JobClass:
        name = job_class.label.capitalize()
        operations[f"receive{name}"] = _receive(f"jobs{name}", group_of(job_class)) | {
            "reply": {
                "address": {"location": "$message.header#/reply_to"},
                "channel": {"$ref": "#/channels/replyTo"},
            }
        }
    operations["receiveControl"] = _receive("control", CONTROL_GROUP)
    for channel in ("results", "replies", "usage", "deadLetters", "alerts", "audit", "runs"):
        operations[f"send{channel[0].upper()}{channel[1:]}"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{channel}"},
        }
    return operations


def _receive(channel: str, group: str) -> dict[str, Any]:
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"kafka": {"groupId": {"type": "string", "const": group}} | _BINDING},
    }
