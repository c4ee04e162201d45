"""Pure: the record that carries a job or a cancel: value, headers, signature, and the job's id."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from sluice_client.model import EventName, Job, Submitted
from sluice_schemas import headers as names
from sluice_schemas.signature import CallerName, SignedFields, format_caller, sign
from sluice_schemas.times import format_time


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key's id and the 32 bytes it signs with."""

    id: str
    material: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A record as the producer takes it."""

    topic: str
    value: bytes
    headers: list[tuple[str, bytes]]


class Envelopes:
    """Makes the records of one client; their ids are unique to it: a random prefix and a counter."""

    def __init__(self, *, tenant: str, source: str, key: SigningKey | None) -> None:
        self._tenant = tenant
        self._source = source
        self._key = key
        self._prefix = secrets.token_hex(12)
        self._counter = 0

    def job(
        self,
        job: Job,
        *,
        topic: str,
        now: float,
        reply_to: str | None = None,
        event: EventName | None = None,
        on_behalf_of: CallerName | None = None,
    ) -> tuple[Outgoing, Submitted]:
        """The record of a job (`now` in epoch seconds) and what is known of it by then.

        `event` names an earlier record again; without one this record has a name of its own.
        """
        correlation_id = self._next()
        event = event or EventName(source=self._source, id=correlation_id)
        value = orjson.dumps(_line(job))
        outgoing = self._record(
            topic,
            value,
            event=event,
            now=now,
            reply=(correlation_id, reply_to),
            on_behalf_of=on_behalf_of,
        )
        caller = on_behalf_of.tenant if on_behalf_of is not None else ""
        return outgoing, Submitted(
            tenant=caller or self._tenant,
            event=event,
            correlation_id=correlation_id,
            idempotency_key=job.options.get("idempotency_key"),
            topic=topic,
        )

    def control(
        self,
        value: Mapping[str, str],
        *,
        topic: str,
        now: float,
        on_behalf_of: CallerName | None = None,
    ) -> Outgoing:
        """The record of a cancel."""
        event = EventName(source=self._source, id=self._next())
        return self._record(
            topic, orjson.dumps(value), event=event, now=now, on_behalf_of=on_behalf_of
        )

    def _next(self) -> str:
        self._counter += 1
        return f"{self._prefix}-{self._counter}"

    def _record(
        self,
        topic: str,
        value: bytes,
        *,
        event: EventName,
        now: float,
        reply: tuple[str | None, str | None] = (None, None),
        on_behalf_of: CallerName | None = None,
    ) -> Outgoing:
        said = {
            names.CE_ID: event.id.encode(),
            names.CE_SOURCE: event.source.encode(),
            names.CE_TIME: format_time(now).encode(),
            names.CONTENT_TYPE: b"application/json",
        }
        correlation_id, reply_to = reply
        if correlation_id is not None:
            said[names.CORRELATION_ID] = correlation_id.encode()
        if reply_to is not None:
            said[names.REPLY_TO] = reply_to.encode()
        if on_behalf_of is not None:
            said[names.ON_BEHALF_OF] = format_caller(on_behalf_of).encode()
        if self._key is not None:
            said[names.KEY_ID] = self._key.id.encode()
            said[names.SIGNATURE] = _signature(self._key, topic, said, value)
        return Outgoing(topic=topic, value=value, headers=list(said.items()))


def _line(job: Job) -> dict[str, Any]:
    line: dict[str, Any] = {"body": job.body}
    if job.custom_id is not None:
        line["custom_id"] = job.custom_id
    if job.url is not None:
        line["url"] = job.url
    if job.options:
        line["options"] = job.options
    return line


def _signature(key: SigningKey, topic: str, said: Mapping[str, bytes], value: bytes) -> bytes:
    fields = SignedFields(
        topic=topic.encode(),
        key_id=key.id.encode(),
        ce_id=said[names.CE_ID],
        ce_source=said[names.CE_SOURCE],
        ce_time=said[names.CE_TIME],
        correlation_id=said.get(names.CORRELATION_ID, b""),
        reply_to=said.get(names.REPLY_TO, b""),
        on_behalf_of=said.get(names.ON_BEHALF_OF, b""),
    )
    return sign(key.material, fields, value).encode()
