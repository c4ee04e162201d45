"""Pure: the most that a request can use and cost, read from the request itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sluice_core.pricing.model import PriceEntry
from sluice_core.pricing.policy import worst_case
from sluice_core.usage.policy import searches

DEFAULT_MAX_OUTPUT: Final = 16_384
"""Tokens an answer is taken to have at most where neither request nor model names a limit."""


LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""What requests call their limit on an answer."""
_MARKS: Final = (
    b'"conversation":',
    b'"prompt":{',
    b'"web_search',
    b'"file_search"',
    b'"code_interpreter"',
    b'"image_generation"',
    b'"mcp"',
)
"""Without one of these, nothing of a request lies with its provider but an earlier answer."""
_REFERRING: Final = re.compile(
    b"|".join(
        re.escape(mark)
        for mark in (
            b'"image_url"',
            b'"file_id":',
            b'"file_url":',
            b'"previous_response_id":"',
            *_MARKS,
        )
    )
)
"""What all requests that refer to anything outside of themselves have; one search for it is quicker than one for each."""
_LENGTH: Final = re.compile(rb'"(?:max_|n":)')
_TOOLS: Final = ("web_search", "file_search", "code_interpreter", "image_generation", "mcp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a request can use at most: tokens, searches, and nano-dollars of which `input_nano` are the input's.

    `named_output`: the request, or its model's default, says how long an answer may be; else it is a guess.
    `endless` names what the request refers to without any bound, None where nothing is.
    """

    input_tokens: int
    output_tokens: int
    worst_nano: int
    input_nano: int
    named_output: bool
    endless: str | None
    searches: int = 0

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


def bound(
    body: bytes,
    price: PriceEntry,
    *,
    default_max_tokens: int | None,
    item_tokens: Mapping[str, int | None],
    generates: bool = True,
) -> Bound:
    """Bound a request whose `body` is JSON without white space; `generates`: its answer is written token by token.

    Every byte counts as a token, so only what lies elsewhere has to be added: remote images and files, at
    `item_tokens` each.
    """
    if not generates:
        return _read_alone(body, price)
    asked, choices = asked_output(body)
    most = asked or default_max_tokens or DEFAULT_MAX_OUTPUT
    extra, endless = _elsewhere(body, item_tokens)
    size = len(body) + extra
    return Bound(
        input_tokens=size,
        output_tokens=most * choices,
        worst_nano=worst_case(price, body_bytes=size, max_output_tokens=most, n=choices),
        input_nano=worst_case(price, body_bytes=size, max_output_tokens=0, n=1),
        named_output=(asked or default_max_tokens) is not None,
        endless=endless,
    )


def _read_alone(body: bytes, price: PriceEntry) -> Bound:
    """Of a request that is only read: embeddings, and rankings, which may be sold by the search."""
    size = len(body)
    sold = any(rate.meter == "searches" for rate in price.rates)
    times = searches(orjson.loads(body)) if sold else 0
    worst = worst_case(price, body_bytes=size, max_output_tokens=0, n=1, searches=times)
    return Bound(
        input_tokens=size,
        output_tokens=0,
        worst_nano=worst,
        input_nano=worst,
        named_output=True,
        endless=None,
        searches=times,
    )


def asked_output(body: bytes) -> tuple[int | None, int]:
    """The number of output tokens a request asks for, and of choices."""
    most, choices = None, 1
    if _LENGTH.search(body) is not None:
        document = orjson.loads(body)
        asked = (document.get(name) for name in LIMITS)
        # Which of two a provider goes by is its own affair.
        most = max((given for given in asked if isinstance(given, int) and given > 0), default=None)
        if isinstance(document.get("n"), int):
            choices = max(1, document["n"])
    return most, choices


def _elsewhere(body: bytes, item_tokens: Mapping[str, int | None]) -> tuple[int, str | None]:
    """Tokens of what a request only refers to, and what of it has no bound."""
    extra, endless = 0, None
    if _REFERRING.search(body) is None:
        return extra, endless
    for what, mark, count, within in (
        # Whatever does not carry its bytes with it: a provider reads HTTPS:// too, and a bare string for the object.
        (
            "image",
            b'"image_url"',
            (b'"url":"', b'"image_url":"'),
            (b'"url":"data:', b'"image_url":"data:'),
        ),
        ("file", b'"file_id":', (b'"file_id":',), ()),
        ("file", b'"file_url":', (b'"file_url":',), ()),
    ):
        if mark not in body:
            continue
        items = sum(map(body.count, count)) - sum(map(body.count, within))
        each = item_tokens.get(what)
        if items and each is None:
            endless = f"a remote {what} (set item_tokens.{what} of its model)"
        extra += items * (each or 0)
    if b'"previous_response_id":"' in body:
        endless = "an earlier answer that the provider keeps"
    if any(mark in body for mark in _MARKS):
        endless = _kept(orjson.loads(body)) or endless
    return extra, endless


def _kept(document: dict[str, Any]) -> str | None:
    """What of a request the provider adds to the prompt by itself."""
    if document.get("conversation"):
        return "a conversation that the provider keeps"
    if isinstance(document.get("prompt"), dict):
        return "a prompt that the provider keeps"
    if document.get("web_search_options") is not None:
        return "a search that the provider makes"
    tools = document.get("tools")
    kinds = [str(t.get("type")) for t in tools if isinstance(t, dict)] if tools else []
    ran = [kind for kind in kinds if kind.startswith(_TOOLS)]
    return f"a tool that the provider runs ({ran[0]})" if ran else None
