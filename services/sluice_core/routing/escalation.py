"""Pure: whether an answer is good enough, or a stronger target is to be asked."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
import orjson

from sluice_core.config.routing import Check

_REMEMBERED: Final = 256
_REGULAR: Final = jsonschema_rs.RegexOptions()
"""Patterns of the language that is matched in linear time: a caller's own must not hold up everybody."""


def shortcoming(check: Check, request: Mapping[str, Any], answer: Mapping[str, Any]) -> str | None:
    """Why a chat answer does not pass what can be told from it alone, in a few words; None: it does.

    `request` and `answer` are in OpenAI's form. A request whose schema is none asks for nothing.
    """
    for choice in answer.get("choices") or ():
        message = choice.get("message") or {}
        if check.refusal and (why := _refusal(choice, message)) is not None:
            return why
        if check.json_schema and (why := _misshapen(request, message)) is not None:
            return why
    return None


def _refusal(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    if message.get("refusal"):
        return "it refuses"
    if choice.get("finish_reason") == "content_filter":
        return "it was filtered"
    if message.get("tool_calls") or message.get("audio"):
        return None
    content = message.get("content")
    said = content.strip() if isinstance(content, str) else content
    return None if said else "it says nothing"


def _misshapen(request: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    calls = message.get("tool_calls") or ()
    schemas = {
        tool["function"].get("name"): tool["function"].get("parameters")
        for tool in request.get("tools") or ()
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    }
    for call in calls:
        function = call.get("function") or {}
        why = _unlike(function.get("arguments") or "{}", schemas.get(function.get("name")))
        if why is not None:
            return f"arguments of {function.get('name')}: {why}"
    wanted = request.get("response_format")
    if calls or not isinstance(wanted, dict):
        return None
    if wanted.get("type") == "json_object":
        return _unlike(message.get("content"), {"type": "object"})
    if wanted.get("type") == "json_schema":
        named = wanted.get("json_schema")
        return _unlike(
            message.get("content"), named.get("schema") if isinstance(named, dict) else None
        )
    return None


def _unlike(text: object, schema: object) -> str | None:
    """Why a text is not JSON as a schema wants it."""
    try:
        value = orjson.loads(text if isinstance(text, str) else "")
    except orjson.JSONDecodeError:
        return "it is not JSON"
    if not isinstance(schema, dict):
        return None
    validator = _validator(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
    if validator is None or validator.is_valid(value):
        return None
    return "it is not as its schema wants it"


@lru_cache(_REMEMBERED)
def _validator(schema: bytes) -> Any:
    """None for what is no schema, or refers to something elsewhere: nothing is fetched."""
    try:
        return jsonschema_rs.validator_for(
            orjson.loads(schema), pattern_options=_REGULAR, retriever=_nothing
        )
    except (jsonschema_rs.ValidationError, ValueError):
        return None


def _nothing(uri: str) -> Any:
    raise ValueError(f"{uri} is not fetched")
