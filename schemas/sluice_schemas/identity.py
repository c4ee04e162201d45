"""Identities: job ids by version 5 UUIDs, the hash that compares two requests, derived event ids.

The rules are public; `schemas/vectors/identity.json` holds worked examples.
"""

import hashlib
from functools import lru_cache
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID

import orjson

from sluice_schemas.uuids import uuid_of

_NEITHER: Final = ~((0xF << 76) | (0b11 << 62))
"""Every bit of a UUID but those of its version and its variant."""
_VERSION_5: Final = (0x5 << 76) | (0b10 << 62)
DEFAULT_URL: Final = "/v1/chat/completions"


def uuid5(namespace: UUID, name: bytes) -> UUID:
    """RFC 9562 version 5 of a name given as bytes."""
    return _version_5(hashlib.sha1(namespace.bytes + name, usedforsecurity=False).digest())


def _version_5(digest: bytes) -> UUID:
    return uuid_of(_version_5_number(digest))


def _version_5_number(digest: bytes) -> int:
    return int.from_bytes(digest[:16]) & _NEITHER | _VERSION_5


@lru_cache(maxsize=4096)
def tenant_namespace(tenant: str) -> UUID:
    """The namespace of a tenant's job ids."""
    return uuid5(NAMESPACE_URL, f"urn:sluicegate:tenant:{tenant}".encode())


def id_by_key(tenant: str, idempotency_key: str) -> UUID:
    """The id of the job that an idempotency key names."""
    return uuid5(tenant_namespace(tenant), f"key:{idempotency_key}".encode())


def id_by_event(tenant: str, ce_source: str, ce_id: str) -> UUID:
    """The id of the job that a CloudEvent names; both parts are present and not empty."""
    return uuid5(tenant_namespace(tenant), f"event:{ce_source}\n{ce_id}".encode())


def id_by_record(
    tenant: str, *, cluster_id: str, topic: str, partition: int, offset: int, timestamp_ms: int
) -> UUID:
    """The id of the record itself; the timestamp is in epoch milliseconds."""
    name = f"record:{cluster_id}/{topic}/{partition}/{offset}/{timestamp_ms}"
    return uuid5(tenant_namespace(tenant), name.encode())


def canonical_json(value: Any) -> bytes:
    """JSON with keys sorted by code point and no white space, UTF-8; `1` and `1.0` stay apart.

    Integers beyond 64 bits are read as floating point. TypeError for more than 250 levels.
    """
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def body_hash(url: str, body: Any) -> bytes:
    """SHA-256 (32 bytes) of the url, a line feed and the body's canonical JSON."""
    return hashlib.sha256(url.encode() + b"\n" + canonical_json(body)).digest()


def rejection_event_id(record_id: UUID) -> UUID:
    """The event id of a record's rejection at admission."""
    return uuid5(record_id, b"rejected")


def duplicate_event_id(original_event_id: UUID, record_id: UUID) -> UUID:
    """The event id of a stored result that is sent again to another requester's record."""
    return uuid5(original_event_id, b"duplicate:" + record_id.bytes)


def delta_event_id(job_id: UUID, attempt: int, seq: int) -> UUID:
    """The event id of one delta of a stream."""
    return DeltaEventIds(job_id, attempt)[seq]


class DeltaEventIds:
    """The event ids of all deltas of one attempt; what their names share is hashed once."""

    def __init__(self, job_id: UUID, attempt: int) -> None:
        name = job_id.bytes + b"delta:%d/" % attempt
        self._begun = hashlib.sha1(name, usedforsecurity=False)

    def __getitem__(self, seq: int) -> UUID:
        return uuid_of(self._number(seq))

    def text(self, seq: int) -> bytes:
        """The same as it is written: many are written and none is compared."""
        number = b"%032x" % self._number(seq)
        return b"-".join((number[:8], number[8:12], number[12:16], number[16:20], number[20:]))

    def _number(self, seq: int) -> int:
        sha = self._begun.copy()
        sha.update(b"%d" % seq)
        return _version_5_number(sha.digest())


def audit_event_id(cell: str, entry: int) -> UUID:
    """The event id of a cell's audit entry with this number."""
    return uuid5(NAMESPACE_URL, f"urn:sluicegate:audit:{cell}/{entry}".encode())


def denial_id(job_id: UUID, execution: int) -> UUID:
    """What stands for the refusal of one execution of a job just before its call."""
    return uuid5(job_id, f"denied:{execution}".encode())
