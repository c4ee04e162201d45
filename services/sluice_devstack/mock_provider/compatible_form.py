"""The mock as servers that are like OpenAI's and not quite it: `/{dialect}/v1/chat/completions`.

Each says what differs in its own way: where usage stands and what it counts, what thoughts are called, how parallel
tool calls are numbered, what comes between the events of a stream, and what it refuses to hear.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from aiohttp import web

from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.form import Answer, Asked
from sluice_devstack.mock_provider.openai_form import DONE, Chat, OpenAIForm

_THOUGHT = "Thinking."
_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One server's ways.

    `thoughts`: the field they stand in, or `parts` of the content. `usage`: beside the last choice, in Groq's own
    field, or in a chunk of its own where that was asked for. `apart`: completion tokens leave reasoning out. `hits`:
    cached tokens have DeepSeek's name. `one_index`: every tool call is number 0. `comment` stands before every event.
    `unheard`: fields that are refused. `error`: an error in the middle of a stream.
    """

    thoughts: Literal["reasoning", "reasoning_content", "parts"] = "reasoning_content"
    usage: Literal["asked", "last", "x_groq"] = "asked"
    apart: bool = False
    hits: bool = False
    one_index: bool = False
    comment: bytes = b""
    unheard: tuple[str, ...] = ()
    error: bytes = b'data: {"error":{"message":"upstream gone","code":502}}\n\n'


DIALECTS: Final[Mapping[str, Dialect]] = {
    "vllm": Dialect(one_index=True),
    "ollama": Dialect(thoughts="reasoning", one_index=True),
    "llama_cpp": Dialect(),
    "together": Dialect(thoughts="reasoning", usage="last"),
    "groq": Dialect(thoughts="reasoning", usage="x_groq"),
    "deepseek": Dialect(hits=True, comment=b": keep-alive\n\n"),
    "fireworks": Dialect(usage="last"),
    "x_ai": Dialect(usage="last", apart=True),
    "openrouter": Dialect(
        thoughts="reasoning",
        usage="last",
        comment=b": OPENROUTER PROCESSING\n\n",
        error=b'data: {"id":"gen-1","object":"chat.completion.chunk","created":1,"model":"m","error":'
        b'{"code":502,"message":"upstream gone"},"choices":[{"index":0,"delta":{"content":""},'
        b'"finish_reason":"error"}]}\n\n',
    ),
    "mistral_ai": Dialect(
        thoughts="parts",
        usage="last",
        unheard=("stream_options", "seed", "max_completion_tokens", "user", "store"),
    ),
}


class CompatibleForm(OpenAIForm):
    """One dialect's chat completions."""

    def __init__(self, name: str, dialect: Dialect) -> None:
        self._path, self._dialect = f"/{name}{_PATH}", dialect
        self.stream_error = dialect.error

    def asked(self, path: str, body: Mapping[str, Any]) -> Asked | None:
        """Chat alone."""
        return super().asked(_PATH, body) if path == self._path else None

    def complaint(self, request: web.BaseRequest, asked: Asked) -> str | None:  # noqa: ARG002
        """What the server refuses to hear."""
        for name in self._dialect.unheard:
            if name in asked.body:
                return f"body.{name}: Extra inputs are not permitted"
        if self._dialect.unheard and asked.body.get("tool_choice") == "required":
            return "body.tool_choice: Input should be 'auto', 'none' or 'any'"
        roles = {message.get("role") for message in asked.body["messages"]}
        return "body.messages: unknown role 'developer'" if "developer" in roles else None

    def answer(self, asked: Asked, model: str, behaviour: Behaviour, seq: int) -> Answer:
        """A completion in the dialect."""
        return _Chat(asked.body, model, behaviour, seq, self._dialect)

    def error(self, status: int, code: str, message: str = "") -> bytes:
        """As OpenAI's, or a list of details."""
        if not self._dialect.unheard:
            return super().error(status, code, message)
        text = message or orjson.loads(super().error(status, code))["error"]["message"]
        return orjson.dumps({"detail": [{"type": "value_error", "loc": ["body"], "msg": text}]})


class _Chat(Chat):
    """One chat completion."""

    def __init__(
        self,
        body: Mapping[str, Any],
        model: str,
        behaviour: Behaviour,
        seq: int,
        dialect: Dialect,
    ) -> None:
        super().__init__(body, model, behaviour, seq)
        self._dialect, self._thinks = dialect, bool(behaviour.reasoning)
        if dialect.usage != "asked":
            self._asked_usage = False

    def body(self) -> bytes:
        """The whole answer."""
        document = orjson.loads(super().body())
        for choice in document["choices"]:
            message = choice["message"]
            message.pop("refusal")
            if self._thinks and self._dialect.thoughts == "parts":
                text = {"type": "text", "text": message["content"] or ""}
                message["content"] = [_thinking(), text]
            elif self._thinks:
                message[self._dialect.thoughts] = _THOUGHT
        if "usage" in document:
            document["usage"] = self._counted()
        return orjson.dumps(document)

    def events(self) -> Iterator[bytes]:
        """The stream's events in order, each behind its comment."""
        thinks = self._thinks
        for event in super().events():
            if event == DONE:
                yield event
                return
            document = orjson.loads(event.removeprefix(b"data: "))
            if document.get("usage"):
                document["usage"] = self._counted()
            for choice in document["choices"]:
                self._suit(document, choice)
                if thinks:
                    thinks = False
                    yield self._said(_thought_chunk(document, self._dialect))
            yield self._said(document)

    def _suit(self, document: dict[str, Any], choice: dict[str, Any]) -> None:
        delta = choice["delta"]
        delta.pop("refusal", None)
        if self._dialect.one_index:
            for call in delta.get("tool_calls") or ():
                call["index"] = 0
        if choice["finish_reason"] and self.usage is not None:
            if self._dialect.usage == "last":
                document["usage"] = self._counted()
            elif self._dialect.usage == "x_groq":
                document["x_groq"] = {"id": "req_mock", "usage": self._counted()}

    def _said(self, document: dict[str, Any]) -> bytes:
        return self._dialect.comment + b"data: " + orjson.dumps(document) + b"\n\n"

    def _counted(self) -> dict[str, Any]:
        assert self.usage is not None
        usage = orjson.loads(orjson.dumps(self.usage))
        if self._dialect.apart:
            usage["completion_tokens"] -= usage["completion_tokens_details"]["reasoning_tokens"]
        if self._dialect.hits:
            hit = usage.pop("prompt_tokens_details")["cached_tokens"]
            missed = usage["prompt_tokens"] - hit
            usage |= {"prompt_cache_hit_tokens": hit, "prompt_cache_miss_tokens": missed}
        counted: dict[str, Any] = usage
        return counted


def _thinking() -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": _THOUGHT}]}


def _thought_chunk(document: dict[str, Any], dialect: Dialect) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"}
    if dialect.thoughts == "parts":
        delta["content"] = [_thinking()]
    else:
        delta[dialect.thoughts] = _THOUGHT
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {name: v for name, v in document.items() if name != "x_groq"} | {"choices": [choice]}
