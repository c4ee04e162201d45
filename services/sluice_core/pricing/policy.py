"""What a call costs and what it can cost at most: pure integer arithmetic over a resolved price."""

from collections.abc import Iterable
from datetime import datetime

from sluice_core.pricing.model import Band, Charge, Meter, MeterName, PriceEntry, Rate
from sluice_core.usage.model import Usage
from sluice_schemas.money import format_usd

_INPUT = frozenset(
    {
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cache_write_1h_tokens",
        "input_audio_tokens",
    }
)


def charge(entry: PriceEntry, usage: Usage, *, started_at: datetime) -> Charge:
    """The charge for `usage`: half-even to the nano-dollar, once per meter; empty meters are left out.

    Raises ValueError where the entry's prices no longer held at `started_at`: it must be resolved again.
    """
    if entry.valid_until is not None and started_at >= entry.valid_until:
        raise ValueError(f"the price of {entry.model} was valid until {entry.valid_until}")
    total_input = usage.input_tokens
    meters: list[Meter] = []
    total = listed = 0
    for rate, quantity in _quantities(entry.rates, usage):
        if quantity <= 0:
            continue
        band = rate.bands[0] if len(rate.bands) == 1 else _band(rate, total_input)
        cost = _half_even(quantity * band.scaled, band.divisor)
        total += cost
        if entry.discounted:
            listed += _half_even(quantity * band.listed, band.divisor)
        meters.append(
            Meter(
                meter=rate.meter,
                quantity=quantity,
                unit=rate.unit,
                unit_price_usd=band.unit_price_usd,
                cost_nano=cost,
            )
        )
    return Charge(
        cost_nano=total,
        list_nano=listed if entry.discounted else total,
        meters=tuple(meters),
        price_version=entry.price_version,
    )


def worst_case(
    entry: PriceEntry, *, body_bytes: int, max_output_tokens: int, n: int, searches: int = 0
) -> int:
    """The most that a call can cost, in nano-dollars, rounded up.

    Every byte of the body counts as an input token at the dearest rate and band that so many tokens can
    reach; `max_output_tokens` × `n` at the dearest output rate. No charge for a usage within these bounds
    is higher.
    """
    dearest_in = dearest_out = per_request = 0
    for rate in entry.rates:
        if rate.meter in {"requests", "searches"}:
            times = searches if rate.meter == "searches" else 1
            per_request -= -times * rate.bands[0].scaled // rate.bands[0].divisor
            continue
        given = rate.meter in _INPUT
        quantity = body_bytes if given else max_output_tokens * n
        for band in rate.bands:
            if band.above < body_bytes:
                cost = -(-quantity * band.scaled // band.divisor)
                if given:
                    dearest_in = max(dearest_in, cost)
                else:
                    dearest_out = max(dearest_out, cost)
    total = dearest_in + dearest_out + per_request
    # A charge rounds each meter on its own, each by half a nano-dollar at most.
    return total + len(entry.rates) if total else 0


def unit_nano(entry: PriceEntry, meter: MeterName) -> float:
    """What one unit of a meter costs in its lowest band, in nano-dollars; 0 where it has no rate. To rank by, not to book."""
    rate = next((rate for rate in entry.rates if rate.meter == meter), None)
    return 0.0 if rate is None else rate.bands[0].scaled / rate.bands[0].divisor


def meter_document(meter: Meter) -> dict[str, object]:
    """A meter as `finance.usage.meters` holds it, its fields in the order that jsonb gives them."""
    return {
        "unit": meter.unit,
        "meter": meter.meter,
        "cost_usd": format_usd(meter.cost_nano),
        "quantity": meter.quantity,
        "unit_price_usd": meter.unit_price_usd,
    }


def _quantities(rates: tuple[Rate, ...], usage: Usage) -> Iterable[tuple[Rate, int]]:
    """Each rate's own quantity: what has a rate of its own is taken out of the total that includes it."""
    hour = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    text, output, written = usage.input_tokens, usage.output_tokens, usage.cache_write_tokens
    found: list[tuple[Rate, int]] = []
    first_input = first_output = None
    for rate in rates:
        match rate.meter:
            case "input_tokens":
                first_input = rate
                continue
            case "output_tokens":
                first_output = rate
                continue
            case "cache_read_tokens":
                quantity = usage.cache_read_tokens
                text -= quantity
            case "cache_write_1h_tokens":
                quantity = hour
                written -= hour
                text -= hour
            case "cache_write_tokens":
                quantity = written
                text -= written
            case "input_audio_tokens":
                quantity = usage.input_audio_tokens
                text -= quantity
            case "reasoning_tokens":
                quantity = usage.reasoning_tokens
                output -= quantity
            case "output_audio_tokens":
                quantity = usage.output_audio_tokens
                output -= quantity
            case "searches":
                quantity = usage.searches
            case _:
                quantity = 1
        if quantity:
            found.append((rate, quantity))
    head = [(rate, left) for rate, left in ((first_input, text), (first_output, output)) if rate]
    return head + found


def _band(rate: Rate, total_input: int) -> Band:
    chosen = rate.bands[0]
    for band in rate.bands:
        if total_input > band.above:
            chosen = band
    return chosen


def _half_even(amount: int, divisor: int) -> int:
    quotient, rest = divmod(amount, divisor)
    twice = rest * 2
    if twice > divisor or (twice == divisor and quotient & 1):
        return quotient + 1
    return quotient
