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


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """An answer to be stored under a key for `ttl_s` seconds."""

    key: bytes
    tenant: str
    ttl_s: float
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a key was found as: `hit` with the answer and how many seconds it still counts, `mine`: nobody has it and this
    worker is to ask, or `others`: another worker is asking."""

    state: Literal["hit", "mine", "others"]
    answer: Answer | None = None
    left_s: float = 0.0
