"""`sluice config check | plan | apply`: a configuration is checked, compared, then put in force."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Json, Refused, cell, group, print_json, say

if TYPE_CHECKING:
    from sluice_core.config.model import Config
    from sluice_core.topics.model import Difference
    from sluice_platform.settings import Settings

app = group("Check, compare and apply the configuration.")

File = Annotated[Path | None, typer.Argument(help="The configuration; default: SLUICE_CONFIG.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What applying would change: lines of a unified diff, topics to make, settings that differ."""

    version: int | None
    changes: tuple[str, ...]
    missing_topics: tuple[str, ...]
    differences: "tuple[Difference, ...]"


@app.command()
def check(
    file: File = None,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Also check that the ${VARIABLES} named are set here.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Read a configuration and name every problem with its line.

    Example: `sluice config check sluice.yaml`
    """
    from sluice_core.config.load import ConfigError, Withheld, load_config

    path = _path(file)
    try:
        config = load_config(path, os.environ if secrets else Withheld())
    except ConfigError as exc:
        if json_output:
            print_json({"valid": False, "problems": exc.problems})
            raise typer.Exit(1) from exc
        raise
    if json_output:
        print_json({"valid": True, "problems": []})
        return
    say(
        f"{path} is valid: {len(config.providers)} providers, {len(config.models)} models, "
        f"{len(config.tenants)} tenants"
    )


@app.command()
def plan(file: File = None, json_output: Json = False) -> None:
    """Show what applying a configuration would change, and change nothing.

    Example: `sluice config plan sluice.yaml`
    """
    from sluice_cli.session import run, settings

    found = run(_plan(settings(), _path(file)))
    if json_output:
        print_json(found)
        return
    if found.changes:
        say("\n".join(found.changes))
    else:
        say(f"the configuration is the one in force (version {found.version})")
    for name in found.missing_topics:
        say(f"+ topic {name}")
    for difference in found.differences:
        say(
            f"! topic {difference.topic}: {difference.setting} is {cell(difference.found)}, "
            f"should be {difference.wanted}; apply leaves topics that exist as they are"
        )


@app.command()
def apply(file: File = None, json_output: Json = False) -> None:
    """Check a configuration, create its topics, store it as the next version and tell every process.

    Example: `sluice config apply sluice.yaml`
    """
    from sluice_cli.session import run, settings

    version, changed, created = run(apply_config(settings(), _path(file)))
    if json_output:
        print_json({"version": version, "changed": changed, "created_topics": created})
        return
    for name in created:
        say(f"created topic {name}")
    say(
        f"version {version} is in force"
        if changed
        else f"nothing changed: version {version} is in force"
    )


async def apply_config(given: "Settings", path: Path) -> tuple[int, bool, tuple[str, ...]]:
    """The version in force afterwards, whether it is new, and the topics that were made."""
    from sluice_cli.session import actor, ledger
    from sluice_cli.topics import create_topics
    from sluice_core.ledger import check_migrations
    from sluice_core.rollout.repository import RolloutRepository

    text, config = _read(path)
    spelled_out = [
        name
        for name, provider in config.providers.items()
        if provider.api_key is not None and provider.api_key.get_secret_value() != "withheld"
    ]
    if spelled_out:
        raise Refused(
            f"{path}: the api_key of {', '.join(spelled_out)} is written out; write ${{NAME}} and set "
            "the variable for the workers: an applied configuration is stored in the database"
        )
    async with ledger(given) as pool:
        await check_migrations(pool)
        # Topics first: a process that reads the new version must find them.
        made = await create_topics(given, config)
        rollout = RolloutRepository(pool)
        latest = await rollout.latest()
        if latest is not None and latest.document == text:
            return latest.version, False, made.created
        return await rollout.apply(text, actor()), True, made.created


async def _plan(given: "Settings", path: Path) -> Plan:
    from sluice_cli.session import broker, ledger
    from sluice_core.ledger import check_migrations
    from sluice_core.rollout.repository import RolloutRepository
    from sluice_core.topics.policy import differences, wanted
    from sluice_core.topics.service import TopicService

    text, config = _read(path)
    async with ledger(given) as pool:
        await check_migrations(pool)
        latest = await RolloutRepository(pool).latest()
    specs = wanted(config)
    async with broker(given) as admin:
        found = await TopicService(admin).settings([spec.name for spec in specs])
    different = differences(specs, found)
    return Plan(
        version=None if latest is None else latest.version,
        changes=changes("" if latest is None else latest.document, text),
        missing_topics=tuple(d.topic for d in different if d.setting == "topic"),
        differences=tuple(d for d in different if d.setting != "topic"),
    )


def changes(before: str, after: str) -> tuple[str, ...]:
    """The lines of a unified diff between two documents; none where they are equal."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "in force", "new", lineterm=""
    )
    return tuple(lines)


def _read(path: Path) -> "tuple[str, Config]":
    from sluice_cli.session import read_text
    from sluice_core.config.load import Withheld, parse_config

    text = read_text(path)
    return text, parse_config(text, Withheld(), source=str(path))


def _path(file: Path | None) -> Path:
    from sluice_cli.session import settings

    return file if file is not None else settings().need_config()
