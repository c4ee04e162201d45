"""Charges against the catalogue's own arithmetic, and the bound against every charge."""

import dataclasses
import time as clock
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import genai_prices
import pytest
from genai_prices import data_snapshot, types
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.model import PriceEntry, PriceOverride, Terms
from sluice_core.pricing.policy import charge, meter_document, worst_case
from sluice_core.usage.model import Usage

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
BOOK = PriceBook()
USAGES = (
    Usage(input_tokens=57, output_tokens=25),
    Usage(input_tokens=1_234_567, output_tokens=89_123),
    Usage(input_tokens=300_001, output_tokens=1, cache_read_tokens=299_999),
    Usage(
        input_tokens=10_007, output_tokens=333, cache_read_tokens=1_001, cache_write_tokens=5_003
    ),
    Usage(
        input_tokens=9_999,
        output_tokens=77,
        cache_write_tokens=4_000,
        cache_write_1h_tokens=1_234,
        reasoning_tokens=33,
    ),
    Usage(input_tokens=200_000, output_tokens=200_000, reasoning_tokens=150_000),
    Usage(input_tokens=1, output_tokens=0),
)


def _models() -> list[tuple[str, str]]:
    """Every twelfth model of the catalogue that is priced by tokens, and all tiered, dated or hourly ones."""
    found = []
    for provider in data_snapshot.get_snapshot().providers:
        for number, model in enumerate(provider.models):
            dated = model.prices if isinstance(model.prices, list) else []
            special = len(dated) > 1 or "Tiered" in repr(model.prices)
            findable = provider.find_model(model.id) is model
            if findable and (special or number % 12 == 0):
                found.append((provider.id, model.id))
    return found


MODELS = _models()


def _library(provider: str, model: str, usage: Usage, at: datetime) -> Decimal:
    prices = _prices(provider, model, at)
    values = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
    }
    assert prices is not None
    return genai_prices.calc_price(
        types.Usage(**values), model, provider_id=provider, genai_request_timestamp=at
    ).total_price


def _prices(provider: str, model: str, at: datetime) -> types.ModelPrice:
    _, info = data_snapshot.get_snapshot().find_provider_model(model, None, provider, None)
    return info.get_prices(at)


def test_rankings_may_cost_by_the_search() -> None:
    override = PriceOverride(input=Decimal(0), output=Decimal(0), searches=Decimal("2.0"))
    entry = PriceBook().resolve("cohere", "r", at=AT, terms=Terms(overrides=(override,)))
    charged = charge(entry, Usage(searches=3), started_at=AT)
    assert charged.cost_nano == 3 * 2_000_000
    assert [(meter.meter, meter.unit, meter.quantity) for meter in charged.meters] == [
        ("searches", "searches", 3)
    ]
    most = worst_case(entry, body_bytes=10_000, max_output_tokens=0, n=1, searches=4)
    assert 4 * 2_000_000 <= most <= 4 * 2_000_000 + len(entry.rates)


def test_the_comparison_is_broad() -> None:
    assert len(MODELS) >= 100
    assert any("Tiered" in repr(_prices(provider, model, AT)) for provider, model in MODELS)


@pytest.mark.parametrize("usage", USAGES, ids=range(len(USAGES)))
def test_charges_are_the_catalogues(usage: Usage) -> None:
    for provider, model in MODELS:
        entry = BOOK.resolve(provider, model, at=AT)
        cost = charge(entry, usage, started_at=AT)
        library = _library(provider, model, usage, AT) * 1_000_000_000
        meters = len(cost.meters)
        assert abs(Decimal(cost.cost_nano) - library) <= Decimal("0.5") * max(meters, 1), (
            provider,
            model,
        )
        assert cost.cost_nano == sum(meter.cost_nano for meter in cost.meters)


def test_known_price_to_the_nano() -> None:
    entry = BOOK.resolve("openai", "gpt-4o-mini", at=AT)
    cost = charge(entry, Usage(input_tokens=57, output_tokens=25), started_at=AT)
    assert cost.cost_nano == 57 * 150 + 25 * 600
    assert [meter_document(meter) for meter in cost.meters] == [
        {
            "meter": "input_tokens",
            "quantity": 57,
            "unit": "tokens",
            "unit_price_usd": "0.000000150",
            "cost_usd": "0.000008550",
        },
        {
            "meter": "output_tokens",
            "quantity": 25,
            "unit": "tokens",
            "unit_price_usd": "0.000000600",
            "cost_usd": "0.000015000",
        },
    ]
    assert cost.price_version.startswith("genai-prices-")


@given(price=st.decimals(min_value=0, max_value=1000, places=6), quantity=st.integers(0, 10**9))
def test_one_rounding_half_even(price: Decimal, quantity: int) -> None:
    entry = BOOK.resolve(
        "x", "y", at=AT, terms=Terms(overrides=(PriceOverride(input=price, output=Decimal(0)),))
    )
    cost = charge(entry, Usage(input_tokens=quantity), started_at=AT)
    exact = (price * quantity * 1000).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    assert cost.cost_nano == int(exact)


_COUNTS = st.integers(0, 400_000)


@given(
    which=st.sampled_from(MODELS),
    body=st.integers(1, 2_000_000),
    shares=st.lists(st.floats(0, 1), min_size=5, max_size=5),
    output=_COUNTS,
    n=st.integers(1, 5),
)
def test_no_charge_exceeds_the_worst_case(
    which: tuple[str, str], body: int, shares: list[float], output: int, n: int
) -> None:
    entry = BOOK.resolve(*which, at=AT)
    total = int(body * shares[0])
    read = int(total * shares[1])
    written = int((total - read) * shares[2])
    usage = Usage(
        input_tokens=total,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=int(written * shares[3]),
        output_tokens=output * n,
        reasoning_tokens=int(output * n * shares[4]),
    )
    bound = worst_case(entry, body_bytes=body, max_output_tokens=output, n=n)
    assert charge(entry, usage, started_at=AT).cost_nano <= bound


def test_the_worst_case_knows_the_dearest_band() -> None:
    entry = BOOK.resolve("google", "gemini-2.5-pro", at=AT)
    below = worst_case(entry, body_bytes=200_000, max_output_tokens=0, n=1)
    above = worst_case(entry, body_bytes=200_001, max_output_tokens=0, n=1)
    assert above > below * 1.5


def test_an_unknown_model_is_unpriced() -> None:
    for provider, model in (("openai", "no-such-model"), ("our-own-cluster", "gpt-4o")):
        entry = BOOK.resolve(provider, model, at=AT)
        assert not entry.priced
        assert entry.price_version == "unpriced"
        assert charge(entry, USAGES[1], started_at=AT).cost_nano == 0
        assert worst_case(entry, body_bytes=10**6, max_output_tokens=10**6, n=3) == 0


def test_an_override_replaces_the_catalogue() -> None:
    override = PriceOverride(input=Decimal("0.1"), output=Decimal(2), cached_input=Decimal("0.01"))
    entry = BOOK.resolve("openai", "gpt-4o-mini", at=AT, terms=Terms(overrides=(override,)))
    usage = Usage(
        input_tokens=1_000, cache_read_tokens=400, cache_write_tokens=100, output_tokens=10
    )
    cost = charge(entry, usage, started_at=AT)
    assert cost.cost_nano == 600 * 100 + 400 * 10 + 10 * 2_000
    assert [meter.meter for meter in cost.meters] == [
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
    ]
    assert entry.price_version.startswith("config-")
    other = dataclasses.replace(override, output=Decimal(3))
    assert (
        BOOK.resolve("o", "m", at=AT, terms=Terms(overrides=(other,))).price_version
        != entry.price_version
    )
    same = dataclasses.replace(override, output=Decimal("2.00"))
    assert (
        BOOK.resolve("o", "m", at=AT, terms=Terms(overrides=(same,))).price_version
        == entry.price_version
    )


def test_dated_prices_end_when_the_next_begins() -> None:
    dated = [
        (provider.id, model)
        for provider in data_snapshot.get_snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
    ]
    assert dated
    checked = 0
    for provider, model in dated:
        start = datetime(2020, 1, 1, 3, 30, tzinfo=UTC)
        entry = BOOK.resolve(provider, model.id, at=start)
        if entry.valid_until is None:
            continue
        checked += 1
        last = entry.valid_until - timedelta(microseconds=1)
        again = BOOK.resolve(provider, model.id, at=last)
        assert (again.rates, again.valid_until) == (entry.rates, entry.valid_until)
        with pytest.raises(ValueError, match="valid until"):
            charge(entry, USAGES[0], started_at=entry.valid_until)
    assert checked >= 20


def test_azure_and_bedrock_names_are_found() -> None:
    assert BOOK.resolve("azure.ai.openai", "gpt-4o", at=AT).priced
    assert BOOK.resolve("gcp.vertex_ai", "gemini-2.5-pro", at=AT).priced


def test_a_charge_is_cheap() -> None:
    entry = BOOK.resolve("openai", "gpt-4o", at=AT)
    usage = Usage(input_tokens=1_000, cache_read_tokens=400, output_tokens=200)
    best = min(_cost_of(entry, usage) for _ in range(7))
    assert best < 30e-6, f"{best * 1e6:.1f} µs a charge"


def _cost_of(entry: PriceEntry, usage: Usage) -> float:
    begun = clock.process_time()
    for _ in range(1_000):
        charge(entry, usage, started_at=AT)
    return (clock.process_time() - begun) / 1_000
