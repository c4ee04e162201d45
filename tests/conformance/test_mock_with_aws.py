"""The mock's Bedrock side is proven by AWS's own SDK."""

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from tests.conformance.driver import Mock

MESSAGES: Any = [{"role": "user", "content": [{"text": "hello there"}]}]
TOOLS: Any = {"tools": [{"toolSpec": {"name": "add", "inputSchema": {"json": {"type": "object"}}}}]}


@pytest.fixture
def sdk(mock: Mock) -> Iterator[Any]:
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=mock.url,
        region_name="us-east-1",
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )
    yield client
    client.close()


def test_aws_reads_answers(sdk: Any) -> None:
    whole = sdk.converse(modelId="m@cached=1,key=AKID", messages=MESSAGES)
    assert whole["output"]["message"]["content"] == [{"text": "You said: hello there"}]
    assert whole["stopReason"] == "end_turn"
    assert whole["usage"]["inputTokens"] == 2
    assert whole["usage"]["cacheReadInputTokens"] == 1


def test_aws_reads_streams(sdk: Any) -> None:
    streamed = sdk.converse_stream(modelId="m", messages=MESSAGES)
    with contextlib.closing(streamed["stream"]) as stream:
        events = list(stream)
    texts = [e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e]
    assert "".join(texts) == "You said: hello there"
    assert events[-1]["metadata"]["usage"]["totalTokens"] == 7
    calling = [{"role": "user", "content": [{"text": 'call:add {"a": 1}'}]}]
    streamed = sdk.converse_stream(modelId="m", messages=calling, toolConfig=TOOLS)
    with contextlib.closing(streamed["stream"]) as stream:
        deltas = [e["contentBlockDelta"]["delta"] for e in stream if "contentBlockDelta" in e]
    assert "".join(delta["toolUse"]["input"] for delta in deltas) == '{"a":1}'


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "ValidationException"), (403, "AccessDeniedException"), (429, "ThrottlingException")],
)
def test_aws_reads_errors(sdk: Any, status: int, code: str) -> None:
    with pytest.raises(ClientError) as caught:
        sdk.converse(modelId=f"m@status={status}", messages=MESSAGES)
    assert caught.value.response["Error"]["Code"] == code


def test_aws_reads_errors_in_a_stream(sdk: Any) -> None:
    streamed = sdk.converse_stream(modelId="m@fault=stream_error,after=2", messages=MESSAGES)
    with (
        contextlib.closing(streamed["stream"]) as stream,
        pytest.raises(EventStreamError, match="throttlingException"),
    ):
        list(stream)


def test_aws_reads_what_models_are_invoked_for(sdk: Any) -> None:
    asked = orjson.dumps({"inputText": "one two", "dimensions": 256, "normalize": True})
    answer = sdk.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=asked)
    told = orjson.loads(answer["body"].read())
    assert (len(told["embedding"]), told["inputTextTokenCount"]) == (256, 2)
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-input-token-count"] == "2"
