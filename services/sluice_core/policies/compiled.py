"""Pure: a configuration's policies as they are asked: by scope, ready to be walked from the most specific one on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from sluice_core.config.model import Config, TenantConfig
from sluice_core.config.scopes import PolicyConfig, Scoped
from sluice_core.policies.model import Aspect, Subject
from sluice_core.policies.statements import Says, compile_names, compile_networks
from sluice_schemas.money import parse_usd

K = TypeVar("K")

EVERY: Final = "*"
"""The entry under `users` and `keys` for each that has none of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What one scope says; `label` is how people call it. `max_cost_nano` is in nano-dollars."""

    label: str
    choices: Mapping[Aspect, Says]
    default: str | None
    max_tokens: int | None
    max_cost_nano: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """The scopes of a tenant that say something; those that say nothing are None or absent.

    An entry of `users` or `keys` that says nothing still stands in the way of `*`, and so is kept as None.
    """

    own: Scope | None
    teams: Mapping[str, Scope]
    projects: Mapping[str, Scope]
    apps: Mapping[tuple[str, str], Scope]
    users: Mapping[str, Scope | None]
    keys: Mapping[str, Scope | None]
    judges_ips: bool = False

    def chain(self, subject: Subject) -> tuple[Scope, ...]:
        """The scopes that speak of a subject, the most specific first."""
        found: list[Scope | None] = [
            _entry(self.keys, subject.key_id),
            _entry(self.users, subject.user),
        ]
        if subject.project is not None:
            if subject.app is not None:
                found.append(self.apps.get((subject.project, subject.app)))
            found.append(self.projects.get(subject.project))
        if subject.team is not None:
            found.append(self.teams.get(subject.team))
        found.append(self.own)
        return tuple(scope for scope in found if scope is not None)


def _entry(entries: Mapping[str, Scope | None], name: str | None) -> Scope | None:
    if name is None or name == EVERY:
        return None
    return entries[name] if name in entries else entries.get(EVERY)


def compile_tenants(config: Config) -> dict[str, Tenant]:
    """Every tenant under which some scope has a policy."""
    found = {}
    for name, tenant in config.tenants.items():
        if any(speaks(section.policy) for section in _sections(tenant)):
            found[name] = _tenant(name, tenant)
    return found


def speaks(policy: PolicyConfig) -> bool:
    """Whether a policy says anything at all."""
    return policy != PolicyConfig()


def _sections(tenant: TenantConfig) -> Iterator[Scoped]:
    yield tenant
    yield from tenant.teams.values()
    for project in tenant.projects.values():
        yield project
        yield from project.apps.values()
    yield from tenant.users.values()
    yield from tenant.keys.values()


def _tenant(name: str, tenant: TenantConfig) -> Tenant:
    return Tenant(
        own=_scope(f"tenant {name}", tenant.policy),
        teams=_speaking({t: _scope(f"team {t}", s.policy) for t, s in tenant.teams.items()}),
        projects=_speaking(
            {p: _scope(f"project {p}", s.policy) for p, s in tenant.projects.items()}
        ),
        apps=_speaking(
            {
                (p, a): _scope(f"app {a} of project {p}", app.policy)
                for p, project in tenant.projects.items()
                for a, app in project.apps.items()
            }
        ),
        users={u: _scope(f"user {u}", s.policy) for u, s in tenant.users.items()},
        keys={k: _scope(f"key {k}", s.policy) for k, s in tenant.keys.items()},
        judges_ips=any(
            section.policy.ips.allow is not None or section.policy.ips.deny
            for section in _sections(tenant)
        ),
    )


def _speaking(scopes: Mapping[K, Scope | None]) -> dict[K, Scope]:
    return {name: scope for name, scope in scopes.items() if scope is not None}


def _scope(label: str, policy: PolicyConfig) -> Scope | None:
    if not speaks(policy):
        return None
    statements: dict[Aspect, Says | None] = {
        "models": compile_names("models", policy.models),
        "operations": compile_names("operations", policy.operations),
        "classes": compile_names("classes", policy.classes),
        "topics": compile_names("topics", policy.topics),
        "ips": compile_networks(policy.ips),
    }
    cost = policy.max_cost_usd
    return Scope(
        label=label,
        choices={aspect: said for aspect, said in statements.items() if said is not None},
        default=policy.default,
        max_tokens=policy.max_tokens,
        max_cost_nano=None if cost is None else parse_usd(f"{cost:f}"),
    )
