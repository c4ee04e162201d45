"""Usage where nobody reported it, and counters of providers that report nonsense."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import (
    MEDIUM_TOKENS,
    UncountableError,
    consistent,
    count,
    estimate,
    estimate_input,
    part,
)


@pytest.mark.parametrize(("value", "read"), [(7, 7), (0, 0), (None, 0), (10**9, 10**9)])
def test_a_counter_is_a_whole_number_or_absent(value: object, read: int) -> None:
    assert count({"tokens": value}, "tokens") == read


@pytest.mark.parametrize(
    "value", [7.0, 7.9, -1, True, "7", [], {}, float("nan"), float("inf"), 1e300, 2**62, 10**9 + 1]
)
def test_a_counter_that_is_no_number_of_tokens_is_no_counter(value: object) -> None:
    with pytest.raises(UncountableError, match="tokens is no number"):
        count({"tokens": value}, "tokens")


_TOKENS = st.integers(0, 10**9)


@given(st.builds(Usage, **{field.name: _TOKENS for field in fields(Usage)}))
def test_no_part_is_more_than_its_total_and_nothing_is_lost(usage: Usage) -> None:
    whole = consistent(usage)
    assert whole.input_tokens >= whole.cache_read_tokens + whole.cache_write_tokens
    assert whole.input_tokens >= whole.input_audio_tokens
    assert whole.cache_write_tokens >= whole.cache_write_1h_tokens
    assert whole.output_tokens >= whole.reasoning_tokens + whole.output_audio_tokens
    for field in fields(Usage):
        assert getattr(whole, field.name) >= getattr(usage, field.name)
    assert consistent(whole) is whole


def test_what_is_absent_counts_nothing() -> None:
    assert count(None, "tokens") == 0
    assert count({}, "tokens") == 0
    assert part({"details": {"a": 1}}, "details") == {"a": 1}
    assert part({"details": 5}, "details") == {}
    assert part({}, "details") == {}


def chat(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def test_text_counts_by_its_bytes() -> None:
    nothing = estimate_input(chat(""))
    assert estimate_input(chat("x" * 400)) == nothing + 100
    assert estimate_input(chat("漢" * 400)) == nothing + 300
    assert estimate_input({"input": ["x" * 40, "y" * 40]}) == 20


def test_media_count_flat_whatever_their_data() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    words = {"type": "text", "text": "what is this"}
    assert MEDIUM_TOKENS <= estimate_input(chat([words, image])) < MEDIUM_TOKENS + 50
    assert estimate_input(chat([image, image])) >= 2 * MEDIUM_TOKENS


def test_token_ids_count_one_each() -> None:
    assert estimate_input({"input": list(range(1_000))}) == 1_000
    assert estimate_input({"input": [[1, 2], [3]]}) == 3


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        ),
        max_leaves=20,
    ),
    output_bytes=st.integers(0, 10**8),
)
def test_no_estimate_looks_free_whatever_was_asked(content: Any, output_bytes: int) -> None:
    usage = estimate(chat(content), output_bytes=output_bytes)
    assert usage.input_tokens >= 1
    assert usage.output_tokens >= max(1, output_bytes // 4)
    assert usage.cache_read_tokens == usage.reasoning_tokens == 0
