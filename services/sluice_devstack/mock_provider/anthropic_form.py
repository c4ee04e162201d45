"""The mock's Anthropic side: messages, their stream and errors."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Asked

STREAM_ERROR = (
    b"event: error\n"
    b'data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
)
_ERRORS = {
    400: ("invalid_request_error", "The request is not valid."),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low."),
    403: ("permission_error", "Your API key does not have permission to use the resource."),
    404: ("not_found_error", "The requested resource could not be found."),
    413: ("request_too_large", "Request exceeds the maximum size."),
    429: ("rate_limit_error", "This request would exceed your rate limit."),
    529: ("overloaded_error", "Overloaded"),
}


def error(status: int, code: str, message: str = "") -> bytes:
    """The error body for a status; the code `context_length_exceeded` gives Anthropic's own words for it."""
    kind, text = _ERRORS.get(status, ("api_error", "Internal server error"))
    if code == "context_length_exceeded":
        text = "prompt is too long: 208310 tokens > 200000 maximum"
    document = {"type": "error", "error": {"type": kind, "message": message or text}}
    return orjson.dumps(document | {"request_id": "req_mock"})


def complaint(body: Mapping[str, Any], version: str | None) -> str | None:
    """What Anthropic would refuse about this request, or None."""
    if not version:
        return "anthropic-version: header is required"
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or limit < 1:
        return "max_tokens: Field required"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    answered: set[str] = set()
    for number, message in enumerate(messages):
        if message.get("role") not in {"user", "assistant"}:
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        content = message.get("content")
        if not content:
            return f"messages.{number}: content must not be empty"
        answered = {
            part["tool_use_id"]
            for part in (content if isinstance(content, list) else ())
            if part.get("type") == "tool_result"
        }
        missing = _called(messages[number - 1]) - answered if number else set()
        if missing:
            return (
                f"messages.{number}: tool_use ids without tool_result: {', '.join(sorted(missing))}"
            )
    return None


def _called(message: dict[str, Any]) -> set[str]:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return {part["id"] for part in parts if part.get("type") == "tool_use"}


class AnthropicForm:
    """Messages."""

    stream_type = "text/event-stream"
    stream_error = STREAM_ERROR

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """`/v1/messages`; the model stands in the body."""
        if path != "/v1/messages":
            return None
        return Asked(
            model=str(body["model"]), operation="chat", streams=bool(body.get("stream")), body=body
        )

    def key(self, request: web.BaseRequest) -> str:
        """The `x-api-key` header."""
        return request.headers.get("x-api-key", "")

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:
        """What Anthropic checks: its version header, `max_tokens`, the order of messages and tool results."""
        return complaint(asked.body, request.headers.get("anthropic-version"))

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> "Message":
        """A message."""
        return Message(asked.body, model, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{type: error, error: {type, message}}`."""
        return error(status, code, message)


class Message:
    """One messages call: its values, its whole body, and its stream."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour, seq: int) -> None:
        self._model, self._behaviour, self._id = model, behaviour, f"msg_{seq}"
        choice = body.get("tool_choice") or {}
        prompt = read_prompt(body["messages"], body.get("system"))
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool["name"] for tool in body.get("tools") or ()],
            parallel=choice.get("disable_parallel_tool_use") is not True,
            limit=body["max_tokens"],
            choices=1,
        )
        self.usage = self._usage(prompt.tokens)

    def _usage(self, tokens: int) -> dict[str, Any] | None:
        if self._behaviour.usage == "none":
            return None
        read = min(self._behaviour.cached, tokens)
        written = min(self._behaviour.cache_write, tokens - read)
        return {
            "input_tokens": tokens - read - written,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": written,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": self._reply.output_tokens,
            "service_tier": "standard",
        }

    @property
    def _stop(self) -> str:
        if self._behaviour.stop:
            return self._behaviour.stop
        if self._reply.calls:
            return "tool_use"
        return "max_tokens" if self._reply.cut else "end_turn"

    def _blocks(self) -> list[dict[str, Any]]:
        if not self._reply.calls:
            return [{"type": "text", "text": self._reply.text}]
        return [
            {
                "type": "tool_use",
                "id": f"toolu_{self._id[4:]}_{index}",
                "name": name,
                "input": orjson.loads(arguments),
            }
            for index, (name, arguments) in enumerate(self._reply.calls)
        ]

    def body(self) -> bytes:
        """The whole answer."""
        return orjson.dumps(self._document(self._blocks(), self._stop, self.usage))

    def _document(
        self, content: list[dict[str, Any]], stop: str | None, usage: dict[str, Any] | None
    ) -> dict[str, Any]:
        document: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
        }
        if usage is not None:
            document["usage"] = usage
        return document

    def events(self) -> Iterator[bytes]:
        """The stream's events in order, with a ping after the first block opens."""
        usage = None if self.usage is None else self.usage | {"output_tokens": 1}
        yield _event("message_start", message=self._document([], None, usage))
        for index, block in enumerate(self._blocks()):
            yield from self._block_events(index, block)
        closing: dict[str, Any] = {"delta": {"stop_reason": self._stop, "stop_sequence": None}}
        if self.usage is not None:
            closing["usage"] = {"output_tokens": self.usage["output_tokens"]}
        yield _event("message_delta", **closing)
        yield _event("message_stop")

    def _block_events(self, index: int, block: dict[str, Any]) -> Iterator[bytes]:
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        else:
            empty = block | {"input": {}}
            arguments = self._reply.calls[index][1]
            half = len(arguments) // 2
            deltas = [
                {"type": "input_json_delta", "partial_json": piece}
                for piece in ("", arguments[:half], arguments[half:])
            ]
        yield _event("content_block_start", index=index, content_block=empty)
        if index == 0:
            yield _event("ping")
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)


def _event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind} | content) + b"\n\n"
