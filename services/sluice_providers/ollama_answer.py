"""Translates Ollama's answers, whole and streamed, into OpenAI's form."""

from collections.abc import Mapping
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import count
from sluice_providers.adapter import MalformedError, ReportedError, Whole
from sluice_providers.chat_answer import (
    NOT_IN_FORM,
    TranslatedStream,
    call_id,
    completion,
    counted,
    tool_call,
)
from sluice_providers.errors import error_body
from sluice_providers.port import Call
from sluice_providers.sse import Event


def read_usage(document: Mapping[str, Any]) -> Usage | None:
    """Usage as Ollama reports it; None where one of its two counters is missing, which old servers leave out."""
    if document.get("prompt_eval_count") is None or document.get("eval_count") is None:
        return None
    return counted(_counters, document)


def _counters(document: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=count(document, "prompt_eval_count"),
        output_tokens=count(document, "eval_count"),
    )


def reported(document: Mapping[str, Any]) -> ReportedError:
    """The error of an `{error: "…"}` document."""
    message = str(document.get("error") or "the provider reported an error")
    return ReportedError(message, error_body(message))


def translate(call: Call, document: dict[str, Any]) -> Whole:
    """A whole answer. Raises AdapterError."""
    try:
        said = document["message"]
        calls = [
            _call(call, made, number) for number, made in enumerate(said.get("tool_calls") or ())
        ]
        message: dict[str, Any] = {"content": said.get("content") or (None if calls else "")}
        if said.get("thinking"):
            message["reasoning_content"] = said["thinking"]
        if calls:
            message["tool_calls"] = calls
        finish = _finish(document, called=bool(calls))
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer's message is not in the format") from exc
    return completion(call, [(message, finish)], usage=read_usage(document))


def _call(call: Call, made: dict[str, Any], number: int) -> dict[str, Any]:
    function = made["function"]
    arguments = orjson.dumps(function.get("arguments") or {}).decode()
    return tool_call(made.get("id") or call_id(call, number), function["name"], arguments)


def _finish(document: Mapping[str, Any], *, called: bool) -> str:
    """OpenAI's finish reason; Ollama's own is `stop` with tool calls as well."""
    if document.get("done_reason") == "length":
        return "length"
    return "tool_calls" if called else "stop"


class OllamaStream(TranslatedStream):
    """One stream of lines; the last is `done` and has the counters."""

    def __init__(self, call: Call, document: Mapping[str, Any]) -> None:
        super().__init__(call, document)
        self._begun = False
        self._calls = 0
        self._last: dict[str, Any] = {}

    @property
    def done(self) -> bool:
        """The last line came."""
        return self.ended

    @property
    def usage(self) -> Usage | None:
        """The counters of the last line."""
        return read_usage(self._last)

    def translate(self, event: Event) -> list[dict[str, Any]]:
        """The chunks of one line."""
        document = self.document(event)
        if "error" in document:
            raise reported(document)
        chunks = [] if self._begun else self.begin()
        self._begun = True
        said = document.get("message") or {}
        if said.get("thinking"):
            chunks.append(self.chunk({"reasoning_content": said["thinking"]}))
        if said.get("content"):
            chunks.append(self.chunk({"content": said["content"]}))
        for made in said.get("tool_calls") or ():
            call = {"index": self._calls} | _call(self.call, made, self._calls)
            self._calls += 1
            chunks.append(self.chunk({"tool_calls": [call]}))
        if document.get("done"):
            self._last = document
            chunks.append(self.chunk({}, _finish(document, called=bool(self._calls))))
            chunks += self.end()
        return chunks
