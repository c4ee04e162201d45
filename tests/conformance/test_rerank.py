"""Rankings: of Cohere, of Bedrock, and of servers that are like OpenAI's; who has none says so."""

from typing import Any

import cohere
import httpx
import orjson
import pytest
from tests.conformance.driver import Calls, Mock

from sluice_core.jobs.fates import FailureKind
from sluice_core.usage.model import Usage
from sluice_providers.http import Transport
from sluice_providers.port import Answer

QUERY = "what holds the water back"
DOCUMENTS = ["A clock.", "The gate holds the water back", {"text": "water"}]
BODY: dict[str, Any] = {"query": QUERY, "documents": DOCUMENTS}
BEST = {"index": 1, "relevance_score": 0.8}


@pytest.fixture(params=["cohere", "bedrock", "vllm"])
def ranks(request: pytest.FixtureRequest, transport: Transport, mock: Mock) -> Calls:
    if request.param != "vllm":
        return Calls(transport, request.param, mock.url)
    return Calls(transport, "openai", f"{mock.url}/v1", provider=request.param)


async def ranked(ranks: Calls, **options: Any) -> Answer:
    if ranks.kind == "bedrock":
        options.setdefault("model", "cohere.rerank-v3-5:0")
    return await ranks(operation="rerank", **options)


async def test_documents_come_back_best_first(ranks: Calls) -> None:
    answer = await ranked(ranks, body=BODY)
    assert answer.failure is None, answer.message
    document = orjson.loads(answer.body or b"")
    assert (document["object"], document["model"]) == ("list", "fast")
    assert [row["index"] for row in document["results"]] == [1, 2, 0]
    assert document["results"][0] == BEST
    if ranks.kind == "bedrock":
        # It tells nothing of searches, by which it sells.
        assert answer.usage_source == "estimated"
        assert answer.usage is not None
        assert answer.usage.searches == 1
        return
    assert answer.usage_source == "reported"
    told = Usage(searches=1) if ranks.kind == "cohere" else Usage(input_tokens=19)
    assert answer.usage == told
    assert document["usage"]["search_units"] == told.searches


async def test_as_many_as_asked_for_and_with_their_texts(ranks: Calls) -> None:
    answer = await ranked(ranks, body=BODY | {"top_n": 1, "return_documents": True})
    results = orjson.loads(answer.body or b"")["results"]
    assert results == [BEST | {"document": {"text": DOCUMENTS[1]}}]


async def test_what_is_not_reported_is_estimated(ranks: Calls) -> None:
    answer = await ranked(ranks, behaviour="usage=none", body=BODY)
    assert answer.usage_source == "estimated"
    assert answer.usage is not None
    assert (answer.usage.searches, answer.usage.output_tokens) == (1, 0)
    assert answer.usage.input_tokens > 10


async def test_errors_are_errors(ranks: Calls) -> None:
    assert (await ranked(ranks, behaviour="status=429", body=BODY)).status == 429
    broken = await ranked(ranks, behaviour="fault=malformed", body=BODY)
    assert broken.failure is FailureKind.MALFORMED


async def test_who_has_no_rankings_says_so(calls: Calls) -> None:
    if calls.kind in {"cohere", "bedrock"}:
        return
    options = {"quirks": None} if calls.kind == "openai" else {}
    answer = await calls(operation="rerank", body=BODY, **options)
    assert (answer.failure, answer.param) == (FailureKind.UNTRANSLATABLE, "url")


def test_coheres_own_sdk_reads_the_mocks_rankings(mock: Mock) -> None:
    with httpx.Client() as http:
        sdk: Any = cohere.ClientV2(api_key="k", base_url=mock.url, httpx_client=http)
        answer = sdk.rerank(model="rerank-v3.5", query=QUERY, documents=["a", "water"], top_n=1)
    assert [(row.index, row.relevance_score) for row in answer.results] == [(1, 0.2)]
    assert answer.meta.billed_units.search_units == 1
