"""`sluice usage reconcile`: what a provider's export says against what was booked."""

import csv
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.spending.invoices import Booked, InvoiceLine
    from sluice_platform.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    app.command()(reconcile)


def reconcile(
    file: Annotated[
        Path, typer.Argument(help="The provider's export, as it was downloaded (CSV).")
    ],
    *,
    account: Annotated[str, typer.Option(help="The account (under providers:) that it bills.")],
    tolerance: Annotated[
        str, typer.Option(help="Differences up to this share are not told: 0.01 is one per cent.")
    ] = "0",
    json_output: Json = False,
) -> None:
    """List where a provider's export and the booked usage differ, by day and model.

    Read are the usage and the cost exports of OpenAI's dashboard and of Anthropic's Console, and Google Cloud's billing
    export (Gemini and Vertex); the form is found by the columns. Exits 1 where anything differs.

    Example: `sluice usage reconcile costs_2026-11-01_2026-11-30.csv --account openai --tolerance 0.001`
    """
    from sluice_cli.session import read_text, run, settings
    from sluice_core.spending.invoices import InvoiceError, differences, read_invoice

    share = _share(tolerance)
    try:
        form, lines = read_invoice(read_text(file))
    except (InvoiceError, csv.Error) as exc:
        raise Refused(f"{file}: {exc}") from exc
    if not lines:
        raise Refused(f"{file}: holds no line of a model")
    booked = run(_booked(settings(), account, lines))
    found = differences(booked, lines, tolerance=share)
    days = sorted({line.day for line in lines})
    if json_output:
        print_json(
            {
                "form": form,
                "account": account,
                "first_day": days[0],
                "last_day": days[-1],
                "differences": [
                    {
                        "day": d.day,
                        "model": d.model,
                        "what": d.what,
                        "booked": d.booked,
                        "invoiced": d.invoiced,
                        "difference": d.amount,
                    }
                    for d in found
                ],
            }
        )
    else:
        columns = [
            *(Column(title=title) for title in ("day", "model", "what")),
            *(Column(title=title, right=True) for title in ("booked", "invoiced", "difference")),
        ]
        title = f"{form}, {account}, {days[0]} to {days[-1]}"
        rows = [(d.day, d.model, d.what, d.booked, d.invoiced, d.amount) for d in found]
        if rows:
            print_table(title, columns, rows)
        else:
            say(f"{title}: all of {len(lines):,} lines are as booked")
    if found:
        raise typer.Exit(1)


def _share(text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation as exc:
        raise Refused(f"--tolerance {text}: write a share such as 0.01") from exc
    if not 0 <= share < 1:
        raise Refused(f"--tolerance {text}: write a share from 0 to below 1")
    return share


async def _booked(given: "Settings", account: str, lines: "list[InvoiceLine]") -> "list[Booked]":
    from sluice_cli.session import ledger
    from sluice_core.spending.repository import SpendingRepository

    days = [line.day for line in lines]
    async with ledger(given) as pool:
        return list(await SpendingRepository(pool).booked(account, min(days), max(days)))
