"""Reads the JSON of answers."""

from typing import Any

import orjson

from sluice_providers.adapter import EmptyError, MalformedError


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises EmptyError for nothing at all, MalformedError for anything else."""
    if not body.strip():
        raise EmptyError("the answer has no body")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise MalformedError(f"the answer is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise MalformedError("the answer is not a JSON object")
    return document
