"""What every part of a configuration is made of."""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A part of the configuration: immutable, and an unknown name in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _price(value: Any) -> Any:
    # YAML reads 0.15 as a float; its shortest text is what was written, so no cent is lost.
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Price = Annotated[Decimal, BeforeValidator(_price), Field(ge=0, allow_inf_nan=False, max_digits=24)]
"""US dollars per million tokens."""

Money = Annotated[
    Decimal,
    BeforeValidator(_price),
    Field(ge=0, allow_inf_nan=False, max_digits=18, decimal_places=9),
]
"""US dollars, to the nano-dollar at most; below nine billion dollars, which is what the ledger's integers hold."""
