"""Reading a job's value: the JSON, a CloudEvents envelope, and the request that it carries."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Final

import orjson

from sluice_core.intake.headers import Attributes, read_headers
from sluice_core.intake.refusal import Refused, invalid
from sluice_platform.values import frozen_value
from sluice_schemas import headers as names
from sluice_schemas.errors import ErrorCode
from sluice_schemas.identity import DEFAULT_URL
from sluice_schemas.jobs import GENERATING, OPERATIONS, Operation, bounded

_REGISTRY_PREFIX_BYTES: Final = 5
_DIGITS_AND_ENDS: Final = bytes.maketrans(b"123456789]} \t\n\r", b"000000000,,,,,,")
_LONG_NUMBER: Final = b"0" * 19 + b","
"""What an integer beyond 64 bits ends with, its digits made zeros and what follows it a comma.

Most values have nothing like it and are read once; translating and searching cost a fifth of a pattern's match.
"""
_LONGEST_INTEGER: Final = 20
"""Characters of the longest integers that fit 64 bits, with their sign."""
_CHANGED: Final = object()
"""Stands for a body that would not reach a provider as it was written."""

_ENVELOPE: Final[dict[str, str]] = {
    "specversion": names.CE_SPECVERSION,
    "id": names.CE_ID,
    "source": names.CE_SOURCE,
    "type": names.CE_TYPE,
    "time": names.CE_TIME,
    "subject": names.CE_SUBJECT,
    "correlationid": names.CE_CORRELATION_ID,
    "replyto": names.CE_REPLY_TO,
    "replypartition": names.CE_REPLY_PARTITION,
    "traceparent": names.TRACEPARENT,
    "tracestate": names.TRACESTATE,
}
"""Attributes of an envelope, and the headers of binary mode that say the same."""


@frozen_value
class Request:
    """The checked request of a job; `body` is the decoded JSON object."""

    url: str
    operation: Operation
    model: str
    stream: bool
    body: dict[str, Any]


def read_value(value: bytes | None) -> dict[str, Any]:
    """Decode a record's value, past a schema registry's prefix; raises Refused."""
    if value is None:
        raise invalid("the record has no value")
    if value[:1] == b"\x00":
        value = value[_REGISTRY_PREFIX_BYTES:]
    return _object(value, "the value")


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise invalid(f"{what} is not JSON: {exc.msg}") from None
    if type(decoded) is not dict:
        raise invalid(f"{what} is not a JSON object")
    if _LONG_NUMBER in text.translate(_DIGITS_AND_ENDS):
        _mark_changed(text, decoded, what)
    return decoded


def _mark_changed(text: bytes, decoded: dict[str, Any], what: str) -> None:
    """Put `_CHANGED` for a body with integers beyond 64 bits, which the fast decoder makes floats of.

    The body is told of later, once it is known where replies go.
    """
    try:
        exact = json.loads(text.decode(), parse_int=_integer)
        for holder, written in ((decoded, exact), (decoded.get("data"), exact.get("data"))):
            if type(holder) is dict and holder.get("body") != written.get("body"):
                holder["body"] = _CHANGED
    except RecursionError:
        raise invalid(f"{what} is nested too deeply") from None


def _integer(text: str) -> int | None:
    """The integer, None where it is beyond 64 bits; a long text is not even read."""
    if len(text) > _LONGEST_INTEGER:
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**64 else None


def open_envelope(
    envelope: dict[str, Any], headers: Sequence[tuple[str, bytes | None]]
) -> tuple[Attributes, dict[str, Any]]:
    """Read a CloudEvents envelope: its attributes, as headers would say them, and its data.

    A header that repeats an attribute with the same value is no fault; with another it is.
    """
    merged = list(headers)
    for attribute, header in _ENVELOPE.items():
        value = envelope.get(attribute)
        if value is None:
            continue
        if type(value) is not str and (attribute != "replypartition" or type(value) is not int):
            raise invalid(f"the envelope's {attribute} is not a string", attribute)
        entry = (header, str(value).encode())
        if entry not in merged:
            merged.append(entry)
    return read_headers(merged), _data(envelope)


def _data(envelope: dict[str, Any]) -> dict[str, Any]:
    encoded = envelope.get("data_base64")
    if encoded is None:
        data = envelope.get("data")
        if type(data) is not dict:
            raise invalid("the envelope's data is not a JSON object", "data")
        return data
    if type(encoded) is not str or envelope.get("data") is not None:
        raise invalid("the envelope has data or data_base64, a string", "data_base64")
    try:
        return _object(base64.b64decode(encoded, validate=True), "data_base64")
    except (binascii.Error, ValueError):
        raise invalid("data_base64 is not base64", "data_base64") from None


def check_text(value: Any, param: str) -> str | None:
    """A bounded text or None; raises Refused with the parameter's name for anything else."""
    if value is None:
        return None
    if type(value) is not str:
        raise invalid(f"{param} must be a string", param)
    try:
        return bounded(value)
    except ValueError as exc:
        raise invalid(f"{param} {exc}", param) from None


def check_url(job: dict[str, Any]) -> str:
    """The url of a job, defaulted, and the method that goes with it."""
    method, url = job.get("method"), job.get("url")
    if method is not None and method != "POST":
        raise invalid("method must be POST", "method")
    if url is None:
        return DEFAULT_URL
    if type(url) is not str:
        raise invalid("url must be a string", "url")
    if url not in OPERATIONS:
        raise Refused(
            ErrorCode.UNSUPPORTED_URL, f"url must be one of {', '.join(OPERATIONS)}", "url"
        )
    return url


def check_model(job: dict[str, Any]) -> str:
    """The model that a job's body names."""
    body = job.get("body")
    if body is _CHANGED:
        raise invalid("body has an integer beyond 64 bits, which is not carried", "body")
    if type(body) is not dict:
        raise invalid("body must be an object", "body")
    model = check_text(body.get("model"), "body.model")
    if model is None:
        raise invalid("body.model is missing", "body.model")
    return model


BOUNDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n")
"""What of a request says how long its answers may be and how many there are."""
_ABSENT = type(None)


def check_request(body: dict[str, Any], *, url: str, model: str) -> Request:
    """The rest of a request: what its operation needs, with the type it needs."""
    operation = OPERATIONS[url]
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise invalid("body.stream must be true or false", "body.stream")
    if type(body.get("stream_options")) not in {dict, _ABSENT}:
        raise invalid("body.stream_options must be an object", "body.stream_options")
    if operation in GENERATING:
        for name in BOUNDS:
            # What we cannot read a provider might: the money that is reserved for the call would be a guess.
            given = body.get(name)
            if given is not None and (type(given) is not int or given < 0):
                raise invalid(f"body.{name} must be a whole number", f"body.{name}")
    if operation == "chat":
        _check_messages(body.get("messages"))
    elif operation == "rerank":
        _check_ranking(body)
    elif operation == "embeddings" or not body.get("prompt"):
        # A template that the provider keeps may hold all that there is to say.
        given = body.get("input")
        if type(given) not in {str, list} or not given:
            raise invalid("body.input must be a text or a list, not empty", "body.input")
    return Request(
        url=url,
        operation=operation,
        model=model,
        stream=bool(stream) and operation in GENERATING,
        body=body,
    )


def _check_messages(messages: Any) -> None:
    if type(messages) is not list or not messages:
        raise invalid("body.messages must be a list of at least one message", "body.messages")
    for message in messages:
        if type(message) is not dict:
            raise invalid("body.messages must hold objects", "body.messages")


def _check_ranking(body: dict[str, Any]) -> None:
    query, documents, top = body.get("query"), body.get("documents"), body.get("top_n")
    if type(query) is not str or not query:
        raise invalid("body.query must be a text, not empty", "body.query")
    if type(documents) is not list or not documents:
        raise invalid("body.documents must be a list of at least one document", "body.documents")
    for document in documents:
        text = document.get("text") if type(document) is dict else document
        if type(text) is not str:
            raise invalid(
                "body.documents must hold texts, or objects with a text", "body.documents"
            )
    if top is not None and (type(top) is not int or top < 1):
        raise invalid("body.top_n must be a whole number from 1 on", "body.top_n")
