"""Calls priced by hand: quantities × the nano-dollars a token of the providers' published price pages.

A dollar per million tokens is 1,000 nano-dollars a token. Usage stands as each provider counts it. Sources, as published in
October 2026: openai.com/api/pricing, docs.claude.com/en/docs/about-claude/pricing, ai.google.dev/gemini-api/docs/pricing,
api-docs.deepseek.com/quick_start/pricing, mistral.ai/pricing, cohere.com/pricing, groq.com/pricing, docs.x.ai/docs/models,
aws.amazon.com/bedrock/pricing, azure.microsoft.com/pricing/details/cognitive-services/openai-service, together.ai/pricing.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from sluice_core.pricing.book import PriceBook
from sluice_core.pricing.model import PriceOverride, Terms
from sluice_core.pricing.policy import charge
from sluice_core.usage.model import Usage
from sluice_providers import anthropic_answer, openai

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
BOOK = PriceBook()


def oai(given: int, gotten: int, cached: int = 0, reasoning: int = 0) -> Usage:
    """OpenAI's way: the prompt includes what was cached, the completion what was reasoned."""
    usage = openai.read_usage(
        {
            "prompt_tokens": given,
            "completion_tokens": gotten,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    assert usage is not None
    return usage


def ant(given: int, gotten: int, read: int = 0, five: int = 0, hour: int = 0) -> Usage:
    """Anthropic's way: input excludes what was read from the cache and written to it."""
    usage = anthropic_answer.read_usage(
        {
            "input_tokens": given,
            "output_tokens": gotten,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": five + hour,
            "cache_creation": {
                "ephemeral_5m_input_tokens": five,
                "ephemeral_1h_input_tokens": hour,
            },
        }
    )
    assert usage is not None
    return usage


def plain(**counts: Any) -> Usage:
    """Counted as the gateway does."""
    return Usage(**counts)


SONNET, HAIKU, OPUS = "claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-5"
PRO, FLASH = "gemini-2.5-pro", "gemini-2.5-flash"
LLAMA = "meta-llama/Llama-3.3-70B-Instruct-Turbo"

# fmt: off
CALLS: list[tuple[str, str, str | None, Usage, int]] = [
    # OpenAI: 2.50 / cached 1.25 / 10.00
    ("openai", "gpt-4o", None, oai(1_000, 200), 1_000 * 2_500 + 200 * 10_000),
    ("openai", "gpt-4o", None, oai(1_000, 200, 300), 700 * 2_500 + 300 * 1_250 + 200 * 10_000),
    ("openai", "gpt-4o", None, oai(1, 0), 2_500),
    ("openai", "gpt-4o", None, oai(128_000, 16_384), 128_000 * 2_500 + 16_384 * 10_000),
    ("openai", "gpt-4o", "default", oai(10, 10), 10 * 2_500 + 10 * 10_000),
    ("openai", "gpt-4o", "priority", oai(1_000, 200, 300), 700 * 4_250 + 300 * 2_125 + 200 * 17_000),
    ("openai", "gpt-4o", "batch", oai(1_000, 200), 1_000 * 1_250 + 200 * 5_000),
    # 0.15 / 0.075 / 0.60
    ("openai", "gpt-4o-mini", None, oai(57, 25), 57 * 150 + 25 * 600),
    ("openai", "gpt-4o-mini", None, oai(57, 25, 57), 57 * 75 + 25 * 600),
    ("openai", "gpt-4o-mini", "priority", oai(57, 25), 57 * 250 + 25 * 1_000),
    ("openai", "gpt-4o-mini", "batch", oai(1_001, 3), 1_001 * 75 + 3 * 300),
    # 2.00 / 0.50 / 8.00
    ("openai", "gpt-4.1", None, oai(400_000, 1_000, 399_999), 1 * 2_000 + 399_999 * 500 + 1_000 * 8_000),
    ("openai", "gpt-4.1", "priority", oai(5, 7), 5 * 3_500 + 7 * 14_000),
    ("openai", "gpt-4.1", "batch", oai(5, 7), 5 * 1_000 + 7 * 4_000),
    ("openai", "gpt-4.1-mini", None, oai(9_999, 1), 9_999 * 400 + 1_600),
    ("openai", "gpt-4.1-mini", "priority", oai(100, 100, 50), 50 * 700 + 50 * 175 + 100 * 2_800),
    # reasoning is output: 2.00 / 0.50 / 8.00
    ("openai", "o3", None, oai(500, 1_500, 0, 1_200), 500 * 2_000 + 1_500 * 8_000),
    ("openai", "o3", "flex", oai(500, 1_500, 100, 1_200), 400 * 1_000 + 100 * 250 + 1_500 * 4_000),
    ("openai", "o3", "priority", oai(500, 1_500), 500 * 3_500 + 1_500 * 14_000),
    ("openai", "o4-mini", None, oai(333, 777, 111, 700), 222 * 1_100 + 111 * 275 + 777 * 4_400),
    ("openai", "o4-mini", "flex", oai(333, 777), 333 * 550 + 777 * 2_200),
    ("openai", "o4-mini", "priority", oai(333, 777), 333 * 2_000 + 777 * 8_000),
    # 1.25 / 0.125 / 10.00
    ("openai", "gpt-5", None, oai(10_000, 2_000, 8_000, 1_500), 2_000 * 1_250 + 8_000 * 125 + 2_000 * 10_000),
    ("openai", "gpt-5", "flex", oai(10_000, 2_000), 10_000 * 625 + 2_000 * 5_000),
    ("openai", "gpt-5", "priority", oai(10_000, 2_000, 4_000), 6_000 * 2_500 + 4_000 * 250 + 2_000 * 20_000),
    ("openai", "gpt-5-mini", None, oai(12_345, 678), 12_345 * 250 + 678 * 2_000),
    ("openai", "gpt-5-mini", "flex", oai(12_345, 678), 12_345 * 125 + 678 * 1_000),
    ("openai", "gpt-5-mini", "priority", oai(20, 30), 20 * 450 + 30 * 3_600),
    # embeddings: 0.02 and 0.13, no output
    ("openai", "text-embedding-3-small", None, oai(8_191, 0), 8_191 * 20),
    ("openai", "text-embedding-3-large", None, oai(8_191, 0), 8_191 * 130),
    # Anthropic: 3 / read 0.30 / write 3.75, an hour 6 / 15
    ("anthropic", SONNET, None, ant(1_000, 200), 1_000 * 3_000 + 200 * 15_000),
    ("anthropic", SONNET, None, ant(10, 20, 5_000), 10 * 3_000 + 5_000 * 300 + 20 * 15_000),
    ("anthropic", SONNET, None, ant(10, 20, 0, 5_000), 10 * 3_000 + 5_000 * 3_750 + 20 * 15_000),
    ("anthropic", SONNET, None, ant(10, 20, 0, 0, 5_000), 10 * 3_000 + 5_000 * 6_000 + 20 * 15_000),
    ("anthropic", SONNET, None, ant(10, 20, 100, 200, 300), 10 * 3_000 + 100 * 300 + 200 * 3_750 + 300 * 6_000 + 20 * 15_000),
    ("anthropic", SONNET, "batch", ant(1_000, 200, 400), 1_000 * 1_500 + 400 * 150 + 200 * 7_500),
    # 1 / 0.10 / 1.25, 2 / 5
    ("anthropic", HAIKU, None, ant(1_000, 200, 300, 400), 1_000 * 1_000 + 300 * 100 + 400 * 1_250 + 200 * 5_000),
    ("anthropic", HAIKU, None, ant(0, 1, 0, 0, 7), 7 * 2_000 + 5_000),
    ("anthropic", HAIKU, "batch", ant(1_000, 200), 1_000 * 500 + 200 * 2_500),
    # 5 / 0.50 / 6.25, 10 / 25
    ("anthropic", OPUS, None, ant(777, 333), 777 * 5_000 + 333 * 25_000),
    ("anthropic", OPUS, None, ant(777, 333, 111, 222, 444), 777 * 5_000 + 111 * 500 + 222 * 6_250 + 444 * 10_000 + 333 * 25_000),
    ("anthropic", OPUS, "batch", ant(777, 333), 777 * 2_500 + 333 * 12_500),
    ("anthropic", "claude-opus-4-1", None, ant(3, 4, 5, 6), 3 * 15_000 + 5 * 1_500 + 6 * 18_750 + 4 * 75_000),
    # Gemini: 1.25 / 0.125 / 10, above 200,000 tokens of input 2.50 / 0.25 / 15 for all of it
    ("gcp.gemini", PRO, None, plain(input_tokens=200_000, output_tokens=10), 200_000 * 1_250 + 10 * 10_000),
    ("gcp.gemini", PRO, None, plain(input_tokens=200_001, output_tokens=10), 200_001 * 2_500 + 10 * 15_000),
    ("gcp.gemini", PRO, None, plain(input_tokens=300_000, cache_read_tokens=250_000, output_tokens=10), 50_000 * 2_500 + 250_000 * 250 + 10 * 15_000),
    ("gcp.gemini", PRO, None, plain(input_tokens=100, output_tokens=900, reasoning_tokens=800), 100 * 1_250 + 900 * 10_000),
    ("gcp.gemini", PRO, "batch", plain(input_tokens=1_000, output_tokens=10), 1_000 * 625 + 10 * 5_000),
    ("gcp.vertex_ai", PRO, None, plain(input_tokens=1_000, output_tokens=10), 1_000 * 1_250 + 10 * 10_000),
    # 0.30, audio 1.00 / 0.03 / 2.50
    ("gcp.gemini", FLASH, None, plain(input_tokens=1_000, output_tokens=100), 1_000 * 300 + 100 * 2_500),
    ("gcp.gemini", FLASH, None, plain(input_tokens=1_000, input_audio_tokens=600, output_tokens=100), 400 * 300 + 600 * 1_000 + 100 * 2_500),
    ("gcp.gemini", FLASH, None, plain(input_tokens=1_000, cache_read_tokens=999, output_tokens=1), 300 + 999 * 30 + 2_500),
    ("gcp.gemini", "gemini-2.5-flash-lite", None, plain(input_tokens=7, output_tokens=9), 7 * 100 + 9 * 400),
    # DeepSeek by day: 0.27 / 0.07 / 1.10; 0.55 / 0.14 / 2.19
    ("deepseek", "deepseek-chat", None, oai(1_000, 500, 600), 400 * 270 + 600 * 70 + 500 * 1_100),
    ("deepseek", "deepseek-reasoner", None, oai(1_000, 500, 0, 400), 1_000 * 550 + 500 * 2_190),
    # Mistral 2 / 6; 0.15 / 0.015 / 0.60
    ("mistral_ai", "mistral-large-latest", None, oai(1_234, 567), 1_234 * 2_000 + 567 * 6_000),
    ("mistral_ai", "mistral-small-latest", None, oai(1_234, 567, 234), 1_000 * 150 + 234 * 15 + 567 * 600),
    ("mistral_ai", "mistral-small-latest", "batch", oai(1_000, 2), 1_000 * 75 + 2 * 300),
    # Cohere 2.50 / 10
    ("cohere", "command-r-plus-08-2024", None, plain(input_tokens=11, output_tokens=13), 11 * 2_500 + 13 * 10_000),
    ("cohere", "command-a-03-2025", None, plain(input_tokens=999, output_tokens=1), 999 * 2_500 + 10_000),
    # Groq 0.59 / 0.79, xAI 3 / 0.75 / 15, Together 0.88 / 0.88
    ("groq", "llama-3.3-70b-versatile", None, oai(3_333, 777), 3_333 * 590 + 777 * 790),
    ("x_ai", "grok-4", None, oai(2_000, 300, 500), 1_500 * 3_000 + 500 * 750 + 300 * 15_000),
    ("x_ai", "grok-3-mini", None, oai(2_000, 300, 500, 250), 1_500 * 300 + 500 * 75 + 300 * 500),
    ("together", LLAMA, None, oai(12_345, 6_789), (12_345 + 6_789) * 880),
    # Bedrock: Nova Pro 0.80 / 0.20 / 3.20; Haiku in a region 10 % dearer; Azure as OpenAI
    ("aws.bedrock", "amazon.nova-pro-v1:0", None, plain(input_tokens=1_000, cache_read_tokens=250, output_tokens=50), 750 * 800 + 250 * 200 + 50 * 3_200),
    ("aws.bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", None, ant(1_000, 10, 100, 200), 1_000 * 1_100 + 100 * 110 + 200 * 1_375 + 10 * 5_500),
    ("azure.ai.openai", "gpt-4o", None, oai(1_000, 200, 300), 700 * 2_500 + 300 * 1_250 + 200 * 10_000),
    ("azure.ai.openai", "gpt-4o-mini", "priority", oai(1_000, 200), 1_000 * 250 + 200 * 1_000),
]
# fmt: on


def test_the_table_is_long_enough() -> None:
    assert len(CALLS) >= 60
    assert len({provider for provider, *_ in CALLS}) >= 10


@pytest.mark.parametrize(("provider", "model", "tier", "usage", "nano"), CALLS)
def test_a_call_costs_what_was_computed_by_hand(
    provider: str, model: str, tier: str | None, usage: Usage, nano: int
) -> None:
    entry = BOOK.resolve(provider, model, at=NOON, terms=Terms(tier=tier))
    cost = charge(entry, usage, started_at=NOON)
    assert (cost.cost_nano, cost.list_nano) == (nano, nano)
    assert cost.cost_nano == sum(meter.cost_nano for meter in cost.meters)


def resolve(**terms: Any) -> Any:
    return BOOK.resolve("openai", "gpt-4o", at=NOON, terms=Terms(**terms))


USED: Mapping[str, Usage] = {"some": oai(1_000, 200, 300), "one": oai(1, 0)}


def test_a_discount_is_off_what_is_paid_and_not_off_the_list_price() -> None:
    cost = charge(resolve(discount=Decimal("0.15")), USED["some"], started_at=NOON)
    assert cost.list_nano == 700 * 2_500 + 300 * 1_250 + 200 * 10_000
    assert cost.cost_nano == 700 * 2_125 + 300 * 1_062.5 + 200 * 8_500
    assert cost.price_version.endswith(";discount=0.15")


def test_a_region_and_a_tier_of_which_the_catalogue_knows_nothing_are_factors() -> None:
    region = charge(resolve(region_factor=Decimal("1.1")), USED["some"], started_at=NOON)
    assert region.cost_nano == 700 * 2_750 + 300 * 1_375 + 200 * 11_000
    scale = charge(resolve(tier="scale", tier_factor=Decimal(3)), USED["one"], started_at=NOON)
    assert (scale.cost_nano, scale.price_version[-12:]) == (7_500, ";tier=scale*3"[-12:])
    known = resolve(tier="priority", tier_factor=Decimal(3))
    assert charge(known, USED["one"], started_at=NOON).cost_nano == 4_250, "the catalogue's counts"


def test_a_halved_nano_dollar_goes_to_the_even_one() -> None:
    override = (PriceOverride(input=Decimal("0.0005"), output=Decimal("0.0015")),)
    entry = resolve(overrides=override)
    assert charge(entry, oai(1, 1), started_at=NOON).cost_nano == 0 + 2
    assert charge(entry, oai(3, 3), started_at=NOON).cost_nano == 2 + 4


def test_prices_take_force_at_their_time_and_are_versions() -> None:
    overrides = (
        PriceOverride(input=Decimal(1), output=Decimal(1)),
        PriceOverride(input=Decimal(2), output=Decimal(2), since=datetime(2027, 1, 1, tzinfo=UTC)),
    )
    before = resolve(overrides=overrides)
    assert before.valid_until == datetime(2027, 1, 1, tzinfo=UTC)
    after = BOOK.resolve(
        "openai", "gpt-4o", at=before.valid_until, terms=Terms(overrides=overrides)
    )
    assert [
        charge(e, oai(1, 0), started_at=at).cost_nano
        for e, at in ((before, NOON), (after, before.valid_until))
    ] == [1_000, 2_000]
    assert after.price_version != before.price_version
    future = overrides[1:]
    assert resolve(overrides=future).price_version.startswith("genai-prices")
    assert resolve(overrides=future).valid_until == datetime(2027, 1, 1, tzinfo=UTC)
