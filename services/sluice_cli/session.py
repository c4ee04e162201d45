"""What commands stand on: settings, the configuration without secrets, the ledger, the broker."""

import asyncio
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from sluice_cli.output import Refused
from sluice_platform.errors import StartupError

if TYPE_CHECKING:
    import asyncpg
    from aiokafka.admin import AIOKafkaAdminClient

    from sluice_core.config.model import Config
    from sluice_platform.settings import Settings

T = TypeVar("T")

_STATEMENT_TIMEOUT_S = 60.0


def settings() -> "Settings":
    """The settings of this process's environment."""
    from sluice_platform.settings import load_settings

    return load_settings(os.environ)


def configuration(given: "Settings") -> "Config":
    """The configuration that SLUICE_CONFIG names, with providers' keys withheld."""
    from sluice_core.config.load import Withheld, load_config

    return load_config(given.need_config(), Withheld())


def actor() -> str:
    """Who runs this command, for the audit: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account that has no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; foreign errors of the servers become one message."""
    import asyncpg
    from aiokafka.errors import KafkaError

    try:
        return asyncio.run(work)
    except asyncpg.UndefinedTableError as exc:
        raise Refused("the database has no ledger, or an older one: run `sluice migrate`") from exc
    except asyncpg.InvalidSchemaNameError as exc:
        raise Refused("the database has no ledger yet: run `sluice migrate`") from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        raise Refused(f"PostgreSQL refuses: {exc}") from exc
    except KafkaError as exc:
        raise Refused(f"Kafka refuses or does not answer: {exc!r}; check SLUICE_KAFKA") from exc
    except (ConnectionError, TimeoutError) as exc:
        raise Refused(f"a server went away: {exc or 'no answer in time'}") from exc


@asynccontextmanager
async def ledger(given: "Settings") -> AsyncIterator["asyncpg.Pool"]:
    """A small pool on the ledger; raises StartupError where the database does not answer."""
    from sluice_platform.db import connect_pool, wait_for_database

    await wait_for_database(given.need_database(), 0.0)
    async with await connect_pool(
        given.need_database(),
        size=2,
        statement_timeout_s=_STATEMENT_TIMEOUT_S,
        lock_timeout_s=5.0,
        application_name="sluice",
        behind_pooler=given.behind_pooler,
    ) as pool:
        yield pool


@asynccontextmanager
async def broker(given: "Settings") -> AsyncIterator["AIOKafkaAdminClient"]:
    """A started admin client; raises StartupError where no broker answers."""
    from sluice_platform.kafka import admin, wait_for_kafka

    await wait_for_kafka(given, 0.0)
    client = admin(given)
    try:
        await client.start()
        yield client
    finally:
        with suppress(Exception):
            await client.close()


def uuid_of(text: str) -> UUID:
    """A job's or usage row's id as a person wrote it; Refused for anything else."""
    try:
        return UUID(text)
    except ValueError as exc:
        raise Refused(f"{text!r} is not an id: ids are UUIDs, as results carry them") from exc


def moment(text: str) -> datetime:
    """`2026-11-01`, an RFC 3339 time, or `24h` / `7d` ago; UTC where no offset is written."""
    from sluice_core.config.durations import parse_duration

    with suppress(ValueError):
        return datetime.fromtimestamp(time.time(), UTC) - timedelta(seconds=parse_duration(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Refused(
            f"{text!r} is no time: write 2026-11-01, 2026-11-01T12:00:00Z, or 24h for a day ago"
        ) from exc
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def duration(text: str) -> float:
    """Seconds of `30s`, `15m`, `72h`, `7d`; Refused for anything else."""
    from sluice_core.config.durations import parse_duration

    try:
        return parse_duration(text)
    except ValueError as exc:
        raise Refused(str(exc)) from exc


def read_text(path: Path) -> str:
    """A text file that a person named; StartupError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise StartupError(f"{path} cannot be read: {reason}") from exc
