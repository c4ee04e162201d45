"""The mock's Cohere side: v2 chat, its stream and errors, and embeddings."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.ranking import Ranking
from sluice_devstack.mock_provider.vectors import SIZE, tokens, vector

_OPERATIONS = {"/v2/chat": "chat", "/v2/embed": "embeddings", "/v2/rerank": "rerank"}
_ERRORS = {
    400: "invalid request: message must be at least 1 token long",
    401: "invalid api token",
    402: "Please add or update your payment method at https://dashboard.cohere.com/billing",
    404: "model 'x' not found, make sure the correct model ID was used",
    429: "You are past the per minute request limit, please wait and try again later.",
    498: "invalid token",
    499: "request cancelled",
}
_MESSAGES = {
    "context_length_exceeded": "too many tokens: size limit exceeded by 11326 tokens. Try using shorter inputs.",
    "blocked": "blocked input: please ensure that the input is clean",
}


def error(status: int, code: str, message: str = "") -> bytes:
    """`{id, message}`."""
    text = message or _MESSAGES.get(code) or _ERRORS.get(status, "internal server error")
    return orjson.dumps({"id": "err_mock", "message": text})


def complaint(body: Mapping[str, Any]) -> str | None:
    """What Cohere would refuse about a chat request, or None."""
    for name in body:
        if name in {"top_p", "stop", "n", "tool_call_id"}:
            return f"unknown field: parameter '{name}' is not a valid field"
    if body.get("tool_choice") not in {None, "NONE", "REQUIRED"}:
        return "invalid request: tool_choice must be NONE or REQUIRED"
    called: set[str] = set()
    for message in body.get("messages") or ():
        if message["role"] == "tool":
            if message["tool_call_id"] not in called:
                return "invalid request: tool_call_id of a tool message not found"
        elif message["role"] == "assistant":
            called |= {call["id"] for call in message.get("tool_calls") or ()}
    return None


class CohereForm:
    """Chat, embeddings and rankings."""

    stream_type = "text/event-stream"
    stream_error = (
        b'event: message-end\ndata: {"type":"message-end","delta":'
        b'{"finish_reason":"ERROR","error":"the model failed to generate"}}\n\n'
    )

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """`/v2/chat`, `/v2/embed` and `/v2/rerank`."""
        operation = _OPERATIONS.get(path)
        if operation is None:
            return None
        streams = operation == "chat" and bool(body.get("stream"))
        return Asked(model=str(body["model"]), operation=operation, streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The bearer token."""
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def complaint(self, _request: web.BaseRequest, asked: Asked) -> str | None:
        """What Cohere checks: names of fields, ids of tool results; an `input_type` for embeddings."""
        if asked.operation == "embeddings" and not asked.body.get("input_type"):
            return "invalid request: valid input_type must be provided with the provided model"
        return complaint(asked.body) if asked.operation == "chat" else None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """A message, embeddings or a ranking."""
        if asked.operation == "rerank":
            return Ranking(asked.body, model, behaviour, searches=True)
        if asked.operation == "embeddings":
            return Embedded(asked.body, behaviour)
        return Chat(asked.body, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{message}`."""
        return error(status, code, message)


class Chat:
    """One chat call: its values, its whole body, and its stream."""

    def __init__(self, body: Mapping[str, Any], behaviour: Behaviour, seq: int) -> None:
        self._behaviour, self._seq = behaviour, seq
        self._thinks = bool(behaviour.reasoning) and body.get("thinking") != {"type": "disabled"}
        prompt = read_prompt(body["messages"])
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool["function"]["name"] for tool in body.get("tools") or ()],
            parallel=True,
            limit=body.get("max_tokens"),
            choices=1,
        )
        self.usage: dict[str, Any] | None = None
        if behaviour.usage != "none":
            output = self._reply.output_tokens
            self.usage = {
                "billed_units": {
                    "input_tokens": float(prompt.tokens),
                    "output_tokens": float(output),
                },
                # With the tokens of its own prompt around the caller's.
                "tokens": {
                    "input_tokens": prompt.tokens + 60.0,
                    "output_tokens": output + 2.0,
                },
                "cached_tokens": float(behaviour.cached),
            }

    @property
    def _stop(self) -> str:
        if self._behaviour.stop:
            return self._behaviour.stop
        if self._reply.calls:
            return "TOOL_CALL"
        return "MAX_TOKENS" if self._reply.cut else "COMPLETE"

    @property
    def _plan(self) -> str:
        return "I will call tools." if self._reply.calls else ""

    def _content(self) -> list[dict[str, Any]]:
        thinking = [{"type": "thinking", "thinking": "Let me think."}] if self._thinks else []
        text = [{"type": "text", "text": self._reply.text}] if self._reply.text else []
        return thinking + text

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"{name}_{self._seq}_{index}",
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for index, (name, arguments) in enumerate(self._reply.calls)
        ]

    def body(self) -> bytes:
        """The whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self._content()}
        if self._reply.calls:
            message |= {"tool_plan": self._plan, "tool_calls": self._calls()}
        document: dict[str, Any] = {
            "id": f"cohere-{self._seq}",
            "finish_reason": self._stop,
            "message": message,
        }
        return orjson.dumps(document | ({"usage": self.usage} if self.usage else {}))

    def events(self) -> Iterator[bytes]:
        """The stream's events in order."""
        empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
        yield _event("message-start", {"message": empty}, id=f"cohere-{self._seq}")
        for index, item in enumerate(self._content()):
            kind = item["type"]
            start = {"message": {"content": {"type": kind, kind: ""}}}
            yield _event("content-start", start, index=index)
            for piece in pieces(item[kind]):
                yield _event("content-delta", {"message": {"content": {kind: piece}}}, index=index)
            yield _event("content-end", None, index=index)
        for piece in pieces(self._plan):
            yield _event("tool-plan-delta", {"message": {"tool_plan": piece}})
        for index, call in enumerate(self._calls()):
            yield from _call_events(index, call)
        end: dict[str, Any] = {"finish_reason": self._stop}
        yield _event("message-end", end | ({"usage": self.usage} if self.usage else {}))
        yield b"data: [DONE]\n\n"


def _call_events(index: int, call: dict[str, Any]) -> Iterator[bytes]:
    function = call["function"]
    start = call | {"function": {"name": function["name"], "arguments": ""}}
    yield _event("tool-call-start", {"message": {"tool_calls": start}}, index=index)
    half = len(function["arguments"]) // 2
    for piece in (function["arguments"][:half], function["arguments"][half:]):
        delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
        yield _event("tool-call-delta", delta, index=index)
    yield _event("tool-call-end", None, index=index)


def _event(kind: str, delta: dict[str, Any] | None, **more: Any) -> bytes:
    document = {"type": kind} | more | ({} if delta is None else {"delta": delta})
    return f"event: {kind}\ndata: ".encode() + orjson.dumps(document) + b"\n\n"


class Embedded:
    """One embeddings call."""

    def __init__(self, body: Mapping[str, Any], behaviour: Behaviour) -> None:
        self._texts = list(body["texts"])
        self._size = int(body.get("output_dimension") or SIZE)
        self.usage: dict[str, Any] | None = None
        if behaviour.usage != "none":
            self.usage = {"billed_units": {"input_tokens": float(tokens(self._texts))}}

    def body(self) -> bytes:
        """The whole answer."""
        document: dict[str, Any] = {
            "id": "embed",
            "embeddings": {"float": [vector(text, self._size) for text in self._texts]},
            "texts": self._texts,
            "response_type": "embeddings_by_type",
        }
        version = {"api_version": {"version": "2"}}
        return orjson.dumps(document | {"meta": version | (self.usage or {})})

    def events(self) -> Iterator[bytes]:
        """Embeddings are never streamed."""
        return iter(())
