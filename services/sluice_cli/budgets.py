"""`sluice budgets list | set | reset | topup`: what may be spent, was spent and is set aside."""

from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from sluice_cli.output import Column, Json, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.budgets.model import ScopeName
    from sluice_core.budgets.service import BudgetService

T = TypeVar("T")

app = group("Budgets: caps, what was spent, and what calls in flight have reserved.")

Scope = Annotated[
    str,
    typer.Argument(
        metavar="SCOPE",
        help="Whose: tenant:acme, team:acme/ml, project:acme/search, app:acme/search/web, "
        "user:acme/u_…, key:acme/sgk_…, run:acme/nightly.",
    ),
]
Per = Annotated[str, typer.Option(help="day, week, month, quarter or total.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]


@app.command("list")
def list_budgets(
    scope: Annotated[str | None, typer.Argument(metavar="[SCOPE]", help="Of this alone.")] = None,
    past: Annotated[bool, typer.Option("--past", help="Past periods too.")] = False,
    json_output: Json = False,
) -> None:
    """List budgets: cap, spent, held (unknown outcomes), reserved (calls in flight), what remains.

    Example: `sluice budgets list project:acme/search`
    """
    if scope is not None:
        _scope(scope)
    found = _served(lambda service: service.lines(scope, past=past))
    if json_output:
        print_json(found)
        return
    money = ("cap", "spent", "held", "reserved", "remaining", "forecast")
    columns = [
        Column(title="scope", whole=True),
        *(Column(title=title) for title in ("period", "kind")),
        *(Column(title=f"{title}, USD", right=True) for title in money),
    ]
    rows = [
        (line.scope, line.period, line.kind, *(getattr(line, name) for name in money))
        for line in found
    ]
    print_table("Budgets", columns, rows)


@app.command("set")
def set_budget(
    scope: Scope,
    *,
    usd: Annotated[str, typer.Option(help="The cap, such as 500 or 0.25.")],
    per: Per = "month",
    zone: Annotated[str | None, typer.Option(help="Time zone of a new budget's calendar.")] = None,
    soft: Annotated[
        bool | None, typer.Option("--soft/--hard", help="Alert only, or never exceed.")
    ] = None,
    reason: Reason = "",
    json_output: Json = False,
) -> None:
    """Raise or lower a budget, or make one; in force at once, for all workers.

    It stands instead of what sluice.yaml says until `sluice budgets reset`. Jobs that wait for money
    (`on_budget: wait`) ask again.

    Example: `sluice budgets set run:acme/nightly --per total --usd 20 --reason "trial"`
    """
    from zoneinfo import available_timezones

    name, money = _scope(scope), _usd(usd)
    _check(per, reason)
    if zone is not None and zone not in available_timezones():
        raise typer.BadParameter(f"--zone {zone!r} is no time zone: write UTC or Europe/Berlin")
    woken = _served(
        lambda service: service.set_cap(
            name,
            per=per,
            usd=money,
            zone=zone,
            hard=None if soft is None else not soft,
            reason=reason.strip(),
        )
    )
    _tell(scope, per, f"may spend {usd} USD", woken, json_output=json_output)


@app.command()
def reset(scope: Scope, per: Per = "month", reason: Reason = "", json_output: Json = False) -> None:
    """Put back what sluice.yaml says; a budget that it does not name ends.

    Example: `sluice budgets reset project:acme/search --per month --reason "trial is over"`
    """
    name = _scope(scope)
    _check(per, reason)
    woken = _served(lambda service: service.reset(name, per=per, reason=reason.strip()))
    _tell(scope, per, "is as it is configured", woken, json_output=json_output)


@app.command()
def topup(
    scope: Scope,
    usd: Annotated[str, typer.Option(help="How much more, in this period alone.")],
    per: Per = "month",
    reason: Reason = "",
    json_output: Json = False,
) -> None:
    """Grant one-off money for the current period; the next one starts as usual.

    Example: `sluice budgets topup team:acme/ml --usd 50 --reason "ticket 4711"`
    """
    name, money = _scope(scope), _usd(usd)
    _check(per, reason)
    woken = _served(lambda service: service.top_up(name, per=per, usd=money, reason=reason.strip()))
    _tell(scope, per, f"has {usd} USD more in this period", woken, json_output=json_output)


def _tell(scope: str, per: str, what: str, woken: int, *, json_output: bool) -> None:
    if json_output:
        print_json({"scope": scope, "per": per, "woken": woken})
        return
    asking = f"; {woken} waiting jobs ask again" if woken else ""
    say(f"{scope} per {per} {what}{asking}")


def _scope(text: str) -> "ScopeName":
    from sluice_core.budgets.model import ScopeName

    try:
        return ScopeName.parse(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as exc:
        raise typer.BadParameter(f"--usd {text!r} is no amount: write 500 or 0.25") from exc
    if not amount.is_finite() or amount < 0:
        raise typer.BadParameter(f"--usd {text!r} is no amount that can be spent")
    return amount


def _check(per: str, reason: str) -> None:
    from sluice_core.budgets.model import PERIODS

    if per not in PERIODS:
        raise typer.BadParameter(f"--per {per!r}: choose one of {', '.join(PERIODS)}")
    if not reason.strip():
        raise typer.BadParameter("say why: --reason TEXT")


def _served(ask: "Callable[[BudgetService], Awaitable[T]]") -> T:
    from sluice_cli.session import actor, ledger, run, settings
    from sluice_core.budgets.repository import BudgetRepository
    from sluice_core.budgets.service import BudgetService

    async def served() -> T:
        async with ledger(settings()) as pool:
            return await ask(BudgetService(BudgetRepository(pool), actor()))

    return run(served())
