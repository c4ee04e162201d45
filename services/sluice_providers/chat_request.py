"""Reads an OpenAI request piece by piece, for the formats that say it otherwise.

What cannot be said raises UntranslatableError and names the field, where leaving it out would change what the caller
gets; where it would not, it is left out and a warning names it (`left_out`).
"""

import mimetypes
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson

from sluice_platform.values import frozen_value
from sluice_providers.adapter import UntranslatableError

READ: Final = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "n",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "modalities",
        "functions",
        "function_call",
        "audio",
        "logprobs",
        "logit_bias",
        "web_search_options",
    }
)
"""The fields that every translation reads or refuses."""
_REFUSED: Final = ("functions", "function_call", "audio", "logprobs", "logit_bias")
_BASE64: Final = ";base64"
_HARMLESS: Final[Mapping[str, object]] = {
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_logprobs": 0,
    "store": False,
}
"""Fields that ask for nothing at this value."""


@frozen_value
class Function:
    """A tool that the caller offers."""

    name: str
    description: str | None
    parameters: dict[str, Any] | None
    strict: bool | None
    cache_control: dict[str, Any] | None


@frozen_value
class Choice:
    """Whether tools must be called; `names` are those that alone may be, where not all may."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


@frozen_value
class Media:
    """A medium in a message: base64 `data` of its type, or the `url` where it lies."""

    mime: str | None
    data: str | None
    url: str | None


def offered(operation: str, *operations: str) -> None:
    """Raise UntranslatableError for an operation that a provider does not have."""
    if operation not in operations:
        raise UntranslatableError("url", f"this provider has no {operation}")


def refuse(document: Mapping[str, Any]) -> None:
    """Raise UntranslatableError for what none of these formats can say."""
    for name in (*_REFUSED, "web_search_options"):
        if document.get(name):
            raise UntranslatableError(name, "this provider has nothing like it")
    if document.get("modalities") not in (None, ["text"]):
        raise UntranslatableError("modalities", "this provider answers in text alone")


def one_choice(document: Mapping[str, Any]) -> None:
    """Raise UntranslatableError where several choices are asked for."""
    if document.get("n") not in {None, 1}:
        raise UntranslatableError("n", "this provider gives one choice a call")


def calls_in_parallel(document: Mapping[str, Any]) -> None:
    """Raise UntranslatableError where tools are offered that must not be called together."""
    if document.get("parallel_tool_calls") is False and document.get("tools"):
        raise UntranslatableError(
            "parallel_tool_calls", "this provider may always call several tools"
        )


def left_out(document: Mapping[str, Any], more: Set[str] = frozenset()) -> tuple[str, ...]:
    """A warning for each field that is neither in `READ` nor in `more` and asks for something."""
    return tuple(
        f"{name}: not known to this provider and was left out"
        for name, value in document.items()
        if name not in READ
        and name not in more
        and value is not None
        and not (name in _HARMLESS and value == _HARMLESS[name])
    )


def limit(document: Mapping[str, Any], default: int | None) -> int | None:
    """The most output tokens: the caller's, or else the model's default."""
    return document.get("max_completion_tokens") or document.get("max_tokens") or default


def stops(document: Mapping[str, Any]) -> list[str]:
    """The stop sequences."""
    stop = document.get("stop") or []
    return [stop] if isinstance(stop, str) else stop


def messages(document: Mapping[str, Any]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Each message with its place and role; `developer` is `system`. Raises UntranslatableError."""
    given = document.get("messages")
    if not isinstance(given, list):
        raise UntranslatableError("messages", "must be a list")
    if all(isinstance(m, dict) and m.get("role") in {"system", "developer"} for m in given):
        raise UntranslatableError("messages", "this provider needs a user message")
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in {"system", "developer", "user", "assistant", "tool"}:
            raise UntranslatableError(f"{where}.role", f"{role!r} cannot be said here")
        if message.get("function_call"):
            raise UntranslatableError(f"{where}.function_call", "only tool_calls can be said here")
        yield where, "system" if role == "developer" else role, message


def parts(message: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """The parts of a message's content, each with its place."""
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [(f"{where}.content", {"type": "text", "text": content})]
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return [(f"{where}.content[{number}]", part) for number, part in enumerate(content)]
    raise UntranslatableError(f"{where}.content", "must be a text or a list of parts")


def said(part: Mapping[str, Any]) -> str | None:
    """The text of a part; None where it is no text."""
    if part.get("type") in {"text", "refusal"}:
        return str(part.get("text") or part.get("refusal") or "")
    return None


def text(message: Mapping[str, Any], where: str, *, joint: str = "\n") -> str:
    """The text of a content that may be nothing else. Raises UntranslatableError."""
    found = []
    for place, part in parts(message, where):
        piece = said(part)
        if piece is None:
            raise UntranslatableError(f"{place}.type", "only text can be said here")
        found.append(piece)
    return joint.join(filter(None, found))


def medium(part: Mapping[str, Any], place: str) -> Media:
    """The image, file or sound of a part. Raises UntranslatableError for any other."""
    match part:
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _located(url, place)
        case {"type": "file", "file": {"file_data": str(data)}}:
            return _located(data, place)
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(form)}}:
            return Media(mime=f"audio/{form}", data=data, url=None)
    raise UntranslatableError(f"{place}.type", f"{part.get('type')!r} cannot be said here")


def _located(url: str, place: str) -> Media:
    if not url.startswith("data:"):
        return Media(mime=mimetypes.guess_type(urlsplit(url).path)[0], data=None, url=url)
    head, _, data = url[5:].partition(",")
    if not head.endswith(_BASE64):
        raise UntranslatableError(place, "a data URL must be in base64")
    return Media(mime=head[: -len(_BASE64)].partition(";")[0], data=data, url=None)


def carried(part: Mapping[str, Any], place: str) -> tuple[str, str]:
    """Type and base64 data of a medium that the request itself must carry. Raises UntranslatableError."""
    found = medium(part, place)
    if found.data is None:
        raise UntranslatableError(place, "this provider takes media as data URLs alone")
    return found.mime or "", found.data


def calls(message: Mapping[str, Any], where: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The tool calls of an assistant message, each with its arguments as an object."""
    found = []
    for number, call in enumerate(message.get("tool_calls") or ()):
        place = f"{where}.tool_calls[{number}]"
        if call.get("type", "function") != "function":
            raise UntranslatableError(f"{place}.type", "only functions can be said here")
        try:
            arguments = orjson.loads(call["function"].get("arguments") or "{}")
        except orjson.JSONDecodeError as exc:
            raise UntranslatableError(f"{place}.function.arguments", "is not JSON") from exc
        if not isinstance(arguments, dict):
            raise UntranslatableError(f"{place}.function.arguments", "is not a JSON object")
        found.append((call, arguments))
    return found


def functions(document: Mapping[str, Any]) -> list[Function]:
    """The tools that are offered. Raises UntranslatableError for what is no function."""
    found = []
    for number, tool in enumerate(document.get("tools") or ()):
        if tool.get("type") != "function":
            raise UntranslatableError(f"tools[{number}].type", "only functions can be said here")
        function = tool["function"]
        found.append(
            Function(
                name=function["name"],
                description=function.get("description"),
                parameters=function.get("parameters"),
                strict=function.get("strict"),
                cache_control=tool.get("cache_control"),
            )
        )
    return found


def choice(document: Mapping[str, Any]) -> Choice | None:
    """What `tool_choice` says; None where it says nothing. Raises UntranslatableError."""
    match document.get("tool_choice"):
        case None:
            return None
        case "auto" | "none" | "required" as mode:
            return Choice(mode=mode)
        case {"type": "function", "function": {"name": str(name)}}:
            return Choice(mode="required", names=(name,))
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}:
            names = tuple(tool["function"]["name"] for tool in tools)
            return Choice(mode="required" if mode == "required" else "auto", names=names)
    raise UntranslatableError("tool_choice", "this provider has nothing like it")


def output_schema(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `json_schema` that the answer must follow: {name, schema, …}; `{}` for any JSON, None for text."""
    match document.get("response_format"):
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return {}
        case {"type": "json_schema", "json_schema": {"schema": dict()} as schema}:
            return dict(schema)
    raise UntranslatableError("response_format", "this provider has nothing like it")


def effort(document: Mapping[str, Any]) -> str | None:
    """`reasoning_effort`. Raises UntranslatableError for one that OpenAI does not know."""
    value = document.get("reasoning_effort")
    if value is None or value in {"none", "minimal", "low", "medium", "high", "xhigh", "max"}:
        return value
    raise UntranslatableError("reasoning_effort", f"{value!r} is not known")


def inputs(document: Mapping[str, Any]) -> list[str]:
    """The texts of an embeddings request. Raises UntranslatableError for token ids."""
    given = document.get("input")
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not given or not all(isinstance(i, str) for i in given):
        raise UntranslatableError("input", "this provider embeds a text or a list of texts")
    return given


def unlike_a_chat(exc: Exception) -> UntranslatableError:
    """A request that translation fell over: a field that is not there, or one of another kind."""
    what = "lacks a field" if isinstance(exc, KeyError) else "is of another kind than expected"
    return UntranslatableError("body", f"is not a valid request: a part of it {what}")
