"""Pure: may this caller do that. The most specific scope that says something of a thing decides it.

From the most specific on: key, user, app, project, team, tenant. Each aspect is decided on its own; at one scope
deny wins, however exact the patterns are. What nobody says anything of is allowed, unless the most specific
`default` is `deny`: that counts for models, operations and classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sluice_core.config.model import Config
from sluice_core.policies.compiled import Scope, Tenant, compile_tenants
from sluice_core.policies.model import (
    Ask,
    Aspect,
    Decision,
    Explanation,
    Look,
    Rule,
    Subject,
)
from sluice_schemas.errors import ErrorCode
from sluice_schemas.money import format_usd

REMEMBERED: Final = 20_000
"""Decisions, and callers, that are kept; beyond that all are forgotten and decided anew."""
ALLOWED: Final = Decision(allowed=True)
WRONG_TOPIC: Final = "this caller may not send by this topic"
"""Said of another tenant's topic too: not even that it is somebody's is told."""

_DEFAULTED: Final[frozenset[Aspect]] = frozenset({"models", "operations", "classes"})
_PARAMS: Final[dict[Aspect, str]] = {"models": "body.model", "operations": "url"}

_Kept = tuple[Subject, str | None, str | None, int | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """A caller's scopes and the numbers that count for it, each with its rule."""

    scopes: tuple[Scope, ...]
    max_tokens: tuple[int, Rule] | None
    max_cost_nano: tuple[int, Rule] | None


class Permissions:
    """The policies of one configuration, compiled once. A tenant without any costs one look into a mapping."""

    def __init__(self, tenants: dict[str, Tenant]) -> None:
        self._tenants = tenants
        self._standings: dict[Subject, _Standing] = {}
        self._decided: dict[_Kept, Decision] = {}

    @classmethod
    def from_config(cls, config: Config) -> "Permissions":
        """Compile a configuration that `sluice config check` finds in order."""
        return cls(compile_tenants(config))

    def governs(self, tenant: str) -> bool:
        """Whether there is any policy under a tenant; where there is none, everything is allowed."""
        return tenant in self._tenants

    def users(self, tenant: str) -> frozenset[str]:
        """The users of a tenant that have an entry of their own: all that need be told apart by name."""
        found = self._tenants.get(tenant)
        return frozenset() if found is None else frozenset(found.users)

    def decide(self, subject: Subject, ask: Ask) -> Decision:
        """Whether a job may go on: the first aspect that is refused, or the rule that allows its model."""
        tenant = self._tenants.get(subject.tenant)
        if tenant is None:
            return ALLOWED
        decision = self._by_name(tenant, subject, ask)
        if not decision.allowed:
            return decision
        if ask.ip is not None and tenant.judges_ips:
            by_ip = _choose("ips", ask.ip, self._standing(tenant, subject).scopes)
            if not by_ip.allowed:
                return by_ip
        by_number = self._by_number(tenant, subject, ask)
        return decision if by_number is None else by_number

    def max_tokens(self, subject: Subject) -> int | None:
        """The most output tokens that a job of this caller may ask for; None: any number."""
        tenant = self._tenants.get(subject.tenant)
        most = None if tenant is None else self._standing(tenant, subject).max_tokens
        return None if most is None else most[0]

    def max_cost_nano(self, subject: Subject) -> int | None:
        """The most that one job of this caller may cost, in nano-dollars; None: any sum."""
        tenant = self._tenants.get(subject.tenant)
        most = None if tenant is None else self._standing(tenant, subject).max_cost_nano
        return None if most is None else most[0]

    def explain(self, subject: Subject, ask: Ask) -> list[Explanation]:
        """How each aspect that is asked for is decided, and what every scope says of it."""
        tenant = self._tenants.get(subject.tenant)
        scopes = () if tenant is None else self._standing(tenant, subject).scopes
        found = [
            Explanation(
                aspect=aspect,
                value=value,
                decision=_choose(aspect, value, scopes),
                looked_at=tuple(_looks(aspect, value, scopes)),
            )
            for aspect, value in [*_named(ask), *_addressed(ask)]
        ]
        if ask.max_tokens is not None:
            found.append(_explained_number("max_tokens", ask.max_tokens, scopes))
        if ask.worst_nano is not None:
            found.append(_explained_number("max_cost_usd", ask.worst_nano, scopes))
        return found

    def _by_name(self, tenant: Tenant, subject: Subject, ask: Ask) -> Decision:
        kept = (subject, ask.model, ask.operation, ask.job_class, ask.topic)
        decision = self._decided.get(kept)
        if decision is None:
            if len(self._decided) >= REMEMBERED:
                self._decided.clear()
            decision = _by_names(ask, self._standing(tenant, subject).scopes)
            self._decided[kept] = decision
        return decision

    def _by_number(self, tenant: Tenant, subject: Subject, ask: Ask) -> Decision | None:
        if ask.max_tokens is None and ask.worst_nano is None:
            return None
        standing = self._standing(tenant, subject)
        if ask.max_tokens is not None and standing.max_tokens is not None:
            most, rule = standing.max_tokens
            if ask.max_tokens > most:
                return _too_many_tokens(most, rule)
        if ask.worst_nano is not None and standing.max_cost_nano is not None:
            most, rule = standing.max_cost_nano
            if ask.worst_nano > most:
                return _too_dear(most, rule)
        return None

    def _standing(self, tenant: Tenant, subject: Subject) -> _Standing:
        standing = self._standings.get(subject)
        if standing is None:
            if len(self._standings) >= REMEMBERED:
                self._standings.clear()
            scopes = tenant.chain(subject)
            standing = self._standings[subject] = _Standing(
                scopes=scopes,
                max_tokens=_first_number("max_tokens", scopes),
                max_cost_nano=_first_number("max_cost_usd", scopes),
            )
        return standing


def _named(ask: Ask) -> Iterator[tuple[Aspect, str]]:
    """What of a job is decided by names, in the order in which it is judged."""
    if ask.job_class is not None:
        yield "classes", ask.job_class.label
    if ask.topic is not None:
        yield "topics", ask.topic
    if ask.operation is not None:
        yield "operations", ask.operation
    if ask.model is not None:
        yield "models", ask.model


def _addressed(ask: Ask) -> Iterator[tuple[Aspect, str]]:
    if ask.ip is not None:
        yield "ips", ask.ip


def _by_names(ask: Ask, scopes: tuple[Scope, ...]) -> Decision:
    decision = ALLOWED
    for aspect, value in _named(ask):
        decision = _choose(aspect, value, scopes)
        if not decision.allowed:
            break
    return decision


def _choose(aspect: Aspect, value: str, scopes: tuple[Scope, ...]) -> Decision:
    """One aspect: the first scope that says something of it, else the first default."""
    for scope in scopes:
        said = scope.choices.get(aspect)
        found = None if said is None else said.of(value)
        if found is not None:
            allowed, statement = found
            return _decision(aspect, value, allowed, Rule(scope=scope.label, statement=statement))
    if aspect in _DEFAULTED:
        for scope in scopes:
            if scope.default is not None:
                rule = Rule(scope=scope.label, statement=f"policy.default {scope.default}")
                return _decision(aspect, value, scope.default == "allow", rule)
    return Decision(allowed=True, aspect=aspect)


def _decision(aspect: Aspect, value: str, allowed: bool, rule: Rule) -> Decision:
    if allowed:
        return Decision(allowed=True, aspect=aspect, rule=rule)
    return Decision(
        allowed=False,
        aspect=aspect,
        rule=rule,
        code=ErrorCode.FORBIDDEN,
        message=_message(aspect, value),
        param=_PARAMS.get(aspect),
    )


def _message(aspect: Aspect, value: str) -> str:
    """For the caller: what it asked for is not for it; nothing of what is."""
    if aspect == "models":
        return f"this caller may not use the model {value}"
    if aspect == "operations":
        return f"this caller may not ask for {value}"
    if aspect == "classes":
        return f"this caller may not send {value} jobs"
    if aspect == "topics":
        return WRONG_TOPIC
    return "this caller may not ask from this address"


def _too_many_tokens(most: int, rule: Rule) -> Decision:
    return Decision(
        allowed=False,
        aspect="max_tokens",
        rule=rule,
        code=ErrorCode.FORBIDDEN,
        message=f"this caller may ask for at most {most} output tokens",
        param="body.max_tokens",
    )


def _too_dear(most: int, rule: Rule) -> Decision:
    return Decision(
        allowed=False,
        aspect="max_cost_usd",
        rule=rule,
        code=ErrorCode.FORBIDDEN,
        message=f"a job of this caller may cost at most {format_usd(most)} US dollars, and this one could cost more",
    )


def _number(aspect: Aspect, scope: Scope) -> int | None:
    return scope.max_tokens if aspect == "max_tokens" else scope.max_cost_nano


def _stated(aspect: Aspect, number: int) -> str:
    return f"policy.{aspect} {number if aspect == 'max_tokens' else format_usd(number)}"


def _first_number(aspect: Aspect, scopes: tuple[Scope, ...]) -> tuple[int, Rule] | None:
    for scope in scopes:
        number = _number(aspect, scope)
        if number is not None:
            return number, Rule(scope=scope.label, statement=_stated(aspect, number))
    return None


def _explained_number(aspect: Aspect, asked: int, scopes: tuple[Scope, ...]) -> Explanation:
    first = _first_number(aspect, scopes)
    decision = Decision(allowed=True, aspect=aspect)
    if first is not None:
        most, rule = first
        refused = _too_many_tokens if aspect == "max_tokens" else _too_dear
        allowed = Decision(allowed=True, aspect=aspect, rule=rule)
        decision = allowed if asked <= most else refused(most, rule)
    looked_at = []
    for scope in scopes:
        number = _number(aspect, scope)
        statement = "" if number is None else _stated(aspect, number)
        says = None if number is None else asked <= number
        looked_at.append(Look(scope=scope.label, says=says, statement=statement))
    value = str(asked) if aspect == "max_tokens" else format_usd(asked)
    return Explanation(aspect=aspect, value=value, decision=decision, looked_at=tuple(looked_at))


def _looks(aspect: Aspect, value: str, scopes: tuple[Scope, ...]) -> Iterator[Look]:
    for scope in scopes:
        said = scope.choices.get(aspect)
        found = None if said is None else said.of(value)
        if found is not None:
            yield Look(scope=scope.label, says=found[0], statement=found[1])
        elif scope.default is not None and aspect in _DEFAULTED:
            statement = f"policy.default {scope.default}, where nobody says more"
            yield Look(scope=scope.label, says=None, statement=statement)
        else:
            yield Look(scope=scope.label, says=None, statement="")
