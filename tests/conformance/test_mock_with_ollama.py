"""The mock's Ollama side is proven by Ollama's own SDK."""

from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from tests.conformance.driver import Mock

MESSAGES: Any = [{"role": "user", "content": "hello there"}]
TOOL: Any = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def sdk(mock: Mock) -> Iterator[ollama.Client]:
    client = ollama.Client(host=mock.url)
    yield client
    client._client.close()


def test_ollama_reads_answers(sdk: ollama.Client) -> None:
    whole = sdk.chat(model="qwen3@reasoning=2", messages=MESSAGES, think=True)
    assert (whole.message.content, whole.message.thinking) == (
        "You said: hello there",
        "Let me think.",
    )
    assert (whole.done_reason, whole.prompt_eval_count, whole.eval_count) == ("stop", 3, 6)
    lines = list(sdk.chat(model="qwen3", messages=MESSAGES, stream=True))
    assert "".join(line.message.content or "" for line in lines) == "You said: hello there"
    assert [line.done for line in lines].count(True) == 1
    calling: Any = [{"role": "user", "content": 'call:add {"a": 1}'}]
    made = sdk.chat(model="qwen3", messages=calling, tools=[TOOL]).message.tool_calls or []
    assert [(call.function.name, call.function.arguments) for call in made] == [("add", {"a": 1})]
    assert [len(row) for row in sdk.embed(model="e", input=["one", "two"]).embeddings] == [8, 8]


def test_ollama_reads_errors(sdk: ollama.Client) -> None:
    for status in (400, 404, 429, 500):
        with pytest.raises(ollama.ResponseError) as caught:
            sdk.chat(model=f"m@status={status}", messages=MESSAGES)
        assert caught.value.status_code == status
    with pytest.raises(ollama.ResponseError, match="running the model"):
        list(sdk.chat(model="m@fault=stream_error,after=1", messages=MESSAGES, stream=True))
