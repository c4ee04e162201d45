"""`sluice usage report`: what was used and what it cost, by any dimension."""

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.spending.model import UsageLine, UsageQuery
    from sluice_platform.settings import Settings

app = group("Usage and cost, from the tables that finance reads.")


@app.callback()
def _group() -> None:
    """Keep `report` a command of its own."""


@app.command()
def report(
    *,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="project, model, tenant, team, app, user, run, class, day, account, provider, outcome; repeatable."
        ),
    ] = None,
    since: Annotated[str, typer.Option(help="First UTC day: 2026-11-01, or 30d ago.")] = "30d",
    until: Annotated[str | None, typer.Option(help="First UTC day left out.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant alone.")] = None,
    json_output: Json = False,
) -> None:
    """Sum calls, tokens and cost per group, the dearest first.

    Example: `sluice usage report --by project --by model --since 2026-11-01`
    """
    from sluice_cli.session import moment, run, settings
    from sluice_core.spending.model import UsageQuery

    query = UsageQuery(
        by=dimensions(by or ["project"]),
        since=moment(since).date(),
        until=None if until is None else moment(until).date(),
        tenant=tenant,
    )
    lines, unpriced = run(_report(settings(), query))
    if json_output:
        print_json(
            {
                "since": query.since,
                "until": query.until,
                "lines": as_objects(query, lines),
                "unpriced_calls": unpriced,
            }
        )
        return
    print_report(query, lines)
    if unpriced:
        say(unpriced_line(unpriced))


def unpriced_line(unpriced: dict[str, int]) -> str:
    """What calls booked at no price mean; `unpriced` counts them by model."""
    models = ", ".join(f"{model} ({calls:,})" for model, calls in unpriced.items())
    return (
        f"{sum(unpriced.values()):,} calls are in it at cost 0, their models' prices being unknown: "
        f"{models}; write models.NAME.prices for the calls to come"
    )


def dimensions(names: list[str]) -> tuple[str, ...]:
    """Columns of the report by the names that people say, `a,b` too; Refused for an unknown one."""
    from sluice_core.spending.model import DIMENSIONS, SHORT

    wanted = [name.strip() for text in names for name in text.split(",") if name.strip()]
    columns = [SHORT.get(name, name) for name in wanted]
    unknown = [name for name in columns if name not in DIMENSIONS]
    if unknown or not columns:
        raise Refused(
            f"--by: no dimension {', '.join(unknown) or '(none given)'}; "
            f"there are: {', '.join((*DIMENSIONS, *SHORT))}"
        )
    return tuple(dict.fromkeys(columns))


def as_objects(query: "UsageQuery", lines: "list[UsageLine]") -> list[dict[str, object]]:
    """Each line as one flat object."""
    return [
        {
            **dict(zip(query.by, line.group, strict=True)),
            "calls": line.calls,
            "input_tokens": line.input_tokens,
            "output_tokens": line.output_tokens,
            "cost_usd": f"{line.cost_usd:.9f}",
            "list_cost_usd": f"{line.list_cost_usd:.9f}",
        }
        for line in lines
    ]


def print_report(query: "UsageQuery", lines: "list[UsageLine]") -> None:
    """A table with a line of totals."""
    columns = [
        *(Column(title=name) for name in query.by),
        *(Column(title=title, right=True) for title in ("calls", "input", "output", "cost, USD")),
    ]
    rows: list[tuple[object, ...]] = [
        (*line.group, line.calls, line.input_tokens, line.output_tokens, f"{line.cost_usd:.6f}")
        for line in lines
    ]
    if rows:
        rows.append(totals(query, lines))
    print_table(f"Usage {_span(query.since, query.until)}", columns, rows)


def totals(query: "UsageQuery", lines: "list[UsageLine]") -> tuple[object, ...]:
    """The last row of the table."""
    blank = ("",) * (len(query.by) - 1)
    return (
        "total",
        *blank,
        sum(line.calls for line in lines),
        sum(line.input_tokens for line in lines),
        sum(line.output_tokens for line in lines),
        f"{sum((line.cost_usd for line in lines), Decimal(0)):.6f}",
    )


def _span(since: date, until: date | None) -> str:
    return f"since {since}" if until is None else f"from {since} up to {until}"


async def _report(
    given: "Settings", query: "UsageQuery"
) -> "tuple[list[UsageLine], dict[str, int]]":
    from sluice_cli.session import ledger
    from sluice_core.spending.repository import SpendingRepository

    async with ledger(given) as pool:
        spending = SpendingRepository(pool)
        return list(await spending.report(query)), await spending.unpriced(query)
