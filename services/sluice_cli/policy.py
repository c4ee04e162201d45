"""`sluice policy explain`: which rule decides for a caller and a job, and which others were looked at."""

from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.keys.model import KeyRecord
    from sluice_core.policies.model import Ask, Explanation, Subject
    from sluice_core.policies.policy import Permissions
    from sluice_platform.settings import Settings
    from sluice_schemas.classes import JobClass

app = group("What callers may do, and which rule says so.")


@app.callback()
def _group() -> None:
    """Keep `explain` a command of its own: a group of one would lose its name."""


@app.command()
def explain(
    *,
    tenant: Annotated[
        str | None, typer.Option(help="Whose job; default: the key's tenant.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="The team; default: the project's.")] = None,
    project: Annotated[str | None, typer.Option(help="The job's project.")] = None,
    app_name: Annotated[str | None, typer.Option("--app", help="The job's app.")] = None,
    user: Annotated[str | None, typer.Option(help="The job's user.")] = None,
    key: Annotated[
        str | None, typer.Option(help="The id of the key that signs; what it is bound to counts.")
    ] = None,
    model: Annotated[str, typer.Option(help="The model asked for.")],
    operation: Annotated[str, typer.Option(help="chat, responses or embeddings.")] = "chat",
    class_name: Annotated[
        str | None, typer.Option("--class", help="realtime, standard or bulk.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="The topic it comes by.")] = None,
    ip: Annotated[str | None, typer.Option(help="The address an HTTP request comes from.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=0, help="The output tokens it asks for.")
    ] = None,
    max_cost_usd: Annotated[
        str | None, typer.Option("--cost-usd", help="The most that it can cost.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Say whether a job would pass the policies of SLUICE_CONFIG, and which rule decides each part.

    The most specific scope that says something of a thing decides it: key, user, app, project, team,
    tenant. At one scope deny wins.

    Example: `sluice policy explain --tenant acme --project search --model gpt-4o --class bulk`

    With SLUICE_DATABASE and --key, what the key is bound to counts too.
    """
    from sluice_cli.session import configuration, settings
    from sluice_core.policies.model import Ask, Subject
    from sluice_core.policies.policy import Permissions

    given = settings()
    config = configuration(given)
    bound = _key(given, key) if key is not None and given.database is not None else None
    asked = Subject(
        tenant=tenant or ("" if bound is None else bound.scope.tenant),
        team=team,
        project=project,
        app=app_name,
        user=user,
        key_id=key,
    )
    subject = _caller(config, asked, bound)
    ask = Ask(
        model=model,
        operation=_operation(operation),
        job_class=None if class_name is None else _class(class_name),
        topic=topic,
        ip=ip,
        max_tokens=max_tokens,
        worst_nano=None if max_cost_usd is None else _nano(max_cost_usd),
    )
    _show(Permissions.from_config(config), subject, ask, json_output=json_output)


def _show(permissions: "Permissions", subject: "Subject", ask: "Ask", *, json_output: bool) -> None:
    decision = permissions.decide(subject, ask)
    aspects = permissions.explain(subject, ask)
    if json_output:
        print_json(
            {
                "allowed": decision.allowed,
                "code": decision.code,
                "message": decision.message,
                "param": decision.param,
                "subject": subject,
                "aspects": [_flat(aspect) for aspect in aspects],
            }
        )
    else:
        titles = ("aspect", "asked for", "", "decided by", "scopes looked at")
        rows = [
            (
                *(a.aspect, a.value, "allowed" if a.decision.allowed else "refused"),
                *(a.decision.rule or "nobody says anything", _looks(a)),
            )
            for a in aspects
        ]
        print_table("Policies", [Column(title=title) for title in titles], rows)
        say("the job may go on" if decision.allowed else f"refused: {decision.message}")


def _looks(explanation: "Explanation") -> str:
    """The scopes in their order; the first that says something decides."""
    said = {True: "allows", False: "denies", None: "–"}
    return "; ".join(f"{look.scope}: {said[look.says]}" for look in explanation.looked_at) or "none"


def _flat(explanation: "Explanation") -> dict[str, object]:
    rule = explanation.decision.rule
    return {
        "aspect": explanation.aspect,
        "value": explanation.value,
        "allowed": explanation.decision.allowed,
        "rule": None if rule is None else str(rule),
        "looked_at": explanation.looked_at,
    }


def _caller(config: "Config", asked: "Subject", bound: "KeyRecord | None") -> "Subject":
    """The caller as intake would read it: what its key is bound to, and its project's team."""
    from dataclasses import replace

    from sluice_cli.keys import check_names
    from sluice_core.keys.model import KeyScope

    if not asked.tenant:
        raise Refused("name the tenant: --tenant NAME (the key's own is read with SLUICE_DATABASE)")
    if bound is not None and bound.scope.tenant == asked.tenant:
        for name in ("team", "project", "app", "user"):
            held, said = getattr(bound.scope, name), getattr(asked, name)
            if held is not None and said is not None and held != said:
                raise Refused(
                    f"the key is bound to {name} {held}: a job of {name} {said} is refused"
                )
        asked = replace(
            asked,
            team=asked.team or bound.scope.team,
            project=asked.project or bound.scope.project,
            app=asked.app or bound.scope.app,
            user=asked.user or bound.scope.user,
        )
    scope = KeyScope(tenant=asked.tenant, team=asked.team, project=asked.project, app=asked.app)
    check_names("the configuration", config, scope)
    if asked.project is None:
        return asked
    team = config.tenants[asked.tenant].projects[asked.project].team
    if asked.team is not None and asked.team != team:
        raise Refused(f'project "{asked.project}" is not of team "{asked.team}"')
    return replace(asked, team=team)


def _key(given: "Settings", key_id: str) -> "KeyRecord":
    from sluice_cli.keys import read_keys
    from sluice_cli.session import run

    for key in run(read_keys(given)):
        if key.id == key_id:
            return key
    raise Refused(f"no key {key_id}: see `sluice keys list`")


def _operation(text: str) -> str:
    from sluice_schemas.jobs import OPERATIONS

    known = OPERATIONS.values()
    if text not in known:
        raise Refused(f"no operation {text!r}: write one of {', '.join(known)}")
    return text


def _class(text: str) -> "JobClass":
    from sluice_schemas.classes import JobClass

    try:
        return JobClass.from_label(text)
    except ValueError as exc:
        raise Refused(str(exc)) from exc


def _nano(text: str) -> int:
    from sluice_schemas.money import parse_usd

    try:
        return parse_usd(text)
    except ValueError as exc:
        raise Refused(f"--cost-usd {exc}") from exc
