"""What Azure adds to OpenAI's form: its paths, two kinds of secret, its content filter, tokens of Entra's."""

from collections.abc import Iterator
from typing import Any

import openai
import orjson
import pytest
from pydantic import SecretStr
from tests.conformance.driver import Calls, Mock

from sluice_core.config.accounts import EntraConfig
from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.credentials import NoSecretError, Tokens
from sluice_providers.entra import entra_tokens
from sluice_providers.http import Transport

MESSAGES: Any = [{"role": "user", "content": "hello there"}]


async def test_a_deployment_stands_in_the_path_or_in_the_body(
    azure_calls: Calls, mock: Mock
) -> None:
    for operation in ("chat", "embeddings"):
        body = {"input": "text"} if operation == "embeddings" else {}
        answer = await azure_calls(operation=operation, model="my deployment", body=body)
        assert answer.failure is None, answer.message
        (seen,) = mock.requests(f"{azure_calls.job}/1")
        assert seen["model"] == "my deployment"
        assert ("/deployments/" in seen["path"]) == (not azure_calls.base_url.endswith("/v1"))


async def test_a_key_and_a_token_go_in_their_own_headers(azure_calls: Calls) -> None:
    assert (await azure_calls(behaviour="key=sk-secret")).failure is None
    bearer = {"options": {"auth": "bearer"}}
    assert (await azure_calls(behaviour="key=sk-secret", **bearer)).failure is None
    assert (await azure_calls(behaviour="key=other", **bearer)).status == 401


async def test_the_dated_version_can_be_chosen(transport: Transport, mock: Mock) -> None:
    calls = Calls(transport, "azure", f"{mock.url}/openai", provider="azure.ai.openai")
    made = calls.build(options={"api_version": "2025-04-01-preview"})
    from sluice_providers.azure import AzureAdapter

    url = AzureAdapter().outgoing(made, orjson.loads(made.body)).url
    assert url == (
        f"{mock.url}/openai/deployments/gpt-4o-mini/chat/completions?api-version=2025-04-01-preview"
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_what_the_filter_found_passes(azure_calls: Calls, stream: bool) -> None:
    answer = await azure_calls(stream=stream)
    assert answer.failure is None, answer.message
    document = orjson.loads(answer.body or b"")
    assert document["choices"][0]["content_filter_results"]["hate"]["filtered"] is False
    assert document["prompt_filter_results"][0]["prompt_index"] == 0
    assert document["id"].startswith("chatcmpl-")
    if stream:
        # Before the first choice nothing is handed out; what stood there goes with it.
        assert azure_calls.chunks[0]["choices"]
        assert azure_calls.chunks[0]["prompt_filter_results"]
        assert all(
            choice["delta"] is not None for c in azure_calls.chunks for choice in c["choices"]
        )


async def test_a_stream_that_breaks_off_behind_the_filters_word_has_said_nothing(
    azure_calls: Calls,
) -> None:
    answer = await azure_calls(stream=True, behaviour="fault=cut_stream,after=1")
    assert answer.failure is FailureKind.STREAM_CUT_BEFORE_DELTA


async def test_a_filtered_prompt_is_refused_by_policy(azure_calls: Calls) -> None:
    answer = await azure_calls(behaviour="status=400,code=content_filter")
    assert answer.failure is FailureKind.CONTENT_POLICY
    inner = orjson.loads(answer.body or b"")["error"]["innererror"]
    assert inner["content_filter_result"]["violence"]["filtered"] is True


async def test_its_own_word_for_when_to_come_back(azure_calls: Calls) -> None:
    answer = await azure_calls(behaviour="status=429,retry_after=xms:2500")
    assert answer.retry_after_s == 2.5


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_go_to_the_v1_surface(azure_calls: Calls, mock: Mock, stream: bool) -> None:
    answer = await azure_calls(operation="responses", stream=stream, body={"input": "hello there"})
    assert answer.failure is None, answer.message
    assert answer.usage == Usage(input_tokens=3, output_tokens=4)
    (seen,) = mock.requests(f"{azure_calls.job}/1")
    assert seen["path"] == "/openai/v1/responses"


def _entra(mock: Mock, **settings: str) -> EntraConfig:
    given = {"client_secret": "s", "client_id": "app"} | settings
    return EntraConfig(
        tenant_id="t-1",
        client_id=given["client_id"],
        client_secret=SecretStr(given["client_secret"]),
        token_url=f"{mock.url}/t-1/oauth2/v2.0/token",
    )


async def test_a_call_goes_with_a_token_of_entra(azure_calls: Calls, mock: Mock) -> None:
    tokens = Tokens("azure", entra_tokens(_entra(mock), azure_calls.transport))
    token = await tokens.first()
    behaviour = f"key={token}"
    answer = await azure_calls(behaviour=behaviour, api_key=token, options={"auth": "bearer"})
    assert answer.failure is None
    assert tokens.take(0.0) == token


@pytest.mark.parametrize(
    ("given", "kind", "says"),
    [
        ("wrong", FailureKind.KEY_REFUSED, "answered 401 (invalid_client)"),
        ("down", FailureKind.CONNECT_FAILED, "answered 503"),
    ],
)
async def test_why_there_is_no_token(
    transport: Transport, mock: Mock, given: str, kind: FailureKind, says: str
) -> None:
    tokens = Tokens("azure", entra_tokens(_entra(mock, client_secret=given), transport))
    with pytest.raises(NoSecretError) as caught:
        await tokens.first()
    assert caught.value.kind is kind
    assert says in str(caught.value)


@pytest.fixture(params=["deployment", "v1"])
def sdk(request: pytest.FixtureRequest, mock: Mock) -> Iterator[openai.OpenAI]:
    made: openai.OpenAI
    if request.param == "v1":
        made = openai.OpenAI(api_key="k", base_url=f"{mock.url}/openai/v1/", max_retries=0)
    else:
        made = openai.AzureOpenAI(
            api_key="k", azure_endpoint=mock.url, api_version="2024-10-21", max_retries=0
        )
    with made as client:
        yield client


def test_the_official_sdk_reads_what_the_mock_serves(sdk: openai.OpenAI) -> None:
    whole = sdk.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert whole.choices[0].message.content == "You said: hello there"
    assert whole.choices[0].to_dict()["content_filter_results"]
    options: Any = {"include_usage": True}
    chunks = list(
        sdk.chat.completions.create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options=options
        )
    )
    assert chunks[0].choices == []
    texts = (c.choices[0].delta for c in chunks if c.choices and c.choices[0].delta)
    assert "".join(delta.content or "" for delta in texts) == "You said: hello there"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="m@status=400,code=content_filter", messages=MESSAGES)
    assert caught.value.code == "content_filter"
    with pytest.raises(openai.RateLimitError):
        sdk.chat.completions.create(model="m@status=429", messages=MESSAGES)
