"""Reads what providers say when they refuse: the kind of refusal, and when to come back."""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import orjson

from sluice_core.jobs.fates import FailureKind

_CONTEXT_CODES = frozenset({"context_length_exceeded", "model_context_window_exceeded"})
_POLICY_CODES = frozenset(
    {"content_filter", "content_policy_violation", "ResponsibleAIPolicyViolation"}
)
_CONTEXT_WORDS = (
    "maximum context length",
    "context length exceeded",
    "prompt is too long",
    "exceed context limit",
    "exceeds the context window",
    "input is too long",
    "exceeds the maximum number of tokens",
    "input length exceeds the context length",
    "too many tokens",
)
_FUNDS_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_FUNDS_WORDS = ("credit balance is too low", "insufficient balance")
_KEY_CODES = frozenset(
    {
        "API_KEY_INVALID",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)
"""Of keys that are refused with 400 or 403."""
_TEXT_BYTES = 1_000
_SECRET_CHARACTERS = 16
"""A shorter part of a key is no secret by itself."""


def kind_of(status: int, *, code: str, message: str) -> FailureKind:
    """Which kind of refusal a status with this code and message is."""
    if status in {400, 413, 422}:
        lowered = message.lower()
        if code in _CONTEXT_CODES or any(words in lowered for words in _CONTEXT_WORDS):
            return FailureKind.CONTEXT_LENGTH
    if status in {400, 403} and code in _POLICY_CODES:
        return FailureKind.CONTENT_POLICY
    if status == 401 or (status in {400, 403} and code in _KEY_CODES):
        return FailureKind.KEY_REFUSED
    if status == 402 or (status in {400, 403, 429} and _no_funds(code, message)):
        return FailureKind.OUT_OF_FUNDS
    return FailureKind.STATUS_ERROR


def _no_funds(code: str, message: str) -> bool:
    lowered = message.lower()
    return code in _FUNDS_CODES or any(words in lowered for words in _FUNDS_WORDS)


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms`, `x-ms-retry-after-ms` or `retry-after` (seconds or a date).

    `now` is the time as epoch seconds, against which a date counts. None where nothing readable is said.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def error_body(
    message: str, *, kind: str = "provider_error", param: str | None = None, code: str | None = None
) -> bytes:
    """An error in OpenAI's form."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def hide_key(text: bytes, key: str) -> bytes:
    """The same without the key, however JSON may write it: each character plain or as an escape, in nested texts too.

    AWS's key is several in one, of which it quotes the session's token; so a longer part is hidden as well.
    """
    for secret in (key, *(part for part in key.split(":") if len(part) >= _SECRET_CHARACTERS)):
        if secret:
            text = re.sub(b"".join(map(_written, secret)), b"[key]", text)
    return text


def _written(character: str) -> bytes:
    """A pattern for the ways to write one character; the backslashes are bounded, so that none takes long."""
    plain = re.escape(character.encode(errors="surrogatepass"))
    return rb"\\{0,8}(?:%b|u(?i:%04x))" % (plain, ord(character))


def wrap(status: int, body: bytes) -> tuple[str, bytes]:
    """The message and the body for an error answer that is not in the format, such as a proxy's HTML page."""
    text = body[:_TEXT_BYTES].decode(errors="replace").strip()
    message = text or f"the provider answered {status} without a body"
    return message, error_body(message)


def told(status: int, body: bytes, field: str) -> tuple[str, bytes]:
    """The message and the body for an error answer that says its message in one field."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = None
    said = document.get(field) if isinstance(document, dict) else None
    return (said, error_body(said)) if isinstance(said, str) and said else wrap(status, body)
