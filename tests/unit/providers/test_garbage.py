"""No answer of any provider, however wrong, makes an adapter raise anything but its own errors."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.calls import call_of

from sluice_devstack.mock_provider.bedrock_form import Converse
from sluice_devstack.mock_provider.behaviour import parse
from sluice_devstack.mock_provider.cohere_form import Chat
from sluice_devstack.mock_provider.gemini_form import Generated
from sluice_devstack.mock_provider.ollama_form import Said
from sluice_providers.adapter import AdapterError
from sluice_providers.port import Call
from sluice_providers.registry import adapter_for
from sluice_providers.sse import Event

SAID = "hello\ncall:add {}"
MESSAGES = [{"role": "user", "content": SAID}]
TOOLS = [{"function": {"name": "add"}}]
HOW = parse("reasoning=3,cached=1")
CONVERSE = {
    "messages": [{"role": "user", "content": [{"text": SAID}]}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "add"}}]},
}
GENERATE = {
    "contents": [{"role": "user", "parts": [{"text": SAID}]}],
    "tools": [{"functionDeclarations": [{"name": "add"}]}],
    "generationConfig": {"thinkingConfig": {"includeThoughts": True}},
}
OLLAMA = {"messages": MESSAGES, "tools": TOOLS, "think": True}
ANSWERS: dict[str, Any] = {
    "bedrock": Converse(CONVERSE, HOW, 1),
    "cohere": Chat({"messages": MESSAGES, "tools": TOOLS}, HOW, 1),
    "gemini": Generated(GENERATE, "m", HOW, 1),
    "ollama": Said(OLLAMA, "m", HOW),
}
WRONG = st.sampled_from([None, 0, -1, 2.5, True, "", "x", [], [1], {}, {"a": 1}])


def call(kind: str, *, stream: bool) -> Call:
    return call_of(kind, {"messages": MESSAGES}, stream=stream)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from places(item, (*path, key))


def spoilt(document: Any, data: st.DataObject) -> Any:
    """The document with something else, or nothing, at one place."""
    path = data.draw(st.sampled_from(list(places(document))))
    if not path:
        return data.draw(WRONG)
    copied = orjson.loads(orjson.dumps(document))
    holder = copied
    for key in path[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()):
        del holder[path[-1]]
    else:
        holder[path[-1]] = data.draw(WRONG)
    return copied


@pytest.mark.parametrize("kind", ANSWERS)
@given(data=st.data())
def test_whole_answers(kind: str, data: st.DataObject) -> None:
    document = spoilt(orjson.loads(ANSWERS[kind].body()), data)
    try:
        whole = adapter_for(kind).whole(call(kind, stream=False), orjson.dumps(document), {})
    except AdapterError:
        return
    assert orjson.loads(whole.body)["choices"]


@pytest.mark.parametrize("kind", ANSWERS)
@given(data=st.data())
def test_streams(kind: str, data: st.DataObject) -> None:
    adapter = adapter_for(kind)
    parser = adapter.framing.parser(10**6)
    events = [event for piece in ANSWERS[kind].events() for event in parser.feed(piece)]
    events = [event for event in events if event.data != b"[DONE]"]
    number = data.draw(st.integers(0, len(events) - 1))
    wrong = spoilt(orjson.loads(events[number].data), data)
    events[number] = Event(events[number].kind, orjson.dumps(wrong))
    reader = adapter.stream(call(kind, stream=True), {"stream_options": {"include_usage": True}})
    try:
        for event in events:
            reader.feed(event)
        reader.whole()
    except AdapterError:
        return


@pytest.mark.parametrize("kind", [*ANSWERS, "vertex"])
@given(
    document=st.recursive(
        WRONG,
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    ["error", "message", "status", "details", "code", "@type", "__type"]
                ),
                inner,
            )
            | st.lists(inner, max_size=2)
        ),
    ),
    status=st.sampled_from([302, 400, 401, 429, 498, 500]),
)
def test_refusals(kind: str, document: Any, status: int) -> None:
    for body in (orjson.dumps(document), b"\xff<html>", b""):
        refusal = adapter_for(kind).refusal(status, body, {})
        assert refusal.message
        assert set(orjson.loads(refusal.body)["error"]) == {"message", "type", "param", "code"}


FIELDS = [
    "messages", "tools", "tool_choice", "response_format", "reasoning_effort", "thinking", "stop",
    "options", "max_tokens", "temperature", "n", "service_tier", "input", "safety_settings",
]  # fmt: skip


@pytest.mark.parametrize("kind", [*ANSWERS, "vertex"])
@given(
    body=st.dictionaries(st.sampled_from(FIELDS), WRONG, max_size=4),
    inner=st.data(),
    chat=st.booleans(),
)
def test_requests(kind: str, body: dict[str, Any], inner: st.DataObject, chat: bool) -> None:
    whole = {
        "messages": [
            {"role": "system", "content": "x"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}
                ],
            },
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "3"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "input": ["x"],
    }
    document = spoilt(whole, inner)
    document = (document if isinstance(document, dict) else {}) | body
    made = call(kind, stream=False)
    made.operation = "chat" if chat else "embeddings"
    try:
        adapter_for(kind).outgoing(made, document)
    except AdapterError:
        return
