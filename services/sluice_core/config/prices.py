"""What may be said in `sluice.yaml` of prices: of models, of service tiers and regions, and what is negotiated."""

from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sluice_core.config.base import Price, Section

Unpriced = Literal["warn", "zero", "refuse"]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _number(value: Any) -> Any:
    # YAML reads 0.15 as a float; its shortest text is what was written.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Prices(Section):
    """Prices that replace the catalogue's, in US dollars per million tokens, from a day (UTC) or a moment on.

    Cached input and cache writes cost what input costs where they are not named. `searches`: a thousand searches of a
    ranking; where that is the whole price, `input` is 0.
    """

    input: Price
    cached_input: Price | None = None
    cache_write: Price | None = None
    output: Price = Decimal(0)
    searches: Price | None = None
    since: datetime | date | None = Field(default=None, alias="from")


PriceList = Annotated[tuple[Prices, ...], BeforeValidator(_as_list)]
"""One price, or several that take force one after the other, each from its `from` on."""
Factor = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(gt=0, le=100, allow_inf_nan=False, max_digits=12, decimal_places=6),
]
Share = Annotated[
    Decimal,
    BeforeValidator(_number),
    Field(ge=0, lt=1, allow_inf_nan=False, max_digits=12, decimal_places=6),
]


class AccountPrices(Section):
    """An account's prices: those of models by their names there, factors on them, and what was negotiated.

    `tiers` are factors of service tiers of which the catalogue has no prices, `regions` of targets' regions.
    `discount` is the share that is paid less than the list price. `unpriced`: calls of models without a known price
    are booked at 0, which their results and an alert say (`warn`) or not (`zero`), or are refused.
    """

    models: dict[str, PriceList] = {}
    tiers: dict[str, Factor] = {}
    regions: dict[str, Factor] = {}
    discount: Share = Decimal(0)
    unpriced: Unpriced = "warn"
