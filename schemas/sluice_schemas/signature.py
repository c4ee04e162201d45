"""Signatures of records: HMAC-SHA256 over ten lines and the value.

`schemas/vectors/signature.json` holds worked examples.
"""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

VERSION: Final = b"v1"
_CALLER_SEGMENTS: Final = 5
_MAX_SEGMENT_BYTES: Final = 256
_ENCODED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFields:
    """The ten lines in their order, as the bytes on the wire; an absent header is empty."""

    topic: bytes
    key_id: bytes
    ce_id: bytes = b""
    ce_source: bytes = b""
    ce_time: bytes = b""
    ce_type: bytes = b""
    correlation_id: bytes = b""
    reply_to: bytes = b""
    reply_partition: bytes = b""
    on_behalf_of: bytes = b""


def hmac_key(secret: str) -> bytes:
    """The 32 bytes that sign: SHA-256 over the whole secret as it was shown."""
    return hashlib.sha256(secret.encode()).digest()


def signing_text(fields: SignedFields, value: bytes | None) -> bytes:
    """The text that is signed: ten lines, a line feed, the value as on the wire (null = empty)."""
    return b"\n".join(
        (
            fields.topic,
            fields.key_id,
            fields.ce_id,
            fields.ce_source,
            fields.ce_time,
            fields.ce_type,
            fields.correlation_id,
            fields.reply_to,
            fields.reply_partition,
            fields.on_behalf_of,
            value or b"",
        )
    )


def sign(key: bytes, fields: SignedFields, value: bytes | None) -> str:
    """One entry of `sluice-signature`: `v1,` and standard base64 with padding."""
    digest = hmac.digest(key, signing_text(fields, value), "sha256")
    return f"{VERSION.decode()},{base64.b64encode(digest).decode()}"


def verify(key: bytes, header: bytes, fields: SignedFields, value: bytes | None) -> bool:
    """Whether one of the header's `v1` entries verifies, compared in constant time.

    Entries of other versions and entries that are not base64 are passed over.
    """
    expected = hmac.digest(key, signing_text(fields, value), "sha256")
    return any(hmac.compare_digest(given, expected) for given in _entries(header))


def _entries(header: bytes) -> list[bytes]:
    found = []
    for entry in header.split(b" "):
        version, comma, text = entry.partition(b",")
        if version != VERSION or not comma:
            continue
        try:
            found.append(base64.b64decode(text, validate=True))
        except binascii.Error:
            continue
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerName:
    """Who a vouching key speaks for, as `sluice-on-behalf-of` says it; empty = not said."""

    tenant: str = ""
    team: str = ""
    project: str = ""
    app: str = ""
    user: str = ""


def format_caller(caller: CallerName) -> str:
    """Write the header: five percent-encoded segments."""
    return "/".join(
        quote(part, safe="")
        for part in (caller.tenant, caller.team, caller.project, caller.app, caller.user)
    )


def parse_caller(header: str) -> CallerName:
    """Read the header; ValueError where it has not five segments of percent-encoded UTF-8, each of at most 256 bytes."""
    segments = header.split("/")
    if len(segments) != _CALLER_SEGMENTS:
        raise ValueError("sluice-on-behalf-of needs five segments: tenant/team/project/app/user")
    tenant, team, project, app, user = (_decoded(segment) for segment in segments)
    return CallerName(tenant=tenant, team=team, project=project, app=app, user=user)


def _decoded(segment: str) -> str:
    if _ENCODED.match(segment) is None:
        raise ValueError("sluice-on-behalf-of has a percent sign that encodes nothing")
    raw = unquote_to_bytes(segment)
    if len(raw) > _MAX_SEGMENT_BYTES:
        raise ValueError(f"sluice-on-behalf-of has a segment over {_MAX_SEGMENT_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ValueError("sluice-on-behalf-of is not UTF-8") from None
    if any(ord(character) < 0x20 for character in text):
        raise ValueError("sluice-on-behalf-of has a control character")
    return text
