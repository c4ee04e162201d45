"""Prices and charges as values: rates are exact integers, money is whole nano-dollars."""

from datetime import datetime
from decimal import Decimal
from typing import Literal

from sluice_platform.values import frozen_value

RATE_SCALE = 10**18
"""A rate is held as dollars × this, so that every published price (up to 18 decimals) is an exact integer."""

UNPRICED = "unpriced"
"""The price version of an entry that no price is known for; policy decides what such a target may do."""

MeterName = Literal[
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "input_audio_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "requests",
    "searches",
]


@frozen_value
class Band:
    """A rate that applies to calls with more than `above` input tokens; `scaled` is dollars × RATE_SCALE.

    `listed` is the same before what was negotiated. `divisor` turns quantity × scaled into nano-dollars,
    `unit_price_usd` is the price of one unit, exactly.
    """

    above: int
    scaled: int
    listed: int
    divisor: int
    unit_price_usd: str


@frozen_value
class Rate:
    """What one meter costs: its bands, lowest first; the first has `above` = -1."""

    meter: MeterName
    unit: str
    bands: tuple[Band, ...]


@frozen_value
class PriceEntry:
    """What one model costs now; to be resolved again at `valid_until` (None: no change is known).

    `discounted`: what is paid is less than what is listed. A meter without a rate of its own is counted under the one that includes it: cached input under input,
    reasoning under output.
    """

    provider: str
    model: str
    rates: tuple[Rate, ...]
    price_version: str
    valid_until: datetime | None = None
    discounted: bool = False

    @property
    def priced(self) -> bool:
        """Whether any price is known."""
        return self.price_version != UNPRICED


@frozen_value
class PriceOverride:
    """Configured prices in dollars per million tokens; they replace the catalogue's as a whole, from `since` (UTC) on.

    `searches`: of a thousand searches of a ranking.

    Cached input and cache writes cost what input costs where they are not named.
    """

    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    cache_write: Decimal | None = None
    searches: Decimal | None = None
    since: datetime | None = None


@frozen_value
class Terms:
    """What the configuration says of a price: overrides in the order of their `since`, and what they are multiplied by.

    `tier` selects the catalogue's price of a service tier; where it has none, `tier_factor` holds (None: the tier costs
    what any call costs). `discount` is the share that is paid less than listed.
    """

    overrides: tuple[PriceOverride, ...] = ()
    tier: str | None = None
    tier_factor: Decimal | None = None
    region_factor: Decimal = Decimal(1)
    discount: Decimal = Decimal(0)


@frozen_value
class Meter:
    """One line of a charge, as a FOCUS row has it: quantity × unit price, rounded once."""

    meter: MeterName
    quantity: int
    unit: str
    unit_price_usd: str
    cost_nano: int


@frozen_value
class Charge:
    """What a call cost; `cost_nano` is the sum of its meters, `list_nano` the same at list prices."""

    cost_nano: int
    list_nano: int
    meters: tuple[Meter, ...]
    price_version: str
