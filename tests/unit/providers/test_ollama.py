"""OpenAI chat requests become Ollama requests that its SDK knows; its lines are read however they are cut."""

from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.calls import target_of

from sluice_providers.adapter import UntranslatableError
from sluice_providers.ndjson import NdjsonParser
from sluice_providers.ollama_answer import read_usage
from sluice_providers.ollama_request import translate
from sluice_providers.sse import EventTooLargeError

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def make(model: str = "qwen3", **body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    target = target_of("ollama", model=model, options={"num_ctx": "8192"})
    request, warnings = translate(
        {"model": "fast", "messages": [USER]} | body, target, stream=False
    )
    ollama._types.ChatRequest.model_validate(request)
    return request, warnings


def test_the_least() -> None:
    request = {
        "model": "qwen3",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "options": {"num_ctx": 8192},
    }
    assert make() == (request, ())


def test_options() -> None:
    request, warnings = make(
        max_tokens=9, temperature=0, seed=1, stop=["x"], top_k=3, options={"num_ctx": 64}, user="u"
    )
    assert request["options"] == {
        "num_ctx": 64,
        "num_predict": 9,
        "temperature": 0,
        "seed": 1,
        "stop": ["x"],
        "top_k": 3,
    }
    assert warnings == ("user: not known to this provider and was left out",)


def test_reasoning_and_formats() -> None:
    assert make(reasoning_effort="none")[0]["think"] is False
    assert make("gpt-oss:20b", reasoning_effort="xhigh")[0]["think"] == "high"
    request, warnings = make(reasoning_effort="low")
    assert (request["think"], len(warnings)) == (True, 1)
    shape = {"name": "a", "schema": {"type": "object"}}
    form = {"type": "json_schema", "json_schema": shape}
    assert make(response_format=form)[0]["format"] == {"type": "object"}
    assert make(response_format={"type": "json_object"})[0]["format"] == "json"


def test_tools_and_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    request, _ = make(
        tools=[TOOL],
        messages=[
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ],
    )
    assert request["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}],
        },
        {"role": "tool", "tool_name": "f", "tool_call_id": "c1", "content": "3"},
    ]
    assert "tools" not in make(tools=[TOOL], tool_choice="none")[0]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ({"logprobs": True}, "logprobs"),
        ({"options": {"num_predict": -1}}, "options.num_predict"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
                    }
                ]
            },
            "messages[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_said_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(UntranslatableError) as caught:
        make(**body)
    assert caught.value.param == param


def test_a_missing_counter_is_no_usage() -> None:
    assert read_usage({"eval_count": 3}) is None
    usage = read_usage({"prompt_eval_count": 2, "eval_count": 3})
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (2, 3)


@given(st.lists(st.binary(max_size=6).filter(lambda line: b"\n" not in line)), st.data())
def test_lines_are_read_however_they_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    parser, found = NdjsonParser(limit=10), []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += [event.data for event in parser.feed(text[start:end])]
    assert found == [line for line in lines if line.strip()]


def test_a_line_has_a_limit() -> None:
    parser = NdjsonParser(limit=10)
    assert parser.feed(b"12345") == []
    with pytest.raises(EventTooLargeError):
        parser.feed(b"678901")
