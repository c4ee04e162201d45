"""Every adapter gives OpenAI's form, whole and streamed, that OpenAI's own SDK accepts."""

import base64
import struct
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.conformance.driver import Calls, Mock

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.port import Answer

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"a": {"type": "number"}}},
        },
    }
    for name in ("add", "find")
]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def parse(answer: Answer) -> ChatCompletion:
    assert answer.failure is None, answer.message
    assert answer.body is not None
    parsed = ChatCompletion.model_validate(orjson.loads(answer.body), strict=True)
    assert parsed.model == "fast"
    return parsed


def joined(chunks: list[dict[str, Any]], choice: int = 0) -> str:
    return "".join(
        entry.delta.content or ""
        for chunk in map(ChatCompletionChunk.model_validate, chunks)
        for entry in chunk.choices
        if entry.index == choice
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_plain(calls: Calls, mock: Mock, stream: bool) -> None:
    answer = await calls(stream=stream)
    parsed = parse(answer)
    assert parsed.choices[0].message.content == "You said: hello there"
    assert answer.finish == (parsed.choices[0].finish_reason,) == ("stop",)
    assert answer.usage == Usage(input_tokens=3, output_tokens=4)
    assert answer.usage_source == "reported"
    assert parsed.usage is not None
    assert (
        parsed.usage.prompt_tokens,
        parsed.usage.completion_tokens,
        parsed.usage.total_tokens,
    ) == (3, 4, 7)
    assert answer.sent
    assert answer.status == 200
    assert answer.request_id is not None
    assert answer.code is None
    assert answer.provider_ms >= (answer.first_byte_ms or 0)
    assert answer.deltas == len(calls.chunks)
    assert mock.counts()[f"{calls.job}/1"] == 1
    if stream:
        assert joined(calls.chunks) == "You said: hello there"
        assert all(chunk["model"] == "fast" and "usage" not in chunk for chunk in calls.chunks)
        assert all(chunk["choices"] for chunk in calls.chunks)
    else:
        assert answer.deltas == 0


async def test_stream_usage_is_handed_out_where_asked(calls: Calls) -> None:
    await calls(stream=True, body={"stream_options": {"include_usage": True}})
    last = ChatCompletionChunk.model_validate(calls.chunks[-1])
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_and_their_results(calls: Calls, stream: bool) -> None:
    prompt = 'call:add {"a": 1}\ncall:find {"a": [2, {"b": "ü"}]}'
    answer = await calls(stream=stream, prompt=prompt, body={"tools": TOOLS})
    message = parse(answer).choices[0].message
    assert answer.finish == ("tool_calls",)
    made = message.tool_calls or []
    functions = [call.function for call in made if call.type == "function"]
    assert [function.name for function in functions] == ["add", "find"]
    assert [orjson.loads(function.arguments) for function in functions] == [
        {"a": 1},
        {"a": [2, {"b": "ü"}]},
    ]
    assert len({call.id for call in made}) == 2
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": f"result {number}"}
        for number, call in enumerate(made)
    ]
    asked = {"role": "user", "content": prompt}
    assistant = message.model_dump(exclude_none=True)
    follow_up = await calls(
        stream=stream,
        body={
            "tools": TOOLS,
            "messages": [asked, assistant, *results, {"role": "user", "content": "and?"}],
        },
    )
    assert parse(follow_up).choices[0].message.content == "You said: and?"
    loop = await calls(
        stream=stream, body={"tools": TOOLS, "messages": [asked, assistant, *results]}
    )
    assert parse(loop).choices[0].message.content == "You said: result 1"


async def test_one_tool_call_where_parallel_is_refused(calls: Calls) -> None:
    answer = await calls(
        prompt="call:add {}\ncall:find {}", body={"tools": TOOLS, "parallel_tool_calls": False}
    )
    if calls.its.one_call:
        assert len(parse(answer).choices[0].message.tool_calls or []) == 1
    else:
        assert (answer.failure, answer.sent) == (FailureKind.UNTRANSLATABLE, False)
        assert answer.param == "body.parallel_tool_calls"


@pytest.mark.parametrize("url", [PIXEL, "https://example.com/cat.png"])
async def test_system_prompt_and_image_are_counted(calls: Calls, url: str) -> None:
    content = [
        {"type": "text", "text": "what is it"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    system = {"role": "system", "content": "be brief"}
    answer = await calls(body={"messages": [system, {"role": "user", "content": content}]})
    if not calls.its.remote_images and url != PIXEL:
        assert (answer.failure, answer.sent) == (FailureKind.UNTRANSLATABLE, False)
        assert answer.param == "body.messages[1].content[1]"
        return
    assert parse(answer).choices[0].message.content == "You said: what is it"
    assert answer.usage is not None
    assert answer.usage.input_tokens == -(-len("be briefwhat is it") // 4) + 40


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_reasons(calls: Calls, stream: bool) -> None:
    for stop, finish in calls.its.stops.items():
        answer = await calls(stream=stream, behaviour=f"stop={stop}")
        parsed = parse(answer)
        assert parsed.choices[0].finish_reason == finish, stop
        assert answer.finish == (finish,)
        assert bool(parsed.choices[0].message.refusal) == (stop == "refusal")


@pytest.mark.parametrize("stream", [False, True])
async def test_structured_output_is_asked_for(calls: Calls, stream: bool) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    shape = {"name": "answer", "schema": schema, "strict": True}
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": shape}):
        parse(await calls(stream=stream, body={"response_format": form}))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_tool_is_called(calls: Calls, stream: bool) -> None:
    named = {"type": "function", "function": {"name": "add"}}
    body = {"tools": TOOLS, "tool_choice": named}
    answer = await calls(stream=stream, prompt="call:add {}", body=body)
    if not calls.its.requires:
        assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "body.tool_choice")
    else:
        assert answer.finish == ("tool_calls",)


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_stands_apart_from_the_answer(calls: Calls, stream: bool) -> None:
    if not calls.its.reasons:
        pytest.skip("the mock does not reason aloud in this form")
    body = {"reasoning_effort": "low", "max_tokens": 4000}
    answer = await calls(stream=stream, behaviour="reasoning=5", body=body)
    message = parse(answer).choices[0].message
    assert message.content == "You said: hello there"
    assert (message.model_extra or {})["reasoning_content"] == "Let me think."
    if stream:
        assert joined(calls.chunks) == "You said: hello there"
    again = [
        {"role": "user", "content": "hello there"},
        message.model_dump(exclude_none=True),
        {"role": "user", "content": "and?"},
    ]
    follow_up = await calls(stream=stream, body=body | {"messages": again})
    assert parse(follow_up).choices[0].message.content == "You said: and?"


async def test_a_limit_cuts_and_the_default_limit_is_sent(calls: Calls) -> None:
    limited = parse(await calls(behaviour="words=50", body={"max_tokens": 3}))
    assert limited.choices[0].message.content == "word1 word2 word3"
    assert limited.choices[0].finish_reason == "length"
    default = parse(await calls(behaviour="words=50", default_max_tokens=7))
    assert (default.choices[0].message.content or "").split()[-1] == "word7"


@pytest.mark.parametrize("stream", [False, True])
async def test_cached_and_reasoning_tokens(calls: Calls, stream: bool) -> None:
    told = {"cached": 2, "cache_write": 1, "reasoning": 5}
    counts = {name: told[name] if name in calls.its.counters else 0 for name in told}
    behaviour = ",".join(f"{name}={value}" for name, value in counts.items())
    answer = await calls(stream=stream, behaviour=behaviour, prompt="twelve bytes")
    usage = answer.usage
    assert usage is not None
    assert (usage.input_tokens, usage.cache_read_tokens) == (3, counts["cached"])
    assert usage.cache_write_tokens == counts["cache_write"]
    assert usage.reasoning_tokens == counts["reasoning"]
    assert usage.output_tokens == 4 + usage.reasoning_tokens
    reported = parse(answer).usage
    assert reported is not None
    assert reported.prompt_tokens == 3
    assert reported.prompt_tokens_details is not None
    assert reported.prompt_tokens_details.cached_tokens == counts["cached"]


@pytest.mark.parametrize("stream", [False, True])
async def test_missing_usage_is_estimated_and_never_zero(calls: Calls, stream: bool) -> None:
    answer = await calls(stream=stream, behaviour="usage=none")
    assert parse(answer).usage is None
    assert answer.usage_source == "estimated"
    assert answer.usage is not None
    assert answer.usage.input_tokens == 4
    assert 4 <= answer.usage.output_tokens <= 8


@pytest.mark.parametrize("stream", [False, True])
async def test_several_choices(openai_calls: Calls, stream: bool) -> None:
    parsed = parse(await openai_calls(stream=stream, body={"n": 3}))
    assert [choice.index for choice in parsed.choices] == [0, 1, 2]
    assert {choice.message.content for choice in parsed.choices} == {"You said: hello there"}
    if stream:
        assert joined(openai_calls.chunks, 2) == "You said: hello there"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_twenty_megabyte_answer(calls: Calls, stream: bool) -> None:
    answer = await calls(stream=stream, behaviour="size=20mb")
    assert answer.failure is None
    assert len(answer.body or b"") > 20_000_000


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_embeddings(calls: Calls, form: str) -> None:
    body = {"input": ["one", "three"], "encoding_format": form, "dimensions": 16}
    model = calls.its.embedder or calls.its.model
    answer = await calls(operation="embeddings", body=body, model=model)
    if not calls.its.embeds:
        assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "url")
        return
    assert answer.failure is None, answer.message
    document = orjson.loads(answer.body or b"")
    if form == "base64":
        for row in document["data"]:
            row["embedding"] = list(struct.unpack("<16f", base64.b64decode(row["embedding"])))
    parsed = CreateEmbeddingResponse.model_validate(document, strict=True)
    assert parsed.model == "fast"
    assert [len(row.embedding) for row in parsed.data] == [16, 16]
    assert parsed.data[0].embedding != parsed.data[1].embedding
    assert answer.usage == Usage(input_tokens=3)


async def test_keys_are_sent_as_each_provider_wants_them(calls: Calls) -> None:
    assert (await calls(behaviour="key=sk-secret")).failure is None
    assert (await calls(behaviour="key=sk-other")).status == 401
