"""A row of `finance.usage` before it is written, and the event that says the same."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson

from sluice_core.usage.model import Usage, UsageSource
from sluice_platform.values import frozen_value
from sluice_schemas.money import format_usd
from sluice_schemas.times import format_time


@frozen_value
class UsageRow:
    """One provider attempt that could cost money.

    Times are epoch seconds, money is in nano-dollars, `meters` and `tags` are JSON text.
    """

    usage_id: UUID
    job_id: UUID
    attempt: int
    run_id: str | None
    started_at: float
    ended_at: float
    tenant: str
    team: str | None
    project: str
    app: str | None
    user_id: str | None
    tags: str
    key_id: str | None
    provider: str
    account: str
    model_requested: str
    provider_model: str
    provider_request_id: str | None
    operation: str
    class_name: str
    usage: Usage
    usage_source: UsageSource
    meters: str
    cost_nano: int
    list_cost_nano: int
    price_version: str
    outcome: str
    provider_ms: int
    cache: str = "miss"
    arm: str | None = None
    region: str | None = None
    service_tier: str | None = None

    def to_row(self, job: int) -> tuple[object, ...]:
        """The fields of `sluice.usage_v1`, in order; `job` is the inner key of the settlement it belongs to."""
        used = self.usage
        return (
            self.usage_id,
            self.job_id,
            self.attempt,
            self.run_id,
            self.started_at,
            self.ended_at,
            self.tenant,
            self.team,
            self.project,
            self.app,
            self.user_id,
            self.tags,
            self.key_id,
            self.provider,
            self.account,
            self.region,
            self.model_requested,
            self.provider_model,
            self.provider_request_id,
            self.operation,
            self.class_name,
            self.service_tier,
            self.arm,
            None,
            used.input_tokens,
            used.cache_read_tokens,
            used.cache_write_tokens,
            used.output_tokens,
            used.reasoning_tokens,
            self.usage_source,
            self.meters,
            self.cost_nano,
            self.list_cost_nano,
            self.price_version,
            self.outcome,
            self.cache,
            self.provider_ms,
            job,
        )

    def to_event(self, recorded_at: float) -> bytes:
        """The value of the usage event; equal to what `event_of` makes of the written row."""
        used = self.usage
        cost = list_cost = format_usd(self.cost_nano)
        if self.list_cost_nano != self.cost_nano:
            list_cost = format_usd(self.list_cost_nano)
        return orjson.dumps(
            {
                "usage_id": self.usage_id,
                "job_id": self.job_id,
                "attempt": self.attempt,
                "run_id": self.run_id,
                "recorded_at": format_time(recorded_at),
                "started_at": format_time(self.started_at),
                "ended_at": format_time(self.ended_at),
                "tenant": self.tenant,
                "team": self.team,
                "project": self.project,
                "app": self.app,
                "user_id": self.user_id,
                "tags": orjson.Fragment(self.tags),
                "key_id": self.key_id,
                "provider": self.provider,
                "account": self.account,
                "region": self.region,
                "model_requested": self.model_requested,
                "provider_model": self.provider_model,
                "provider_request_id": self.provider_request_id,
                "operation": self.operation,
                "class": self.class_name,
                "service_tier": self.service_tier,
                "arm": self.arm,
                "prompt_version": None,
                "input_tokens": used.input_tokens,
                "cache_read_tokens": used.cache_read_tokens,
                "cache_write_tokens": used.cache_write_tokens,
                "output_tokens": used.output_tokens,
                "reasoning_tokens": used.reasoning_tokens,
                "usage_source": self.usage_source,
                "meters": orjson.Fragment(self.meters),
                "cost_usd": cost,
                "list_cost_usd": list_cost,
                "price_version": self.price_version,
                "outcome": self.outcome,
                "charge_class": None,
                "corrects_usage_id": None,
                "correction_reason": None,
                "cache": self.cache,
                "provider_ms": self.provider_ms,
            }
        )


def event_of(row: Mapping[str, Any]) -> bytes:
    """The value of the usage event of a written row of `finance.usage`."""
    values = dict(row)
    for name in ("recorded_at", "started_at", "ended_at"):
        values[name] = format_time(values[name].timestamp())
    for name in ("cost_usd", "list_cost_usd"):
        values[name] = f"{values[name]:.9f}"
    for name in ("tags", "meters"):
        values[name] = orjson.loads(values[name])
    for name in ("usage_id", "job_id", "corrects_usage_id"):
        values[name] = None if values[name] is None else str(values[name])
    return orjson.dumps(values)
