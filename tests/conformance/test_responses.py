"""Responses pass as they are but for the model's name, whole and as typed events that OpenAI's own SDK accepts."""

from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.conformance.driver import Calls, Mock

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.port import Answer

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOLS: Any = [
    {"type": "function", "name": name, "strict": False, "parameters": {"type": "object"}}
    for name in ("add", "find")
]
BOTH = pytest.mark.parametrize("stream", [False, True])


async def asked(calls: Calls, given: Any = "hello there", **options: Any) -> Answer:
    body = {"input": given, **options.pop("body", {})}
    return await calls(operation="responses", body=body, **options)


def parse(answer: Answer) -> Response:
    assert answer.failure is None, answer.message
    parsed = Response.model_validate(orjson.loads(answer.body or b""), strict=True)
    assert parsed.model == "fast"
    return parsed


@BOTH
async def test_plain(openai_calls: Calls, mock: Mock, stream: bool) -> None:
    answer = await asked(openai_calls, stream=stream)
    parsed = parse(answer)
    assert parsed.output_text == "You said: hello there"
    assert answer.finish == ("stop",)
    assert answer.usage == Usage(input_tokens=3, output_tokens=4)
    assert answer.usage_source == "reported"
    assert answer.deltas == len(openai_calls.chunks)
    assert mock.counts()[f"{openai_calls.job}/1"] == 1
    if stream:
        events = [EVENT.validate_python(chunk) for chunk in openai_calls.chunks]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        kinds = [event.type for event in events]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert all(event.response.model == "fast" for event in events if hasattr(event, "response"))
        texts = [e.delta for e in events if e.type == "response.output_text.delta"]
        assert "".join(texts) == "You said: hello there"


@BOTH
async def test_what_is_asked_goes_untouched(openai_calls: Calls, stream: bool) -> None:
    body = {"input": [{"role": "user", "content": "hi"}], "store": False, "seed": 1, "x": None}
    made = openai_calls.build(operation="responses", stream=stream, body=body)
    from sluice_providers.openai import OpenAIAdapter

    outgoing = OpenAIAdapter().outgoing(made, orjson.loads(made.body))
    sent = orjson.loads(outgoing.content)
    assert sent == body | {"model": "gpt-4o-mini"} | ({"stream": True} if stream else {})
    assert outgoing.url.endswith("/v1/responses")


@BOTH
async def test_tool_calls_and_their_results(openai_calls: Calls, stream: bool) -> None:
    prompt = 'call:add {"a": 1}\ncall:find {"b": "ü"}'
    answer = await asked(openai_calls, prompt, stream=stream, body={"tools": TOOLS})
    called = [item for item in parse(answer).output if item.type == "function_call"]
    assert answer.finish == ("tool_calls",)
    assert [(item.name, orjson.loads(item.arguments)) for item in called] == [
        ("add", {"a": 1}),
        ("find", {"b": "ü"}),
    ]
    results = [
        {"type": "function_call_output", "call_id": item.call_id, "output": f"result {number}"}
        for number, item in enumerate(called)
    ]
    history = [{"role": "user", "content": prompt}, *(item.model_dump() for item in called)]
    loop = await asked(openai_calls, [*history, *results], stream=stream, body={"tools": TOOLS})
    assert parse(loop).output_text == "You said: result 1"


async def test_images_and_instructions_are_counted(openai_calls: Calls) -> None:
    content = [
        {"type": "input_text", "text": "what is it"},
        {"type": "input_image", "image_url": "https://example.com/cat.png"},
    ]
    answer = await asked(
        openai_calls, [{"role": "user", "content": content}], body={"instructions": "be brief"}
    )
    assert parse(answer).output_text == "You said: what is it"
    assert answer.usage is not None
    assert answer.usage.input_tokens == -(-len("be briefwhat is it") // 4) + 40


@BOTH
@pytest.mark.parametrize(
    ("behaviour", "finish"),
    [
        ("", "stop"),
        ("stop=max_output_tokens", "length"),
        ("stop=content_filter", "content_filter"),
    ],
)
async def test_stop_reasons(openai_calls: Calls, stream: bool, behaviour: str, finish: str) -> None:
    answer = await asked(openai_calls, stream=stream, behaviour=behaviour)
    parsed = parse(answer)
    assert answer.finish == (finish,)
    assert parsed.status == ("completed" if finish == "stop" else "incomplete")
    assert answer.usage_source == "reported"


async def test_a_limit_cuts_and_the_default_limit_is_sent(openai_calls: Calls) -> None:
    limited = parse(await asked(openai_calls, behaviour="words=50", body={"max_output_tokens": 3}))
    assert limited.output_text == "word1 word2 word3"
    default = parse(await asked(openai_calls, behaviour="words=50", default_max_tokens=7))
    assert default.output_text.split()[-1] == "word7"


@BOTH
async def test_cached_and_reasoning_tokens(openai_calls: Calls, stream: bool) -> None:
    answer = await asked(openai_calls, stream=stream, behaviour="cached=2,reasoning=5")
    parse(answer)
    assert answer.usage == Usage(
        input_tokens=3, cache_read_tokens=2, output_tokens=9, reasoning_tokens=5
    )


@BOTH
async def test_missing_usage_is_estimated_and_never_zero(openai_calls: Calls, stream: bool) -> None:
    answer = await asked(openai_calls, stream=stream, behaviour="usage=none")
    assert parse(answer).usage is None
    assert answer.usage_source == "estimated"
    assert answer.usage is not None
    assert 1 <= answer.usage.input_tokens <= 8
    assert 4 <= answer.usage.output_tokens <= 8


@BOTH
async def test_a_response_that_failed_is_an_error(openai_calls: Calls, stream: bool) -> None:
    answer = await asked(openai_calls, stream=stream, behaviour="stop=failed")
    assert answer.failure is (
        FailureKind.IN_STREAM_ERROR_AFTER_DELTA
        if stream
        else FailureKind.IN_STREAM_ERROR_BEFORE_DELTA
    )
    assert answer.message == "The model failed to generate a response."
    assert orjson.loads(answer.body or b"")["error"]["code"] == "server_error"
    assert answer.usage is not None
    assert answer.usage.input_tokens >= 3


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("fault=stream_error,after=0", FailureKind.IN_STREAM_ERROR_BEFORE_DELTA),
        ("fault=stream_error,after=6", FailureKind.IN_STREAM_ERROR_AFTER_DELTA),
        ("fault=cut_stream,after=0", FailureKind.STREAM_CUT_BEFORE_DELTA),
        ("fault=cut_stream,after=6", FailureKind.STREAM_CUT_AFTER_DELTA),
        ("fault=malformed,after=0", FailureKind.MALFORMED),
    ],
)
async def test_streams_that_break(openai_calls: Calls, behaviour: str, kind: FailureKind) -> None:
    answer = await asked(openai_calls, stream=True, behaviour=behaviour)
    assert answer.failure is kind
    assert answer.usage is not None
    assert answer.usage_source == "estimated"


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        ("fault=cut_body", FailureKind.CUT_AFTER_STATUS),
        ("fault=malformed", FailureKind.MALFORMED),
        ("fault=wrong_type", FailureKind.MALFORMED),
        ("fault=empty", FailureKind.EMPTY),
        ("status=401", FailureKind.KEY_REFUSED),
        ("status=429,retry_after=3", FailureKind.STATUS_ERROR),
        ("status=400,code=context_length_exceeded", FailureKind.CONTEXT_LENGTH),
        ("status=400,code=content_filter", FailureKind.CONTENT_POLICY),
        ("status=500", FailureKind.STATUS_ERROR),
    ],
)
async def test_whole_answers_that_break(
    openai_calls: Calls, behaviour: str, kind: FailureKind
) -> None:
    assert (await asked(openai_calls, behaviour=behaviour)).failure is kind


async def test_what_would_answer_later_and_elsewhere_is_not_asked(openai_calls: Calls) -> None:
    answer = await asked(openai_calls, body={"background": True})
    assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "body.background")


async def test_a_provider_without_responses_says_so(calls: Calls) -> None:
    if calls.speaks == "openai":
        return
    answer = await asked(calls)
    assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "url")
    assert "has no responses" in answer.message


@pytest.fixture(params=["/v1", "/openai/v1/"])
def sdk(request: pytest.FixtureRequest, mock: Mock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="k",
        base_url=mock.url + request.param,
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


def test_the_official_sdk_reads_what_the_mock_serves(sdk: openai.OpenAI) -> None:
    whole = sdk.responses.create(model="gpt-4o-mini", input="hello there")
    assert whole.output_text == "You said: hello there"
    with sdk.responses.stream(
        model="gpt-4o-mini@reasoning=3", input='call:add {"a": 1}', tools=TOOLS
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert {"response.created", "response.function_call_arguments.done"} <= kinds
    assert [item.type for item in final.output] == ["reasoning", "function_call"]
    assert final.usage is not None
    assert final.usage.output_tokens_details.reasoning_tokens == 3
    events = list(
        sdk.responses.create(model="m@fault=stream_error,after=3", input="x", stream=True)
    )
    assert events[-1].type == "error"
    assert "had an error" in events[-1].message
    with pytest.raises(openai.RateLimitError):
        sdk.responses.create(model="m@status=429", input="x")
