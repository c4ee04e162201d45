"""A budget's period as people see it, and how they name its scope."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from sluice_core.admission.model import ScopeKind

PERIODS: Final = ("day", "week", "month", "quarter", "total")
BUDGETED: Final = {
    kind.label: kind
    for kind in (
        ScopeKind.TENANT,
        ScopeKind.TEAM,
        ScopeKind.PROJECT,
        ScopeKind.APP,
        ScopeKind.USER,
        ScopeKind.KEY,
        ScopeKind.RUN,
    )
}
"""The kinds of scopes that a budget may be of, by name."""
LARGEST_NANO: Final = 4 * 10**18
"""The most that a cap may be, and that a period's top-ups may come to: both together stay within 64 bits."""
_PARTS: Final = {"tenant": 1, "app": 3}


class TooMuch(ValueError):
    """More than the ledger keeps of one budget; the message says of what, and how much it may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetLine:
    """A row of `finance.budgets`; money in US dollars."""

    scope: str
    per: str
    period: str
    kind: str
    cap: Decimal
    spent: Decimal
    held: Decimal
    reserved: Decimal
    remaining: Decimal
    forecast: Decimal | None
    zone: str
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeName:
    """A scope as `kind:name` says it, such as `project:acme/search` or `run:acme/nightly`."""

    kind: ScopeKind
    name: str

    @classmethod
    def parse(cls, text: str) -> "ScopeName":
        """Read `kind:name`; ValueError says what to write instead."""
        label, _, name = text.partition(":")
        kind = BUDGETED.get(label)
        if kind is None:
            raise ValueError(
                f"{text!r} is no scope: write {', '.join(f'{known}:…' for known in BUDGETED)}"
            )
        parts = name.split("/", 2 if label == "app" else 1)
        if len(parts) != _PARTS.get(label, 2) or not all(parts):
            wanted = {"tenant": "tenant:acme", "app": "app:acme/search/web"}
            example = wanted.get(label, f"{label}:acme/NAME")
            raise ValueError(f"{text!r} is not whole: write it as {example}")
        return cls(kind=kind, name=name)
