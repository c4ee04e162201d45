"""What only Bedrock's form has: errors named in a header, keys of several parts, reasoning with signatures."""

import asyncio
from typing import Any

import orjson
import pytest
from tests.conformance.driver import Calls, Mock
from tests.conformance.test_answers import parse

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.http import Transport


@pytest.fixture
def bedrock(transport: Transport, mock: Mock) -> Calls:
    return Calls(transport, "bedrock", mock.url)


async def test_a_refused_key_is_told_from_a_model_that_is_not_allowed(bedrock: Calls) -> None:
    code = "UnrecognizedClientException"
    refused = await bedrock(behaviour=f"status=403,code={code}")
    assert refused.failure is FailureKind.KEY_REFUSED
    assert orjson.loads(refused.body or b"")["error"]["code"] == code
    denied = await bedrock(behaviour="status=403")
    assert denied.failure is FailureKind.STATUS_ERROR


async def test_an_exception_in_a_stream_is_named(bedrock: Calls) -> None:
    answer = await bedrock(stream=True, behaviour="fault=stream_error,after=3")
    assert answer.failure is FailureKind.IN_STREAM_ERROR_AFTER_DELTA
    assert orjson.loads(answer.body or b"")["error"]["code"] == "throttlingException"


async def test_usage_that_does_not_come_any_more_is_estimated(bedrock: Calls) -> None:
    # messageStart, 4 words, the block's end, messageStop: the 8th would be metadata
    answer = await bedrock(stream=True, behaviour="fault=empty,after=7")
    assert (answer.failure, answer.usage_source) == (None, "estimated")


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_kept_as_it_is_sent_back(bedrock: Calls, stream: bool) -> None:
    answer = await bedrock(stream=stream, behaviour="reasoning=5")
    message = parse(answer).choices[0].message
    block = {"type": "thinking", "thinking": "Let me think.", "signature": "c2lnbmF0dXJl"}
    assert (message.model_extra or {})["thinking_blocks"] == [block]
    said = [
        {"role": "user", "content": "x"},
        message.model_dump(),
        {"role": "user", "content": "y"},
    ]
    sent = bedrock.sent(body={"messages": said})
    told = {"text": "Let me think.", "signature": "c2lnbmF0dXJl"}
    assert sent["messages"][1]["content"][0] == {"reasoningContent": {"reasoningText": told}}
    assert answer.usage == Usage(input_tokens=3, output_tokens=9)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_tier_that_served_a_call_is_told(bedrock: Calls, stream: bool) -> None:
    assert (await bedrock(stream=stream, body={"service_tier": "flex"})).tier == "flex"
    assert (await bedrock(stream=stream, tier="priority")).tier == "priority"
    assert (await bedrock(stream=stream)).tier is None


async def test_no_part_of_a_key_is_quoted(bedrock: Calls) -> None:
    token = "FwoGZXIvYXdzEXAMPLETOKEN"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = orjson.dumps({"message": f"the canonical string has x-amz-security-token:{token}"})
        head = b"HTTP/1.1 403 No\r\nx-amzn-errortype: InvalidSignatureException\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await bedrock(
            options={"region": "us-east-1"},
            base_url=f"http://127.0.0.1:{port}",
            api_key=f"AKIDEXAMPLE:secretsecretsecret:{token}",
        )
    assert answer.failure is FailureKind.KEY_REFUSED
    assert answer.message.endswith("x-amz-security-token:[key]")


@pytest.mark.parametrize(
    "model",
    ["amazon.titan-embed-text-v2:0", "us.amazon.nova-2-multimodal-embeddings-v1:0"],
)
async def test_models_that_embed_one_text_do_so(bedrock: Calls, model: str) -> None:
    body: dict[str, Any] = {"input": ["one two"], "dimensions": 256}
    answer = await bedrock(operation="embeddings", model=model, body=body)
    assert answer.failure is None, answer.message
    document = orjson.loads(answer.body or b"")
    assert [len(row["embedding"]) for row in document["data"]] == [256]
    assert (answer.usage, answer.usage_source) == (Usage(input_tokens=2), "reported")
    several = await bedrock(operation="embeddings", model=model, body={"input": ["one", "two"]})
    assert (several.failure, several.param) == (FailureKind.UNTRANSLATABLE, "body.input")


async def test_tokens_that_only_a_header_tells_count(bedrock: Calls) -> None:
    model, body = "cohere.embed-multilingual-v3", {"input": ["one", "three"]}
    answer = await bedrock(operation="embeddings", model=model, body=body)
    assert (answer.usage, answer.usage_source) == (Usage(input_tokens=3), "reported")
    silent = await bedrock(operation="embeddings", model=model, body=body, behaviour="usage=none")
    assert (silent.failure, silent.usage_source) == (None, "estimated")


async def test_a_model_whose_embeddings_are_unknown_is_named(bedrock: Calls) -> None:
    answer = await bedrock(operation="embeddings", model="twelvelabs.marengo", body={"input": "x"})
    assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "body.model")
    assert "amazon.titan-embed" in answer.message


async def test_amazons_own_ranking_takes_no_version(bedrock: Calls) -> None:
    body = {"query": "water", "documents": ["fire", "water"]}
    sent = bedrock.sent(operation="rerank", model="amazon.rerank-v1:0", body=body)
    assert sent == body
    answer = await bedrock(operation="rerank", model="amazon.rerank-v1:0", body=body)
    assert orjson.loads(answer.body or b"")["results"][0]["index"] == 1
