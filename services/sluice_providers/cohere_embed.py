"""Cohere's embeddings, which its own service and Bedrock have in one form."""

from typing import Any, Final

from sluice_providers.chat_request import inputs, left_out
from sluice_providers.port import Call

_INPUT_TYPE: Final = "search_document"
_FIELDS: Final = frozenset({"input", "dimensions", "encoding_format", "input_type"})


def embed_request(call: Call, document: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The request, and warnings. Raises UntranslatableError."""
    warnings = list(left_out(document, _FIELDS))
    kind = document.get("input_type") or call.target.options.get("input_type")
    if kind is None:
        kind = _INPUT_TYPE
        warnings.append(f"input_type: this provider asks for one; {_INPUT_TYPE} was sent")
    request: dict[str, Any] = {
        "model": call.target.model,
        "texts": inputs(document),
        "input_type": kind,
        "embedding_types": ["float"],
        # Otherwise an input that is too long would be cut and nobody told.
        "truncate": "NONE",
    }
    if document.get("dimensions"):
        request["output_dimension"] = document["dimensions"]
    return request, tuple(warnings)


def vectors_of(document: dict[str, Any]) -> list[Any]:
    """The vectors of an answer, by type or bare. Raises any of `NOT_IN_FORM`."""
    found = document["embeddings"]
    return list(found if isinstance(found, list) else found["float"])
