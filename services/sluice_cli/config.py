"""`sluice config check | plan | apply`: a configuration is checked, compared, then put in force."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_cli.output import Json, Refused, cell, group, print_json, say, warn

if TYPE_CHECKING:
    from sluice_core.admission.changes import Change
    from sluice_core.config.model import Config
    from sluice_core.topics.model import Difference
    from sluice_platform.settings import Settings

app = group("Check, compare and apply the configuration.")

File = Annotated[Path | None, typer.Argument(help="The configuration; default: SLUICE_CONFIG.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What applying would change: lines of a unified diff, limits and budgets, topics to make, settings that differ."""

    version: int | None
    changes: tuple[str, ...]
    limits: "tuple[Change, ...]"
    missing_topics: tuple[str, ...]
    differences: "tuple[Difference, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What applying did: the version in force, whether anything is new, the topics made, limits and budgets that changed.

    `at_restart` are the changed sections that a process reads when it starts.
    """

    version: int
    changed: bool
    created_topics: tuple[str, ...]
    limits: "tuple[Change, ...]"
    at_restart: tuple[str, ...] = ()


@app.command()
def check(
    file: File = None,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Also check that the ${VARIABLES} named are set here.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Read a configuration and name every problem with its line.

    Without --secrets it does not look at the ${VARIABLES} that hold providers' keys, and says which: they have to be
    set for the workers, not here.

    Example: `sluice config check sluice.yaml`
    """
    from sluice_core.config.load import ConfigError, Withheld, load_config

    path, withheld = _path(file), Withheld()
    try:
        config = load_config(path, os.environ if secrets else withheld)
    except ConfigError as exc:
        if json_output:
            print_json({"valid": False, "problems": exc.problems})
            raise typer.Exit(1) from exc
        raise
    if config.cache.semantic is not None:
        _look_for_vectors(path)
    _look_for_judges(config)
    unset = [name for name in withheld.asked if not os.environ.get(name)]
    if json_output:
        print_json(
            {"valid": True, "problems": [], "not_looked_at": withheld.asked, "not_set_here": unset}
        )
        return
    say(
        f"{path} is valid: {len(config.providers)} providers, {len(config.models)} models, "
        f"{len(config.tenants)} tenants"
    )
    if withheld.asked:
        say(f"not looked at without --secrets: {', '.join(withheld.asked)}")
    if unset:
        say(f"not set here, and needed by the workers of their pool: {', '.join(unset)}")


def _look_for_vectors(path: Path) -> None:
    """Refuse what compares meanings where the database cannot; one that is not named here is not looked at."""
    from sluice_cli.session import ledger, run, settings
    from sluice_core.ledger import check_meanings
    from sluice_platform.errors import StartupError

    given = settings()
    if given.database is None:
        warn(
            "cache.semantic needs a database with pgvector: set SLUICE_DATABASE to have it looked at"
        )
        return

    async def look() -> None:
        async with ledger(given) as pool:
            await check_meanings(pool)

    try:
        run(look())
    except StartupError as exc:
        raise Refused(f"{path}: {exc}") from exc


def _look_for_judges(config: "Config") -> None:
    """Say which judges are not installed here: that may be so on the workers too."""
    from importlib.metadata import entry_points

    from sluice_core.config.routing import JUDGES

    installed = {entry.name for entry in entry_points(group=JUDGES)}
    for name, model in config.models.items():
        judge = None if model.escalation is None else model.escalation.check.judge
        if judge is not None and judge.name not in installed:
            warn(
                f'models.{name}.escalation: no judge "{judge.name}" is installed here (entry points of '
                f"{JUDGES}); a worker that has none lets every answer pass"
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
    for change in found.limits:
        say(str(change))
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

    Its limits and budgets count at once, for all workers; what an operator set with `sluice budgets set` stays
    until `sluice budgets reset`. Workers that run follow the rest, but for cell, kafka, intake, limits, retention
    and worker: those they read when they start.

    Example: `sluice config apply sluice.yaml`
    """
    from sluice_cli.session import run, settings

    done = run(apply_config(settings(), _path(file)))
    if json_output:
        print_json(done)
        return
    for name in done.created_topics:
        say(f"created topic {name}")
    for change in done.limits:
        say(str(change))
    told = "" if done.changed else "nothing changed: "
    say(f"{told}version {done.version} is in force")
    if done.at_restart:
        read = ", ".join(done.at_restart)
        say(f"workers and keepers that run with another {read} keep it until they start anew")


async def apply_config(given: "Settings", path: Path) -> Applied:
    """Put a configuration in force; what that changed."""
    from sluice_cli.session import actor, ledger
    from sluice_cli.topics import create_topics
    from sluice_core.admission.repository import AdmissionRepository
    from sluice_core.admission.service import align, changes
    from sluice_core.config.load import spelled_out
    from sluice_core.ledger import check_meanings, check_migrations
    from sluice_core.rollout.repository import RolloutRepository

    text, config = _read(path)
    written = [
        name
        for name, provider in config.providers.items()
        if any(map(spelled_out, provider.secrets))
    ]
    if written:
        raise Refused(
            f"{path}: the api_key of {', '.join(written)} is written out; write ${{NAME}} and set "
            "the variable for the workers: an applied configuration is stored in the database"
        )
    async with ledger(given) as pool:
        await check_migrations(pool)
        if config.cache.semantic is not None:
            await check_meanings(pool)
        # Topics first: a process that reads the new version must find them.
        made = await create_topics(given, config)
        rollout, admission = RolloutRepository(pool), AdmissionRepository(pool)
        limits = await changes(admission, config)
        latest = await rollout.latest()
        known = latest is not None and latest.document == text
        version = (
            latest.version if known and latest is not None else await rollout.apply(text, actor())
        )
        # Last, and also where the document is known: whoever was cut off here starts again. A new
        # version has its audit entry already.
        aligned = await align(admission, config, actor=actor() if known else None)
    return Applied(
        version=version,
        changed=aligned or not known,
        created_topics=made.created,
        limits=limits,
        at_restart=() if known else at_restart("" if latest is None else latest.document, config),
    )


def at_restart(before: str, config: "Config") -> tuple[str, ...]:
    """The sections of an applied document that running processes keep until they start anew."""
    from sluice_core.config.load import ConfigError, Withheld, parse_config
    from sluice_worker.rollout import AT_START

    try:
        old = parse_config(before, Withheld())
    except ConfigError:  # written for another version of this program
        return ()
    return tuple(name for name in AT_START if getattr(old, name) != getattr(config, name))


async def _plan(given: "Settings", path: Path) -> Plan:
    from sluice_cli.session import broker, ledger
    from sluice_core.admission.repository import AdmissionRepository
    from sluice_core.admission.service import changes as limit_changes
    from sluice_core.ledger import check_migrations
    from sluice_core.rollout.repository import RolloutRepository
    from sluice_core.topics.policy import differences, wanted
    from sluice_core.topics.service import TopicService

    text, config = _read(path)
    async with ledger(given) as pool:
        await check_migrations(pool)
        latest = await RolloutRepository(pool).latest()
        limits = await limit_changes(AdmissionRepository(pool), config)
    specs = wanted(config)
    async with broker(given) as admin:
        found = await TopicService(admin).settings([spec.name for spec in specs])
    different = differences(specs, found)
    return Plan(
        version=None if latest is None else latest.version,
        changes=changes("" if latest is None else latest.document, text),
        limits=limits,
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
