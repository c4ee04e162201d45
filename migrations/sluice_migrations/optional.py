"""What a ledger has or not, whatever its revision: by the extensions of its database, and by its owner's choice."""

import sys

from asyncpg import InsufficientPrivilegeError
from sqlalchemy import Connection, text

from sluice_migrations.sql import run

_AVAILABLE = "select count(*) from pg_available_extensions where name = 'vector'"
_LOGGED = "select relpersistence = 'p' from pg_class where oid = 'sluice.cache'::regclass"


def bring_meanings(connection: Connection) -> None:
    """Make what the semantic cache needs where pgvector is at hand; safe to repeat."""
    if not connection.execute(text(_AVAILABLE)).scalar():
        connection.rollback()
        return
    try:
        run(connection, "semantic_v1")
        connection.commit()
    except InsufficientPrivilegeError as exc:
        # The driver's own errors come as they are from a script of many statements.
        connection.rollback()
        sys.stderr.write(
            f"no semantic cache: the extension vector cannot be created ({exc});"
            " have an administrator run `create extension vector`, then migrate again\n"
        )


def log_cache(connection: Connection, *, logged: bool) -> None:
    """Write the cache ahead or not; unlogged it costs less, and is empty after a crash of the database."""
    if bool(connection.execute(text(_LOGGED)).scalar()) != logged:
        how = "logged" if logged else "unlogged"
        connection.execute(text(f"alter table sluice.cache set {how}"))
    connection.commit()
