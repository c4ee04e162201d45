"""Pure: one job as intake, policies and prices would see it: what it would cost, or why it would be refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from sluice_core.admission.definitions import rates_of
from sluice_core.admission.expectations import BYTES_A_TOKEN, Expectations
from sluice_core.admission.model import HEADROOM, Meter, Rate, ScopeKind
from sluice_core.config.model import ANY_MODEL, Config, resolve_model
from sluice_core.config.scopes import Scoped, ScopeLimits
from sluice_core.config.sections import limited
from sluice_core.forecast.model import Appraisal, Name, Recent, Refusal
from sluice_core.intake.attribution import Attribution, attribute
from sluice_core.intake.authenticate import Caller
from sluice_core.intake.options import check_options
from sluice_core.intake.permission import permit
from sluice_core.intake.refusal import Refused, invalid
from sluice_core.intake.request import Request, check_model, check_request, check_text, check_url
from sluice_core.intake.rules import IntakePolicy
from sluice_core.policies.model import Ask, Subject
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.bounds import Bound, bound
from sluice_core.pricing.model import PriceEntry
from sluice_core.pricing.policy import charge
from sluice_core.pricing.terms import terms_of
from sluice_core.usage.model import Usage
from sluice_schemas.classes import JobClass
from sluice_schemas.errors import ErrorCode
from sluice_schemas.jobs import GENERATING
from sluice_schemas.topics import Topics

REMEMBERED: Final = 10_000
"""Model names kept resolved; under `*` a file may name any number."""
_EVERY: Final = "*"
_NOTHING: Final = ScopeLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where a model's jobs go, and what they cost there."""

    account: str
    pool: str
    price: PriceEntry
    default_max_tokens: int | None
    item_tokens: Mapping[str, int | None]


class Appraiser:
    """Appraises the jobs of one caller and class under one configuration, at one time."""

    def __init__(
        self,
        config: Config,
        prices: PriceBook,
        *,
        caller: Caller,
        job_class: JobClass,
        recent: Mapping[tuple[str, str], Recent],
        at: datetime,
    ) -> None:
        self._config = config
        self._prices = prices
        self._policy = IntakePolicy.from_config(config, cluster_id="")
        self._rules = self._policy.tenants[caller.tenant]
        self._tenant = config.tenants[caller.tenant]
        self._caller = caller
        self._class = job_class
        self._topic = Topics(prefix=config.kafka.prefix).jobs(job_class)
        self._recent = recent
        self._at = at
        self._targets: dict[str, _Target] = {}
        self._most_at_once: dict[Name, float] = {}
        self._strict = any(
            limit.reserve == "bound" for _, limits in limited(config) for limit in limits.tokens
        )
        self._expectations = Expectations()
        for (tenant, model), means in recent.items():
            self._expectations.learn(tenant, model, round(means.output_tokens))

    def appraise(self, number: int, job: Mapping[str, Any]) -> Appraisal | Refusal:
        """What becomes of the job that stands on a line."""
        try:
            return self._appraise(number, dict(job))
        except Refused as refusal:
            return Refusal(
                number=number, code=refusal.code, message=refusal.message, rule=refusal.rule
            )

    def _appraise(self, number: int, job: dict[str, Any]) -> Appraisal:
        check_text(job.get("custom_id"), "custom_id")
        options, _ = check_options(job.get("options"))
        url = check_url(job)
        request = check_request(job["body"], url=url, model=check_model(job))
        belongs = attribute(self._caller, options, self._rules)
        subject = self._subject(belongs)
        if self._policy.permissions.governs(subject.tenant):
            permit(subject, request, self._class, self._topic, self._policy.permissions)
        target = self._target(request.model)
        body = self._encoded(job, request)
        most = bound(
            body,
            target.price,
            default_max_tokens=target.default_max_tokens,
            item_tokens=target.item_tokens,
            generates=request.operation in GENERATING,
        )
        self._check_cost(subject, options, most)
        scopes = self._scopes(subject, options, request.model, target)
        if self._strict:
            self._check_tokens(scopes, most)
        return self._priced(number, request, scopes, target=target, most=most, size=len(body))

    def _priced(
        self,
        number: int,
        request: Request,
        scopes: tuple[Name, ...],
        *,
        target: _Target,
        most: Bound,
        size: int,
    ) -> Appraisal:
        output = self._expectations.output_tokens(
            self._caller.tenant, request.model, most_output=most.output_tokens
        )
        # A quarter of the body's bytes, and what lies elsewhere at its full count.
        given = size // BYTES_A_TOKEN + 1 + most.input_tokens - size
        expected = charge(
            target.price,
            Usage(input_tokens=given, output_tokens=output, searches=most.searches),
            started_at=self._at,
        )
        means = self._recent.get((self._caller.tenant, request.model))
        endless = most.endless and f"the request refers to {most.endless}"
        if not target.price.priced:
            endless = f"no price of {request.model} is known (set prices of its model)"
        return Appraisal(
            number=number,
            model=request.model,
            operation=request.operation,
            pool=target.pool,
            scopes=scopes,
            input_tokens=given,
            output_tokens=output,
            bound_tokens=most.tokens,
            expected_nano=expected.cost_nano,
            worst_nano=most.worst_nano,
            priced=target.price.priced,
            endless=endless,
            provider_ms=None if means is None else means.provider_ms,
        )

    def _subject(self, belongs: Attribution) -> Subject:
        return Subject(
            tenant=self._caller.tenant,
            team=belongs.team,
            project=belongs.project,
            app=belongs.app,
            user=belongs.user,
            key_id=self._caller.key_id,
        )

    def _target(self, model: str) -> _Target:
        found = self._targets.get(model)
        if found is None:
            if not self._policy.serves(model):
                raise Refused(
                    ErrorCode.UNKNOWN_MODEL, f"no model {model} is configured", "body.model"
                )
            if len(self._targets) >= REMEMBERED:
                self._targets.clear()
            found = self._targets[model] = self._resolved(model)
        return found

    def _resolved(self, name: str) -> _Target:
        first = resolve_model(self._config, name)[0]
        account = self._config.providers[first.account]
        model = self._config.models.get(name)
        return _Target(
            account=first.account,
            pool=account.pool,
            price=self._prices.resolve(
                account.provider_name,
                first.model,
                at=self._at,
                terms=terms_of(self._config, name, first.account, first.model),
            ),
            default_max_tokens=None if model is None else model.default_max_tokens,
            item_tokens={} if model is None else model.item_tokens.model_dump(),
        )

    def _encoded(self, job: Mapping[str, Any], request: Request) -> bytes:
        most = self._config.limits.record_bytes
        try:
            body = orjson.dumps(request.body)
            # The record's value is the whole line; it is measured only where it may be too large.
            size = len(body) if 2 * len(body) < most else len(orjson.dumps(job))
        except TypeError:
            raise invalid("body holds a number or text that is not carried", "body") from None
        if size > most:
            raise Refused(ErrorCode.TOO_LARGE, f"the value is over limits.record_bytes ({most})")
        return body

    def _check_cost(self, subject: Subject, options: Mapping[str, Any], most: Bound) -> None:
        asked = options.get("max_cost_usd")
        if asked is not None and most.worst_nano > asked:
            message = "the job may cost more than its max_cost_usd; name a smaller max_tokens"
            raise Refused(ErrorCode.BUDGET_EXCEEDED, message)
        if self._policy.permissions.governs(subject.tenant):
            decision = self._policy.permissions.decide(subject, Ask(worst_nano=most.worst_nano))
            if not decision.allowed:
                assert decision.code is not None
                raise Refused(decision.code, decision.message, rule=str(decision.rule))

    def _check_tokens(self, scopes: tuple[Name, ...], most: Bound) -> None:
        for name in scopes:
            once = self._most_at_once.get(name)
            if once is None:
                if len(self._most_at_once) >= REMEMBERED:
                    self._most_at_once.clear()
                once = self._most_at_once[name] = self._once(name)
            if most.tokens > once:
                scope = f"{name[0].label} {name[1]}"
                message = (
                    f"the job may use more tokens than a limit of {scope} lets through at once"
                )
                raise Refused(ErrorCode.TOO_LARGE, message)

    def _once(self, name: Name) -> float:
        """The largest job that limits of a scope can let through, in tokens."""
        return min(
            (
                rate.limit * HEADROOM[self._class] if rate.unit is not None else rate.burst
                for rate in self.rates(name)
                if rate.meter is Meter.TOKENS_BOUND
            ),
            default=math.inf,
        )

    def _scopes(
        self, subject: Subject, options: Mapping[str, Any], model: str, target: _Target
    ) -> tuple[Name, ...]:
        tenant = subject.tenant
        found = [
            (ScopeKind.TENANT, tenant),
            (ScopeKind.PROJECT, f"{tenant}/{subject.project}"),
            (ScopeKind.MODEL, model if model in self._config.models else ANY_MODEL),
            (ScopeKind.ACCOUNT, target.account),
        ]
        found += [
            (ScopeKind.TEAM, f"{tenant}/{subject.team}"),
            (ScopeKind.APP, f"{tenant}/{subject.project}/{subject.app}"),
        ]
        for kind, one in ((ScopeKind.USER, subject.user), (ScopeKind.KEY, subject.key_id)):
            if one is not None and self.said_of((kind, f"{tenant}/{one}")) is not None:
                found.append((kind, f"{tenant}/{one}"))
        run = options.get("run_id")
        if run is not None:
            found.append((ScopeKind.RUN, f"{tenant}/{run}"))
        return tuple(found)

    def said_of(self, name: Name) -> Scoped | None:
        """What is said of a scope of this tenant's callers; None: nothing."""
        kind, path = name
        own, (_, *rest) = self._tenant, path.split("/", 2 if kind is ScopeKind.APP else 1)
        match kind:
            case ScopeKind.TENANT:
                return own
            case ScopeKind.TEAM:
                return own.teams.get(rest[0])
            case ScopeKind.PROJECT:
                return own.projects.get(rest[0])
            case ScopeKind.APP:
                project = own.projects.get(rest[0])
                return None if project is None else project.apps.get(rest[1])
            case ScopeKind.USER:
                return own.users.get(rest[0], own.users.get(_EVERY))
            case ScopeKind.KEY:
                return own.keys.get(rest[0], own.keys.get(_EVERY))
        return None

    def rates(self, name: Name) -> tuple[Rate, ...]:
        """The rates of any scope, as they are configured."""
        return rates_of(self._limits(name))

    def concurrency(self, name: Name) -> int | None:
        """How many jobs of a scope may run at once."""
        return self._limits(name).concurrency

    def _limits(self, name: Name) -> ScopeLimits:
        kind, path = name
        if kind is ScopeKind.MODEL:
            model = self._config.models.get(path)
            return _NOTHING if model is None else model.limits
        if kind is ScopeKind.ACCOUNT:
            return self._config.providers[path].limits
        scoped = self.said_of(name)
        return _NOTHING if scoped is None else scoped.limits
