"""The mock's Cohere side is proven by Cohere's own SDK; what only its form has."""

from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import pytest
from cohere.core.api_error import ApiError
from tests.conformance.driver import Calls, Mock
from tests.conformance.test_answers import TOOLS, parse

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.http import Transport

MESSAGES: Any = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def sdk(mock: Mock) -> Iterator[Any]:
    with httpx.Client() as client:
        yield cohere.ClientV2(api_key="k", base_url=mock.url, httpx_client=client)


@pytest.fixture
def calls(transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "cohere", mock.url)


def test_cohere_reads_answers(sdk: Any) -> None:
    whole = sdk.chat(model="command@cached=1,reasoning=2", messages=MESSAGES)
    assert [item.type for item in whole.message.content] == ["thinking", "text"]
    assert whole.message.content[1].text == "You said: hello there"
    assert whole.finish_reason == "COMPLETE"
    assert whole.usage.billed_units.input_tokens == 3
    assert whole.usage.cached_tokens == 1
    embedded = sdk.embed(
        model="e", texts=["a", "b"], input_type="search_query", embedding_types=["float"]
    )
    assert [len(row) for row in embedded.embeddings.float_] == [8, 8]


def test_cohere_reads_streams_and_calls(sdk: Any) -> None:
    calling: Any = [{"role": "user", "content": 'call:add {"a": 1}'}]
    made = sdk.chat(model="command", messages=calling, tools=TOOLS).message
    assert made.tool_plan == "I will call tools."
    assert [call.function.arguments for call in made.tool_calls] == ['{"a": 1}']
    events = list(sdk.chat_stream(model="command", messages=calling, tools=TOOLS))
    assert [event.type for event in events][-2:] == ["tool-call-end", "message-end"]
    pieces = [e.delta.message.tool_calls.function for e in events if e.type == "tool-call-delta"]
    assert "".join(piece.arguments for piece in pieces) == '{"a": 1}'
    events = list(sdk.chat_stream(model="command", messages=MESSAGES))
    texts = [e.delta.message.content.text for e in events if e.type == "content-delta"]
    assert "".join(texts) == "You said: hello there"
    assert events[-1].delta.usage.billed_units.output_tokens == 4


@pytest.mark.parametrize("status", [400, 401, 429, 498, 499, 500])
def test_cohere_reads_errors(sdk: Any, status: int) -> None:
    with pytest.raises(ApiError) as caught:
        sdk.chat(model=f"m@status={status}", messages=MESSAGES, request_options={"max_retries": 0})
    assert caught.value.status_code == status


async def test_statuses_of_its_own(calls: Calls) -> None:
    assert (await calls(behaviour="status=498")).failure is FailureKind.KEY_REFUSED
    blocked = await calls(behaviour="status=498,code=blocked")
    assert blocked.failure is FailureKind.CONTENT_POLICY
    assert (await calls(behaviour="status=499")).failure is FailureKind.STATUS_ERROR


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("reason", ["ERROR", "TIMEOUT"])
async def test_an_answer_that_failed_is_an_error_with_its_usage(
    calls: Calls, stream: bool, reason: str
) -> None:
    answer = await calls(stream=stream, behaviour=f"stop={reason}")
    after = FailureKind.IN_STREAM_ERROR_AFTER_DELTA
    assert answer.failure is (after if stream else FailureKind.IN_STREAM_ERROR_BEFORE_DELTA)
    assert (answer.usage, answer.usage_source) == (
        Usage(input_tokens=3, output_tokens=4),
        "reported",
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_the_plan_behind_tool_calls_is_their_text(calls: Calls, stream: bool) -> None:
    answer = await calls(stream=stream, prompt="call:add {}", body={"tools": TOOLS})
    message = parse(answer).choices[0].message
    assert message.content == "I will call tools."
    sent = calls.sent(body={"messages": [*MESSAGES, message.model_dump()]})
    assert sent["messages"][1]["tool_plan"] == "I will call tools."


async def test_a_missing_input_type_is_said(calls: Calls) -> None:
    answer = await calls(operation="embeddings", body={"input": "x"})
    assert [warning.partition(":")[0] for warning in answer.warnings] == ["input_type"]
    given = await calls(operation="embeddings", body={"input": "x", "input_type": "search_query"})
    assert given.warnings == ()
