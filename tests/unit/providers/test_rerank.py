"""Answers to rankings that are not what they should be, and how many searches a ranking may count as."""

from typing import Any

import pytest
from tests.unit.providers.calls import call_of

from sluice_core.usage.policy import searches
from sluice_providers.adapter import EmptyError, MalformedError
from sluice_providers.port import Call
from sluice_providers.rerank import ranking, request_of


def call(**body: Any) -> Call:
    asked = {"query": "q", "documents": ["a", "b"], **body}
    return call_of("cohere", asked, operation="rerank")


@pytest.mark.parametrize(
    "results",
    [
        None,
        {},
        [{}],
        [{"index": 2, "relevance_score": 0.5}],
        [{"index": -1, "relevance_score": 0.5}],
        [{"index": True, "relevance_score": 0.5}],
        [{"index": 0, "relevance_score": None}],
        [{"index": 0, "relevance_score": "nan"}],
        [{"index": 0, "relevance_score": 0.5}, {"index": 0, "relevance_score": 0.4}],
    ],
)
def test_what_ranks_no_document_is_malformed(results: Any) -> None:
    with pytest.raises(MalformedError):
        ranking(call(), {"results": results})


def test_no_results_are_empty() -> None:
    with pytest.raises(EmptyError):
        ranking(call(), {"results": []})


def test_what_is_not_sent_is_said() -> None:
    request, warnings = request_of(
        call(), {"query": "q", "documents": [{"text": "a"}], "stream": True}
    )
    assert request == {"model": "m", "query": "q", "documents": ["a"]}
    assert [warning.split(":")[0] for warning in warnings] == ["stream"]


@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        (["a"], 1),
        (["a"] * 100, 1),
        (["a"] * 101, 2),
        # 500 tokens with the query's one: a text of 499 bytes is one piece, of 500 two.
        (["x" * 499] * 100, 1),
        (["x" * 500] * 100, 2),
        ([{"text": "x" * 500}] * 100, 2),
    ],
)
def test_a_search_is_a_hundred_pieces(documents: list[Any], expected: int) -> None:
    assert searches({"query": "q", "documents": documents}) == expected
