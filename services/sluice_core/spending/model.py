"""Reports of usage, and attempts of unknown outcome whose money is held."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

DIMENSIONS: Final = (
    "day",
    "tenant",
    "team",
    "project",
    "app",
    "user_id",
    "run_id",
    "class",
    "provider",
    "account",
    "model_requested",
    "provider_model",
    "outcome",
)
"""The columns of `finance.usage_daily` that a report may be grouped by."""

SHORT: Final = {"model": "model_requested", "user": "user_id", "run": "run_id"}
"""Other names of dimensions, as people say them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Grouped by `by`, over the days from `since` up to but not including `until`."""

    by: tuple[str, ...]
    since: date
    until: date | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """One group of a report; `group` holds its values in the order of the query's `by`."""

    group: tuple[str | None, ...]
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    list_cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Unresolved:
    """An attempt whose outcome nobody knows, and what is held for it."""

    usage_id: UUID
    held_usd: Decimal
    since: datetime
    provider_request_id: str | None
    tenant: str
    job_id: UUID
    attempt: int
    account: str
    provider_model: str | None
