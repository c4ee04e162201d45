"""Bedrock's embeddings and rankings: InvokeModel carries them in the form of each model's maker."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from sluice_core.usage.model import Usage
from sluice_core.usage.policy import UncountableError, count
from sluice_platform.values import frozen_value
from sluice_providers.adapter import MalformedError, UntranslatableError, Whole
from sluice_providers.chat_answer import NOT_IN_FORM, embeddings
from sluice_providers.chat_request import inputs, left_out
from sluice_providers.cohere_embed import embed_request, vectors_of
from sluice_providers.port import Call
from sluice_providers.rerank import ranking, request_of

TOKENS_HEADER: Final = "x-amzn-bedrock-input-token-count"
"""Where input tokens stand that a body does not tell: AWS sends it with each answer of InvokeModel."""
_MOST_DIGITS: Final = 12
_FIELDS: Final = frozenset({"input", "dimensions", "encoding_format"})

Request = tuple[dict[str, Any], tuple[str, ...]]


@frozen_value
class _Maker:
    """How a maker's models are asked for embeddings, and where the vectors and their tokens stand in an answer."""

    ask: Callable[[Call, dict[str, Any]], Request]
    read: Callable[[dict[str, Any]], list[Any]]
    tokens: str | None = None


def invoke_request(call: Call, document: dict[str, Any]) -> Request:
    """The body of an embeddings or rerank call, and warnings. Raises UntranslatableError."""
    if call.operation == "embeddings":
        return _maker(call.target.model).ask(call, document)
    request, warnings = request_of(call, document)
    del request["model"]
    if "cohere." in call.target.model:
        request["api_version"] = 2
    return request, warnings


def invoke_answer(call: Call, document: dict[str, Any], headers: Mapping[str, str]) -> Whole:
    """The answer to it. Raises AdapterError."""
    if call.operation == "rerank":
        return ranking(call, document)
    maker = _maker(call.target.model)
    try:
        vectors = maker.read(document)
    except NOT_IN_FORM as exc:
        raise MalformedError("the answer has no list of embeddings") from exc
    return embeddings(call, vectors, usage=_usage(maker, document, headers))


def _usage(maker: _Maker, document: Mapping[str, Any], headers: Mapping[str, str]) -> Usage | None:
    try:
        tokens = count(document, maker.tokens) if maker.tokens else 0
    except UncountableError:
        return None
    said = headers.get(TOKENS_HEADER, "")
    if not tokens and len(said) < _MOST_DIGITS and said.isascii() and said.isdigit():
        tokens = int(said)
    return Usage(input_tokens=tokens) if tokens else None


def _maker(model: str) -> _Maker:
    """By the model's id, whatever region or profile stands before it. Raises UntranslatableError."""
    for part, maker in _MAKERS.items():
        if part in model:
            return maker
    known = ", ".join(_MAKERS)
    raise UntranslatableError("model", f"of Bedrock's embeddings those of {known} are known")


def _cohere(call: Call, document: dict[str, Any]) -> Request:
    request, warnings = embed_request(call, document)
    del request["model"]
    return request, warnings


def _titan(_call: Call, document: dict[str, Any]) -> Request:
    request: dict[str, Any] = {"inputText": _one_text(document)}
    if document.get("dimensions"):
        request["dimensions"] = document["dimensions"]
    return request, left_out(document, _FIELDS)


def _nova(_call: Call, document: dict[str, Any]) -> Request:
    asked: dict[str, Any] = {
        "embeddingPurpose": document.get("embedding_purpose") or "GENERIC_INDEX",
        # Otherwise an input that is too long would be cut and nobody told.
        "text": {"truncationMode": "NONE", "value": _one_text(document)},
    }
    if document.get("dimensions"):
        asked["embeddingDimension"] = document["dimensions"]
    request = {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": asked}
    return request, left_out(document, _FIELDS | {"embedding_purpose"})


def _one_text(document: Mapping[str, Any]) -> str:
    texts = inputs(document)
    if len(texts) > 1:
        raise UntranslatableError("input", "this model embeds one text a request; send a job each")
    return texts[0]


_MAKERS: Final[Mapping[str, _Maker]] = {
    "cohere.embed": _Maker(ask=_cohere, read=vectors_of),
    "amazon.titan-embed": _Maker(
        ask=_titan, read=lambda document: [document["embedding"]], tokens="inputTextTokenCount"
    ),
    "amazon.nova": _Maker(
        ask=_nova,
        read=lambda document: [row["embedding"] for row in document["embeddings"]],
        tokens="inputTokenCount",
    ),
}
