"""The mock is proven by the providers' own SDKs, which must understand everything it serves."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from tests.conformance.driver import Mock
from tests.waiting import eventually

MESSAGES: Any = [{"role": "user", "content": "hello there"}]
TOOL: Any = {"name": "add", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
def openai_sdk(mock: Mock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="k", base_url=f"{mock.url}/v1", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture
def anthropic_sdk(mock: Mock) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="k", base_url=mock.url, max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def test_openai_reads_answers(openai_sdk: openai.OpenAI) -> None:
    whole = openai_sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert whole.choices[0].message.content == "You said: hello there"
    stream = openai_sdk.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert (
        "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        == "You said: hello there"
    )
    assert chunks[-1].usage == whole.usage
    assert (
        len(
            openai_sdk.embeddings.create(model="e", input="text", encoding_format="float")
            .data[0]
            .embedding
        )
        == 8
    )
    assert "gpt-4o-mini" in {model.id for model in openai_sdk.models.list()}


def test_openai_reads_errors(openai_sdk: openai.OpenAI) -> None:
    for behaviour, error in (
        ("status=401", openai.AuthenticationError),
        ("status=429,retry_after=1", openai.RateLimitError),
        ("status=400", openai.BadRequestError),
        ("status=500", openai.InternalServerError),
        ("fault=cut_before_status", openai.APIConnectionError),
    ):
        with pytest.raises(error):
            openai_sdk.chat.completions.create(model=f"m@{behaviour}", messages=MESSAGES)
    with pytest.raises(openai.APIError, match="had an error"):
        list(
            openai_sdk.chat.completions.create(
                model="m@fault=stream_error,after=2", messages=MESSAGES, stream=True
            )
        )


def test_anthropic_reads_answers(anthropic_sdk: anthropic.Anthropic) -> None:
    whole = anthropic_sdk.messages.create(model="claude", max_tokens=50, messages=MESSAGES)
    assert [block.text for block in whole.content if block.type == "text"] == [
        "You said: hello there"
    ]
    with anthropic_sdk.messages.stream(
        model="claude@cached=1",
        max_tokens=50,
        tools=[TOOL],
        messages=[{"role": "user", "content": 'call:add {"a": 1}'}],
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {
        "message_start",
        "content_block_start",
        "content_block_stop",
        "message_delta",
        "message_stop",
    } <= kinds
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"a": 1}]
    assert final.stop_reason == "tool_use"
    assert final.usage.cache_read_input_tokens == 1


def test_anthropic_reads_errors(anthropic_sdk: anthropic.Anthropic) -> None:
    for behaviour, error in (
        ("status=401", anthropic.AuthenticationError),
        ("status=429", anthropic.RateLimitError),
        ("status=529", anthropic.APIStatusError),
        ("fault=cut_before_status", anthropic.APIConnectionError),
    ):
        with pytest.raises(error):
            anthropic_sdk.messages.create(model=f"m@{behaviour}", max_tokens=9, messages=MESSAGES)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(
            anthropic_sdk.messages.create(
                model="m@fault=stream_error,after=3", max_tokens=9, messages=MESSAGES, stream=True
            )
        )
    with pytest.raises(anthropic.BadRequestError, match="tool_result"):
        anthropic_sdk.messages.create(
            model="claude",
            max_tokens=9,
            messages=[
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "a", "input": {}}],
                },
                {"role": "user", "content": "no result"},
            ],
        )


def _post(url: str, model: str, job: str = "", **headers: str) -> httpx.Response:
    body = {"model": model, "messages": MESSAGES}
    return httpx.post(
        f"{url}/v1/chat/completions",
        json=body,
        headers={"x-sluice-attempt": job} | headers,
        timeout=10,
    )


def test_rules_headers_and_suffixes_tell_the_behaviour(mock: Mock) -> None:
    twice = mock.add_rule(behaviour="status=503", match={"model": "ruled"}, first=2)
    assert [_post(mock.url, "ruled").status_code for _ in range(3)] == [503, 503, 200]
    by_body = mock.add_rule(
        behaviour="status=429", match={"body": "hello there"}, probability=0.5, seed=3
    )
    statuses = [_post(mock.url, "any").status_code for _ in range(40)]
    assert 8 <= statuses.count(429) <= 32
    assert _post(mock.url, "any@status=400").status_code == 400
    assert _post(mock.url, "any@status=400", **{"x-mock": "status=404"}).status_code == 404
    mock.remove_rule(by_body)
    mock.remove_rule(twice)
    assert {_post(mock.url, "any").status_code for _ in range(10)} == {200}
    assert _post(mock.url, "any@nonsense=1").status_code == 400


def test_latency_is_waited(mock: Mock) -> None:
    for latency in ("80ms", "uniform:80ms:90ms", "lognormal:0.1:0.05"):
        begun = datetime.now(UTC)
        assert _post(mock.url, f"m@latency={latency}").status_code == 200
        assert 0.07 <= (datetime.now(UTC) - begun).total_seconds() < 2


async def test_the_record_survives_a_kill(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    command = [
        sys.executable,
        "-m",
        "sluice_devstack.mock_provider",
        "--port",
        "0",
        "--record",
        str(file),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        assert _post(url, "m", "job-1/1").status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{url}/v1/chat/completions",
                json={"model": "m@fault=hang", "messages": MESSAGES},
                headers={"x-sluice-attempt": "job-2/1"},
                timeout=0.3,
            )
        await eventually(lambda: file.read_text().count("finished") == 2)
        process.send_signal(signal.SIGKILL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        again = Mock(process.stdout.readline().strip())
        assert _post(again.url, "m", "job-1/2").status_code == 200
        assert again.counts() == {"job-1/1": 1, "job-2/1": 1, "job-1/2": 1}
        assert [row["outcome"] for row in again.requests()] == [
            "answered",
            "client_gone",
            "answered",
        ]
        assert [row["seq"] for row in again.requests()] == [1, 2, 3]
        again.close()
        process.terminate()
