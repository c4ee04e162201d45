"""The price book: what models cost, from the pinned `genai-prices` catalogue and the configuration's overrides.

Only the catalogue bundled with the installed package is read; nothing is ever fetched.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from importlib.metadata import version
from typing import Final

from genai_prices import data_snapshot, types

from sluice_core.pricing.model import (
    RATE_SCALE,
    UNPRICED,
    Band,
    MeterName,
    PriceEntry,
    PriceOverride,
    Rate,
    Terms,
)
from sluice_platform.values import frozen_value

NO_TERMS: Final = Terms()
_CONTEXTS: Final[dict[str, dict[str, str]]] = {
    **{tier: {"service_tier": tier} for tier in ("default", "flex", "priority", "fast")},
    "batch": {"processing": "batch"},
}
"""How the catalogue writes what a service tier is."""

_PROVIDERS = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}
"""OpenTelemetry's provider names, where the catalogue's differ."""

_MILLION = 1_000_000
_KEYS: tuple[tuple[MeterName, str, int], ...] = (
    ("input_tokens", "input_mtok", _MILLION),
    ("cache_read_tokens", "cache_read_mtok", _MILLION),
    # Before the writes of five minutes, which are what is left of all writes.
    ("cache_write_1h_tokens", "cache_write_1h_mtok", _MILLION),
    ("cache_write_tokens", "cache_write_mtok", _MILLION),
    ("input_audio_tokens", "input_audio_mtok", _MILLION),
    ("output_tokens", "output_mtok", _MILLION),
    ("reasoning_tokens", "output_reasoning_mtok", _MILLION),
    ("output_audio_tokens", "output_audio_mtok", _MILLION),
    ("requests", "requests_kcount", 1_000),
    ("searches", "rerank_searches_kcount", 1_000),
)
_UNITS: Final[dict[MeterName, str]] = {"requests": "requests", "searches": "searches"}
"""All others are of tokens."""
_PER: Final = {meter: per for meter, _, per in _KEYS}


class PriceBook:
    """Resolves prices; a resolution costs about a millisecond, so keep the entry until it ends."""

    def __init__(self) -> None:
        self._catalogue = data_snapshot.DataSnapshot(
            providers=data_snapshot.get_snapshot().providers, from_auto_update=False
        )
        self._version = f"genai-prices-{version('genai-prices')}"

    def resolve(
        self, provider: str, model: str, *, at: datetime, terms: Terms = NO_TERMS
    ) -> PriceEntry:
        """What `model` costs at `provider` (an OpenTelemetry name) at the time `at` (aware), under these terms.

        Overrides replace the catalogue. A model without a price gives an entry without rates, whose version is
        `unpriced`.
        """
        override, ends = _in_force(terms.overrides, at)
        if override is not None:
            factor, named = _factor(terms, in_catalogue=False)
            return _configured(
                provider, model, override, _Applied(factor=factor, terms=terms, named=named), ends
            )
        try:
            _, info = self._catalogue.find_provider_model(
                model, None, _PROVIDERS.get(provider, provider), None
            )
        except LookupError:
            return PriceEntry(
                provider=provider, model=model, rates=(), price_version=UNPRICED, valid_until=ends
            )
        known = [v for v in info.price_variants or () if _CONTEXTS.get(terms.tier or "") == v.when]
        context = known[0].when if known else None
        factor, named = _factor(terms, in_catalogue=bool(known))
        applied = _Applied(factor=factor, terms=terms, named=named)
        rates = tuple(_rates(info.get_prices(at, context), applied))
        moments = [
            ends,
            _next_change(info.prices, [v.constraint for v in known], at.astimezone(UTC)),
        ]
        return PriceEntry(
            provider=provider,
            model=model,
            rates=rates,
            price_version=self._version + applied.suffix if rates else UNPRICED,
            valid_until=min((moment for moment in moments if moment is not None), default=None),
            discounted=bool(terms.discount),
        )

    def models(self, provider: str) -> list[str]:
        """The catalogue's models of a provider, by name; empty where it knows none."""
        name = _PROVIDERS.get(provider, provider)
        return [m.id for p in self._catalogue.providers if p.id == name for m in p.models]


@frozen_value
class _Applied:
    """What prices are multiplied by, and the words for it in a version."""

    factor: Decimal
    terms: Terms
    named: str

    @property
    def suffix(self) -> str:
        """What is added to a version, so that other terms are another version; empty where nothing is changed."""
        parts = [self.named] if self.named else []
        if self.terms.region_factor != 1:
            parts.append(f"region={self.terms.region_factor.normalize():f}")
        if self.terms.discount:
            parts.append(f"discount={self.terms.discount.normalize():f}")
        return "".join(f";{part}" for part in parts)

    def scaled(self, price: Decimal) -> tuple[int, int]:
        """A price in US dollars as what is paid and what is listed, each × RATE_SCALE."""
        listed = price * self.factor * RATE_SCALE
        paid = listed * (1 - self.terms.discount)
        return int(paid.to_integral_value(ROUND_HALF_EVEN)), int(
            listed.to_integral_value(ROUND_HALF_EVEN)
        )


def _factor(terms: Terms, *, in_catalogue: bool) -> tuple[Decimal, str]:
    """What all prices are multiplied by, and what of that is the tier's, in words."""
    if terms.tier is None:
        return terms.region_factor, ""
    if in_catalogue:
        return terms.region_factor, f"tier={terms.tier}"
    if terms.tier_factor is None:
        return terms.region_factor, ""
    named = f"tier={terms.tier}*{terms.tier_factor.normalize():f}"
    return terms.region_factor * terms.tier_factor, named


def _in_force(
    overrides: Sequence[PriceOverride], at: datetime
) -> tuple[PriceOverride | None, datetime | None]:
    """The last override whose time has come, and when the next one's comes."""
    found: PriceOverride | None = None
    for override in overrides:
        if override.since is not None and override.since > at:
            return found, override.since
        found = override
    return found, None


def _configured(
    provider: str,
    model: str,
    override: PriceOverride,
    applied: _Applied,
    ends: datetime | None,
) -> PriceEntry:
    prices: tuple[tuple[MeterName, Decimal | None], ...] = (
        ("input_tokens", override.input),
        ("cache_read_tokens", override.cached_input),
        ("cache_write_tokens", override.cache_write),
        ("output_tokens", override.output),
        ("searches", override.searches),
    )
    named = [(meter, price) for meter, price in prices if price is not None]
    text = ",".join(f"{meter}={price.normalize():f}" for meter, price in named)
    version = f"config-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return PriceEntry(
        provider=provider,
        model=model,
        rates=tuple(_rate(meter, [(-1, price)], _PER[meter], applied) for meter, price in named),
        price_version=version + applied.suffix,
        valid_until=ends,
        discounted=bool(applied.terms.discount),
    )


def _rates(prices: types.ModelPrice, applied: _Applied) -> Iterator[Rate]:
    for meter, key, per in _KEYS:
        price = getattr(prices, key)
        if isinstance(price, types.TieredPrices):
            bands = [(-1, price.base), *((tier.start, tier.price) for tier in price.tiers)]
            yield _rate(meter, bands, per, applied)
        elif price is not None:
            yield _rate(meter, [(-1, price)], per, applied)


def _rate(
    meter: MeterName, bands: Sequence[tuple[int, Decimal]], per: int, applied: _Applied
) -> Rate:
    divisor = per * RATE_SCALE // 1_000_000_000
    made = []
    for above, price in bands:
        paid, listed = applied.scaled(price)
        unit = _unit_price(Decimal(paid) / RATE_SCALE, per)
        made.append(
            Band(above=above, scaled=paid, listed=listed, divisor=divisor, unit_price_usd=unit)
        )
    return Rate(meter=meter, unit=_UNITS.get(meter, "tokens"), bands=tuple(made))


def _unit_price(price: Decimal, per: int) -> str:
    """The price of one unit, exactly, with nine decimals or as many more as it needs."""
    exact = price / per
    text = f"{exact:f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(9, '0')}"


def _next_change(
    prices: "types.ModelPrice | list[types.ConditionalPrice]",
    variants: Sequence[object],
    at: datetime,
) -> datetime | None:
    """The first moment after `at` at which another of the dated or daily prices may hold."""
    dated = [] if isinstance(prices, types.ModelPrice) else [p.constraint for p in prices]
    moments: list[datetime] = []
    for constraint in (*dated, *variants):
        if isinstance(constraint, types.StartDateConstraint):
            moments.append(datetime.combine(constraint.start_date, time(), tzinfo=UTC))
        elif isinstance(constraint, types.TimeOfDateConstraint):
            for edge in (constraint.start_time, constraint.end_time):
                moments += _occurrences(edge, at)
    return min((moment for moment in moments if moment > at), default=None)


def _occurrences(edge: time, at: datetime) -> Iterator[datetime]:
    zone = edge.tzinfo or UTC
    today: date = at.astimezone(zone).date()
    for days in (-1, 0, 1, 2):
        yield datetime.combine(today + timedelta(days=days), edge.replace(tzinfo=zone)).astimezone(
            UTC
        )
