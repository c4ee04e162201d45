"""What an answer must be to pass: JSON as the request wants it, and something that is no refusal."""

import time
from typing import Any

import pytest

from sluice_core.config.routing import Check
from sluice_core.routing.escalation import shortcoming

ALL = Check()
PERSON = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": PERSON}}


def answer(content: Any = "hello", finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": content, **message}, "finish_reason": finish}]}


def asking(schema: Any = PERSON, kind: str = "json_schema") -> dict[str, Any]:
    return {"response_format": {"type": kind, "json_schema": {"name": "p", "schema": schema}}}


def called(arguments: str, name: str = "add") -> dict[str, Any]:
    calls = [{"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}]
    return answer(None, "tool_calls", tool_calls=calls)


@pytest.mark.parametrize(
    ("request_", "given", "expected"),
    [
        ({}, answer(), None),
        ({}, answer(""), "it says nothing"),
        ({}, answer("  \n"), "it says nothing"),
        ({}, answer(None), "it says nothing"),
        ({}, answer(None, refusal="I cannot"), "it refuses"),
        ({}, answer("half", "content_filter"), "it was filtered"),
        ({}, answer(None, audio={"id": "a"}), None),
        (asking(), answer('{"name": "Ann", "age": 3}'), None),
        (asking(), answer('{"age": 3}'), "it is not as its schema wants it"),
        (asking(), answer('{"name": "Ann", "more": 1}'), "it is not as its schema wants it"),
        (asking(), answer("Ann"), "it is not JSON"),
        (asking(kind="json_object"), answer('{"x": 1}'), None),
        (asking(kind="json_object"), answer("[1]"), "it is not as its schema wants it"),
        (asking(kind="text"), answer("Ann"), None),
        (asking(None), answer("1"), None),
        (asking({"type": "no such type"}), answer("1"), None),
        (asking({"$ref": "http://127.0.0.1:9/schema"}), answer("1"), None),
        ({"tools": [TOOL]}, called('{"name": "Ann"}'), None),
        ({"tools": [TOOL]}, called("{}"), "arguments of add: it is not as its schema wants it"),
        ({"tools": [TOOL]}, called("{"), "arguments of add: it is not JSON"),
        ({"tools": [TOOL]}, called("{}", "other"), None),
        ({"tools": [TOOL], **asking()}, called('{"name": "Ann"}'), None),
    ],
)
def test_what_passes(request_: dict[str, Any], given: dict[str, Any], expected: str | None) -> None:
    assert shortcoming(ALL, request_, given) == expected


def test_only_what_is_asked_for_is_checked() -> None:
    assert shortcoming(Check(schema=False), asking(), answer("Ann")) is None
    assert shortcoming(Check(refusal=False), {}, answer(None, refusal="no")) is None


def test_every_choice_must_pass() -> None:
    both = {"choices": [*answer('{"name": "A"}')["choices"], *answer("no")["choices"]]}
    assert shortcoming(ALL, asking(), both) == "it is not JSON"


def test_a_pattern_that_would_take_for_ever_does_not() -> None:
    schema = {"type": "string", "pattern": "^(a+)+$"}
    since = time.monotonic()
    assert shortcoming(ALL, asking(schema), answer(f'"{"a" * 60}b"')) is not None
    assert time.monotonic() - since < 1
