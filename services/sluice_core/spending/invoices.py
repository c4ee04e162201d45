"""Pure: what providers' exports say was used, read from their CSV files, and how that differs from what was booked.

Read are the usage and cost exports of OpenAI's dashboard and of Anthropic's Console, and Google Cloud's billing export; a
form is recognised by its columns.
"""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Final

Row = Mapping[str, str]


class InvoiceError(ValueError):
    """A file that cannot be read; the message says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What was used or paid; None: the export, or the ledger, does not say.

    `input_tokens` includes cached ones, as everywhere in the gateway.
    """

    requests: int | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line of an export."""

    day: date
    model: str
    amounts: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What the ledger holds of a model at an account on a day (UTC)."""

    day: date
    model: str
    amounts: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number that is not the same: None where one side has nothing of it at all."""

    day: date
    model: str
    what: str
    booked: int | Decimal | None
    invoiced: int | Decimal | None

    @property
    def amount(self) -> int | Decimal:
        """Invoiced less booked."""
        return (self.invoiced or 0) - (self.booked or 0)


def read_invoice(text: str) -> tuple[str, list[InvoiceLine]]:
    """The form's name and its lines. Raises InvoiceError."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = {(name or "").strip().lower() for name in reader.fieldnames or ()}
    for form in _FORMS:
        if form.columns <= columns:
            return form.name, list(_lines(reader, form))
    known = "; ".join(f"{form.name}: {', '.join(sorted(form.columns))}" for form in _FORMS)
    found = ", ".join(sorted(columns)) or "none"
    raise InvoiceError(f"not an export that is known. Its columns: {found}. Known are {known}")


def _lines(reader: "csv.DictReader[str]", form: "_Form") -> Iterator[InvoiceLine]:
    for row in reader:
        named = {
            (k or "").strip().lower(): (v or "").strip()
            for k, v in row.items()
            if isinstance(v, str)
        }
        try:
            line = form.read(named)
        except (InvalidOperation, KeyError, ValueError) as exc:
            raise InvoiceError(
                f"line {reader.line_num} cannot be read as {form.name}: {exc}"
            ) from exc
        if line is not None:
            yield line


def differences(
    booked: Sequence[Booked], invoiced: Sequence[InvoiceLine], *, tolerance: Decimal
) -> list[Difference]:
    """Every number of a day and model that differs by more than the share `tolerance`, by day and model.

    Names of dated versions (`gpt-4o-mini-2024-07-18`) and of products (`Gemini 2.5 Flash`) count as the model that was booked.
    Numbers that an export does not have are not compared.
    """
    names = sorted({line.model for line in booked}, key=len, reverse=True)
    ours: dict[tuple[date, str], Amounts] = _summed((b.day, b.model, b.amounts) for b in booked)
    theirs = _summed((i.day, _named(i.model, names), i.amounts) for i in invoiced)
    told = {
        f.name
        for f in fields(Amounts)
        if any(getattr(a, f.name) is not None for a in theirs.values())
    }
    days = {day for day, _ in theirs}
    found: list[Difference] = []
    for day, model in sorted({*theirs, *(key for key in ours if key[0] in days)}):
        mine, his = ours.get((day, model), Amounts()), theirs.get((day, model), Amounts())
        for field in fields(Amounts):
            one, other = getattr(mine, field.name), getattr(his, field.name)
            if field.name in told and _differ(one, other, tolerance):
                found.append(
                    Difference(day=day, model=model, what=field.name, booked=one, invoiced=other)
                )
    return found


def _differ(one: int | Decimal | None, other: int | Decimal | None, tolerance: Decimal) -> bool:
    mine, his = Decimal(one or 0), Decimal(other or 0)
    return abs(mine - his) > tolerance * max(abs(mine), abs(his))


def _summed(lines: Iterable[tuple[date, str, Amounts]]) -> dict[tuple[date, str], Amounts]:
    sums: dict[tuple[date, str], dict[str, int | Decimal]] = defaultdict(dict)
    for day, model, amounts in lines:
        total = sums[day, model]
        for field in fields(Amounts):
            value = getattr(amounts, field.name)
            if value is not None:
                total[field.name] = total.get(field.name, 0) + value
    return {key: Amounts(**total) for key, total in sums.items()}  # type: ignore[arg-type]


_DATED: Final = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2}|latest|\d{3})$")


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _named(invoiced: str, names: Sequence[str]) -> str:
    """The booked name that an invoiced one means; its own where none does. `names`: the longest first."""
    slug = _slug(invoiced)
    plain = _DATED.sub("", slug)
    for name in names:
        mine = _slug(name.rsplit("/", 1)[-1])
        if mine in {slug, plain} or _DATED.sub("", mine) == plain:
            return name
    if " " not in invoiced:
        return invoiced
    # A product's name is followed by what of it is billed: "Gemini 2.5 Flash Text Input - Predictions".
    return next((n for n in names if slug.startswith(_slug(n.rsplit("/", 1)[-1]) + "-")), invoiced)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    name: str
    columns: frozenset[str]
    read: Callable[[Row], InvoiceLine | None]


def _day(text: str) -> date:
    if text.isdigit():
        return datetime.fromtimestamp(int(text), UTC).date()
    return datetime.fromisoformat(text).date()


def _count(row: Row, *names: str) -> int:
    return sum(int(Decimal(row[name])) for name in names if row.get(name))


def _money(text: str) -> Decimal:
    return Decimal(text.replace(",", "").lstrip("$") or "0")


def _openai_usage(row: Row) -> InvoiceLine | None:
    if not row["model"]:
        return None
    return InvoiceLine(
        day=_day(row["start_time"]),
        model=row["model"],
        amounts=Amounts(
            requests=_count(row, "num_model_requests"),
            input_tokens=_count(row, "input_tokens"),
            cache_read_tokens=_count(row, "input_cached_tokens"),
            output_tokens=_count(row, "output_tokens"),
        ),
    )


def _openai_costs(row: Row) -> InvoiceLine | None:
    if not row["line_item"]:
        return None
    # "gpt-4o-mini-2024-07-18, input"
    model = row["line_item"].split(",", 1)[0].strip()
    amounts = Amounts(cost_usd=_money(row["amount_value"]))
    return InvoiceLine(day=_day(row["start_time"]), model=model, amounts=amounts)


_ANTHROPIC_INPUT: Final = (
    "usage_input_tokens_no_cache",
    "usage_input_tokens_cache_write_5m",
    "usage_input_tokens_cache_write_1h",
    "usage_input_tokens_cache_read",
)


def _anthropic_usage(row: Row) -> InvoiceLine:
    return InvoiceLine(
        day=_day(row["usage_date_utc"]),
        model=row["model_version"],
        amounts=Amounts(
            input_tokens=_count(row, *_ANTHROPIC_INPUT),
            cache_read_tokens=_count(row, _ANTHROPIC_INPUT[3]),
            cache_write_tokens=_count(row, *_ANTHROPIC_INPUT[1:3]),
            output_tokens=_count(row, "usage_output_tokens"),
        ),
    )


def _anthropic_costs(row: Row) -> InvoiceLine:
    return InvoiceLine(
        day=_day(row["usage_date_utc"]),
        model=row["model"],
        amounts=Amounts(cost_usd=_money(row["cost_usd"])),
    )


def _google(row: Row) -> InvoiceLine | None:
    if not row["sku description"]:
        return None  # taxes, rounding
    return InvoiceLine(
        day=_day(row["usage start date"]),
        model=row["sku description"],
        amounts=Amounts(cost_usd=_money(row["cost ($)"])),
    )


_FORMS: Final = (
    _Form(
        name="OpenAI usage",
        columns=frozenset({"start_time", "model", "input_tokens", "output_tokens"}),
        read=_openai_usage,
    ),
    _Form(
        name="OpenAI costs",
        columns=frozenset({"start_time", "amount_value", "line_item"}),
        read=_openai_costs,
    ),
    _Form(
        name="Anthropic usage",
        columns=frozenset({"usage_date_utc", "model_version", "usage_output_tokens"}),
        read=_anthropic_usage,
    ),
    _Form(
        name="Anthropic costs",
        columns=frozenset({"usage_date_utc", "model", "cost_usd"}),
        read=_anthropic_costs,
    ),
    _Form(
        name="Google Cloud billing",
        columns=frozenset({"sku description", "usage start date", "cost ($)"}),
        read=_google,
    ),
)
