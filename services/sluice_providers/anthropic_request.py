"""Translates an OpenAI chat request into an Anthropic messages request.

What cannot be said raises UntranslatableError and names the field, where leaving it out would change what the
caller gets; where it would not, the field is left out and a warning names it.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from sluice_providers.adapter import UntranslatableError
from sluice_providers.anthropic_content import (
    assistant_blocks,
    text_blocks,
    tool_result,
    user_blocks,
)

DEFAULT_MAX_TOKENS = 4096
_TEMPERATURE_MAX = 1.0
_PASSED = ("top_p", "top_k", "thinking", "cache_control")
_REFUSED = ("functions", "function_call", "audio", "logprobs", "logit_bias", "web_search_options")
_CONSUMED = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "stop",
        "n",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "service_tier",
        "user",
        "safety_identifier",
        "modalities",
        *_PASSED,
        *_REFUSED,
    }
)
_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}
_TIERS = {"auto": "auto", "default": "standard_only"}


def translate(
    document: dict[str, Any], *, model: str, stream: bool, default_max_tokens: int | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Anthropic request for an OpenAI one, and warnings. Raises UntranslatableError."""
    warnings: list[str] = []
    _refuse(document)
    system, messages = _conversation(document.get("messages"))
    limit = document.get("max_completion_tokens") or document.get("max_tokens")
    request: dict[str, Any] = {
        "model": model,
        "max_tokens": limit or default_max_tokens or DEFAULT_MAX_TOKENS,
        "messages": messages,
    }
    if system:
        request["system"] = system
    if stream:
        request["stream"] = True
    _sampling(document, request, warnings)
    _tools(document, request)
    _output(document, request, warnings)
    user = document.get("safety_identifier") or document.get("user")
    if user:
        request["metadata"] = {"user_id": user}
    tier = document.get("service_tier")
    if tier in _TIERS:
        request["service_tier"] = _TIERS[tier]
    elif tier:
        warnings.append(f"service_tier: {tier!r} is not known to this provider and was left out")
    for name in _PASSED:
        if document.get(name) is not None:
            request[name] = document[name]
    warnings += [
        f"{name}: not known to this provider and was left out"
        for name, value in document.items()
        if name not in _CONSUMED and value is not None and not _harmless(name, value)
    ]
    return request, tuple(warnings)


def _harmless(name: str, value: object) -> bool:
    """Whether a field at this value asks for nothing."""
    return (name in {"presence_penalty", "frequency_penalty", "top_logprobs"} and value == 0) or (
        name == "store" and value is False
    )


def _refuse(document: dict[str, Any]) -> None:
    for name in _REFUSED:
        if document.get(name):
            raise UntranslatableError(name, "this provider has nothing like it")
    if document.get("n") not in {None, 1}:
        raise UntranslatableError("n", "this provider gives one choice a call")
    if document.get("modalities") not in (None, ["text"]):
        raise UntranslatableError("modalities", "this provider answers in text alone")


def _sampling(document: dict[str, Any], request: dict[str, Any], warnings: list[str]) -> None:
    temperature = document.get("temperature")
    if temperature is not None:
        if temperature > _TEMPERATURE_MAX:
            warnings.append("temperature: lowered to 1, this provider's highest")
        request["temperature"] = min(temperature, _TEMPERATURE_MAX)
    stop = document.get("stop")
    if stop:
        request["stop_sequences"] = [stop] if isinstance(stop, str) else stop


def _tools(document: dict[str, Any], request: dict[str, Any]) -> None:
    tools = document.get("tools") or ()
    if tools:
        request["tools"] = [_tool(number, tool) for number, tool in enumerate(tools)]
    choice = _tool_choice(document.get("tool_choice"))
    if document.get("parallel_tool_calls") is False and tools:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice and tools:
        request["tool_choice"] = choice


def _tool(number: int, tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise UntranslatableError(f"tools[{number}].type", "only functions can be said here")
    function = tool["function"]
    translated: dict[str, Any] = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    for name in ("description", "strict"):
        if function.get(name) is not None:
            translated[name] = function[name]
    if tool.get("cache_control"):
        translated["cache_control"] = tool["cache_control"]
    return translated


def _tool_choice(choice: object) -> dict[str, Any] | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "tool", "name": name}
    raise UntranslatableError("tool_choice", "this provider has nothing like it")


def _output(document: dict[str, Any], request: dict[str, Any], warnings: list[str]) -> None:
    output: dict[str, Any] = {}
    match document.get("response_format"):
        case None | {"type": "text"}:
            pass
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            output["format"] = {"type": "json_schema", "schema": schema}
        case {"type": "json_object"}:
            # OpenAI requires that the prompt itself asks for JSON here, so the model is told anyway.
            warnings.append("response_format: json_object is left to the prompt at this provider")
        case _:
            raise UntranslatableError("response_format", "this provider has nothing like it")
    effort = document.get("reasoning_effort")
    if effort == "none":
        request["thinking"] = {"type": "disabled"}
    elif effort in _EFFORTS:
        output["effort"] = _EFFORTS[effort]
    elif effort is not None:
        raise UntranslatableError("reasoning_effort", f"{effort!r} is not known")
    if output:
        request["output_config"] = output


def _conversation(messages: object) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System blocks, and messages in which neighbours of one role are merged, tool results first."""
    if not isinstance(messages, list):
        raise UntranslatableError("messages", "must be a list")
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role in {"system", "developer"}:
            system += text_blocks(message.get("content"), where)
        elif role == "user":
            _append(turns, "user", user_blocks(message.get("content"), where))
        elif role == "tool":
            _append(turns, "user", [tool_result(message, where)])
        elif role == "assistant":
            _append(turns, "assistant", assistant_blocks(message, where))
        else:
            raise UntranslatableError(f"{where}.role", f"{role!r} cannot be said here")
    if not turns:
        raise UntranslatableError("messages", "this provider needs a user message")
    return system, turns


def _append(turns: list[dict[str, Any]], role: str, blocks: Iterable[dict[str, Any]]) -> None:
    blocks = list(blocks)
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def to_bytes(request: dict[str, Any]) -> bytes:
    """The request as it goes out."""
    return orjson.dumps(request)
