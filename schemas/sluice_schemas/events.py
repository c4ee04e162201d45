"""Events besides results and usage: alerts, audit entries, completed runs."""

from typing import Any, Literal

from pydantic import Field

from sluice_schemas.base import Money, Timestamp, Value


class Alert(Value):
    """Something a person should look at was raised, or has passed."""

    alert: str = Field(examples=["records_lost", "bound_violated", "unknown_old"])
    state: Literal["raised", "resolved"]
    severity: Literal["info", "warning", "critical"]
    scope: str
    message: str
    at: Timestamp
    details: dict[str, Any]


class Audit(Value):
    """Who changed what. Secrets, prompts and whole configurations are never in it."""

    actor: str
    action: str = Field(examples=["key.create", "config.apply", "unresolved.settle"])
    scope: str = Field(
        description="What was changed: a key's id, a configuration's version, a job's id."
    )
    at: Timestamp
    details: dict[str, Any] = Field(
        description="`before` and `after`: what changed of it, null where there was or is nothing."
    )


class RunCompleted(Value):
    """Every job of a run that was known when this was written has ended."""

    run_id: str
    tenant: str
    jobs: int
    states: dict[str, int] = Field(description="Count of jobs per terminal state.")
    cost_usd: Money
    started_at: Timestamp
    completed_at: Timestamp
