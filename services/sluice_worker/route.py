"""The step that chooses where a job goes: a target of its model in this worker's pool, or not now."""

import random
from dataclasses import dataclass, replace
from typing import Final

from sluice_core.admission.expectations import Expectations
from sluice_core.config.model import ANY_MODEL, Config
from sluice_core.config.routing import Check, FailureClass
from sluice_core.jobs.fates import FailureKind
from sluice_core.jobs.model import Job
from sluice_core.pricing.bounds import Bound, bound
from sluice_core.pricing.policy import unit_nano
from sluice_core.routing.health import health_of
from sluice_core.routing.model import Ask, Candidate, Decision, Moment
from sluice_core.routing.plan import Plan
from sluice_core.routing.policy import decide, decide_in_tiers
from sluice_core.routing.repository import Key
from sluice_providers.port import Answer
from sluice_schemas.jobs import GENERATING
from sluice_worker.asking import ask_of, asked_tier
from sluice_worker.resolve import Resolver, Route
from sluice_worker.targets import Targets

REMEMBERED: Final = 10_000
"""Model names kept resolved; under `*` anybody may invent more."""
LEAST_WAIT_S: Final = 0.1
"""No job asks again sooner than that where nothing serves it now."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """No target serves the job before `until` (epoch seconds); `everybody`: nor any other job of its model.

    `default_max_tokens` and `arm` are what any target would be asked with.
    """

    until: float
    why: str
    everybody: bool
    default_max_tokens: int | None = None
    arm: str | None = None


@dataclass(slots=True)
class _Way:
    """A model made ready to decide by; routes are made when they are first chosen. `single`: there is nothing to choose."""

    plan: Plan
    keys: tuple[Key, ...]
    moment: Moment
    routes: list[Route | None]
    single: Candidate | None


class Router:
    """Decides for each job anew, by what is known of the targets at the moment."""

    def __init__(self, resolver: Resolver, targets: Targets, expectations: Expectations) -> None:
        self._resolver = resolver
        self._targets = targets
        self._expectations = expectations
        self._ways: dict[str, _Way | None] = {}
        self._pools: dict[str, str] = {}
        self._told: set[Key] = set()
        self._residency = _residency(resolver.config)

    def change(self, config: Config) -> None:
        """Go by another configuration."""
        self._resolver.change(config)
        self._residency = _residency(config)
        self._forget()

    def choose(
        self,
        job: Job,
        now: float,
        *,
        tried: frozenset[str] = frozenset(),
        fell_back: FailureClass | None = None,
        level: int = 0,
    ) -> Route | NotNow | None:
        """The target for a job; None where its model has none any more. `now` in epoch seconds.

        `tried`: names of targets that have failed it, which come last; `fell_back`: how the last of them did. `level`: how
        many tiers up it has gone.
        """
        way = self._way(job.facts.model or "", now)
        if way is None:
            return None
        moment = way.moment
        if moment.shut_until > now:
            self._targets.look(way.keys, now)
        resident = job.facts.tenant in self._residency
        if way.single is not None and moment.shut_until <= now and not resident:
            decision, check = Decision(chosen=way.single, why="only target"), None
        else:
            ask = self._ask(job, way, tried, level)
            within = None if fell_back is None else way.plan.after(fell_back)
            decision, ask = decide_in_tiers(
                way.plan, moment, ask, now=now, draw=random.random(), within=within
            )
            check, level = way.plan.check_of(ask), ask.level
        if decision.chosen is None:
            # Where no target can ever take it, it ends; where all are shut, it waits for the first to open.
            if decision.until is None:
                return None
            until = max(decision.until, now + LEAST_WAIT_S)
            return NotNow(
                until,
                decision.why,
                everybody=way.plan.alike and not resident and not tried,
                default_max_tokens=self._resolver.default_max_tokens(job.facts.model or ""),
                arm=decision.arm,
            )
        name = job.facts.model or ""
        route = self._route(name, way, decision, check=check, level=level, now=now)
        tier = asked_tier(job.body)
        return route if tier is None else self._resolver.tiered(name, route, tier, now)

    def alternative(
        self, job: Job, failure: FailureClass, tried: frozenset[str], level: int, now: float
    ) -> bool:
        """Whether another target could take a job now whose call failed so, by its model's fallback."""
        way = self._way(job.facts.model or "", now)
        if way is None or way.single is not None:
            return False
        within = way.plan.after(failure)
        if within is None and failure not in way.plan.falls_back:
            return False
        ask = self._ask(job, way, tried, level)
        decision, _ = decide_in_tiers(
            way.plan, way.moment, ask, now=now, draw=0.5, within=within, untried=True
        )
        return decision.chosen is not None

    def other(self, job: Job, tried: frozenset[str], now: float) -> bool:
        """Whether a target that is not among `tried` could take the job now, beside those."""
        way = self._way(job.facts.model or "", now)
        if way is None or way.single is not None:
            return False
        ask = self._ask(job, way, tried, 0)
        decision = decide(way.plan, way.moment, ask, now=now, draw=0.5, untried=True)
        return decision.chosen is not None

    def shut(self, route: Route, *, account: bool, until: float, why: str, now: float) -> bool:
        """The ledger lets nothing through to a target, or to all of its account; whether jobs may have another way."""
        way = self._way(route.target.model_requested, now)
        if way is None or way.single is not None:
            return False
        keys = [key for key in way.keys if key == route.key or (account and key[0] == route.key[0])]
        self._targets.shut(keys, until, why, now)
        return True

    def served_at(self, name: str, route: Route, tier: str, now: float) -> Route:
        """The way at the prices of the service tier that served a call, which need not be the one asked for."""
        if (None if tier == "default" else tier) == route.tier:
            return route
        return self._resolver.tiered(name, route, tier, now)

    def started(self, route: Route, now: float) -> None:
        """A job is on its way to its target."""
        self._targets.started(route.key, now)

    def never_went(self, route: Route, now: float) -> None:
        """A job that was on its way was not called."""
        self._targets.never_went(route.key, now)

    def gave_up(self, route: Route, took_s: float, now: float) -> None:
        """A call that had brought nothing in `took_s` seconds was given up."""
        self._targets.hung(route.key, took_s=took_s, now=now)

    def ended(self, route: Route, answer: Answer, *, streams: bool, now: float) -> None:
        """A call ended: what that says of its target."""
        took_s = answer.provider_ms / 1000
        if answer.failure is FailureKind.DEADLINE and answer.first_byte_ms is None:
            self.gave_up(route, took_s, now)
            return
        health = health_of(answer.failure, answer.status)
        failure = "" if answer.failure is None else answer.failure.value
        reason = f"status {answer.status}" if failure == "status_error" else failure
        self._targets.ended(route.key, health, took_s=took_s, reason=reason, now=now)
        if answer.failure is None and answer.usage is not None:
            if answer.usage.searches and unit_nano(route.price, "searches") == 0:
                # Counted in what its price does not know: booked for less than it costs, perhaps for nothing.
                self._tell_unpriced(route.target.model_requested, route)
            first_s = answer.first_byte_ms / 1000 if streams and answer.first_byte_ms else None
            self._targets.learn_times(
                route.key,
                first_s=first_s,
                took_s=took_s,
                output_tokens=answer.usage.output_tokens,
            )

    @staticmethod
    def bound(job: Job, route: Route) -> Bound:
        """The most that a call on this route can use and cost."""
        return bound(
            job.body,
            route.price,
            default_max_tokens=route.target.default_max_tokens,
            item_tokens=route.item_tokens,
            generates=job.facts.operation in GENERATING,
        )

    def pool_of(self, model: str) -> str:
        """The pool of workers that serves a model: that of its first target."""
        pool = self._pools.get(model)
        if pool is None:
            if len(self._pools) > REMEMBERED:
                self._pools.clear()
            pool = self._pools[model] = self._resolver.pool_of(model)
        return pool

    def _ask(self, job: Job, way: _Way, tried: frozenset[str], level: int) -> Ask:
        return ask_of(
            job,
            self._expectations,
            limited=way.plan.everything.limited,
            residency=self._residency,
            tried=tried,
            level=level,
        )

    def _way(self, name: str, now: float) -> _Way | None:
        if name not in self._ways:
            if len(self._ways) > REMEMBERED:
                self._forget()
            self._ways[name] = self._resolve(name, now)
        return self._ways[name]

    def _forget(self) -> None:
        self._ways.clear()
        self._pools.clear()
        self._told.clear()
        self._targets.forget_plans()

    def _resolve(self, name: str, now: float) -> _Way | None:
        plan = self._resolver.plan(name, now)
        if plan is None:
            return None
        candidates = plan.everything.candidates
        keys = tuple((candidate.account, candidate.model) for candidate in candidates)
        rules = [self._resolver.rules(candidate.account) for candidate in candidates]
        alone = len(candidates) == 1 and not plan.everything.limited and plan.off_peak is None
        return _Way(
            plan=plan,
            keys=keys,
            moment=self._targets.moment(keys, rules, now),
            routes=[None] * len(candidates),
            single=candidates[0] if alone else None,
        )

    def _route(
        self,
        name: str,
        way: _Way,
        decision: Decision,
        *,
        check: Check | None,
        level: int,
        now: float,
    ) -> Route:
        chosen = decision.chosen
        assert chosen is not None
        route = way.routes[chosen.place]
        if route is None or route.outdated(now):
            route = self._resolver.route(name, chosen, now)
            if not route.price.priced and route.unpriced == "warn":
                self._tell_unpriced(name, route)
        told = (decision.why, decision.arm, check, level)
        if (route.why, route.arm, route.check, route.level) != told:
            route = replace(route, why=decision.why, arm=decision.arm, check=check, level=level)
        way.routes[chosen.place] = route
        return route

    def _tell_unpriced(self, name: str, route: Route) -> None:
        """Once a target that is configured; of names that anybody may invent, once an account."""
        configured = name in self._resolver.config.models
        key = route.key if configured else (route.key[0], ANY_MODEL)
        if key not in self._told:
            self._told.add(key)
            self._targets.has_no_price(key)


def _residency(config: Config) -> dict[str, frozenset[str]]:
    return {name: frozenset(t.residency) for name, t in config.tenants.items() if t.residency}
