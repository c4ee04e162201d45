"""Translates Anthropic's answers, whole and streamed, into OpenAI's form."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count, part
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

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_REFUSED = "The model refused to answer."


def read_usage(document: object) -> Usage | None:
    """Usage as Anthropic reports it, `counted`; its `input_tokens` leaves out what went through the cache."""
    return counted(_counters, document)


def _counters(document: dict[str, Any]) -> Usage:
    read = count(document, "cache_read_input_tokens")
    kept = part(document, "cache_creation")
    hour = count(kept, "ephemeral_1h_input_tokens")
    minutes = count(kept, "ephemeral_5m_input_tokens")
    written = max(count(document, "cache_creation_input_tokens"), hour + minutes)
    return Usage(
        input_tokens=count(document, "input_tokens") + read + written,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        output_tokens=count(document, "output_tokens"),
        reasoning_tokens=count(part(document, "output_tokens_details"), "thinking_tokens"),
    )


def reported(document: dict[str, Any]) -> ReportedError:
    """The error of an `{type: error, error: {type, message}}` document."""
    kind, message = error_text(document)
    return ReportedError(message, error_body(message, kind=kind, code=kind))


def error_text(document: dict[str, Any]) -> tuple[str, str]:
    """Type and message of an error document."""
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or "the provider reported an error")
    return str(error.get("type") or "api_error"), message


def translate(call: Call, body: bytes) -> Whole:
    """A whole answer. Raises AdapterError."""
    document = parse_object(body)
    if document.get("type") == "error":
        raise reported(document)
    blocks = document.get("content")
    if not isinstance(blocks, list):
        raise MalformedError("the answer has no list of content blocks")
    try:
        message = _message(blocks)
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer's content blocks are not in the format") from exc
    stop = document.get("stop_reason")
    if stop == "refusal":
        message["refusal"] = _REFUSED
    usage = document.get("usage")
    whole = completion(
        call,
        [(message, _FINISH.get(str(stop), "stop"))],
        usage=read_usage(usage),
        identity=document.get("id") or "",
    )
    return replace(whole, tier=_tier(usage))


def _tier(usage: object) -> str | None:
    tier = usage.get("service_tier") if isinstance(usage, dict) else None
    return "default" if tier == "standard" else tier if isinstance(tier, str) else None


def _message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    text = [block["text"] for block in blocks if block["type"] == "text"]
    calls = [
        tool_call(block["id"], block["name"], orjson.dumps(block["input"]).decode())
        for block in blocks
        if block["type"] == "tool_use"
    ]
    thinking = [block for block in blocks if block["type"] in {"thinking", "redacted_thinking"}]
    return message_of(text, calls, thinking)


class AnthropicStream(TranslatedStream):
    """One message stream; its chunks are in OpenAI's form."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        super().__init__(call, document)
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._thinking: dict[int, dict[str, Any]] = {}

    @property
    def done(self) -> bool:
        """`message_stop` came: the counters before it may not be the last."""
        return self.ended

    @property
    def usage(self) -> Usage | None:
        """The counters so far: those of the start, overridden by the cumulative ones of `message_delta`."""
        return read_usage(self._usage)

    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one event; unknown types, which Anthropic may add at any time, bring none."""
        document = self.document(event)
        match document.get("type"):
            case "error":
                raise reported(document)
            case "message_start":
                self._count(document["message"].get("usage"))
                return self.begin(document["message"].get("id") or "")
            case "content_block_start":
                return self._block(document["index"], document["content_block"])
            case "content_block_delta":
                return self._delta(document["index"], document["delta"])
            case "content_block_stop":
                return self._block_end(document["index"])
            case "message_delta":
                self._count(document.get("usage"))
                return self._finish(document["delta"].get("stop_reason"))
            case "message_stop":
                return self.end()
        return []

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _block(self, index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
        if block["type"] in {"thinking", "redacted_thinking"}:
            self._thinking[index] = dict(block)
        if block["type"] == "text" and block.get("text"):
            return [self.chunk({"content": block["text"]})]
        if block["type"] != "tool_use":
            return []
        number = self._calls[index] = len(self._calls)
        call = {"index": number} | tool_call(block["id"], block["name"], "")
        return [self.chunk({"tool_calls": [call]})]

    def _delta(self, index: int, delta: dict[str, Any]) -> list[dict[str, Any]]:
        match delta["type"]:
            case "text_delta":
                return [self.chunk({"content": delta["text"]})]
            case "input_json_delta" if index in self._calls and delta["partial_json"]:
                function = {"arguments": delta["partial_json"]}
                call = {"index": self._calls[index], "function": function}
                return [self.chunk({"tool_calls": [call]})]
            case "thinking_delta":
                block = self._thinking[index]
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
                return [self.chunk({"reasoning_content": delta["thinking"]})]
            case "signature_delta":
                self._thinking[index]["signature"] = delta["signature"]
        return []

    def _block_end(self, index: int) -> list[dict[str, Any]]:
        block = self._thinking.pop(index, None)
        return [] if block is None else [self.chunk({"thinking_blocks": [block]})]

    def _finish(self, stop: str | None) -> list[dict[str, Any]]:
        if stop is None:
            return []
        delta = {"refusal": _REFUSED} if stop == "refusal" else {}
        return [self.chunk(delta, _FINISH.get(stop, "stop"))]

    def whole(self) -> Whole:
        """The assembled body, and the tier that served it."""
        return replace(super().whole(), tier=_tier(self._usage))
