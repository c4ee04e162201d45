"""The step that chooses where a job goes: for now the first target of its model in this worker's pool."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sluice_core.config.model import Config, Prices, ProviderConfig, TargetRef, resolve_model
from sluice_core.jobs.model import Job
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.bounds import Bound, bound
from sluice_core.pricing.model import PriceEntry, PriceOverride
from sluice_providers.port import Target

REMEMBERED = 10_000
"""Model names kept resolved; under `*` anybody may invent more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A target with its prices. `item_tokens`: the most that a remote item of a request counts for."""

    target: Target
    price: PriceEntry
    item_tokens: Mapping[str, int | None] = field(default_factory=dict)

    def capped(self, tokens: int) -> "Route":
        """The same with a limit on the answer that is sent where the job names none."""
        return replace(self, target=replace(self.target, default_max_tokens=tokens))


class Router:
    """Resolves model names to targets once, and prices when they change."""

    def __init__(self, config: Config, prices: PriceBook, *, pool: str) -> None:
        self._config = config
        self._prices = prices
        self._pool = pool
        self._routes: dict[str, Route | None] = {}
        self._pools: dict[str, str] = {}

    def change(self, config: Config) -> None:
        """Go by another configuration."""
        self._config = config
        self._routes.clear()
        self._pools.clear()

    def choose(self, job: Job, now: float) -> Route | None:
        """The target for a job; None where its model has none any more. `now` in epoch seconds."""
        name = job.facts.model or ""
        route = self._routes.get(name)
        if route is None or _outdated(route.price, now):
            route = self._resolve(name, now)
            if len(self._routes) > REMEMBERED:
                self._routes.clear()
            self._routes[name] = route
        return route

    def bound(self, job: Job, route: Route) -> Bound:
        """The most that a call on this route can use and cost."""
        return bound(
            job.body,
            route.price,
            default_max_tokens=route.target.default_max_tokens,
            item_tokens=route.item_tokens,
        )

    def pool_of(self, model: str) -> str:
        """The pool of workers that serves a model: that of its first target."""
        pool = self._pools.get(model)
        if pool is None:
            targets = resolve_model(self._config, model)
            pool = self._config.providers[targets[0].account].pool if targets else "default"
            if len(self._pools) > REMEMBERED:
                self._pools.clear()
            self._pools[model] = pool
        return pool

    def _resolve(self, name: str, now: float) -> Route | None:
        providers = self._config.providers
        targets = resolve_model(self._config, name)
        first = next((t for t in targets if providers[t.account].pool == self._pool), None)
        if first is None:
            return None
        account = providers[first.account]
        model = self._config.models.get(name)
        price = self._prices.resolve(
            account.provider_name,
            first.model,
            at=datetime.fromtimestamp(now, UTC),
            override=None if model is None else _override(model.prices),
        )
        most = None if model is None else model.default_max_tokens
        items = {} if model is None else model.item_tokens.model_dump()
        return Route(target=_target(first, account, name, most), price=price, item_tokens=items)


def _outdated(price: PriceEntry, now: float) -> bool:
    return price.valid_until is not None and price.valid_until.timestamp() <= now


def _target(
    ref: TargetRef, account: ProviderConfig, requested: str, default_max_tokens: int | None
) -> Target:
    secret = account.api_key
    return Target(
        account=ref.account,
        kind=account.kind,
        provider=account.provider_name,
        base_url=account.base_url,
        api_key="" if secret is None else secret.get_secret_value(),
        model=ref.model,
        model_requested=requested,
        connect_timeout_s=account.timeouts.connect,
        first_byte_timeout_s=account.timeouts.first_byte,
        between_chunks_timeout_s=account.timeouts.between_chunks,
        total_timeout_s=account.timeouts.total,
        default_max_tokens=default_max_tokens,
    )


def _override(prices: Prices | None) -> PriceOverride | None:
    if prices is None:
        return None
    return PriceOverride(
        input=prices.input,
        cached_input=prices.cached_input,
        cache_write=prices.cache_write,
        output=prices.output,
    )
