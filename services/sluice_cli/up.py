"""`sluice up`: the whole gateway on this machine, until Ctrl-C."""

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Json, print_json, say

if TYPE_CHECKING:
    from sluice_cli.system import Plan, System

DataDirectory = Annotated[
    Path | None,
    typer.Option("--data", help="Where its data lies; default: $SLUICE_DATA, else .sluice here."),
]
Kafka = Annotated[
    str | None,
    typer.Option("--kafka", help="Bootstrap servers to use instead of the embedded one."),
]
Database = Annotated[
    str | None, typer.Option("--database", help="A postgresql:// DSN to use instead.")
]
Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="How many workers.")]

QUERIES = (
    (
        "cost per project, this month",
        (
            "select project, sum(calls) as calls, sum(cost_usd) as usd from finance.usage_daily"
            " where day >= date_trunc('month', now()) group by 1 order by 3 desc;"
        ),
    ),
    (
        "tokens per model and day",
        (
            "select day, model_requested, sum(input_tokens) as input, sum(output_tokens) as output"
            " from finance.usage_daily group by 1, 2 order by 1 desc, 2;"
        ),
    ),
    (
        "runs and their cost",
        (
            "select run_id, jobs, succeeded, failed, cost_usd from finance.runs order by created_at desc limit 20;"
        ),
    ),
    (
        "money held for calls of unknown outcome",
        ("select tenant, count(*), sum(held_usd) from finance.unresolved group by 1;"),
    ),
    (
        "budgets: what is left, and where it will end",
        (
            "select scope, period, cap, spent, remaining, forecast from finance.budgets"
            " where active and coalesce(ends_at, 'infinity') > now() order by scope;"
        ),
    ),
)
"""What finance may ask first: a title and a query each."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    *,
    data: DataDirectory = None,
    workers: Workers = 1,
    kafka: Kafka = None,
    database: Database = None,
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="A sluice.yaml; default: one in the data directory."
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Run Kafka, PostgreSQL, workers and a keeper on this machine until Ctrl-C.

    A second start finds its data. With no provider configured, a mock provider answers at no cost.

    Example: `sluice up --workers 2`, then `source .sluice/env` in another shell
    """
    plan = plan_of(data, workers, kafka, database, config)
    raise typer.Exit(_lived(plan, json_output=json_output))


def plan_of(
    data: Path | None, workers: int, kafka: str | None, database: str | None, config: Path | None
) -> "Plan":
    """The plan that the options make."""
    from sluice_cli.system import Plan

    directory = data or Path(os.environ.get("SLUICE_DATA") or ".sluice")
    return Plan(
        data=directory.resolve(), workers=workers, kafka=kafka, database=database, config=config
    )


def _lived(plan: "Plan", *, json_output: bool) -> int:
    from sluice_cli.system import System
    from sluice_platform.lifecycle import run
    from sluice_platform.logging import configure_logging

    configure_logging(level="ERROR")

    def report(step: str) -> None:
        sys.stderr.write(f"  {step}\n")

    async def live(stop: asyncio.Event) -> int:
        async with System(plan, report) as system:
            if not stop.is_set():
                _announce(plan, system, json_output=json_output)
            await system.supervise(stop)
            report("stopping")
        return 0

    return run(live)


def _announce(plan: "Plan", system: "System", *, json_output: bool) -> None:
    environment = system.environment
    if json_output:
        print_json(
            {
                "kafka": environment["SLUICE_KAFKA"],
                "database": environment["SLUICE_DATABASE"],
                "finance": system.finance_dsn,
                "config": system.config_path,
                "mock_provider": system.mock_url,
                "environment": plan.data / "env",
                "logs": plan.data / "logs",
            }
        )
    else:
        say(described(plan, system))
    sys.stdout.flush()


def described(plan: "Plan", system: "System") -> str:
    """How to connect, for people."""
    environment = system.environment
    lines = [
        "",
        "Sluicegate is up. Ctrl-C stops it; the data stays.",
        "",
        f"  Kafka       {environment['SLUICE_KAFKA']}",
        f"  PostgreSQL  {environment['SLUICE_DATABASE']}",
        f"  config      {system.config_path}",
        f"  logs        {plan.data / 'logs'}",
    ]
    if system.mock_url is not None:
        lines.append(f"  provider    {system.mock_url} (a mock: answers cost nothing)")
    lines += [
        "",
        f"In another shell:  source {plan.data / 'env'}",
        "  sluice doctor",
        "  sluice submit FILE.jsonl --class bulk --wait",
    ]
    if system.finance_dsn is not None:
        lines += ["", f'As finance:  psql "{system.finance_dsn}"']
        for title, query in QUERIES:
            lines += [f"  -- {title}", f"  {query}"]
    return "\n".join(lines)
