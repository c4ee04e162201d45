"""Money: whole nano-dollars inside, decimal strings of US dollars outside."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

NANO_PER_USD: Final = 1_000_000_000
MAX_NANO: Final = 2**63 - 1
"""The largest amount that a 64-bit column holds, in nano-dollars."""

_DECIMAL: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z", re.ASCII)
_MAX_TEXT: Final = 128
_CONTEXT: Final = Context(prec=_MAX_TEXT + 16, rounding=ROUND_HALF_EVEN)


def parse_usd(text: str) -> int:
    """Read a non-negative decimal string of dollars as nano-dollars, half-even.

    Raises ValueError for a sign, an exponent, any other text, or more than 128 characters.
    """
    if len(text) > _MAX_TEXT or _DECIMAL.match(text) is None:
        raise ValueError(f"is not a non-negative decimal string: {text[:40]!r}")
    nano = _CONTEXT.multiply(Decimal(text), Decimal(NANO_PER_USD))
    return int(nano.to_integral_value(rounding=ROUND_HALF_EVEN, context=_CONTEXT))


def format_usd(nano: int) -> str:
    """Write nano-dollars as dollars with exactly nine decimals; a correction may be negative."""
    digits = f"{nano:010d}" if nano >= 0 else f"{nano:011d}"
    return f"{digits[:-9]}.{digits[-9:]}"
