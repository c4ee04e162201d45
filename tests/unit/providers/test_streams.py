"""Streams become the body that the same call would have answered whole."""

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion
from tests.unit.providers.calls import call_of

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import estimate, estimate_input
from sluice_providers.adapter import EmptyError, MalformedError, ReportedError, StreamReader
from sluice_providers.anthropic_answer import AnthropicStream, translate
from sluice_providers.anthropic_answer import read_usage as read_anthropic_usage
from sluice_providers.openai import OpenAIStream, read_usage
from sluice_providers.sse import Event


def feed(stream: StreamReader, *documents: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        orjson.loads(chunk)
        for document in documents
        for chunk in stream.feed(Event(b"", orjson.dumps(document)))
    ]


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": fields, "finish_reason": finish}
    return {"id": "i", "created": 1, "model": "m", "choices": [choice]}


def whole(stream: StreamReader) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(stream.whole().body)
    ChatCompletion.model_validate(document, strict=True)
    return document


def test_parallel_calls_that_all_carry_index_zero_stay_apart() -> None:
    stream = OpenAIStream(model="fast", usage_asked=False)
    for number in range(3):
        opening = {
            "index": 0,
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "f", "arguments": ""},
        }
        feed(stream, delta(tool_calls=[opening]))
        for piece in ('{"n":', f"{number}}}"):
            feed(stream, delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}]))
    feed(stream, delta(finish="tool_calls"))
    calls = whole(stream)["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["arguments"]) for call in calls] == [
        ("c0", '{"n":0}'),
        ("c1", '{"n":1}'),
        ("c2", '{"n":2}'),
    ]


def test_fields_of_compatible_servers_are_kept() -> None:
    stream = OpenAIStream(model="fast", usage_asked=False)
    feed(
        stream,
        delta(role="assistant", content="", reasoning_content="a"),
        delta(
            reasoning_content="b",
            annotations=[
                {
                    "type": "url_citation",
                    "url_citation": {"start_index": 0, "end_index": 1, "title": "t", "url": "u"},
                }
            ],
        ),
        delta(content="x") | {"service_tier": "flex", "system_fingerprint": "fp"},
        delta(content="y", finish="stop"),
    )
    assert stream.done
    assert not stream.ended
    document = whole(stream)
    assert document["service_tier"] == "flex"
    message = document["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("xy", "ab")
    assert len(message["annotations"]) == 1


def test_cumulative_usage_counts_once_and_is_stripped() -> None:
    stream = OpenAIStream(model="fast", usage_asked=False)
    usage = [{"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n} for n in (1, 2, 3)]
    chunks = feed(
        stream,
        delta(content="a") | {"usage": usage[0]},
        delta(content="b", finish="stop") | {"usage": usage[1]},
        {"id": "i", "created": 1, "choices": [], "usage": usage[2]},
    )
    assert [("usage" in chunk, chunk["model"]) for chunk in chunks] == [(False, "fast")] * 2
    assert stream.usage == Usage(input_tokens=5, output_tokens=3)
    assert whole(stream)["usage"] == usage[2]


def test_broken_streams_raise() -> None:
    stream = OpenAIStream(model="fast", usage_asked=False)
    with pytest.raises(ReportedError, match="gone"):
        feed(stream, {"error": {"message": "gone", "type": "server_error"}})
    with pytest.raises(MalformedError):
        feed(stream, {"choices": [{"index": 0, "delta": "text"}]})
    with pytest.raises(MalformedError):
        feed(stream, {"choices": [{"index": "0", "delta": {"content": "a"}}]})
    with pytest.raises(MalformedError):
        stream.feed(Event(b"", b"{"))
    with pytest.raises(EmptyError):
        OpenAIStream(model="fast", usage_asked=False).whole()
    with pytest.raises(MalformedError):
        feed(AnthropicStream(call_of("anthropic"), {}), {"type": "content_block_delta"})


USAGE_ASKED = {"stream_options": {"include_usage": True}}
THINKING = {"type": "thinking", "thinking": "let me see", "signature": "sig"}
TOOL_USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
ANTHROPIC_USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 10},
    "output_tokens": 40,
}


def anthropic_events() -> list[dict[str, Any]]:
    start = ANTHROPIC_USAGE | {"output_tokens": 1}
    return [
        {"type": "message_start", "message": {"id": "msg", "usage": start}},
        {"type": "ping"},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "let me "},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "thinking_delta", "thinking": "see"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": "sig"},
        },
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "so"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "content_block_start", "index": 2, "content_block": TOOL_USE | {"input": {}}},
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": ""},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'},
        },
        {"type": "content_block_stop", "index": 2},
        {"type": "a_type_of_tomorrow"},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use"},
            "usage": {"output_tokens": 40},
        },
        {"type": "message_stop"},
    ]


def test_anthropic_whole_and_streamed_are_the_same() -> None:
    stream = AnthropicStream(call_of("anthropic"), USAGE_ASKED)
    chunks = feed(stream, *anthropic_events())
    assert stream.done
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 140
    streamed = whole(stream)
    body = {
        "id": "msg",
        "type": "message",
        "content": [THINKING, {"type": "text", "text": "so"}, TOOL_USE],
        "stop_reason": "tool_use",
        "usage": ANTHROPIC_USAGE,
    }
    direct = translate(call_of("anthropic"), orjson.dumps(body))
    assert stream.usage == direct.usage
    assert direct.usage == Usage(
        input_tokens=140,
        cache_read_tokens=100,
        cache_write_tokens=30,
        cache_write_1h_tokens=10,
        output_tokens=40,
    )
    expected = orjson.loads(direct.body)
    assert streamed["choices"] == expected["choices"]
    assert streamed["usage"] == expected["usage"]
    assert expected["choices"][0]["message"]["thinking_blocks"] == [THINKING]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5},
        {"prompt_tokens": "9"},
        {"prompt_tokens": True},
        {"prompt_tokens": 9, "completion_tokens": "7"},
        {"prompt_tokens": 9, "completion_tokens": 7.0},
        {"prompt_tokens": 9, "completion_tokens": 10**10},
        {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": -1}},
    ],
)
def test_usage_that_says_nothing_is_missing(usage: Any) -> None:
    assert read_usage(usage) is None


def test_parts_that_are_more_than_their_total_raise_it() -> None:
    assert read_usage(
        {
            "prompt_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 40},
            "completion_tokens": 2,
            "completion_tokens_details": {"reasoning_tokens": 30},
        }
    ) == Usage(input_tokens=40, cache_read_tokens=40, output_tokens=30, reasoning_tokens=30)
    assert read_anthropic_usage(
        {
            "input_tokens": 3,
            "cache_creation_input_tokens": 1,
            "cache_creation": {"ephemeral_1h_input_tokens": 8, "ephemeral_5m_input_tokens": 4},
            "output_tokens": 2,
            "output_tokens_details": {"thinking_tokens": 6},
        }
    ) == Usage(
        input_tokens=15,
        cache_write_tokens=12,
        cache_write_1h_tokens=8,
        output_tokens=6,
        reasoning_tokens=6,
    )


@pytest.mark.parametrize("wrong", ["7", 7.5, -7, True, 10**10])
def test_one_counter_that_is_no_number_makes_anthropics_usage_unreported(wrong: object) -> None:
    usage = {"input_tokens": 9, "output_tokens": wrong}
    assert read_anthropic_usage(usage) is None
    body = {
        "type": "message",
        "content": [{"type": "text", "text": "so"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    answer = translate(call_of("anthropic"), orjson.dumps(body))
    assert answer.usage is None
    assert "usage" not in orjson.loads(answer.body)


def test_estimates_are_by_size_and_never_zero() -> None:
    assert estimate({}, output_bytes=0) == Usage(input_tokens=1, output_tokens=1)
    text = {"messages": [{"role": "user", "content": "x" * 396}]}
    assert estimate_input(text) == 100
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert estimate_input({"messages": [{"role": "user", "content": [image]}]}) == 1_001
    assert estimate_input({"input": [[1, 2, 3], [4, 5]]}) == 5
