"""What a model's name stands for in this worker's pool: a plan to decide by, targets to call, and their prices."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from sluice_core.config.model import Config, TargetRef, resolve_model
from sluice_core.config.prices import Unpriced
from sluice_core.config.provider import ProviderConfig
from sluice_core.config.routing import BreakerConfig, Check, Hedge
from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.model import PriceEntry
from sluice_core.pricing.policy import unit_nano
from sluice_core.pricing.terms import terms_of
from sluice_core.routing.breaker import BreakerRules
from sluice_core.routing.model import Candidate
from sluice_core.routing.plan import Plan, plan_of
from sluice_core.routing.repository import Key
from sluice_providers.credentials import Credentials, OneKey
from sluice_providers.port import Target
from sluice_worker.keyring import Keyring


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A target with its prices, and why it was chosen.

    `item_tokens`: the most that a remote item of a request counts for. `check`: what its answer must pass, or a
    stronger target is asked. `level`: in which of the model's tiers it stands, from 0. `hedge`: when another target is
    asked beside this one.
    """

    key: Key
    name: str
    target: Target
    price: PriceEntry
    unpriced: Unpriced = "warn"
    item_tokens: Mapping[str, int | None] = field(default_factory=dict)
    region: str | None = None
    tier: str | None = None
    credentials: Credentials = field(default_factory=OneKey, repr=False)
    why: str = ""
    arm: str | None = None
    check: Check | None = None
    level: int = 0
    hedge: Hedge | None = None

    def outdated(self, now: float) -> bool:
        """Whether its prices hold no more at `now` (epoch seconds)."""
        return _over(self.price, now)

    def capped(self, tokens: int) -> "Route":
        """The same with a limit on the answer that is sent where the job names none."""
        return replace(self, target=replace(self.target, default_max_tokens=tokens))


REMEMBERED: Final = 10_000
"""Prices of tiers kept resolved."""


class Resolver:
    """Makes plans, targets and prices out of a configuration."""

    def __init__(
        self, config: Config, prices: PriceBook, *, pool: str, keyring: Keyring | None = None
    ) -> None:
        self._keyring = keyring or Keyring()
        self._prices = prices
        self._pool = pool
        self.change(config)

    def change(self, config: Config) -> None:
        """Go by another configuration."""
        self.config = config
        self._tiers: dict[tuple[str | None, ...], PriceEntry] = {}
        own = {name: a for name, a in config.providers.items() if a.pool == self._pool}
        self._keyring.change(own)

    def pool_of(self, name: str) -> str:
        """The pool of workers that serves a model: that of its first target."""
        targets = resolve_model(self.config, name)
        return self.config.providers[targets[0].account].pool if targets else "default"

    def plan(self, name: str, now: float) -> Plan | None:
        """How to decide for a model; None where this pool serves none of its targets."""
        providers = self.config.providers
        refs = [
            ref
            for ref in resolve_model(self.config, name)
            if providers[ref.account].pool == self._pool
        ]
        if not refs:
            return None

        def costs(ref: TargetRef) -> tuple[float, float]:
            price = self._price(name, ref, now)
            return unit_nano(price, "input_tokens"), unit_nano(price, "output_tokens")

        return plan_of(refs, self.config.models.get(name), costs)

    def rules(self, account: str) -> BreakerRules:
        """The rules of an account's breakers."""
        return _rules(self.config.providers[account].breaker)

    def default_max_tokens(self, name: str) -> int | None:
        """The limit on an answer that is sent where a job names none."""
        model = self.config.models.get(name)
        return None if model is None else model.default_max_tokens

    def route(self, name: str, candidate: Candidate, now: float) -> Route:
        """The way to a candidate."""
        model = self.config.models.get(name)
        ref = TargetRef(account=candidate.account, model=candidate.model)
        account = self.config.providers[ref.account]
        most = self.default_max_tokens(name)
        items = {} if model is None else model.item_tokens.model_dump()
        return Route(
            key=(ref.account, ref.model),
            name=candidate.name,
            target=_target(candidate, account, name, most),
            price=self._price(name, ref, now, region=candidate.region, tier=candidate.tier),
            unpriced=account.prices.unpriced,
            item_tokens=items,
            hedge=None if model is None else model.hedge,
            region=candidate.region,
            tier=None if candidate.tier in {"auto", "default"} else candidate.tier,
            credentials=self._keyring.of(ref.account, account),
        )

    def tiered(self, name: str, route: Route, tier: str, now: float) -> Route:
        """The same way at the prices of another service tier, which a job asks for itself or is served at."""
        key = (name, *route.key, route.region, tier)
        price = self._tiers.get(key)
        if price is None or _over(price, now):
            if len(self._tiers) > REMEMBERED:
                self._tiers.clear()
            ref = TargetRef(account=route.key[0], model=route.key[1])
            price = self._price(name, ref, now, region=route.region, tier=tier)
            self._tiers[key] = price
        return replace(route, price=price, tier=None if tier == "default" else tier)

    def _price(
        self,
        name: str,
        ref: TargetRef,
        now: float,
        *,
        region: str | None = None,
        tier: str | None = None,
    ) -> PriceEntry:
        return self._prices.resolve(
            self.config.providers[ref.account].provider_name,
            ref.model,
            at=datetime.fromtimestamp(now, UTC),
            terms=terms_of(self.config, name, ref.account, ref.model, region=region, tier=tier),
        )


def _over(price: PriceEntry, now: float) -> bool:
    return price.valid_until is not None and price.valid_until.timestamp() <= now


def _rules(config: BreakerConfig) -> BreakerRules:
    return BreakerRules(
        window_s=config.window,
        minimum=config.minimum,
        failures=config.failures,
        slow_s=config.slow,
        open_s=config.open,
        longest_s=config.longest,
        probes=config.probes,
    )


def _target(
    candidate: Candidate, account: ProviderConfig, requested: str, default_max_tokens: int | None
) -> Target:
    timeouts = candidate.timeouts or account.timeouts
    return Target(
        account=candidate.account,
        kind=account.kind,
        provider=account.provider_name,
        base_url=account.url,
        model=candidate.model,
        model_requested=requested,
        connect_timeout_s=timeouts.connect,
        first_byte_timeout_s=timeouts.first_byte,
        between_chunks_timeout_s=timeouts.between_chunks,
        total_timeout_s=timeouts.total,
        default_max_tokens=default_max_tokens,
        tier=candidate.tier,
        options=account.said,
        quirks=account.differences,
    )
