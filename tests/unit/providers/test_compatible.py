"""Requests go out as each compatible server knows them, and what it answers comes back as OpenAI's."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.unit.providers.calls import call_of

from sluice_core.config.compatible import ROWS, Quirks, quirks_of
from sluice_core.config.load import parse_config
from sluice_providers.adapter import ReportedError
from sluice_providers.openai import OpenAIAdapter
from sluice_providers.port import Call
from sluice_providers.sse import Event

ADAPTER = OpenAIAdapter()


def call(provider: str, *, stream: bool = False, quirks: Quirks | None = None) -> Call:
    return call_of(
        "openai",
        stream=stream,
        provider=provider,
        base_url="http://it/v1",
        default_max_tokens=9,
        quirks=quirks_of(provider, quirks),
    )


def sent(provider: str, *, stream: bool = False, **body: Any) -> dict[str, Any]:
    messages = body.pop("messages", [{"role": "user", "content": "hi"}])
    outgoing = ADAPTER.outgoing(call(provider, stream=stream), {"messages": messages, **body})
    content: dict[str, Any] = orjson.loads(outgoing.content)
    return content


def message(provider: str, said: dict[str, Any], usage: dict[str, int] | None = None) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", **said}, "finish_reason": "stop"}
    document = {"id": "x", "object": "chat.completion", "created": 1, "choices": [choice]}
    body = orjson.dumps(document | ({"usage": usage} if usage else {}))
    whole = ADAPTER.whole(call(provider), body, {})
    answer: dict[str, Any] = orjson.loads(whole.body)
    ChatCompletion.model_validate(answer)
    return answer["choices"][0]["message"], whole


def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1}
    return {**head, "choices": [choice], **more}


def streamed(provider: str, *chunks: dict[str, Any]) -> tuple[list[dict[str, Any]], Any]:
    reader = ADAPTER.stream(call(provider, stream=True), {})
    out = [orjson.loads(c) for one in chunks for c in reader.feed(Event(b"", orjson.dumps(one)))]
    for one in out:
        ChatCompletionChunk.model_validate(one)
    return out, reader.whole()


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "max_completion_tokens"),
        ("azure.ai.openai", "max_completion_tokens"),
        ("groq", "max_completion_tokens"),
        ("x_ai", "max_completion_tokens"),
        ("mistral_ai", "max_tokens"),
        ("deepseek", "max_tokens"),
        ("somebody else", "max_tokens"),
    ],
)
def test_a_limit_has_each_providers_name(provider: str, name: str) -> None:
    assert {key: n for key, n in sent(provider).items() if "tokens" in key} == {name: 9}
    if provider not in {"openai", "azure.ai.openai"}:
        for given in ("max_tokens", "max_completion_tokens"):
            body = sent(provider, **{given: 5})
            assert {key: n for key, n in body.items() if "tokens" in key} == {name: 5}


def test_what_openai_knows_goes_untouched() -> None:
    body = {
        "seed": 1,
        "tool_choice": "required",
        "max_tokens": 4,
        "messages": [{"role": "developer", "content": "x"}],
    }
    assert sent("openai", **body) == body | {"model": "m"}


@pytest.mark.parametrize("provider", ["openai", "azure.ai.openai", *ROWS])
def test_a_schema_and_tools_go_as_they_are(provider: str) -> None:
    schema = {"name": "it", "strict": True, "schema": {"type": "object"}}
    asked = {
        "response_format": {"type": "json_schema", "json_schema": schema},
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
    }
    body = sent(provider, **asked)
    assert {name: body[name] for name in asked} == asked


def test_mistral_hears_its_own_words() -> None:
    history = [
        {"role": "developer", "content": "be brief"},
        {"role": "assistant", "content": "x", "refusal": None, "reasoning_content": "hm"},
    ]
    outgoing = ADAPTER.outgoing(
        call("mistral_ai", stream=True),
        {
            "messages": history,
            "seed": 3,
            "tool_choice": "required",
            "user": "u",
            "stream_options": {"include_usage": True},
        },
    )
    assert orjson.loads(outgoing.content) == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": "x"},
        ],
        "random_seed": 3,
        "tool_choice": "any",
        "model": "m",
        "max_tokens": 9,
        "stream": True,
    }
    assert outgoing.warnings == ("user: not known to this provider and was left out",)


def test_thoughts_go_back_under_the_name_they_came_by() -> None:
    history = [{"role": "assistant", "content": "x", "reasoning_content": "hm"}]
    assert sent("openrouter", messages=history)["messages"][0]["reasoning"] == "hm"
    assert sent("deepseek", messages=history)["messages"][0]["reasoning_content"] == "hm"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("provider", ["vllm", "groq", "somebody else"])
def test_thoughts_have_one_name(provider: str, name: str) -> None:
    said, _ = message(provider, {"content": "yes", name: "hm"})
    assert said == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    out, whole = streamed(provider, chunk({name: "h"}), chunk({name: "m"}), chunk({"content": "y"}))
    assert [one["choices"][0]["delta"].get("reasoning_content") for one in out] == ["h", "m", None]
    assert orjson.loads(whole.body)["choices"][0]["message"]["reasoning_content"] == "hm"


def test_mistrals_lists_of_content_become_text_and_thoughts() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "yes"},
    ]
    said, _ = message("mistral_ai", {"content": parts})
    assert (said["content"], said["reasoning_content"]) == ("yes", "hm")
    _, whole = streamed("mistral_ai", *(chunk({"content": [part]}) for part in parts))
    told = orjson.loads(whole.body)["choices"][0]["message"]
    assert (told["content"], told["reasoning_content"]) == ("yes", "hm")


def test_a_detail_is_an_error_message() -> None:
    detail = [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "type": "extra"}]
    refusal = ADAPTER.refusal(422, orjson.dumps({"object": "error", "detail": detail}), {})
    assert "Extra inputs are not permitted" in refusal.message


def test_parallel_calls_under_one_index_are_told_apart() -> None:
    def piece(**call: Any) -> dict[str, Any]:
        return chunk({"tool_calls": [{"index": 0, **call}]})

    out, whole = streamed(
        "vllm",
        piece(id="a", function={"name": "add", "arguments": ""}),
        piece(function={"arguments": "{}"}),
        piece(id="b", function={"name": "find", "arguments": "{"}),
        piece(function={"arguments": "}"}),
    )
    assert [one["choices"][0]["delta"]["tool_calls"][0]["index"] for one in out] == [0, 0, 1, 1]
    calls = orjson.loads(whole.body)["choices"][0]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["arguments"]) for c in calls] == [("a", "{}"), ("b", "{}")]


@pytest.mark.parametrize(
    ("provider", "usage", "counted"),
    [
        # xAI's own example: 32 + 9 + 94 = 135.
        (
            "x_ai",
            {
                "prompt_tokens": 32,
                "completion_tokens": 9,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            (32, 0, 103, 94),
        ),
        (
            "x_ai",
            {
                "prompt_tokens": 32,
                "completion_tokens": 103,
                "total_tokens": 135,
                "completion_tokens_details": {"reasoning_tokens": 94},
            },
            (32, 0, 103, 94),
        ),
        (
            "deepseek",
            {
                "prompt_tokens": 30,
                "completion_tokens": 5,
                "total_tokens": 35,
                "prompt_cache_hit_tokens": 20,
                "prompt_cache_miss_tokens": 10,
            },
            (30, 20, 5, 0),
        ),
        (
            "groq",
            {
                "prompt_tokens": 30,
                "completion_tokens": 5,
                "total_tokens": 35,
                "prompt_tokens_details": {"cached_tokens": 8},
            },
            (30, 8, 5, 0),
        ),
    ],
)
def test_each_way_to_count_is_read(
    provider: str, usage: dict[str, Any], counted: tuple[int, int, int, int]
) -> None:
    _, whole = message(provider, {"content": "x"}, usage)
    _, of_stream = streamed(provider, chunk({"content": "x"}), chunk({}, usage=usage))
    for read in (whole.usage, of_stream.usage):
        assert read is not None
        assert (
            read.input_tokens,
            read.cache_read_tokens,
            read.output_tokens,
            read.reasoning_tokens,
        ) == counted


def test_groqs_usage_is_found_where_it_puts_it() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    _, whole = streamed(
        "groq",
        chunk({"content": "x"}),
        chunk({}, finish_reason="stop", x_groq={"id": "r", "usage": usage}),
    )
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 4)


@pytest.mark.parametrize(
    "broken",
    [
        {"error": {"code": 502, "message": "upstream gone"}},
        chunk({}, finish_reason="error"),
        chunk({}, x_groq={"error": "upstream gone"}),
    ],
)
def test_errors_in_a_stream_are_errors(broken: dict[str, Any]) -> None:
    if broken.get("choices") and broken["choices"][0]["finish_reason"] == "error":
        broken["choices"][0]["error"] = {"code": 502, "message": "upstream gone"}
    with pytest.raises(ReportedError, match="upstream gone") as caught:
        streamed("openrouter", broken)
    assert "upstream gone" in orjson.loads(caught.value.body)["error"]["message"]


def test_azure_style_annotations_are_chunks_too() -> None:
    _, whole = streamed(
        "somebody else",
        {"id": "", "object": "", "model": "", "created": 0, "choices": []}
        | {"object": "chat.completion.chunk"},
        chunk({"content": "x"}, finish_reason="stop"),
    )
    assert orjson.loads(whole.body)["id"] == "x"


def test_single_quirks_are_laid_over_a_row() -> None:
    text = """
providers:
  fast: {kind: openai, provider: groq, quirks: {stream_usage: false}}
  mine: {kind: openai, provider: mine, base_url: "http://mine/v1", quirks: {reasoning_apart: true}}
  plain: {kind: openai}
  odd: {kind: openai, base_url: "http://proxy/v1", quirks: {max_tokens_field: max_tokens}}
"""
    made = parse_config(text, {}).providers
    assert made["fast"].url == "https://api.groq.com/openai/v1"
    assert made["fast"].differences == ROWS["groq"][1].model_copy(update={"stream_usage": False})
    assert made["mine"].differences == Quirks(reasoning_apart=True)
    assert made["plain"].differences is None
    odd = made["odd"].differences
    assert odd is not None
    assert (odd.max_tokens_field, odd.developer_role) == ("max_tokens", True)
