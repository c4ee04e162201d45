"""What is compared by meaning, and what must be the same."""

from typing import Any

import orjson
import pytest

from sluice_core.caching.meaning import vector_of, wording_of
from sluice_core.caching.model import Wording
from sluice_core.jobs.model import Facts


def asked(
    text: Any = "Where is the river?", *, tenant: str = "acme", operation: str = "chat", **more: Any
) -> Wording | None:
    messages = more.pop("messages", [{"role": "user", "content": text}])
    body = orjson.dumps({"model": "m", "messages": messages, **more})
    facts = Facts(tenant=tenant, model="m", operation=operation)
    return wording_of(facts, body, embedder="e", most=100)


def test_other_words_are_the_same_context() -> None:
    one, other = asked("Where is it?"), asked(" And where does it lie? ", stream=True, user="u")
    assert one is not None
    assert other is not None
    assert (one.words, other.words) == ("Where is it?", "And where does it lie?")
    assert one.context == other.context


@pytest.mark.parametrize(
    "changed",
    [
        {"tenant": "other"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"response_format": {"type": "json_object"}},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Where is the river?"},
            ]
        },
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Where is the river?"},
            ]
        },
    ],
)
def test_anything_else_is_another_context(changed: dict[str, Any]) -> None:
    plain, other = asked(), asked(**changed)
    assert plain is not None
    assert other is not None
    assert (other.words, other.context == plain.context) == (plain.words, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"text": ""},
        {"text": "  "},
        {"text": None},
        {"text": "x" * 10_000},
        {"text": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"text": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]},
        {"operation": "embeddings"},
        {"messages": [{"role": "tool", "tool_call_id": "1", "content": "3"}]},
    ],
)
def test_what_is_more_than_words_is_not_compared(changed: dict[str, Any]) -> None:
    assert asked(**changed) is None


def embedded(vector: Any) -> bytes:
    return orjson.dumps({"data": [{"embedding": vector}]})


def test_vectors() -> None:
    assert vector_of(embedded([1, -0.5, 1e-9])) == "[1.0,-0.5,1e-09]"
    for none in ([], [0, 0], ["a"], None, [1e999], {"a": 1}, "text"):
        with pytest.raises(ValueError, match="vector"):
            vector_of(embedded(none))
    with pytest.raises(ValueError, match="no vector"):
        vector_of(b"{}")
