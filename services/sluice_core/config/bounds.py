"""Limits and budgets that contradict each other, or that nobody can have meant."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Final

from sluice_core.config.document import Path, Problem
from sluice_core.config.model import Config
from sluice_core.config.scopes import BudgetConfig, RequestLimit, ScopeLimits, TokenLimit
from sluice_core.config.sections import callers, limited
from sluice_core.config.zones import zone_problem

_CALENDAR: Final = frozenset({"day", "week", "month"})
_LARGEST_BURST: Final = 10
"""Times its limit. A larger burst is no burst on top of a limit, but another limit."""
_MINIMUM: Final = {"realtime": 0.5, "standard": 0.1, "bulk": 0.1}
"""What a class is reserved where the configuration names no minimum of it."""
_ROUNDING: Final = 1e-9


def check_bounds(config: Config) -> Iterator[Problem]:
    """Everything wrong with limits, budgets and shares whose single values are right."""
    for path, limits in limited(config):
        yield from _limits(path, limits)
    for name, tenant in config.tenants.items():
        for path, scope in callers(name, tenant):
            yield from _budgets((*path, "budgets"), scope.budgets)
    yield from _one_request(config)
    yield from _shares(config)


def _limits(path: Path, limits: ScopeLimits) -> Iterator[Problem]:
    yield from _each((*path, "requests"), limits.requests, [limit.per for limit in limits.requests])
    yield from _each(
        (*path, "tokens"),
        limits.tokens,
        [(limit.per, limit.reserve) for limit in limits.tokens],
    )


def _each(
    path: Path, limits: Sequence[RequestLimit], meant: Sequence[Hashable]
) -> Iterator[Problem]:
    for index, limit in enumerate(limits):
        here = (*path, index)
        if meant[index] in meant[:index]:
            first = meant.index(meant[index])
            message = f"a limit per {limit.per} stands here already ({path[-1]}[{first}]): keep one of them"
            yield Problem(path=(*here, "per"), message=message)
        yield from zone_problem((*here, "zone"), limit.zone)
        if limit.burst is None:
            continue
        if limit.per in _CALENDAR:
            message = f"a limit per {limit.per} has no burst: leave it out"
            yield Problem(path=(*here, "burst"), message=message)
        elif limit.burst > limit.limit * _LARGEST_BURST:
            message = (
                f"is more than {_LARGEST_BURST} times the limit; write at most "
                f"{limit.limit * _LARGEST_BURST}"
            )
            yield Problem(path=(*here, "burst"), message=message)


def _budgets(path: Path, budgets: Sequence[BudgetConfig]) -> Iterator[Problem]:
    periods = [budget.per for budget in budgets]
    for index, budget in enumerate(budgets):
        here = (*path, index)
        if budget.per in periods[:index]:
            first = periods.index(budget.per)
            message = f"a budget per {budget.per} stands here already (budgets[{first}]): keep one of them"
            yield Problem(path=(*here, "per"), message=message)
        yield from zone_problem((*here, "zone"), budget.zone)
        ascending = sorted(set(budget.thresholds))
        if list(budget.thresholds) != ascending:
            message = f"must ascend, each once: write {ascending}"
            yield Problem(path=(*here, "thresholds"), message=message)


def _one_request(config: Config) -> Iterator[Problem]:
    """A strict limit of a model below what one of its requests reserves: none would ever pass."""
    for name, model in config.models.items():
        least = model.default_max_tokens
        for index, limit in enumerate(model.limits.tokens):
            if least is not None and _holds(limit) < least:
                message = (
                    f"is below one request: models.{name}.default_max_tokens is {least}; "
                    f"write more than {least}"
                )
                path: Path = ("models", name, "limits", "tokens", index)
                yield Problem(path=(*path, "limit"), message=message)


def _holds(limit: TokenLimit) -> float:
    """Tokens that one request may reserve at most; a limit that expects lets any single one pass."""
    return max(limit.limit, limit.burst or 0) if limit.reserve == "bound" else float("inf")


def _shares(config: Config) -> Iterator[Problem]:
    minimum = {**_MINIMUM, **{str(name): value for name, value in config.dispatch.minimum.items()}}
    total = sum(minimum.values())
    if total > 1 + _ROUNDING:
        each = ", ".join(f"{name} {value:g}" for name, value in minimum.items())
        message = f"is more than all slots together ({each}); write numbers whose sum is at most 1"
        yield Problem(path=("dispatch", "minimum"), message=message)
