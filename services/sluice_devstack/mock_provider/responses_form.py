"""The mock's Responses side: OpenAI's typed output items, their stream and errors."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Asked
from sluice_devstack.mock_provider.openai_form import error

STREAM_ERROR = (
    b'event: error\ndata: {"type":"error","code":"server_error","message":"The server had an error'
    b' while processing your request.","param":null,"sequence_number":9}\n\n'
)
_PATHS = frozenset({"/v1/responses", "/openai/v1/responses"})


class ResponsesForm:
    """Responses, at OpenAI's path and at Azure's."""

    stream_type = "text/event-stream"
    stream_error = STREAM_ERROR

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """The model stands in the body."""
        if path not in _PATHS:
            return None
        model, streams = str(body["model"]), bool(body.get("stream"))
        return Asked(model=model, operation="responses", streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The bearer token, or Azure's header."""
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        return request.headers.get("api-key", bearer)

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:  # noqa: ARG002
        """What OpenAI checks of the input, and the fields of chat that it does not know."""
        if "messages" in asked.body:
            return "Unsupported parameter: 'messages'. In the Responses API, it moved to 'input'."
        if not asked.body.get("input"):
            return "One of 'input', 'prompt' or 'previous_response_id' must be provided."
        return None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> "Response":
        """A response."""
        return Response(asked.body, model, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{error: {message, type, param, code}}`."""
        return error(status, code, message)


def _messages(given: object) -> list[dict[str, Any]]:
    """The input as messages whose text can be counted; a tool's result is what its tool says."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for item in given if isinstance(given, list) else ():
        if item.get("type") == "function_call_output":
            messages.append({"role": "tool", "content": item["output"]})
        elif item.get("type", "message") == "message":
            messages.append(item)
    return messages


class Response:
    """One response: its values, its whole body, and its stream. A stop of `failed` makes it fail."""

    def __init__(self, body: Mapping[str, Any], model: str, behaviour: Behaviour, seq: int) -> None:
        self._request, self._model, self._behaviour = body, model, behaviour
        self._id, self._created = f"resp_{seq}", int(time.time())
        prompt = read_prompt(_messages(body.get("input")), body.get("instructions"))
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool.get("name", "") for tool in body.get("tools") or ()],
            parallel=body.get("parallel_tool_calls", True) is not False,
            limit=body.get("max_output_tokens"),
            choices=1,
        )
        self.usage = self._usage(prompt.tokens)

    def _usage(self, tokens: int) -> dict[str, Any] | None:
        if self._behaviour.usage == "none":
            return None
        output = self._reply.output_tokens
        return {
            "input_tokens": tokens,
            "input_tokens_details": {
                "cached_tokens": min(self._behaviour.cached, tokens),
                "cache_write_tokens": 0,
            },
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": self._behaviour.reasoning},
            "total_tokens": tokens + output,
        }

    @property
    def _incomplete(self) -> str | None:
        if self._behaviour.stop in {"max_output_tokens", "content_filter"}:
            return self._behaviour.stop
        return "max_output_tokens" if self._reply.cut else None

    def _items(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if self._behaviour.reasoning:
            thought = {"type": "summary_text", "text": "Thinking."}
            items.append({"id": f"rs_{self._id}", "type": "reasoning", "summary": [thought]})
        for index, (name, arguments) in enumerate(self._reply.calls):
            items.append(
                {
                    "id": f"fc_{self._id}_{index}",
                    "type": "function_call",
                    "status": "completed",
                    "call_id": f"call_{self._id}_{index}",
                    "name": name,
                    "arguments": arguments,
                }
            )
        if not self._reply.calls:
            text = {
                "type": "output_text",
                "text": self._reply.text,
                "annotations": [],
                "logprobs": [],
            }
            items.append(
                {
                    "id": f"msg_{self._id}",
                    "type": "message",
                    "status": "completed",
                    "role": "assistant",
                    "content": [text],
                }
            )
        return items

    def _document(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        request, incomplete = self._request, self._incomplete if status == "incomplete" else None
        failed = {"code": "server_error", "message": "The model failed to generate a response."}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": failed if status == "failed" else None,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "model": self._model,
            "output": output,
            "parallel_tool_calls": request.get("parallel_tool_calls", True) is not False,
            "previous_response_id": request.get("previous_response_id"),
            "reasoning": {"effort": None, "summary": None},
            "store": request.get("store", True),
            "temperature": 1.0,
            "text": request.get("text") or {"format": {"type": "text"}},
            "tool_choice": request.get("tool_choice") or "auto",
            "tools": request.get("tools") or [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": self.usage if output or status != "in_progress" else None,
            "user": None,
            "metadata": {},
        }

    def _end(self) -> str:
        if self._behaviour.stop == "failed":
            return "failed"
        return "completed" if self._incomplete is None else "incomplete"

    def body(self) -> bytes:
        """The whole answer."""
        return orjson.dumps(self._document(self._end(), self._items()))

    def events(self) -> Iterator[bytes]:
        """The stream's events in order, numbered."""
        for number, event in enumerate(self._events()):
            document = event | {"sequence_number": number}
            yield b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(document))

    def _events(self) -> Iterator[dict[str, Any]]:
        for kind in ("created", "in_progress"):
            yield {"type": f"response.{kind}", "response": self._document("in_progress", [])}
        items, end = self._items(), self._end()
        for index, item in enumerate(items):
            place = {"output_index": index, "item_id": item["id"]}
            empty = {name: [] if isinstance(v, list) else v for name, v in item.items()}
            if "arguments" in item:
                empty["arguments"] = ""
            yield {"type": "response.output_item.added", "output_index": index, "item": empty}
            if item["type"] == "message":
                yield from self._text(place, item["content"][0])
            elif item["type"] == "function_call":
                yield from self._arguments(place, item)
            yield {"type": "response.output_item.done", "output_index": index, "item": item}
        yield {"type": f"response.{end}", "response": self._document(end, items)}

    @staticmethod
    def _text(place: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        place = place | {"content_index": 0}
        yield {"type": "response.content_part.added", **place, "part": part | {"text": ""}}
        for piece in pieces(part["text"]):
            yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": part}

    @staticmethod
    def _arguments(place: dict[str, Any], item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind, whole = "response.function_call_arguments", item["arguments"]
        half = len(whole) // 2
        for piece in (whole[:half], whole[half:]):
            yield {"type": f"{kind}.delta", **place, "delta": piece}
        yield {"type": f"{kind}.done", **place, "arguments": whole, "name": item["name"]}
