"""OpenAI chat requests become Converse requests that AWS's own model of them accepts."""

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from sluice_providers.adapter import UntranslatableError
from sluice_providers.bedrock_request import translate

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SHAPE = (
    botocore.session.Session()
    .get_service_model("bedrock-runtime")
    .operation_model("Converse")
    .input_shape
)
CLAUDE = "anthropic.claude-sonnet-4-5"


def make(model: str = CLAUDE, **body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request, warnings = translate(
        {"model": "fast", "messages": [USER]} | body, model=model, default_max_tokens=None
    )
    report = ParamValidator().validate({"modelId": model} | request, SHAPE)
    assert not report.has_errors(), report.generate_report()
    return request, warnings


def test_the_least() -> None:
    assert make() == ({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}, ())


def test_everything_that_can_be_said() -> None:
    schema = {"type": "object"}
    request, warnings = make(
        messages=[
            {"role": "system", "content": "one"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}},
                    {
                        "type": "file",
                        "file": {
                            "file_data": "data:application/pdf;base64,aa",
                            "filename": "a_b.pdf",
                        },
                    },
                ],
            },
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "user", "content": "and?"},
        ],
        tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "f"}},
        max_tokens=9,
        temperature=0.5,
        top_p=0.9,
        stop=["x"],
        top_k=4,
        service_tier="flex",
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        reasoning_effort="minimal",
        seed=3,
    )
    assert request["system"] == [{"text": "one"}]
    assert [list(block) for block in request["messages"][0]["content"]] == [
        ["text"],
        ["cachePoint"],
        ["image"],
        ["document"],
    ]
    assert request["messages"][0]["content"][3]["document"]["name"] == "a b pdf"
    assert request["messages"][1]["content"] == [
        {"toolUse": {"toolUseId": "c1", "name": "f", "input": {"a": 1}}}
    ]
    assert request["messages"][2]["content"] == [
        {"toolResult": {"toolUseId": "c1", "content": [{"text": "3"}]}},
        {"text": "and?"},
    ]
    assert request["toolConfig"]["toolChoice"] == {"tool": {"name": "f"}}
    assert request["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["x"],
    }
    assert request["additionalModelRequestFields"] == {"top_k": 4}
    assert request["serviceTier"] == {"type": "flex"}
    assert request["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": '{"type":"object"}', "name": "a"}},
        },
        "effort": "low",
    }
    assert warnings == ("seed: not known to this provider and was left out",)


@pytest.mark.parametrize(
    ("model", "effort", "fields"),
    [
        (CLAUDE, "none", {"thinking": {"type": "disabled"}}),
        ("openai.gpt-oss-20b-1:0", "low", {"reasoning_effort": "low"}),
        (
            "amazon.nova-2-lite-v1:0",
            "xhigh",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
        ),
    ],
)
def test_reasoning_by_maker(model: str, effort: str, fields: dict[str, Any]) -> None:
    assert make(model, reasoning_effort=effort)[0]["additionalModelRequestFields"] == fields


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        (
            {
                "messages": [USER, {"role": "assistant", "tool_calls": [CALL]}],
                "tools": [TOOL],
                "tool_choice": "none",
            },
            "tool_choice",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}
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


def test_an_unknown_maker_has_no_effort() -> None:
    with pytest.raises(UntranslatableError, match="reasoning_effort"):
        make("meta.llama3", reasoning_effort="low")
