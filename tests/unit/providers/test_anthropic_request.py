"""OpenAI chat requests become valid Anthropic requests, or are refused by the field's name."""

from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from pydantic import TypeAdapter

from sluice_providers.adapter import UntranslatableError
from sluice_providers.anthropic_request import translate

VALID: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "strict": True}}


def make(**body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request, warnings = translate(
        {"model": "fast", "messages": [USER]} | body,
        model="claude",
        stream=False,
        default_max_tokens=None,
    )
    VALID.validate_python(request)
    return request, warnings


def test_the_least() -> None:
    request, warnings = make()
    assert request == {
        "model": "claude",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }
    assert warnings == ()


def test_system_prompts_stand_apart_and_neighbours_are_merged() -> None:
    request, _ = make(
        messages=[
            {"role": "system", "content": "one"},
            {
                "role": "developer",
                "content": [
                    {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}
                ],
            },
            USER,
            {
                "role": "user",
                "content": [{"type": "text", "text": ""}, {"type": "text", "text": "more"}],
            },
        ]
    )
    assert request["system"] == [
        {"type": "text", "text": "one"},
        {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}},
    ]
    assert [[block["text"] for block in turn["content"]] for turn in request["messages"]] == [
        ["hi", "more"]
    ]


def test_tool_results_go_together_in_one_user_message() -> None:
    calls = [
        {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": arguments}}
        for n, arguments in enumerate(['{"a": 1}', ""])
    ]
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    request, _ = make(
        tools=[TOOL],
        messages=[
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": calls,
                "thinking_blocks": [thinking],
            },
            {"role": "tool", "tool_call_id": "c0", "content": "r0"},
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "r1"}]},
            {"role": "user", "content": "next"},
        ],
    )
    _, assistant, results = request["messages"]
    assert assistant["content"] == [
        thinking,
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
    ]
    assert [block["type"] for block in results["content"]] == ["tool_result", "tool_result", "text"]
    assert request["tools"] == [
        {
            "name": "f",
            "description": "d",
            "strict": True,
            "input_schema": {"type": "object", "properties": {}},
        }
    ]


def test_media() -> None:
    request, _ = make(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,BBBB"}},
                ],
            }
        ]
    )
    assert [block["source"] for block in request["messages"][0]["content"]] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://x/y.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "BBBB"},
    ]


@pytest.mark.parametrize(
    ("choice", "parallel", "expected"),
    [
        (None, None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
    ],
)
def test_tool_choice(choice: Any, parallel: bool | None, expected: dict[str, Any] | None) -> None:
    request, _ = make(tools=[TOOL], tool_choice=choice, parallel_tool_calls=parallel)
    assert request.get("tool_choice") == expected


def test_sampling_limits_and_attribution() -> None:
    request, warnings = make(
        max_completion_tokens=9,
        temperature=1.7,
        top_p=0.5,
        stop="END",
        user="u",
        service_tier="default",
        reasoning_effort="minimal",
        presence_penalty=0,
        store=False,
        n=1,
    )
    assert request["max_tokens"] == 9
    assert request["temperature"] == 1.0
    assert request["top_p"] == 0.5
    assert request["stop_sequences"] == ["END"]
    assert request["metadata"] == {"user_id": "u"}
    assert request["service_tier"] == "standard_only"
    assert request["output_config"] == {"effort": "low"}
    assert len(warnings) == 1
    assert warnings[0].startswith("temperature")


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    request, _ = make(response_format=form)
    assert request["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    _, warnings = make(response_format={"type": "json_object"})
    assert "response_format" in warnings[0]


def test_what_does_no_harm_is_left_out_with_a_warning() -> None:
    _, warnings = make(seed=1, presence_penalty=0.5, service_tier="flex", prompt_cache_key="k")
    assert sorted(text.partition(":")[0] for text in warnings) == [
        "presence_penalty",
        "prompt_cache_key",
        "seed",
        "service_tier",
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "system", "content": "alone"}]}, "messages"),
        ({"messages": [{"role": "critic", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}
                ]
            },
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}],
                    }
                ]
            },
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    USER,
                    {
                        "role": "assistant",
                        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}],
                    },
                ]
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
    ],
)
def test_what_cannot_be_said_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(UntranslatableError) as raised:
        make(**body)
    assert raised.value.param == param
    assert str(raised.value).startswith(param)
