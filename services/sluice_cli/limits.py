"""`sluice limits list`: how fast each scope may go, how much of that is used, and who waits for what."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, cell, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.admission.model import ScopeKind
    from sluice_core.admission.standing import RateStanding, ScopeStanding
    from sluice_platform.settings import Settings

app = group("Limits: rates, calls in flight, providers' pauses, and whose turn it is.")


@app.callback()
def _group() -> None:
    """Keep `list` a command of its own: a group of one would lose its name."""


@app.command("list")
def list_limits(
    scope: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCOPE]",
            help="This alone: tenant:acme, project:acme/search, model:fast, account:openai, "
            "target:openai/gpt-4o-mini, …",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The most scopes that are listed.")] = 1000,
    json_output: Json = False,
) -> None:
    """List every scope that has limits or work, as it stands: what is used, when the next is free.

    A rate that slides lets `burst` units through at once, and then one after the other: used is what of
    that has not come back yet. Bulk may draw to 80 % of everything and standard to 95 %, so `next` may
    differ by class. `learnt` is what an account was found to bear at once; `paused until` is what its
    provider asked for. Virtual tokens, by class: of those that wait, who has least is next.

    Example: `sluice limits list account:openai`
    """
    from sluice_cli.session import run, settings

    only = None if scope is None else _scope(scope)
    found = run(_standings(settings(), only, limit))
    if json_output:
        print_json(found)
        return
    _print(found)
    if len(found) == limit:
        say(f"the first {limit:,} scopes; name one, or write --limit")


def _print(found: "list[ScopeStanding]") -> None:
    columns = [
        Column(title="scope", whole=True),
        Column(title="rate"),
        Column(title="used", right=True),
        Column(title="next"),
        Column(title="in flight", right=True),
        Column(title="paused until"),
        Column(title="virtual tokens (realtime / standard / bulk)"),
    ]
    rows: list[tuple[object, ...]] = []
    for one in found:
        rates = [(_rate(rate), _used(rate), _next(rate)) for rate in one.rates] or [("–",) * 3]
        virtual = " / ".join(f"{tokens:,.0f}" for tokens in one.virtual_tokens.values())
        last = (_in_flight(one), one.blocked_until, virtual)
        rows += [
            (one.scope, *rate, *last) if number == 0 else ("", *rate, "", "", "")
            for number, rate in enumerate(rates)
        ]
    print_table("Limits", columns, rows)


def _rate(rate: "RateStanding") -> str:
    burst = "" if rate.burst is None else f", {rate.burst:,.0f} at once"
    return f"{rate.limit:,.0f} {rate.meter} a {rate.per}{burst}"


def _used(rate: "RateStanding") -> str:
    return f"{rate.used:,.0f} of {rate.limit if rate.burst is None else rate.burst:,.0f}"


def _next(rate: "RateStanding") -> str:
    """When the next may begin: one word where it is the same for all classes."""
    times = set(rate.next_at.values())
    if len(times) == 1:
        return _when(times.pop())
    return ", ".join(f"{label} {_when(at)}" for label, at in rate.next_at.items())


def _when(at: datetime | None) -> str:
    return "now" if at is None else cell(at)


def _in_flight(one: "ScopeStanding") -> str:
    most = "" if one.max_in_flight is None else f" of {one.max_in_flight:,}"
    learnt = "" if one.allowed is None else f", learnt {one.allowed:,}"
    return f"{one.in_flight:,}{most}{learnt}"


def _scope(text: str) -> "tuple[ScopeKind, str]":
    from sluice_core.admission.model import ScopeKind

    label, _, name = text.partition(":")
    if not name:
        raise typer.BadParameter(f"{text!r} is no scope: write tenant:acme or account:openai")
    try:
        return ScopeKind.from_label(label), name
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


async def _standings(
    given: "Settings", only: "tuple[ScopeKind, str] | None", limit: int
) -> "list[ScopeStanding]":
    from sluice_cli.session import ledger
    from sluice_core.admission.repository import AdmissionRepository
    from sluice_core.admission.standing import standing

    async with ledger(given) as pool:
        states, now = await AdmissionRepository(pool).states(only, limit=limit)
    return [standing(state, now=now) for state in states]
