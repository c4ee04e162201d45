"""Translates the contents of OpenAI messages into Anthropic's content blocks."""

from typing import Any

import orjson

from sluice_providers.adapter import UntranslatableError

_BASE64 = ";base64"


def _parts(content: object, where: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return content
    raise UntranslatableError(f"{where}.content", "must be a text or a list of parts")


def _marked(block: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Keep the caller's cache mark, which saves money."""
    if part.get("cache_control"):
        block["cache_control"] = part["cache_control"]
    return block


def text_blocks(content: object, where: str) -> list[dict[str, Any]]:
    """Blocks of a content that may be text alone; empty texts, which Anthropic refuses, are left out."""
    blocks = []
    for number, part in enumerate(_parts(content, where)):
        if part.get("type") not in {"text", "refusal"}:
            raise UntranslatableError(
                f"{where}.content[{number}].type", "only text can be said here"
            )
        text = part.get("text") or part.get("refusal")
        if text:
            blocks.append(_marked({"type": "text", "text": text}, part))
    return blocks


def user_blocks(content: object, where: str) -> list[dict[str, Any]]:
    """Blocks of a user message: text, images, PDF files."""
    blocks = []
    for number, part in enumerate(_parts(content, where)):
        place = f"{where}.content[{number}]"
        block: dict[str, Any] | None
        match part:
            case {"type": "text", "text": str(text)}:
                block = {"type": "text", "text": text} if text else None
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                block = {"type": "image", "source": _source(url, place)}
            case {"type": "file", "file": {"file_data": str(data)}}:
                block = {"type": "document", "source": _source(data, place)}
            case _:
                kind = part.get("type")
                raise UntranslatableError(f"{place}.type", f"{kind!r} cannot be said here")
        if block is not None:
            blocks.append(_marked(block, part))
    return blocks


def _source(url: str, place: str) -> dict[str, Any]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url[5:].partition(",")
    if not head.endswith(_BASE64):
        raise UntranslatableError(place, "a data URL must be in base64")
    return {"type": "base64", "media_type": head[: -len(_BASE64)].partition(";")[0], "data": data}


def tool_result(message: dict[str, Any], where: str) -> dict[str, Any]:
    """The block of a tool's result."""
    return {
        "type": "tool_result",
        "tool_use_id": message.get("tool_call_id"),
        "content": text_blocks(message.get("content"), where),
    }


def assistant_blocks(message: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """Blocks of an assistant message: thinking as it was answered, text, tool calls."""
    if message.get("function_call"):
        raise UntranslatableError(f"{where}.function_call", "only tool_calls can be said here")
    blocks: list[dict[str, Any]] = list(message.get("thinking_blocks") or ())
    blocks += text_blocks(message.get("content"), where)
    for number, call in enumerate(message.get("tool_calls") or ()):
        place = f"{where}.tool_calls[{number}]"
        if call.get("type", "function") != "function":
            raise UntranslatableError(f"{place}.type", "only functions can be said here")
        arguments = call["function"].get("arguments") or "{}"
        try:
            value = orjson.loads(arguments)
        except orjson.JSONDecodeError as exc:
            raise UntranslatableError(f"{place}.function.arguments", "is not JSON") from exc
        if not isinstance(value, dict):
            raise UntranslatableError(f"{place}.function.arguments", "is not a JSON object")
        blocks.append(
            {"type": "tool_use", "id": call["id"], "name": call["function"]["name"], "input": value}
        )
    return blocks
