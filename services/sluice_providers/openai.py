"""OpenAI's wire format, and that of everything compatible with it: chat completions, embeddings, responses."""

from collections.abc import Mapping
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, consistent, count, part
from sluice_providers.adapter import (
    EmptyError,
    MalformedError,
    Outgoing,
    Refusal,
    ReportedError,
    StreamReader,
    UntranslatableError,
    Whole,
)
from sluice_providers.assembly import ChatAssembly
from sluice_providers.compatible import PlainChunks, plain_answer, suit
from sluice_providers.errors import error_body, kind_of, wrap
from sluice_providers.framing import SSE
from sluice_providers.parsing import parse_object
from sluice_providers.port import Call
from sluice_providers.rerank import ranking, request_of
from sluice_providers.responses import ResponsesStream, prepare, translate
from sluice_providers.sse import Event
from sluice_schemas.jobs import GENERATING

PATHS = {
    "chat": "/chat/completions",
    "embeddings": "/embeddings",
    "responses": "/responses",
    "rerank": "/rerank",
}


class OpenAIAdapter:
    """Passes bodies through but for the model name; asks every stream for its usage."""

    framing = SSE

    def outgoing(self, call: Call, document: dict[str, Any]) -> Outgoing:
        """Put in the provider's model name, a default limit and the request for usage."""
        target, quirks = call.target, call.target.quirks
        warnings: tuple[str, ...] = ()
        document["model"] = target.model
        if call.operation == "chat":
            self._default_limit(call, document)
            if quirks is not None:
                warnings = suit(document, quirks)
        elif call.operation == "responses":
            prepare(call, document)
        elif call.operation == "rerank":
            if quirks is None:
                raise UntranslatableError("url", "this provider has no rerank")
            document, warnings = request_of(call, document)
        if target.tier is not None and call.operation in GENERATING:
            document.setdefault("service_tier", target.tier)
        if call.stream:
            document["stream"] = True
            if call.operation == "responses":
                pass  # usage comes by itself
            elif quirks is None or quirks.stream_usage:
                document["stream_options"] = (document.get("stream_options") or {}) | {
                    "include_usage": True
                }
            else:
                document.pop("stream_options", None)
        else:
            document.pop("stream", None)
            document.pop("stream_options", None)
        return Outgoing(
            url=self.url(call),
            headers=self.headers(call),
            content=orjson.dumps(document),
            warnings=warnings,
        )

    def url(self, call: Call) -> str:
        """Where an operation is."""
        return call.target.base_url.rstrip("/") + PATHS[call.operation]

    def headers(self, call: Call) -> tuple[tuple[str, str], ...]:
        """How a key goes."""
        return (("authorization", f"Bearer {call.api_key}"),)

    @staticmethod
    def _default_limit(call: Call, document: dict[str, Any]) -> None:
        limit, quirks = call.target.default_max_tokens, call.target.quirks
        if limit is not None and not (
            document.get("max_completion_tokens") or document.get("max_tokens")
        ):
            # OpenAI's reasoning models refuse max_tokens; compatible servers often know nothing else.
            newer = "max_completion_tokens" if quirks is None else quirks.max_tokens_field
            document[newer] = limit

    def whole(self, call: Call, body: bytes, _headers: Mapping[str, str]) -> Whole:
        """Read the answer and put in the model name that was asked for."""
        if call.operation == "responses":
            return translate(body, model=call.target.model_requested)
        document = parse_object(body)
        if document.get("error"):
            raise _reported(document)
        if call.operation == "rerank":
            return ranking(call, document)
        rows = document.get("data" if call.operation == "embeddings" else "choices")
        if not isinstance(rows, list):
            raise MalformedError("the answer has no list of results")
        if not rows:
            raise EmptyError("the answer's list of results is empty")
        document["model"] = call.target.model_requested
        quirks = call.target.quirks
        try:
            if quirks is not None and call.operation == "chat":
                plain_answer(document, quirks)
            finish = () if call.operation == "embeddings" else tuple(map(_finish, rows))
            size = (
                0
                if call.operation == "embeddings"
                else sum(text_bytes(row.get("message") or {}) for row in rows)
            )
        except (AttributeError, TypeError) as exc:
            raise MalformedError("the answer's choices are not in the format") from exc
        return Whole(
            body=orjson.dumps(document),
            usage=read_usage(document.get("usage")),
            finish=finish,
            output_bytes=size,
            tier=tier_of(document),
        )

    def stream(self, call: Call, document: Mapping[str, Any]) -> StreamReader:
        """Begin a stream; its usage is left out where the caller did not ask for it."""
        if call.operation == "responses":
            return ResponsesStream(model=call.target.model_requested)
        return self.chat_stream(call, document)

    def chat_stream(self, call: Call, document: Mapping[str, Any]) -> "OpenAIStream":
        """Begin a stream of chat chunks."""
        quirks = call.target.quirks
        return OpenAIStream(
            model=call.target.model_requested,
            usage_asked=usage_asked(document),
            plain=None if quirks is None else PlainChunks(quirks),
        )

    def refusal(self, status: int, body: bytes, _headers: Mapping[str, str]) -> Refusal:
        """Read `{error: {message, type, param, code}}` and the looser forms of compatible servers."""
        code, message = "", ""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if isinstance(document, dict):
            code, message = _error_text(document)
        if isinstance(document, dict) and isinstance(document.get("error"), dict):
            content = body
        elif message:
            content = error_body(message)
        else:
            message, content = wrap(status, body)
        return Refusal(
            kind=kind_of(status, code=code, message=message),
            message=message or f"the provider answered {status}",
            body=content,
        )


class OpenAIStream:
    """One chat stream in OpenAI's form."""

    def __init__(self, *, model: str, usage_asked: bool, plain: PlainChunks | None = None) -> None:
        self._model, self._usage_asked, self._plain = model, usage_asked, plain
        self._assembly = ChatAssembly()
        self._usage: dict[str, Any] | None = None
        self._ended = False

    @property
    def done(self) -> bool:
        """`[DONE]` came, or every choice was finished (some servers leave `[DONE]` out)."""
        return self._ended or self._assembly.finished

    @property
    def ended(self) -> bool:
        """Whether `[DONE]` came, after which nothing can follow."""
        return self._ended

    @property
    def usage(self) -> Usage | None:
        """The last usage reported; where it comes more than once it is cumulative."""
        return read_usage(self._usage)

    @property
    def output_bytes(self) -> int:
        """Bytes of text so far."""
        return self._assembly.output_bytes

    def feed(self, event: Event) -> list[bytes]:
        """Take one event; an error inside the stream raises ReportedError."""
        if event.data.strip() == b"[DONE]":
            self._ended = True
            return []
        chunk = parse_object(event.data)
        if chunk.get("error"):
            raise _reported(chunk)
        chunk["model"] = self._model
        try:
            if self._plain is not None and not self._plain.make(chunk):
                return []
            usage = chunk.get("usage")
            if usage:
                self._usage = usage
            self._assembly.add(chunk)
        except (AttributeError, TypeError) as exc:
            raise MalformedError("a chunk is not in the format") from exc
        if not self._usage_asked:
            chunk.pop("usage", None)
            if usage and not chunk.get("choices"):
                return []
        return [orjson.dumps(chunk)]

    def whole(self) -> Whole:
        """The assembled body; usage is always in it."""
        document = self._assembly.whole(self._usage)
        return Whole(
            body=orjson.dumps(document),
            usage=self.usage,
            finish=self._assembly.finish,
            output_bytes=self.output_bytes,
            tier=tier_of(document),
        )


def tier_of(document: Mapping[str, Any]) -> str | None:
    """The service tier that an answer says it was served at."""
    tier = document.get("service_tier")
    return tier if isinstance(tier, str) else None


def usage_asked(document: Mapping[str, Any]) -> bool:
    """Whether a caller asked for usage in its stream."""
    options = document.get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def read_usage(document: object) -> Usage | None:
    """Usage as OpenAI reports it; None where it is missing, counts nothing or has a counter that is no number.

    Parts that are more than their total raise it (`consistent`).
    """
    if not isinstance(document, dict):
        return None
    try:
        usage = consistent(_counters(document))
    except UncountableError:
        return None
    # A call that worked used something: all zero is a server that does not count.
    return usage if usage.input_tokens or usage.output_tokens else None


def _counters(document: dict[str, Any]) -> Usage:
    prompt, output = (
        part(document, "prompt_tokens_details"),
        part(document, "completion_tokens_details"),
    )
    return Usage(
        input_tokens=count(document, "prompt_tokens"),
        cache_read_tokens=count(prompt, "cached_tokens"),
        cache_write_tokens=count(prompt, "cache_write_tokens"),
        input_audio_tokens=count(prompt, "audio_tokens"),
        output_tokens=count(document, "completion_tokens"),
        reasoning_tokens=count(output, "reasoning_tokens"),
        output_audio_tokens=count(output, "audio_tokens"),
    )


def _finish(choice: dict[str, Any]) -> str:
    return str(choice.get("finish_reason") or "")


def text_bytes(message: dict[str, Any]) -> int:
    """The size of a message's text and tool calls, for an estimate."""
    texts = [value for value in message.values() if isinstance(value, str)]
    texts += [str(call.get("function")) for call in message.get("tool_calls") or ()]
    return sum(len(text.encode(errors="surrogatepass")) for text in texts)


def _error_text(document: dict[str, Any]) -> tuple[str, str]:
    """Code and message of an error document in any of the forms that compatible servers use."""
    error = document.get("error", document)
    if isinstance(error, str):
        return "", error
    if not isinstance(error, dict):
        return "", ""
    code = error.get("code") or error.get("type") or ""
    message = error.get("message") or error.get("detail") or ""
    return str(code), message if isinstance(message, str) else orjson.dumps(message).decode()


def _reported(document: dict[str, Any]) -> ReportedError:
    _, message = _error_text(document)
    error = document["error"]
    content = orjson.dumps({"error": error}) if isinstance(error, dict) else error_body(str(error))
    return ReportedError(message or "the provider reported an error", content)
