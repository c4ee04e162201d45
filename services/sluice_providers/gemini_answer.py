"""Translates Gemini's answers, whole and streamed, into OpenAI's form."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import EmptyError, MalformedError, ReportedError, Whole
from sluice_providers.chat_answer import (
    NOT_IN_FORM,
    TranslatedStream,
    call_id,
    completion,
    counted,
    tool_call,
)
from sluice_providers.errors import error_body
from sluice_providers.gemini_errors import code_of
from sluice_providers.port import Call
from sluice_providers.sse import Event

_FILTERED: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
    }
)
_BROKEN: Final = frozenset(
    {
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
        "TOO_MANY_TOOL_CALLS",
        "UNEXPECTED_TOOL_CALL",
    }
)
"""Reasons under which the model said nothing that a caller could use."""


def read_usage(document: object) -> Usage | None:
    """Usage as Gemini reports it: the prompt includes what was cached, the candidates leave out thoughts."""
    return counted(_counters, document)


def _counters(document: dict[str, Any]) -> Usage:
    given = count(document, "promptTokenCount") + count(document, "toolUsePromptTokenCount")
    candidates, thoughts = (
        count(document, "candidatesTokenCount"),
        count(document, "thoughtsTokenCount"),
    )
    total, output = count(document, "totalTokenCount"), candidates + thoughts
    if thoughts and total == given + candidates:
        output = candidates  # here the candidates include them
    return Usage(
        input_tokens=given,
        cache_read_tokens=count(document, "cachedContentTokenCount"),
        input_audio_tokens=_audio(document, "promptTokensDetails"),
        # A total above its parts counts something that they leave out.
        output_tokens=max(output, total - given),
        reasoning_tokens=thoughts,
        output_audio_tokens=_audio(document, "candidatesTokensDetails"),
    )


def _audio(document: Mapping[str, Any], name: str) -> int:
    details = document.get(name)
    rows = details if isinstance(details, list) else []
    return sum(
        count(row, "tokenCount")
        for row in rows
        if isinstance(row, dict) and row.get("modality") == "AUDIO"
    )


def reported(document: Mapping[str, Any]) -> ReportedError:
    """The error of an `{error: {code, message, status}}` document."""
    error = document.get("error")
    error = error if isinstance(error, dict) else {}
    message = str(error.get("message") or "the provider reported an error")
    kind = str(error.get("status") or "provider_error")
    return ReportedError(message, error_body(message, kind=kind, code=code_of(error)))


def _blocked(document: Mapping[str, Any]) -> ReportedError | None:
    """A prompt that Google refused, which it answers with 200."""
    feedback = document.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    if not reason:
        return None
    message = f"the provider blocked the prompt ({reason})"
    return ReportedError(
        message,
        error_body(message, kind="invalid_request_error", code="content_filter"),
        kind=FailureKind.PROMPT_BLOCKED,
        usage=read_usage(document.get("usageMetadata")),
    )


def _broken(reason: str, text: object, usage: Usage | None) -> ReportedError:
    message = f"the model ended with {reason}" + (f": {text}" if text else "")
    return ReportedError(message, error_body(message, code=reason), usage=usage)


def _finish(reason: str, *, called: bool) -> str:
    """OpenAI's finish reason; Gemini's own is STOP with tool calls as well."""
    if reason in _FILTERED:
        return "content_filter"
    if reason == "MAX_TOKENS":
        return "length"
    return "tool_calls" if called else "stop"


def translate(call: Call, document: dict[str, Any]) -> Whole:
    """A whole answer. Raises AdapterError."""
    blocked = _blocked(document)
    candidates = document.get("candidates")
    if not candidates:
        raise blocked or EmptyError("the answer has no candidates")
    usage = read_usage(document.get("usageMetadata"))
    try:
        messages = [_candidate(call, candidate, usage) for candidate in candidates]
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer's candidates are not in the format") from exc
    return completion(call, messages, usage=usage, identity=document.get("responseId") or "")


def _candidate(
    call: Call, candidate: dict[str, Any], usage: Usage | None
) -> tuple[dict[str, Any], str]:
    reason = str(candidate.get("finishReason") or "STOP")
    if reason in _BROKEN:
        raise _broken(reason, candidate.get("finishMessage"), usage)
    texts: dict[str, list[str]] = {"content": [], "reasoning_content": []}
    calls: list[dict[str, Any]] = []
    message: dict[str, Any] = {}
    for part in _parts(candidate):
        if "functionCall" in part:
            # Numbered over all candidates, so that no two calls of an answer share an id.
            number = candidate.get("index", 0) * 1000 + len(calls)
            calls.append(_call(call, part, number))
            continue
        if part.get("text"):
            texts["reasoning_content" if part.get("thought") else "content"].append(part["text"])
        message |= _signed(part)
    message["content"] = "".join(texts["content"]) if texts["content"] or not calls else None
    if texts["reasoning_content"]:
        message["reasoning_content"] = "".join(texts["reasoning_content"])
    if calls:
        message["tool_calls"] = calls
    return message, _finish(reason, called=bool(calls))


def _parts(candidate: Mapping[str, Any]) -> list[dict[str, Any]]:
    return (candidate.get("content") or {}).get("parts") or []


def _signed(part: Mapping[str, Any]) -> dict[str, Any]:
    """The signature of a part, where Google's own OpenAI-compatible endpoint keeps it."""
    if "thoughtSignature" not in part:
        return {}
    return {"extra_content": {"google": {"thought_signature": part["thoughtSignature"]}}}


def _call(call: Call, part: dict[str, Any], number: int) -> dict[str, Any]:
    made = part["functionCall"]
    arguments = orjson.dumps(made.get("args") or {}).decode()
    identity = made.get("id") or call_id(call, number)
    return tool_call(identity, made["name"], arguments, **_signed(part))


class GeminiStream(TranslatedStream):
    """One stream of partial answers, with usage on each; the last counts."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        super().__init__(call, document)
        self._expected = document.get("n") or 1
        self._usage: dict[str, Any] = {}
        self._calls: dict[int, int] = {}
        self._begun: set[int] = set()
        self._finished = 0

    @property
    def done(self) -> bool:
        """Every choice that was asked for was finished."""
        return self._finished >= self._expected

    @property
    def usage(self) -> Usage | None:
        """The last usage reported."""
        return read_usage(self._usage)

    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one partial answer."""
        document = self.document(event)
        if "error" in document:
            raise reported(document)
        self._usage = document.get("usageMetadata") or self._usage
        candidates = document.get("candidates") or []
        blocked = _blocked(document)
        if blocked is not None and not candidates:
            raise blocked
        chunks: list[dict[str, Any]] = []
        for candidate in candidates:
            chunks += self._candidate(candidate, document.get("responseId") or "")
        return chunks + (self.closing() if self.done else [])

    def _candidate(self, candidate: dict[str, Any], identity: str) -> list[dict[str, Any]]:
        index = candidate.get("index") or 0
        chunks: list[dict[str, Any]] = []
        if index not in self._begun:
            self._begun.add(index)
            first = self.begin(identity)[0]["choices"][0]["delta"]
            chunks.append(self.chunk(first, index=index))
        for part in _parts(candidate):
            delta = self._delta(part, index)
            if delta:
                chunks.append(self.chunk(delta, index=index))
        reason = candidate.get("finishReason")
        if not reason:
            return chunks
        if reason in _BROKEN:
            raise _broken(reason, candidate.get("finishMessage"), None)
        self._finished += 1
        finish = _finish(reason, called=index in self._calls)
        return [*chunks, self.chunk({}, finish, index=index)]

    def _delta(self, part: dict[str, Any], index: int) -> dict[str, Any]:
        if "functionCall" in part:
            number = self._calls[index] = self._calls.get(index, -1) + 1
            made = _call(self.call, part, index * 1000 + number)
            return {"tool_calls": [{"index": number} | made]}
        delta: dict[str, Any] = _signed(part)
        if part.get("text"):
            delta["reasoning_content" if part.get("thought") else "content"] = part["text"]
        return delta
