"""`sluice hold | resume | holds list`: what is not begun for now."""

from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.holds.model import Hold, HoldKind
    from sluice_platform.settings import Settings

app = group("What operators hold back.")

Kind = Annotated[str, typer.Argument(metavar="KIND", help="tenant, class, model, account or run.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name.")]
Tenant = Annotated[str | None, typer.Option(help="Whose run it is; for a run alone.")]


def register(root: typer.Typer) -> None:
    """Add the commands and the group."""
    root.command("hold")(hold)
    root.command("resume")(resume)
    root.add_typer(app, name="holds")


def hold(kind: Kind, name: Name, tenant: Tenant = None, json_output: Json = False) -> None:
    """Begin no new job of a tenant, class, model, account or run; in force within a second or so.

    Jobs in flight finish. The others keep their place, can be cancelled, and still end at their deadline.

    Example: `sluice hold tenant acme` or `sluice hold run nightly --tenant acme`
    """
    _change(kind, name, tenant, held=True, json_output=json_output)


def resume(kind: Kind, name: Name, tenant: Tenant = None, json_output: Json = False) -> None:
    """Let what was held go on.

    Example: `sluice resume tenant acme`
    """
    _change(kind, name, tenant, held=False, json_output=json_output)


@app.command("list")
def list_holds(json_output: Json = False) -> None:
    """List what is held, since when and by whom.

    Example: `sluice holds list`
    """
    from sluice_cli.session import run, settings

    found = run(_list(settings()))
    if json_output:
        print_json(found)
        return
    rows = [(hold.kind, hold.name, hold.tenant, hold.at, hold.actor) for hold in found]
    columns = [Column(title=title) for title in ("kind", "name", "tenant", "since", "by")]
    print_table("Held", columns, rows)


def checked(kind: str, name: str, tenant: str | None) -> "HoldKind":
    """The kind, if the words go together; Refused where they do not."""
    from sluice_core.holds.model import KINDS
    from sluice_schemas.classes import JobClass

    found = next((known for known in KINDS if known == kind), None)
    if found is None:
        raise Refused(f"{kind!r} cannot be held: a {', '.join(KINDS[:-1])} or {KINDS[-1]} can")
    if found == "class" and name not in [c.label for c in JobClass]:
        raise Refused(f"no class {name!r}: the classes are realtime, standard and bulk")
    if (found == "run") is not bool(tenant):
        raise Refused(
            "name the run's tenant with --tenant" if found == "run" else "--tenant goes with a run"
        )
    return found


def _change(kind: str, name: str, tenant: str | None, *, held: bool, json_output: bool) -> None:
    from sluice_cli.session import run, settings

    found = checked(kind, name, tenant)
    given = settings()
    if held:
        _check_name(given, found, name if tenant is None else tenant)
    changed = run(_write(given, found, name, tenant, held=held))
    if json_output:
        print_json(
            {"kind": found, "name": name, "tenant": tenant, "held": held, "changed": changed}
        )
    elif held:
        say(f"{found} {name} {'is' if changed else 'was already'} held")
    else:
        say(f"{found} {name} {'goes on' if changed else 'was not held'}")


def _check_name(given: "Settings", kind: "HoldKind", name: str) -> None:
    """Refuse a tenant or account that the configuration does not have, where there is one."""
    from sluice_cli.session import configuration
    from sluice_core.config.suggest import suggestion

    if given.config is None or kind not in ("tenant", "run", "account"):
        return
    config = configuration(given)
    names = config.providers if kind == "account" else config.tenants
    if name not in names:
        what = "account" if kind == "account" else "tenant"
        raise Refused(f'{given.config} has no {what} "{name}"{suggestion(name, names)}')


async def _write(
    given: "Settings", kind: "HoldKind", name: str, tenant: str | None, *, held: bool
) -> bool:
    from sluice_cli.session import actor, ledger
    from sluice_core.holds.repository import HoldRepository

    async with ledger(given) as pool:
        repository = HoldRepository(pool)
        change = repository.hold if held else repository.resume
        return await change(kind, name, tenant, actor=actor())


async def _list(given: "Settings") -> "list[Hold]":
    from sluice_cli.session import ledger
    from sluice_core.holds.repository import HoldRepository

    async with ledger(given) as pool:
        return await HoldRepository(pool).all()
