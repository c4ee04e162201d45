"""What an attempt draws on, and what a caller is told who draws too much."""

import time
from collections.abc import Sequence
from typing import Protocol

from sluice_core.admission.directory import Place
from sluice_core.admission.model import Draw, ScopeKind
from sluice_core.jobs.policy import Begin
from sluice_core.jobs.writes import Begun, Intent
from sluice_core.pricing.bounds import DEFAULT_MAX_OUTPUT, Bound
from sluice_schemas.errors import ErrorCode
from sluice_worker.flight import Flight

NARROW = frozenset({ScopeKind.APP, ScopeKind.USER, ScopeKind.KEY, ScopeKind.RUN})
"""Scopes that only some jobs of a lane draw on: one that waits for them holds back no other."""

CODES = {
    Begin.RATE_LIMITED: ErrorCode.RATE_LIMITED,
    Begin.COOLING: ErrorCode.RATE_LIMITED,
    Begin.AT_CAPACITY: ErrorCode.CONCURRENCY_EXCEEDED,
    Begin.BUDGET_BUSY: ErrorCode.BUDGET_BUSY,
    Begin.OVER_BUDGET: ErrorCode.BUDGET_EXCEEDED,
    Begin.TOO_LARGE: ErrorCode.TOO_LARGE,
}
"""The code that a job ends with which a begin refused so, for good or until its wait was over."""


class Ledgers(Protocol):
    """Where attempts find what they draw on."""

    async def draws(self, places: Sequence[Place]) -> list[Draw]:
        """What attempts at these places draw on."""

    def cause(self, number: int) -> tuple[ScopeKind, str] | None:
        """The scope that a refusal named."""


def place_of(flight: Flight) -> Place:
    """Whose attempt a routed flight is, and where it goes."""
    assert flight.route is not None
    target = flight.route.target
    return Place.of(flight.job.facts, target.account, target.model)


def unprovable(flight: Flight, bound: Bound) -> str | None:
    """Why the attempt's cost has no bound, so that no hard budget can take it; None where it has one."""
    assert flight.route is not None
    if not flight.route.price.priced:
        return f"no price of {flight.job.facts.model!r} is known: set prices of its model"
    return None if bound.endless is None else f"the request refers to {bound.endless}"


def bounded(flight: Flight, bound: Bound) -> None:
    """Send a limit on the answer where nobody named one: else the bound would be a guess."""
    assert flight.route is not None
    if not bound.named_output:
        flight.route = flight.route.capped(DEFAULT_MAX_OUTPUT)


def intent_of(flight: Flight, draw: Draw) -> Intent:
    """The attempt with all that it draws on."""
    assert flight.route is not None
    job = flight.job
    return Intent(
        row=job.row,
        day=job.day,
        account=flight.route.target.account,
        provider_model=flight.route.target.model,
        worst_nano=flight.worst_nano,
        input_nano=flight.input_nano,
        job_class=job.facts.job_class,
        tokens=flight.expected_tokens,
        bound=flight.bound_tokens,
        scopes=draw.scopes,
        budgets=draw.budgets,
        tenant_floor=flight.tenant_floor,
        project_floor=flight.project_floor,
        route=flight.route.why,
        hedge=flight.hedges,
    )


def reason(begun: Begun, scope: tuple[ScopeKind, str] | None) -> str:
    """What the caller is told; of scopes only its own and the gateway's are ever in the way."""
    who = "a scope" if scope is None else f"{scope[0].label} {scope[1]}"
    match begun.verdict:
        case Begin.OVER_BUDGET:
            return f"the budget of {who} does not leave what this job may cost at most"
        case Begin.TOO_LARGE:
            return f"the job may use more tokens than a limit of {who} lets through at once"
        case Begin.BUDGET_BUSY:
            return f"others have reserved what is left of the budget of {who}"
        case Begin.AT_CAPACITY:
            return f"as many jobs of {who} are running as may run at once"
        case Begin.COOLING:
            return f"the provider of {who} asked for a pause"
    return f"a rate limit of {who} is used up; the next is free in {wait_s(begun):.1f} s"


def wait_s(begun: Begun) -> float:
    """Seconds until the job may ask again."""
    return max(0.0, begun.until - time.time())
