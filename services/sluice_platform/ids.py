"""Makes identifiers that sort by time (UUID version 7, RFC 9562)."""

import os
import time
from uuid import UUID

_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_BITS = (1 << 62) - 1


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds, 12 bits of their fraction, 62 random bits.

    The fraction (RFC 9562, section 6.2, method 3) orders identifiers made a quarter of a
    microsecond apart.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = (rest << 12) // 1_000_000
    random = int.from_bytes(os.urandom(8)) & _RANDOM_BITS
    return UUID(int=(milliseconds << 80) | (fraction << 64) | _VERSION_AND_VARIANT | random)
