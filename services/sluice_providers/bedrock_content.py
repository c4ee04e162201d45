"""Translates OpenAI messages into Converse's messages and their content blocks."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError

CACHE_POINT: Final = {"cachePoint": {"type": "default"}}
_IMAGES: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_UNNAMED: Final = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")
"""What a document's name may not hold."""


def conversation(
    document: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System blocks, and messages in which neighbours of one role are merged. Raises UntranslatableError."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for where, role, message in asked.messages(document):
        match role:
            case "system":
                system += _texts(message, where)
            case "user":
                _append(turns, "user", _user(message, where))
            case "tool":
                _append(turns, "user", _result(message, where))
            case _:
                _append(turns, "assistant", _answer(message, where))
    if not turns:
        raise UntranslatableError("messages", "this provider needs a user message")
    return system, turns


def _append(turns: list[dict[str, Any]], role: str, blocks: list[dict[str, Any]]) -> None:
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _marked(block: dict[str, Any], part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A block, and behind it the caller's cache mark, which saves money."""
    mark = part.get("cache_control")
    if not mark:
        return [block]
    hour = isinstance(mark, dict) and mark.get("ttl") == "1h"
    point = {"cachePoint": {"type": "default", "ttl": "1h"}} if hour else CACHE_POINT
    return [block, point]


def _texts(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """Blocks of a content that may be text alone; blank texts, which Bedrock refuses, are left out."""
    blocks: list[dict[str, Any]] = []
    for place, part in asked.parts(message, where):
        text = asked.said(part)
        if text is None:
            raise UntranslatableError(f"{place}.type", "only text can be said here")
        if text.strip():
            blocks += _marked({"text": text}, part)
    return blocks


def _user(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for number, (place, part) in enumerate(asked.parts(message, where)):
        text = asked.said(part)
        if text is None:
            blocks += _marked(_medium(part, place, number), part)
        elif text.strip():
            blocks += _marked({"text": text}, part)
    return blocks


def _medium(part: Mapping[str, Any], place: str, number: int) -> dict[str, Any]:
    mime, data = asked.carried(part, place)
    if mime in _IMAGES:
        return {"image": {"format": _IMAGES[mime], "source": {"bytes": data}}}
    if mime in _DOCUMENTS:
        file = part.get("file")
        given = file.get("filename") if isinstance(file, dict) else None
        name = _UNNAMED.sub(" ", str(given or "")).strip() or f"document {number}"
        source = {"bytes": data}
        return {"document": {"format": _DOCUMENTS[mime], "name": name, "source": source}}
    raise UntranslatableError(place, f"{mime!r} cannot be said here")


def _result(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    text = asked.text(message, where)
    content = [{"text": text}] if text.strip() else []
    result = {"toolUseId": message.get("tool_call_id"), "content": content}
    return [{"toolResult": result}]


def _answer(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """What the model said before: its reasoning as it was answered, text, tool calls."""
    blocks = [_thought(block) for block in message.get("thinking_blocks") or ()]
    blocks += _texts(message, where)
    for call, arguments in asked.calls(message, where):
        name = call["function"]["name"]
        blocks.append({"toolUse": {"toolUseId": call["id"], "name": name, "input": arguments}})
    return blocks


def _thought(block: Mapping[str, Any]) -> dict[str, Any]:
    if block["type"] == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": block["data"]}}
    text = {"text": block["thinking"]}
    if block.get("signature"):
        text["signature"] = block["signature"]
    return {"reasoningContent": {"reasoningText": text}}
