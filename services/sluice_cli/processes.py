"""`sluice worker | keeper | migrate | mock-provider | schemas`: the processes, and what they start from."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sluice_cli.output import Json, Refused, print_json, say, warn

_CLASSES = "realtime,standard,bulk"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(worker)
    app.command()(keeper)
    app.command()(migrate)
    app.command("mock-provider")(mock_provider)
    app.command()(schemas)


def worker(
    pool: Annotated[str, typer.Option(help="The pool of provider accounts to serve.")] = "default",
    classes: Annotated[str, typer.Option(help="The classes to read, comma-separated.")] = _CLASSES,
) -> None:
    """Take jobs, call providers, publish results, until SIGTERM.

    A worker for realtime jobs alone: `sluice worker --classes realtime`

    Reads SLUICE_KAFKA, SLUICE_DATABASE, SLUICE_CONFIG, and the providers' keys that the configuration names.
    """
    from sluice_cli.session import settings
    from sluice_platform.logging import configure_logging
    from sluice_worker.main import WorkerOptions
    from sluice_worker.main import run as serve

    options = WorkerOptions(pool=pool, classes=read_classes(classes))
    given = settings()
    configure_logging()
    raise typer.Exit(_live(lambda stop: serve(given, options, stop)))


def _live(main: Callable[[asyncio.Event], Awaitable[int]]) -> int:
    """Run a process's main; a server that went away before it was up is one message, not a trace."""
    from aiokafka.errors import KafkaError

    from sluice_platform.db import DATABASE_ERRORS
    from sluice_platform.lifecycle import run

    try:
        return run(main)
    except (*DATABASE_ERRORS, KafkaError) as exc:
        raise Refused(f"a server went away, start again when it is back: {exc!r}") from exc


def read_classes(text: str) -> tuple[Any, ...]:
    """Classes by their names; Refused for a name that is none, or for no name."""
    from sluice_schemas.classes import JobClass

    try:
        found = tuple(JobClass.from_label(name.strip()) for name in text.split(",") if name.strip())
    except ValueError as exc:
        raise Refused(f"--classes: {exc}") from exc
    if not found:
        raise Refused("--classes: name at least one of realtime, standard and bulk")
    return tuple(dict.fromkeys(found))


def keeper() -> None:
    """Reap, expire, sweep, archive and clean up, until SIGTERM. Run two for safety.

    Example: `sluice keeper`
    """
    from sluice_cli.session import settings
    from sluice_keeper.main import run as serve
    from sluice_platform.logging import configure_logging

    given = settings()
    configure_logging()
    raise typer.Exit(_live(lambda stop: serve(given, stop)))


def migrate(
    unlogged_cache: Annotated[
        bool | None,
        typer.Option(
            "--unlogged-cache/--logged-cache",
            help="Keep the cache out of the write-ahead log: cheaper, and empty after a crash of the database.",
            show_default="as it is",
        ),
    ] = None,
    json_output: Json = False,
) -> None:
    """Bring the ledger's schema up to date; safe to run at any time, by many at once.

    Where the server has the extension vector (pgvector), the ledger can then compare meanings; run it again once it has.

    Example: `SLUICE_DATABASE=postgresql://… sluice migrate`
    """
    from sluice_cli.session import run, settings

    before, after = run(_migrate(settings().need_direct_database(), unlogged_cache))
    if json_output:
        print_json({"before": before, "after": after, "changed": before != after})
    elif before == after:
        say(f"the ledger is at revision {after}; nothing to do")
    else:
        say(f"the ledger went from {before or 'nothing'} to revision {after}")


async def _migrate(dsn: str, unlogged_cache: bool | None) -> tuple[str | None, str | None]:
    from sqlalchemy.exc import SQLAlchemyError

    from sluice_cli.migrations import revisions, upgrade
    from sluice_platform.db import wait_for_database

    await wait_for_database(dsn, 30.0)
    try:
        before, _ = await revisions(dsn)
        await upgrade(dsn, unlogged_cache=unlogged_cache)
        after, _ = await revisions(dsn)
    except SQLAlchemyError as exc:
        raise Refused(f"the migration failed and changed nothing: {exc.__cause__ or exc}") from exc
    return before, after


def mock_provider(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8001,
    record: Annotated[
        Path | None, typer.Option(help="Append every request to this JSON-lines file.")
    ] = None,
) -> None:
    """Serve an LLM provider that costs nothing: OpenAI's and Anthropic's APIs, faults on demand.

    Example: `sluice mock-provider --port 8001`, then base_url: http://127.0.0.1:8001/v1
    """
    from sluice_devstack.mock_provider.server import run

    run(host, port, record=record)


def schemas(
    check: Annotated[
        bool, typer.Option("--check", help="Compare with the files of this build; exit 1 if stale.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Say where the published JSON Schemas, AsyncAPI document and test vectors are, or check them.

    Example: `sluice schemas --check`
    """
    from sluice_schemas.generate import ROOT, generated, stale

    names = sorted(generated())
    wrong = stale(ROOT) if check else []
    if json_output:
        print_json({"directory": ROOT, "files": names, "stale": wrong})
    elif wrong:
        for name in wrong:
            warn(f"{ROOT / name} is stale")
    elif check:
        say(f"{len(names)} files under {ROOT} are fresh")
    else:
        say("\n".join(str(ROOT / name) for name in names))
    if wrong:
        sys.exit(1)
