"""Which rows of the ledger an attempt draws on: known by name here, by number there, remembered in the process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from sluice_core.admission.definitions import budgets_of, scope_of
from sluice_core.admission.model import Draw, ScopeDefinition, ScopeKind
from sluice_core.admission.repository import AdmissionRepository
from sluice_core.admission.service import align
from sluice_core.config.model import ANY_MODEL, Config
from sluice_core.config.scopes import Scoped
from sluice_core.jobs.model import Facts

REMEMBERED = 50_000
"""Combinations and names kept; beyond it they are looked up anew."""

Name = tuple[ScopeKind, str]
_EVERY = "*"
_PLAIN = Scoped()


@dataclass(frozen=True, slots=True)
class Place:
    """Whose attempt it is and where it goes, as far as that decides what it draws on."""

    tenant: str
    team: str | None
    project: str
    app: str | None
    user_id: str | None
    key_id: str | None
    run_id: str | None
    model: str
    account: str
    provider_model: str

    @classmethod
    def of(cls, facts: Facts, account: str, provider_model: str) -> "Place":
        """The place of a job that goes to a target."""
        return cls(
            facts.tenant,
            facts.team,
            facts.project,
            facts.app,
            facts.user_id,
            facts.key_id,
            facts.run_id,
            facts.model or "",
            account,
            provider_model,
        )


class Directory:
    """Finds scopes and budgets by what a job says; makes rows for names that are met for the first time.

    Every attempt draws on its tenant, its project, its account and its target; on other scopes only where
    something is said of them.
    """

    def __init__(
        self,
        repository: AdmissionRepository,
        config: Config,
        pseudonym: Callable[[str, str], Awaitable[str]],
    ) -> None:
        self._repository = repository
        self._config = config
        self._pseudonym = pseudonym
        self._users: dict[tuple[str, str], Scoped] = {}
        self._limited: Mapping[Name, int] = {}
        self._numbers: dict[Name, int] = {}
        self._names: dict[int, Name] = {}
        self._budgets: dict[int, list[tuple[int, bool]]] = {}
        self._budget_scopes: dict[int, int] = {}
        self._draws: dict[Place, Draw] = {}
        self._version = -1
        # What is read in several statements may not be seen half: an attempt would draw on no budget.
        self._reading = asyncio.Lock()

    async def start(self) -> None:
        """Make the ledger say what the configuration says, and read it."""
        await align(self._repository, self._config)
        self._users = await self._users_of(self._config)
        await self._load()

    async def change(self, config: Config) -> None:
        """Go by another configuration, which the ledger's rows say already; users and keys are met anew."""
        self._users = await self._users_of(config)
        self._config = config
        self._numbers = {
            name: number
            for name, number in self._numbers.items()
            if name[0] not in (ScopeKind.USER, ScopeKind.KEY)
        }
        await self._load()

    async def refresh(self, version: int) -> None:
        """Read the rows again if the configuration's `version` is not the one that was read last."""
        if version != self._version:
            await self._load()
            self._version = version

    async def draws(self, places: Sequence[Place]) -> list[Draw]:
        """What attempts at these places draw on; new names cost two statements a batch, once."""
        if all(place in self._draws for place in places):
            return [self._draws[place] for place in places]
        async with self._reading:
            await self._learn([name for place in places for name in self._scopes(place)])
            if len(self._draws) > REMEMBERED:
                self._draws.clear()
            for place in places:
                if place not in self._draws:
                    self._draws[place] = self._draw(place)
            return [self._draws[place] for place in places]

    def cause(self, number: int) -> Name | None:
        """The scope that a refusal named: by its own id, or by minus the id of one of its budgets."""
        if number < 0:
            number = self._budget_scopes.get(-number, 0)
        return self._names.get(number)

    async def _users_of(self, config: Config) -> dict[tuple[str, str], Scoped]:
        """Users that have an entry of their own, by tenant and pseudonym."""
        return {
            (tenant, await self._pseudonym(tenant, user)): scoped
            for tenant, settings in config.tenants.items()
            for user, scoped in settings.users.items()
            if user != _EVERY
        }

    def _draw(self, place: Place) -> Draw:
        scopes = tuple(self._numbers[name] for name in self._scopes(place))
        budgets = [budget for scope in scopes for budget in self._budgets.get(scope, ())]
        return Draw(
            scopes=scopes,
            budgets=tuple(number for number, _ in budgets),
            hard=any(hard for _, hard in budgets),
        )

    def _scopes(self, place: Place) -> list[Name]:
        tenant, config = place.tenant, self._config
        names = [
            (ScopeKind.TENANT, tenant),
            (ScopeKind.PROJECT, f"{tenant}/{place.project}"),
            (ScopeKind.ACCOUNT, place.account),
            (ScopeKind.TARGET, f"{place.account}/{place.provider_model}"),
        ]
        model = place.model if place.model in config.models else ANY_MODEL
        wider = [(ScopeKind.MODEL, model)]
        if place.team is not None:
            wider.append((ScopeKind.TEAM, f"{tenant}/{place.team}"))
        if place.app is not None:
            wider.append((ScopeKind.APP, f"{tenant}/{place.project}/{place.app}"))
        if place.run_id is not None:
            wider.append((ScopeKind.RUN, f"{tenant}/{place.run_id}"))
        names += [name for name in wider if name in self._limited]
        for kind, one in ((ScopeKind.USER, place.user_id), (ScopeKind.KEY, place.key_id)):
            if one is not None and self._settings(kind, tenant, one) is not _PLAIN:
                names.append((kind, f"{tenant}/{one}"))
        return names

    def _settings(self, kind: ScopeKind, tenant: str, one: str) -> Scoped:
        """What is said of a user (by pseudonym) or a key, or of each of them."""
        settings = self._config.tenants.get(tenant)
        if settings is None:
            return _PLAIN
        if kind is ScopeKind.USER:
            own = self._users.get((tenant, one))
            return settings.users.get(_EVERY, _PLAIN) if own is None else own
        return settings.keys.get(one, settings.keys.get(_EVERY, _PLAIN))

    async def _learn(self, names: Sequence[Name]) -> None:
        wanted = {name for name in names if name not in self._numbers}
        if not wanted:
            return
        if len(self._numbers) > REMEMBERED:
            # All that is remembered goes by these numbers.
            self._draws.clear()
            self._numbers, self._names = {}, {}
            wanted = set(names)
        met, budgets = [], []
        for kind, name in sorted(wanted):
            if kind not in (ScopeKind.USER, ScopeKind.KEY):
                continue
            tenant, _, one = name.partition("/")
            scoped = self._settings(kind, tenant, one)
            met.append(scope_of(kind, name, scoped.limits))
            budgets += budgets_of(kind, name, scoped)
        if met:
            await self._repository.define(met, budgets)
        found = await self._repository.numbers(sorted(wanted))
        if bare := sorted(wanted - set(found)):
            await self._repository.ensure([ScopeDefinition(kind=k, name=n) for k, n in bare])
            found |= await self._repository.numbers(bare)
        self._remember(found)
        await self._read_budgets(list(found.values()))

    def _remember(self, found: Mapping[Name, int]) -> None:
        self._numbers.update(found)
        self._names.update((number, name) for name, number in found.items())

    async def _read_budgets(self, scopes: Sequence[int]) -> None:
        for scope, budgets in (await self._repository.budgets(scopes)).items():
            self._budgets[scope] = budgets
            self._budget_scopes.update((number, scope) for number, _ in budgets)

    async def _load(self) -> None:
        async with self._reading:
            await self._read_all()

    async def _read_all(self) -> None:
        limited = await self._repository.limited()
        known = {**self._numbers, **limited}
        self._budgets, self._budget_scopes = {}, {}
        await self._read_budgets(list(known.values()))
        self._limited = limited
        self._remember(limited)
        self._draws.clear()
