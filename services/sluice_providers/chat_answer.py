"""Says answers of other formats in OpenAI's form: completions, the chunks of a stream, embeddings, usage."""

import base64
import hashlib
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, consistent
from sluice_providers.adapter import EmptyError, MalformedError, Whole
from sluice_providers.assembly import ChatAssembly
from sluice_providers.openai import text_bytes, usage_asked
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.sse import Event

NOT_IN_FORM = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a document raises that is not in its format."""


def openai_usage(usage: Usage | None) -> dict[str, Any] | None:
    """Usage as an OpenAI body holds it."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def counted(read: Callable[[dict[str, Any]], Usage], document: object) -> Usage | None:
    """Usage as `read` finds it; None where it is missing, counts nothing or has a counter that is no number.

    Parts that are more than their total raise it (`consistent`).
    """
    if not isinstance(document, dict):
        return None
    try:
        usage = consistent(read(document))
    except UncountableError:
        return None
    return usage if usage.input_tokens or usage.output_tokens else None


def call_id(call: Call, index: int) -> str:
    """An id for a tool call of a provider that gives none: the same whenever this attempt is read, and nowhere else."""
    seed = f"{call.job_id}/{call.attempt}/{index}"
    return f"call_{hashlib.sha256(seed.encode()).hexdigest()[:24]}"


def tool_call(
    identity: str, name: str, arguments: str, **more: Mapping[str, Any]
) -> dict[str, Any]:
    """A tool call as a message holds it."""
    function = {"name": name, "arguments": arguments}
    return {"id": identity, "type": "function", "function": function} | more


def message_of(
    text: Sequence[str],
    calls: Sequence[dict[str, Any]],
    thoughts: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """A message of texts, tool calls and blocks of thinking in the form that Anthropic's messages have."""
    message: dict[str, Any] = {"content": "".join(text) if text or not calls else None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning_content"] = "".join(block.get("thinking", "") for block in thoughts)
        # Sent back as they are, they let a conversation with tools go on thinking.
        message["thinking_blocks"] = thoughts
    return message


def completion(
    call: Call,
    messages: Sequence[tuple[dict[str, Any], str]],
    *,
    usage: Usage | None,
    identity: str = "",
) -> Whole:
    """A whole answer of messages, each with its finish reason."""
    document: dict[str, Any] = {
        "id": identity or f"chatcmpl-{call.job_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.target.model_requested,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": None, "refusal": None} | message,
                "logprobs": None,
                "finish_reason": finish,
            }
            for index, (message, finish) in enumerate(messages)
        ],
    }
    reported = openai_usage(usage)
    if reported is not None:
        document["usage"] = reported
    return Whole(
        body=orjson.dumps(document),
        usage=usage,
        finish=tuple(finish for _, finish in messages),
        output_bytes=sum(text_bytes(message) for message, _ in messages),
    )


def embeddings(call: Call, vectors: Sequence[Any], *, usage: Usage | None) -> Whole:
    """Vectors as OpenAI answers them, in base64 where the caller asked for that. Raises AdapterError."""
    document = orjson.loads(call.body)
    coded = document.get("encoding_format") == "base64"
    asked = len(document["input"]) if isinstance(document.get("input"), list) else 1
    if not vectors:
        raise EmptyError("the answer's list of embeddings is empty")
    if len(vectors) != asked:
        raise MalformedError(f"the answer has {len(vectors)} embeddings for {asked} inputs")
    try:
        rows = [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if coded else [float(value) for value in vector],
            }
            for index, vector in enumerate(vectors)
        ]
    except (TypeError, ValueError, struct.error) as exc:
        raise MalformedError("the answer's vectors are not lists of numbers") from exc
    answer: dict[str, Any] = {
        "object": "list",
        "model": call.target.model_requested,
        "data": rows,
    }
    if usage is not None:
        answer["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "total_tokens": usage.input_tokens,
        }
    return Whole(body=orjson.dumps(answer), usage=usage, finish=(), output_bytes=0)


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


class TranslatedStream(ABC):
    """One chat stream of another format; its chunks are in OpenAI's form."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        self.call = call
        self._usage_asked = usage_asked(document)
        self._assembly = ChatAssembly()
        self._ended = self._closed = False
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{call.job_id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": call.target.model_requested,
        }

    @property
    def done(self) -> bool:
        """Every choice was finished."""
        return self._ended or self._assembly.finished

    @property
    def ended(self) -> bool:
        """The stream's own last event came."""
        return self._ended

    @property
    @abstractmethod
    def usage(self) -> Usage | None:
        """What was reported so far."""

    @property
    def output_bytes(self) -> int:
        """Bytes of text so far."""
        return self._assembly.output_bytes

    @abstractmethod
    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one event; `end` as it is the last. Raises AdapterError, or any of `NOT_IN_FORM`."""

    def feed(self, event: Event) -> list[bytes]:
        """Take one event. Raises AdapterError."""
        try:
            chunks = self.translate(event)
            for chunk in chunks:
                self._assembly.add(chunk)
        except NOT_IN_FORM as exc:
            raise MalformedError("a stream event is not in the format") from exc
        return [orjson.dumps(chunk) for chunk in chunks]

    @staticmethod
    def document(event: Event) -> dict[str, Any]:
        """An event's data as JSON."""
        return parse_object(event.data)

    def begin(self, identity: str = "") -> list[dict[str, Any]]:
        """The first chunk."""
        if identity:
            self._head["id"] = identity
        return [self.chunk({"role": "assistant", "content": ""})]

    def chunk(
        self, delta: dict[str, Any], finish: str | None = None, *, index: int = 0
    ) -> dict[str, Any]:
        """A chunk of one choice."""
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._head | {"choices": [choice]}

    def closing(self) -> list[dict[str, Any]]:
        """The chunk of usage, once, where the caller asked for it."""
        usage = openai_usage(self.usage)
        if self._closed or not self._usage_asked or usage is None:
            return []
        self._closed = True
        return [self._head | {"choices": [], "usage": usage}]

    def end(self) -> list[dict[str, Any]]:
        """As `closing`, at the stream's own last event."""
        self._ended = True
        return self.closing()

    def whole(self) -> Whole:
        """The assembled body; usage is always in it."""
        usage = self.usage
        document = self._assembly.whole(openai_usage(usage))
        for choice in document["choices"]:
            for call in choice["message"].get("tool_calls", ()):
                call["function"]["arguments"] = call["function"]["arguments"] or "{}"
        return Whole(
            body=orjson.dumps(document),
            usage=usage,
            finish=self._assembly.finish,
            output_bytes=self.output_bytes,
        )
