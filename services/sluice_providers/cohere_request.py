"""Translates an OpenAI chat request into one of Cohere's v2."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError

_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_PASSED: Final = ("safety_mode", "documents", "citation_options")
"""What a caller may say in Cohere's own words."""
_READ: Final = frozenset({*_SAMPLING, *_PASSED, "thinking"})
_BUDGETS: Final = {"minimal": 512, "low": 1024, "medium": 4096}
"""Thinking tokens by effort; above, the model decides."""


def translate(
    document: dict[str, Any], *, model: str, stream: bool, default_max_tokens: int | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Cohere request for an OpenAI one, and warnings. Raises UntranslatableError."""
    asked.refuse(document)
    asked.one_choice(document)
    asked.calls_in_parallel(document)
    request: dict[str, Any] = {"model": model, "messages": _conversation(document)}
    if stream:
        request["stream"] = True
    for ours, theirs in _SAMPLING.items():
        if document.get(ours) is not None:
            request[theirs] = document[ours]
    limit = asked.limit(document, default_max_tokens)
    if limit is not None:
        request["max_tokens"] = limit
    stops = asked.stops(document)
    if stops:
        request["stop_sequences"] = stops
    for name in _PASSED:
        if document.get(name) is not None:
            request[name] = document[name]
    _tools(document, request)
    schema = asked.output_schema(document)
    if schema is not None:
        shape = {"json_schema": schema["schema"]} if schema else {}
        request["response_format"] = {"type": "json_object"} | shape
    _thinking(document, request)
    return request, asked.left_out(document, _READ)


def _tools(document: Mapping[str, Any], request: dict[str, Any]) -> None:
    """The tools; where only some may be called, those alone."""
    functions = asked.functions(document)
    choice = asked.choice(document)
    if choice is not None and choice.names:
        functions = [function for function in functions if function.name in choice.names]
        if not functions:
            raise UntranslatableError("tool_choice", "names no tool that is offered")
    if not functions:
        return
    request["tools"] = [
        {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description or "",
                "parameters": function.parameters or {"type": "object", "properties": {}},
            },
        }
        for function in functions
    ]
    if any(function.strict for function in functions):
        request["strict_tools"] = True
    if choice is not None and choice.mode != "auto":
        request["tool_choice"] = choice.mode.upper()


def _thinking(document: Mapping[str, Any], request: dict[str, Any]) -> None:
    effort = asked.effort(document)
    match document.get("thinking"):
        case {"type": "enabled", "budget_tokens": int(budget)}:
            request["thinking"] = {"type": "enabled", "token_budget": budget}
            return
        case {"type": "enabled" | "disabled" as kind}:
            request["thinking"] = {"type": kind}
            return
    if effort == "none":
        request["thinking"] = {"type": "disabled"}
    elif effort is not None:
        bound = {"token_budget": _BUDGETS[effort]} if effort in _BUDGETS else {}
        request["thinking"] = {"type": "enabled"} | bound


def _conversation(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_message(where, role, message) for where, role, message in asked.messages(document)]


def _message(where: str, role: str, message: Mapping[str, Any]) -> dict[str, Any]:
    match role:
        case "user":
            return {"role": "user", "content": _user(message, where)}
        case "assistant":
            return _answer(message, where)
        case "tool":
            text = asked.text(message, where)
            return {"role": "tool", "tool_call_id": message.get("tool_call_id"), "content": text}
    return {"role": role, "content": asked.text(message, where)}


def _user(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for place, part in asked.parts(message, where):
        text = asked.said(part)
        if text is not None:
            found.append({"type": "text", "text": text})
        elif part.get("type") == "image_url":
            found.append({"type": "image_url", "image_url": {"url": part["image_url"]["url"]}})
        else:
            raise UntranslatableError(f"{place}.type", f"{part.get('type')!r} cannot be said here")
    return found


def _answer(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the model said before; beside tool calls, text is the plan behind them."""
    text = asked.text(message, where)
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": orjson.dumps(arguments).decode(),
            },
        }
        for call, arguments in asked.calls(message, where)
    ]
    if not calls:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "tool_calls": calls} | ({"tool_plan": text} if text else {})
