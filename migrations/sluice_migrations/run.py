"""Moves a database to a revision, one migrator at a time."""

import asyncio
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from sluice_migrations.optional import bring_meanings, log_cache

LOCK = 7_305_809_731  # one migrator at a time
LOCK_TIMEOUT = "10s"  # a busy table makes the migration fail, never the service wait


def upgrade(dsn: str, revision: str = "head") -> None:
    """Brings the database at `dsn` (`postgresql://…`) up to `revision`. Safe to run by many at once."""
    asyncio.run(upgrade_async(dsn, revision))


def downgrade(dsn: str, revision: str) -> None:
    """Takes the database back to `revision` (`base`: nothing of ours is left but the roles)."""
    asyncio.run(_connected(dsn, lambda connection: _move(connection, command.downgrade, revision)))


async def upgrade_async(
    dsn: str, revision: str = "head", *, unlogged_cache: bool | None = None
) -> None:
    """As `upgrade`, inside a running loop.

    At the newest revision it also brings what depends on the database rather than on the revision: meanings, where it has
    pgvector. `unlogged_cache`: whether the cache is written ahead (None: as it is).
    """

    def work(connection: Connection) -> None:
        _move(connection, command.upgrade, revision)
        if revision == "head":
            bring_meanings(connection)
            if unlogged_cache is not None:
                log_cache(connection, logged=not unlogged_cache)

    await _connected(dsn, work)


async def revisions(dsn: str) -> tuple[str | None, str | None]:
    """The database's revision and the newest one this build knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    current: str | None = await _connected(dsn, _current)
    return current, head


def _current(connection: Connection) -> str | None:
    options = {"version_table": "schema_version", "version_table_schema": "public"}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def _move(connection: Connection, direction: Any, revision: str) -> None:
    connection.execute(text("select pg_advisory_lock(:key)"), {"key": LOCK})
    connection.execute(text(f"set lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    config = _config()
    config.attributes["connection"] = connection
    direction(config, revision)
    connection.commit()


async def _connected(dsn: str, work: Any) -> Any:
    url = make_url(dsn).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
