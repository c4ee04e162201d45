"""The mock's OpenAI side: chat completions, embeddings, models, their streams and errors."""

import base64
import struct
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import Reply, compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.ranking import Ranking
from sluice_devstack.mock_provider.vectors import SIZE, vector

MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "o4-mini", "text-embedding-3-small")
DONE = b"data: [DONE]\n\n"
STREAM_ERROR = (
    b'data: {"error":{"message":"The server had an error while processing your request.",'
    b'"type":"server_error","param":null,"code":null}}\n\n'
)
_ERRORS = {
    400: ("invalid_request_error", None, "The request is not valid."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_denied", "You are not allowed to use this model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
}
_MESSAGES = {
    "context_length_exceeded": "This model's maximum context length is 128000 tokens.",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
    "content_filter": "The response was filtered due to the prompt triggering content management policy.",
}


_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embeddings",
    # OpenAI itself has none; servers that are like it do.
    "/v1/rerank": "rerank",
}


def error(status: int, code: str, message: str = "") -> bytes:
    """The error body for a status; `code` replaces the usual code of that status."""
    kind, usual, text = _ERRORS.get(
        status, ("server_error", None, "The server had an error while processing your request.")
    )
    return orjson.dumps(
        {
            "error": {
                "message": message or _MESSAGES.get(code, text),
                "type": kind,
                "param": None,
                "code": code or usual,
            }
        }
    )


def models() -> bytes:
    """The list of models."""
    rows = [{"id": name, "object": "model", "created": 0, "owned_by": "mock"} for name in MODELS]
    return orjson.dumps({"object": "list", "data": rows})


class OpenAIForm:
    """Chat completions and embeddings."""

    stream_type = "text/event-stream"
    stream_error = STREAM_ERROR

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """`/v1/chat/completions`, `/v1/embeddings` and `/v1/rerank`; the model stands in the body."""
        operation = _OPERATIONS.get(path)
        if operation is None:
            return None
        streams = operation == "chat" and bool(body.get("stream"))
        return Asked(model=str(body["model"]), operation=operation, streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The bearer token."""
        return request.headers.get("authorization", "").removeprefix("Bearer ")

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:  # noqa: ARG002
        """None: what it cannot read is refused as it is read."""
        return None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """A completion, embeddings or a ranking."""
        if asked.operation == "rerank":
            return Ranking(asked.body, model, behaviour, searches=False)
        if asked.operation == "embeddings":
            return Embeddings(asked.body, model, behaviour)
        return Chat(asked.body, model, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{error: {message, type, param, code}}`."""
        return error(status, code, message)


class Chat:
    """One chat completion: its values, its whole body, and its stream."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour, seq: int) -> None:
        self._model, self._behaviour = model, behaviour
        self._choices = int(body.get("n") or 1)
        self._asked_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._id, self._created = f"chatcmpl-{seq}", int(time.time())
        prompt = read_prompt(body["messages"])
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool["function"]["name"] for tool in body.get("tools") or ()],
            parallel=body.get("parallel_tool_calls", True) is not False,
            limit=body.get("max_completion_tokens") or body.get("max_tokens"),
            choices=self._choices,
        )
        self.usage = _usage(prompt.tokens, self._reply, behaviour)

    @property
    def _stop(self) -> str:
        if self._behaviour.stop:
            return self._behaviour.stop
        if self._reply.calls:
            return "tool_calls"
        return "length" if self._reply.cut else "stop"

    def _call_id(self, choice: int, index: int) -> str:
        return f"call_{self._id[9:]}_{choice}_{index}"

    def _message(self, choice: int) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._reply.text,
            "refusal": None,
        }
        if self._reply.calls:
            message["content"] = None
            message["tool_calls"] = [
                {
                    "id": self._call_id(choice, index),
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for index, (name, arguments) in enumerate(self._reply.calls)
            ]
        return message

    def body(self) -> bytes:
        """The whole answer."""
        document: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._model,
            "choices": [
                {
                    "index": choice,
                    "message": self._message(choice),
                    "logprobs": None,
                    "finish_reason": self._stop,
                }
                for choice in range(self._choices)
            ],
            "system_fingerprint": "fp_mock",
        }
        if self.usage is not None:
            document["usage"] = self.usage
        return orjson.dumps(document)

    def events(self) -> Iterator[bytes]:
        """The stream's events in order, `[DONE]` last."""
        for choice in range(self._choices):
            yield self._event(choice, {"role": "assistant", "content": "", "refusal": None})
            for piece in pieces(self._reply.text):
                yield self._event(choice, {"content": piece})
            for index, (name, arguments) in enumerate(self._reply.calls):
                yield from self._call_events(choice, index, name, arguments)
            yield self._event(choice, {}, self._stop)
        if self._asked_usage and self.usage is not None:
            yield self._chunk([], usage=self.usage)
        yield DONE

    def _call_events(self, choice: int, index: int, name: str, arguments: str) -> Iterator[bytes]:
        opening = {
            "index": index,
            "id": self._call_id(choice, index),
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        yield self._event(choice, {"tool_calls": [opening]})
        half = len(arguments) // 2
        for piece in (arguments[:half], arguments[half:]):
            delta = {"index": index, "function": {"arguments": piece}}
            yield self._event(choice, {"tool_calls": [delta]})

    def _event(self, choice: int, delta: dict[str, Any], stop: str | None = None) -> bytes:
        entry = {"index": choice, "delta": delta, "logprobs": None, "finish_reason": stop}
        return self._chunk([entry], usage=None)

    def _chunk(self, choices: list[dict[str, Any]], *, usage: dict[str, Any] | None) -> bytes:
        document: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "system_fingerprint": "fp_mock",
            "choices": choices,
        }
        if self._asked_usage:
            document["usage"] = usage
        return b"data: " + orjson.dumps(document) + b"\n\n"


def _usage(tokens: int, reply: Reply, behaviour: Behaviour) -> dict[str, Any] | None:
    if behaviour.usage == "none":
        return None
    return {
        "prompt_tokens": tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": tokens + reply.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": min(behaviour.cached, tokens),
            "audio_tokens": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": behaviour.reasoning, "audio_tokens": 0},
    }


class Embeddings:
    """One embeddings call: unit-free vectors that depend on the text alone."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour) -> None:
        given = body["input"]
        self._inputs: list[Any] = given if isinstance(given, list) else [given]
        if self._inputs and isinstance(self._inputs[0], int):
            self._inputs = [self._inputs]
        self._base64 = body.get("encoding_format") == "base64"
        self._size = int(body.get("dimensions") or SIZE)
        self._model = model
        tokens = sum(
            -(-len(entry.encode()) // 4) if isinstance(entry, str) else len(entry)
            for entry in self._inputs
        )
        self.usage: dict[str, Any] | None = {"prompt_tokens": tokens, "total_tokens": tokens}
        if behaviour.usage == "none":
            self.usage = None

    def body(self) -> bytes:
        """The whole answer."""
        document: dict[str, Any] = {
            "object": "list",
            "model": self._model,
            "data": [
                {"object": "embedding", "index": index, "embedding": self._vector(entry)}
                for index, entry in enumerate(self._inputs)
            ],
        }
        if self.usage is not None:
            document["usage"] = self.usage
        return orjson.dumps(document)

    def events(self) -> Iterator[bytes]:
        """Embeddings are never streamed."""
        return iter(())

    def _vector(self, entry: object) -> list[float] | str:
        values = vector(entry, self._size)
        if self._base64:
            return base64.b64encode(struct.pack(f"<{self._size}f", *values)).decode()
        return values
