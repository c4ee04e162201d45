"""The mock's Gemini side is proven by Google's own SDK."""

from collections.abc import Iterator

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2 import credentials as oauth2
from tests.conformance.driver import Mock

TOOL = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name="add", parameters_json_schema={"type": "object"})
    ]
)


@pytest.fixture
def sdk(mock: Mock) -> Iterator[genai.Client]:
    with genai.Client(api_key="k", http_options=types.HttpOptions(base_url=mock.url)) as client:
        yield client


def test_google_reads_answers(sdk: genai.Client) -> None:
    whole = sdk.models.generate_content(model="g@cached=1,reasoning=2", contents="hello there")
    assert whole.text == "You said: hello there"
    assert whole.candidates is not None
    assert whole.candidates[0].finish_reason is types.FinishReason.STOP
    usage = whole.usage_metadata
    assert usage is not None
    assert (usage.prompt_token_count, usage.cached_content_token_count) == (3, 1)
    assert (usage.candidates_token_count, usage.thoughts_token_count) == (4, 2)
    assert usage.total_token_count == 9
    embedded = sdk.models.embed_content(model="e", contents=["one", "two"])
    assert [len(row.values or ()) for row in embedded.embeddings or ()] == [8, 8]


def test_google_reads_streams_and_calls(sdk: genai.Client) -> None:
    chunks = list(sdk.models.generate_content_stream(model="g", contents="hello there"))
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: hello there"
    config = types.GenerateContentConfig(
        tools=[TOOL],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    chunks = list(
        sdk.models.generate_content_stream(model="g", contents='call:add {"a": 1}', config=config)
    )
    made = [call for chunk in chunks for call in chunk.function_calls or ()]
    assert [(call.name, call.args) for call in made] == [("add", {"a": 1})]
    blocked = sdk.models.generate_content(model="g@stop=block:SAFETY", contents="x")
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.SAFETY


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        ("status=400,code=API_KEY_INVALID", "INVALID_ARGUMENT"),
        ("status=429", "RESOURCE_EXHAUSTED"),
        ("status=503", "UNAVAILABLE"),
    ],
)
def test_google_reads_errors(sdk: genai.Client, behaviour: str, status: str) -> None:
    with pytest.raises(errors.APIError) as caught:
        sdk.models.generate_content(model=f"g@{behaviour}", contents="x")
    assert caught.value.status == status


def test_google_reads_the_answers_of_vertex(mock: Mock) -> None:
    options = types.HttpOptions(base_url=mock.url)
    credentials = oauth2.Credentials(token="t-1")
    with genai.Client(
        enterprise=True,
        project="p",
        location="europe-west4",
        credentials=credentials,
        http_options=options,
    ) as client:
        whole = client.models.generate_content(model="g@key=t-1", contents="hello there")
        assert whole.text == "You said: hello there"
        chunks = list(client.models.generate_content_stream(model="g", contents="hello there"))
        assert "".join(chunk.text or "" for chunk in chunks) == "You said: hello there"
        embedded = client.models.embed_content(model="text-embedding-005", contents=["one"])
        assert [len(row.values or ()) for row in embedded.embeddings or ()] == [8]
