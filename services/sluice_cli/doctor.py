"""`sluice doctor`: measures everything the gateway stands on, and says what to do where it is wrong."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from sluice_cli.output import Json, lay_out, print_json, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.health.model import Finding
    from sluice_platform.settings import Settings

_MARKS = {
    "ok": "[green]ok[/green]",
    "warning": "[yellow]warning[/yellow]",
    "problem": "[red]problem[/red]",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(json_output: Json = False) -> None:
    """Check servers, versions, durability, clocks, topics, partitions and live processes.

    Exits 1 where something is a problem; every finding says what to do.

    Example: `sluice doctor --json | jq '.findings[] | select(.level != "ok")'`
    """
    from sluice_cli.session import settings
    from sluice_core.health.policy import healthy

    found = asyncio.run(examine(settings()))
    fine = healthy(found)
    if json_output:
        print_json({"ok": fine, "findings": found})
    else:
        _print(found)
        say("everything is as it should be" if fine else "there are problems: see above")
    if not fine:
        raise typer.Exit(1)


def _print(found: "list[Finding]") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(header_style="dim")
    for title in ("check", "", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in found:
        cells = (finding.check, finding.message, finding.advice)
        check, message, advice = (escape(cell) for cell in cells)
        table.add_row(check, _MARKS[finding.level], message, advice)
    if not lay_out(table):
        for finding in found:
            advice = f"; {finding.advice}" if finding.advice else ""
            say(f"{finding.level:<8} {finding.check}: {finding.message}{advice}")


async def examine(given: "Settings") -> "list[Finding]":
    """Every finding; a server that cannot be asked is a finding itself, never an exception."""
    config, found = _configuration(given)
    database, broker = await asyncio.gather(_database(given), _broker(given, config))
    return [*found, *database, *broker]


def _configuration(given: "Settings") -> "tuple[Config | None, list[Finding]]":
    from sluice_cli.session import configuration
    from sluice_core.health.model import Finding
    from sluice_core.health.policy import price_findings
    from sluice_core.pricing.book import PriceBook
    from sluice_platform.errors import StartupError

    try:
        config = configuration(given)
    except StartupError as exc:
        advice = "set SLUICE_CONFIG; see `sluice config check`"
        return None, [_unreachable("configuration", str(exc), advice)]
    read = Finding(check="configuration", level="ok", message=str(given.config))
    return config, [read, *price_findings(config, PriceBook(), datetime.now(UTC))]


async def _database(given: "Settings") -> "list[Finding]":
    import asyncpg

    from sluice_cli.migrations import revisions
    from sluice_cli.session import ledger
    from sluice_core.health.model import Finding
    from sluice_core.health.policy import key_findings, ledger_findings, server_findings
    from sluice_core.health.repository import HealthRepository
    from sluice_core.keys.repository import KeyRepository
    from sluice_platform.errors import StartupError

    found: list[Finding] = []
    try:
        async with ledger(given) as pool:
            health = HealthRepository(pool)
            found += server_findings(await health.server())
            current, head = await revisions(given.need_direct_database())
            found += ledger_findings(await health.ledger(current, head))
            if current is not None and given.master_key is not None:
                current_key, *previous = given.master_keys()
                seals = await KeyRepository(pool).seals(
                    current_key, previous[0] if previous else None
                )
                found += key_findings(seals, previous_set=bool(previous))
    except StartupError as exc:
        found.append(_unreachable("postgres", str(exc), "set SLUICE_DATABASE and start the server"))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        found.append(
            _unreachable("postgres", repr(exc), "see the server's log and this role's rights")
        )
    return found


async def _broker(given: "Settings", config: "Config | None") -> "list[Finding]":
    from aiokafka import AIOKafkaConsumer
    from aiokafka.errors import KafkaError

    from sluice_cli.session import broker
    from sluice_core.health.model import Finding
    from sluice_core.health.policy import broker_findings
    from sluice_core.health.service import measure_broker
    from sluice_core.topics.policy import declared_reply_topics, wanted
    from sluice_platform.errors import StartupError
    from sluice_platform.kafka import security

    found: list[Finding] = []
    specs = () if config is None else wanted(config)
    replies = () if config is None else declared_reply_topics(config)
    try:
        async with broker(given) as admin:
            consumer = AIOKafkaConsumer(bootstrap_servers=given.need_kafka(), **security(given))
            async with consumer:
                found += broker_findings(await measure_broker(admin, consumer, specs, replies))
    except StartupError as exc:
        found.append(_unreachable("kafka", str(exc), "set SLUICE_KAFKA and start the brokers"))
    except (OSError, TimeoutError, KafkaError) as exc:
        found.append(
            _unreachable("kafka", repr(exc), "see the brokers' logs and this principal's rights")
        )
    return found


def _unreachable(check: str, message: str, advice: str) -> "Finding":
    from sluice_core.health.model import Finding

    return Finding(check=check, level="problem", message=message, advice=advice)
