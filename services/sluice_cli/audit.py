"""`sluice audit list | denials`: who changed what, and who was refused."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, group, plain, print_json, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from sluice_core.audit.model import AuditEntry
    from sluice_core.policies.model import DeniedAt
    from sluice_platform.settings import Settings

app = group("Who changed what, and who was refused: records that nobody can alter.")

Since = Annotated[
    str, typer.Option(help="From when on: 2026-11-01, an RFC 3339 time, or 24h / 7d ago.")
]
Limit = Annotated[int, typer.Option(min=1, max=100_000, help="At most this many, the newest.")]


@app.command("list")
def list_entries(
    since: Since = "7d",
    subject: Annotated[
        str | None,
        typer.Option(help="Only changes of this: a key's id, a configuration's version."),
    ] = None,
    limit: Limit = 100,
    json_output: Json = False,
) -> None:
    """List changes: who, what, before and after. Each is on the audit topic too.

    Example: `sluice audit list --since 30d --subject sgk_0123456789abcdef01234567`
    """
    from sluice_cli.session import moment, run, settings

    found = run(_entries(settings(), moment(since), subject, limit))
    if json_output:
        print_json(found)
        return
    titles = ("at", "actor", "action", "subject", "before", "after")
    rows = [
        (e.at, e.actor, e.action, e.subject, _compact(e.before), _compact(e.after)) for e in found
    ]
    print_table("Audit", [Column(title=t, whole=t == "subject") for t in titles], rows)


@app.command()
def denials(
    since: Since = "24h",
    tenant: Annotated[str | None, typer.Option(help="Only refusals of this tenant's.")] = None,
    limit: Limit = 100,
    json_output: Json = False,
) -> None:
    """List callers that were refused when their records were read: whose, by which rule.

    Example: `sluice audit denials --tenant acme --since 1h`
    """
    from sluice_cli.session import moment, run, settings

    found = run(_denials(settings(), moment(since), tenant, limit))
    if json_output:
        print_json([{"at": d.at, **plain(d.denial)} for d in found])
        return
    names = ("tenant", "key_id", "project", "user_id", "topic", "model", "code", "rule")
    rows = [(d.at, *(getattr(d.denial, name) for name in names)) for d in found]
    columns = [Column(title=title, whole=title == "key_id") for title in ("at", *names)]
    print_table("Denials", columns, rows)


def _compact(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _entries(
    given: "Settings", at: "datetime", subject: str | None, limit: int
) -> "list[AuditEntry]":
    from sluice_cli.session import ledger
    from sluice_core.audit.repository import AuditRepository

    async with ledger(given) as pool:
        return await AuditRepository(pool).since(at, subject, limit)


async def _denials(
    given: "Settings", at: "datetime", tenant: str | None, limit: int
) -> "list[DeniedAt]":
    from sluice_cli.session import ledger
    from sluice_core.policies.repository import DenialRepository

    async with ledger(given) as pool:
        return await DenialRepository(pool).since(at, tenant, limit)
