"""What a process asks of the ledger before it starts."""

import asyncpg

from sluice_platform.errors import StartupError

REVISION = "0006"
"""The schema revision this build was written against."""


async def check_meanings(pool: asyncpg.Pool) -> None:
    """Raises StartupError where the ledger cannot compare meanings, for a configuration that asks for it."""
    if await pool.fetchval("select to_regclass('sluice.meanings')") is None:
        raise StartupError(
            "cache.semantic needs PostgreSQL's extension vector (pgvector): install it on the database's server and run"
            " `sluice migrate`, or leave cache.semantic out"
        )


async def check_migrations(pool: asyncpg.Pool) -> None:
    """Raises StartupError where the schema is missing or older than this build needs."""
    found = await pool.fetchval("select to_regclass('public.schema_version')")
    current = found and await pool.fetchval("select version_num from public.schema_version")
    if not current:
        raise StartupError("the database has no ledger yet: run `sluice migrate`")
    if current < REVISION:
        raise StartupError(
            f"the ledger is at revision {current}, this build needs {REVISION}: run `sluice migrate`"
        )
