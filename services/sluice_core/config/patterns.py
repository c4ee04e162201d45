"""Names as policies write them: `*` at the end of one stands for anything."""

from collections.abc import Sequence
from typing import Final

ANYTHING: Final = "*"


def matches(pattern: str, value: str) -> bool:
    """Whether a pattern stands for a value."""
    if pattern.endswith(ANYTHING):
        return value.startswith(pattern[:-1])
    return pattern == value


def covers(wide: str, narrow: str) -> bool:
    """Whether everything that the pattern `narrow` stands for is in `wide` too."""
    if wide.endswith(ANYTHING):
        return narrow.removesuffix(ANYTHING).startswith(wide[:-1])
    return wide == narrow


def leaves_nothing(
    allow: Sequence[str] | None, deny: Sequence[str], everything: Sequence[str]
) -> bool:
    """Whether all that is allowed is denied as well; `everything` is what is allowed where nothing is listed."""
    allowed = everything if allow is None else allow
    return all(any(covers(wide, narrow) for wide in deny) for narrow in allowed)
