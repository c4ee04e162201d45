"""`sluice keys create | list | rotate | revoke | rotate-master`: API keys of tenants."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.keys.model import KeyRecord, KeyScope
    from sluice_core.keys.service import NewKey
    from sluice_platform.settings import Settings

app = group("API keys: who may sign jobs, and for whom.")


@app.command()
def create(
    *,
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    team: Annotated[str | None, typer.Option(help="Bind its jobs to a team.")] = None,
    project: Annotated[str | None, typer.Option(help="Bind its jobs to a project.")] = None,
    app_name: Annotated[str | None, typer.Option("--app", help="Bind its jobs to an app.")] = None,
    user: Annotated[str | None, typer.Option(help="Bind its jobs to a user.")] = None,
    grant: Annotated[
        list[str] | None, typer.Option(help="A grant: vouch lets it speak for any caller.")
    ] = None,
    reply_topic: Annotated[
        list[str] | None, typer.Option(help="Where a vouching key's replies may go.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="How long it is valid, such as 90d; default: for ever.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Create a key. Its secret is shown once and stored nowhere.

    Example: `sluice keys create --tenant acme --project search`

    Needs SLUICE_DATABASE and SLUICE_MASTER_KEY; with SLUICE_CONFIG the names are checked against it.
    """
    from sluice_cli.session import duration, run, settings
    from sluice_core.keys.model import KeyScope

    scope = KeyScope(
        tenant=tenant,
        team=team,
        project=project,
        app=app_name,
        user=user,
        grants=frozenset(grant or ()),
        reply_topics=tuple(reply_topic or ()),
    )
    given = settings()
    check_scope(given, scope)
    lifetime = None if expires is None else duration(expires)
    if lifetime is not None and lifetime <= 0:
        raise Refused(
            "--expires must be longer than no time at all: a key that never counts signs nothing"
        )
    _show(run(_create(given, scope, lifetime)), json_output=json_output)


@app.command("list")
def list_keys(json_output: Json = False) -> None:
    """List every key: whose it is, what it may do, until when, and when it last signed (some seconds behind).

    Secrets are not kept.

    Example: `sluice keys list`
    """
    from sluice_cli.session import run, settings

    found = run(read_keys(settings()))
    if json_output:
        print_json([_flat(key) for key in found])
        return
    titles = (
        *("id", "tenant", "team", "project", "app", "user", "grants"),
        *("created", "last used", "expires", "revoked", "state"),
    )
    rows = [
        (
            *(key.id, key.scope.tenant, key.scope.team, key.scope.project, key.scope.app),
            *(key.scope.user, sorted(key.scope.grants), key.created_at, key.last_used_at),
            *(key.expires_at, key.revoked_at),
            state_of(key, datetime.now(UTC)),
        )
        for key in found
    ]
    print_table("Keys", [Column(title=title, whole=title == "id") for title in titles], rows)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id.")], json_output: Json = False
) -> None:
    """End a key now; its jobs that are not called yet are refused.

    Example: `sluice keys revoke sgk_0123456789abcdef01234567`
    """
    from sluice_cli.session import run, settings

    run(_revoke(settings(), key_id))
    if json_output:
        print_json({"id": key_id, "revoked": True})
    else:
        say(f"{key_id} is revoked")


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="The key to replace.")],
    overlap: Annotated[
        str, typer.Option(help="How long the old key stays valid beside the new one.")
    ] = "24h",
    json_output: Json = False,
) -> None:
    """Create a key of the same scope and let the old one expire.

    Example: `sluice keys rotate sgk_0123456789abcdef01234567 --overlap 1h`
    """
    from sluice_cli.session import duration, run, settings

    made = run(_rotate(settings(), key_id, duration(overlap)))
    _show(made, json_output=json_output)


@app.command("rotate-master")
def rotate_master(json_output: Json = False) -> None:
    """Encrypt every key's signing material anew, under SLUICE_MASTER_KEY instead of SLUICE_MASTER_KEY_PREVIOUS.

    In this order no key fails at any moment:

    1. Make a new master key (`openssl rand -hex 32`). Give every worker both: the new one as SLUICE_MASTER_KEY,
    the old one as SLUICE_MASTER_KEY_PREVIOUS, and restart them. Until all have both, create and rotate no keys.

    2. Run this command with both set. `sluice doctor` says when nothing needs the old one any more.

    3. Unset SLUICE_MASTER_KEY_PREVIOUS everywhere and restart the workers at leisure.

    Example: `SLUICE_MASTER_KEY_FILE=new.key SLUICE_MASTER_KEY_PREVIOUS_FILE=old.key sluice keys rotate-master`
    """
    from sluice_cli.session import run, settings

    count = run(_rotate_master(settings()))
    if json_output:
        print_json({"resealed": count})
    else:
        say(
            f"{count} keys are sealed under the new master key; those that already were are as before"
        )


def check_scope(given: "Settings", scope: "KeyScope") -> None:
    """Refuse names that the configuration does not have, where there is one."""
    from sluice_cli.session import configuration

    if given.config is not None:
        check_names(str(given.config), configuration(given), scope)


def check_names(source: str, config: "Config", scope: "KeyScope") -> None:
    """Refuse names that a configuration does not have; `source` is what the message calls it."""
    from sluice_core.config.suggest import suggestion

    tenants = config.tenants
    tenant = tenants.get(scope.tenant)
    if tenant is None:
        raise Refused(f'{source} has no tenant "{scope.tenant}"{suggestion(scope.tenant, tenants)}')
    if scope.team is not None and scope.team not in tenant.teams:
        raise Refused(
            f'tenant "{scope.tenant}" has no team "{scope.team}"'
            f"{suggestion(scope.team, tenant.teams)}"
        )
    if scope.project is None:
        return
    project = tenant.projects.get(scope.project)
    if project is None:
        raise Refused(
            f'tenant "{scope.tenant}" has no project "{scope.project}"'
            f"{suggestion(scope.project, tenant.projects)}"
        )
    if scope.app is not None and scope.app not in project.apps:
        raise Refused(
            f'project "{scope.project}" has no app "{scope.app}"'
            f"{suggestion(scope.app, project.apps)}"
        )


def state_of(key: "KeyRecord", now: datetime) -> str:
    """`valid`, `expired` or `revoked` at `now`."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return "revoked"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "valid"


def _flat(key: "KeyRecord") -> dict[str, object]:
    scope = key.scope
    return {
        "id": key.id,
        "tenant": scope.tenant,
        "team": scope.team,
        "project": scope.project,
        "app": scope.app,
        "user": scope.user,
        "grants": scope.grants,
        "reply_topics": scope.reply_topics,
        "created_at": key.created_at,
        "last_used_at": key.last_used_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "state": state_of(key, datetime.now(UTC)),
    }


def _show(made: "NewKey", *, json_output: bool) -> None:
    if json_output:
        print_json({"id": made.id, "secret": made.secret})
        return
    say(f"id      {made.id}\nsecret  {made.secret}")
    say("Keep the secret now: it is shown once and stored nowhere.")


async def _create(given: "Settings", scope: "KeyScope", expires_in_s: float | None) -> "NewKey":
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.repository import KeyRepository
    from sluice_core.keys.service import KeyService

    master_key, previous = _master_keys(given)
    async with ledger(given) as pool:
        service = KeyService(KeyRepository(pool), actor())
        return await service.create(
            scope, master_key=master_key, previous=previous, expires_in_s=expires_in_s
        )


async def read_keys(given: "Settings") -> "list[KeyRecord]":
    """Every key, the newest first."""
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.repository import KeyRepository
    from sluice_core.keys.service import KeyService

    async with ledger(given) as pool:
        return list(await KeyService(KeyRepository(pool), actor()).list())


async def _revoke(given: "Settings", key_id: str) -> None:
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.repository import KeyRepository
    from sluice_core.keys.service import KeyService

    async with ledger(given) as pool:
        await KeyService(KeyRepository(pool), actor()).revoke(key_id)


async def _rotate(given: "Settings", key_id: str, overlap_s: float) -> "NewKey":
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.repository import KeyRepository
    from sluice_core.keys.service import KeyService

    master_key, previous = _master_keys(given)
    async with ledger(given) as pool:
        service = KeyService(KeyRepository(pool), actor())
        return await service.rotate(
            key_id, master_key=master_key, previous=previous, overlap_s=overlap_s
        )


async def _rotate_master(given: "Settings") -> int:
    from sluice_cli.session import actor, ledger
    from sluice_core.keys.repository import KeyRepository
    from sluice_core.keys.service import KeyService

    master_key, previous = given.need_master_key(), given.need_previous_master_key()
    async with ledger(given) as pool:
        service = KeyService(KeyRepository(pool), actor())
        return await service.rotate_master(master_key=master_key, previous=previous)


def _master_keys(given: "Settings") -> "tuple[bytes, bytes | None]":
    master_key = given.need_master_key()
    previous = given.master_keys()[1:]
    return master_key, previous[0] if previous else None
