"""Translates OpenAI messages into Gemini's contents and their parts."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from sluice_providers import chat_request as asked
from sluice_providers.adapter import UntranslatableError

_FOREIGN: Final = "skip_thought_signature_validator"
"""Google's own word for a call that another model made, so that it has no signature of Gemini's."""


def conversation(
    document: Mapping[str, Any], *, model: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System parts, and contents in which neighbours of one role are merged. Raises UntranslatableError."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    for where, role, message in asked.messages(document):
        match role:
            case "system":
                text = asked.text(message, where)
                system += [{"text": text}] if text else []
            case "user":
                _append(turns, "user", _user(message, where))
            case "tool":
                _append(turns, "user", [_result(message, where, names)])
            case _:
                _append(turns, "model", _answer(message, where, names, model))
    if not turns:
        raise UntranslatableError("messages", "this provider needs a user message")
    return system, turns


def _append(turns: list[dict[str, Any]], role: str, parts: list[dict[str, Any]]) -> None:
    if not parts:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["parts"] += parts
    else:
        turns.append({"role": role, "parts": parts})


def _user(message: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for place, part in asked.parts(message, where):
        text = asked.said(part)
        if text is not None:
            found += [{"text": text}] if text else []
            continue
        medium = asked.medium(part, place)
        if medium.data is not None:
            found.append({"inlineData": {"mimeType": medium.mime, "data": medium.data}})
            continue
        located = {"fileUri": medium.url}
        if medium.mime:
            located["mimeType"] = medium.mime
        found.append({"fileData": located})
    return found


def _result(message: Mapping[str, Any], where: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A tool's result, by the name of the call that it answers."""
    identity = message.get("tool_call_id")
    name = names.get(str(identity)) or message.get("name")
    if not name:
        raise UntranslatableError(f"{where}.tool_call_id", "no tool call before it has this id")
    text = asked.text(message, where)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    response = value if isinstance(value, dict) else {"result": text}
    answered = {"id": identity, "name": name, "response": response}
    return {"functionResponse": answered}


def _answer(
    message: Mapping[str, Any], where: str, names: dict[str, str], model: str
) -> list[dict[str, Any]]:
    """What the model said before: text and calls, with the signatures of the thoughts behind them."""
    found: list[dict[str, Any]] = []
    text = asked.text(message, where)
    signature = _signature(message)
    if text or signature:
        found.append({"text": text} | ({"thoughtSignature": signature} if signature else {}))
    for number, (call, arguments) in enumerate(asked.calls(message, where)):
        name = call["function"]["name"]
        names[str(call.get("id"))] = name
        part: dict[str, Any] = {
            "functionCall": {"id": call.get("id"), "name": name, "args": arguments}
        }
        signature = _signature(call)
        if signature is None and number == 0 and "gemini-3" in model:
            signature = _FOREIGN
        found.append(part | ({"thoughtSignature": signature} if signature else {}))
    return found


def _signature(holder: Mapping[str, Any]) -> str | None:
    """The signature where Google's own OpenAI-compatible endpoint keeps it."""
    extra = holder.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    value = google.get("thought_signature") if isinstance(google, dict) else None
    return value if isinstance(value, str) else None
