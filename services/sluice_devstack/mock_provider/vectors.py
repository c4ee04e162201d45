"""The mock's embeddings: vectors that depend on the text alone, and how many tokens it took."""

import hashlib
from collections.abc import Sequence

SIZE = 8
"""Of a vector, where no other is asked for."""


def vector(entry: object, size: int) -> list[float]:
    """A vector of so many dimensions."""
    digest = hashlib.sha256(repr(entry).encode()).digest()
    return [digest[index % 32] / 256 - 0.5 for index in range(size)]


def tokens(inputs: Sequence[object]) -> int:
    """Input tokens by the formula of `answers`, for each input by itself."""
    return sum(
        -(-len(entry.encode()) // 4) if isinstance(entry, str) else len(str(entry))
        for entry in inputs
    )
