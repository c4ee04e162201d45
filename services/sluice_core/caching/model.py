"""Stored answers as values."""

from dataclasses import dataclass
from typing import Final, Literal

from sluice_core.usage.model import Usage
from sluice_platform.values import frozen_value

KEY_BYTES: Final = 32


@frozen_value
class Answer:
    """A stored answer in OpenAI form, and what it used and would cost; `list_nano` in nano-dollars."""

    body: bytes
    provider: str
    account: str
    provider_model: str
    usage: Usage
    list_nano: int
    price_version: str


@frozen_value
class Wording:
    """What a request asks, as far as it is compared by meaning, and the 32 bytes that must be the same."""

    words: str
    context: bytes


@frozen_value
class Meaning:
    """A vector, as pgvector reads it, in its context."""

    context: bytes
    vector: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """An answer to be stored under a key for `ttl_s` seconds; with a `meaning` it is found by that, too."""

    key: bytes
    tenant: str
    ttl_s: float
    answer: Answer
    meaning: Meaning | None = None


@frozen_value
class Near:
    """A stored answer to other words, how many seconds it still counts, and how near they are, as a cosine."""

    answer: Answer
    left_s: float
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a key was found as: `hit` with the answer and how many seconds it still counts, `mine`: nobody has it and this
    worker is to ask, or `others`: another worker is asking."""

    state: Literal["hit", "mine", "others"]
    answer: Answer | None = None
    left_s: float = 0.0
