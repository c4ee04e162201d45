"""Translates Anthropic's answers, whole and streamed, into OpenAI's form."""

import time
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, consistent, count, part
from sluice_providers.adapter import MalformedError, ReportedError, Whole
from sluice_providers.assembly import ChatAssembly
from sluice_providers.chat_answer import openai_usage
from sluice_providers.errors import error_body
from sluice_providers.openai import text_bytes
from sluice_providers.parsing import parse_object
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
    """Usage as Anthropic reports it; None where it is missing, counts nothing or has a counter that is no number.

    Its `input_tokens` leaves out what went through the cache. Parts that are more than their total raise it
    (`consistent`).
    """
    if not isinstance(document, dict):
        return None
    try:
        usage = consistent(_counters(document))
    except UncountableError:
        return None
    return usage if usage.input_tokens or usage.output_tokens else None


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


def translate(body: bytes, *, model: str) -> Whole:
    """A whole answer. Raises AdapterError."""
    document = parse_object(body)
    if document.get("type") == "error":
        raise reported(document)
    blocks = document.get("content")
    if not isinstance(blocks, list):
        raise MalformedError("the answer has no list of content blocks")
    try:
        message = _message(blocks)
    except (AttributeError, KeyError, TypeError) as exc:
        raise MalformedError("the answer's content blocks are not in the format") from exc
    stop = document.get("stop_reason")
    if stop == "refusal":
        message["refusal"] = _REFUSED
    usage = read_usage(document.get("usage"))
    finish = _FINISH.get(str(stop), "stop")
    answer: dict[str, Any] = {
        "id": document.get("id", ""),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    reported_usage = openai_usage(usage)
    if reported_usage is not None:
        answer["usage"] = reported_usage
    size = text_bytes(message)
    return Whole(
        body=orjson.dumps(answer),
        usage=usage,
        finish=(finish,),
        output_bytes=size,
        tier=_tier(document.get("usage")),
    )


def _tier(usage: object) -> str | None:
    tier = usage.get("service_tier") if isinstance(usage, dict) else None
    return "default" if tier == "standard" else tier if isinstance(tier, str) else None


def _message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    text = [block["text"] for block in blocks if block["type"] == "text"]
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {
                "name": block["name"],
                "arguments": orjson.dumps(block["input"]).decode(),
            },
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    if text or not calls:
        message["content"] = "".join(text)
    if calls:
        message["tool_calls"] = calls
    thinking = [block for block in blocks if block["type"] in {"thinking", "redacted_thinking"}]
    if thinking:
        message["reasoning_content"] = "".join(block.get("thinking", "") for block in thinking)
        # Sent back as they are, they let a conversation with tools go on thinking.
        message["thinking_blocks"] = thinking
    return message


class AnthropicStream:
    """One message stream; its chunks are in OpenAI's form."""

    def __init__(self, *, model: str, usage_asked: bool) -> None:
        self._model, self._usage_asked = model, usage_asked
        self._assembly = ChatAssembly()
        self._usage: dict[str, Any] = {}
        self._head: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._thinking: dict[int, dict[str, Any]] = {}
        self._ended = False

    @property
    def done(self) -> bool:
        """`message_stop` came."""
        return self._ended

    @property
    def ended(self) -> bool:
        """`message_stop` came."""
        return self._ended

    @property
    def usage(self) -> Usage | None:
        """The counters so far: those of the start, overridden by the cumulative ones of `message_delta`."""
        return read_usage(self._usage)

    @property
    def output_bytes(self) -> int:
        """Bytes of text so far."""
        return self._assembly.output_bytes

    def feed(self, event: Event) -> list[bytes]:
        """Take one event; unknown types, which Anthropic may add at any time, bring nothing."""
        document = parse_object(event.data)
        try:
            chunks = self._translate(document)
        except (AttributeError, KeyError, TypeError) as exc:
            raise MalformedError("a stream event is not in the format") from exc
        for chunk in chunks:
            self._assembly.add(chunk)
        return [orjson.dumps(chunk) for chunk in chunks]

    def _translate(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        match document.get("type"):
            case "error":
                raise reported(document)
            case "message_start":
                return self._start(document["message"])
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
                self._ended = True
                return self._closing()
        return []

    def _start(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        self._head = {
            "id": message.get("id", ""),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self._model,
        }
        self._count(message.get("usage"))
        return [self._chunk({"role": "assistant", "content": ""})]

    def _count(self, usage: object) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _block(self, index: int, block: dict[str, Any]) -> list[dict[str, Any]]:
        if block["type"] in {"thinking", "redacted_thinking"}:
            self._thinking[index] = dict(block)
        if block["type"] == "text" and block.get("text"):
            return [self._chunk({"content": block["text"]})]
        if block["type"] != "tool_use":
            return []
        number = self._calls[index] = len(self._calls)
        call = {
            "index": number,
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": ""},
        }
        return [self._chunk({"tool_calls": [call]})]

    def _delta(self, index: int, delta: dict[str, Any]) -> list[dict[str, Any]]:
        match delta["type"]:
            case "text_delta":
                return [self._chunk({"content": delta["text"]})]
            case "input_json_delta" if index in self._calls and delta["partial_json"]:
                function = {"arguments": delta["partial_json"]}
                call = {"index": self._calls[index], "function": function}
                return [self._chunk({"tool_calls": [call]})]
            case "thinking_delta":
                block = self._thinking[index]
                block["thinking"] = block.get("thinking", "") + delta["thinking"]
                return [self._chunk({"reasoning_content": delta["thinking"]})]
            case "signature_delta":
                self._thinking[index]["signature"] = delta["signature"]
        return []

    def _block_end(self, index: int) -> list[dict[str, Any]]:
        block = self._thinking.pop(index, None)
        return [] if block is None else [self._chunk({"thinking_blocks": [block]})]

    def _finish(self, stop: str | None) -> list[dict[str, Any]]:
        if stop is None:
            return []
        delta = {"refusal": _REFUSED} if stop == "refusal" else {}
        return [self._chunk(delta, _FINISH.get(stop, "stop"))]

    def _closing(self) -> list[dict[str, Any]]:
        usage = openai_usage(self.usage)
        if not self._usage_asked or usage is None:
            return []
        return [self._head | {"choices": [], "usage": usage}]

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head | {"choices": [choice]}

    def whole(self) -> Whole:
        """The assembled body; usage is always in it."""
        document = self._assembly.whole(openai_usage(self.usage))
        for choice in document["choices"]:
            for call in choice["message"].get("tool_calls", ()):
                call["function"]["arguments"] = call["function"]["arguments"] or "{}"
        return Whole(
            body=orjson.dumps(document),
            usage=self.usage,
            finish=self._assembly.finish,
            output_bytes=self.output_bytes,
            tier=_tier(self._usage),
        )
