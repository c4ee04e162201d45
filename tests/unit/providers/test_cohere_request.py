"""OpenAI chat requests become Cohere requests, or are refused by the field's name."""

from typing import Any

import pytest

from sluice_core.usage.model import Usage
from sluice_providers.adapter import UntranslatableError
from sluice_providers.cohere_answer import read_usage
from sluice_providers.cohere_request import translate

USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]


def make(**body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    return translate(
        {"model": "fast", "messages": [USER]} | body,
        model="command-a",
        stream=False,
        default_max_tokens=None,
    )


def test_the_least() -> None:
    text = {"type": "text", "text": "hi"}
    request = {"model": "command-a", "messages": [{"role": "user", "content": [text]}]}
    assert make() == (request, ())


def test_sampling_and_limits() -> None:
    request, warnings = make(top_p=0.5, top_k=4, max_tokens=9, stop="x", seed=1, metadata={})
    assert {name: request[name] for name in ("p", "k", "max_tokens", "stop_sequences", "seed")} == {
        "p": 0.5,
        "k": 4,
        "max_tokens": 9,
        "stop_sequences": ["x"],
        "seed": 1,
    }
    assert warnings == ("metadata: not known to this provider and was left out",)


@pytest.mark.parametrize(
    ("choice", "names", "said"),
    [
        ("auto", ["f", "g"], None),
        ("none", ["f", "g"], "NONE"),
        ("required", ["f", "g"], "REQUIRED"),
        ({"type": "function", "function": {"name": "g"}}, ["g"], "REQUIRED"),
    ],
)
def test_tools(choice: Any, names: list[str], said: str | None) -> None:
    request, _ = make(tools=TOOLS, tool_choice=choice)
    assert [tool["function"]["name"] for tool in request["tools"]] == names
    assert request.get("tool_choice") == said


def test_structured_output_and_reasoning() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert make(response_format=form)[0]["response_format"] == {
        "type": "json_object",
        "json_schema": schema,
    }
    assert make(reasoning_effort="none")[0]["thinking"] == {"type": "disabled"}
    assert make(reasoning_effort="low")[0]["thinking"] == {"type": "enabled", "token_budget": 1024}
    assert make(reasoning_effort="high")[0]["thinking"] == {"type": "enabled"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
            "tool_choice",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
    ],
)
def test_what_cannot_be_said_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(UntranslatableError) as caught:
        make(**body)
    assert caught.value.param == param


def test_what_is_billed_counts_and_else_what_was_taken() -> None:
    billed = {"input_tokens": 3.0, "output_tokens": 4.0}
    taken = {"input_tokens": 63.0, "output_tokens": 6.5}
    both = {"billed_units": billed, "tokens": taken, "cached_tokens": 50.0}
    assert read_usage(both) == Usage(input_tokens=3, output_tokens=4, cache_read_tokens=3)
    assert read_usage({"tokens": taken}) == Usage(input_tokens=63, output_tokens=7)
    assert read_usage({"tokens": {"input_tokens": "3"}}) is None
    assert read_usage(None) is None
