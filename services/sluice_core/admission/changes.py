"""Pure: how limits and budgets as they stand differ from what a configuration says, in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluice_core.admission.definitions import Definitions
from sluice_core.admission.model import BudgetDefinition, ScopeDefinition, ScopeKind
from sluice_core.admission.standing import describe
from sluice_schemas.money import format_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing said of a scope; `before` or `after` None: nothing was, or is, said of it."""

    scope: str
    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.scope} {self.what}: {self.after}"
        if self.after is None:
            return f"- {self.scope} {self.what}: {self.before}"
        return f"~ {self.scope} {self.what}: {self.before} → {self.after}"


_Said = dict[tuple[ScopeKind, str, str], str]


def compare(before: Definitions, after: Definitions, kept: Sequence[str]) -> tuple[Change, ...]:
    """What changes where the whole of `before` becomes `after`, by scope.

    Scopes of kinds and tenants in `kept` (`5:acme/`) that `after` does not name stay as they are.
    """
    old, new = _said(before), _said(after)
    found = []
    for place in sorted({*old, *new}):
        kind, name, what = place
        stays = place not in new and f"{kind:d}:{name.partition('/')[0]}/" in kept
        if old.get(place) != new.get(place) and not stays:
            scope = f"{kind.label}:{name}"
            found.append(
                Change(scope=scope, what=what, before=old.get(place), after=new.get(place))
            )
    return tuple(found)


def _said(definitions: Definitions) -> _Said:
    scopes, budgets = definitions
    said: _Said = {}
    for scope in scopes:
        said |= {(scope.kind, scope.name, what): words for what, words in _limits(scope).items()}
    for budget in budgets:
        said[budget.kind, budget.name, f"budget per {budget.per}"] = _budget(budget)
    return said


def _limits(scope: ScopeDefinition) -> Mapping[str, str]:
    said: dict[str, str] = {}
    rates: dict[str, list[str]] = {}
    for rate in scope.rates:
        burst = f", burst {rate.burst:,.0f}" if rate.unit is None else f" ({rate.zone})"
        rates.setdefault(rate.meter.label.partition(" ")[0], []).append(describe(rate) + burst)
    said |= {f"limits.{meter}": "; ".join(words) for meter, words in rates.items()}
    if scope.max_in_flight is not None:
        said["limits.concurrency"] = f"{scope.max_in_flight:,}"
    if scope.weight != 1:
        said["weight"] = f"{scope.weight:g}"
    return said


def _budget(budget: BudgetDefinition) -> str:
    usd = format_usd(budget.cap_nano).rstrip("0").rstrip(".")
    told = ", ".join(f"{percent} %" for percent in budget.thresholds) or "none"
    kind = "hard" if budget.hard else "soft"
    return f"{usd} USD, {kind}, {budget.zone}, alerts: {told}"
