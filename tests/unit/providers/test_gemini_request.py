"""OpenAI chat requests become Gemini requests that Google's SDK knows, or are refused by the field's name."""

from typing import Any

import pytest
from google.genai import types

from sluice_providers.adapter import UntranslatableError
from sluice_providers.gemini_answer import read_usage
from sluice_providers.gemini_request import translate

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def make(model: str = "gemini-2.5-flash", **body: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    request, warnings = translate(
        {"model": "fast", "messages": [USER]} | body, model=model, default_max_tokens=None
    )
    types.GenerationConfig.model_validate(request.get("generationConfig", {}))
    for content in request["contents"]:
        types.Content.model_validate(content)
    for tool in request.get("tools", ()):
        types.Tool.model_validate(tool)
    types.ToolConfig.model_validate(request.get("toolConfig", {}))
    return request, warnings


def test_the_least() -> None:
    assert make() == ({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}, ())


def test_sampling_and_limits() -> None:
    request, warnings = make(
        temperature=0.5, top_p=0.9, seed=7, stop="x", max_tokens=9, n=1, user="u", store=False
    )
    assert request["generationConfig"] == {
        "temperature": 0.5,
        "topP": 0.9,
        "seed": 7,
        "maxOutputTokens": 9,
        "stopSequences": ["x"],
    }
    assert warnings == ("user: not known to this provider and was left out",)


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        (
            {"type": "function", "function": {"name": "f"}},
            {"mode": "ANY", "allowedFunctionNames": ["f"]},
        ),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
            {"mode": "VALIDATED", "allowedFunctionNames": ["f"]},
        ),
    ],
)
def test_tools(choice: Any, calling: dict[str, Any]) -> None:
    request, _ = make(tools=[TOOL], tool_choice=choice)
    declared = [{"name": "f", "parametersJsonSchema": {"type": "object"}}]
    assert request["tools"] == [{"functionDeclarations": declared}]
    assert request["toolConfig"] == {"functionCallingConfig": calling}


@pytest.mark.parametrize(
    ("model", "effort", "thinking"),
    [
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        ("gemini-3-pro", "low", {"thinkingLevel": "LOW", "includeThoughts": True}),
        ("gemini-3.1-pro", "max", {"thinkingLevel": "HIGH", "includeThoughts": True}),
    ],
)
def test_reasoning(model: str, effort: str, thinking: dict[str, Any]) -> None:
    request, _ = make(model, reasoning_effort=effort)
    assert request["generationConfig"]["thinkingConfig"] == thinking


def test_structured_output_and_images() -> None:
    schema = {"type": "object", "additionalProperties": False}
    request, _ = make(
        response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        messages=[
            {"role": "system", "content": "one"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}},
                    {"type": "image_url", "image_url": {"url": "https://x/cat.jpg?a=1"}},
                ],
            },
        ],
    )
    assert request["systemInstruction"] == {"parts": [{"text": "one"}]}
    assert request["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }
    assert request["contents"][0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aaaa"}},
        {"fileData": {"fileUri": "https://x/cat.jpg?a=1", "mimeType": "image/jpeg"}},
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": "t", "content": "x"}]},
            "messages[1].tool_call_id",
        ),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"modalities": ["audio"]}, "modalities"),
    ],
)
def test_what_cannot_be_said_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(UntranslatableError) as caught:
        make(**body)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("document", "given", "output", "reasoning"),
    [
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}, 9, 4, 0),
        (
            {
                "promptTokenCount": 9,
                "toolUsePromptTokenCount": 2,
                "candidatesTokenCount": 4,
                "thoughtsTokenCount": 5,
                "totalTokenCount": 20,
            },
            11,
            9,
            5,
        ),
        # A server whose candidates include the thoughts, and one that counts something that it does not name.
        (
            {
                "promptTokenCount": 9,
                "candidatesTokenCount": 6,
                "thoughtsTokenCount": 5,
                "totalTokenCount": 15,
            },
            9,
            6,
            5,
        ),
        ({"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 30}, 9, 21, 0),
    ],
)
def test_usage(document: dict[str, Any], given: int, output: int, reasoning: int) -> None:
    usage = read_usage(document)
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (given, output)
    assert usage.reasoning_tokens == reasoning


@pytest.mark.parametrize("document", [None, {}, {"promptTokenCount": "9"}, {"promptTokenCount": 0}])
def test_no_usage(document: object) -> None:
    assert read_usage(document) is None
