"""`sluice route explain`: where a job would go now, and what became of every other target."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_cli.output import Column, Json, Refused, group, print_json, print_table, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.config.routing import Check
    from sluice_core.routing.model import Ask, Decision, Look, Moment
    from sluice_core.routing.plan import Plan
    from sluice_core.routing.repository import OpenRow
    from sluice_platform.settings import Settings

app = group("Which target of a model a job goes to, and why.")


@app.callback()
def _group() -> None:
    """Keep `explain` a command of its own: a group of one would lose its name."""


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The model that the job asks for.")],
    *,
    request: Annotated[
        Path | None,
        typer.Option(help="A file with the job's own JSON: its size and what it needs count."),
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Whose job; default: anybody's, without residency.")
    ] = None,
    project: Annotated[str, typer.Option(help="The job's project.")] = "unallocated",
    app_name: Annotated[str | None, typer.Option("--app", help="The job's app.")] = None,
    user: Annotated[str | None, typer.Option(help="The job's user.")] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag, as name=value; again for more.")
    ] = None,
    class_name: Annotated[
        str, typer.Option("--class", help="realtime, standard or bulk.")
    ] = "standard",
    operation: Annotated[str, typer.Option(help="chat, responses, embeddings or rerank.")] = "chat",
    tokens: Annotated[int, typer.Option(min=0, help="Input tokens.")] = 100,
    output_tokens: Annotated[
        int, typer.Option(min=0, help="Output tokens that the answer will likely have.")
    ] = 256,
    needs: Annotated[
        str, typer.Option(help="What the job needs: vision, tools, json, streaming; by commas.")
    ] = "",
    affinity: Annotated[
        str | None, typer.Option(help="What keeps it with others: its affinity, or its run.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Say where a job would go by SLUICE_CONFIG, and why each other target was kept, dropped or ranked behind.

    With SLUICE_DATABASE, open breakers count too. What only workers know (calls in flight, recent times) does not:
    `least_busy` and `fastest` are told as if all targets were alike.

    Example: `sluice route explain fast --tenant acme --class bulk --needs vision`
    """
    from sluice_cli.session import configuration, run, settings

    given = settings()
    config = configuration(given)
    ask = _ask(
        tenant=tenant or "",
        project=project,
        app=app_name,
        user=user,
        tags=_tags(tag or []),
        job_class=_class(class_name),
        operation=operation,
        input_tokens=tokens,
        output_tokens=output_tokens,
        needs=_needs(needs),
        key=None if affinity is None else f"{tenant or ''}/{affinity}",
        regions=frozenset() if tenant is None else _residency(config, tenant),
    )
    if request is not None:
        ask = _with_request(ask, request)
    rows = run(_open(given)) if given.database is not None else []
    _show(config, model, ask, rows, json_output=json_output)


def _show(
    config: "Config", model: str, ask: "Ask", rows: "list[OpenRow]", *, json_output: bool
) -> None:
    from sluice_core.pricing.book import PriceBook
    from sluice_core.routing.policy import decide_in_tiers
    from sluice_worker.resolve import Resolver

    now = time.time()
    pool = Resolver(config, PriceBook(), pool="").pool_of(model)
    plan = Resolver(config, PriceBook(), pool=pool).plan(model, now)
    if plan is None:
        from sluice_core.config.suggest import suggestion

        raise Refused(f'no target serves "{model}"{suggestion(model, config.models)}')
    decision, ask = decide_in_tiers(
        plan, _moment(plan, rows, now), ask, now=now, draw=0.5, explained=True
    )
    looks = (*decision.looks, *_left_out(plan, ask, decision))
    check, language = plan.check_of(ask), _language(config, model, ask)
    if json_output:
        print_json(
            {
                "model": model,
                "pool": pool,
                "chosen": None if decision.chosen is None else decision.chosen.name,
                "why": decision.why,
                "arm": decision.arm,
                "until": decision.until,
                "language": language,
                "check": None
                if check is None
                else check.model_dump(mode="json", by_alias=True, exclude_none=True),
                "targets": [
                    {"name": look.name, "kept": look.kept, "why": look.why} for look in looks
                ],
            }
        )
        return
    columns = [Column(title=title) for title in ("target", "", "why")]
    chosen = None if decision.chosen is None else decision.chosen.name
    table = [
        (
            look.name,
            "chosen" if look.name == chosen else "kept" if look.kept else "dropped",
            look.why,
        )
        for look in looks
    ]
    print_table(f"Targets of {model}, pool {pool}", columns, table)
    if language is not None:
        say(f"its language is {language}")
    say(_sentence(decision, now))
    if check is not None:
        say(f"an answer that does not pass ({_named(check)}) goes up: {_above(plan)}")


def _left_out(plan: "Plan", ask: "Ask", decision: "Decision") -> "list[Look]":
    """The targets that were not looked at, because the job's are others."""
    from sluice_core.routing.model import Look

    if not decision.looks:
        return []  # it waits for its hours, whatever its targets
    looked_at = {look.name for look in decision.looks}
    why = f"not one of {plan.group(ask)[0].label}"
    return [
        Look(name=candidate.name, kept=False, why=why)
        for candidate in plan.everything.candidates
        if candidate.name not in looked_at
    ]


def _language(config: "Config", model: str, ask: "Ask") -> str | None:
    """Of a request that was given, where a condition of the model asks for it."""
    from sluice_core.routing.language import language_of

    entry = config.models.get(model)
    asked = entry is not None and any(route.when.languages for route in entry.routes)
    return language_of(ask.body) if asked and ask.body else None


def _named(check: "Check") -> str:
    judge = () if check.judge is None else (f"judge {check.judge.name}",)
    checks = (("schema", check.json_schema), ("refusal", check.refusal))
    return ", ".join((*(name for name, asked in checks if asked), *judge))


def _above(plan: "Plan") -> str:
    """The tiers above the first, each with its targets."""
    return ", then ".join(
        " or ".join(candidate.name for candidate in tier.candidates) for tier in plan.tiers[1:]
    )


def _sentence(decision: "Decision", now: float) -> str:
    arm = "" if decision.arm is None else f", arm {decision.arm}"
    if decision.chosen is not None:
        return f"goes to {decision.chosen.name} ({decision.why}{arm})"
    if decision.until is None:
        return f"goes nowhere: {decision.why}{arm}"
    return f"waits {max(0.0, decision.until - now):,.1f} s ({decision.why}{arm})"


def _moment(plan: "Plan", rows: "list[OpenRow]", now: float) -> "Moment":
    from sluice_core.routing.model import ENDLESS, Moment, Now

    shut = {row.key: row for row in rows}
    nows = []
    for candidate in plan.everything.candidates:
        row = shut.get((candidate.account, candidate.model))
        if row is None:
            nows.append(Now())
        else:
            why = f"its breaker is open ({row.reason})"
            nows.append(Now(shut_until=ENDLESS, again_at=now + max(0.0, row.left_s), why=why))
    return Moment(nows=nows, shut_until=max(state.shut_until for state in nows))


async def _open(given: "Settings") -> "list[OpenRow]":
    from sluice_cli.session import ledger
    from sluice_core.routing.repository import BreakerRepository

    async with ledger(given) as pool:
        return await BreakerRepository(pool, 0).share(probe_s=0.0)


def _ask(**given: Any) -> "Ask":
    from sluice_core.routing.model import Ask

    return Ask(**given)


def _with_request(ask: "Ask", path: Path) -> "Ask":
    from dataclasses import replace

    import orjson

    from sluice_cli.session import read_text
    from sluice_core.pricing.bounds import asked_output
    from sluice_worker.asking import needs_of

    try:
        document = orjson.loads(read_text(path))
    except orjson.JSONDecodeError as exc:
        raise Refused(f"{path}: is not JSON: {exc}") from exc
    body = document.get("body", document) if isinstance(document, dict) else None
    if not isinstance(body, dict):
        raise Refused(
            f"{path}: holds no request: write a job, or an OpenAI request, as one JSON object"
        )
    compact = orjson.dumps(body)
    asked, choices = asked_output(compact)
    return replace(
        ask,
        input_tokens=len(compact) // 4 + 1,
        most_output=(asked or 0) * choices,
        needs=ask.needs | needs_of(compact, streams=bool(body.get("stream"))),
        body=compact,
    )


def _tags(given: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in given]
    wrong = next((text for text, (_, sign, _) in zip(given, pairs, strict=True) if not sign), None)
    if wrong is not None:
        raise Refused(f"--tag {wrong}: write name=value")
    return tuple((name, value) for name, _, value in pairs)


def _class(text: str) -> str:
    from sluice_schemas.classes import JobClass

    try:
        return JobClass.from_label(text).label
    except ValueError as exc:
        raise Refused(str(exc)) from exc


def _needs(text: str) -> Any:
    from sluice_core.routing.model import Need

    needs = Need.NOTHING
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = next((need for need in Need if need.label == word), None)
        if found is None:
            raise Refused(f"--needs {word}: write vision, tools, json or streaming")
        needs |= found
    return needs


def _residency(config: "Config", tenant: str) -> frozenset[str]:
    from sluice_core.config.suggest import suggestion

    found = config.tenants.get(tenant)
    if found is None and config.tenants:
        raise Refused(
            f'no tenant "{tenant}" in the configuration{suggestion(tenant, config.tenants)}'
        )
    return frozenset() if found is None else frozenset(found.residency)
