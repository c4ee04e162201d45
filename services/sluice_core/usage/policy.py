"""How tokens are counted where a provider does not say, and how its counters are read where it does."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sluice_core.usage.model import Usage

BYTES_PER_TOKEN = 4
"""English text comes to about four bytes a token with every current tokenizer."""
MEDIUM_TOKENS = 1_000
"""What an image, a sound or a document counts as: about one large image at OpenAI."""

PIECE_TOKENS = 500
PIECES_A_SEARCH = 100

# A tuple: what a caller writes as a type may be nothing that a set can look for.
_MEDIA = ("image_url", "input_audio", "file", "input_image", "input_file")

_TEXTUAL = ("instructions", "messages", "input", "tools", "query", "documents")

MOST_TOKENS = 10**9
"""No call counts more: a larger number is a defect of the server, and no money is booked for it."""


class UncountableError(ValueError):
    """A counter that is no whole number of tokens: nothing else in its document can be relied on either."""


def count(document: Mapping[str, Any] | None, name: str) -> int:
    """A counter of a provider's usage document; 0 where it is absent or null.

    Raises UncountableError for anything but a whole number from 0 to `MOST_TOKENS`. The document then counts as
    not reported, so that the call is estimated: a counter read as 0 would make it look cheaper than it was.
    """
    value = document.get(name) if document else None
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= MOST_TOKENS:
        raise UncountableError(f"{name} is no number of tokens")
    return value


def consistent(usage: Usage) -> Usage:
    """The same with no subset larger than the total that includes it.

    A total that is less than its parts is raised to them and no part is cut: every counter is the provider's own
    evidence of what it did, and this is the reading under which the cost is never understated. Input audio may have
    been read from the cache, so it is held against the input alone; the other parts of a total do not overlap.
    """
    written = max(usage.cache_write_tokens, usage.cache_write_1h_tokens)
    given = max(usage.input_tokens, usage.cache_read_tokens + written, usage.input_audio_tokens)
    output = max(usage.output_tokens, usage.reasoning_tokens + usage.output_audio_tokens)
    if (written, given, output) == (
        usage.cache_write_tokens,
        usage.input_tokens,
        usage.output_tokens,
    ):
        return usage
    return replace(usage, cache_write_tokens=written, input_tokens=given, output_tokens=output)


def part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A nested object of a provider's usage document; empty where it is absent or no object."""
    value = document.get(name)
    return value if isinstance(value, dict) else {}


def estimate(request: Mapping[str, Any], *, output_bytes: int) -> Usage:
    """Usage by size, where none was reported: never zero, so that no such call looks free.

    `request` is the OpenAI-form body, `output_bytes` the bytes of answer text that were received.
    """
    if "messages" not in request and isinstance(request.get("documents"), list):
        return Usage(input_tokens=max(1, estimate_input(request)), searches=searches(request))
    return Usage(
        input_tokens=max(1, estimate_input(request)),
        output_tokens=max(1, -(-output_bytes // BYTES_PER_TOKEN)),
    )


def searches(request: Mapping[str, Any]) -> int:
    """The most searches that a ranking counts as: a search is up to 100 pieces of 500 tokens, the query in each.

    That is how Cohere counts them (its pricing page). A byte is taken for a token, so the number is a bound.
    """
    left = max(1, PIECE_TOKENS - len(str(request.get("query")).encode()))
    pieces = sum(
        -(-max(1, len(text.encode(errors="surrogatepass"))) // left)
        for text in _texts([request.get("documents")])
        if text is not None
    )
    return max(1, -(-pieces // PIECES_A_SEARCH))


def estimate_input(request: Mapping[str, Any]) -> int:
    """Input tokens of an OpenAI-form request by size: text at four bytes a token, media at a flat number."""
    size, media = 0, 0
    parts = (request.get(name) for name in _TEXTUAL)
    for text in _texts(parts):
        if text is None:
            media += 1
        else:
            size += len(text.encode(errors="surrogatepass"))
    return -(-size // BYTES_PER_TOKEN) + MEDIUM_TOKENS * media


def _texts(values: Iterable[object]) -> Iterable[str | None]:
    """Every string below `values`, in any nesting; None for a medium instead of its data."""
    stack = list(values)
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            if value.get("type") in _MEDIA:
                yield None
            else:
                stack.extend(value.values())
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # A token id of an embeddings input.
            yield "0000"
