"""Translates Converse's answers, whole and streamed, into OpenAI's form."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import MalformedError, ReportedError, Whole
from sluice_providers.chat_answer import (
    NOT_IN_FORM,
    TranslatedStream,
    completion,
    counted,
    message_of,
    tool_call,
)
from sluice_providers.errors import error_body
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.sse import Event

_FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
_BROKEN: Final = frozenset({"malformed_model_output", "malformed_tool_use"})
"""Reasons under which the model said nothing that a caller could use."""


def read_usage(document: object) -> Usage | None:
    """Usage as Converse reports it: `inputTokens` leaves out what went through the cache."""
    return counted(_counters, document)


def _counters(document: dict[str, Any]) -> Usage:
    read = count(document, "cacheReadInputTokens")
    details = document.get("cacheDetails")
    hour = sum(
        count(detail, "inputTokens")
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("ttl") == "1h"
    )
    written = max(count(document, "cacheWriteInputTokens"), hour)
    return Usage(
        input_tokens=count(document, "inputTokens") + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        output_tokens=count(document, "outputTokens"),
    )


def _broken(reason: str, usage: Usage | None) -> ReportedError:
    message = f"the model ended with {reason}"
    return ReportedError(message, error_body(message, code=reason), usage=usage)


def translate(call: Call, body: bytes) -> Whole:
    """A whole answer. Raises AdapterError."""
    document = parse_object(body)
    usage = read_usage(document.get("usage"))
    stop = str(document.get("stopReason"))
    if stop in _BROKEN:
        raise _broken(stop, usage)
    try:
        message = _message(document["output"]["message"]["content"])
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer's content blocks are not in the format") from exc
    whole = completion(call, [(message, _FINISH.get(stop, "stop"))], usage=usage)
    return replace(whole, tier=_tier(document))


def _tier(document: Mapping[str, Any]) -> str | None:
    tier = document.get("serviceTier")
    kind = tier.get("type") if isinstance(tier, dict) else None
    return kind if isinstance(kind, str) else None


def _message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    text = [block["text"] for block in blocks if "text" in block]
    calls = [
        tool_call(made["toolUseId"], made["name"], orjson.dumps(made["input"]).decode())
        for made in (block["toolUse"] for block in blocks if "toolUse" in block)
    ]
    thoughts = [
        _thought(block["reasoningContent"]) for block in blocks if "reasoningContent" in block
    ]
    return message_of(text, calls, thoughts)


def _thought(reasoning: dict[str, Any]) -> dict[str, Any]:
    """A block of reasoning in the form that Anthropic's own messages have."""
    if "redactedContent" in reasoning:
        return {"type": "redacted_thinking", "data": reasoning["redactedContent"]}
    told = reasoning["reasoningText"]
    block = {"type": "thinking", "thinking": told["text"]}
    return block | ({"signature": told["signature"]} if told.get("signature") else {})


class ConverseStream(TranslatedStream):
    """One stream; its reason to stop comes before its usage, which is last."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        super().__init__(call, document)
        self._usage: object = None
        self._tier: str | None = None
        self._calls: dict[int, int] = {}
        self._thoughts: dict[int, dict[str, Any]] = {}

    @property
    def usage(self) -> Usage | None:
        """That of `metadata`."""
        return read_usage(self._usage)

    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one event; unknown kinds bring nothing."""
        document = self.document(event)
        if event.kind.startswith(b"!"):
            code = event.kind[1:].decode(errors="replace")
            message = str(document.get("message") or "the provider reported an error")
            raise ReportedError(message, error_body(message, kind=code, code=code))
        match event.kind:
            case b"messageStart":
                return self.begin()
            case b"contentBlockStart":
                return self._start(document["contentBlockIndex"], document["start"])
            case b"contentBlockDelta":
                return self._delta(document["contentBlockIndex"], document["delta"])
            case b"contentBlockStop":
                block = self._thoughts.pop(document["contentBlockIndex"], None)
                return [] if block is None else [self.chunk({"thinking_blocks": [block]})]
            case b"messageStop":
                stop = document["stopReason"]
                if stop in _BROKEN:
                    raise _broken(stop, None)
                return [self.chunk({}, _FINISH.get(stop, "stop"))]
            case b"metadata":
                self._usage, self._tier = document.get("usage"), _tier(document)
                return self.end()
        return []

    def whole(self) -> Whole:
        """The assembled body, and the tier that `metadata` says it was served at."""
        return replace(super().whole(), tier=self._tier)

    def _start(self, index: int, start: dict[str, Any]) -> list[dict[str, Any]]:
        made = start.get("toolUse")
        if made is None:
            return []
        number = self._calls[index] = len(self._calls)
        call = {"index": number} | tool_call(made["toolUseId"], made["name"], "")
        return [self.chunk({"tool_calls": [call]})]

    def _delta(self, index: int, delta: dict[str, Any]) -> list[dict[str, Any]]:
        if "text" in delta:
            return [self.chunk({"content": delta["text"]})]
        if "toolUse" in delta:
            function = {"arguments": delta["toolUse"]["input"]}
            call = {"index": self._calls[index], "function": function}
            return [self.chunk({"tool_calls": [call]})] if function["arguments"] else []
        reasoning = delta.get("reasoningContent") or {}
        if "redactedContent" in reasoning:
            data = reasoning["redactedContent"]
            self._thoughts[index] = {"type": "redacted_thinking", "data": data}
            return []
        block = self._thoughts.setdefault(index, {"type": "thinking", "thinking": ""})
        if "signature" in reasoning:
            block["signature"] = reasoning["signature"]
        if not reasoning.get("text"):
            return []
        block["thinking"] += reasoning["text"]
        return [self.chunk({"reasoning_content": reasoning["text"]})]
