"""Translates an OpenAI chat request into Ollama's own."""

from collections.abc import Mapping
from typing import Any, Final

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError
from sluice_providers.port import Target

_OPTIONS: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repeat_penalty",
)
_READ: Final = frozenset({*_OPTIONS, "options", "keep_alive"})
_LEVELS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


def translate(
    document: dict[str, Any], target: Target, *, stream: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The Ollama request for an OpenAI one, and warnings. Raises UntranslatableError."""
    asked.refuse(document)
    asked.one_choice(document)
    asked.calls_in_parallel(document)
    warnings = list(asked.left_out(document, _READ))
    # Without `stream` it would stream.
    request: dict[str, Any] = {
        "model": target.model,
        "messages": _conversation(document),
        "stream": stream,
    }
    options = _options(document, target)
    if options:
        request["options"] = options
    tools = _tools(document)
    if tools:
        request["tools"] = tools
    schema = asked.output_schema(document)
    if schema is not None:
        request["format"] = schema["schema"] if schema else "json"
    effort = asked.effort(document)
    if effort is not None:
        request["think"] = _think(effort, target.model, warnings)
    if document.get("keep_alive") is not None:
        request["keep_alive"] = document["keep_alive"]
    return request, tuple(warnings)


def _options(document: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """Sampling and limits; the caller's own `options` go over them, the account's `num_ctx` under."""
    given = dict(document.get("options") or {})
    if "num_predict" in given:
        # What a job may take at most is known by its own word for it.
        raise UntranslatableError("options.num_predict", "is said as max_tokens")
    options: dict[str, Any] = {}
    if "num_ctx" in target.options:
        options["num_ctx"] = int(target.options["num_ctx"])
    options |= {name: document[name] for name in _OPTIONS if document.get(name) is not None}
    limit = asked.limit(document, target.default_max_tokens)
    if limit is not None:
        options["num_predict"] = limit
    stops = asked.stops(document)
    if stops:
        options["stop"] = stops
    return options | given


def _tools(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that the model may call: those that it may not are not shown to it."""
    functions = asked.functions(document)
    choice = asked.choice(document)
    if choice is not None and choice.mode == "required":
        raise UntranslatableError("tool_choice", "this provider cannot be made to call a tool")
    if choice is not None and choice.mode == "none":
        return []
    names = choice.names if choice is not None else ()
    return [
        {
            "type": "function",
            "function": {
                "name": function.name,
                "description": function.description or "",
                "parameters": function.parameters or {"type": "object", "properties": {}},
            },
        }
        for function in functions
        if not names or function.name in names
    ]


def _think(effort: str, model: str, warnings: list[str]) -> bool | str:
    if effort == "none":
        return False
    if "gpt-oss" in model:
        return _LEVELS[effort]
    warnings.append("reasoning_effort: this model reasons or does not, without levels")
    return True


def _conversation(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    return [
        _message(where, role, message, names) for where, role, message in asked.messages(document)
    ]


def _message(
    where: str, role: str, message: Mapping[str, Any], names: dict[str, str]
) -> dict[str, Any]:
    match role:
        case "user":
            return _user(message, where)
        case "assistant":
            return _answer(message, where, names)
        case "tool":
            identity = str(message.get("tool_call_id"))
            name = names.get(identity) or message.get("name")
            if not name:
                reason = "no tool call before it has this id"
                raise UntranslatableError(f"{where}.tool_call_id", reason)
            text = asked.text(message, where)
            return {"role": "tool", "tool_name": name, "tool_call_id": identity, "content": text}
    return {"role": role, "content": asked.text(message, where)}


def _user(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Texts as one, images beside them as bare base64."""
    texts: list[str] = []
    images: list[str] = []
    for place, part in asked.parts(message, where):
        text = asked.said(part)
        if text is not None:
            texts.append(text)
        elif part.get("type") == "image_url":
            images.append(asked.carried(part, place)[1])
        else:
            raise UntranslatableError(f"{place}.type", f"{part.get('type')!r} cannot be said here")
    translated: dict[str, Any] = {"role": "user", "content": "\n".join(filter(None, texts))}
    return translated | ({"images": images} if images else {})


def _answer(message: Mapping[str, Any], where: str, names: dict[str, str]) -> dict[str, Any]:
    translated: dict[str, Any] = {"role": "assistant", "content": asked.text(message, where)}
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str):
        translated["thinking"] = thinking
    calls = []
    for call, arguments in asked.calls(message, where):
        name = call["function"]["name"]
        names[str(call.get("id"))] = name
        calls.append({"id": call.get("id"), "function": {"name": name, "arguments": arguments}})
    return translated | ({"tool_calls": calls} if calls else {})
