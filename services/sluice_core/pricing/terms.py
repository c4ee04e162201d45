"""Pure: what a configuration says of the price of a model at an account."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal

from sluice_core.config.model import Config
from sluice_core.config.prices import Prices
from sluice_core.pricing.model import PriceOverride, Terms


def terms_of(
    config: Config,
    name: str,
    account: str,
    model: str,
    *,
    region: str | None = None,
    tier: str | None = None,
) -> Terms:
    """The terms of `model` at `account`, asked for as `name`: the entry's own prices come before the account's."""
    entry, prices = config.models.get(name), config.providers[account].prices
    listed = entry.prices if entry is not None and entry.prices else prices.models.get(model, ())
    return Terms(
        overrides=overrides(listed),
        tier=None if tier in {None, "auto"} else tier,
        tier_factor=prices.tiers.get(tier or ""),
        region_factor=prices.regions.get(region or "", Decimal(1)),
        discount=prices.discount,
    )


def overrides(listed: Sequence[Prices]) -> tuple[PriceOverride, ...]:
    """Configured prices in the order in which they take force."""
    made = [
        PriceOverride(
            input=prices.input,
            output=prices.output,
            cached_input=prices.cached_input,
            cache_write=prices.cache_write,
            searches=prices.searches,
            since=_moment(prices.since),
        )
        for prices in listed
    ]
    return tuple(sorted(made, key=lambda o: o.since or datetime.min.replace(tzinfo=UTC)))


def _moment(since: datetime | date | None) -> datetime | None:
    if since is None:
        return None
    if not isinstance(since, datetime):
        return datetime.combine(since, time(), tzinfo=UTC)
    return since if since.tzinfo is not None else since.replace(tzinfo=UTC)
