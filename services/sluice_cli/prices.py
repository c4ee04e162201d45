"""`sluice prices`: what models cost here, and how the cost of a call comes about."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.pricing.model import Charge, PriceEntry

app = group("Prices: of the configured models, and of one call.")

At = Annotated[
    str | None, typer.Option(help="At this time: 2026-11-01, an RFC 3339 time; default: now.")
]
Tier = Annotated[
    str | None, typer.Option(help="Of this service tier: default, flex, priority, fast, batch.")
]


@app.command("list")
def list_prices(*, at: At = None, json_output: Json = False) -> None:
    """List what each target of each configured model costs, in US dollars per million tokens.

    Prices come from the configuration (the model's own, then its account's), else from the catalogue that this build
    carries. What was negotiated (`discount`) and the target's tier and region are in them already.

    Example: `sluice prices list --at 2027-01-01`
    """
    from sluice_cli.session import configuration, settings
    from sluice_core.config.model import ANY_MODEL, resolve_model

    config, when = configuration(settings()), _when(at)
    rows = []
    for name, model in config.models.items():
        if name == ANY_MODEL:
            continue
        for ref, target in zip(resolve_model(config, name), model.targets, strict=True):
            entry = _entry(
                config, name, ref.account, ref.model, when, region=target.region, tier=target.tier
            )
            rows.append((name, ref.account, ref.model, target.tier, entry))
    if json_output:
        print_json(
            [
                {"model": name, "account": account, "provider_model": model, **_flat(entry)}
                for name, account, model, _, entry in rows
            ]
        )
        return
    columns = [
        *(Column(title=title) for title in ("model", "account", "provider's name", "tier")),
        *(
            Column(title=title, right=True)
            for title in ("input", "cached", "cache write", "output")
        ),
        *(Column(title=title) for title in ("version", "until")),
    ]
    print_table(
        f"US dollars per million tokens at {when:%Y-%m-%d %H:%M} UTC",
        columns,
        [
            (name, account, model, tier, *_million(entry), entry.price_version, entry.valid_until)
            for name, account, model, tier, entry in rows
        ],
    )
    unpriced = [f"{account}/{model}" for _, account, model, _, entry in rows if not entry.priced]
    if unpriced:
        say(f"no price is known of {', '.join(unpriced)}: their calls are booked at 0")


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="A configured model, or account/model.")],
    *,
    input_tokens: Annotated[
        int, typer.Option("--input", min=0, help="Input tokens, cached ones included.")
    ] = 1000,
    output_tokens: Annotated[
        int, typer.Option("--output", min=0, help="Output tokens, reasoning included.")
    ] = 250,
    cached: Annotated[int, typer.Option(min=0, help="Of the input: read from a cache.")] = 0,
    cache_write: Annotated[int, typer.Option(min=0, help="Of the input: written to it.")] = 0,
    reasoning: Annotated[int, typer.Option(min=0, help="Of the output: reasoning.")] = 0,
    at: At = None,
    tier: Tier = None,
    json_output: Json = False,
) -> None:
    """Show line by line what a call would cost at each target of a model.

    Each line is rounded once, half to even, to the nano-dollar; the sum is what `finance.usage` would hold.

    Example: `sluice prices explain fast --input 12000 --cached 8000 --output 900`
    """
    from sluice_cli.session import configuration, settings
    from sluice_core.config.model import resolve_model
    from sluice_core.config.suggest import suggestion
    from sluice_core.pricing.policy import charge
    from sluice_core.usage.model import Usage

    config, when = configuration(settings()), _when(at)
    refs = resolve_model(config, model)
    if not refs:
        raise Refused(f'no model "{model}"{suggestion(model, config.models)}')
    if cached + cache_write > input_tokens:
        raise Refused("--cached and --cache-write are parts of --input: they are more than it")
    if reasoning > output_tokens:
        raise Refused("--reasoning is a part of --output: it is more than it")
    usage = Usage(
        input_tokens=input_tokens,
        cache_read_tokens=cached,
        cache_write_tokens=cache_write,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
    )
    entries = [
        (ref, _entry(config, model, ref.account, ref.model, when, tier=tier)) for ref in refs
    ]
    charges = [(ref, entry, charge(entry, usage, started_at=when)) for ref, entry in entries]
    if json_output:
        print_json(
            [
                {
                    "account": ref.account,
                    "provider_model": ref.model,
                    **_charge_document(charged),
                    "priced": entry.priced,
                }
                for ref, entry, charged in charges
            ]
        )
        return
    for ref, entry, charged in charges:
        _print_charge(f"{ref.account}/{ref.model}", entry, charged)


def _print_charge(title: str, entry: "PriceEntry", charged: "Charge") -> None:
    from sluice_schemas.money import format_usd

    columns = [
        Column(title="meter"),
        *(Column(title=title, right=True) for title in ("quantity", "USD a unit", "USD")),
    ]
    rows: list[tuple[object, ...]] = [
        (meter.meter, meter.quantity, meter.unit_price_usd, format_usd(meter.cost_nano))
        for meter in charged.meters
    ]
    rows.append(("in all", "", "", format_usd(charged.cost_nano)))
    if entry.discounted:
        rows.append(("at list prices", "", "", format_usd(charged.list_nano)))
    print_table(f"{title}, {charged.price_version}", columns, rows)
    if not entry.priced:
        say(f"no price of {title} is known: write models.NAME.prices or providers.NAME.prices")


def _charge_document(charged: "Charge") -> dict[str, object]:
    from sluice_core.pricing.policy import meter_document
    from sluice_schemas.money import format_usd

    return {
        "cost_usd": format_usd(charged.cost_nano),
        "list_cost_usd": format_usd(charged.list_nano),
        "price_version": charged.price_version,
        "meters": [meter_document(meter) for meter in charged.meters],
    }


def _entry(
    config: "Config",
    name: str,
    account: str,
    model: str,
    when: datetime,
    *,
    region: str | None = None,
    tier: str | None = None,
) -> "PriceEntry":
    from sluice_core.pricing.book import PriceBook
    from sluice_core.pricing.terms import terms_of

    terms = terms_of(config, name, account, model, region=region, tier=tier)
    provider = config.providers[account].provider_name
    return PriceBook().resolve(provider, model, at=when, terms=terms)


_SHOWN = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


def _million(entry: "PriceEntry") -> list[str | None]:
    from decimal import Decimal

    found: dict[str, str] = {}
    for rate in entry.rates:
        prices = [f"{Decimal(band.unit_price_usd) * 1_000_000:f}" for band in rate.bands]
        short = [price.rstrip("0").rstrip(".") or "0" for price in prices]
        found[rate.meter] = " / ".join(short)
    return [found.get(meter) for meter in _SHOWN]


def _flat(entry: "PriceEntry") -> dict[str, object]:
    return {
        "usd_per_million": dict(zip(_SHOWN, _million(entry), strict=True)),
        "price_version": entry.price_version,
        "valid_until": entry.valid_until,
        "priced": entry.priced,
    }


def _when(text: str | None) -> datetime:
    from sluice_cli.session import moment

    return datetime.now(UTC) if text is None else moment(text)
