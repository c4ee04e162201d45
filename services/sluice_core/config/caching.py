"""What may be said in `sluice.yaml` of the cache: bounds for all, and who uses it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sluice_core.config.base import Section
from sluice_core.config.durations import Period, Size

CacheMode = Literal["off", "exact"]


def _mode(value: Any) -> Any:
    # YAML reads a bare `off` as false.
    return "off" if value is False else value


Mode = Annotated[CacheMode, BeforeValidator(_mode)]


class CacheConfig(Section):
    """The cache's bounds: how long an answer is kept, the largest one, all of them together, and what a worker keeps in memory."""

    ttl: Period = Field(default=3600.0, gt=0)
    entry_bytes: Size = Field(default=1024**2, ge=1)
    bytes: Size = Field(default=1024**3, ge=1)
    memory: Size = Field(default=32 * 1024**2, ge=0)


class ModelCache(Section):
    """Whether a model's answers are given again, and for how long (default: `cache.ttl`)."""

    mode: Mode = "off"
    ttl: Period | None = Field(default=None, gt=0)


def _as_section(value: Any) -> Any:
    return {"mode": value} if isinstance(value, str | bool) else value


OfModel = Annotated[ModelCache, BeforeValidator(_as_section)]
