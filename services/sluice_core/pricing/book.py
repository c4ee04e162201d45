"""The price book: what models cost, from the pinned `genai-prices` catalogue and the configuration's overrides.

Only the catalogue bundled with the installed package is read; nothing is ever fetched.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib.metadata import version

from genai_prices import data_snapshot, types

from sluice_core.pricing.model import (
    RATE_SCALE,
    UNPRICED,
    Band,
    MeterName,
    PriceEntry,
    PriceOverride,
    Rate,
)

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
)


class PriceBook:
    """Resolves prices; a resolution costs about a millisecond, so keep the entry until it ends."""

    def __init__(self) -> None:
        self._catalogue = data_snapshot.DataSnapshot(
            providers=data_snapshot.get_snapshot().providers, from_auto_update=False
        )
        self._version = f"genai-prices-{version('genai-prices')}"

    def resolve(
        self, provider: str, model: str, *, at: datetime, override: PriceOverride | None = None
    ) -> PriceEntry:
        """What `model` costs at `provider` (an OpenTelemetry name) at the time `at` (aware).

        An override replaces the catalogue. A model without a price gives an entry without rates, whose
        version is `unpriced`.
        """
        if override is not None:
            return _configured(provider, model, override)
        try:
            _, info = self._catalogue.find_provider_model(
                model, None, _PROVIDERS.get(provider, provider), None
            )
        except LookupError:
            return PriceEntry(provider=provider, model=model, rates=(), price_version=UNPRICED)
        rates = tuple(_rates(info.get_prices(at)))
        return PriceEntry(
            provider=provider,
            model=model,
            rates=rates,
            price_version=self._version if rates else UNPRICED,
            valid_until=_next_change(info.prices, at.astimezone(UTC)),
        )


def _configured(provider: str, model: str, override: PriceOverride) -> PriceEntry:
    prices: tuple[tuple[MeterName, Decimal | None], ...] = (
        ("input_tokens", override.input),
        ("cache_read_tokens", override.cached_input),
        ("cache_write_tokens", override.cache_write),
        ("output_tokens", override.output),
    )
    named = [(meter, price) for meter, price in prices if price is not None]
    text = ",".join(f"{meter}={price.normalize():f}" for meter, price in named)
    return PriceEntry(
        provider=provider,
        model=model,
        rates=tuple(_rate(meter, [(-1, price)], _MILLION) for meter, price in named),
        price_version=f"config-{hashlib.sha256(text.encode()).hexdigest()[:12]}",
    )


def _rates(prices: types.ModelPrice) -> Iterator[Rate]:
    for meter, key, per in _KEYS:
        price = getattr(prices, key)
        if isinstance(price, types.TieredPrices):
            bands = [(-1, price.base), *((tier.start, tier.price) for tier in price.tiers)]
            yield _rate(meter, bands, per)
        elif price is not None:
            yield _rate(meter, [(-1, price)], per)


def _rate(meter: MeterName, bands: Sequence[tuple[int, Decimal]], per: int) -> Rate:
    return Rate(
        meter=meter,
        unit="requests" if meter == "requests" else "tokens",
        bands=tuple(
            Band(
                above=above,
                scaled=int(price * RATE_SCALE),
                divisor=per * RATE_SCALE // 1_000_000_000,
                unit_price_usd=_unit_price(price, per),
            )
            for above, price in bands
        ),
    )


def _unit_price(price: Decimal, per: int) -> str:
    """The price of one unit, exactly, with nine decimals or as many more as it needs."""
    exact = price / per
    text = f"{exact:f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.rstrip('0').ljust(9, '0')}"


def _next_change(
    prices: "types.ModelPrice | list[types.ConditionalPrice]", at: datetime
) -> datetime | None:
    """The first moment after `at` at which another of the dated or daily prices may hold."""
    if isinstance(prices, types.ModelPrice):
        return None
    moments: list[datetime] = []
    for price in prices:
        constraint = price.constraint
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
