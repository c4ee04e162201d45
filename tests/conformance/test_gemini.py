"""What only Gemini's form has: blocked prompts, its errors, signatures, several candidates."""

from typing import Any

import orjson
import pytest
from tests.conformance.driver import Calls, Mock
from tests.conformance.test_answers import TOOLS, parse

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.http import Transport
from sluice_schemas.errors import ErrorCode


@pytest.fixture
def gemini(transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "gemini", mock.url)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_the_policys_and_its_input_is_booked(
    gemini: Calls, stream: bool
) -> None:
    answer = await gemini(stream=stream, behaviour="stop=block:SAFETY")
    assert (answer.failure, answer.code) == (
        FailureKind.PROMPT_BLOCKED,
        ErrorCode.CONTENT_FILTERED,
    )
    assert answer.message == "the provider blocked the prompt (SAFETY)"
    assert (answer.usage, answer.usage_source) == (
        Usage(input_tokens=3, output_tokens=4),
        "reported",
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_the_model_got_wrong_is_an_error_with_its_usage(
    gemini: Calls, stream: bool
) -> None:
    answer = await gemini(stream=stream, behaviour="stop=MALFORMED_FUNCTION_CALL")
    after = FailureKind.IN_STREAM_ERROR_AFTER_DELTA
    assert answer.failure is (after if stream else FailureKind.IN_STREAM_ERROR_BEFORE_DELTA)
    assert answer.usage == Usage(input_tokens=3, output_tokens=4)
    assert answer.body is not None
    assert orjson.loads(answer.body)["error"]["code"] == "MALFORMED_FUNCTION_CALL"


async def test_a_refused_key_and_when_to_come_back(gemini: Calls) -> None:
    refused = await gemini(behaviour="status=400,code=API_KEY_INVALID")
    assert refused.failure is FailureKind.KEY_REFUSED
    busy = await gemini(behaviour="status=429")
    assert (busy.code, busy.retry_after_s) == (ErrorCode.PROVIDER_RATE_LIMITED, 30.5)
    told = await gemini(behaviour="status=429,retry_after=2")
    assert told.retry_after_s == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_signatures_of_thoughts_are_kept_and_echoed(gemini: Calls, stream: bool) -> None:
    answer = await gemini(stream=stream, prompt="call:add {}", body={"tools": TOOLS})
    call: Any = (parse(answer).choices[0].message.tool_calls or [])[0]
    assert call.model_extra["extra_content"] == {"google": {"thought_signature": "c2lnbmF0dXJl"}}
    sent = gemini.sent(body={"messages": _after(call.model_dump())})
    part = sent["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == "c2lnbmF0dXJl"
    assert part["functionCall"]["id"] == call.id
    foreign = gemini.sent(
        model="gemini-3-pro", body={"messages": _after(call.model_dump(exclude={"extra_content"}))}
    )
    part = foreign["contents"][1]["parts"][0]
    assert part["thoughtSignature"] == "skip_thought_signature_validator"


def _after(call: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"sum": 3}'},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_several_candidates(gemini: Calls, stream: bool) -> None:
    body = {"n": 2, "stream_options": {"include_usage": True}}
    answer = await gemini(stream=stream, body=body)
    assert [choice.message.content for choice in parse(answer).choices] == [
        "You said: hello there"
    ] * 2
    assert answer.usage == Usage(input_tokens=3, output_tokens=8)
    if stream:
        assert [bool(chunk.get("usage")) for chunk in gemini.chunks].count(True) == 1
