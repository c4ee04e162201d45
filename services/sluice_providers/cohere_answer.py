"""Translates Cohere's v2 answers, whole and streamed, into OpenAI's form."""

import math
from collections.abc import Mapping
from typing import Any, Final

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count, part
from sluice_providers.adapter import MalformedError, ReportedError, Whole
from sluice_providers.chat_answer import (
    NOT_IN_FORM,
    TranslatedStream,
    completion,
    counted,
    tool_call,
)
from sluice_providers.errors import error_body
from sluice_providers.port import Call
from sluice_providers.sse import Event

_FINISH: Final = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}
_BROKEN: Final = frozenset({"ERROR", "TIMEOUT"})


def tokens(document: Mapping[str, Any], name: str) -> int:
    """A counter, which Cohere writes as a fraction; rounded up. Raises UncountableError."""
    value = document.get(name)
    if isinstance(value, float) and math.isfinite(value):
        value = math.ceil(value)
    return count({name: value}, name)


def read_usage(document: object) -> Usage | None:
    """What Cohere bills; where it does not say, what the model took, which counts Cohere's own prompts as well."""
    return counted(_counters, document)


def _counters(document: dict[str, Any]) -> Usage:
    counters = part(document, "billed_units")
    if counters.get("input_tokens") is None or counters.get("output_tokens") is None:
        counters = part(document, "tokens")
    given = tokens(counters, "input_tokens")
    return Usage(
        input_tokens=given,
        # What is not billed may have been cached as well.
        cache_read_tokens=min(given, tokens(document, "cached_tokens")),
        output_tokens=tokens(counters, "output_tokens"),
    )


def _broken(reason: str, said: object, usage: Usage | None) -> ReportedError:
    message = str(said) if said else f"the model ended with {reason}"
    return ReportedError(message, error_body(message, code=reason), usage=usage)


def translate(call: Call, document: dict[str, Any]) -> Whole:
    """A whole answer. Raises AdapterError."""
    usage = read_usage(document.get("usage"))
    reason = str(document.get("finish_reason"))
    if reason in _BROKEN:
        raise _broken(reason, None, usage)
    try:
        message = _message(document["message"])
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer's message is not in the format") from exc
    finish = _FINISH.get(reason, "stop")
    return completion(call, [(message, finish)], usage=usage, identity=document.get("id") or "")


def _message(said: dict[str, Any]) -> dict[str, Any]:
    items = said.get("content") or ()
    text = "".join(item["text"] for item in items if item["type"] == "text")
    thinking = "".join(item["thinking"] for item in items if item["type"] == "thinking")
    calls = [
        tool_call(made["id"], made["function"]["name"], made["function"].get("arguments") or "{}")
        for made in said.get("tool_calls") or ()
    ]
    spoken = (said.get("tool_plan") or "") + text
    message: dict[str, Any] = {"content": spoken or (None if calls else "")}
    if thinking:
        message["reasoning_content"] = thinking
    if calls:
        message["tool_calls"] = calls
    return message


class CohereStream(TranslatedStream):
    """One stream of typed events."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        super().__init__(call, document)
        self._usage: object = None

    @property
    def done(self) -> bool:
        """`message-end` came."""
        return self.ended

    @property
    def usage(self) -> Usage | None:
        """That of `message-end`."""
        return read_usage(self._usage)

    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one event; unknown types bring nothing."""
        document = self.document(event)
        delta = document.get("delta") or {}
        said = delta.get("message") or {}
        match document.get("type"):
            case "message-start":
                return self.begin(document.get("id") or "")
            case "content-start" | "content-delta":
                content = said["content"]
                if content.get("thinking"):
                    return [self.chunk({"reasoning_content": content["thinking"]})]
                return [self.chunk({"content": content["text"]})] if content.get("text") else []
            case "tool-plan-delta":
                return [self.chunk({"content": said["tool_plan"]})]
            case "tool-call-start" | "tool-call-delta":
                return self._call(document.get("index") or 0, said["tool_calls"])
            case "message-end":
                return self._finish(delta)
        return []

    def _call(self, index: int, made: dict[str, Any]) -> list[dict[str, Any]]:
        function = made.get("function") or {}
        arguments = function.get("arguments") or ""
        call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
        if made.get("id"):
            call |= tool_call(made["id"], function["name"], arguments)
        elif not arguments:
            return []
        return [self.chunk({"tool_calls": [call]})]

    def _finish(self, delta: dict[str, Any]) -> list[dict[str, Any]]:
        self._usage = delta.get("usage")
        reason = str(delta.get("finish_reason"))
        if reason in _BROKEN or delta.get("error"):
            raise _broken(reason, delta.get("error"), self.usage)
        return [self.chunk({}, _FINISH.get(reason, "stop")), *self.end()]
