"""What may be said in `sluice.yaml` of the cache: bounds for all, and who uses it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sluice_core.config.base import Section
from sluice_core.config.durations import Duration, Period, Size

CacheMode = Literal["off", "exact", "semantic"]


def _mode(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    return "off" if value is False else value


Mode = Annotated[CacheMode, BeforeValidator(_mode)]


class Semantic(Section):
    """Answers given again to words that mean the same: the model of `models` whose vectors say so, and from which cosine on.

    `entries`: answers of one context (a tenant's requests that differ in their last words alone) at most. `timeout`: how long
    a vector is waited for.
    """

    model: str
    threshold: float = Field(gt=0, le=1)
    entries: int = Field(default=1000, ge=1, le=100_000)
    timeout: Duration = Field(default=5.0, gt=0, le=60)


class CacheConfig(Section):
    """The cache's bounds: how long an answer is kept, the largest one, all of them together, and what a worker keeps in memory.

    `semantic`: how meanings are compared, for what is cached `semantic`.
    """

    ttl: Period = Field(default=3600.0, gt=0)
    entry_bytes: Size = Field(default=1024**2, ge=1)
    bytes: Size = Field(default=1024**3, ge=1)
    memory: Size = Field(default=32 * 1024**2, ge=0)
    semantic: Semantic | None = None


class ModelCache(Section):
    """Whether a model's answers are given again, and for how long (default: `cache.ttl`)."""

    mode: Mode = "off"
    ttl: Period | None = Field(default=None, gt=0)


def _as_section(value: Any) -> Any:
    return {"mode": value} if isinstance(value, str | bool) else value


OfModel = Annotated[ModelCache, BeforeValidator(_as_section)]
