"""Rankings of documents by a query, in the form that vLLM, llama.cpp, Together, Jina and Cohere's first version share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, count, part
from sluice_providers.adapter import EmptyError, MalformedError, UntranslatableError, Whole
from sluice_providers.port import Call

_FIELDS = frozenset({"model", "query", "documents", "top_n", "return_documents", "user"})


def request_of(call: Call, document: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request as all of them take it, and what of it was left out; documents are put back into answers here."""
    request: dict[str, Any] = {
        "model": call.target.model,
        "query": document["query"],
        "documents": _texts(document),
    }
    if document.get("top_n") is not None:
        request["top_n"] = document["top_n"]
    left_out = sorted(name for name, value in document.items() if name not in _FIELDS and value)
    return request, tuple(f"{name}: not sent, rankings have nothing like it" for name in left_out)


def ranking(call: Call, document: Mapping[str, Any]) -> Whole:
    """An answer with `results`, best first. Raises AdapterError."""
    asked = orjson.loads(call.body)
    texts, rows = _texts(asked), document.get("results")
    if not isinstance(rows, list):
        raise MalformedError("the answer has no list of results")
    if not rows:
        raise EmptyError("the answer's list of results is empty")
    results = [_result(row, texts, with_text=bool(asked.get("return_documents"))) for row in rows]
    if len({result["index"] for result in results}) < len(results):
        raise MalformedError("the answer ranks a document twice")
    results.sort(key=lambda result: -result["relevance_score"])
    usage = _usage(document)
    answer: dict[str, Any] = {
        "id": str(document.get("id") or f"rerank-{call.job_id}"),
        "object": "list",
        "model": call.target.model_requested,
        "results": results[: asked.get("top_n")],
    }
    if usage is not None:
        answer["usage"] = {
            "prompt_tokens": usage.input_tokens,
            "total_tokens": usage.input_tokens,
            "search_units": usage.searches,
        }
    return Whole(body=orjson.dumps(answer), usage=usage, finish=(), output_bytes=0)


def _texts(document: Mapping[str, Any]) -> list[str]:
    try:
        return [d["text"] if isinstance(d, dict) else d for d in document["documents"]]
    except (KeyError, TypeError) as exc:
        raise UntranslatableError("documents", "not a list of texts") from exc


def _result(row: Any, texts: Sequence[str], *, with_text: bool) -> dict[str, Any]:
    try:
        index, score = row["index"], float(row["relevance_score"])
    except (KeyError, TypeError, ValueError) as exc:
        raise MalformedError("a result has no index or no score") from exc
    if type(index) is not int or not 0 <= index < len(texts) or not math.isfinite(score):
        raise MalformedError("a result's index or score is none")
    result: dict[str, Any] = {"index": index, "relevance_score": score}
    if with_text:
        result["document"] = {"text": texts[index]}
    return result


def _usage(document: Mapping[str, Any]) -> Usage | None:
    """Tokens, as most say them, or searches, as Cohere does; None where neither is said."""
    billed = part(part(document, "meta"), "billed_units")
    said = part(document, "usage")
    try:
        tokens = (
            count(said, "prompt_tokens")
            or count(said, "total_tokens")
            or _whole(billed, "input_tokens")
        )
        searches = _whole(billed, "search_units") or count(said, "search_units")
    except UncountableError:
        return None
    return Usage(input_tokens=tokens, searches=searches) if tokens or searches else None


def _whole(document: Mapping[str, Any], name: str) -> int:
    """A counter that is written as a float."""
    value = document.get(name)
    return count(
        {name: int(value)} if type(value) is float and value.is_integer() else document, name
    )
