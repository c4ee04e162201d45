"""OpenAI's Responses: requests and answers pass as they are but for the model's name; a stream is typed events."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, consistent, count, part
from sluice_providers.adapter import (
    EmptyError,
    MalformedError,
    ReportedError,
    UntranslatableError,
    Whole,
)
from sluice_providers.errors import error_body
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.sse import Event

_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
_FAILED: Final = "the provider reported an error"


def prepare(call: Call, document: dict[str, Any]) -> None:
    """Put in a default limit. Raises UntranslatableError for what would answer later, and elsewhere."""
    if document.get("background"):
        raise UntranslatableError("background", "the gateway waits for answers itself")
    limit = call.target.default_max_tokens
    if limit is not None and not document.get("max_output_tokens"):
        document["max_output_tokens"] = limit


def read_usage(document: object) -> Usage | None:
    """Usage as Responses report it; None where it is missing, counts nothing or has a counter that is no number."""
    if not isinstance(document, dict):
        return None
    given, output = part(document, "input_tokens_details"), part(document, "output_tokens_details")
    try:
        usage = consistent(
            Usage(
                input_tokens=count(document, "input_tokens"),
                cache_read_tokens=count(given, "cached_tokens"),
                cache_write_tokens=count(given, "cache_write_tokens"),
                output_tokens=count(document, "output_tokens"),
                reasoning_tokens=count(output, "reasoning_tokens"),
            )
        )
    except UncountableError:
        return None
    return usage if usage.input_tokens or usage.output_tokens else None


def translate(body: bytes, *, model: str) -> Whole:
    """A whole answer. Raises AdapterError."""
    return _whole(parse_object(body), model)


def _whole(document: dict[str, Any], model: str) -> Whole:
    _raise_reported(document)
    items = document.get("output")
    if not isinstance(items, list):
        raise MalformedError("the answer has no list of output items")
    if not items and document.get("status") != "incomplete":
        raise EmptyError("the answer's list of output items is empty")
    document["model"] = model
    try:
        finish, size = _finish(document), sum(map(_text_bytes, items))
    except (AttributeError, TypeError) as exc:
        raise MalformedError("the answer's output items are not in the format") from exc
    return Whole(
        body=orjson.dumps(document),
        usage=read_usage(document.get("usage")),
        finish=(finish,),
        output_bytes=size,
        tier=tier if isinstance(tier := document.get("service_tier"), str) else None,
    )


def _finish(document: dict[str, Any]) -> str:
    if document.get("status") == "incomplete":
        reason = str((document.get("incomplete_details") or {}).get("reason") or "")
        return _REASONS.get(reason, reason or "length")
    called = any(item.get("type") == "function_call" for item in document["output"])
    return "tool_calls" if called else "stop"


def _text_bytes(item: dict[str, Any]) -> int:
    texts = [item.get("arguments")]
    for name in ("content", "summary"):
        texts += [piece.get("text") for piece in item.get(name) or ()]
    return sum(len(t.encode(errors="surrogatepass")) for t in texts if isinstance(t, str))


def _raise_reported(document: Mapping[str, Any]) -> None:
    error = document.get("error")
    if error or document.get("status") in {"failed", "cancelled"}:
        raise _reported(error if isinstance(error, dict) else {"message": error})


def _reported(error: Mapping[str, Any]) -> ReportedError:
    message, code = str(error.get("message") or _FAILED), error.get("code")
    kind = str(error.get("type") or "server_error")
    body = error_body(message, kind=kind, code=None if code is None else str(code))
    return ReportedError(message, body)


class ResponsesStream:
    """One stream of typed events, each of which goes out as it came."""

    def __init__(self, *, model: str) -> None:
        self._model = model
        self._usage: object = None
        self._whole: dict[str, Any] | None = None
        self._size = 0

    @property
    def done(self) -> bool:
        """Whether the event came that ends a response."""
        return self._whole is not None

    @property
    def ended(self) -> bool:
        """As `done`: nothing follows it."""
        return self._whole is not None

    @property
    def usage(self) -> Usage | None:
        """What the last response said of it."""
        return read_usage(self._usage)

    @property
    def output_bytes(self) -> int:
        """Bytes of text so far."""
        return self._size

    def feed(self, event: Event) -> list[bytes]:
        """Take one event; `response.failed` and `error` raise ReportedError."""
        if event.data.strip() == b"[DONE]":
            return []
        document = parse_object(event.data)
        kind, response = document.get("type"), document.get("response")
        if kind == "error" or (kind is None and document.get("error")):
            inner = document.get("error")
            raise _reported(inner if isinstance(inner, dict) else document)
        if not isinstance(response, dict):
            delta = document.get("delta")
            if isinstance(delta, str):
                self._size += len(delta.encode(errors="surrogatepass"))
            return [event.data]
        self._usage = response.get("usage") or self._usage
        if kind == "response.failed":
            error = response.get("error")
            raise _reported(error if isinstance(error, dict) else {})
        response["model"] = self._model
        if kind in _ENDS:
            self._whole = response
        return [orjson.dumps(document)]

    def whole(self) -> Whole:
        """The response of the last event."""
        if self._whole is None:
            raise EmptyError("the stream ended without a response")
        return _whole(self._whole, self._model)
