"""Pure: whether there is money for the jobs, and how long they would take at least if nobody else came."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

from sluice_core.admission.model import HEADROOM, Meter, Rate
from sluice_core.admission.standing import describe
from sluice_core.forecast.model import (
    BudgetFit,
    BudgetState,
    Constraint,
    Load,
)
from sluice_schemas.classes import JobClass

CALENDAR_S: Final = {"day": 86_400.0, "week": 7 * 86_400.0, "month": 30 * 86_400.0}


def fit(load: Load, budget: BudgetState) -> BudgetFit:
    """Whether a budget can take jobs that come one after the other.

    A call needs its worst case free when it begins, and gives back what it did not cost. So a hard budget
    needs what the jobs are expected to cost, and enough for the dearest at most.
    """
    enough, verdict = True, "enough"
    if load.expected_nano > budget.remaining_nano:
        enough, verdict = not budget.hard, "too little" if budget.hard else "over it; alerts only"
    elif budget.hard and load.unbounded:
        enough, verdict = False, f"refuses {load.unbounded:,} jobs whose cost has no bound"
    elif budget.hard and load.dearest_nano > budget.remaining_nano:
        enough, verdict = False, "too little for the dearest job at most"
    elif load.worst_nano > budget.remaining_nano:
        verdict = "enough if answers are as expected"
    return BudgetFit(
        budget=budget,
        jobs=load.jobs,
        expected_nano=load.expected_nano,
        worst_nano=load.worst_nano,
        enough=enough,
        verdict=verdict,
    )


def under_rates(
    scope: str, rates: Iterable[Rate], load: Load, job_class: JobClass
) -> list[Constraint]:
    """How long the jobs of a scope take under each of its rates."""
    found = []
    for rate in rates:
        amount = load.jobs if rate.meter is Meter.REQUESTS else load.tokens
        seconds = _seconds(rate, amount, HEADROOM[job_class])
        found.append(
            Constraint(scope=scope, limit=describe(rate, job_class), seconds=max(0.0, seconds))
        )
    return found


def _seconds(rate: Rate, amount: float, headroom: float) -> float:
    if rate.unit is not None:
        # The first period's share at once; then the next ones' turns have to come.
        return (math.ceil(amount / max(1, rate.limit * headroom)) - 1) * CALENDAR_S[rate.unit]
    return (amount - rate.burst) * rate.step_us / 1e6 / headroom


def at_once(
    scope: str, what: str, most: float, load: Load, job_class: JobClass
) -> Constraint | None:
    """How long jobs take of which only so many run at once; None where no recent call tells how long one takes."""
    timed = load.jobs - load.untimed
    if not timed:
        return None
    headroom = HEADROOM[job_class]
    busy_ms = load.busy_ms * load.jobs / timed
    slots = max(1, math.floor(most * headroom))
    share = "" if headroom == 1 else f"{headroom * 100:.0f} % of "
    return Constraint(
        scope=scope, limit=f"{share}{most:,.0f} {what} at once", seconds=busy_ms / 1000 / slots
    )


def binding(constraints: Sequence[Constraint]) -> Constraint | None:
    """The constraint that takes longest; None where nothing is limited."""
    return max(constraints, key=lambda one: one.seconds, default=None)
