"""The mock's Ollama side: its own chat as newline-delimited JSON, and embeddings."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.vectors import SIZE, tokens, vector

_OPERATIONS = {"/api/chat": "chat", "/api/embed": "embeddings"}
_ERRORS = {
    400: "invalid request",
    401: "unauthorized",
    404: "model 'x' not found",
    429: "too many concurrent requests",
    503: "server busy, please try again. maximum pending requests exceeded",
}
_TOO_LONG = "the input length exceeds the context length"


def error(status: int, code: str, message: str = "") -> bytes:
    """`{error: "…"}`."""
    text = message or _ERRORS.get(status, "llama runner process has terminated")
    return orjson.dumps({"error": _TOO_LONG if code == "context_length_exceeded" else text})


class OllamaForm:
    """Chat and embeddings."""

    stream_type = "application/x-ndjson"
    stream_error = b'{"error":"an error was encountered while running the model"}\n'

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """`/api/chat` and `/api/embed`; a chat streams unless it says that it does not."""
        operation = _OPERATIONS.get(path)
        if operation is None:
            return None
        streams = operation == "chat" and body.get("stream") is not False
        return Asked(model=str(body["model"]), operation=operation, streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The bearer token."""
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def complaint(self, _request: web.BaseRequest, asked: Asked) -> str | None:
        """What Ollama could not read: contents that are no text, arguments that are no object."""
        for message in asked.body.get("messages") or ():
            if not isinstance(message.get("content", ""), str):
                return "json: cannot unmarshal array into Go struct field .messages.content of type string"
            for call in message.get("tool_calls") or ():
                if not isinstance(call["function"]["arguments"], dict):
                    return "json: cannot unmarshal string into Go struct field .arguments"
        return None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, _seq: int) -> Answer:
        """A message or embeddings."""
        if asked.operation == "embeddings":
            return Embedded(asked.body, model, behaviour)
        return Said(asked.body, model, behaviour)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{error: "…"}`."""
        return error(status, code, message)


def _counted(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as `answers` counts it."""
    images = [{"type": "image"} for _ in message.get("images") or ()]
    text = {"type": "text", "text": message.get("content") or ""}
    return {"role": message.get("role"), "content": [text, *images]}


class Said:
    """One chat call: its values, its whole body, and its lines."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour) -> None:
        self._model, self._behaviour = model, behaviour
        prompt = read_prompt([_counted(message) for message in body["messages"]])
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool["function"]["name"] for tool in body.get("tools") or ()],
            parallel=True,
            limit=(body.get("options") or {}).get("num_predict"),
            choices=1,
        )
        self._thinking = "Let me think." if behaviour.reasoning and body.get("think") else ""
        self.usage: dict[str, Any] | None = None
        if behaviour.usage != "none":
            self.usage = {
                "prompt_eval_count": prompt.tokens,
                "eval_count": self._reply.output_tokens,
            }

    def _line(self, message: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
        line: dict[str, Any] = {
            "model": self._model,
            "created_at": "2025-01-01T00:00:00.000000Z",
            "message": {"role": "assistant", "content": ""} | message,
            "done": done,
        }
        if done:
            stop = self._behaviour.stop or ("length" if self._reply.cut else "stop")
            line |= {"done_reason": stop, "total_duration": 1, "load_duration": 1}
            line |= self.usage or {}
        return line

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {"function": {"index": index, "name": name, "arguments": orjson.loads(arguments)}}
            for index, (name, arguments) in enumerate(self._reply.calls)
        ]

    def body(self) -> bytes:
        """The whole answer."""
        message: dict[str, Any] = {"content": self._reply.text}
        if self._thinking:
            message["thinking"] = self._thinking
        if self._reply.calls:
            message["tool_calls"] = self._calls()
        return orjson.dumps(self._line(message, done=True))

    def events(self) -> Iterator[bytes]:
        """The lines in order, each tool call on one of its own."""
        said: list[dict[str, Any]] = [{"thinking": piece} for piece in pieces(self._thinking)]
        said += [{"content": piece} for piece in pieces(self._reply.text)]
        said += [{"tool_calls": [call]} for call in self._calls()]
        for message in said:
            yield orjson.dumps(self._line(message)) + b"\n"
        yield orjson.dumps(self._line({}, done=True)) + b"\n"


class Embedded:
    """One embeddings call."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour) -> None:
        given = body["input"]
        self._model = model
        self._texts = [given] if isinstance(given, str) else list(given)
        self._size = int(body.get("dimensions") or SIZE)
        self.usage: dict[str, Any] | None = None
        if behaviour.usage != "none":
            self.usage = {"prompt_eval_count": tokens(self._texts)}

    def body(self) -> bytes:
        """The whole answer."""
        rows = [vector(text, self._size) for text in self._texts]
        return orjson.dumps({"model": self._model, "embeddings": rows} | (self.usage or {}))

    def events(self) -> Iterator[bytes]:
        """Embeddings are never streamed."""
        return iter(())
