"""The mock's rankings: a document's score is the share of the query's words that it has."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from sluice_devstack.mock_provider.behaviour import Behaviour
from sluice_devstack.mock_provider.vectors import tokens

DOCUMENTS_A_SEARCH = 100


def score(query: str, document: str) -> float:
    """From 0 to 1."""
    words = set(query.lower().split())
    return len(words & set(document.lower().split())) / max(1, len(words))


def ranked(query: str, documents: Sequence[str], most: int | None) -> list[dict[str, Any]]:
    """The documents' places and scores, best first; of equals the first."""
    rows = [
        {"index": index, "relevance_score": score(query, text)}
        for index, text in enumerate(documents)
    ]
    return sorted(rows, key=lambda row: -row["relevance_score"])[:most]


class Ranking:
    """One ranking; `searches`: its usage is told in searches, as Cohere does, else in tokens."""

    def __init__(
        self, body: Mapping[str, Any], model: str, behaviour: Behaviour, *, searches: bool
    ) -> None:
        documents = list(body["documents"])
        self._model, self._searches = model, searches
        self._rows = ranked(body["query"], documents, body.get("top_n"))
        self.usage: dict[str, Any] | None = None
        if behaviour.usage == "none":
            return
        if searches:
            units = -(-len(documents) // DOCUMENTS_A_SEARCH)
            self.usage = {"billed_units": {"search_units": float(units)}}
        else:
            count = tokens([body["query"], *documents])
            self.usage = {"prompt_tokens": count, "total_tokens": count}

    def body(self) -> bytes:
        """The whole answer."""
        document: dict[str, Any] = {"id": "rank", "results": self._rows}
        if self._searches:
            document["meta"] = {"api_version": {"version": "2"}} | (self.usage or {})
        else:
            document["model"] = self._model
            document |= {"usage": self.usage} if self.usage else {}
        return orjson.dumps(document)

    def events(self) -> Iterator[bytes]:
        """Rankings are never streamed."""
        return iter(())
