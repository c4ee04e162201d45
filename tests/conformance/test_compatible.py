"""Servers that are like OpenAI's, each with its own ways: what callers get is OpenAI's form all the same."""

from typing import Any

import openai
import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.conformance.driver import Calls, Mock

from sluice_core.config.compatible import ROWS
from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_devstack.mock_provider.compatible_form import DIALECTS
from sluice_providers.http import Transport
from sluice_providers.port import Answer

BOTH = pytest.mark.parametrize("stream", [False, True])
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("add", "find")
]


@pytest.fixture(params=ROWS)
def like(request: pytest.FixtureRequest, transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "openai", f"{mock.url}/{request.param}/v1", provider=request.param)


def parse(answer: Answer) -> ChatCompletion:
    assert answer.failure is None, answer.message
    return ChatCompletion.model_validate(orjson.loads(answer.body or b""))


def test_the_mock_speaks_every_row_of_the_table() -> None:
    assert DIALECTS.keys() == ROWS.keys()


@BOTH
async def test_plain_and_counted(like: Calls, stream: bool) -> None:
    answer = await like(stream=stream, behaviour="cached=2")
    assert parse(answer).choices[0].message.content == "You said: hello there"
    assert answer.usage == Usage(input_tokens=3, cache_read_tokens=2, output_tokens=4)
    assert answer.usage_source == "reported"
    chunks = [ChatCompletionChunk.model_validate(chunk) for chunk in like.chunks]
    assert answer.deltas == len(chunks)
    assert all(chunk.usage is None for chunk in chunks)
    texts = (choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert "".join(texts) == ("You said: hello there" if stream else "")


@BOTH
async def test_thoughts_and_their_tokens(like: Calls, stream: bool) -> None:
    answer = await like(stream=stream, behaviour="reasoning=5")
    message = parse(answer).choices[0].message.to_dict()
    assert message["content"] == "You said: hello there"
    assert message["reasoning_content"] == "Thinking."
    assert "reasoning" not in message
    assert answer.usage == Usage(input_tokens=3, output_tokens=9, reasoning_tokens=5)
    if stream:
        deltas: Any = [c["choices"][0]["delta"] for c in like.chunks if c["choices"]]
        assert "".join(d.get("reasoning_content") or "" for d in deltas) == "Thinking."


@BOTH
async def test_parallel_tool_calls(like: Calls, stream: bool) -> None:
    prompt = 'call:add {"a": 1}\ncall:find {"b": 2}'
    body = {"tools": TOOLS, "tool_choice": "required"}
    answer = await like(stream=stream, prompt=prompt, body=body)
    called: Any = parse(answer).choices[0].message.tool_calls
    assert [(c.function.name, orjson.loads(c.function.arguments)) for c in called] == [
        ("add", {"a": 1}),
        ("find", {"b": 2}),
    ]
    if stream:
        numbers = {
            call["index"]
            for chunk in like.chunks
            for choice in chunk["choices"]
            for call in choice["delta"].get("tool_calls") or ()
        }
        assert numbers == {0, 1}


@BOTH
async def test_each_hears_only_what_it_knows(like: Calls, stream: bool) -> None:
    if like.provider == "openrouter":
        return  # it has the role
    messages = [{"role": "developer", "content": "x"}, {"role": "user", "content": "hi"}]
    body = {"messages": messages, "seed": 3, "user": "u", "max_completion_tokens": 1}
    answer = await like(stream=stream, body=body)
    assert parse(answer).choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_by_either_name(like: Calls, name: str) -> None:
    answer = await like(behaviour="words=50", body={name: 3})
    assert parse(answer).choices[0].message.content == "word1 word2 word3"


async def test_errors_in_a_stream(like: Calls) -> None:
    for after, kind in (
        (0, FailureKind.IN_STREAM_ERROR_BEFORE_DELTA),
        (3, FailureKind.IN_STREAM_ERROR_AFTER_DELTA),
    ):
        answer = await like(stream=True, behaviour=f"fault=stream_error,after={after}")
        assert (answer.failure, answer.message) == (kind, "upstream gone")


async def test_refusals(like: Calls) -> None:
    refused = await like(behaviour="status=422")
    assert refused.failure is FailureKind.STATUS_ERROR
    assert "The server had an error" in refused.message
    limited = await like(behaviour="status=429,retry_after=7")
    assert limited.retry_after_s == 7
    assert (await like(behaviour="status=401")).failure is FailureKind.KEY_REFUSED
    assert (await like(behaviour="status=402")).failure is FailureKind.OUT_OF_FUNDS


async def test_missing_usage_is_estimated(like: Calls) -> None:
    for stream in (False, True):
        answer = await like(stream=stream, behaviour="usage=none")
        assert answer.usage_source == "estimated"
        assert answer.usage is not None
        assert answer.usage.output_tokens >= 4


@pytest.mark.parametrize("provider", ROWS)
def test_the_openai_sdk_reads_what_the_mock_serves(mock: Mock, provider: str) -> None:
    messages: Any = [{"role": "user", "content": "hello there"}]
    with openai.OpenAI(api_key="k", base_url=f"{mock.url}/{provider}/v1", max_retries=0) as client:
        whole = client.chat.completions.create(model="m", messages=messages)
        assert whole.choices[0].message.content == "You said: hello there"
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        deltas = [c.choices[0].delta.content or "" for c in stream if c.choices]
        assert "".join(deltas) == "You said: hello there"
