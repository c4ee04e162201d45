"""Reads what providers say of the rate that is left to an account, on any answer."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

# What remains, and when it is whole again: OpenAI's headers and those of its like, then Anthropic's.
_PAIRS: Final = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST_S: Final = 3600.0
"""No account is left alone for longer on the word of one header."""


def exhausted_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until there is a rate again, where a header says that nothing of it remains; None otherwise.

    `now` in epoch seconds, against which a time of day counts.
    """
    longest: float | None = None
    for remaining, reset in _PAIRS:
        if headers.get(remaining) != "0":
            continue
        seconds = _until(headers.get(reset, ""), now)
        if seconds is not None:
            longest = seconds if longest is None else max(longest, seconds)
    return longest


def _until(text: str, now: float) -> float | None:
    """Seconds of `6m0s` or `20ms`, of a bare number, or until an RFC 3339 time."""
    parts = _PART.findall(text)
    seconds: float
    if parts and "".join(number + unit for number, unit in parts) == text:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                return None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            seconds = moment.timestamp() - now
    return min(LONGEST_S, max(0.0, seconds)) if seconds == seconds else None  # noqa: PLR0124 - NaN
