"""A usage event: one row of `finance.usage`, decimals as strings."""

from typing import Literal

from pydantic import Field

from sluice_schemas.base import Money, Timestamp, UuidText, Value
from sluice_schemas.results import ClassName


class Meter(Value):
    """One metered quantity: one FOCUS row."""

    meter: str
    quantity: int | str
    unit: str
    unit_price_usd: str
    cost_usd: Money


class Usage(Value):
    """One provider attempt that could cost money, a cache hit, or a correction of either."""

    usage_id: UuidText
    job_id: UuidText
    attempt: int
    run_id: str | None
    recorded_at: Timestamp
    started_at: Timestamp
    ended_at: Timestamp
    tenant: str
    team: str
    project: str
    app: str
    user_id: str | None = Field(description="A keyed pseudonym; finance.users maps it.")
    tags: dict[str, str]
    key_id: str | None
    provider: str = Field(description="OpenTelemetry gen_ai.provider.name.")
    account: str
    region: str | None
    model_requested: str
    provider_model: str | None
    provider_request_id: str | None
    operation: str
    class_: ClassName = Field(alias="class")
    service_tier: str | None
    arm: str | None
    prompt_version: str | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_source: Literal["reported", "estimated"]
    meters: list[Meter]
    cost_usd: Money
    list_cost_usd: Money
    price_version: str
    outcome: Literal["succeeded", "failed", "cancelled", "expired", "cached", "unknown"]
    charge_class: Literal["Correction"] | None
    corrects_usage_id: UuidText | None
    correction_reason: str | None
    cache: str | None
    provider_ms: int
