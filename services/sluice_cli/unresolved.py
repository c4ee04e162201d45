"""`sluice unresolved list | settle`: attempts whose outcome nobody knows, and the way out."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.spending.model import Unresolved
    from sluice_platform.settings import Settings

app = group(
    "Provider calls of unknown outcome: their money is held until somebody says what it was."
)


@app.command("list")
def list_unresolved(
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 100, json_output: Json = False
) -> None:
    """List what is held, the oldest first, with the provider's request id to ask about.

    Example: `sluice unresolved list`
    """
    from sluice_cli.session import run, settings

    found = run(_list(settings(), limit))
    if json_output:
        print_json(found)
        return
    columns = [
        *(Column(title=title, whole=True) for title in ("id", "job")),
        *(Column(title=title) for title in ("attempt", "tenant", "account", "model")),
        Column(title="held, USD", right=True),
        *(Column(title=title) for title in ("since", "age", "provider's request id")),
    ]
    now = datetime.now(UTC)
    rows = [
        (
            *(u.usage_id, u.job_id, u.attempt, u.tenant, u.account, u.provider_model, u.held_usd),
            *(u.since, f"{(now - u.since).total_seconds() / 3600:.1f} h", u.provider_request_id),
        )
        for u in found
    ]
    print_table("Unresolved", columns, rows)


@app.command()
def settle(
    name: Annotated[str, typer.Argument(metavar="ID", help="The usage id, or the job's id.")],
    cost_usd: Annotated[
        str | None, typer.Option(help="What the provider billed, such as 0.0021.")
    ] = None,
    not_billed: Annotated[
        bool, typer.Option("--not-billed", help="The provider did not bill it.")
    ] = False,
    reason: Annotated[str, typer.Option(help="How you know; kept in the audit.")] = "",
    json_output: Json = False,
) -> None:
    """Book what a call really cost, as a correction; the published result never changes.

    Example: `sluice unresolved settle 0192… --cost-usd 0.0021 --reason "invoice of 3 November"`
    """
    from sluice_cli.session import run, settings, uuid_of

    cost_nano = read_cost(cost_usd, not_billed=not_billed)
    if not reason.strip():
        raise typer.BadParameter("say how you know: --reason TEXT")
    booked, correction = run(_settle(settings(), uuid_of(name), cost_nano, reason.strip()))
    if json_output:
        print_json({"usage_id": booked, "correction_id": correction, "cost_nano_usd": cost_nano})
    else:
        say(f"{booked} is settled by correction {correction}")


def read_cost(cost_usd: str | None, *, not_billed: bool) -> int:
    """Nano-dollars from exactly one of the two options; BadParameter otherwise."""
    from sluice_schemas.money import parse_usd

    if (cost_usd is None) == (not not_billed):
        raise typer.BadParameter("give exactly one of --cost-usd X and --not-billed")
    try:
        return 0 if cost_usd is None else parse_usd(cost_usd)
    except ValueError as exc:
        raise typer.BadParameter(f"--cost-usd {exc}") from exc


async def _list(given: "Settings", limit: int) -> "list[Unresolved]":
    from sluice_cli.session import ledger
    from sluice_core.spending.repository import SpendingRepository

    async with ledger(given) as pool:
        return list(await SpendingRepository(pool).unresolved(limit))


async def _settle(given: "Settings", name: UUID, cost_nano: int, reason: str) -> tuple[UUID, UUID]:
    from sluice_cli.session import actor, ledger
    from sluice_core.spending.repository import SpendingRepository

    async with ledger(given) as pool:
        spending = SpendingRepository(pool)
        held = await spending.find_unresolved(name)
        if not held:
            raise Refused(f"nothing is held for {name}: see `sluice unresolved list`")
        if len(held) > 1:
            listed = ", ".join(str(usage_id) for usage_id in held)
            raise Refused(f"job {name} has several unresolved attempts; settle each: {listed}")
        correction = await spending.settle(
            held[0], cost_nano=cost_nano, reason=reason, actor=actor()
        )
        if correction is None:
            raise Refused(f"{held[0]} was settled by somebody else just now")
        return held[0], correction
