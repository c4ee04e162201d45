"""What may be said of a scope in `sluice.yaml`: limits, budgets and a policy; the same words at every level."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from sluice_core.config.base import Money, Section
from sluice_schemas.classes import JobClass
from sluice_schemas.jobs import Operation

ClassName = Literal["realtime", "standard", "bulk"]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=64)]

LARGEST = 10**15
"""The largest limit that makes sense; anything above is a mistake."""


def _as_list(value: Any) -> Any:
    """Read one limit or budget where a list of them may stand."""
    return [value] if isinstance(value, dict) else value


class RequestLimit(Section):
    """At most `limit` requests in any `per`, and `burst` at once beyond them (default: 3 % of the limit, at least 1).

    Seconds, minutes and hours slide; days and longer are calendar periods in `zone` and have no burst.
    """

    limit: int = Field(ge=1, le=LARGEST)
    per: Literal["second", "minute", "hour", "day", "week", "month"]
    burst: int | None = Field(default=None, ge=1, le=LARGEST)
    zone: Zone = "UTC"


class TokenLimit(RequestLimit):
    """The same of tokens. `reserve: bound` charges the most a job can use, before the call, and never lends."""

    reserve: Literal["expected", "bound"] = "expected"


class ScopeLimits(Section):
    """How fast, and how much at once; held over all workers together."""

    requests: Annotated[tuple[RequestLimit, ...], BeforeValidator(_as_list)] = ()
    tokens: Annotated[tuple[TokenLimit, ...], BeforeValidator(_as_list)] = ()
    concurrency: int | None = Field(default=None, ge=1, le=LARGEST)


class BudgetConfig(Section):
    """Money for a calendar period in `zone`; `hard` is never exceeded, `soft` only alerts.

    `thresholds`: percent of the budget at each of which one alert a period goes out.
    """

    usd: Money
    per: Literal["day", "week", "month", "quarter", "total"]
    zone: Zone = "UTC"
    kind: Literal["hard", "soft"] = "hard"
    thresholds: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = (50, 80, 100)


class Choice(Section):
    """Names that are allowed or denied; `*` at the end of one stands for anything. Deny wins."""

    allow: tuple[Pattern, ...] | None = None
    deny: tuple[Pattern, ...] = ()


class ClassChoice(Section):
    """The same of classes."""

    allow: tuple[ClassName, ...] | None = None
    deny: tuple[ClassName, ...] = ()


class OperationChoice(Section):
    """The same of operations."""

    allow: tuple[Operation, ...] | None = None
    deny: tuple[Operation, ...] = ()


class PolicyConfig(Section):
    """What jobs of a scope may do. The most specific scope that says something of a thing decides it.

    `default: deny` refuses models, operations and classes that no scope allows by name. `topics` are the
    topics that records may come by, `ips` the addresses or networks that HTTP requests may come from.
    """

    default: Literal["allow", "deny"] | None = None
    models: Choice = Choice()
    operations: OperationChoice = OperationChoice()
    classes: ClassChoice = ClassChoice()
    topics: Choice = Choice()
    ips: Choice = Choice()
    max_tokens: int | None = Field(default=None, ge=1, le=LARGEST)
    max_cost_usd: Money | None = None


class Scoped(Section):
    """A scope of callers: what every level of a tenant may say."""

    limits: ScopeLimits = ScopeLimits()
    budgets: Annotated[tuple[BudgetConfig, ...], BeforeValidator(_as_list)] = ()
    policy: PolicyConfig = PolicyConfig()


Weight = Annotated[float, Field(gt=0, le=1000)]
"""A share among equals: with 2 a scope gets twice what a neighbour with 1 gets."""


class DispatchConfig(Section):
    """How slots are shared between classes that wait; each number is a share of all slots.

    `weights` decide above the reserved `minimum` of each.
    """

    weights: dict[ClassName, Annotated[float, Field(gt=0, le=1)]] = {}
    minimum: dict[ClassName, Annotated[float, Field(ge=0, le=1)]] = {}

    def share(self, of: str, job_class: JobClass, default: float) -> float:
        """The configured number of a class, or `default`; `of` is `weights` or `minimum`."""
        numbers: dict[str, float] = getattr(self, of)
        return numbers.get(job_class.label, default)
