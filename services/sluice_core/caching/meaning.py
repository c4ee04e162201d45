"""Pure: what of a request is compared by its meaning, what must be the same, and vectors as the ledger takes them."""

import math
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import orjson

from sluice_core.caching.model import Wording
from sluice_core.caching.policy import canonical
from sluice_core.jobs.model import Facts

MOST_WORDS: Final = 8_000
"""Characters of what is compared by meaning; longer texts say more than one vector does."""
MOST_DIMENSIONS: Final = 16_000
"""That pgvector stores."""
_MEDIA: Final = (b'"image_url"', b'"input_audio"', b'"file"', b'"input_image"', b'"input_file"')


def wording_of(
    facts: Facts, body: bytes, *, embedder: str, most: int | None = None, arm: str | None = None
) -> Wording | None:
    """The words that a chat request ends with, and its context; None where they are not all that it asks.

    The context is 32 bytes over tenant, model, `embedder`, the `arm` of a split and everything in the request but those
    words: another system prompt, other tools, other turns before or another form of answer are another context.
    """
    if facts.operation != "chat" or any(mark in body for mark in _MEDIA):
        return None
    asked = canonical(body)
    *before, last = asked["messages"]
    if last.get("role") != "user":
        return None
    words = _words(last)
    if not words or len(words) > MOST_WORDS:
        return None
    asked["messages"] = [*before, {**last, "content": ""}]
    head = orjson.dumps([facts.tenant, facts.model, embedder, most, arm])
    context = sha256(head + b"\n" + orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).digest()
    return Wording(words=words, context=context)


def _words(message: Mapping[str, Any]) -> str | None:
    content = message.get("content")
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        content = content[0].get("text") if content[0].get("type") == "text" else None
    return content.strip() if isinstance(content, str) else None


def vector_of(answer: bytes) -> str:
    """The first vector of an embeddings answer, as pgvector reads it. Raises ValueError for what has no direction."""
    try:
        vector = [float(value) for value in orjson.loads(answer)["data"][0]["embedding"]]
    except (IndexError, KeyError, TypeError, ValueError) as exc:
        raise ValueError("the answer has no vector") from exc
    if not 0 < len(vector) <= MOST_DIMENSIONS or not all(map(math.isfinite, vector)):
        raise ValueError("the vector is none")
    if not any(vector):
        raise ValueError("the vector has no direction")
    return "[" + ",".join(map(repr, vector)) + "]"
