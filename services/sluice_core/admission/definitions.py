"""What a configuration says of scopes and budgets, as the ledger's rows."""

import math
from collections.abc import Iterator

from sluice_core.admission.model import (
    PERIOD_S,
    BudgetDefinition,
    Meter,
    Rate,
    ScopeDefinition,
    ScopeKind,
)
from sluice_core.config.model import Config, TenantConfig
from sluice_core.config.scopes import RequestLimit, Scoped, ScopeLimits, TokenLimit

DEFAULT_BURST = 0.03
"""The share of a limit that may come at once beyond it."""

Definitions = tuple[list[ScopeDefinition], list[BudgetDefinition]]


def rates_of(limits: ScopeLimits) -> tuple[Rate, ...]:
    """The rates of a scope, in a fixed order."""
    return (
        *(_rate(limit, Meter.REQUESTS) for limit in limits.requests),
        *(_token_rate(limit) for limit in limits.tokens),
    )


def _token_rate(limit: TokenLimit) -> Rate:
    return _rate(limit, Meter.TOKENS_BOUND if limit.reserve == "bound" else Meter.TOKENS)


def _rate(limit: RequestLimit, meter: Meter) -> Rate:
    period = PERIOD_S.get(limit.per)
    if period is None:
        return Rate(meter=meter, limit=limit.limit, burst=0, unit=limit.per, zone=limit.zone)
    burst = max(1, math.ceil(limit.limit * DEFAULT_BURST)) if limit.burst is None else limit.burst
    return Rate(meter=meter, limit=limit.limit, burst=burst, step_us=period * 1e6 / limit.limit)


def scope_of(
    kind: ScopeKind, name: str, limits: ScopeLimits, *, weight: float = 1.0
) -> ScopeDefinition:
    """A scope with its limits."""
    return ScopeDefinition(
        kind=kind,
        name=name,
        weight=weight,
        rates=rates_of(limits),
        max_in_flight=limits.concurrency,
    )


def budgets_of(kind: ScopeKind, name: str, scoped: Scoped) -> list[BudgetDefinition]:
    """The budgets of a scope."""
    return [
        BudgetDefinition(
            kind=kind,
            name=name,
            per=budget.per,
            zone=budget.zone,
            hard=budget.kind == "hard",
            cap_nano=int(budget.usd.scaleb(9)),
            thresholds=budget.thresholds,
        )
        for budget in scoped.budgets
    ]


def definitions(config: Config) -> Definitions:
    """Every scope and budget that a configuration names; users and keys are made as they are met."""
    scopes: list[ScopeDefinition] = []
    budgets: list[BudgetDefinition] = []
    for tenant_name, tenant in config.tenants.items():
        for kind, name, scoped, weight in _levels(tenant_name, tenant):
            scopes.append(scope_of(kind, name, scoped.limits, weight=weight))
            budgets += budgets_of(kind, name, scoped)
    for name, model in config.models.items():
        scopes.append(scope_of(ScopeKind.MODEL, name, model.limits))
    for name, account in config.providers.items():
        scopes.append(scope_of(ScopeKind.ACCOUNT, name, account.limits))
    return scopes, budgets


def _levels(name: str, tenant: TenantConfig) -> Iterator[tuple[ScopeKind, str, Scoped, float]]:
    yield ScopeKind.TENANT, name, tenant, tenant.weight
    for team, settings in tenant.teams.items():
        yield ScopeKind.TEAM, f"{name}/{team}", settings, 1.0
    for project, rules in tenant.projects.items():
        yield ScopeKind.PROJECT, f"{name}/{project}", rules, rules.weight
        for app, app_settings in rules.apps.items():
            yield ScopeKind.APP, f"{name}/{project}/{app}", app_settings, 1.0


def kept(config: Config) -> list[str]:
    """Kinds and tenants (`5:acme/`) whose scopes are made as they are met, and so not lifted with the rest."""
    return [
        f"{kind:d}:{name}/"
        for name, tenant in config.tenants.items()
        for kind, ones in ((ScopeKind.USER, tenant.users), (ScopeKind.KEY, tenant.keys))
        if ones
    ]
