"""The mock's Bedrock side: Converse, its binary stream and errors, and the models of InvokeModel."""

import binascii
import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.answers import compose, pieces, read_prompt
from sluice_devstack.mock_provider.bedrock_invoked import (
    Invoked,
    invoked_complaint,
    operation_of,
)
from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked

_PATH = re.compile(r"/model/(?P<model>.+)/(?P<method>converse|converse-stream|invoke)")
_ERRORS = {
    400: ("ValidationException", "The model returned the following errors: invalid request"),
    401: ("UnauthorizedException", "The token is not valid."),
    403: (
        "AccessDeniedException",
        "You don't have access to the model with the specified model ID.",
    ),
    404: ("ResourceNotFoundException", "Could not resolve the foundation model."),
    408: ("ModelTimeoutException", "Model has timed out in processing the request."),
    424: ("ModelErrorException", "The model failed to process the request."),
    429: ("ThrottlingException", "Too many requests, please wait before trying again."),
    503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
}
_INTERNAL = ("InternalServerException", "The system encountered an unexpected error.")
_TOO_LONG = "Input is too long for requested model."
_CREDENTIAL = re.compile(r"Credential=([^/]+)/")
_FORMATS = {"png", "jpeg", "gif", "webp"}


def error(status: int, code: str, message: str = "") -> bytes:
    """`{message}`."""
    text = message or _ERRORS.get(status, _INTERNAL)[1]
    return orjson.dumps({"message": _TOO_LONG if code == "context_length_exceeded" else text})


def frame(payload: Mapping[str, Any], **headers: str) -> bytes:
    """One message of a binary event stream; headers by their names without the colon, `_` for `-`."""
    block = b""
    for name, value in headers.items():
        named, text = f":{name.replace('_', '-')}".encode(), value.encode()
        block += struct.pack(">B", len(named)) + named + struct.pack(">BH", 7, len(text)) + text
    content = orjson.dumps(payload)
    head = struct.pack(">II", 16 + len(block) + len(content), len(block))
    message = head + struct.pack(">I", binascii.crc32(head)) + block + content
    return message + struct.pack(">I", binascii.crc32(message))


def _event(kind: str, **payload: Any) -> bytes:
    json = "application/json"
    return frame(payload, event_type=kind, content_type=json, message_type="event")


def complaint(body: Mapping[str, Any]) -> str | None:
    """What Converse would refuse about a request, or None."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    role = "user"
    for number, message in enumerate(messages):
        if message.get("role") != role:
            return "roles must alternate between user and assistant, and the first must be user"
        role = "assistant" if role == "user" else "user"
        for block in message["content"]:
            if "text" in block and not block["text"].strip():
                return "The text field in the ContentBlock object is blank."
            if "image" in block and block["image"]["format"] not in _FORMATS:
                return "image.format must be one of png, jpeg, gif, webp"
        called = _ids(messages[number - 1], "toolUse") if number else set()
        if called - _ids(message, "toolResult"):
            return "Expected toolResult blocks for each toolUse of the previous turn."
    if not body.get("toolConfig") and any(_ids(message, "toolUse") for message in messages):
        return "The toolConfig field must be defined when using toolUse and toolResult blocks."
    return None


def _ids(message: Mapping[str, Any], kind: str) -> set[str]:
    return {block[kind]["toolUseId"] for block in message["content"] if kind in block}


class BedrockForm:
    """Converse, whole and streamed; InvokeModel for what is no chat."""

    stream_type = "application/vnd.amazon.eventstream"
    stream_error = frame(
        {"message": "Too many requests, please wait before trying again."},
        exception_type="throttlingException",
        content_type="application/json",
        message_type="exception",
    )

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """The model and whether it streams stand in the path."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        model, streams = unquote(found["model"]), found["method"] == "converse-stream"
        operation = operation_of(model) if found["method"] == "invoke" else "chat"
        return Asked(model=model, operation=operation, streams=streams, body=body)

    def key(self, request: web.BaseRequest) -> str:
        """The bearer token, or the access key that a signature names."""
        given = request.headers.get("authorization", "")
        found = _CREDENTIAL.search(given)
        return found[1] if found else given.removeprefix("Bearer ")

    def complaint(self, _request: web.BaseRequest, asked: Asked) -> str | None:
        """What Converse checks: roles, blank texts, results of tools, a toolConfig where there are calls."""
        if asked.operation != "chat":
            return invoked_complaint(asked.model, asked.body)
        return complaint(asked.body)

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """A message, an embedding or a ranking."""
        if asked.operation != "chat":
            return Invoked(asked.body, model, behaviour)
        return Converse(asked.body, behaviour, seq)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """`{message}`."""
        return error(status, code, message)

    def error_headers(self, status: int, code: str) -> dict[str, str]:
        """`x-amzn-errortype`; a code that names an exception replaces the usual."""
        kind = code if code.endswith("Exception") else _ERRORS.get(status, _INTERNAL)[0]
        return {"x-amzn-errortype": f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"}


class Converse:
    """One call: its values, its whole body, and its stream."""

    def __init__(self, body: Mapping[str, Any], behaviour: Behaviour, seq: int) -> None:
        self._behaviour, self._seq = behaviour, seq
        tools = (body.get("toolConfig") or {}).get("tools") or ()
        prompt = read_prompt(
            [_counted(message) for message in body["messages"]], _parts(body.get("system") or ())
        )
        self._reply = compose(
            prompt,
            behaviour,
            tools=[tool["toolSpec"]["name"] for tool in tools if "toolSpec" in tool],
            parallel=True,
            limit=(body.get("inferenceConfig") or {}).get("maxTokens"),
            choices=1,
        )
        self.usage = self._usage(prompt.tokens)
        self._served = {"serviceTier": body["serviceTier"]} if "serviceTier" in body else {}

    def _usage(self, given: int) -> dict[str, Any] | None:
        if self._behaviour.usage == "none":
            return None
        read = min(self._behaviour.cached, given)
        written = min(self._behaviour.cache_write, given - read)
        output = self._reply.output_tokens
        return {
            "inputTokens": given - read - written,
            "outputTokens": output,
            "totalTokens": given + output,
            "cacheReadInputTokens": read,
            "cacheWriteInputTokens": written,
        }

    @property
    def _stop(self) -> str:
        if self._behaviour.stop:
            return self._behaviour.stop
        if self._reply.calls:
            return "tool_use"
        return "max_tokens" if self._reply.cut else "end_turn"

    def _blocks(self) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        if self._behaviour.reasoning:
            told = {"text": "Let me think.", "signature": "c2lnbmF0dXJl"}
            blocks.append({"reasoningContent": {"reasoningText": told}})
        if not self._reply.calls:
            return [*blocks, {"text": self._reply.text}]
        return blocks + [
            {
                "toolUse": {
                    "toolUseId": f"tooluse_{self._seq}_{index}",
                    "name": name,
                    "input": orjson.loads(arguments),
                }
            }
            for index, (name, arguments) in enumerate(self._reply.calls)
        ]

    def body(self) -> bytes:
        """The whole answer."""
        document: dict[str, Any] = {
            "output": {"message": {"role": "assistant", "content": self._blocks()}},
            "stopReason": self._stop,
            "metrics": {"latencyMs": 1},
            **self._served,
        }
        return orjson.dumps(document | ({"usage": self.usage} if self.usage else {}))

    def events(self) -> Iterator[bytes]:
        """The stream's messages in order, `metadata` last."""
        yield _event("messageStart", role="assistant")
        for index, block in enumerate(self._blocks()):
            if "toolUse" in block:
                made = {name: block["toolUse"][name] for name in ("toolUseId", "name")}
                yield _event("contentBlockStart", contentBlockIndex=index, start={"toolUse": made})
            for delta in _deltas(block):
                yield _event("contentBlockDelta", contentBlockIndex=index, delta=delta)
            yield _event("contentBlockStop", contentBlockIndex=index)
        yield _event("messageStop", stopReason=self._stop)
        metadata: dict[str, Any] = {"metrics": {"latencyMs": 1}, **self._served}
        yield _event("metadata", **metadata, **({"usage": self.usage} if self.usage else {}))


def _deltas(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "text" in block:
        return [{"text": piece} for piece in pieces(block["text"])]
    if "toolUse" in block:
        arguments = orjson.dumps(block["toolUse"]["input"]).decode()
        half = len(arguments) // 2
        return [{"toolUse": {"input": piece}} for piece in (arguments[:half], arguments[half:])]
    told = block["reasoningContent"]["reasoningText"]
    return [{"reasoningContent": {name: told[name]}} for name in ("text", "signature")]


def _counted(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as `answers` counts it."""
    return {"role": message["role"], "content": _parts(message["content"])}


def _parts(blocks: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in blocks:
        if "text" in block:
            found.append({"type": "text", "text": block["text"]})
        elif "toolResult" in block:
            result = block["toolResult"]
            content = _parts(result["content"])
            found.append({"type": "tool_result", "tool_use_id": "", "content": content})
        elif "image" in block or "document" in block:
            found.append({"type": "image"})
        else:
            found.append({"type": "tool_use"})
    return found
